//! `[providers]`: the folder of the providers, and which of them may be loaded.

use std::path::Path;

use minisign_verify::PublicKey;

use super::file::{ProvidersFile, Require};
use super::node::Problem;
use super::{ProvidersConfig, Written};

/// `directory` is the folder of the settings, which contains the lock by default.
pub(super) fn config(
    directory: &Path,
    file: ProvidersFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> ProvidersConfig {
    let origin = |pointer| written.0.nearest(pointer).origin.clone();
    ProvidersConfig {
        signing_keys: signing_keys(&file, written, problems),
        directory: file.directory,
        origin: origin("/providers/directory"),
        require: file.require,
        lock_file: file.lock_file.unwrap_or_else(|| directory.join("providers.lock")),
        lock_origin: origin("/providers/lock_file"),
        wasi: file.wasi,
        limits: file.limits,
        named: file.named,
    }
}

fn signing_keys(
    file: &ProvidersFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    for (index, text) in file.signing_keys.iter().enumerate() {
        match PublicKey::from_base64(text) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let message = format!(
                    "not a minisign public key: {error}; write the last line of the `.pub` file"
                );
                problems
                    .push(written.problem(&format!("/providers/signing_keys/{index}"), message));
            }
        }
    }
    if file.require == Require::Signed && file.signing_keys.is_empty() {
        let message = "empty, but `require = \"signed\"` needs at least one key; write the last \
            line of the `.pub` file of minisign";
        problems.push(written.problem("/providers/signing_keys", message));
    }
    keys
}
