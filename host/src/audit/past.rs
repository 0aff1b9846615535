//! Reads back which credentials may still work that only the broker ends: the list that a process
//! keeps in memory, as the log of the process before it has it.

use std::collections::HashMap;
use std::io;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use ulid::Ulid;

use super::disk::Disk;
use super::record::Event;
use super::verify::{Extent, each_line, extents, first_line};
use crate::domain::{Action, EndedBy, RegistryName, SubjectDigest};
use crate::rules::PastGrant;

/// A credential that may still work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastIssue {
    /// Of the request that it was minted for.
    pub grant: PastGrant,
    /// The note of its provider.
    pub remembered: Option<String>,
    /// `false`: the log has no answer with it, so that nobody got it.
    pub was_minted: bool,
    /// No provider remembered it: `remembered` is the name of its session in AWS.
    pub is_session: bool,
    pub ended_by: EndedBy,
    /// `None`: it should have ended by now.
    pub expires_at: Option<Timestamp>,
    /// The requests that were answered with it and have not given it back, and their subjects.
    pub holders: Vec<(Ulid, SubjectDigest)>,
}

/// The members of a record that matter here.
#[derive(Deserialize)]
pub(super) struct PastRecord {
    pub(super) event: Event,
    pub(super) request_id: Option<String>,
    pub(super) minted_by: Option<String>,
    pub(super) subject: Option<PastSubject>,
    pub(super) project: Option<String>,
    pub(super) registry: Option<String>,
    #[serde(default)]
    actions: Vec<Action>,
    pub(super) credential: Option<PastCredential>,
    revocation: Option<PastRevocation>,
    aws: Option<PastSession>,
}

#[derive(Deserialize)]
struct PastSession {
    role_session_name: String,
}

