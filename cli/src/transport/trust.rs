//! The CA certificates that are trusted: only those of `RISE_CA_FILE` or, if it is not set, those
//! of this machine.

use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::failure::{Failure, shown};
use crate::files;
use crate::settings::Settings;

/// Bytes. The bundle of a system has about 220 KiB.
const LONGEST: u64 = 4 * 1024 * 1024;

pub(super) fn certificates(settings: &Settings) -> Result<Vec<Certificate<'static>>, Failure> {
    match &settings.ca_file {
        Some(said) => {
            let path = &said.value;
            let wrong = |what: &str| {
                Failure::Settings(format!(
                    "{}: {} {what}: set it to a PEM file with the broker's CA certificate",
                    said.origin,
                    path.display()
                ))
            };
            let text = files::read(path, LONGEST).map_err(|error| wrong(&error.to_string()))?;
            let text = text.ok_or_else(|| wrong("does not exist"))?;
            let mut certificates = Vec::new();
            for item in parse_pem(text.as_bytes()) {
                if let PemItem::Certificate(certificate) = item.map_err(|_| wrong("is not PEM"))? {
                    certificates.push(certificate);
                }
            }
            if certificates.is_empty() {
                Err(wrong("holds no certificate"))
            } else {
                Ok(certificates)
            }
        }
        None => of_the_system(),
    }
}

/// The certificates that OpenSSL would use, including `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn of_the_system() -> Result<Vec<Certificate<'static>>, Failure> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let why = loaded.errors.first().map(|error| shown(&error.to_string())).unwrap_or_default();
        return Err(Failure::Settings(format!(
            "this machine has no CA certificates ({why}): install ca-certificates, or set \
             RISE_CA_FILE"
        )));
    }
    Ok(loaded.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}
