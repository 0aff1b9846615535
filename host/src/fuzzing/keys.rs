//! Private keys: an operator's, and the broker's own set.

use crate::capability::assertions::key::{Algorithm, SigningKey};
use crate::domain::Secret;
use crate::keys::KeySet;

/// Input: the text of a setting that is a key. If it is read, it signs as RSA or as P-256, and
/// what its file says about it is short.
pub fn operator_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(key) = SigningKey::read(&Secret::new(text.to_owned())) else { return };
    let signs = [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256]
        .map(|algorithm| key.sign(algorithm, b"header.payload").is_some());
    assert!(signs == [true, true, false] || signs == [false, false, true], "{signs:?}");
    let is_account = text.trim().starts_with('{');
    for written in [&key.id, &key.email] {
        assert_eq!(written.is_some(), is_account);
        assert!(written.as_ref().is_none_or(|text| (1..=256).contains(&text.len())));
    }
}

/// Input: a file of signing keys. If it is read, writing it keeps every key in its place.
pub fn key_set(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(set) = KeySet::parse(text) else { return };
    let again = KeySet::parse(&set.text()).unwrap();
    let places = |set: &KeySet| -> Vec<_> {
        let keys = set.keys();
        keys.map(|(state, key)| (state.as_str(), key.key.kid().to_owned(), key.since)).collect()
    };
    let kept = places(&set);
    assert_eq!(places(&again), kept);
    assert!((2..=3).contains(&kept.len()));
    for (index, (_, kid, _)) in kept.iter().enumerate() {
        assert_eq!(kept.iter().position(|(_, other, _)| other == kid), Some(index));
    }
}
