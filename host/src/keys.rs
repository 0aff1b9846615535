//! The broker's own private keys on its disk.
//!
//! `file` reads and makes a file that only its owner can read; `ed25519`, `secret` and `set` say
//! what is in it: the key of the audit log or of the issuer `local`, secret bytes, the keys that
//! sign tokens. Keys are PKCS#8 in `pem`, as OpenSSL writes them. `signing` is one key that signs
//! tokens, and `certificate` is for registries that find it that way.
//!
//! To add a kind of key: a file beside these.
//!
//! **Invariant:** a key file that others can read or that another user owns is rejected, except by
//! the group of a Kubernetes volume (`files/group.rs`). A new one appears whole or not at all.
//! **Invariant:** private bytes are wiped when they are dropped.

mod certificate;
pub(crate) mod ed25519;
mod file;
mod pem;
pub(crate) mod secret;
mod set;
mod signing;

use std::io;
use std::path::PathBuf;

pub use set::KeySet;
pub use signing::{SigningError, SigningKey, SigningKind};

use crate::user;

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
        "key file {} belongs to {}, who knows the key, and this process runs as {}: run this \
         command as the broker's user, or remove the file, so that the broker creates another key",
        path.display(),
        user::name(*owner),
        user::own_name()
    )]
    Foreign { path: PathBuf, owner: u32 },
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
        "key file {} is not 32 bytes in hex: copy the one of the other brokers, or create the \
         first with `openssl rand -hex 32`, mode 0600",
        path.display()
    )]
    GivenSecretFormat { path: PathBuf },
    #[error(
        "key file {} is missing: copy the one of the other brokers, or create the first with \
         `openssl rand -hex 32`, mode 0600",
        path.display()
    )]
    SecretMissing { path: PathBuf },
    #[error(
        "key file {} is not a whole set of signing keys ({problem}): restore it from your backup, \
         or remove it, so that the broker creates new keys; registries and clouds then need those, \
         too",
        path.display()
    )]
    SetFormat { path: PathBuf, problem: &'static str },
    #[error(
        "key file {} is gone: restore it from your backup; if it is lost, restart the broker, \
         which then creates another one and rejects what the lost key signed",
        path.display()
    )]
    Gone { path: PathBuf },
    #[error("key file {} cannot be created: no key could be generated", path.display())]
    Generate { path: PathBuf },
}
