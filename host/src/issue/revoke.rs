//! The end of credentials at their registry: at the end of what was granted, or when somebody wants
//! it sooner (`end_early`).
//!
//! **Invariant:** the provider is called after `revoke.intent` is durable, and a credential whose
//! end is not recorded is ended again.

use std::sync::Arc;
use std::time::Duration;

use ulid::Ulid;

use super::mint::Leftover;
use super::outstanding::{DueRevocation, OutstandingCounts, Revoked};
use super::shared_outstanding::Claimed;
use super::{IssueError, Issuing, error};
use crate::audit::{PastIssue, RevocationFacts};
use crate::config::Share;
use crate::domain::{Deadline, RegistryName, RevocationCause};
use crate::provider::{Finished, RevokeCall};
use crate::registries::{Registries, Registry};
use crate::rules::{Grant, GrantView, PastGrant};

/// For the records of a revocation, beside what the provider may take.
const RECORDS: Duration = Duration::from_secs(2);
/// When this broker asks again for a credential that another one ends, in seconds.
const ELSEWHERE: i64 = 10;
/// After so many failures others may try: perhaps they reach the registry.
const MOST_ATTEMPTS: u32 = 4;

impl Issuing {
    /// Starts the revocations that are due. Call it every second.
    pub fn end_due(&self, registries: &Registries) {
        for name in self.0.outstanding.workers(self.0.clock.now()) {
            let (issuing, registry) = (self.clone(), registries.find(&name).cloned());
            tokio::spawn(async move { issuing.end_all_due(&name, registry).await });
        }
    }

    /// Puts what the audit log of an earlier process has on the list.
    pub fn recover(&self, past: Vec<PastIssue>, registries: &Registries) {
        let now = self.0.clock.now();
        let ends = |past: &PastIssue| {
            let registry = registries.find(&past.grant.registry);
            !past.is_session || registry.is_some_and(|registry| registry.denials().is_some())
        };
        for past in past.into_iter().filter(ends) {
            let id = past.grant.id;
            let registry = registries.find(&past.grant.registry);
            self.0.outstanding.recovered(past, now);
            if registry.is_none_or(|registry| registry.share != Share::Off) {
                self.0.outstanding.set_published(id);
            }
        }
    }

    /// Keeps the policies in order by which sessions in AWS are denied. Call it every minute.
    pub fn sweep_denials(&self, registries: &Registries) {
        for registry in registries.iter().filter(|registry| registry.denials().is_some()) {
            let (issuing, registry) = (self.clone(), Arc::clone(registry));
            tokio::spawn(async move {
                let Some(aws) = &registry.capabilities.aws else { return };
                if let Err(error) = aws.sweep_denials(issuing.0.clock.now()).await {
                    tracing::warn!(
                        registry = %registry.name,
                        %error,
                        "the policy that denies revoked sessions cannot be kept in order; \
                         revocations of this registry fail as well"
                    );
                }
            });
        }
    }

    /// Records again what should have ended long ago, so that the next start finds it.
    pub async fn record_overdue(&self, registries: &Registries) {
        for due in self.0.outstanding.not_recorded_since_long(self.0.clock.now()) {
            let DueRevocation { grant, note, cause, by, attempt, .. } = &due;
            let Some(registry) = registries.find(&grant.registry) else { continue };
            let (remembered, by) = (note.as_deref(), by.as_ref());
            let facts = RevocationFacts { cause: *cause, remembered, attempt: *attempt, by };
            let (grant, provider) = (grant.revived(), registry.provider_facts());
            if let Err(error) = self.0.audit.revoke_intent(&grant, provider, &facts).await {
                tracing::warn!(%error, "a credential that should have ended is not recorded again");
            }
        }
    }

    pub fn outstanding(&self) -> OutstandingCounts {
        self.0.outstanding.counts(self.0.clock.now())
    }

    /// One worker: ends one credential after the other.
    async fn end_all_due(&self, name: &RegistryName, registry: Option<Arc<Registry>>) {
        while let Some(due) = self.0.outstanding.next(name, self.0.clock.now()) {
            let grant = due.grant.clone();
            let outcome = if let Some(registry) = registry.clone() {
                // A task of its own: if it panics, the credential is ended later.
                let issuing = self.clone();
                let ending = tokio::spawn(async move { issuing.end(&registry, &due).await });
                ending.await.unwrap_or(Revoked::Later(None))
            } else {
                tracing::error!(
                    registry = %name,
                    minted_by = %grant.id,
                    "a credential cannot be ended: its registry is not in the settings any more; \
                     add it again, or end the credential by hand (`audit query --json --minted-by` \
                     shows what its provider remembered) and say so: `rise-broker revoke --gone \
                     --of-request` with the id in `minted_by`"
                );
                self.leave_to_others(grant.id).await;
                Revoked::Denied
            };
            self.0.outstanding.ended(&grant, &outcome, self.0.clock.now());
        }
        self.0.outstanding.worker_ends(name);
    }

