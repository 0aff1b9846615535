//! Keys of an issuer in the test's hands.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A named key that signs with one algorithm.
#[derive(Debug)]
pub struct Signer {
    kid: String,
    key: Pair,
}

#[derive(Debug)]
enum Pair {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
}

impl Signer {
    /// An RSA key that signs with RS256.
    pub fn new(kid: &str) -> Self {
        Self::with_algorithm(kid, "RS256")
    }

    /// # Panics
    /// If the algorithm is none of RS256, ES256 and ES384.
    pub fn with_algorithm(kid: &str, algorithm: &str) -> Self {
        let key = match algorithm {
            "RS256" => Pair::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            "ES256" => {
                Pair::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "ES384" => {
                Pair::Es384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
            }
            other => panic!("nobody signs with {other} here"),
        };
        Self { kid: kid.to_owned(), key }
    }

    fn algorithm(&self) -> &'static str {
        match &self.key {
            Pair::Rs256(_) => "RS256",
            Pair::Es256(_) => "ES256",
            Pair::Es384(_) => "ES384",
        }
    }

    /// The public key.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Pair::Rs256(key) => {
                let public = key.public_key();
                let (n, e) = (
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                );
                json!({ "kty": "RSA", "n": text(n), "e": text(e) })
            }
            Pair::Es256(key) | Pair::Es384(key) => {
                let point = key.public_key().as_ref();
                let size = (point.len() - 1) / 2;
                let (x, y) = (text(&point[1..=size]), text(&point[size + 1..]));
                let crv = if size == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": crv, "x": x, "y": y })
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.kid })
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_text(&self.header().to_string(), &claims.to_string())
    }

    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let (random, message) = (SystemRandom::new(), signed.as_bytes());
        let signature = match &self.key {
            Pair::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Es256(key) | Pair::Es384(key) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
