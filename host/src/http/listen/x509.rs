//! What an operator must know of a certificate (RFC 5280, 4.1): its version, its times, and whether
//! clients accept it as a server's. Signatures and names are the clients' business.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub from: Timestamp,
    pub to: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub version: u8,
    pub validity: Option<Validity>,
    is_authority: bool,
    has_names: bool,
}

/// The contents of object identifiers: 2.5.29.19 and 2.5.29.17.
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 17];
const BOOLEAN: u8 = 0x01;
const TRUE: [u8; 1] = [0xff];
/// Explicit tags of the version and of the extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

impl Facts {
    /// Why clients reject the certificate at any time, and how to make another one.
    pub(super) fn flaw(self) -> Option<&'static str> {
        if self.is_authority {
            Some(
                "is the certificate of an authority (CA:TRUE), as `openssl req -x509` makes them: \
                 clients such as rise-registry reject it as a server's; make one with `-addext \
                 basicConstraints=critical,CA:FALSE` and `-addext subjectAltName=DNS:NAME`",
            )
        } else if self.has_names {
            None
        } else {
            Some(
                "has no subjectAltName, so no name of a host matches it, and clients reject it; \
                 make one with `-addext subjectAltName=DNS:NAME`",
            )
        }
    }
}

pub(super) fn facts(certificate: &[u8]) -> Option<Facts> {
    let mut rest = certificate;
    let (_, mut certificate) = element(&mut rest)?;
    let (_, mut fields) = element(&mut certificate)?;
    let mut version = 1;
    // An explicit version comes first, except in a certificate of version 1.
    if fields.first() == Some(&VERSION) {
        let (_, mut number) = element(&mut fields)?;
        version = element(&mut number)?.1.first()?.saturating_add(1);
    }
    for _serial_algorithm_issuer in 0..3 {
        element(&mut fields)?;
    }
    let (_, mut times) = element(&mut fields)?;
    let validity = validity(&mut times);
    let mut facts = Facts { version, validity, is_authority: false, has_names: false };
    while let Some((tag, mut content)) = element(&mut fields) {
        if tag != EXTENSIONS {
            continue;
        }
        let extensions = element(&mut content).map(|(_, extensions)| extensions);
        if extensions.and_then(|extensions| facts.read(extensions)).is_none() {
            // Nothing is said of what cannot be read.
            facts.has_names = true;
        }
    }
    Some(facts)
}

impl Facts {
    fn read(&mut self, mut extensions: &[u8]) -> Option<()> {
        while !extensions.is_empty() {
            let (_, mut extension) = element(&mut extensions)?;
            let (_, name) = element(&mut extension)?;
            let (tag, mut value) = element(&mut extension)?;
            if tag == BOOLEAN {
                // The extension is critical.
                (_, value) = element(&mut extension)?;
            }
            if name == ALTERNATIVE_NAMES {
                self.has_names = true;
            } else if name == BASIC_CONSTRAINTS {
                let (_, mut constraints) = element(&mut value)?;
                self.is_authority = element(&mut constraints) == Some((BOOLEAN, &TRUE));
            }
        }
        Some(())
    }
}

fn validity(times: &mut &[u8]) -> Option<Validity> {
    Some(Validity { from: time(times)?, to: time(times)? })
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
            assert_eq!(facts(bytes), None, "{bytes:?}");
        }
        assert_eq!(time(&mut &b"\x17\x0d991231235959Z"[..]).unwrap().to_string()[..4], *"1999");
        assert_eq!(time(&mut &b"\x18\x0f20501231235959Z"[..]).unwrap().to_string()[..4], *"2050");
        assert_eq!(time(&mut &b"\x17\x0d999931235959Z"[..]), None);
    }
}
