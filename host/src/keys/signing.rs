//! One private key that signs tokens, in the three kinds that registries and clouds accept.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::Secret;

/// A smaller modulus than 2048 bits is rejected by clouds, and can be factored some day.
const SMALLEST_RSA: usize = 2048 / 8;

/// What to make a new key as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKind {
    /// RS256, with a modulus of this many bits: 2048, 3072 or 4096.
    Rsa(u16),
    /// ES256.
    P256,
    /// `EdDSA`.
    Ed25519,
}

impl SigningKind {
    /// The `alg` of its tokens.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256 => "ES256",
            Self::Ed25519 => "EdDSA",
        }
    }
}

/// A private key, and the name that tokens have for it.
pub struct SigningKey {
    pair: Pair,
    kid: String,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The key could not sign, which only a machine without random numbers causes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed")]
pub struct SigningError;

impl SigningKey {
    /// Reads a key in PKCS#8. `None`: it is none of the three kinds, or too small.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = if let Ok(key) = RsaKeyPair::from_pkcs8(der) {
            (key.public_modulus_len() >= SMALLEST_RSA).then_some(Pair::Rsa(key))?
        } else if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            Pair::P256(key)
        } else {
            Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der).ok()?)
        };
        Some(Self::of(pair))
    }

    pub(crate) fn ed25519(key: Ed25519KeyPair) -> Self {
        Self::of(Pair::Ed25519(key))
    }

    fn of(pair: Pair) -> Self {
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical(&pair.public())));
        Self { pair, kid }
    }

    /// Makes a key and returns its PKCS#8.
    pub(super) fn generate(kind: SigningKind) -> Option<Zeroizing<Vec<u8>>> {
        let random = SystemRandom::new();
        let document = match kind {
            SigningKind::Rsa(bits) => {
                let size = match bits {
                    4096 => KeySize::Rsa4096,
                    3072 => KeySize::Rsa3072,
                    _ => KeySize::Rsa2048,
                };
                let der: Pkcs8V1Der = RsaKeyPair::generate(size).ok()?.as_der().ok()?;
                return Some(Zeroizing::new(der.as_ref().to_vec()));
            }
            SigningKind::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
            // Version 1 of PKCS#8, which every OpenSSL reads.
            SigningKind::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&random),
        };
        Some(Zeroizing::new(document.ok()?.as_ref().to_vec()))
    }

    /// The thumbprint of the public key (RFC 7638), which tokens have as `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm as tokens name it.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key as a member of a JSON Web Key Set.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.kid, "alg": self.algorithm(), "use": "sig" });
        if let Some(members) = jwk.as_object_mut() {
            let public = self.pair.public().into_iter();
            members.extend(public.map(|(name, value)| (name.to_owned(), value.into())));
        }
        jwk
    }

    /// The public key as it stands in a certificate: without its algorithm.
    pub(super) fn public_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(key) => key.public_key().as_ref(),
            Pair::P256(key) => key.public_key().as_ref(),
            Pair::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    /// Signs a JWT. `header` gets `alg`, `typ` and `kid`.
    pub fn sign_jwt(&self, mut header: Value, payload: &Value) -> Result<Secret, SigningError> {
        for (name, value) in [("alg", self.algorithm()), ("typ", "JWT"), ("kid", &self.kid)] {
            if let Some(members) = header.as_object_mut() {
                members.insert(name.to_owned(), value.into());
            }
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(payload));
        let signature = self.sign(signed.as_bytes())?;
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// Signs as JWS wants it. A certificate wants another form of ES256.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| SigningError)
            }
            Pair::P256(key) => {
                let signature = key.sign(&random, message).map_err(|_| SigningError)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(key) => {
                let signature = key.try_sign(message).map_err(|_| SigningError)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// Whether this key made the signature of a JWS.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.pair {
            Pair::Rsa(_) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.public_bytes())
                    .verify(message, signature)
            }
            Pair::P256(_) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.public_bytes())
                .verify(message, signature),
            Pair::Ed25519(_) => {
                UnparsedPublicKey::new(&ED25519, self.public_bytes()).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

impl Pair {
    /// The members of the public key that RFC 7638 requires, in the order of their names.
    fn public(&self) -> Vec<(&'static str, String)> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let (modulus, exponent) = (key.public_key().modulus(), key.public_key().exponent());
                let (n, e) = (modulus.big_endian_without_leading_zero(), exponent);
                let e = encode(e.big_endian_without_leading_zero());
                vec![("e", e), ("kty", "RSA".to_owned()), ("n", encode(n))]
            }
            Self::P256(key) => {
                // An uncompressed point: 4, and both coordinates with all their zeros.
                let point = key.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let (curve, kind) = ("P-256".to_owned(), "EC".to_owned());
                vec![("crv", curve), ("kty", kind), ("x", encode(x)), ("y", encode(y))]
            }
            Self::Ed25519(key) => {
                let x = encode(key.public_key().as_ref());
                vec![("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", x)]
            }
        }
    }
}

/// RFC 7638: the members without spaces. None of them has a character that JSON escapes.
fn canonical(members: &[(&'static str, String)]) -> String {
    let member = |(name, value): &(&str, String)| format!("\"{name}\":\"{value}\"");
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [(SigningKind, &str); 3] = [
        (SigningKind::Rsa(2048), "RS256"),
        (SigningKind::P256, "ES256"),
        (SigningKind::Ed25519, "EdDSA"),
    ];

    #[test]
    fn each_kind_signs_what_its_public_key_verifies() {
        for (kind, algorithm) in KINDS {
            let key = SigningKey::from_pkcs8(&SigningKey::generate(kind).unwrap()).unwrap();
            let other = SigningKey::from_pkcs8(&SigningKey::generate(kind).unwrap()).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.kid().len(), 43);
            let token = key.sign_jwt(json!({}), &json!({ "sub": "x" })).unwrap();
            let (signed, signature) = token.expose().rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(key.has_signed(signed.as_bytes(), &signature), "{algorithm}");
            assert!(!key.has_signed(b"other", &signature), "{algorithm}");
            assert!(!other.has_signed(signed.as_bytes(), &signature), "{algorithm}");
            let set = json!({ "keys": [key.jwk()] }).to_string();
            assert!(!set.contains("\"d\""), "{set}");
        }
    }

    #[test]
    fn a_key_that_is_too_small_or_no_key_is_refused() {
        let small = include_bytes!("testing/rsa-1024.der");
        for der in [&small[..], b"", b"x"] {
            assert!(SigningKey::from_pkcs8(der).is_none());
        }
    }

    /// RFC 8037 A.3, and RFC 7638 3.1.
    #[test]
    fn thumbprints_are_those_of_the_specifications() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = SigningKey::ed25519(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxu\
                 hDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN\
                 5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5\
                 hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBni\
                 Iqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let members = [("e", "AQAB".to_owned()), ("kty", "RSA".to_owned()), ("n", n.to_owned())];
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical(&members)));
        assert_eq!(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
