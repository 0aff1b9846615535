//! The credentials that the broker can end, from their mint until they have ended.
//!
//! Each has a moment at which something is due: at its granted end the broker ends it, if the
//! registry would let it live longer; otherwise it is forgotten when the registry ends it. It ends
//! earlier when all who hold it have given it back (`holders`), or an operator says so
//! (`selection`). `pace` spreads the calls of one registry.
//!
//! **Invariant:** the list is bounded. While it is full, nothing is minted that would have to be
//! on it.
//! **Invariant:** a credential leaves the list when its provider says that it has ended, when the
//! registry has ended it, or when an operator says so (`gone`), and not before. Where nobody knows
//! whether it was made, its provider says so twice, a minute apart.
//! **Invariant:** a credential that is about to end is not handed out any more.

mod gone;
mod holders;
mod listing;
mod pace;
mod recovered;
mod returned;
mod selection;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use ulid::Ulid;

use super::key::CredentialKey;
use crate::audit::Revoker;
use crate::domain::{Credentials, EndedBy, RegistryName, RevocationCause, SubjectDigest};
use crate::registries::RECORDED_AGAIN;
use crate::rules::{Grant, PastGrant};
pub(super) use gone::Gone;
use holders::Holders;
use listing::Elsewhere;
pub(super) use listing::KnownHold;
use pace::{Pace, later};
pub(super) use returned::{GivenBack, LocalHold};
pub use selection::{OutstandingView, Selection};

/// About 1 KiB each. What an earlier process left is on the list also beyond this number.
const MOST: usize = 50_000;
/// A registry may carry out a request long after nobody waits for its answer any more. So many
/// seconds later it is asked again to end what it had not made yet.
const LATEST_MINT: i64 = 60;
/// Requests that share the credential of another one, of all credentials together.
const MOST_SHARING: usize = 200_000;

#[derive(Default)]
pub(super) struct Outstanding {
    state: Mutex<OutstandingState>,
    /// Woken whenever a credential leaves the list.
    left: Notify,
}

#[derive(Default)]
struct OutstandingState {
    /// By the request that each was minted for.
    credentials: HashMap<Ulid, OutstandingCredential>,
    due: BTreeSet<(Timestamp, Ulid)>,
    registries: HashMap<RegistryName, Pace>,
    /// The credential of each request that was answered with that of another one.
    sharing: HashMap<Ulid, Ulid>,
}

struct OutstandingCredential {
    grant: PastGrant,
    /// What its provider remembered. `None` if nobody knows whether it was made.
    note: Option<String>,
    /// It is a session in AWS, which the broker ends itself, and only for an operator.
    is_session: bool,
    next: NextStep,
    /// When that is due; `None` while it is under way.
    due: Option<Timestamp>,
    /// When it ends by itself, or should have been ended.
    ends: Timestamp,
    attempts: u32,
    /// Whether a success is its end. Not the first one if nobody knows whether it was made.
    is_settled: bool,
    /// When a record of the audit log last had it.
    recorded: Timestamp,
    holders: Holders,
    /// Where it may be kept. `None`: an earlier process minted it.
    key: Option<CredentialKey>,
    /// Who ends it before its time.
    by: Option<Revoker>,
    elsewhere: Elsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStep {
    /// The registry has ended it.
    Forget,
    End(RevocationCause),
}

/// One credential that is to end now.
pub(super) struct DueRevocation {
    pub grant: PastGrant,
    pub note: Option<String>,
    pub is_session: bool,
    pub cause: RevocationCause,
    pub by: Option<Revoker>,
    /// When it ends by itself, or should have been ended.
    pub ends: Timestamp,
    /// Counted from 1.
    pub attempt: u32,
    /// Whether a success is its end.
    pub is_settled: bool,
}

/// What came of a revocation.
pub(super) enum Revoked {
    Ended,
    /// The registry is away or asks for a pause, in seconds if it says how long.
    Later(Option<u32>),
    /// The registry or the provider refuses.
    Denied,
    /// Another broker ends it. It may be asked for again after so many seconds.
    Elsewhere(i64),
    /// Another broker has ended it.
    EndedElsewhere,
}

/// How many credentials are out, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutstandingCounts {
    pub credentials: usize,
    /// Those that should have ended.
    pub overdue: usize,
}

impl Outstanding {
    pub(super) fn is_full(&self) -> bool {
        self.lock().credentials.len() >= MOST
    }

