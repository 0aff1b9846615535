//! What the log knows of credentials that are not on the list of what can be ended: the answer to
//! one request, and all that work and cannot be ended.

use std::collections::{BTreeMap, HashMap};
use std::io;

use jiff::{SignedDuration, Timestamp};
use ulid::Ulid;

use super::disk::Disk;
use super::past::{PastRecord, begin, id_of, young};
use super::record::Event;
use super::verify::{Extent, each_line, extents};
use crate::domain::{Project, RegistryName, SubjectDigest};

/// How far a clock may have been set between an id and its record.
const LEEWAY: SignedDuration = SignedDuration::from_mins(10);

/// A request that was answered with a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAnswer {
    pub owner: SubjectDigest,
    pub registry: RegistryName,
    pub minted_by: Ulid,
    /// `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
    /// Whether its provider can end it.
    pub can_end: bool,
    /// Whether the broker has ended it.
    pub has_ended: bool,
}

/// Credentials of one registry that work until then and that nobody can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeyondReach {
    pub registry: RegistryName,
    pub credentials: usize,
    /// When the last of them ends; `None` if one does not expire.
    pub until: Option<Timestamp>,
}

/// Which records [`beyond_reach`] looks for. A part that is not given selects all.
#[derive(Clone, Debug, Default)]
pub struct PastSelection {
    pub project: Option<Project>,
    pub registries: Option<Vec<RegistryName>>,
    pub subject: Option<SubjectDigest>,
    pub request: Option<Ulid>,
}

/// Reads which selected credentials of the last `window` still work and cannot be ended.
/// `is_within` says whether the one of this mint can be.
pub fn beyond_reach(
    disk: &dyn Disk,
    selection: &PastSelection,
    (window, now): (SignedDuration, Timestamp),
    is_within: impl Fn(Ulid) -> bool,
) -> io::Result<Vec<BeyondReach>> {
    let mut found: BTreeMap<RegistryName, HashMap<Ulid, Option<Timestamp>>> = BTreeMap::new();
    for extent in young(disk, window)? {
        each_line(disk, &extent, |line| {
            let text = std::str::from_utf8(line).unwrap_or_default();
            let events = [r#""event":"issue.completed""#, r#""event":"revoke.completed""#];
            if !events.iter().any(|event| text.contains(event)) {
                return;
            }
            let Ok(record) = serde_json::from_str::<PastRecord>(text) else { return };
            if record.event == Event::RevokeCompleted {
                if let Some(ended) = id_of(&record.minted_by) {
                    for ends in found.values_mut() {
                        ends.remove(&ended);
                    }
                }
                return;
            }
            let Some((registry, id, end)) = selection.unreachable(&record, now) else { return };
            if !is_within(id) {
                found.entry(registry).or_default().insert(id, end);
            }
        })?;
    }
    let beyond = |(registry, ends): (_, HashMap<_, Option<Timestamp>>)| BeyondReach {
        registry,
        credentials: ends.len(),
        until: ends
            .values()
            .copied()
            .collect::<Option<Vec<_>>>()
            .and_then(|ends| ends.into_iter().max()),
    };
    let found = found.into_iter().filter(|(_, ends)| !ends.is_empty());
    Ok(found.map(beyond).collect())
}

impl PastSelection {
    /// The registry, the mint and the end of a credential that works and cannot be ended.
    fn unreachable(
        &self,
        record: &PastRecord,
        now: Timestamp,
    ) -> Option<(RegistryName, Ulid, Option<Timestamp>)> {
        let request = id_of(&record.request_id)?;
        let PastAnswer { owner, registry, minted_by, expires_at, can_end, .. } =
            answer(record, request)?;
        let credential = record.credential.as_ref()?;
        let works = expires_at.is_none_or(|end| end > now) && credential.kind != "client-auth";
        let is_selected = self
            .project
            .as_ref()
            .is_none_or(|project| record.project.as_deref() == Some(project.as_str()))
            && self.registries.as_ref().is_none_or(|names| names.contains(&registry))
            && self.subject.is_none_or(|subject| subject == owner)
            && self.request.is_none_or(|id| id == request || id == minted_by);
        (works && !can_end && is_selected).then_some((registry, minted_by, expires_at))
    }
}

/// Reads the segments from the time of the request on.
pub fn answer_of(disk: &dyn Disk, request: Ulid) -> io::Result<Option<PastAnswer>> {
    let (wanted, mut found) = (request.to_string(), None);
    for extent in since(disk, request)? {
        each_line(disk, &extent, |line| {
            let text = std::str::from_utf8(line).unwrap_or_default();
            let is_of = |answer: &PastAnswer| text.contains(&answer.minted_by.to_string());
            if !text.contains(&wanted) && !found.as_ref().is_some_and(is_of) {
                return;
            }
            let Ok(record) = serde_json::from_str::<PastRecord>(text) else { return };
            match (&mut found, record.event) {
                (None, Event::Completed) if id_of(&record.request_id) == Some(request) => {
                    found = answer(&record, request);
                }
                (Some(found), Event::RevokeCompleted)
                    if id_of(&record.minted_by) == Some(found.minted_by) =>
                {
                    found.has_ended = true;
                }
                _ => {}
            }
        })?;
    }
    Ok(found)
}

/// The segments that may have records from the time of the request on.
fn since(disk: &dyn Disk, request: Ulid) -> io::Result<Vec<Extent>> {
    let mut extents = extents(disk)?;
    let from = i64::try_from(request.timestamp_ms()).ok();
    let from = from.and_then(|at| Timestamp::from_millisecond(at).ok());
    let from = from.and_then(|at| at.checked_sub(LEEWAY).ok()).unwrap_or(Timestamp::MIN);
    let mut first = 0;
    for (index, extent) in extents.iter().enumerate() {
        if begin(disk, extent)?.is_some_and(|begin| begin <= from) {
            first = index;
        }
    }
    Ok(extents.split_off(first))
}

fn answer(record: &PastRecord, request: Ulid) -> Option<PastAnswer> {
    let credential = record.credential.as_ref()?;
    let expires_at = credential.expires_at.as_ref().and_then(|text| text.parse().ok());
    Some(PastAnswer {
        owner: record.owner()?,
        registry: record.registry.as_ref()?.parse().ok()?,
        minted_by: id_of(&record.minted_by).unwrap_or(request),
        expires_at,
        can_end: credential.remembered.is_some(),
        has_ended: false,
    })
}
