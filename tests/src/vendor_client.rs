//! Clients of registries and clouds that their vendors or others wrote, in Python: a double that
//! such a client cannot use is wrong.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::PATIENCE;
use crate::process::python_program;

/// Runs a script of `tests/peers` with these arguments, and returns the JSON that it prints.
///
/// # Panics
/// If it fails, or prints something else.
pub async fn vendor_client(script: &str, arguments: &[&str]) -> Value {
    vendor_client_of("vendors", script, arguments).await
}

/// The same in another environment of `setup.sh`, where the client is a dependency of a peer.
///
/// # Panics
/// As [`vendor_client`].
pub async fn vendor_client_of(environment: &str, script: &str, arguments: &[&str]) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    let mut command = Command::new(python_program(environment, "python"));
    command.arg(file).args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("an end in time").expect("a Python program");
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    serde_json::from_slice(&out)
        .unwrap_or_else(|error| panic!("{script}: {error}: {}{err}", String::from_utf8_lossy(&out)))
}
