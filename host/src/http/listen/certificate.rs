//! The certificate of the listener and its key, as files: what they hold, and whether they fit.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::x509::{self, Facts, Validity};
use crate::config::TlsFile;
use crate::files;

/// A chain with its key has a few KiB.
const LARGEST_FILE: u64 = 1 << 20;

/// A certificate and its key, which belong together.
#[derive(Debug)]
pub(super) struct CertificatePair {
    pub key: Arc<CertifiedKey>,
    /// `None` if the certificate has no time that can be read.
    pub validity: Option<Validity>,
    /// Why clients reject it at any time.
    pub flaw: Option<&'static str>,
}

/// Reads both files. The error says what they hold and what is expected.
pub(super) fn read(files: &TlsFile, provider: &CryptoProvider) -> Result<CertificatePair, String> {
    let (chain, key) = (chain(&files.certificate_file)?, private_key(&files.key_file)?);
    let (certificate, key_file) = (files.certificate_file.display(), files.key_file.display());
    let facts = chain.first().and_then(|leaf| x509::facts(leaf));
    if let Some(Facts { version: version @ 1..=2, .. }) = facts {
        return Err(format!(
            "the certificate {certificate} is an X.509 version {version} certificate, which TLS \
             does not accept; make one with extensions, for example by `openssl x509 -req` with \
             `-extfile`, or by `openssl req -x509` with `-addext \
             subjectAltName=DNS:broker.example.com`"
        ));
    }
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        if let rustls::Error::InvalidCertificate(error) = error {
            return format!(
                "the certificate {certificate} cannot be used: {error}; install the file that the \
                 authority issued, with the server's certificate first"
            );
        }
        format!(
            "the certificate {certificate} and the key {key_file} do not belong together: {error}; \
             install both files of one renewal, with the server's certificate first in its file"
        )
    })?;
    let validity = facts.and_then(|facts| facts.validity);
    Ok(CertificatePair { key: Arc::new(key), validity, flaw: facts.and_then(Facts::flaw) })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let content = content(path, "certificate")?;
    let chain = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("the certificate {shown} is damaged: {error}"))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    let found = Content::of(&content);
    let hint = match found {
        Content::Blocks(labels) if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) => {
            "; perhaps `certificate_file` and `key_file` are swapped".to_owned()
        }
        Content::Binary => format!(
            "; if it is DER, convert it with `openssl x509 -inform der -in {shown} -out new.pem`"
        ),
        Content::Blocks(_) | Content::Empty | Content::Text => String::new(),
    };
    Err(format!(
        "the certificate file {shown} has {}, expected PEM with \
         `-----BEGIN CERTIFICATE-----`{hint}",
        Content::of(&content).in_words()
    ))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = path.display();
    let content = content(path, "key")?;
    let found = Content::of(&content);
    // RFC 1421 states the encryption of the old kind in a header, whose colon is no base64.
    let is_encrypted = matches!(&found, Content::Blocks(labels)
        if labels.contains(&"ENCRYPTED PRIVATE KEY"))
        || String::from_utf8_lossy(&content).contains("Proc-Type: 4,ENCRYPTED");
    if is_encrypted {
        return Err(format!(
            "the key {shown} is encrypted with a passphrase, and the broker cannot ask for one; \
             write it without: `openssl pkey -in {shown} -out new.key`"
        ));
    }
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| match found {
        Content::Blocks(labels) if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) => {
            format!("the key {shown} is damaged: {error}")
        }
        Content::Blocks(_) | Content::Empty | Content::Text | Content::Binary => {
            let found = Content::of(&content);
            let hint = match found {
                Content::Blocks(_) => "; perhaps `certificate_file` and `key_file` are swapped",
                Content::Binary => "; if it is DER or PKCS #12, convert it with `openssl`",
                Content::Empty | Content::Text => "",
            };
            format!(
                "the key file {shown} has {}, expected PEM with \
                 `-----BEGIN PRIVATE KEY-----`{hint}",
                found.in_words()
            )
        }
    })
}

fn content(path: &Path, what: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    files::read(path, LARGEST_FILE).map(zeroize::Zeroizing::new).map_err(|error| {
        format!(
            "cannot read the {what} {}: {error}; name a PEM file that the broker's user can read",
            path.display()
        )
    })
}

/// What a file holds where PEM is expected.
enum Content<'a> {
    Empty,
    Binary,
    Text,
    /// The labels of its PEM blocks, at least one.
    Blocks(Vec<&'a str>),
}

impl<'a> Content<'a> {
    fn of(content: &'a [u8]) -> Self {
        let Ok(text) = std::str::from_utf8(content) else { return Self::Binary };
        let label = |line: &'a str| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----");
        let labels: Vec<&str> = text.lines().filter_map(label).take(8).collect();
        match (labels.is_empty(), text.trim().is_empty()) {
            (false, _) => Self::Blocks(labels),
            (true, true) => Self::Empty,
            (true, false) => Self::Text,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Empty => "no content".to_owned(),
            Self::Binary => "binary data".to_owned(),
            Self::Text => "text that is not PEM".to_owned(),
            Self::Blocks(labels) => format!("`{}`", labels.join("`, `")),
        }
    }
}
