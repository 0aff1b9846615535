//! The broker's own private keys on its disk: Ed25519 key pairs, and secret bytes.
//!
//! `file` reads and makes a file that only its owner can read; `ed25519` and `secret` say what is
//! in it. To add a kind of key: a file beside these two.
//!
//! **Invariant:** a key file that others can read is rejected, except by the group of a Kubernetes
//! volume (`files/group.rs`). A new one appears whole or not at
//! all.
//! **Invariant:** private bytes are wiped when they are dropped.

pub(crate) mod ed25519;
mod file;
pub(crate) mod secret;

use std::io;
use std::path::PathBuf;

/// Each message names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {} cannot be {act}: {source}", path.display())]
    Io { path: PathBuf, act: &'static str, source: io::Error },
    #[error(
        "key file {} can be read by other users (mode {mode:04o}): run `chmod 600 {}`",
        path.display(),
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "key file {} is not an Ed25519 key in PKCS#8 PEM: remove it, so that the broker creates \
         one, or create one with `openssl genpkey -algorithm ed25519`",
        path.display()
    )]
    Format { path: PathBuf },
    #[error(
        "key file {} is not 32 bytes in hex: restore it, or remove it, so that the broker creates \
         one",
        path.display()
    )]
    SecretFormat { path: PathBuf },
    #[error(
        "key file {} is gone: restore it from your backup; if it is lost, restart the broker, \
         which then creates another one and rejects what the lost key signed",
        path.display()
    )]
    Gone { path: PathBuf },
    #[error("key file {} cannot be created: no key could be generated", path.display())]
    Generate { path: PathBuf },
}
