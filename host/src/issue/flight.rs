//! One mint for everybody who waits for it.
//!
//! **Invariant:** a mint has its own deadline, and its callers have theirs. Whether one of them is
//! still there changes nothing.

mod work;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout_at;
use tracing::Instrument;

use super::key::{CredentialKey, MintKey};
use super::minted::{Minted, Reuse};
use super::outcome::MintOutcome;
use super::{CredentialSource, FoundCredential, IssueError, Issuing, Order, RESERVE};
use crate::domain::Deadline;
use crate::flight::Flight;
use crate::limits::{LONGEST_PLACE, LONGEST_TURN, Refused};
use crate::telemetry::traces::with_trace;
use work::Work;

pub(super) type FlightResult = Result<Landed, IssueError>;

/// What a flight brings.
#[derive(Clone)]
pub(super) struct Landed {
    pub(super) minted: Arc<Minted>,
    /// How the order got it for which the flight was started.
    pub(super) source: CredentialSource,
}

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
        let landed = tokio::select! {
            biased;
            // It will not be this caller's turn in time. The mint goes on without it.
            wait = self.queued_beyond(&key, until) => Err(Some(wait)),
            landed = timeout_at(until.instant().into(), flight.landed()) => {
                landed.map_err(|_| None)
            }
        };
        if let Some(outcome) = &outcome {
            outcome.is_counted();
        }
        if let Err(Some(wait)) = landed {
            return Err(Refused::Queued { wait }.into());
        }
        let Ok(landed) = landed else {
            let late = IssueError::UpstreamTimedOut("the mint takes longer".to_owned());
            let queued = |wait| IssueError::Limited(Refused::Queued { wait });
            return Err(self.queue_wait(&key).map_or(late, queued).into());
        };
        let landed = landed.unwrap_or_else(|| Err(IssueError::Internal(ENDED_EARLY.to_owned())));
        match landed {
            Ok(Landed { minted, source: CredentialSource::Cached }) => Ok(self.cached(minted)),
            Ok(Landed { minted, source: CredentialSource::Minted }) if outcome.is_some() => {
                Ok(FoundCredential { minted, source: CredentialSource::Minted, outcome })
            }
            Ok(Landed { minted, .. }) => {
                let source = CredentialSource::Shared;
                Ok(FoundCredential { minted, source, outcome: None })
            }
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
        // Held until the flight is in the air.
        let mut queue = self.0.queue.lock();
        if let Some(flight) = self.0.flights.join(&key) {
            return Ok(Start::Flight { key, flight, outcome: None });
        }
        // A flight that has landed since the caller looked has kept its credential.
        let kept = self.reusable(&key.credential, grant);
        let renews = kept.as_ref().is_some_and(|(_, reuse)| *reuse != Reuse::Unusable);
        if let Some((minted, Reuse::Fresh)) = kept {
            return Ok(Start::Kept(minted));
        }
        if let Some(error) = self.0.failures.recall(&key.credential) {
            return Ok(Start::Failed(error));
        }
        let breaker = self.0.breakers.of(registry, &self.0.clock);
        breaker.check_here()?;
        let together = self.together(&key.credential);
        let observers = (self.0.audit.clone(), self.0.metrics.clone());
        let outcome = MintOutcome::new(observers, grant, registry);
        // One call for the repository, and one for the credential.
        let calls = (registry.provider.guest.limits.wall + RECORDS * 2) * 2;
        let longest = LONGEST_TURN + LONGEST_PLACE + calls;
        // A mint of another broker takes as long, and this one may follow it.
        let deadline = if together.is_some() { longest * 2 } else { longest };
        let work = Work {
            grant: Arc::clone(grant),
            registry: Arc::clone(registry),
            calls: Arc::clone(&order.calls),
            breaker,
            queued: queue.enter(&self.0.queue, key.clone()),
            outcome: Arc::clone(&outcome),
            key: key.clone(),
            renews,
            longest,
        };
        let (issuing, landing) = (self.clone(), (self.clone(), key.credential.clone()));
        let work = with_trace(async move { issuing.fly(work).await }.in_current_span());
        let land = move |result: Option<_>| result.unwrap_or_else(|| landing.0.late(landing.1));
        let flight = self.0.flights.join_or_start(key.clone(), deadline, work, land);
        Ok(Start::Flight { key, flight, outcome: Some(outcome) })
    }

    /// How long until the mint may begin, if it has to wait for its turn.
    fn queue_wait(&self, key: &MintKey) -> Option<Duration> {
        let moment = *self.0.queue.lock().moment(key)?.borrow();
        Some(moment?.saturating_sub(self.0.clock.elapsed())).filter(|wait| !wait.is_zero())
    }

    /// Waits until it is known that the mint begins after `until`, and returns in how long.
    async fn queued_beyond(&self, key: &MintKey, until: Deadline) -> Duration {
        let moment = self.0.queue.lock().moment(key);
        if let Some(mut moment) = moment
            && moment.wait_for(Option::is_some).await.is_ok()
            && let Some(wait) = self.queue_wait(key).filter(|wait| *wait > until.remaining())
        {
            return wait;
        }
        pending().await
    }

    /// What a flight brings that missed its deadline.
    fn late(&self, key: CredentialKey) -> FlightResult {
        let late = IssueError::UpstreamTimedOut("the mint missed its deadline".to_owned());
        self.0.failures.remember(key, &late, None);
        Err(late)
    }
}