#[derive(Deserialize)]
pub(super) struct PastSubject {
    issuer: String,
    sub: String,
    sub_sha256: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PastCredential {
    #[serde(default)]
    pub(super) kind: String,
    pub(super) expires_at: Option<String>,
    ended_by: Option<EndedBy>,
    pub(super) remembered: Option<String>,
}

#[derive(Deserialize)]
struct PastRevocation {
    remembered: Option<String>,
    /// Whose answer was given back.
    request_id: Option<String>,
}

/// What the records so far say.
#[derive(Default)]
struct Past {
    /// Intents without an outcome.
    open: HashMap<Ulid, PastGrant>,
    out: HashMap<Ulid, PastIssue>,
}

/// Returns the credentials of these registries that may still work. Segments that end more than
/// `window` before the last one begins are not read.
pub fn outstanding(
    disk: &dyn Disk,
    registries: &[RegistryName],
    window: SignedDuration,
) -> io::Result<Vec<PastIssue>> {
    let mut past = Past::default();
    if registries.is_empty() {
        return Ok(Vec::new());
    }
    let needles: Vec<String> =
        registries.iter().map(|name| format!(r#""registry":"{name}""#)).collect();
    for extent in young(disk, window)? {
        each_line(disk, &extent, |line| {
            let text = std::str::from_utf8(line).unwrap_or_default();
            if needles.iter().any(|needle| text.contains(needle)) {
                // `verify` finds lines that are no records.
                if let Ok(record) = serde_json::from_str(text) {
                    past.add(&record);
                }
            }
        })?;
    }
    Ok(past.finish())
}

/// The segments that are young enough, in order.
pub(super) fn young(disk: &dyn Disk, window: SignedDuration) -> io::Result<Vec<Extent>> {
    let mut extents = extents(disk)?;
    let mut begins = Vec::new();
    for extent in &extents {
        begins.push(begin(disk, extent)?);
    }
    let Some(last) = begins.last().copied().flatten() else { return Ok(extents) };
    let from = last.checked_sub(window).unwrap_or(Timestamp::MIN);
    let is_older = |begin: &Option<Timestamp>| begin.is_some_and(|begin| begin <= from);
    let first = begins.iter().rposition(is_older).unwrap_or(0);
    Ok(extents.split_off(first))
}

/// The time of the first record.
pub(super) fn begin(disk: &dyn Disk, extent: &Extent) -> io::Result<Option<Timestamp>> {
    #[derive(Deserialize)]
    struct Timed {
        time: String,
    }
    let first = first_line(disk, &extent.segment)?;
    Ok(serde_json::from_slice::<Timed>(&first).ok().and_then(|record| record.time.parse().ok()))
}

impl Past {
    fn add(&mut self, record: &PastRecord) {
        let Some(request) = id_of(&record.request_id) else { return };
        let id = id_of(&record.minted_by).unwrap_or(request);
        match record.event {
            Event::Intent => {
                self.open.extend(record.grant(id).map(|grant| (id, grant)));
            }
            // A failure that may have left something behind is recorded by `revoke.intent` first.
            Event::Failed => drop(self.open.remove(&id)),
            Event::Completed | Event::Minted => {
                self.open.remove(&id);
                self.issued(id, request, record);
            }
            Event::RevokeIntent => {
                self.open.remove(&id);
                let remembered = record.revocation.as_ref().and_then(|it| it.remembered.clone());
                if let Some(known) = self.out.get_mut(&id) {
                    known.expires_at = None;
                } else if let Some(grant) = record.grant(id) {
                    self.out.insert(id, PastIssue::not_issued(grant, remembered));
                }
            }
            Event::RevokeCompleted => drop(self.out.remove(&id)),
            Event::RevokeReturned => {
                let returned = record.revocation.as_ref().and_then(|it| id_of(&it.request_id));
                if let (Some(known), Some(request)) = (self.out.get_mut(&id), returned) {
                    known.holders.retain(|(holder, _)| *holder != request);
                }
            }
            // After `issue.aborted` nobody knows whether the provider was called.
            Event::Aborted
            | Event::RevokeRequested
            | Event::RevokeFailed
            | Event::AuditRead
            | Event::ServiceStart
            | Event::ServiceStop
            | Event::AuthenticationDenied
            | Event::Denied
            | Event::Token
            | Event::RepositoryIntent
            | Event::RepositoryChanged
            | Event::RepositoryFailed
            | Event::Checkpoint
            | Event::Recovered
            | Event::BrokenAccepted
            | Event::Poisoned
            | Event::Displaced => {}
        }
    }

    /// A credential with a note was answered, or kept.
    fn issued(&mut self, id: Ulid, request: Ulid, record: &PastRecord) {
        let Some(credential) = &record.credential else { return };
        let session = record.aws.as_ref().map(|aws| &aws.role_session_name);
        let Some(note) = credential.remembered.as_ref().or(session) else { return };
        let Some(grant) = record.grant(id) else { return };
        let known = self.out.entry(id).or_insert_with(|| PastIssue {
            grant: grant.clone(),
            remembered: Some(note.clone()),
            was_minted: true,
            is_session: credential.remembered.is_none(),
            ended_by: credential.ended_by.unwrap_or(EndedBy::Registry),
            expires_at: credential.expires_at.as_ref().and_then(|text| text.parse().ok()),
            holders: Vec::new(),
        });
        if request == id {
            // The others share it, and may be other subjects.
            known.grant = grant;
        }
        if record.event == Event::Completed {
            known.holders.extend(record.owner().map(|owner| (request, owner)));
        }
    }

    fn finish(self) -> Vec<PastIssue> {
        let not_issued = self.open.into_values().map(|grant| PastIssue::not_issued(grant, None));
        self.out.into_values().chain(not_issued).collect()
    }
}

impl PastIssue {
    fn not_issued(grant: PastGrant, remembered: Option<String>) -> Self {
        Self {
            grant,
            remembered,
            was_minted: false,
            is_session: false,
            ended_by: EndedBy::Broker,
            expires_at: None,
            holders: Vec::new(),
        }
    }
}

/// The id in this member.
#[expect(clippy::ref_option, reason = "the shape of a record's members")]
pub(super) fn id_of(text: &Option<String>) -> Option<Ulid> {
    text.as_ref()?.parse().ok()
}

impl PastRecord {
    /// The subject of the request.
    pub(super) fn owner(&self) -> Option<SubjectDigest> {
        let PastSubject { issuer, sub, sub_sha256 } = self.subject.as_ref()?;
        let Some(hash) = sub_sha256 else { return Some(SubjectDigest::of(issuer, sub)) };
        let mut whole = [0; 32];
        hex::decode_to_slice(hash, &mut whole).ok()?;
        Some(SubjectDigest::of_hashed(issuer, whole))
    }

    fn grant(&self, id: Ulid) -> Option<PastGrant> {
        let subject = self.subject.as_ref()?;
        Some(PastGrant {
            id,
            issuer: subject.issuer.clone(),
            sub: subject.sub.clone(),
            owner: self.owner()?,
            registry: self.registry.as_ref()?.parse().ok()?,
            project: self.project.as_ref()?.parse().ok()?,
            actions: self.actions.iter().copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(number: u128) -> String {
        Ulid(number).to_string()
    }

    fn record(event: &str, request: u128, minted_by: u128, more: &Value) -> Value {
        let mut record = json!({
            "event": event, "request_id": id(request), "minted_by": id(minted_by),
            "subject": { "issuer": "local", "sub": format!("ci-{request}") },
            "project": "my-app", "registry": "prod", "actions": ["pull", "push"],
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    }

    fn credential(note: Option<&str>) -> Value {
        json!({ "credential": {
            "expires_at": "2027-01-01T00:00:00Z", "ended_by": "broker", "remembered": note
        } })
    }

    fn read(records: &[Value]) -> Vec<PastIssue> {
        let mut past = Past::default();
        for record in records {
            past.add(&serde_json::from_value(record.clone()).unwrap());
        }
        let mut found = past.finish();
        found.sort_by_key(|issue| issue.grant.id);
        found
    }

    #[test]
    fn a_credential_is_out_from_its_answer_to_its_end() {
        let none = json!({});
        let found = read(&[
            record("issue.intent", 1, 1, &none),
            record("issue.completed", 1, 1, &credential(Some("7"))),
            record("issue.completed", 2, 1, &credential(Some("7"))),
            record("issue.intent", 3, 3, &none),
            record("issue.minted", 3, 3, &credential(Some("8"))),
            record("revoke.intent", 3, 3, &json!({ "revocation": { "remembered": "8" } })),
            record("revoke.completed", 3, 3, &none),
            // Nothing to end: no note.
            record("issue.completed", 4, 4, &credential(None)),
        ]);
        let [issue] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((issue.grant.id, issue.grant.sub.as_str()), (Ulid(1), "ci-1"));
        assert_eq!(issue.remembered.as_deref(), Some("7"));
        let holder = |id: u128| (Ulid(id), SubjectDigest::of("local", &format!("ci-{id}")));
        assert_eq!(issue.holders, [holder(1), holder(2)]);
        assert!(issue.was_minted && issue.expires_at.is_some());
    }

    #[test]
    fn who_gave_it_back_holds_it_no_more() {
        let returned = json!({ "revocation": { "request_id": id(1) } });
        let found = read(&[
            record("issue.completed", 1, 1, &credential(Some("7"))),
            record("issue.completed", 2, 1, &credential(Some("7"))),
            record("revoke.returned", 3, 1, &returned),
        ]);
        assert_eq!(found[0].holders, [(Ulid(2), SubjectDigest::of("local", "ci-2"))]);
    }

    /// A record has the beginning of a long `sub`, which two subjects may share.
    #[test]
    fn a_long_subject_is_known_by_its_whole_text() {
        let long = "a".repeat(400);
        let hash = hex::encode(crate::domain::hash_of_sub(&long));
        let subject = json!({ "subject": {
            "issuer": "local", "sub": long.get(..255).unwrap(), "sub_sha256": hash
        } });
        let mut issued = record("issue.completed", 1, 1, &credential(Some("7")));
        issued.as_object_mut().unwrap().extend(subject.as_object().unwrap().clone());
        let owner = SubjectDigest::of("local", &long);
        let found = read(&[issued]);
        assert_eq!((found[0].grant.owner, found[0].holders[0].1), (owner, owner));
        assert_ne!(owner, SubjectDigest::of("local", &long[..255]));
    }

    #[test]
    fn an_intent_without_an_outcome_may_have_left_something() {
        let none = json!({});
        let found = read(&[
            record("issue.intent", 1, 1, &none),
            record("issue.intent", 2, 2, &none),
            record("issue.failed", 2, 2, &none),
            record("issue.intent", 3, 3, &none),
            record("issue.aborted", 3, 3, &none),
            record("issue.intent", 4, 4, &none),
            record("revoke.intent", 4, 4, &json!({ "revocation": { "remembered": "9" } })),
            record("issue.failed", 4, 4, &none),
            record("revoke.failed", 4, 4, &none),
        ]);
        let found: Vec<_> = found
            .iter()
            .map(|issue| (issue.grant.id.0, issue.was_minted, issue.remembered.as_deref()))
            .collect();
        assert_eq!(found, [(1, false, None), (3, false, None), (4, false, Some("9"))]);
    }
}
