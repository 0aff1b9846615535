//! Parses the public keys that issuers publish, and leaves out those that are not for signatures.
//!
//! By hand, because JWT libraries accept `oct` keys, ignore `use`, `alg` or `crv`, and take the
//! first of two keys with the same `kid`.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::super::algorithm::Algorithm;
use super::super::bounds::is_key_id;
use super::super::json::{self, InvalidJson, JsonLimits};

/// A key set has a few KiB (GitHub's has 5). A larger set is rejected, not cut short.
pub(in crate::identity) const LARGEST_SET: usize = 100 * 1024;

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
pub struct KeySet(Vec<Arc<IssuerKey>>);

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
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

pub struct IssuerKey {
    kid: Option<String>,
    /// The public key itself: other bytes are another key.
    material: Vec<u8>,
    /// Parsed for each algorithm that the key may be used with.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl KeySet {
    /// Leaves out single keys that the broker does not use. Any other problem rejects the whole
    /// set.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        let document = json::object(bytes, LIMITS)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet::NoList)?;
        if keys.len() > MOST_KEYS {
            return Err(InvalidKeySet::TooMany);
        }
        let keys: Vec<Arc<IssuerKey>> = keys
            .iter()
            .filter_map(Value::as_object)
            .filter_map(IssuerKey::parse)
            .map(Arc::new)
            .collect();
        let mut kids = BTreeSet::new();
        if !keys.iter().all(|key| kids.insert(&key.kid)) {
            return Err(InvalidKeySet::Duplicate);
        }
        if keys.is_empty() { Err(InvalidKeySet::Empty) } else { Ok(Self(keys)) }
    }

    pub fn find(&self, kid: Option<&str>) -> Result<Arc<IssuerKey>, NoKey> {
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

impl IssuerKey {
    /// Whether the key may be used with this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.verifier(algorithm).is_some()
    }

    /// `signature` is base64url without padding.
    pub fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        let Some(verifier) = self.verifier(algorithm) else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        verifier.verify_sig(signed.as_bytes(), &signature).is_ok()
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.verifiers.iter().find(|(fits, _)| *fits == algorithm).map(|(_, verifier)| verifier)
    }

    /// `None`: the broker does not use such a key.
    fn parse(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).map(|value| value.as_str());
        let is_for_signatures = text("use").is_none_or(|used_for| used_for == Some("sig"));
        let may_verify = jwk.get("key_ops").is_none_or(|operations| {
            operations.as_array().is_some_and(|list| list.iter().any(|name| name == "verify"))
        });
        if !is_for_signatures || !may_verify || PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
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
            |name: &str| text(name).flatten().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (material, mut verifiers) = match (text("kty")??, text("crv").flatten()) {
            ("RSA", None) => rsa(&bytes("n")?, &bytes("e")?),
            ("EC", Some("P-256")) => {
                ec(Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, [bytes("x")?, bytes("y")?], 32)
            }
            ("EC", Some("P-384")) => {
                ec(Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, [bytes("x")?, bytes("y")?], 48)
            }
            ("OKP", Some("Ed25519")) => ed25519(bytes("x")?),
            _ => None,
        }?;
        verifiers.retain(|(algorithm, _)| only.is_none_or(|only| only == *algorithm));
        (!verifiers.is_empty()).then_some(Self { kid, material, verifiers })
    }
}

/// The key's bytes, and what verifies with it.
type Parsed = (Vec<u8>, Vec<(Algorithm, ParsedPublicKey)>);

const RSA_ALGORITHMS: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

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
    let components = RsaPublicKeyComponents { n: &modulus, e: &exponent };
    let verifier = |(algorithm, parameters): (Algorithm, &'static RsaParameters)| {
        Some((algorithm, components.to_parsed_public_key(parameters).ok()?))
    };
    let verifiers = RSA_ALGORITHMS.into_iter().map(verifier).collect::<Option<_>>()?;
    Some(([modulus, exponent].concat(), verifiers))
}

fn ec(
    algorithm: Algorithm,
    curve: &'static EcdsaVerificationAlgorithm,
    [x, y]: [Vec<u8>; 2],
    size: usize,
) -> Option<Parsed> {
    if x.len() != size || y.len() != size {
        return None;
    }
    // The uncompressed point of SEC1.
    let point = [vec![4], x, y].concat();
    let verifier = ParsedPublicKey::new(curve, &point).ok()?;
    Some((point, vec![(algorithm, verifier)]))
}

fn ed25519(public: Vec<u8>) -> Option<Parsed> {
    let verifier = ParsedPublicKey::new(&ED25519, &public).ok()?;
    (public.len() == 32).then(|| (public, vec![(Algorithm::EdDsa, verifier)]))
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
            assert!(
                fits.iter().all(|fitting| key.fits(*fitting))
                    && !not.iter().any(|other| key.fits(*other))
            );
        }
    }
}