    /// A credential was minted, and its provider can end it, or the broker itself its session.
    pub(super) fn minted(
        &self,
        grant: &Grant,
        credentials: &Credentials,
        key: CredentialKey,
        (ends_sessions, now): (bool, Timestamp),
    ) {
        let session = credentials.session.as_ref().map(|session| &session.session_name);
        let session = session.filter(|_| ends_sessions && credentials.note.is_none());
        let note = credentials.note.as_ref().or(session);
        let (Some(note), Some(ends)) = (note, credentials.expires_at) else { return };
        let is_session = session.is_some();
        if is_session && self.is_full() {
            // It ends by itself, so it need not wait for a place.
            return;
        }
        let next = match credentials.ended_by {
            EndedBy::Broker => NextStep::End(RevocationCause::GrantedEnd),
            EndedBy::Registry => NextStep::Forget,
        };
        let mut state = self.lock();
        state.add(PastGrant::of(grant), Some(note.clone()), next, (ends, now));
        if let Some(credential) = state.credentials.get_mut(&grant.id()) {
            credential.key = Some(key);
            credential.is_session = is_session;
        }
    }

    /// A mint failed, and may have left a credential behind.
    pub(super) fn not_issued(&self, grant: PastGrant, note: Option<String>, now: Timestamp) {
        self.lock().add(grant, note, NextStep::End(RevocationCause::NotIssued), (now, now));
    }

    /// Forgets what registries have ended. Returns each registry with a revocation that is due,
    /// once for each worker that may start.
    pub(super) fn workers(&self, now: Timestamp) -> Vec<RegistryName> {
        let mut state = self.lock();
        let due: Vec<Ulid> =
            state.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        let mut waiting: HashMap<RegistryName, usize> = HashMap::new();
        for id in due {
            let Some(credential) = state.credentials.get(&id) else { continue };
            match credential.next {
                NextStep::Forget => state.forget(id),
                NextStep::End(_) => {
                    *waiting.entry(credential.grant.registry.clone()).or_default() += 1;
                }
            }
        }
        let mut workers = Vec::new();
        for (name, due) in waiting {
            let more = state.registries.entry(name.clone()).or_default().start(due, now);
            workers.extend(std::iter::repeat_n(name, more));
        }
        workers
    }

    /// The next revocation of a registry that is due, if the registry is not paused.
    pub(super) fn next(&self, name: &RegistryName, now: Timestamp) -> Option<DueRevocation> {
        self.lock().next_of(name, now)
    }

    /// A worker that [`Outstanding::workers`] started has ended.
    pub(super) fn worker_ends(&self, name: &RegistryName) {
        if let Some(pace) = self.lock().registries.get_mut(name) {
            pace.worker_ends();
        }
    }

    /// Records what came of a revocation that [`Outstanding::next`] returned.
    pub(super) fn ended(&self, grant: &PastGrant, outcome: &Revoked, now: Timestamp) {
        let mut state = self.lock();
        match outcome {
            Revoked::EndedElsewhere => {
                drop(state);
                self.ended_elsewhere(grant.id);
                return;
            }
            Revoked::Elsewhere(pause) => return state.left_alone(grant.id, later(now, *pause)),
            Revoked::Ended | Revoked::Later(_) | Revoked::Denied => {}
        }
        let known = state.credentials.get(&grant.id);
        let is_over = known.is_some_and(|known| known.is_session && known.ends <= now);
        let attempts = known.map_or(0, |known| known.attempts);
        let pace = state.registries.entry(grant.registry.clone()).or_default();
        let pause = pace.after(outcome, attempts, now).filter(|_| !is_over);
        if let Some(pause) = pause {
            state.schedule(grant.id, later(now, pause));
        } else if state.settles(grant.id) {
            state.schedule(grant.id, later(now, LATEST_MINT));
        } else {
            state.forget(grant.id);
            drop(state);
            self.left.notify_waiters();
        }
    }

    /// Returns once the credential has left the list.
    pub(super) async fn until_left(&self, id: Ulid) {
        loop {
            let left = self.left.notified();
            if !self.lock().credentials.contains_key(&id) {
                return;
            }
            left.await;
        }
    }

    pub(super) fn has(&self, id: Ulid) -> bool {
        self.lock().credentials.contains_key(&id)
    }

    /// The credentials of which no record is younger than [`RECORDED_AGAIN`]. They count as
    /// recorded from now on.
    pub(super) fn not_recorded_since_long(&self, now: Timestamp) -> Vec<DueRevocation> {
        let is_old = |known: &OutstandingCredential| {
            known.is_overdue(now) && now.duration_since(known.recorded) > RECORDED_AGAIN
        };
        let mut state = self.lock();
        let mut old = Vec::new();
        for credential in state.credentials.values_mut().filter(|known| is_old(known)) {
            credential.recorded = now;
            old.extend(credential.due_revocation());
        }
        old
    }

