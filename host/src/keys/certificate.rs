//! A certificate that a signing key issues to itself.
//!
//! Registries of the Distribution project find the key of a token by the certificate in its header
//! (`x5c`) and compare it with those in their `rootcertbundle`. Nothing else uses certificates.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{CertificateParams, DnType, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm};

use super::signing::SigningKey;

/// Registries compare it with their clock. A key is replaced long before.
const YEARS: i64 = 20;

/// The certificate in DER.
pub(super) fn issue(key: &SigningKey, pkcs8: &[u8], now: Timestamp) -> Option<Vec<u8>> {
    let mut parameters = CertificateParams::default();
    let name = format!("rise-broker {}", key.kid());
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let today = now.to_zoned(TimeZone::UTC).date();
    // A registry's clock may be behind.
    let (first, last) = (today.checked_sub(1.day()).ok()?, today.checked_add(YEARS.years()).ok()?);
    let date = |day: jiff::civil::Date| {
        let (month, day_of_month) = (day.month().unsigned_abs(), day.day().unsigned_abs());
        rcgen::date_time_ymd(day.year().into(), month, day_of_month)
    };
    (parameters.not_before, parameters.not_after) = (date(first), date(last));
    let certificate = parameters.self_signed(&Signer { key, pkcs8 }).ok()?;
    Some(certificate.der().to_vec())
}

struct Signer<'a> {
    key: &'a SigningKey,
    pkcs8: &'a [u8],
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.key.algorithm() {
            "RS256" => &rcgen::PKCS_RSA_SHA256,
            "ES256" => &rcgen::PKCS_ECDSA_P256_SHA256,
            _ => &rcgen::PKCS_ED25519,
        }
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let failed = |_| rcgen::Error::RemoteKeyError;
        if self.key.algorithm() != "ES256" {
            return self.key.sign(message).map_err(failed);
        }
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, self.pkcs8);
        let key = key.map_err(|_| rcgen::Error::RemoteKeyError)?;
        let signature = key.sign(&SystemRandom::new(), message);
        signature.map(|it| it.as_ref().to_vec()).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
