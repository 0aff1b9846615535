//! Parses the public keys that issuers publish, and leaves out those that are not for signatures.
//!
//! By hand, because JWT libraries accept `oct` keys, ignore `use`, `alg` or `crv`, and take the first
//! of two keys with the same `kid`.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Jwa, DecodingKey, crypto};
use serde_json::{Map, Value};

use super::super::algorithm::Algorithm;
use super::super::bounds::is_key_id;
use super::super::json::{self, InvalidJson, JsonLimits};
use super::{LARGEST_SET, NoKey};

const LIMITS: JsonLimits =
    JsonLimits { bytes: LARGEST_SET, depth: 8, members: 64, text: 32 * 1024 };
const MOST_KEYS: usize = 32;
/// Smaller RSA keys can be broken; larger ones would let a token keep the CPU busy.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Members of private keys. A key that has one was published by mistake: anybody can sign with it.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    #[error(transparent)]
    Json(#[from] InvalidJson),
    #[error("the set has no list `keys`")]
    NoList,
    #[error("the set has more than {MOST_KEYS} keys")]
    TooMany,
    #[error("two keys have the same `kid`")]
    Duplicate,
    #[error("no key can verify signatures of RSA (2048 to 8192 bits), P-256, P-384 or Ed25519")]
    Empty,
}

/// The usable keys of an issuer. There is at least one.
pub struct KeySet(Vec<Arc<Key>>);

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

pub struct Key {
    kid: Option<String>,
    kind: Kind,
    /// The only algorithm that the key is for, where it says so.
    only: Option<Algorithm>,
    material: Vec<u8>,
    decoding: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeySet {
    /// Leaves out single keys that the broker does not use. Any other problem rejects the whole set.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        let document = json::object(bytes, LIMITS)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet::NoList)?;
        if keys.len() > MOST_KEYS {
            return Err(InvalidKeySet::TooMany);
        }
        let keys: Vec<Arc<Key>> =
            keys.iter().filter_map(Value::as_object).filter_map(Key::parse).map(Arc::new).collect();
        let mut kids = BTreeSet::new();
        if !keys.iter().all(|key| kids.insert(&key.kid)) {
            return Err(InvalidKeySet::Duplicate);
        }
        if keys.is_empty() { Err(InvalidKeySet::Empty) } else { Ok(Self(keys)) }
    }

    pub(crate) fn of_ed25519(kid: String, public: &[u8]) -> Self {
        let key = Key {
            kid: Some(kid),
            kind: Kind::Ed25519,
            only: Some(Algorithm::EdDsa),
            material: public.to_vec(),
            decoding: DecodingKey::from_ed_der(public),
        };
        Self(vec![Arc::new(key)])
    }

    pub fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, NoKey> {
        match (kid, self.0.as_slice()) {
            (Some(kid), keys) => keys
                .iter()
                .find(|key| key.kid.as_deref() == Some(kid))
                .cloned()
                .ok_or(NoKey::Unknown),
            (None, [only]) => Ok(Arc::clone(only)),
            (None, _) => Err(NoKey::Unnamed),
        }
    }

    /// The `kid`s that named another key in `before`.
    pub(super) fn replaced<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(|key| {
            let kid = key.kid.as_deref()?;
            let same = before.find(Some(kid)).ok()?.material == key.material;
            (!same).then_some(kid)
        })
    }
}

impl Key {
    /// Whether the key may be used with this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        let (kind, _) = jwa(algorithm);
        kind == self.kind && self.only.is_none_or(|only| only == algorithm)
    }

    pub fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        let (_, jwa) = jwa(algorithm);
        self.fits(algorithm)
            && crypto::verify(signature, signed.as_bytes(), &self.decoding, jwa).unwrap_or(false)
    }

    /// `None`: the broker does not use such a key.
    fn parse(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).map(|value| value.as_str());
        let is_for_signatures = text("use").is_none_or(|it| it == Some("sig"));
        let verifies = jwk
            .get("key_ops")
            .is_none_or(|it| it.as_array().is_some_and(|it| it.iter().any(|it| it == "verify")));
        if !is_for_signatures || !verifies || PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
            return None;
        }
        let kid = match text("kid") {
            None => None,
            Some(kid) => Some(kid.filter(|kid| is_key_id(kid))?.to_owned()),
        };
        let only = match text("alg") {
            None => None,
            // RFC 9864 names the curve where RFC 8037 named the family.
            Some(Some("Ed25519")) => Some(Algorithm::EdDsa),
            Some(alg) => Some(Algorithm::from_str(alg?).ok()?),
        };
        let bytes =
            |name: &str| text(name).flatten().and_then(|it| URL_SAFE_NO_PAD.decode(it).ok());
        let (family, material, decoding) = match (text("kty")??, text("crv").flatten()) {
            ("RSA", None) => rsa(&bytes("n")?, &bytes("e")?),
            ("EC", Some("P-256")) => ec(Kind::P256, 32, &bytes("x")?, &bytes("y")?),
            ("EC", Some("P-384")) => ec(Kind::P384, 48, &bytes("x")?, &bytes("y")?),
            ("OKP", Some("Ed25519")) => ed25519(bytes("x")?),
            _ => None,
        }?;
        let fits = only.is_none_or(|only| jwa(only).0 == family);
        fits.then_some(Self { kid, kind: family, only, material, decoding })
    }
}

