//! The credentials that the broker can end, from their mint until they have ended.
//!
//! Each has a moment at which something is due: at its granted end the broker ends it, if the
//! registry would let it live longer; otherwise it is forgotten when the registry ends it.
//!
//! **Invariant:** the list is bounded. While it is full, nothing is minted that would have to be
//! on it.
//! **Invariant:** a credential leaves the list when its provider says that it has ended, or when
//! the registry has ended it, and not before.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ulid::Ulid;

use crate::audit::PastIssue;
use crate::domain::{Credentials, EndedBy, RegistryName};
use crate::registries::RECORDED_AGAIN;
use crate::rules::{Grant, PastGrant};

/// About 1 KiB each.
const MOST: usize = 50_000;
/// Requests that one credential is known to be held by.
const MOST_HOLDERS: usize = 1024;
/// Calls of one registry at once.
const AT_ONCE: usize = 8;
/// The longest pause of a registry that does not answer, in seconds. A credential lives at most a
/// minute longer than it was granted once the registry answers again.
const LONGEST_PAUSE: i64 = 30;
/// The longest pause before a registry that denied is asked again for the same credential.
const LONGEST_DENIAL: i64 = 60;

#[derive(Default)]
pub(super) struct Outstanding(Mutex<OutstandingState>);

#[derive(Default)]
struct OutstandingState {
    /// By the request that each was minted for.
    credentials: HashMap<Ulid, OutstandingCredential>,
    due: BTreeSet<(Timestamp, Ulid)>,
    registries: HashMap<RegistryName, RegistryState>,
}

/// How one registry takes revocations.
#[derive(Default)]
struct RegistryState {
    workers: usize,
    /// Failures of the registry itself since its last success.
    failures: u32,
    paused_until: Option<Timestamp>,
}

struct OutstandingCredential {
    grant: PastGrant,
    /// What its provider remembered. `None` if nobody knows whether it was made.
    note: Option<String>,
    next: NextStep,
    /// When that is due; `None` while it is under way.
    due: Option<Timestamp>,
    attempts: u32,
    /// When a record of the audit log last had it.
    recorded: Timestamp,
    /// The requests that were answered with it.
    holders: Vec<Ulid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStep {
    /// The registry has ended it.
    Forget,
    End(RevocationCause),
}

/// Why a credential ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RevocationCause {
    /// The granted lifetime is over, and the registry would let it live longer.
    GrantedEnd,
    /// Its mint failed or was interrupted, so that nobody got it.
    NotIssued,
}

/// One credential that is to end now.
pub(super) struct DueRevocation {
    pub grant: PastGrant,
    pub note: Option<String>,
    pub cause: RevocationCause,
    /// Counted from 1.
    pub attempt: u32,
}

/// What came of a revocation.
pub(super) enum Revoked {
    Ended,
    /// The registry is away or asks for a pause, in seconds if it says how long.
    Later(Option<u32>),
    /// The registry or the provider refuses.
    Denied,
}

/// How many credentials are out, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutstandingCounts {
    pub credentials: usize,
    /// Those that should have ended.
    pub overdue: usize,
}

impl RevocationCause {
    /// The word for it in records and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::GrantedEnd => "granted-end",
            Self::NotIssued => "not-issued",
        }
    }
}

impl Outstanding {
    pub(super) fn is_full(&self) -> bool {
        self.lock().credentials.len() >= MOST
    }

    /// A credential was minted, and its provider can end it.
    pub(super) fn minted(&self, grant: &Grant, credentials: &Credentials, now: Timestamp) {
        let (Some(note), Some(ends)) = (&credentials.note, credentials.expires_at) else { return };
        let next = match credentials.ended_by {
            EndedBy::Broker => NextStep::End(RevocationCause::GrantedEnd),
            EndedBy::Registry => NextStep::Forget,
        };
        self.lock().add(PastGrant::of(grant), Some(note.clone()), next, (ends, now));
    }

    /// A mint failed, and may have left a credential behind.
    pub(super) fn not_issued(&self, grant: PastGrant, note: Option<String>, now: Timestamp) {
        self.lock().add(grant, note, NextStep::End(RevocationCause::NotIssued), (now, now));
    }

    /// What the audit log of an earlier process has.
    pub(super) fn recovered(&self, past: PastIssue, now: Timestamp) {
        let mut state = self.lock();
        let id = past.grant.id;
        let (next, due) = match (past.was_minted, past.ended_by, past.expires_at) {
            (true, EndedBy::Registry, Some(end)) => (NextStep::Forget, end),
            (true, EndedBy::Broker, Some(end)) => (NextStep::End(RevocationCause::GrantedEnd), end),
            (true, _, None) => (NextStep::End(RevocationCause::GrantedEnd), now),
            (false, ..) => (NextStep::End(RevocationCause::NotIssued), now),
        };
        state.add(past.grant, past.remembered, next, (due, now));
        for holder in past.holders {
            state.hold(id, holder);
        }
    }

