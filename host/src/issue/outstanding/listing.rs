//! What the other brokers need to know of this list, and what they tell this broker of it.

use jiff::Timestamp;
use ulid::Ulid;

use super::{NextStep, Outstanding, OutstandingCredential};
use crate::audit::Revoker;
use crate::domain::{RegistryName, RevocationCause, SubjectDigest};
use crate::issue::key::CredentialKey;
use crate::issue::shared_outstanding::{Listed, SharedEntry, UnknownHolders};

/// A credential of this list on the other brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Whether one of them has minted it.
    was_minted: bool,
    /// Whether they know of it, with all its holders here.
    is_listed: bool,
    /// Whether it may be an answer of theirs.
    is_published: bool,
}

/// A credential that a caller holds by one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issue) struct KnownHold {
    pub(in crate::issue) minted_by: Ulid,
    /// Whether others are known to have it.
    pub(in crate::issue) has_others: bool,
    /// Whether the other brokers know of it.
    pub(in crate::issue) is_listed: bool,
}

impl Outstanding {
    /// One credential, as others shall know of it.
    pub(in crate::issue) fn for_others(&self, id: Ulid) -> Option<Listed> {
        let state = self.lock();
        let known = state.credentials.get(&id)?;
        let cause = match known.next {
            NextStep::Forget => None,
            NextStep::End(RevocationCause::NotIssued) => Some(RevocationCause::NotIssued),
            NextStep::End(_) if known.is_session => None,
            NextStep::End(_) => Some(RevocationCause::GrantedEnd),
        };
        let entry = SharedEntry {
            grant: known.grant.clone(),
            note: known.note.clone(),
            is_session: known.is_session,
            cause,
            ends: known.ends,
            epoch: known.key.as_ref().map(CredentialKey::epoch),
        };
        let unknown = if known.holders.has_others() {
            UnknownHolders::Yes
        } else if known.elsewhere.is_published {
            UnknownHolders::IfForgotten
        } else {
            UnknownHolders::No
        };
        Some(Listed { entry, holders: known.holders.all().to_vec(), unknown })
    }

    /// Whether the others know of it now.
    pub(in crate::issue) fn set_listed(&self, id: Ulid, is_listed: bool) {
        if let Some(known) = self.lock().credentials.get_mut(&id) {
            known.elsewhere.is_listed = is_listed;
        }
    }

    pub(in crate::issue) fn is_listed(&self, id: Ulid) -> bool {
        self.lock().credentials.get(&id).is_some_and(|known| known.elsewhere.is_listed)
    }

    /// The others knew of it, and the store has forgotten that, with those who got it elsewhere.
    pub(in crate::issue) fn lost(&self, id: Ulid) {
        if let Some(known) = self.lock().credentials.get_mut(&id) {
            known.elsewhere.is_listed = false;
            if known.elsewhere.is_published {
                known.holders.add_unknown();
            }
        }
    }

    /// Other brokers may answer with it from now on.
    pub(in crate::issue) fn set_published(&self, id: Ulid) {
        if let Some(known) = self.lock().credentials.get_mut(&id) {
            known.elsewhere.is_published = true;
        }
    }

    /// Those that the others do not know of.
    pub(in crate::issue) fn unlisted(&self) -> Vec<Ulid> {
        let state = self.lock();
        let unlisted = state.credentials.iter().filter(|(_, known)| !known.elsewhere.is_listed);
        unlisted.map(|(id, _)| *id).collect()
    }

    /// Those that the others know of, and why they end now.
    pub(in crate::issue) fn listed(&self, now: Timestamp) -> Vec<(Ulid, Option<RevocationCause>)> {
        let ending = |known: &OutstandingCredential| match known.next {
            NextStep::End(cause) if known.is_ending(now) => Some(cause),
            NextStep::End(_) | NextStep::Forget => None,
        };
        let state = self.lock();
        let listed = state.credentials.iter().filter(|(_, known)| known.elsewhere.is_listed);
        listed.map(|(id, known)| (*id, ending(known))).collect()
    }

    /// What this subject holds by this request.
    pub(in crate::issue) fn known_hold(
        &self,
        request: Ulid,
        owner: &SubjectDigest,
    ) -> Option<KnownHold> {
        let state = self.lock();
        let minted_by = state.sharing.get(&request).copied().unwrap_or(request);
        let known = state.credentials.get(&minted_by)?;
        let has_others = known.holders.has_others_than(request, owner)?;
        Some(KnownHold { minted_by, has_others, is_listed: known.elsewhere.is_listed })
    }

    pub(in crate::issue) fn registry_of(&self, id: Ulid) -> Option<RegistryName> {
        self.lock().credentials.get(&id).map(|known| known.grant.registry.clone())
    }

    /// This subject holds it no more, and others do.
    pub(in crate::issue) fn returned(&self, id: Ulid, request: Ulid, owner: &SubjectDigest) {
        let mut state = self.lock();
        if let Some(known) = state.credentials.get_mut(&id) {
            known.holders.remove(request, owner);
            state.sharing.remove(&request);
        }
    }

    /// Another broker has ended it. Returns where it may be kept.
    pub(in crate::issue) fn ended_elsewhere(&self, id: Ulid) -> Option<CredentialKey> {
        let mut state = self.lock();
        let key = state.credentials.get(&id).and_then(|known| known.key.clone());
        state.forget(id);
        drop(state);
        self.left.notify_waiters();
        key
    }

    /// Another broker ends it. What this one has from others leaves the list. Returns where it may
    /// be kept.
    pub(in crate::issue) fn is_elsewhere(&self, id: Ulid) -> Option<CredentialKey> {
        let mut state = self.lock();
        let known = state.credentials.get(&id)?;
        let (key, may_leave) =
            (known.key.clone(), known.elsewhere.was_minted && known.due.is_some());
        if may_leave {
            state.forget(id);
            drop(state);
            self.left.notify_waiters();
        }
        key
    }

    /// Others want it to end now. Returns where it may be kept.
    pub(in crate::issue) fn end_as_told(
        &self,
        id: Ulid,
        (cause, by): (RevocationCause, Option<&Revoker>),
        now: Timestamp,
    ) -> Option<CredentialKey> {
        let mut state = self.lock();
        let known = state.credentials.get_mut(&id)?;
        let key = known.key.clone();
        if let Some(due) = known.due.filter(|_| !known.is_ending(now)) {
            known.next = NextStep::End(cause);
            known.by = by.cloned();
            state.due.remove(&(due, id));
            state.schedule(id, now);
        }
        key
    }

    /// From now on this broker ends a credential that another one has minted: for `cause` now, or
    /// at its time. Returns where it may be kept.
    pub(in crate::issue) fn adopt(
        &self,
        entry: SharedEntry,
        (cause, by): (Option<RevocationCause>, Option<&Revoker>),
        now: Timestamp,
    ) -> Option<CredentialKey> {
        let mut state = self.lock();
        let SharedEntry { grant, note, is_session, ends, .. } = entry;
        let id = grant.id;
        if state.credentials.contains_key(&id) {
            drop(state);
            return cause.and_then(|cause| self.end_as_told(id, (cause, by), now));
        }
        let next = cause.or(entry.cause).map_or(NextStep::Forget, NextStep::End);
        let due = if cause.is_some() { now } else { ends };
        state.add(grant, note, next, (due, now));
        if let Some(known) = state.credentials.get_mut(&id) {
            known.is_session = is_session;
            known.ends = ends;
            known.by = by.cloned();
            known.elsewhere = Elsewhere { was_minted: true, is_listed: true, is_published: true };
        }
        None
    }
}
