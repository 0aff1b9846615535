//! The two keys of the audit log in the state folder: one signs checkpoints, the other one makes
//! fingerprints of secrets.
//!
//! **Invariant:** records contain secrets only as keyed fingerprints. A reader of the log could
//! guess secrets by a plain hash; by these only with the key.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::chain::Position;
use super::record::CheckpointFields;
use crate::keys::{KeyFileError, ed25519, secret};

const SIGNING: &str = "audit-signing.pem";
const FINGERPRINT: &str = "audit-fingerprint.key";
/// A fingerprint is this much of the HMAC's 32 bytes.
const FINGERPRINT_BYTES: usize = 16;

pub(super) struct AuditKeys {
    pub signer: CheckpointSigner,
    pub fingerprints: Fingerprints,
}

impl AuditKeys {
    /// Reads both keys from `state`, or creates them.
    pub(super) fn open_or_create(state: &Path) -> Result<Self, KeyFileError> {
        Ok(Self {
            signer: CheckpointSigner { key: ed25519::open_or_create(&state.join(SIGNING))? },
            fingerprints: Fingerprints::open_or_create(state)?,
        })
    }
}

/// Checks both keys in `state`, and creates none.
pub(super) fn examine(state: &Path) -> Result<(), KeyFileError> {
    ed25519::open_or_pretend(&state.join(SIGNING))?;
    secret::examine(&state.join(FINGERPRINT))
}

/// Signs checkpoints.
pub(super) struct CheckpointSigner {
    key: Ed25519KeyPair,
}

impl CheckpointSigner {
    pub(super) fn checkpoint(&self, at: &Position) -> std::io::Result<CheckpointFields> {
        let hash = hex::encode(at.hash);
        let signature = self
            .key
            .try_sign(&signed(at.chain, at.seq, &hash))
            .map_err(|_| std::io::Error::other("a checkpoint could not be signed"))?;
        Ok(CheckpointFields {
            seq: at.seq,
            hash,
            key: self.public(),
            signature: URL_SAFE_NO_PAD.encode(signature.as_ref()),
        })
    }

    pub(super) fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref())
    }
}

/// The public key by which this deployment signs; `None` if it has no key yet.
pub fn signing_key(state: &Path) -> Result<Option<String>, KeyFileError> {
    Ok(ed25519::open(&state.join(SIGNING))?.map(|key| CheckpointSigner { key }.public()))
}

/// The signed text. Nothing else that this key may ever sign begins like this.
fn signed(chain: Ulid, seq: u64, hash: &str) -> Vec<u8> {
    format!("rise-broker audit checkpoint 1\n{chain}\n{seq}\n{hash}\n").into_bytes()
}

impl CheckpointFields {
    /// Whether the named key made the signature.
    pub(super) fn is_signed(&self, chain: Ulid) -> bool {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let (Some(key), Some(signature)) = (decode(&self.key), decode(&self.signature)) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(&signed(chain, self.seq, &self.hash), &signature).is_ok()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error(
        "there is no fingerprint key {}: `serve` creates it at its first start; run this command \
         on the broker's machine with the broker's settings, or restore the key from a backup",
        path.display()
    )]
    Missing { path: PathBuf },
}

/// Makes fingerprints.
pub struct Fingerprints {
    key: hmac::Key,
    /// The name of the key in records, because the key may be replaced.
    pub(super) id: String,
}

impl Fingerprints {
    /// Uses the key that `serve` created in `state`. Creates none.
    pub fn open(state: &Path) -> Result<Self, FingerprintError> {
        let path = state.join(FINGERPRINT);
        match secret::open(&path)? {
            Some(bytes) => Ok(Self::with(&bytes)),
            None => Err(FingerprintError::Missing { path }),
        }
    }

    fn open_or_create(state: &Path) -> Result<Self, KeyFileError> {
        Ok(Self::with(&secret::open_or_create(&state.join(FINGERPRINT))?))
    }

    fn with(key: &[u8]) -> Self {
        let mut id = hex::encode(Sha256::digest(key));
        id.truncate(8);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), id }
    }

    pub fn of(&self, secret: &str) -> String {
        let tag = hmac::sign(&self.key, secret.as_bytes());
        hex::encode(tag.as_ref().get(..FINGERPRINT_BYTES).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_of_one_place_in_one_chain() {
        let state = tempfile::tempdir().unwrap();
        let keys = AuditKeys::open_or_create(state.path()).unwrap();
        let at = Position { seq: 7, ..Position::beginning(Ulid::from_parts(1, 1)) };
        let checkpoint = keys.signer.checkpoint(&at).unwrap();
        assert!(checkpoint.is_signed(at.chain));
        assert!(!checkpoint.is_signed(Ulid::from_parts(1, 2)));
        assert!(!CheckpointFields { seq: 8, ..checkpoint.clone() }.is_signed(at.chain));
        assert_eq!(signing_key(state.path()).unwrap(), Some(checkpoint.key));
    }

    #[test]
    fn fingerprints_need_the_key() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open =
            |folder: &tempfile::TempDir| Fingerprints::open_or_create(folder.path()).unwrap();
        assert_eq!(open(&one).of("password"), open(&one).of("password"));
        assert_ne!(open(&one).of("password"), open(&two).of("password"));
        assert_ne!(open(&one).id, open(&two).id);
        assert_eq!(open(&one).of("password").len(), 32);
        assert_eq!(
            Fingerprints::open(one.path()).unwrap().of("password"),
            open(&one).of("password")
        );
    }

    #[test]
    fn looking_for_a_fingerprint_makes_no_key() {
        let state = tempfile::tempdir().unwrap();
        let error = Fingerprints::open(state.path()).err().unwrap();
        assert!(error.to_string().contains("audit-fingerprint.key"), "{error}");
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    }
}