    /// A request was answered with a credential.
    pub(super) fn hold(&self, minted_by: Ulid, request: Ulid) {
        self.lock().hold(minted_by, request);
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
            let registry = state.registries.entry(name.clone()).or_default();
            let most = if registry.failures > 0 { 1 } else { AT_ONCE };
            let more = due.min(most.saturating_sub(registry.workers));
            if registry.paused_until.is_none_or(|until| until <= now) {
                registry.workers += more;
                workers.extend(std::iter::repeat_n(name, more));
            }
        }
        workers
    }

    /// The next revocation of a registry that is due. `None` ends the worker.
    pub(super) fn next(&self, name: &RegistryName, now: Timestamp) -> Option<DueRevocation> {
        let mut state = self.lock();
        let found = state.next_of(name, now);
        if found.is_none()
            && let Some(registry) = state.registries.get_mut(name)
        {
            registry.workers = registry.workers.saturating_sub(1);
        }
        found
    }

    /// Records what came of a revocation that [`Outstanding::next`] returned.
    pub(super) fn ended(&self, grant: &PastGrant, outcome: &Revoked, now: Timestamp) {
        let mut state = self.lock();
        let registry = state.registries.entry(grant.registry.clone()).or_default();
        let pause = match outcome {
            Revoked::Ended => {
                (registry.failures, registry.paused_until) = (0, None);
                state.forget(grant.id);
                return;
            }
            Revoked::Later(asked) => {
                registry.failures = registry.failures.saturating_add(1);
                let pause = asked.map_or_else(|| doubled(registry.failures), i64::from);
                let pause = pause.clamp(1, LONGEST_PAUSE);
                registry.paused_until = Some(later(now, pause));
                pause
            }
            Revoked::Denied => {
                let attempts = state.credentials.get(&grant.id).map_or(0, |known| known.attempts);
                doubled(attempts).min(LONGEST_DENIAL)
            }
        };
        state.schedule(grant.id, later(now, pause));
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            grant,
            note,
            next,
            due: Some(due),
            attempts: 0,
            recorded,
            holders: Vec::new(),
        };
        self.credentials.insert(id, credential);
        self.due.insert((due, id));
    }

    fn hold(&mut self, minted_by: Ulid, request: Ulid) {
        let Some(credential) = self.credentials.get_mut(&minted_by) else { return };
        if credential.holders.len() < MOST_HOLDERS && !credential.holders.contains(&request) {
            credential.holders.push(request);
        }
    }

    fn forget(&mut self, id: Ulid) {
        let Some(credential) = self.credentials.remove(&id) else { return };
        if let Some(due) = credential.due {
            self.due.remove(&(due, id));
        }
    }

    fn schedule(&mut self, id: Ulid, due: Timestamp) {
        let Some(credential) = self.credentials.get_mut(&id) else { return };
        credential.due = Some(due);
        self.due.insert((due, id));
    }

    fn next_of(&mut self, name: &RegistryName, now: Timestamp) -> Option<DueRevocation> {
        let registry = self.registries.get(name)?;
        if registry.paused_until.is_some_and(|until| until > now) {
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
        let (grant, note) = (self.grant.clone(), self.note.clone());
        Some(DueRevocation { grant, note, cause, attempt: self.attempts })
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.attempts > 0 || self.due.is_none_or(|due| due < now)
    }
}

