//! The key set that an issuer publishes. A key that the broker cannot use costs only itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::bounds::is_key_id;
use super::super::json::{self, InvalidJson, JsonLimits};
use super::key::{IssuerKey, UnusableKey};

/// A key set has a few KiB (GitHub's has 5); with a certificate chain for each key 3 KiB a key. A
/// larger set is rejected, not cut short.
pub(in crate::identity) const LARGEST_SET: usize = 512 * 1024;

const LIMITS: JsonLimits =
    JsonLimits { bytes: LARGEST_SET, depth: 8, members: 64, text: 32 * 1024 };
/// Parsing a key takes CPU time. Further keys are left out.
pub(super) const MOST_KEYS: usize = 256;
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    #[error("{0}")]
    Json(#[from] InvalidJson),
    #[error("the set has no list `keys`")]
    NoList,
    #[error("no key can verify signatures{}", left_out(.0))]
    Empty(Vec<LeftOut>),
}

fn left_out(keys: &[LeftOut]) -> String {
    let told: Vec<String> = keys.iter().take(8).map(ToString::to_string).collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join("; ")) }
}

/// A key that the broker does not use, and why. The other keys of the set are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The place in the set, from 1.
    place: usize,
    kid: Option<String>,
    pub why: UnusableKey,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key {} (`kid` {kid}): {}", self.place, self.why),
            None => write!(f, "key {}: {}", self.place, self.why),
        }
    }
}

/// The usable keys of an issuer. There is at least one.
pub struct KeySet {
    keys: Vec<Arc<IssuerKey>>,
    left_out: Vec<LeftOut>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The token names no key, and the issuer has several.
    Unnamed,
    /// The keys are not available now.
    Unavailable,
}

impl KeySet {
    /// Leaves out every key that the broker cannot use, and both of two keys that it could not tell
    /// apart. Only a set that cannot be read, or in which no key is left, is rejected.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        let document = json::object(bytes, LIMITS)?;
        let listed = document.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet::NoList)?;
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (index, jwk) in listed.iter().enumerate() {
            let key = if found.len() < MOST_KEYS {
                jwk.as_object().ok_or(UnusableKey::NoObject).and_then(IssuerKey::parse)
            } else {
                Err(UnusableKey::TooMany)
            };
            let place = index + 1;
            match key {
                Ok(key) => found.push((place, key)),
                Err(why) => left_out.push(LeftOut { place, kid: printable_kid(jwk), why }),
            }
        }
        let keys = group(found, &mut left_out);
        left_out.sort_by_key(|key| key.place);
        if keys.is_empty() {
            return Err(InvalidKeySet::Empty(left_out));
        }
        Ok(Self { keys: keys.into_iter().map(Arc::new).collect(), left_out })
    }

    pub fn find(&self, kid: Option<&str>) -> Result<Arc<IssuerKey>, NoKey> {
        match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys
                .iter()
                .find(|key| key.kid.as_deref() == Some(kid))
                .cloned()
                .ok_or(NoKey::Unknown),
            (None, [only]) => Ok(Arc::clone(only)),
            (None, _) => Err(NoKey::Unnamed),
        }
    }

    /// The keys that the broker does not use, although they may be meant for signatures.
    pub fn left_out(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out.iter().filter(|key| key.why != UnusableKey::Purpose)
    }

    /// The `kid`s that named another key in `before`.
    pub(super) fn replaced<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter_map(|key| {
            let kid = key.kid.as_deref()?;
            let same = before.find(Some(kid)).ok()?.material == key.material;
            (!same).then_some(kid)
        })
    }
}

/// A key with its place in the set.
type Placed = (usize, IssuerKey);

/// Joins the keys of one `kid`. The same key twice is one key. Keys that verify different
/// algorithms stay apart by these. Of two keys that verify the same algorithm neither is used: with
/// one of them a token would be accepted or rejected by chance.
fn group(found: Vec<Placed>, left_out: &mut Vec<LeftOut>) -> Vec<IssuerKey> {
    let mut groups = BTreeMap::<(Option<String>, usize), Vec<Placed>>::new();
    for (place, key) in found {
        // A key without a `kid` is not named by any token, and so confused with no other.
        let nameless = if key.kid.is_none() { place } else { 0 };
        groups.entry((key.kid.clone(), nameless)).or_default().push((place, key));
    }
    let mut keys = Vec::new();
    for ((kid, _), members) in groups {
        let is_ambiguous = |(place, key): &Placed| {
            members.iter().any(|(other, rival)| other != place && key.rivals(rival))
        };
        let ambiguous: Vec<usize> =
            members.iter().filter(|member| is_ambiguous(member)).map(|(place, _)| *place).collect();
        let why = UnusableKey::Duplicate;
        left_out.extend(ambiguous.iter().map(|place| LeftOut {
            place: *place,
            kid: kid.clone(),
            why: why.clone(),
        }));
        let sound = members.into_iter().filter(|(place, _)| !ambiguous.contains(place));
        keys.extend(sound.map(|(_, key)| key).reduce(IssuerKey::join));
    }
    keys
}

