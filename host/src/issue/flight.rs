//! One mint for everybody who waits for it.
//!
//! **Invariant:** a mint has its own deadline, and its callers have theirs. Whether one of them is
//! still there changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;
use tracing::Instrument;

use super::breaker::Breaker;
use super::key::{CredentialKey, MintKey};
use super::minted::{Minted, Reuse};
use super::outcome::MintOutcome;
use super::queue::Queued;
use super::{
    CredentialSource, FailedMint, FoundCredential, IssueError, Issuing, Leftover, Order, RESERVE,
    mint,
};
use crate::domain::{Credentials, Deadline};
use crate::flight::Flight;
use crate::limits::{CallTurn, LONGEST_PLACE, LONGEST_TURN, Refused};
use crate::registries::Registry;
use crate::rules::Grant;
use crate::telemetry::Step;
use crate::telemetry::traces::with_trace;

pub(super) type FlightResult = Result<Arc<Minted>, IssueError>;

const ENDED_EARLY: &str = "the broker's task that calls the provider ended without a result; \
    this is a bug of the broker: report it with the log lines of this request id";

/// For the records of a mint, beside what the provider may take.
const RECORDS: Duration = Duration::from_secs(2);

/// Where a credential comes from once a caller has asked for a mint.
enum Start {
    /// It was kept a moment ago.
    Kept(Arc<Minted>),
    /// The same mint failed a moment ago.
    Failed(IssueError),
    Flight {
        key: MintKey,
        flight: Flight<FlightResult>,
        /// Whose outcome the caller takes, if the flight was started for it.
        outcome: Option<Arc<MintOutcome>>,
    },
}

/// Why an order has no credential.
pub(super) struct FailedWait {
    pub(super) error: IssueError,
    /// The outcome of the mint whose error this is, if it was started for the order.
    outcome: Option<Arc<MintOutcome>>,
}

impl FailedWait {
    /// The error that the order is answered with. The answer logs it.
    pub(super) fn into_answer(self) -> IssueError {
        if let Some(outcome) = &self.outcome {
            outcome.is_told();
        }
        self.error
    }
}

impl<E: Into<IssueError>> From<E> for FailedWait {
    fn from(error: E) -> Self {
        Self { error: error.into(), outcome: None }
    }
}

/// Everything that a mint needs.
struct Mint {
    grant: Arc<Grant>,
    registry: Arc<Registry>,
    breaker: Arc<Breaker>,
    turn: CallTurn,
    queued: Queued,
    outcome: Arc<MintOutcome>,
    key: CredentialKey,
}

impl Issuing {
    /// Joins or starts the mint of `key` and waits for it as long as the order may.
    pub(super) async fn wait_for_mint(
        &self,
        order: &Order,
        key: CredentialKey,
    ) -> Result<FoundCredential, FailedWait> {
        let (key, flight, outcome) = match self.start(order, key)? {
            Start::Kept(minted) => return Ok(self.cached(minted)),
            Start::Failed(error) => {
                self.0.metrics.remembered_failure(order.registry.name.as_str());
                return Err(error.into());
            }
            Start::Flight { key, flight, outcome } => (key, flight, outcome),
        };
        let until = order.deadline.less(RESERVE);
        let queued = |wait: &Duration| *wait > until.remaining();
        if let Some(wait) = self.queue_wait(&key).filter(queued) {
            // It will not be this caller's turn in time. The mint goes on without it.
            if let Some(outcome) = &outcome {
                outcome.is_counted();
            }
            return Err(Refused::Queued { wait }.into());
        }
        let landed = timeout_at(until.instant().into(), flight.landed()).await;
        if let Some(outcome) = &outcome {
            outcome.is_counted();
        }
        let Ok(landed) = landed else {
            let late = IssueError::UpstreamTimedOut("the mint takes longer".to_owned());
            let queued = |wait| IssueError::Limited(Refused::Queued { wait });
            return Err(self.queue_wait(&key).map_or(late, queued).into());
        };
        let landed = landed.unwrap_or_else(|| Err(IssueError::Internal(ENDED_EARLY.to_owned())));
        let is_own = outcome.is_some();
        let source = if is_own { CredentialSource::Minted } else { CredentialSource::Shared };
        match landed {
            Ok(minted) => Ok(FoundCredential { minted, source, outcome }),
            Err(error) => Err(FailedWait { error, outcome }),
        }
    }

    /// Starts a mint that nobody waits for, if none is under way.
    pub(super) fn renew(&self, order: &Order, key: CredentialKey) {
        if let Ok(Start::Flight { outcome: Some(outcome), .. }) = self.start(order, key) {
            outcome.is_counted();
            self.0.metrics.renewal(order.registry.name.as_str());
        }
    }

