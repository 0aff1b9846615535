//! The certificate of the listener and its key, as files: what they hold, and until when the
//! certificate is valid.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Reads both files. The error says what they hold and what is expected.
pub(super) fn read(files: &TlsFile, provider: &CryptoProvider) -> Result<CertificatePair, String> {
    let (chain, key) = (chain(&files.certificate_file)?, private_key(&files.key_file)?);
    let validity = chain.first().and_then(|leaf| validity(leaf));
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        format!(
            "the certificate {} and the key {} do not belong together: {error}; install both \
             files of one renewal, with the server's certificate first in its file",
            files.certificate_file.display(),
            files.key_file.display()
        )
    })?;
    Ok(CertificatePair { key: Arc::new(key), validity })
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

/// The times of a certificate (RFC 5280, 4.1). Signatures and names are the clients' business.
fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut rest = certificate;
    let (_, mut certificate) = element(&mut rest)?;
    let (_, mut fields) = element(&mut certificate)?;
    // An explicit version comes first, except in a certificate of version 1.
    if fields.first() == Some(&0xa0) {
        element(&mut fields)?;
    }
    for _serial_algorithm_issuer in 0..3 {
        element(&mut fields)?;
    }
    let (_, mut times) = element(&mut fields)?;
    Some(Validity { from: time(&mut times)?, to: time(&mut times)? })
}

/// Takes one element of DER off `rest`: its tag and its content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [tag, length, after @ ..] = *rest else { return None };
    let (length, after) = match usize::from(*length) {
        short @ 0..128 => (short, after),
        long => {
            let (bytes, after) = after.split_at_checked(long - 128).filter(|_| long <= 132)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), after)
        }
    };
    let (content, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((*tag, content))
}

fn time(rest: &mut &[u8]) -> Option<Timestamp> {
    let (tag, digits) = element(rest)?;
    let digits = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    // A UTCTime has two digits of the year: 50 to 99 are of the twentieth century.
    let is_short = tag == 0x17;
    let (year, digits) = digits.split_at_checked(if is_short { 2 } else { 4 })?;
    let year: i16 = year.parse().ok()?;
    let year = match (is_short, year) {
        (true, ..50) => year + 2000,
        (true, _) => year + 1900,
        (false, _) => year,
    };
    let part = |at: usize| digits.get(at..at + 2)?.parse::<i8>().ok();
    let time = DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_times() {
        for bytes in [
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..],
            &[0x30, 0xff],
            &[0x30],
            &[],
            b"-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(validity(bytes), None, "{bytes:?}");
        }
        assert_eq!(time(&mut &b"\x17\x0d991231235959Z"[..]).unwrap().to_string()[..4], *"1999");
        assert_eq!(time(&mut &b"\x18\x0f20501231235959Z"[..]).unwrap().to_string()[..4], *"2050");
        assert_eq!(time(&mut &b"\x17\x0d999931235959Z"[..]), None);
    }
}