fn printable_kid(jwk: &Value) -> Option<String> {
    jwk.get("kid").and_then(Value::as_str).filter(|kid| is_key_id(kid)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::identity::Algorithm;
    use crate::identity::testing::Signer;

    fn parse(keys: &Value) -> Result<KeySet, InvalidKeySet> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk.as_object_mut().unwrap().insert(name.to_owned(), value);
        jwk
    }

    #[test]
    fn keys_that_the_broker_does_not_use_are_left_out() {
        let (rsa, p256, ed) =
            (Signer::rsa("r").jwk(), Signer::p256("e").jwk(), Signer::ed25519("d").jwk());
        let number = |bytes: usize| json!(URL_SAFE_NO_PAD.encode(vec![0xff; bytes]));
        for wrong in [
            json!({ "kty": "oct", "kid": "r", "k": "c2VjcmV0" }),
            json!({ "kty": "oct", "kid": "r" }),
            json!({ "kty": "AKP", "kid": "r" }),
            json!({ "kid": "r" }),
            json!("text"),
            with(rsa.clone(), "use", json!("enc")),
            with(rsa.clone(), "use", json!(1)),
            with(rsa.clone(), "key_ops", json!(["encrypt"])),
            with(rsa.clone(), "key_ops", json!("verify")),
            with(rsa.clone(), "alg", json!("RSA-OAEP")),
            with(rsa.clone(), "alg", json!("HS256")),
            with(rsa.clone(), "alg", json!("ES256")),
            with(rsa.clone(), "alg", json!(null)),
            with(rsa.clone(), "d", json!("AQAB")),
            with(rsa.clone(), "kid", json!("")),
            with(rsa.clone(), "kid", json!(1)),
            with(rsa.clone(), "crv", json!("P-256")),
            with(rsa.clone(), "n", number(128)),
            with(rsa.clone(), "n", number(255)),
            with(rsa.clone(), "n", number(1025)),
            with(rsa.clone(), "n", json!("====")),
            with(rsa.clone(), "e", json!("AQ")),
            with(rsa.clone(), "e", json!("Ag")),
            with(rsa.clone(), "e", json!("")),
            with(rsa.clone(), "e", number(5)),
            with(p256.clone(), "crv", json!("P-384")),
            with(p256.clone(), "crv", json!("secp256k1")),
            with(p256.clone(), "x", number(31)),
            with(p256.clone(), "kty", json!("RSA")),
            with(ed.clone(), "crv", json!("X25519")),
            with(ed.clone(), "x", number(33)),
            with(ed.clone(), "d", number(32)),
        ] {
            let alone = parse(&json!([wrong])).err();
            assert!(
                matches!(alone, Some(InvalidKeySet::Empty(left)) if left.len() == 1),
                "{wrong}"
            );
            let good = Signer::ed25519("other").jwk();
            assert!(parse(&json!([wrong, good])).unwrap().find(None).is_ok(), "{wrong}");
        }
        for right in [
            rsa.clone(),
            with(rsa.clone(), "alg", json!("PS512")),
            with(rsa, "key_ops", json!(["verify"])),
            p256,
            with(ed, "alg", json!("Ed25519")),
        ] {
            assert!(parse(&json!([right])).is_ok(), "{right}");
        }
    }

    #[test]
    fn a_set_that_cannot_be_read_is_rejected() {
        assert_eq!(parse(&json!([])).err(), Some(InvalidKeySet::Empty(vec![])));
        assert_eq!(parse(&json!({})).err(), Some(InvalidKeySet::NoList));
        assert_eq!(
            KeySet::parse(b"{\"keys\":[],\"keys\":[]}").err(),
            Some(InvalidKeySet::Json(InvalidJson::Duplicate))
        );
        assert_eq!(
            KeySet::parse(&vec![b' '; LARGEST_SET + 1]).err(),
            Some(InvalidKeySet::Json(InvalidJson::TooLarge(LARGEST_SET)))
        );
    }

    #[test]
    fn a_doubled_kid_costs_at_most_its_keys() {
        let key = |kid: &str| Signer::ed25519(kid).jwk();
        let (a, rsa) = (key("a"), Signer::rsa("a").jwk());
        let unnamed = |mut jwk: Value| {
            jwk.as_object_mut().unwrap().remove("kid");
            jwk
        };
        let ps256 = with(rsa.clone(), "alg", json!("PS256"));
        let rs256 = with(rsa.clone(), "alg", json!("RS256"));
        let encrypting = with(key("a"), "use", json!("enc"));
        let ed = Algorithm::EdDsa;
        for (case, keys, algorithms, left_out) in [
            ("the same key twice", vec![a.clone(), a.clone()], vec![ed], 0),
            ("another key", vec![a.clone(), key("a")], vec![], 2),
            ("another key beside the same", vec![a.clone(), a.clone(), key("a")], vec![], 3),
            ("another kind", vec![a.clone(), rs256.clone()], vec![ed, Algorithm::Rs256], 0),
            ("two uses", vec![ps256, rs256], vec![Algorithm::Ps256, Algorithm::Rs256], 0),
            ("one key for more", vec![rsa.clone(), Signer::rsa("a").jwk()], vec![], 2),
            ("two of three", vec![a.clone(), rsa, Signer::rsa("a").jwk()], vec![ed], 2),
            ("for encrypting", vec![a.clone(), encrypting], vec![ed], 0),
        ] {
            let all = [keys, vec![key("other")]].concat();
            let set = parse(&json!(all)).unwrap();
            assert!(set.find(Some("other")).is_ok(), "{case}");
            assert_eq!(set.left_out().count(), left_out, "{case}");
            let found = set.find(Some("a")).ok();
            assert_eq!(found.is_some(), !algorithms.is_empty(), "{case}");
            for algorithm in algorithms {
                assert!(found.as_ref().unwrap().fits(algorithm), "{case} {algorithm:?}");
            }
        }
        let nameless = json!([unnamed(key("x")), unnamed(key("y")), key("z")]);
        let set = parse(&nameless).unwrap();
        assert!(set.find(Some("z")).is_ok() && set.left_out().count() == 0);
        assert_eq!(set.find(None).err(), Some(NoKey::Unnamed));
    }

    #[test]
    fn many_keys_are_fine_and_their_number_is_bounded() {
        let key = Signer::ed25519("x").jwk();
        let many = |count: usize| {
            let keys = (0..count).map(|index| with(key.clone(), "kid", json!(index.to_string())));
            parse(&json!(keys.collect::<Vec<_>>())).unwrap()
        };
        assert!(many(40).find(Some("39")).is_ok());
        let set = many(MOST_KEYS + 2);
        assert!(set.find(Some("255")).is_ok());
        assert_eq!(set.find(Some("256")).err(), Some(NoKey::Unknown));
        let left_out: Vec<String> = set.left_out().map(ToString::to_string).collect();
        assert_eq!(left_out.len(), 2);
        assert_eq!(left_out[0], "key 257 (`kid` 256): the set has more than 256 keys");
    }

    #[test]
    fn a_key_is_found_by_its_name_or_by_being_the_only_one() {
        let one = parse(&json!([Signer::ed25519("a").jwk()])).unwrap();
        let two = parse(&json!([Signer::ed25519("a").jwk(), Signer::ed25519("b").jwk()])).unwrap();
        assert!(
            one.find(None).is_ok() && one.find(Some("a")).is_ok() && two.find(Some("b")).is_ok()
        );
        assert_eq!(one.find(Some("b")).err(), Some(NoKey::Unknown));
        assert_eq!(two.find(None).err(), Some(NoKey::Unnamed));
    }

    #[test]
    fn an_algorithm_needs_a_key_of_its_kind() {
        let set = |jwk: Value| parse(&json!([jwk])).unwrap().find(None).unwrap();
        let (rsa, ps) =
            (Signer::rsa("r").jwk(), with(Signer::rsa("r").jwk(), "alg", json!("PS256")));
        for (key, fits, not) in [
            (
                set(rsa),
                vec![Algorithm::Rs256, Algorithm::Ps512],
                vec![Algorithm::Es256, Algorithm::EdDsa],
            ),
            (set(ps), vec![Algorithm::Ps256], vec![Algorithm::Rs256, Algorithm::Ps384]),
            (
                set(Signer::p256("e").jwk()),
                vec![Algorithm::Es256],
                vec![Algorithm::Es384, Algorithm::Rs256],
            ),
            (set(Signer::ed25519("d").jwk()), vec![Algorithm::EdDsa], vec![Algorithm::Es256]),
        ] {
            assert!(
                fits.iter().all(|fitting| key.fits(*fitting))
                    && !not.iter().any(|other| key.fits(*other))
            );
        }
    }
}
