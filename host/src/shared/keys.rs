//! The keys of `[shared] key_files`: they name what is stored, so that the store cannot tell what
//! a name stands for, and encrypt what it must not read (`seal`).
//!
//! **Invariant:** parts of a name are joined with their lengths, so that two different things have
//! two names.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::seal::{FINGERPRINT, Place, Sealed, SealingKey};
use crate::keys::{KeyFileError, secret};

/// Of a digest, in bytes: two names never meet by accident.
const NAME: usize = 20;

/// Never empty.
pub(super) struct SharedKeys(Vec<SharedKey>);

struct SharedKey {
    names: hmac::Key,
    values: SealingKey,
    /// Tells keys apart, and says nothing about them.
    fingerprint: String,
}

impl SharedKeys {
    pub(super) fn open(files: &[PathBuf]) -> Result<Self, KeyFileError> {
        files.iter().map(|file| secret::read(file).map(|bytes| SharedKey::new(&bytes))).collect()
    }

    /// The digest of one thing by each key.
    pub(super) fn digests(&self, kind: &str, parts: &[&[u8]]) -> impl Iterator<Item = String> {
        self.0.iter().map(move |key| key.digest(kind, parts))
    }

    /// The first key's.
    pub(super) fn fingerprint(&self) -> &str {
        self.0.first().map_or("", |key| &key.fingerprint)
    }

    pub(super) fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| &*key.fingerprint)
    }

    /// Encrypts with the first key. `None`: the text is too long.
    pub(super) fn seal(&self, place: Place<'_>, text: Zeroizing<Vec<u8>>) -> Option<Vec<u8>> {
        let key = self.0.first()?;
        key.values.seal(key.fingerprint_bytes()?, place, text)
    }

    /// `None`: none of the keys has sealed it for this place.
    pub(super) fn unseal(&self, place: Place<'_>, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = Sealed::parse(value)?;
        let key = self.0.iter().find(|key| key.fingerprint_bytes() == Some(sealed.fingerprint))?;
        key.values.open(&sealed, place)
    }
}

impl FromIterator<SharedKey> for SharedKeys {
    fn from_iter<I: IntoIterator<Item = SharedKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl SharedKey {
    fn new(bytes: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        // A key of its own for each purpose.
        let derive = |label: &str| hmac::sign(&key, label.as_bytes());
        let names = hmac::Key::new(hmac::HMAC_SHA256, derive("rise shared names").as_ref());
        let fingerprint = hex(derive("rise shared fingerprint").as_ref(), FINGERPRINT);
        Self { names, values: SealingKey::new(bytes), fingerprint }
    }

    fn fingerprint_bytes(&self) -> Option<[u8; FINGERPRINT]> {
        let mut bytes = [0; FINGERPRINT];
        hex::decode_to_slice(&self.fingerprint, &mut bytes).ok()?;
        Some(bytes)
    }

    fn digest(&self, kind: &str, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.names);
        for part in [kind.as_bytes()].iter().chain(parts) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        hex(context.sign().as_ref(), NAME)
    }
}

/// The first bytes.
fn hex(bytes: &[u8], most: usize) -> String {
    hex::encode(bytes.get(..most).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_things_and_keys_have_different_names() {
        let keys: SharedKeys =
            [[1; 32], [2; 32]].iter().map(|bytes| SharedKey::new(bytes)).collect();
        let names = |kind, parts: &[&[u8]]| keys.digests(kind, parts).collect::<Vec<_>>();
        let [first, other] = names("t", &[b"ab", b"c"]).try_into().unwrap();
        assert_ne!(first, other);
        assert_eq!(names("t", &[b"ab", b"c"])[0], first);
        for (kind, parts) in [
            ("t", &[&b"a"[..], b"bc"][..]),
            ("t", &[b"abc"]),
            ("t", &[b"ab", b"c", b""]),
            ("ta", &[b"b", b"c"]),
            ("l", &[b"ab", b"c"]),
        ] {
            assert_ne!(names(kind, parts)[0], first, "{kind} {parts:?}");
        }
        let place = ("t", &*first);
        let value = keys.seal(place, Zeroizing::new(b"text".to_vec())).unwrap();
        assert_eq!(**keys.unseal(place, &value).unwrap(), *b"text");
        let second: SharedKeys = [SharedKey::new(&[2; 32])].into_iter().collect();
        assert!(second.unseal(place, &value).is_none(), "the first key seals");
        let fingerprints: Vec<_> = keys.fingerprints().collect();
        assert_ne!(fingerprints[0], fingerprints[1]);
        assert_eq!(keys.fingerprint(), fingerprints[0]);
    }
}
