//! A grant becomes a credential.
//!
//! [`Issuing::issue`] answers one order, in this order:
//!
//! 1. look for a kept credential that is still good for it (`cache`, `minted`);
//! 2. join the mint that is under way for the same [`key`], or start one (`flight`), unless another
//!    broker has one or is minting it (`shared`);
//! 3. the mint waits for its turn and a place at the registry, unless the registry is down
//!    (`breaker`) or the same mint failed a moment ago (`failures`);
//! 4. record the intent, if the provider can reach anything outside;
//! 5. look after the repository (`repository`), call the provider, and verify what it returns
//!    ([`mint`]);
//! 6. keep the credential;
//! 7. record the outcome, durable before the credential leaves.
//!
//! `outstanding` lists what the broker can end, `revoke` ends it at its time, and `end_early`
//! sooner. Brokers do that for each other (`together`) by a list that they share
//! (`shared_outstanding`). What is minted before a repository is retired is not handed out after it
//! (`tenure`). `leftovers` finds what the list should have and has not.
//! [`Issuing::repository`] does what a caller asks for with the repository itself.
//!
//! Steps 3 to 6 happen once for all orders that wait for them, as a task of its own: a caller that
//! leaves changes nothing. Step 7 happens for each answer.
//!
//! **Invariant (I6):** authorization comes first: an [`Order`] holds an [`Admitted`], and that a
//! grant.
//! **Invariant:** an intent has an outcome: `outcome` records a credential that was minted for a
//! caller who has gone.

mod access;
mod breaker;
mod breakers;
mod cache;
mod end_early;
mod ended;
mod error;
mod failures;
mod flight;
mod key;
mod leftovers;
mod mint;
mod minted;
mod outcome;
mod outstanding;
mod queue;
mod repository;
mod revoke;
mod shared;
mod shared_outstanding;
mod tenure;
mod together;
mod token;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tracing::Span;
use ulid::Ulid;

use crate::audit::{Audit, Delivery};
use crate::config::CacheConfig;
use crate::domain::{Clock, Credentials, Deadline};
use crate::flight::Flights;
use crate::identity::{Replayed, Reservation};
use crate::limits::{Admitted, RegistryLimit};
use crate::registries::{Registries, Registry};
use crate::rules::Grant;
use crate::shared::Shared;
use crate::telemetry::{Metrics, actions_label, traces};
use breakers::Breakers;
pub use cache::CacheUse;
use cache::CredentialCache;
pub use end_early::{EndRequest, EndedEarly};
pub use error::IssueError;
use failures::RememberedFailures;
use flight::{FailedWait, FlightResult};
use key::{CredentialKey, MintKey};
pub use leftovers::FoundLeftover;
use leftovers::LeftoverSearches;
pub use mint::{FailedMint, Leftover, mint};
use minted::{Minted, Reuse};
use outcome::MintOutcome;
use outstanding::Outstanding;
pub use outstanding::{OutstandingCounts, OutstandingView, Selection};
use queue::Queue;
pub use repository::{RepositoryConflict, manage};
use repository::{RepositoryKey, RepositoryResult};
use shared::SharedMints;
use shared_outstanding::SharedOutstanding;
pub use tenure::Tenures;
pub use token::{GrantedScope, IssuedToken, TokenBasis, TokenOrder};

/// The part of a request's time that is kept for the record and the answer.
const RESERVE: Duration = Duration::from_millis(300);
/// How often an order asks for a credential that is revoked before it has it.
const MOST_TRIES: usize = 3;

/// What it takes to answer grants, for as long as the process lives.
#[derive(Clone)]
pub struct Issuing(Arc<IssuingState>);

struct IssuingState {
    clock: Clock,
    audit: Audit,
    metrics: Metrics,
    cache: CredentialCache,
    failures: RememberedFailures,
    breakers: Breakers,
    queue: Queue,
    flights: Flights<MintKey, FlightResult>,
    /// `None`: this broker shares nothing with others.
    shared: Option<SharedMints>,
    /// Of managed repositories. `None`: this broker shares nothing.
    tenures: Option<Tenures>,
    repositories: Flights<RepositoryKey, RepositoryResult>,
    /// The same for requests of callers, which wait for their turn first.
    repository_requests: Flights<RepositoryKey, RepositoryResult>,
    /// What the broker can end, and what is due.
    outstanding: Outstanding,
    /// What has no record, as it was last found at the registries.
    leftovers: LeftoverSearches,
    /// What all brokers together can end. `None`: this broker shares nothing.
    together: Option<Arc<SharedOutstanding>>,
    /// Reads of the audit log for callers who give something back.
    lookups: Arc<Semaphore>,
    /// Held by the outcome of each mint from its intent on.
    minting: Arc<()>,
}