    pub(super) fn counts(&self, now: Timestamp) -> OutstandingCounts {
        let state = self.lock();
        let overdue = state.credentials.values().filter(|known| known.is_overdue(now)).count();
        OutstandingCounts { credentials: state.credentials.len(), overdue }
    }

    fn lock(&self) -> MutexGuard<'_, OutstandingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutstandingState {
    fn add(
        &mut self,
        grant: PastGrant,
        note: Option<String>,
        next: NextStep,
        (due, recorded): (Timestamp, Timestamp),
    ) {
        let id = grant.id;
        self.forget(id);
        let credential = OutstandingCredential {
            is_settled: note.is_some(),
            grant,
            note,
            is_session: false,
            next,
            due: Some(due),
            ends: due,
            attempts: 0,
            recorded,
            holders: Holders::default(),
            key: None,
            by: None,
            elsewhere: Elsewhere::default(),
        };
        self.credentials.insert(id, credential);
        self.due.insert((due, id));
    }

    fn hold(&mut self, minted_by: Ulid, request: Ulid, owner: SubjectDigest) {
        let has_room = self.sharing.len() < MOST_SHARING;
        let Some(credential) = self.credentials.get_mut(&minted_by) else { return };
        if credential.holders.add(request, owner, has_room) && request != minted_by {
            self.sharing.insert(request, minted_by);
        }
    }

    fn forget(&mut self, id: Ulid) {
        let Some(credential) = self.credentials.remove(&id) else { return };
        for request in credential.holders.requests() {
            self.sharing.remove(&request);
        }
        if let Some(due) = credential.due {
            self.due.remove(&(due, id));
        }
    }

    /// Ends a credential now, unless that is under way.
    fn end(&mut self, id: Ulid, cause: RevocationCause, (by, now): (&Revoker, Timestamp)) {
        let Some(credential) = self.credentials.get_mut(&id) else { return };
        let Some(due) = credential.due.filter(|_| !credential.is_ending(now)) else { return };
        credential.next = NextStep::End(cause);
        credential.by = Some(by.clone());
        self.due.remove(&(due, id));
        self.schedule(id, now);
    }

    fn schedule(&mut self, id: Ulid, due: Timestamp) {
        let Some(credential) = self.credentials.get_mut(&id) else { return };
        credential.due = Some(due);
        self.due.insert((due, id));
    }

    /// It was not tried: another broker ends it.
    fn left_alone(&mut self, id: Ulid, due: Timestamp) {
        if let Some(credential) = self.credentials.get_mut(&id) {
            credential.attempts = credential.attempts.saturating_sub(1);
        }
        self.schedule(id, due);
    }

    /// Whether this success was the first of two. The second is the end.
    fn settles(&mut self, id: Ulid) -> bool {
        let Some(credential) = self.credentials.get_mut(&id) else { return false };
        credential.attempts = 0;
        !std::mem::replace(&mut credential.is_settled, true)
    }

    fn next_of(&mut self, name: &RegistryName, now: Timestamp) -> Option<DueRevocation> {
        if self.registries.get(name)?.is_paused(now) {
            return None;
        }
        let is_of = |id: &Ulid| {
            self.credentials.get(id).is_some_and(|known| {
                known.grant.registry == *name && matches!(known.next, NextStep::End(_))
            })
        };
        let mut due = self.due.iter().take_while(|(at, _)| *at <= now);
        let (at, id) = *due.find(|(_, id)| is_of(id))?;
        self.due.remove(&(at, id));
        let credential = self.credentials.get_mut(&id)?;
        credential.due = None;
        credential.recorded = now;
        credential.attempts = credential.attempts.saturating_add(1);
        credential.due_revocation()
    }
}

impl OutstandingCredential {
    fn due_revocation(&self) -> Option<DueRevocation> {
        let NextStep::End(cause) = self.next else { return None };
        let (grant, note, by) = (self.grant.clone(), self.note.clone(), self.by.clone());
        let Self { attempts: attempt, is_settled, is_session, ends, .. } = *self;
        Some(DueRevocation { grant, note, is_session, cause, by, ends, attempt, is_settled })
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.attempts > 0 || self.due.is_none_or(|due| due < now)
    }

    fn is_ending(&self, now: Timestamp) -> bool {
        matches!(self.next, NextStep::End(_))
            && (self.by.is_some() || self.attempts > 0 || self.due.is_none_or(|due| due <= now))
    }
}
