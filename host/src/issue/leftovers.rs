//! Leftovers: credentials at a registry that the broker has no record of, because its audit log was
//! lost or comes from a backup. Providers find them by their names, which have the ids of grants.
//!
//! A name does not say which broker made the credential. So a leftover is what no broker can have
//! out any more, by the age of its id: `judge` decides that, and not the provider. A provider that
//! lies gets nothing ended in this way that a caller of any broker could still use.
//!
//! **Invariant:** without the word of an operator, the search changes nothing: the provider is
//! called to read alone.

mod judge;
mod searches;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::{EndRequest, IssueError, Issuing, error};
use crate::audit::{RevocationFacts, RevocationRequestFacts, Revoker};
use crate::capability::wit::leftovers::exports::rise::registry::leftovers::Leftover;
use crate::capability::wit::rise::registry::types::Error;
use crate::config::LeftoverPolicy;
use crate::domain::{Deadline, RevocationCause};
use crate::provider::{EndLeftoverCall, FindLeftoversCall, Finished};
use crate::registries::{Registries, Registry};
use judge::judge;
pub(super) use searches::LeftoverSearches;

/// For one search with everything that it ends. The next one goes on.
const LONGEST_SEARCH: Duration = Duration::from_mins(5);

/// A credential at a registry that nobody can have out any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundLeftover {
    /// The request that it was minted for.
    pub id: Ulid,
    /// By which its provider finds it again.
    pub note: String,
}

impl FoundLeftover {
    /// When that request was.
    pub fn made_at(&self) -> Option<Timestamp> {
        let milliseconds = i64::try_from(self.id.timestamp_ms()).ok()?;
        Timestamp::from_millisecond(milliseconds).ok()
    }
}

impl Issuing {
    /// Looks for leftovers in the registries whose turn it is. Call it every few seconds.
    pub fn look_for_leftovers(&self, registries: &Registries) {
        for registry in self.0.leftovers.start_due(registries, self.0.clock.now()) {
            let issuing = self.clone();
            tokio::spawn(async move { issuing.search(&registry).await });
        }
    }

    /// How many leftovers each registry had when it was last asked, for metrics.
    pub fn leftovers(&self, registry: &Registry) -> Option<usize> {
        self.0.leftovers.found(&registry.name)
    }

    async fn search(&self, registry: &Arc<Registry>) {
        match self.find_leftovers(registry).await {
            Ok(found) if registry.leftovers == LeftoverPolicy::End => {
                self.end_leftovers(registry, found.unwrap_or_default(), None).await;
            }
            Ok(found) => report(registry, &found.unwrap_or_default()),
            Err(error) => tracing::warn!(
                registry = %registry.name,
                cause = %error,
                "cannot look for credentials without a record; the broker tries again"
            ),
        }
    }

    /// The leftovers of one registry, the oldest first. `None`: with its settings, the registry
    /// cannot list credentials.
    pub async fn find_leftovers(
        &self,
        registry: &Registry,
    ) -> Result<Option<Vec<FoundLeftover>>, IssueError> {
        let call = FindLeftoversCall { settings: Arc::clone(&registry.settings) };
        let deadline = Deadline::after(registry.provider.guest.limits.wall);
        let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
        let Finished { value, state } = called?;
        let listed = match value {
            Ok(listed) => listed,
            Err(Error::Unsupported(_)) => {
                self.0.leftovers.has(registry, None, self.0.clock.now());
                return Ok(None);
            }
            Err(error) => return Err(error::returned(error, &state)),
        };
        let is_known = |id| self.0.outstanding.has(id);
        let judged = judge(listed, &state, self.0.clock.now(), is_known);
        if let Some(wrong) = judged.wrong {
            tracing::warn!(
                registry = %registry.name,
                wrong,
                ignored = judged.ignored,
                "a provider listed what cannot be a leftover; report it to the provider's author"
            );
        }
        self.0.leftovers.has(registry, Some(judged.leftovers.len()), self.0.clock.now());
        Ok(Some(judged.leftovers))
    }

