//! What a flight does: it asks the other brokers, waits for its turn, and mints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{FlightResult, Landed, RECORDS};
use crate::domain::{Credentials, Deadline};
use crate::issue::breaker::Breaker;
use crate::issue::failures::shortened;
use crate::issue::key::{CredentialKey, MintKey};
use crate::issue::minted::Minted;
use crate::issue::outcome::MintOutcome;
use crate::issue::queue::Queued;
use crate::issue::shared::{Found, SharedMints, Wanted};
use crate::issue::{CredentialSource, FailedMint, IssueError, Issuing, Leftover, mint};
use crate::limits::{Place, RegistryLimit};
use crate::registries::Registry;
use crate::rules::Grant;
use crate::telemetry::Step;

/// Everything that a flight needs.
pub(super) struct Work {
    pub(super) grant: Arc<Grant>,
    pub(super) registry: Arc<Registry>,
    pub(super) calls: Arc<RegistryLimit>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) queued: Queued,
    pub(super) outcome: Arc<MintOutcome>,
    pub(super) key: MintKey,
    /// Whether there is a credential, and this flight renews it.
    pub(super) renews: bool,
    /// How long the mint of another broker is waited for.
    pub(super) longest: Duration,
}

impl Issuing {
    /// Steps 3 to 6.
    pub(super) async fn fly(&self, work: Work) -> FlightResult {
        let (outcome, key) = (Arc::clone(&work.outcome), work.key.credential.clone());
        let (result, left) = self.find_or_mint(work).await;
        outcome.ended(&result);
        match &result {
            Ok(landed) => self.0.cache.keep(key, Arc::clone(&landed.minted)),
            Err(error) => self.0.failures.remember(key, error, left),
        }
        result
    }

    /// Also returns for how long a failure is remembered, if another broker knows that.
    async fn find_or_mint(&self, work: Work) -> (FlightResult, Option<Duration>) {
        let Some(together) = self.together(&work.key.credential) else {
            return (self.mint(work).await.map(Landed::minted), None);
        };
        let Work { registry, grant, renews, longest, .. } = &work;
        let wanted = Wanted { registry, grant, renews: *renews, longest: *longest };
        match together.find(&work.key, wanted).await {
            Found::Kept { minted, has_waited } => {
                let source =
                    if has_waited { CredentialSource::Shared } else { CredentialSource::Cached };
                (Ok(Landed { minted: Arc::new(minted), source }), None)
            }
            Found::Failed(error, left) => {
                self.0.metrics.remembered_failure(work.registry.name.as_str());
                (Err(shortened(error, left)), Some(left))
            }
            Found::Lead(lead) => {
                let registry = Arc::clone(registry);
                let result = self.mint(work).await;
                if result.as_ref().map_or(true, |minted| self.is_for_others(minted, &registry)) {
                    together.publish(lead, &result).await;
                }
                (result.map(Landed::minted), None)
            }
            Found::Alone => (self.mint(work).await.map(Landed::minted), None),
        }
    }

    /// The brokers that mint together with this one, if credentials of `key` are for all of them.
    pub(super) fn together(&self, key: &CredentialKey) -> Option<&SharedMints> {
        self.0.shared.as_ref().filter(|_| key.is_shared())
    }

    /// Whether other brokers may answer with it: not if somebody can end it, and they do not know
    /// of it.
    fn is_for_others(&self, minted: &Minted, registry: &Registry) -> bool {
        let outstanding = &self.0.outstanding;
        if !minted.is_endable(registry) {
            return true;
        }
        let is_listed = outstanding.is_listed(minted.by);
        if is_listed {
            outstanding.set_published(minted.by);
        }
        is_listed
    }

    /// Steps 3 to 5. A failure is recorded if the intent was.
    async fn mint(&self, work: Work) -> Result<Arc<Minted>, IssueError> {
        let Work { grant, registry, calls, breaker, queued, outcome, key, .. } = work;
        breaker.check().await?;
        let turn = calls.take_turn().await?;
        queued.until(turn.moment);
        // A registry that turns out to be down is not waited for. The turn goes to somebody else.
        let place = tokio::select! {
            biased;
            left_alone = breaker.opens() => return Err(left_alone),
            place = turn.place() => place?,
        };
        drop(queued);
        let attempt = breaker.begin().await?;
        let facts = registry.provider_facts();
        if registry.revokes() && self.0.outstanding.is_full() {
            return Err(IssueError::OutstandingFull);
        }
        outcome.is_due(&self.0.minting);
        self.0.audit.intent(&grant, facts).await?;
        let started = Instant::now();
        let returned = match self.prepare(&registry, &grant).await {
            Ok(()) => self.call(&registry, &grant, &place).await,
            Err(error) => Err(FailedMint { error, leftover: Leftover::Nothing }),
        };
        let (returned, leftover) = match returned {
            Ok(credentials) => (Ok(credentials), Leftover::Nothing),
            Err(FailedMint { error, leftover }) => (Err(error), leftover),
        };
        attempt.end(&returned).await;
        let took = started.elapsed();
        let label = returned.as_ref().err().map_or("ok", |error| error.problem_type().slug());
        self.0.metrics.mint(registry.name.as_str(), label);
        match returned {
            Ok(credentials) => {
                let facts = (registry.denials().is_some(), self.0.clock.now());
                self.0.outstanding.minted(&grant, &credentials, key.credential, facts);
                self.tell_others(grant.id()).await;
                Ok(Arc::new(Minted {
                    credentials: Arc::new(credentials),
                    by: grant.id(),
                    at: self.0.clock.now(),
                    lifetime: grant.lifetime(),
                    took,
                    is_ours: true,
                }))
            }
            Err(error) => {
                self.clean_up(&registry, &grant, leftover).await?;
                self.record_failure(&grant, &registry, &error, took).await?;
                Err(error)
            }
        }
    }

    /// The place is held until the mint has ended.
    async fn call(
        &self,
        registry: &Registry,
        grant: &Arc<Grant>,
        _place: &Place,
    ) -> Result<Credentials, FailedMint> {
        // The provider's own limit of time ends it sooner.
        let deadline = Deadline::after(registry.provider.guest.limits.wall + RECORDS);
        let minting = mint(registry, grant, deadline, &self.0.clock);
        Step::Provider.measure(&self.0.metrics, minting).await
    }
}

impl Landed {
    fn minted(minted: Arc<Minted>) -> Self {
        Self { minted, source: CredentialSource::Minted }
    }
}
