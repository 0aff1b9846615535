//! A record as it is shipped: its line, byte for byte, and the members by which it is found.

use jiff::Timestamp;
use serde::Deserialize;
use ulid::Ulid;

/// SHA-256 in hexadecimal digits.
const HASH: usize = 64;

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShippedRecord {
    pub chain: Ulid,
    pub seq: u64,
    pub time: Timestamp,
    /// Without the line break.
    pub line: String,
    pub found_by: FoundBy,
    pub is_checkpoint: bool,
}

/// What a record is searched by. The line has it all; a target may index it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundBy {
    pub event: String,
    pub request_id: Option<String>,
    pub minted_by: Option<String>,
    pub issuer: Option<String>,
    pub sub: Option<String>,
    pub project: Option<String>,
    pub registry: Option<String>,
    /// Of the credential or of the token for a registry.
    pub fingerprint: Option<String>,
}

#[derive(Deserialize)]
struct Members {
    chain: String,
    seq: u64,
    time: String,
    event: String,
    request_id: Option<String>,
    minted_by: Option<String>,
    subject: Option<Subject>,
    project: Option<String>,
    registry: Option<String>,
    credential: Option<Fingerprinted>,
    registry_token: Option<Fingerprinted>,
    checkpoint: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Subject {
    issuer: String,
    sub: String,
}

#[derive(Deserialize)]
struct Fingerprinted {
    fingerprint: Option<String>,
}

impl ShippedRecord {
    /// The hash of the record, in hexadecimal digits. `None`: `audit verify` reports it.
    pub fn hash(&self) -> Option<&str> {
        let (_, hash) = self.line.strip_suffix("\"}")?.rsplit_once(",\"hash\":\"")?;
        let is_hash = hash.len() == HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then_some(hash)
    }

    /// Reads a line without its line break. `None`: it is not a record, as `audit verify` reports.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let members: Members = serde_json::from_str(line).ok()?;
        let (issuer, sub) = members.subject.map(|subject| (subject.issuer, subject.sub)).unzip();
        let fingerprint = members.credential.or(members.registry_token);
        Some(Self {
            chain: members.chain.parse().ok()?,
            seq: members.seq,
            time: members.time.parse().ok()?,
            line: line.to_owned(),
            is_checkpoint: members.checkpoint.is_some(),
            found_by: FoundBy {
                event: text(members.event),
                request_id: members.request_id.map(text),
                minted_by: members.minted_by.map(text),
                issuer: issuer.map(text),
                sub: sub.map(text),
                project: members.project.map(text),
                registry: members.registry.map(text),
                fingerprint: fingerprint.and_then(|it| it.fingerprint).map(text),
            },
        })
    }
}

/// No column of a database holds a NUL, and one such record would hold up all that follow.
fn text(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_its_members_and_a_nul_holds_up_nothing() {
        let line = concat!(
            r#"{"v":1,"chain":"01M7XYNW8K6XBGT75WF4PVR3VR","seq":7,"prev":"00","#,
            r#""time":"2026-11-21T10:00:00.123456789Z","event":"issue.completed","#,
            r#""subject":{"issuer":"local","sub":"a\u0000b"},"project":"my-app","#,
            r#""credential":{"kind":"basic","fingerprint":"f0"},"hash":"00"}"#
        );
        let record = ShippedRecord::parse(line.as_bytes()).unwrap();
        assert_eq!((record.seq, record.line.as_str()), (7, line));
        assert_eq!(record.found_by.sub.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(record.found_by.fingerprint.as_deref(), Some("f0"));
        assert_eq!(record.hash(), None);
        let hash = "0a".repeat(32);
        let whole = line.replace("\"hash\":\"00\"", &format!("\"hash\":\"{hash}\""));
        assert_eq!(ShippedRecord::parse(whole.as_bytes()).unwrap().hash(), Some(&*hash));
        for other in ["", "{}", "\u{0}\u{0}", r#"{"chain":"x","seq":1}"#] {
            assert_eq!(ShippedRecord::parse(other.as_bytes()), None, "{other}");
        }
    }
}
