//! What the host itself saw of a repository. Whose it is decides who gets credentials, so the
//! provider's word does not count.

use std::collections::BTreeMap;

use super::wanted::{Claim, ORPHANED_AT};
use crate::domain::Ownership;

/// The repository of a call as the host itself last saw it. A provider cannot say anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenRepository {
    pub ownership: Ownership,
    /// When its project was retired, in seconds since the Unix epoch.
    pub orphaned_at: Option<u64>,
    /// Whether it has the mark of an orphan, whoever owns it.
    pub is_marked: bool,
}

impl SeenRepository {
    pub(super) fn new(ownership: Ownership, orphaned_at: Option<u64>) -> Self {
        Self { ownership, orphaned_at, is_marked: ownership == Ownership::Orphaned }
    }

    pub(super) fn of(claim: Claim, tags: &BTreeMap<String, String>) -> Self {
        let (ownership, orphaned_at) = match claim {
            Claim::Broker => (Ownership::Managed, None),
            Claim::Orphaned(at) => (Ownership::Orphaned, at),
            Claim::OtherBroker | Claim::Nobody => (Ownership::Foreign, None),
        };
        Self { ownership, orphaned_at, is_marked: tags.contains_key(ORPHANED_AT) }
    }
}