/// One grant that waits for its credential.
pub struct Order {
    pub admitted: Admitted,
    /// The grant's registry, and the limit of its calls.
    pub registry: Arc<Registry>,
    pub calls: Arc<RegistryLimit>,
    /// The caller's token, if it is good for one credential only.
    pub token: Reservation,
    pub deadline: Deadline,
}

/// The answer to one order. Its record is durable.
pub struct Issued {
    pub credentials: Arc<Credentials>,
    pub source: CredentialSource,
    /// The request that the credential was minted for.
    pub minted_by: Ulid,
    /// From when on the caller should ask again. `None` if the credential does not end.
    pub refresh_after: Option<Timestamp>,
}

/// How an order got its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A provider call made it for this order.
    Minted,
    /// A provider call that was under way made it for another order.
    Shared,
    /// It was kept.
    Cached,
}

/// A credential for one order.
struct FoundCredential {
    minted: Arc<Minted>,
    source: CredentialSource,
    /// The outcome of the mint, if it was started for this order.
    outcome: Option<Arc<MintOutcome>>,
}

impl CredentialSource {
    /// The word for it in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minted => "minted",
            Self::Shared => "shared",
            Self::Cached => "cached",
        }
    }
}

impl Issuing {
    pub(crate) fn new(
        (clock, metrics): (Clock, Metrics),
        audit: Audit,
        cache: CacheConfig,
        shared: Option<&Arc<Shared>>,
    ) -> Self {
        let together = shared.map(|shared| Arc::new(SharedOutstanding::new(shared)));
        Self(Arc::new(IssuingState {
            shared: shared.zip(together.as_ref()).map(SharedMints::new),
            tenures: shared.map(Tenures::new),
            cache: CredentialCache::new(cache),
            failures: RememberedFailures::new(cache.entries, clock.clone()),
            breakers: Breakers::new(shared),
            queue: Queue::default(),
            flights: Flights::default(),
            repositories: Flights::default(),
            repository_requests: Flights::default(),
            outstanding: Outstanding::default(),
            leftovers: LeftoverSearches::default(),
            together,
            lookups: Arc::new(Semaphore::new(1)),
            minting: Arc::default(),
            clock,
            audit,
            metrics,
        }))
    }

    /// Answers `order` with a credential whose record is durable.
    pub async fn issue(&self, order: Order) -> Result<Issued, IssueError> {
        let grant = Arc::clone(order.admitted.grant());
        if grant.actions().is_empty() {
            let message = "a grant for a repository where one for credentials is needed";
            return Err(IssueError::Internal(message.to_owned()));
        }
        let actions = actions_label(Some(grant.actions()));
        let (span, facts) = (Span::current(), order.registry.provider_facts());
        tracing::record_all!(span, actions = actions, provider = facts.name, digest = facts.digest);
        traces::about(&[("rise.actions", actions), ("rise.provider", facts.name)]);
        let issued = match self.find_held(&order).await {
            Ok(found) => self.hand_over(order, found).await,
            Err(error) => {
                order.token.release().await;
                Err(error)
            }
        };
        let outcome = issued.as_ref().err().map_or("ok", |error| error.problem_type().slug());
        self.0.metrics.credentials(grant.registry().as_str(), actions, outcome);
        issued
    }

    /// Records that a request was granted and its token used before.
    pub async fn reject_replay(
        &self,
        grant: &Grant,
        registry: &Registry,
        replayed: Replayed,
    ) -> IssueError {
        let error = IssueError::Replayed(replayed);
        let recorded = self.record_failure(grant, registry, &error, Duration::ZERO).await;
        recorded.err().unwrap_or(error)
    }

    /// From now on only credentials of these registries are kept, and only their breakers.
    pub(crate) fn serve(&self, registries: &Registries) {
        let epochs = registries.iter().map(|registry| registry.epoch).collect();
        self.0.breakers.keep_only(registries);
        self.0.cache.keep_only(epochs);
    }

