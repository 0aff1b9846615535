//! Parses the public keys that issuers publish, and leaves out those that are not for signatures.
//!
//! By hand, because JWT libraries accept `oct` keys, ignore `use`, `alg` or `crv`, and take the
//! first of two keys with the same `kid`.

use std::str::FromStr;

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
use super::set::MOST_KEYS;

/// Smaller RSA keys can be broken; larger ones would let a token keep the CPU busy.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Members of private keys. A key that has one was published by mistake: anybody can sign with it.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// Nothing is wrong with it.
    #[error("it is not for signatures (`use` or `key_ops`)")]
    Purpose,
    #[error("it is not an object")]
    NoObject,
    #[error("it has `{0}`, a member of private keys: anyone who reads the set can sign with it")]
    Private(&'static str),
    #[error("its `kid` is not text of 1 to 256 printable characters")]
    KeyId,
    #[error("its `alg` is not an algorithm that the broker supports")]
    Algorithm,
    #[error("it is not a well-formed RSA (2048 to 8192 bits), P-256, P-384 or Ed25519 key")]
    Kind,
    #[error("its `alg` does not fit its kind of key")]
    Misfit,
    #[error("another key of the same kind has the same `kid`, so nobody can tell which one signed")]
    Duplicate,
    #[error("the set has more than {MOST_KEYS} keys")]
    TooMany,
}

/// The key, or the keys of different kinds, with one `kid`: at most one verifies an algorithm.
pub struct IssuerKey {
    pub(super) kid: Option<String>,
    /// The public keys themselves: other bytes are another key.
    pub(super) material: Vec<Vec<u8>>,
    /// Parsed for each algorithm that the key may be used with.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
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

    /// Whether both are different keys for one algorithm.
    pub(super) fn rivals(&self, other: &Self) -> bool {
        self.material != other.material
            && self.verifiers.iter().any(|(algorithm, _)| other.fits(*algorithm))
    }

    /// Both under one `kid`; they are no rivals.
    pub(super) fn join(mut self, other: Self) -> Self {
        for (algorithm, verifier) in other.verifiers {
            if !self.fits(algorithm) {
                self.verifiers.push((algorithm, verifier));
            }
        }
        self.material.extend(other.material);
        self.material.sort();
        self.material.dedup();
        self
    }

    pub(super) fn parse(jwk: &Map<String, Value>) -> Result<Self, UnusableKey> {
        let text = |name: &str| jwk.get(name).map(|value| value.as_str());
        // SPIFFE calls its keys for tokens `jwt-svid`.
        let is_for_signatures =
            text("use").is_none_or(|used_for| matches!(used_for, Some("sig" | "jwt-svid")));
        let may_verify = jwk.get("key_ops").is_none_or(|operations| {
            operations.as_array().is_some_and(|list| list.iter().any(|name| name == "verify"))
        });
        if !is_for_signatures || !may_verify {
            return Err(UnusableKey::Purpose);
        }
        if let Some(name) = PRIVATE.iter().find(|name| jwk.contains_key(**name)) {
            return Err(UnusableKey::Private(name));
        }
        let kid = match text("kid") {
            None => None,
            Some(kid) => {
                Some(kid.filter(|kid| is_key_id(kid)).ok_or(UnusableKey::KeyId)?.to_owned())
            }
        };
        let only = match text("alg") {
            None => None,
            // RFC 9864 names the curve where RFC 8037 named the family.
            Some(Some("Ed25519")) => Some(Algorithm::EdDsa),
            Some(alg) => {
                let alg = alg.and_then(|alg| Algorithm::from_str(alg).ok());
                Some(alg.ok_or(UnusableKey::Algorithm)?)
            }
        };
        let (material, mut verifiers) = public_key(jwk).ok_or(UnusableKey::Kind)?;
        verifiers.retain(|(algorithm, _)| only.is_none_or(|only| only == *algorithm));
        if verifiers.is_empty() {
            return Err(UnusableKey::Misfit);
        }
        Ok(Self { kid, material: vec![material], verifiers })
    }
}

fn public_key(jwk: &Map<String, Value>) -> Option<Parsed> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    match (text("kty")?, text("crv")) {
        ("RSA", None) => rsa(&bytes("n")?, &bytes("e")?),
        ("EC", Some("P-256")) => {
            ec(Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, [bytes("x")?, bytes("y")?], 32)
        }
        ("EC", Some("P-384")) => {
            ec(Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, [bytes("x")?, bytes("y")?], 48)
        }
        ("OKP", Some("Ed25519")) => ed25519(bytes("x")?),
        _ => None,
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