    /// Ends leftovers, one after the other, until the registry fails or the time is up. `by`: an
    /// operator who asked for it.
    async fn end_leftovers(
        &self,
        registry: &Registry,
        leftovers: Vec<FoundLeftover>,
        by: Option<&Revoker>,
    ) {
        let deadline = Deadline::after(LONGEST_SEARCH);
        let all = leftovers.len();
        let mut ended = 0;
        for leftover in leftovers {
            let id = leftover.id;
            match self.end_leftover(registry, leftover, by).await {
                Ok(()) => ended += 1,
                Err(error) => {
                    tracing::warn!(
                        registry = %registry.name,
                        minted_by = %id,
                        cause = %error,
                        "a leftover could not be ended"
                    );
                    if error.is_temporary() || matches!(error, IssueError::Audit(_)) {
                        break;
                    }
                }
            }
            if deadline.remaining().is_zero() {
                break;
            }
        }
        if all > 0 {
            tracing::info!(registry = %registry.name, ended, left = all - ended, "ended leftovers");
        }
        self.0.leftovers.has(registry, Some(all - ended), self.0.clock.now());
    }

    async fn end_leftover(
        &self,
        registry: &Registry,
        leftover: FoundLeftover,
        by: Option<&Revoker>,
    ) -> Result<(), IssueError> {
        let FoundLeftover { id, note } = leftover;
        let (of, provider) = ((&registry.name, id), registry.provider_facts());
        let cause = RevocationCause::Leftover;
        let facts = RevocationFacts { cause, remembered: Some(&note), attempt: 1, by };
        self.0.audit.leftover_intent(of, provider, &facts).await?;
        let ended = self.call_end(registry, id, note.clone()).await;
        let problem = ended.as_ref().err().map(IssueError::problem_type);
        self.0.audit.leftover_outcome(of, provider, &facts, problem);
        let label = problem.map_or("ok", |problem| problem.slug());
        self.0.metrics.revocation(registry.name.as_str(), cause.as_str(), label);
        ended
    }

    async fn call_end(
        &self,
        registry: &Registry,
        id: Ulid,
        note: String,
    ) -> Result<(), IssueError> {
        let leftover = Leftover { id: id.to_string(), note };
        let call = EndLeftoverCall { settings: Arc::clone(&registry.settings), leftover };
        let deadline = Deadline::after(registry.provider.guest.limits.wall);
        let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
        let Finished { value, state } = called?;
        value.map_err(|error| error::returned(error, &state))
    }

    /// An operator ends the leftovers that were found. Returns when that is recorded; the broker
    /// ends them one after the other.
    pub async fn end_found(
        &self,
        found: Vec<(Arc<Registry>, Vec<FoundLeftover>)>,
        asked: &EndRequest<'_>,
        registry: Option<&str>,
    ) -> Result<(), IssueError> {
        let credentials = found.iter().map(|(_, leftovers)| leftovers.len()).sum();
        let by = (asked.id, asked.client, asked.subject);
        let facts = RevocationRequestFacts {
            registry,
            credentials,
            leftovers: true,
            ..RevocationRequestFacts::default()
        };
        self.0.audit.revoke_requested(by, &facts).await?;
        for (registry, leftovers) in found {
            let (issuing, by) = (self.clone(), asked.revoker());
            tokio::spawn(async move {
                issuing.end_leftovers(&registry, leftovers, Some(&by)).await;
            });
        }
        Ok(())
    }
}

fn report(registry: &Registry, found: &[FoundLeftover]) {
    let Some(oldest) = found.first() else { return };
    tracing::warn!(
        registry = %registry.name,
        leftovers = found.len(),
        oldest = oldest.made_at().map(tracing::field::display),
        "the registry has credentials that are of no record and too old to be in use: list them \
         with `rise-broker revoke --leftovers --dry-run`, and end them without `--dry-run`, or \
         always with `leftovers = \"end\"`"
    );
}