    /// Waits until each mint whose intent is recorded has its outcome, also if its caller is gone,
    /// but not past `deadline`.
    pub(crate) async fn finish(&self, deadline: Deadline) {
        while Arc::strong_count(&self.0.minting) > 1 && !deadline.remaining().is_zero() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Wipes what has expired. Otherwise that happens with the next requests.
    pub fn sweep(&self) {
        self.0.cache.sweep();
    }

    /// Whether no mint waits for its turn or is under way.
    pub fn is_idle(&self) -> bool {
        self.0.flights.is_empty()
    }

    pub fn cache_use(&self) -> CacheUse {
        self.0.cache.used()
    }

    /// For how long the registry is left alone because it does not answer or asked for a pause.
    pub fn left_alone(&self, registry: &Registry) -> Option<Duration> {
        self.0.breakers.find(registry)?.left_alone()
    }

    /// Steps 1 to 6. What is about to end is not handed out: it may have been revoked meanwhile.
    async fn find_held(&self, order: &Order) -> Result<FoundCredential, IssueError> {
        let grant = order.admitted.grant();
        let key = self.key(order).await;
        for _ in 0..MOST_TRIES {
            let found = self.find(order, key.clone()).await?;
            if self.hold(&found.minted, grant, &order.registry).await {
                return Ok(found);
            }
            self.0.cache.forget(&key, found.minted.by);
        }
        Err(IssueError::UpstreamUnavailable("each new credential was revoked at once".to_owned()))
    }

    async fn key(&self, order: &Order) -> CredentialKey {
        let registry = &order.registry;
        let key = CredentialKey::new(order.admitted.grant(), registry.epoch, registry.share);
        match &self.0.tenures {
            Some(tenures) if key.is_shared() && registry.repositories.is_some() => {
                let tenure = tenures.of(&key.place()).await;
                key.of_tenure(tenure)
            }
            Some(_) | None => key,
        }
    }

    /// Steps 1 to 6.
    async fn find(&self, order: &Order, key: CredentialKey) -> Result<FoundCredential, IssueError> {
        self.0.audit.check()?;
        let grant = order.admitted.grant();
        let Some((minted, reuse)) = self.reusable(&key, grant) else {
            return self.minted(order, key).await;
        };
        match reuse {
            Reuse::Fresh => Ok(self.cached(minted)),
            Reuse::Renewing => {
                self.renew(order, key);
                Ok(self.cached(minted))
            }
            Reuse::Late => {
                let found = self.wait_for_mint(order, key).await;
                let now = self.0.clock.now();
                let is_good = minted.reuse(grant.lifetime(), now) != Reuse::Unusable;
                match found {
                    Err(failed) if failed.error.is_temporary() && is_good => {
                        Ok(self.cached(minted))
                    }
                    found => found.map_err(FailedWait::into_answer),
                }
            }
            Reuse::Unusable => self.minted(order, key).await,
        }
    }

    /// Steps 3 to 6 for an order that nothing else can answer.
    async fn minted(
        &self,
        order: &Order,
        key: CredentialKey,
    ) -> Result<FoundCredential, IssueError> {
        self.wait_for_mint(order, key).await.map_err(FailedWait::into_answer)
    }

    fn reusable(&self, key: &CredentialKey, grant: &Grant) -> Option<(Arc<Minted>, Reuse)> {
        let minted = self.0.cache.find(key)?;
        let reuse = minted.reuse(grant.lifetime(), self.0.clock.now());
        Some((minted, reuse))
    }

    fn cached(&self, minted: Arc<Minted>) -> FoundCredential {
        self.0.metrics.reused(minted.age(self.0.clock.now()));
        FoundCredential { minted, source: CredentialSource::Cached, outcome: None }
    }

    /// Step 7. From here on the order's token counts as used.
    async fn hand_over(&self, order: Order, found: FoundCredential) -> Result<Issued, IssueError> {
        let Order { admitted, registry, token, .. } = order;
        let FoundCredential { minted, source, outcome } = found;
        if let Err(replayed) = token.secure().await {
            self.release(&minted, admitted.grant(), &registry).await;
            token.release().await;
            return Err(self.reject_replay(admitted.grant(), &registry, replayed).await);
        }
        let credentials = &minted.credentials;
        let delivery = Delivery {
            credentials,
            source: source.as_str(),
            minted_by: minted.by,
            took: outcome.is_some().then_some(minted.took),
        };
        if let Some(outcome) = &outcome {
            // The record below is the outcome of the mint's intent, written or not.
            outcome.is_recorded();
        }
        let facts = registry.provider_facts();
        let recorded = self.0.audit.completed(admitted.grant(), facts, &delivery).await;
        if let Err(unrecorded) = recorded {
            self.release(&minted, admitted.grant(), &registry).await;
            token.release().await;
            return Err(unrecorded.into());
        }
        token.commit();
        self.0.metrics.issued(registry.name.as_str(), source.as_str());
        tracing::info!(scope = %credentials.scope, source = source.as_str(), "issued credentials");
        let minted_by = minted.by.to_string();
        traces::about(&[("rise.source", source.as_str()), ("rise.minted_by", &minted_by)]);
        Ok(Issued {
            credentials: Arc::clone(credentials),
            source,
            minted_by: minted.by,
            refresh_after: minted.refresh_after(),
        })
    }

    /// Fails if the record could not be written; then `error` is in the log at least.
    async fn record_failure(
        &self,
        grant: &Grant,
        registry: &Registry,
        error: &IssueError,
        took: Duration,
    ) -> Result<(), IssueError> {
        let problem = error.problem_type();
        let recorded = self.0.audit.failed(grant, registry.provider_facts(), problem, took).await;
        recorded.map_err(|unrecorded| {
            tracing::error!(
                problem = problem.slug(),
                cause = %error,
                "a mint failed, and the audit log cannot record the failure: free space on its \
                 disk, or see `audit` of /readyz"
            );
            unrecorded.into()
        })
    }
}