/// Seconds: 1, 2, 4 …
fn doubled(times: u32) -> i64 {
    1_i64 << times.saturating_sub(1).min(16)
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Actions;

    const NOW: i64 = 1_790_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn grant(id: u128, registry: &str) -> PastGrant {
        PastGrant {
            id: Ulid(id),
            issuer: "local".to_owned(),
            sub: "ci".to_owned(),
            registry: registry.parse().unwrap(),
            project: "my-app".parse().unwrap(),
            actions: Actions::PULL,
        }
    }

    /// A credential that ends after `end` seconds.
    fn past(id: u128, registry: &str, ended_by: EndedBy, end: i64) -> PastIssue {
        PastIssue {
            grant: grant(id, registry),
            remembered: Some(id.to_string()),
            was_minted: true,
            ended_by,
            expires_at: Some(at(end)),
            holders: vec![Ulid(id)],
        }
    }

    fn name(registry: &str) -> RegistryName {
        registry.parse().unwrap()
    }

    fn ids(outstanding: &Outstanding, registry: &str, now: Timestamp) -> Vec<u128> {
        let mut ids = Vec::new();
        while let Some(due) = outstanding.next(&name(registry), now) {
            ids.push(due.grant.id.0);
        }
        ids
    }

    #[test]
    fn a_credential_ends_at_its_granted_end_and_not_before() {
        let outstanding = Outstanding::default();
        for (id, end) in [(1, 60), (2, 30), (3, 90)] {
            outstanding.recovered(past(id, "prod", EndedBy::Broker, end), at(0));
        }
        assert!(outstanding.workers(at(29)).is_empty());
        assert_eq!(outstanding.workers(at(60)), [name("prod"), name("prod")]);
        assert_eq!(ids(&outstanding, "prod", at(60)), [2, 1]);
        let counts = outstanding.counts(at(60));
        assert_eq!(counts, OutstandingCounts { credentials: 3, overdue: 2 });
        for id in [1, 2] {
            outstanding.ended(&grant(id, "prod"), &Revoked::Ended, at(61));
        }
        assert_eq!(outstanding.counts(at(61)).credentials, 1);
    }

    #[test]
    fn what_the_registry_ends_is_forgotten_then() {
        let outstanding = Outstanding::default();
        outstanding.recovered(past(1, "prod", EndedBy::Registry, 60), at(0));
        assert!(outstanding.workers(at(59)).is_empty());
        assert_eq!(outstanding.counts(at(59)).credentials, 1);
        assert!(outstanding.workers(at(60)).is_empty());
        assert_eq!(outstanding.counts(at(60)), OutstandingCounts::default());
    }

    #[test]
    fn a_registry_that_is_away_is_asked_by_one_and_others_go_on() {
        let outstanding = Outstanding::default();
        for id in 0..20 {
            outstanding.recovered(past(id, "away", EndedBy::Broker, 0), at(0));
            outstanding.recovered(past(100 + id, "prod", EndedBy::Broker, 0), at(0));
        }
        let mut workers = outstanding.workers(at(0));
        workers.sort();
        assert_eq!(workers.len(), 2 * AT_ONCE);
        let due = outstanding.next(&name("away"), at(0)).unwrap();
        outstanding.ended(&due.grant, &Revoked::Later(None), at(0));
        // The other workers of this registry stop.
        assert_eq!(ids(&outstanding, "away", at(0)), [0_u128; 0]);
        assert_eq!(ids(&outstanding, "prod", at(0)).len(), 20);
        for _ in 1..AT_ONCE {
            assert!(outstanding.next(&name("away"), at(0)).is_none());
        }
        assert_eq!(outstanding.workers(at(1)), [name("away")]);
        let mut pauses = Vec::new();
        let mut now = 1;
        for _ in 0..8 {
            let due = outstanding.next(&name("away"), at(now)).unwrap();
            outstanding.ended(&due.grant, &Revoked::Later(None), at(now));
            assert!(outstanding.next(&name("away"), at(now)).is_none());
            let until =
                (now..now + 99).find(|next| !outstanding.workers(at(*next)).is_empty()).unwrap();
            pauses.push(until - now);
            now = until;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30, 30]);
        let due = outstanding.next(&name("away"), at(now)).unwrap();
        outstanding.ended(&due.grant, &Revoked::Ended, at(now));
        assert_eq!(outstanding.workers(at(now)).len(), AT_ONCE - 1);
    }

    #[test]
    fn a_refusal_is_repeated_for_that_credential_alone() {
        let outstanding = Outstanding::default();
        for id in [1, 2] {
            outstanding.recovered(past(id, "prod", EndedBy::Broker, 0), at(0));
        }
        assert_eq!(outstanding.workers(at(0)).len(), 2);
        let due = outstanding.next(&name("prod"), at(0)).unwrap();
        outstanding.ended(&due.grant, &Revoked::Denied, at(0));
        assert_eq!(ids(&outstanding, "prod", at(0)), [2]);
        assert_eq!(outstanding.next(&name("prod"), at(1)).unwrap().attempt, 2);
    }

    #[test]
    fn what_should_have_ended_is_recorded_again_twice_a_day() {
        let outstanding = Outstanding::default();
        outstanding.recovered(past(1, "gone", EndedBy::Broker, 0), at(0));
        outstanding.recovered(past(2, "gone", EndedBy::Broker, 100_000), at(0));
        let again = |hours: i64| outstanding.not_recorded_since_long(at(hours * 3600)).len();
        assert_eq!(
            [again(1), again(12), again(13), again(14), again(25), again(26)],
            [0, 0, 1, 0, 0, 1]
        );
    }
}
