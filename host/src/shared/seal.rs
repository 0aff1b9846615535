//! Encrypts what brokers leave for each other in the store.
//!
//! A sealed value is a version, the fingerprint of the key, a nonce, and the text under AES-256-GCM
//! with its tag. Each name has a key of its own, derived from a key file: few values share one, so
//! random nonces do not meet.
//!
//! **Invariant:** a value opens only under the name and for the kind that it was sealed for: a
//! store that moves or edits a value makes it useless.
//! **Invariant:** plain text is in buffers that are wiped.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use zeroize::Zeroizing;

/// Of a fingerprint, in bytes.
pub(super) const FINGERPRINT: usize = 8;
/// Another version is another form.
const VERSION: u8 = 1;
const HEAD: usize = 1 + FINGERPRINT + NONCE_LEN;
/// Of a text, in bytes. More is neither sealed nor opened.
const LARGEST: usize = 64 << 10;
const LABEL: &[u8] = b"rise shared values";

/// What a value is of: its kind, and its name in the store.
pub(super) type Place<'a> = (&'a str, &'a str);

/// The key of one key file, from which the key of each name is derived.
pub(super) struct SealingKey(Prk);

/// The parts of a sealed value.
pub(super) struct Sealed<'a> {
    pub(super) fingerprint: [u8; FINGERPRINT],
    nonce: [u8; NONCE_LEN],
    text: &'a [u8],
}

impl SealingKey {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, LABEL).extract(bytes))
    }

    /// `None`: the text is too long.
    pub(super) fn seal(
        &self,
        fingerprint: [u8; FINGERPRINT],
        place: Place<'_>,
        mut text: Zeroizing<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        if text.len() > LARGEST {
            return None;
        }
        let key = self.of(place)?;
        // The tag is apart, so that the buffer does not grow and leave a copy behind.
        let (nonce, tag) =
            key.seal_in_place_separate_tag(Aad::from(context(place)), &mut text).ok()?;
        Some([&[VERSION], &fingerprint[..], nonce.as_ref(), &text, tag.as_ref()].concat())
    }

    /// `None`: it was not sealed with this key for this place.
    pub(super) fn open(&self, sealed: &Sealed<'_>, place: Place<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let key = self.of(place)?;
        let mut text = Zeroizing::new(sealed.text.to_vec());
        let nonce = Nonce::from(&sealed.nonce);
        let length = key.open_in_place(nonce, Aad::from(context(place)), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    fn of(&self, place: Place<'_>) -> Option<RandomizedNonceKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.0.expand(&[&context(place)], HKDF_SHA256).ok()?.fill(&mut *bytes).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &*bytes).ok()
    }
}

impl<'a> Sealed<'a> {
    /// `None`: it is no sealed value of this version.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, text) = bytes.split_at_checked(HEAD)?;
        let (version, head) = head.split_first()?;
        let (fingerprint, nonce) = head.split_first_chunk()?;
        let longest = LARGEST + AES_256_GCM.tag_len();
        let nonce = nonce.try_into().ok().filter(|_| *version == VERSION)?;
        (text.len() <= longest).then_some(Self { fingerprint: *fingerprint, nonce, text })
    }
}

fn context((kind, name): Place<'_>) -> Vec<u8> {
    [&(kind.len() as u64).to_le_bytes(), kind.as_bytes(), name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = ("kept", "{rise}:kept:00");

    fn sealed(text: &[u8]) -> Vec<u8> {
        let text = Zeroizing::new(text.to_vec());
        SealingKey::new(&[7; 32]).seal([1; FINGERPRINT], PLACE, text).unwrap()
    }

    fn open(key: [u8; 32], bytes: &[u8], place: Place<'_>) -> Option<Vec<u8>> {
        let opened = SealingKey::new(&key).open(&Sealed::parse(bytes)?, place)?;
        Some(opened.to_vec())
    }

    #[test]
    fn a_value_opens_with_its_key_in_its_place_alone() {
        let value = sealed(b"canary");
        assert_eq!(open([7; 32], &value, PLACE).unwrap(), b"canary");
        assert_eq!(open([8; 32], &value, PLACE), None, "another key");
        for place in [("kept", "{rise}:kept:01"), ("failed", PLACE.1), ("kept{", "rise}:kept:00")] {
            assert_eq!(open([7; 32], &value, place), None, "{place:?}");
        }
        assert!(!value.windows(6).any(|window| window == b"canary"));
        assert_ne!(sealed(b"canary"), value, "each has a nonce of its own");
    }

    #[test]
    fn an_edited_value_does_not_open() {
        let value = sealed(b"canary");
        for index in (0..value.len()).filter(|index| !(1..=FINGERPRINT).contains(index)) {
            let mut edited = value.clone();
            edited[index] ^= 1;
            assert_eq!(open([7; 32], &edited, PLACE), None, "byte {index}");
            assert_eq!(open([7; 32], &value[..index], PLACE), None, "the first {index} bytes");
        }
        assert_eq!(open([7; 32], &[&*value, &[0]].concat(), PLACE), None);
    }

    #[test]
    fn texts_are_bounded() {
        let seal = |length| {
            let text = Zeroizing::new(vec![0; length]);
            SealingKey::new(&[7; 32]).seal([1; FINGERPRINT], PLACE, text)
        };
        let value = seal(LARGEST).unwrap();
        assert_eq!(open([7; 32], &value, PLACE).unwrap().len(), LARGEST);
        assert!(seal(LARGEST + 1).is_none());
        assert!(Sealed::parse(&[&*value, &[0]].concat()).is_none());
    }
}
