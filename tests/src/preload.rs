//! Faults of the system around the broker's binary, by a library that is loaded before the C
//! library (`preload.c`).

use std::path::PathBuf;
use std::process::Command;

use crate::Installation;
use crate::built::target;

/// Loads the library into every command of the installation, with these variables. Returns whether
/// that is possible on this machine.
pub fn preload(installation: &mut Installation, variables: &[(&str, &str)]) -> bool {
    let Some(library) = library() else { return false };
    installation.variable("LD_PRELOAD", &library.display().to_string());
    for (name, value) in variables {
        installation.variable(name, value);
    }
    true
}

/// Compiles the library. Several tests may do so at once, so it is put in place as a whole.
fn library() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/preload.c");
    let library = target().join("preload.so");
    let draft = target().join(format!("preload-{}.so", std::process::id()));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&draft).args([source, "-ldl"]);
    let is_compiled = compiler.status().is_ok_and(|status| status.success());
    (is_compiled && std::fs::rename(&draft, &library).is_ok()).then_some(library)
}
