//! Paths of the repository and of the programs that were built from it.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder in which cargo builds: this program lies in `{target}/{profile}/deps`.
pub fn target() -> PathBuf {
    profile_directory().parent().unwrap().to_owned()
}

/// The folder of compiled code that tests without a broker share.
pub fn compiled() -> PathBuf {
    let folder = target().join("test-cache/conformance");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The broker's binary, which `make test` builds beside this program.
pub fn binary() -> PathBuf {
    beside("rise-broker", "rise-broker")
}

/// The binary of the provider author's tools.
pub fn kit_binary() -> PathBuf {
    beside("rise-provider", "rise-provider-kit")
}

/// A program of `package`, which `make test` builds beside this one.
pub(crate) fn beside(program: &str, package: &str) -> PathBuf {
    let binary = profile_directory().join(program);
    assert!(
        binary.exists(),
        "{} is missing; run `cargo build -p {package}` first",
        binary.display()
    );
    binary
}

fn profile_directory() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().to_owned()
}
