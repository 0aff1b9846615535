//! Where the repository is, and what was built from it.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where cargo builds: this binary lies in `{target}/{profile}/deps`.
pub fn target() -> PathBuf {
    profile_directory().parent().unwrap().to_owned()
}

/// Where compiled code is kept between tests that need no broker.
pub fn compiled() -> PathBuf {
    let folder = target().join("test-cache/conformance");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The broker's binary, as `make test` built it beside this one.
pub fn binary() -> PathBuf {
    beside("rise-broker", "rise-broker")
}

/// The program `rise-provider`, the tools of a provider's author.
pub fn kit_binary() -> PathBuf {
    beside("rise-provider", "rise-provider-kit")
}

/// A program of `package`, as `make test` built it beside this one.
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