    /// Joins the mint of `key` or starts it. Nothing is started that would fail at once.
    fn start(&self, order: &Order, credential: CredentialKey) -> Result<Start, IssueError> {
        let (grant, registry) = (order.admitted.grant(), &order.registry);
        let key = MintKey { credential, lifetime: grant.lifetime().seconds() };
        // Held until the flight is in the air: of a crowd, one takes a turn.
        let mut queue = self.0.queue.lock();
        if let Some(flight) = self.0.flights.join(&key) {
            return Ok(Start::Flight { key, flight, outcome: None });
        }
        // A flight that has landed since the caller looked has kept its credential.
        if let Some((minted, Reuse::Fresh)) = self.reusable(&key.credential, grant) {
            return Ok(Start::Kept(minted));
        }
        if let Some(error) = self.0.failures.recall(&key.credential) {
            return Ok(Start::Failed(error));
        }
        let breaker = self.0.breakers.of(registry, &self.0.clock);
        breaker.check()?;
        let turn = order.calls.take_turn()?;
        let queued = queue.enter(&self.0.queue, key.clone(), turn.moment);
        let observers = (self.0.audit.clone(), self.0.metrics.clone());
        let outcome = MintOutcome::new(observers, grant, registry);
        let mint = Mint {
            grant: Arc::clone(grant),
            registry: Arc::clone(registry),
            breaker,
            turn,
            queued,
            outcome: Arc::clone(&outcome),
            key: key.credential.clone(),
        };
        // One call for the repository, and one for the credential.
        let calls = (registry.provider.guest.limits.wall + RECORDS * 2) * 2;
        let deadline = LONGEST_TURN + LONGEST_PLACE + calls;
        let (issuing, landing) = (self.clone(), (self.clone(), key.clone()));
        let work = with_trace(async move { issuing.fly(mint).await }.in_current_span());
        let land = move |result| landing.0.land(landing.1, result);
        let flight = self.0.flights.join_or_start(key.clone(), deadline, work, land);
        Ok(Start::Flight { key, flight, outcome: Some(outcome) })
    }

    /// How long until the mint may begin, if it has to wait for its turn.
    fn queue_wait(&self, key: &MintKey) -> Option<Duration> {
        let moment = self.0.queue.lock().moment(key)?;
        Some(moment.saturating_sub(self.0.clock.elapsed())).filter(|wait| !wait.is_zero())
    }

    /// Steps 3 to 5.
    async fn fly(&self, mint: Mint) -> FlightResult {
        let outcome = Arc::clone(&mint.outcome);
        let result = self.mint(mint).await;
        outcome.ended(&result);
        result
    }

    /// A failure is recorded if the intent was.
    async fn mint(&self, mint: Mint) -> FlightResult {
        let Mint { grant, registry, breaker, turn, queued, outcome, key } = mint;
        // A registry that turns out to be down is not waited for. The turn goes to somebody else.
        let _place = tokio::select! {
            biased;
            left_alone = breaker.opens() => return Err(left_alone),
            place = turn.place() => place?,
        };
        drop(queued);
        let attempt = breaker.begin()?;
        let facts = registry.provider_facts();
        if registry.revokes() && self.0.outstanding.is_full() {
            return Err(IssueError::OutstandingFull);
        }
        outcome.is_due(&self.0.minting);
        self.0.audit.intent(&grant, facts).await?;
        let started = Instant::now();
        let returned = match self.prepare(&registry, &grant).await {
            Ok(()) => self.call(&registry, &grant).await,
            Err(error) => Err(FailedMint { error, leftover: Leftover::Nothing }),
        };
        let (returned, leftover) = match returned {
            Ok(credentials) => (Ok(credentials), Leftover::Nothing),
            Err(FailedMint { error, leftover }) => (Err(error), leftover),
        };
        attempt.end(&returned);
        let took = started.elapsed();
        let label = returned.as_ref().err().map_or("ok", |error| error.problem_type().slug());
        self.0.metrics.mint(registry.name.as_str(), label);
        match returned {
            Ok(credentials) => {
                let facts = (registry.denials().is_some(), self.0.clock.now());
                self.0.outstanding.minted(&grant, &credentials, key, facts);
                self.tell_others(grant.id()).await;
                Ok(Arc::new(Minted {
                    credentials: Arc::new(credentials),
                    by: grant.id(),
                    at: self.0.clock.now(),
                    lifetime: grant.lifetime(),
                    took,
                }))
            }
            Err(error) => {
                self.clean_up(&registry, &grant, leftover).await?;
                self.record_failure(&grant, &registry, &error, took).await?;
                Err(error)
            }
        }
    }

    async fn call(
        &self,
        registry: &Registry,
        grant: &Arc<Grant>,
    ) -> Result<Credentials, FailedMint> {
        // The provider's own limit of time ends it sooner.
        let deadline = Deadline::after(registry.provider.guest.limits.wall + RECORDS);
        let minting = mint(registry, grant, deadline, &self.0.clock);
        Step::Provider.measure(&self.0.metrics, minting).await
    }

    /// Step 6, for whatever came of the mint.
    fn land(&self, key: MintKey, result: Option<FlightResult>) -> FlightResult {
        let late = || IssueError::UpstreamTimedOut("the mint missed its deadline".to_owned());
        let result = result.unwrap_or_else(|| Err(late()));
        match &result {
            Ok(minted) => self.0.cache.keep(key.credential, Arc::clone(minted)),
            Err(error) => self.0.failures.remember(key.credential, error),
        }
        result
    }
}