    /// Ends a credential, unless another broker does.
    async fn end(&self, registry: &Arc<Registry>, due: &DueRevocation) -> Revoked {
        let Some(list) = &self.0.together else { return self.end_here(registry, due).await };
        let (id, ends) = (due.grant.id, due.ends);
        let tries = registry.provider.guest.limits.wall + RECORDS * 2;
        match list.claim(id, due.cause, (ends, tries)).await {
            // While the store is away, each broker ends what is on its list.
            Ok(Claimed::Ours) | Err(_) => {}
            Ok(Claimed::Theirs) => return Revoked::Elsewhere(ELSEWHERE),
            Ok(Claimed::Busy) => return Revoked::Elsewhere(1),
            Ok(Claimed::Ended) => return Revoked::EndedElsewhere,
        }
        let revoked = self.end_here(registry, due).await;
        let others = match &revoked {
            Revoked::Ended if due.is_settled => {
                list.finish(id, ends).await;
                return revoked;
            }
            Revoked::Ended => false,
            Revoked::Later(_)
            | Revoked::Denied
            | Revoked::Elsewhere(_)
            | Revoked::EndedElsewhere => due.attempt >= MOST_ATTEMPTS,
        };
        // If this fails, others try in vain, or a little later.
        let _ = list.pause(id, others).await;
        revoked
    }

    async fn end_here(&self, registry: &Arc<Registry>, due: &DueRevocation) -> Revoked {
        let DueRevocation { grant, note, is_session, cause, by, attempt, is_settled, .. } = due;
        let revived = grant.revived();
        let (remembered, by) = (note.as_deref(), by.as_ref());
        let facts = RevocationFacts { cause: *cause, remembered, attempt: *attempt, by };
        let cause = cause.as_str();
        let provider = registry.provider_facts();
        if let Err(error) = self.0.audit.revoke_intent(&revived, provider, &facts).await {
            tracing::warn!(%error, "a credential is not ended before its record can be written");
            return Revoked::Later(None);
        }
        let called = if *is_session {
            self.deny_session(registry, &revived).await
        } else {
            self.call_revoke(registry, &revived, note.clone()).await
        };
        let failed = called.as_ref().err();
        let problem = failed.map(IssueError::problem_type);
        if *is_settled || problem.is_some() {
            self.0.audit.revoke_outcome(&revived, provider, &facts, problem);
        }
        let label = problem.map_or("ok", |problem| problem.slug());
        self.0.metrics.revocation(registry.name.as_str(), cause, label);
        let Some(error) = failed else {
            if !is_settled {
                // The registry may make it yet: it is asked once more.
                return Revoked::Ended;
            }
            tracing::info!(
                registry = %registry.name,
                project = %grant.project,
                minted_by = %grant.id,
                cause,
                "ended a credential"
            );
            return Revoked::Ended;
        };
        tracing::warn!(
            registry = %registry.name,
            project = %grant.project,
            minted_by = %grant.id,
            problem = label,
            cause = %error,
            attempt,
            "a credential could not be ended; the broker tries again"
        );
        if let IssueError::UpstreamThrottled(pause) = error {
            Revoked::Later(*pause)
        } else if error.is_temporary() {
            Revoked::Later(None)
        } else {
            Revoked::Denied
        }
    }

    async fn leave_to_others(&self, id: Ulid) {
        if let Some(list) = &self.0.together {
            let _ = list.pause(id, true).await;
        }
    }

    async fn deny_session(&self, registry: &Registry, grant: &Grant) -> Result<(), IssueError> {
        let Some(aws) = &registry.capabilities.aws else {
            return Err(IssueError::Internal("a session without AWS".to_owned()));
        };
        Ok(aws.deny(grant.id(), self.0.clock.now()).await?)
    }

    async fn call_revoke(
        &self,
        registry: &Registry,
        grant: &GrantView,
        note: Option<String>,
    ) -> Result<(), IssueError> {
        let settings = Arc::clone(&registry.settings);
        let call = RevokeCall { settings, grant: grant.clone(), note };
        let deadline = Deadline::after(registry.provider.guest.limits.wall + RECORDS);
        let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
        let Finished { value, state } = called?;
        value.map_err(|error| error::returned(error, &state))
    }

    /// A mint failed. What it may have left at the registry ends as soon as possible.
    pub(super) async fn clean_up(
        &self,
        registry: &Registry,
        grant: &Grant,
        leftover: Leftover,
    ) -> Result<(), IssueError> {
        let note = match leftover {
            Leftover::Nothing => return Ok(()),
            Leftover::Unknown => None,
            Leftover::Noted(note) => Some(note),
        };
        let (cause, remembered) = (RevocationCause::NotIssued, note.as_deref());
        let facts = RevocationFacts { cause, remembered, attempt: 0, by: None };
        // Before `issue.failed`, so that a start after a crash knows of it.
        let recorded = self.0.audit.revoke_intent(grant, registry.provider_facts(), &facts).await;
        self.0.outstanding.not_issued(PastGrant::of(grant), note, self.0.clock.now());
        Ok(recorded?)
    }
}
