//! The hash chain: each line holds the hash of the line before it, and its own.
//!
//! A line is `{"v":1,"chain":"…","seq":N,"prev":"…",<the record's members>,"hash":"…"}`. `hash` is
//! SHA-256 over the exact bytes before `,"hash"`, so that checking needs no canonical form of JSON.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::record::{CheckpointFields, Event, Resumes};

pub(super) type Hash = [u8; 32];

/// `,"hash":"` + 64 + `"}`
const SUFFIX: usize = 9 + 64 + 2;

/// The last record of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub chain: Ulid,
    /// 0 before the first record.
    pub seq: u64,
    pub hash: Hash,
}

impl Position {
    pub(super) fn beginning(chain: Ulid) -> Self {
        Self { chain, seq: 0, hash: [0; 32] }
    }

    /// Writes `body` as the next line of the chain, which becomes its last record.
    pub(super) fn seal(&mut self, body: &[u8], lines: &mut Vec<u8>) {
        let start = lines.len();
        self.seq += 1;
        let head = format!(
            r#"{{"v":1,"chain":"{}","seq":{},"prev":"{}","#,
            self.chain,
            self.seq,
            hex::encode(self.hash)
        );
        lines.extend_from_slice(head.as_bytes());
        lines.extend_from_slice(body);
        self.hash = Sha256::digest(lines.get(start..).unwrap_or_default()).into();
        lines.extend_from_slice(br#","hash":""#);
        lines.extend_from_slice(hex::encode(self.hash).as_bytes());
        lines.extend_from_slice(b"\"}\n");
    }
}

/// The members of a line that the chain consists of.
#[derive(Deserialize)]
pub(super) struct Line {
    v: u8,
    #[serde(deserialize_with = "ulid")]
    pub chain: Ulid,
    pub seq: u64,
    pub prev: String,
    pub event: Event,
    #[serde(default)]
    pub checkpoint: Option<CheckpointFields>,
    #[serde(default)]
    pub resumes: Option<Resumes>,
    hash: String,
}

fn ulid<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Ulid, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom("expected a ULID"))
}

impl Line {
    /// Reads a line without its line break and checks its hash. The error says what is wrong with
    /// it.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, Position), &'static str> {
        let line: Self = serde_json::from_slice(bytes).map_err(|_| "it is not a record")?;
        if line.v != 1 {
            return Err("it has a format that this version does not know");
        }
        let (head, suffix) = bytes
            .len()
            .checked_sub(SUFFIX)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or("it is not a record")?;
        let hash: Hash = Sha256::digest(head).into();
        let expected = format!(r#","hash":"{}"}}"#, hex::encode(hash));
        if suffix != expected.as_bytes() || line.hash != hex::encode(hash) {
            return Err("its content does not match its hash: it was changed");
        }
        let position = Position { chain: line.chain, seq: line.seq, hash };
        Ok((line, position))
    }

    /// Whether this line comes right after `before`.
    pub(super) fn follows(&self, before: &Position) -> Result<(), &'static str> {
        if self.chain != before.chain {
            return Err("it belongs to another chain");
        }
        if self.seq != before.seq.wrapping_add(1) {
            return Err(
                "its number does not follow the one before: records are missing, doubled or moved",
            );
        }
        if self.prev != hex::encode(before.hash) {
            return Err(
                "it does not follow the record before it: one of them was replaced or removed",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#""event":"issue.intent","project":"my-app""#;

    #[test]
    fn any_changed_byte_is_found() {
        let mut position = Position::beginning(Ulid::from_parts(1, 2));
        let (mut one, mut two) = (Vec::new(), Vec::new());
        position.seal(BODY, &mut one);
        let before = position.clone();
        position.seal(BODY, &mut two);
        let line = two.strip_suffix(b"\n").unwrap();
        let (read, after) = Line::read(line).unwrap();
        assert_eq!((read.follows(&before), &after), (Ok(()), &position));
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert!(Line::read(&changed).is_err(), "{}", String::from_utf8_lossy(&changed));
        }
        let (first, _) = Line::read(one.strip_suffix(b"\n").unwrap()).unwrap();
        assert!(first.follows(&before).is_err());
        assert!(read.follows(&after).is_err());
    }
}
