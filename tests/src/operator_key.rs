//! A private key of an operator, for the capability `assertions`: the text of its setting, and the
//! check of what it signed.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

#[derive(Debug)]
pub struct OperatorKey {
    der: Vec<u8>,
    public: Vec<u8>,
}

impl OperatorKey {
    pub fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        Self { der: der.as_ref().to_vec(), public: pair.public_key().as_ref().to_vec() }
    }

    pub fn p256() -> Self {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let der = der.unwrap().as_ref().to_vec();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).unwrap();
        Self { der, public: pair.public_key().as_ref().to_vec() }
    }

    /// A key that signs nothing that the contract has.
    pub fn p384() -> Self {
        let curve = &ECDSA_P384_SHA384_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        Self { der: der.as_ref().to_vec(), public: Vec::new() }
    }

    /// PKCS#8 in PEM, as `openssl genpkey` writes it.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// The JSON file of a Google service account.
    pub fn service_account(&self, email: &str) -> String {
        let file = json!({
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": "key-7",
            "private_key": self.pem(),
            "client_email": email,
            "client_id": "1",
            "token_uri": "https://evil.example.com/token",
        });
        format!("{file:#}")
    }

    /// What no output may have: the lines of the PEM, and the key in another encoding.
    pub fn canaries(&self) -> Vec<String> {
        let pem = self.pem();
        let lines = pem.lines().filter(|line| !line.starts_with("---")).map(str::to_owned);
        lines.chain([URL_SAFE_NO_PAD.encode(&self.der)]).collect()
    }

    /// The header and the claims of a JWT that this key has signed.
    ///
    /// # Panics
    /// If it is no JWT, or another key has signed it.
    pub fn verify(&self, jwt: &str) -> (Value, Value) {
        self.try_verify(jwt).unwrap_or_else(|| panic!("not a JWT that this key signed: {jwt}"))
    }

    /// As [`OperatorKey::verify`], for a double that answers an error.
    pub fn try_verify(&self, jwt: &str) -> Option<(Value, Value)> {
        let parts: Vec<&str> = jwt.split('.').collect();
        let [header, claims, signature] = parts[..] else { return None };
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let (header_json, claims_json) = (read(header)?, read(claims)?);
        let algorithm: &'static dyn VerificationAlgorithm = match header_json["alg"].as_str() {
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            Some("ES256") => &ECDSA_P256_SHA256_FIXED,
            _ => return None,
        };
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public = UnparsedPublicKey::new(algorithm, &self.public);
        public.verify(message.as_bytes(), &signature).ok()?;
        Some((header_json, claims_json))
    }
}
