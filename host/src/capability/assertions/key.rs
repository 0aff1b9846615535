//! A private key of the operator: PEM, or the JSON file of a Google service account.
//!
//! **Invariant:** no message has any part of a key, not even of one that cannot be read.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
    RsaKeyPair,
};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::domain::Secret;

/// 2048 bits, below which receivers reject a signature.
const SHORTEST_RSA: usize = 256;

/// A key, and what its file says about it.
pub struct SigningKey {
    pair: Pair,
    /// `private_key_id` of a service account.
    pub(crate) id: Option<String>,
    /// `client_email` of a service account.
    pub(crate) email: Option<String>,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error(
        "expected a private key in PEM (`-----BEGIN PRIVATE KEY-----`) or the JSON file of a \
         Google service account; write it as ${{file:/path/to/the/file}}"
    )]
    Format,
    #[error(
        "expected the JSON file of a Google service account, with `\"type\": \
         \"service_account\"`, `private_key`, `private_key_id` and `client_email`"
    )]
    NotServiceAccount,
    #[error("expected a key without a passphrase; remove it with `openssl pkey -in KEY -out NEW`")]
    Encrypted,
    #[error("expected an RSA key of 2048 bits or more, or an EC key on the curve P-256")]
    Kind,
}

/// Serde reads no more of the file: it also has addresses that nobody must be sent to.
#[derive(Deserialize)]
struct ServiceAccount {
    r#type: String,
    private_key: Secret,
    private_key_id: String,
    client_email: String,
}

impl SigningKey {
    pub fn read(text: &Secret) -> Result<Self, InvalidKey> {
        let text = text.expose().trim();
        if !text.starts_with('{') {
            return Ok(Self { pair: Pair::read(text)?, id: None, email: None });
        }
        let account: ServiceAccount =
            serde_json::from_str(text).map_err(|_| InvalidKey::NotServiceAccount)?;
        let short = |text: &String| (1..=256).contains(&text.len());
        if account.r#type != "service_account"
            || !short(&account.private_key_id)
            || !short(&account.client_email)
        {
            return Err(InvalidKey::NotServiceAccount);
        }
        let pair = Pair::read(account.private_key.expose().trim())?;
        Ok(Self { pair, id: Some(account.private_key_id), email: Some(account.client_email) })
    }

    /// Returns `None` if the algorithm does not fit the key.
    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let rsa = |pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, message, &mut signature).ok()?;
            Some(signature)
        };
        match (&self.pair, algorithm) {
            (Pair::Rsa(pair), Algorithm::Rs256) => rsa(pair, &RSA_PKCS1_SHA256),
            (Pair::Rsa(pair), Algorithm::Ps256) => rsa(pair, &RSA_PSS_SHA256),
            (Pair::P256(pair), Algorithm::Es256) => {
                pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec())
            }
            (Pair::Rsa(_), Algorithm::Es256)
            | (Pair::P256(_), Algorithm::Rs256 | Algorithm::Ps256) => None,
        }
    }
}

impl Pair {
    fn read(pem: &str) -> Result<Self, InvalidKey> {
        if pem.contains("ENCRYPTED") {
            return Err(InvalidKey::Encrypted);
        }
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidKey::Format)?;
        let rsa = |pair: RsaKeyPair| {
            let is_long = pair.public_modulus_len() >= SHORTEST_RSA;
            is_long.then(|| Self::Rsa(Box::new(pair))).ok_or(InvalidKey::Kind)
        };
        let p256 = |pair| Self::P256(Box::new(pair));
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
                .map_err(|_| InvalidKey::Kind)
                .and_then(rsa),
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der())
                    .map(p256)
                    .map_err(|_| InvalidKey::Kind)
            }
            PrivateKeyDer::Pkcs8(der) => match RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()) {
                Ok(pair) => rsa(pair),
                Err(_) => EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der())
                    .map(p256)
                    .map_err(|_| InvalidKey::Kind),
            },
            _ => Err(InvalidKey::Format),
        }
    }
}