type Parsed = (Kind, Vec<u8>, DecodingKey);

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Parsed> {
    // Some issuers send a leading zero, which is not part of the number.
    let trim =
        |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (modulus, exponent) = (trim(modulus), trim(exponent));
    let bits = (modulus.len() * 8).checked_sub(modulus.first()?.leading_zeros() as usize)?;
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let at_least_three = exponent.len() > 1 || exponent.first().is_some_and(|byte| *byte >= 3);
    if !RSA_BITS.contains(&bits)
        || exponent.len() > 4
        || !at_least_three
        || !is_odd(&exponent)
        || !is_odd(&modulus)
    {
        return None;
    }
    let decoding = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    Some((Kind::Rsa, [modulus, exponent].concat(), decoding))
}

fn ec(kind: Kind, size: usize, x: &[u8], y: &[u8]) -> Option<Parsed> {
    if x.len() != size || y.len() != size {
        return None;
    }
    // The uncompressed point of SEC1.
    let point = [&[4], x, y].concat();
    Some((kind, point.clone(), DecodingKey::from_ec_der(&point)))
}

fn ed25519(public: Vec<u8>) -> Option<Parsed> {
    let decoding = DecodingKey::from_ed_der(&public);
    (public.len() == 32).then_some((Kind::Ed25519, public, decoding))
}

fn jwa(algorithm: Algorithm) -> (Kind, Jwa) {
    match algorithm {
        Algorithm::Rs256 => (Kind::Rsa, Jwa::RS256),
        Algorithm::Rs384 => (Kind::Rsa, Jwa::RS384),
        Algorithm::Rs512 => (Kind::Rsa, Jwa::RS512),
        Algorithm::Ps256 => (Kind::Rsa, Jwa::PS256),
        Algorithm::Ps384 => (Kind::Rsa, Jwa::PS384),
        Algorithm::Ps512 => (Kind::Rsa, Jwa::PS512),
        Algorithm::Es256 => (Kind::P256, Jwa::ES256),
        Algorithm::Es384 => (Kind::P384, Jwa::ES384),
        Algorithm::EdDsa => (Kind::Ed25519, Jwa::EdDSA),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
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
            assert_eq!(parse(&json!([wrong])).err(), Some(InvalidKeySet::Empty), "{wrong}");
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
    fn a_set_is_accepted_whole_or_not_at_all() {
        let key = |kid: &str| Signer::ed25519(kid).jwk();
        let many: Vec<Value> = (0..33).map(|index| key(&index.to_string())).collect();
        let unnamed = {
            let mut jwk = key("x");
            jwk.as_object_mut().unwrap().remove("kid");
            jwk
        };
        assert_eq!(parse(&json!(many)).err(), Some(InvalidKeySet::TooMany));
        assert_eq!(
            parse(&json!([key("a"), key("b"), key("a")])).err(),
            Some(InvalidKeySet::Duplicate)
        );
        assert_eq!(parse(&json!([unnamed, unnamed])).err(), Some(InvalidKeySet::Duplicate));
        assert_eq!(parse(&json!([])).err(), Some(InvalidKeySet::Empty));
        assert_eq!(parse(&json!({})).err(), Some(InvalidKeySet::NoList));
        assert_eq!(
            KeySet::parse(b"{\"keys\":[],\"keys\":[]}").err(),
            Some(InvalidKeySet::Json(InvalidJson::Duplicate))
        );
        assert_eq!(
            KeySet::parse(&vec![b' '; LARGEST_SET + 1]).err(),
            Some(InvalidKeySet::Json(InvalidJson::TooLarge))
        );
        // The same `kid` for signing and for encrypting is fine: the broker uses only one of them.
        assert!(parse(&json!([key("a"), with(key("a"), "use", json!("enc"))])).is_ok());
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
            assert!(fits.iter().all(|it| key.fits(*it)) && !not.iter().any(|it| key.fits(*it)));
        }
    }
}
