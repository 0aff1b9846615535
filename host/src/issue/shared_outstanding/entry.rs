//! One credential as brokers tell each other of it, sealed in the store.
//!
//! **Invariant:** an entry that does not open, or that is another one than its name says, is none.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::domain::{Action, RevocationCause, SubjectDigest};
use crate::registries::Epoch;
use crate::rules::PastGrant;

/// What names and seals of entries are made with.
pub(super) const KIND: &str = "out";

/// A credential that some broker can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::issue) struct SharedEntry {
    pub(in crate::issue) grant: PastGrant,
    /// What its provider remembered. `None` if nobody knows whether it was made.
    pub(in crate::issue) note: Option<String>,
    /// It is a session in AWS.
    pub(in crate::issue) is_session: bool,
    /// Why a broker has to end it then. `None`: the registry does.
    pub(in crate::issue) cause: Option<RevocationCause>,
    pub(in crate::issue) ends: Timestamp,
    /// Of the registry that minted it. `None`: an earlier process minted it.
    pub(in crate::issue) epoch: Option<Epoch>,
}

/// The form of an entry. Later versions may add members.
#[derive(Serialize, Deserialize)]
struct EntryText {
    id: String,
    issuer: String,
    sub: String,
    owner: String,
    registry: String,
    project: String,
    actions: Vec<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default)]
    is_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Milliseconds since 1970.
    ends: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl SharedEntry {
    pub(super) fn text(&self) -> Zeroizing<Vec<u8>> {
        let PastGrant { id, issuer, sub, owner, registry, project, actions } = &self.grant;
        let text = EntryText {
            id: id.to_string(),
            issuer: issuer.clone(),
            sub: sub.clone(),
            owner: hex::encode(owner.as_bytes()),
            registry: registry.to_string(),
            project: project.to_string(),
            actions: actions.iter().collect(),
            note: self.note.clone(),
            is_session: self.is_session,
            cause: self.cause.map(|cause| cause.as_str().to_owned()),
            ends: self.ends.as_millisecond(),
            epoch: self.epoch.map(|epoch| hex::encode(epoch.bytes())),
        };
        Zeroizing::new(serde_json::to_vec(&text).unwrap_or_default())
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text: EntryText = serde_json::from_slice(text).ok()?;
        let epoch = match &text.epoch {
            Some(epoch) => Some(Epoch::from_bytes(digest(epoch)?)),
            None => None,
        };
        let cause = match &text.cause {
            Some(word) => Some(cause(word)?),
            None => None,
        };
        Some(Self {
            grant: PastGrant {
                id: text.id.parse::<Ulid>().ok()?,
                issuer: text.issuer,
                sub: text.sub,
                owner: SubjectDigest::from_bytes(digest(&text.owner)?),
                registry: text.registry.parse().ok()?,
                project: text.project.parse().ok()?,
                actions: text.actions.into_iter().collect(),
            },
            note: text.note,
            is_session: text.is_session,
            cause,
            ends: Timestamp::from_millisecond(text.ends).ok()?,
            epoch,
        })
    }
}

/// The cause with this word.
pub(super) fn cause(word: &str) -> Option<RevocationCause> {
    RevocationCause::ALL.into_iter().find(|cause| cause.as_str() == word)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Actions;

    fn entry() -> SharedEntry {
        SharedEntry {
            grant: PastGrant {
                id: Ulid(7),
                issuer: "github".to_owned(),
                sub: "repo:acme/my-app".to_owned(),
                owner: SubjectDigest::of("github", "repo:acme/my-app"),
                registry: "prod".parse().unwrap(),
                project: "my-app".parse().unwrap(),
                actions: Actions::PULL_AND_PUSH,
            },
            note: Some("17".to_owned()),
            is_session: false,
            cause: Some(RevocationCause::GrantedEnd),
            ends: Timestamp::from_second(1_800_000_000).unwrap(),
            epoch: Some(Epoch::of_test(3)),
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let bare = SharedEntry { note: None, cause: None, epoch: None, ..entry() };
        for entry in [entry(), bare] {
            assert_eq!(SharedEntry::parse(&entry.text()), Some(entry));
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let text = String::from_utf8(entry().text().to_vec()).unwrap();
        for (right, wrong) in [
            ("\"my-app\"", "\"../x\""),
            ("granted-end", "never"),
            ("\"pull\"", "\"admin\""),
            (&*Ulid(7).to_string(), "7"),
            (&"03".repeat(32), "03"),
            ("{", "["),
        ] {
            assert!(text.contains(right), "{right}");
            assert_eq!(SharedEntry::parse(text.replace(right, wrong).as_bytes()), None, "{wrong}");
        }
    }
}
