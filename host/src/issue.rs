//! A grant becomes a credential.
//!
//! [`Issuing::issue`] answers one order, in this order:
//!
//! 1. look for a credential that is still good (none is kept yet);
//! 2. join the mint that is under way for the same order, or lead one (each order leads its own
//!    yet);
//! 3. take a place and the pace of the registry;
//! 4. record the intent, if the provider can reach anything outside;
//! 5. call the provider ([`mint`]) and verify what it returns (`verify`);
//! 6. store the credential (nothing is kept yet);
//! 7. record the outcome, durable before the credential leaves.
//!
//! Steps 1, 2 and 6 wait for a cache. It will be a field of [`Issuing`], which lives as long as the
//! process.
//!
//! **Invariant:** authorization comes first: an [`Order`] holds an [`Admitted`], and that a grant.
//! **Invariant:** an intent has an outcome. From step 3 on a task of its own does the work, so that
//! a caller who hangs up leaves nothing half done and unrecorded.

mod error;
mod mint;
mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{Instrument, Span};
use ulid::Ulid;

use crate::audit::Audit;
use crate::domain::{Clock, Credentials, Deadline};
use crate::identity::{Replayed, Reservation};
use crate::limits::{Admitted, RegistryLimit};
use crate::registries::Registry;
use crate::rules::Grant;
use crate::telemetry::{Metrics, Step, actions_label};
pub use error::IssueError;
pub use mint::mint;

/// The part of a request's time that is kept for the record and the answer after the provider call.
const RESERVE: Duration = Duration::from_millis(300);

/// What it takes to answer grants, for as long as the process lives.
#[derive(Clone)]
pub struct Issuing {
    clock: Clock,
    audit: Audit,
    metrics: Metrics,
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
}

/// How an order got its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A provider call made it for this order.
    Minted,
}

/// A credential fresh from its provider.
struct Minted {
    credentials: Arc<Credentials>,
    by: Ulid,
    /// How long the provider call took.
    took: Duration,
}

impl Issuing {
    pub(crate) fn new(clock: Clock, audit: Audit, metrics: Metrics) -> Self {
        Self { clock, audit, metrics }
    }

    /// Answers `order` with a credential whose record is durable.
    pub async fn issue(&self, order: Order) -> Result<Issued, IssueError> {
        let (answer, answered) = oneshot::channel();
        let issuing = self.clone();
        let work = async move {
            if let Err(Err(error)) = answer.send(issuing.mint_and_record(order).await) {
                let problem = error.problem_type().slug();
                tracing::warn!(problem, cause = %error, "request failed after its caller had gone");
            }
        };
        tokio::spawn(work.in_current_span());
        let ended = |_| IssueError::Internal("the task that issues ended early".to_owned());
        answered.await.map_err(ended)?
    }

    /// Records that a request was granted and its token used before.
    pub async fn reject_replay(
        &self,
        grant: &Grant,
        registry: &Registry,
        replayed: Replayed,
    ) -> IssueError {
        let error = IssueError::Replayed(replayed);
        match self.record_failure(grant, registry, &error, Duration::ZERO).await {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    async fn mint_and_record(&self, order: Order) -> Result<Issued, IssueError> {
        let grant = Arc::clone(order.admitted.grant());
        let issued = match self.mint(&order).await {
            Ok(minted) => self.answer(order, minted).await,
            Err(error) => Err(error),
        };
        let outcome = issued.as_ref().err().map_or("ok", |error| error.problem_type().slug());
        let actions = actions_label(Some(grant.actions()));
        self.metrics.credentials(grant.registry().as_str(), actions, outcome);
        issued
    }

    /// Steps 3 to 5. A failure is recorded if the intent was.
    async fn mint(&self, order: &Order) -> Result<Minted, IssueError> {
        let (grant, registry) = (order.admitted.grant(), &*order.registry);
        let _place = order.calls.enter(order.deadline).await?;
        let facts = registry.provider_facts();
        let (span, actions) = (Span::current(), actions_label(Some(grant.actions())));
        tracing::record_all!(span, actions = actions, provider = facts.name, digest = facts.digest);
        self.audit.intent(grant, facts).await?;
        let started = Instant::now();
        let minting = mint(registry, grant, order.deadline.less(RESERVE), &self.clock);
        match Step::Provider.measure(&self.metrics, minting).await {
            Ok(credentials) => Ok(Minted {
                credentials: Arc::new(credentials),
                by: grant.id(),
                took: started.elapsed(),
            }),
            Err(error) => {
                self.record_failure(grant, registry, &error, started.elapsed()).await?;
                Err(error)
            }
        }
    }

    /// Step 7. From here on the order's token counts as used.
    async fn answer(&self, order: Order, minted: Minted) -> Result<Issued, IssueError> {
        let Order { admitted, registry, token, .. } = order;
        let Minted { credentials, by, took } = minted;
        let facts = registry.provider_facts();
        self.audit.completed(admitted.grant(), facts, &credentials, took).await?;
        token.commit();
        tracing::info!(scope = %credentials.scope, "issued credentials");
        Ok(Issued { credentials, source: CredentialSource::Minted, minted_by: by })
    }

    /// Fails if the record could not be written. Then `error` is in the broker's log.
    async fn record_failure(
        &self,
        grant: &Grant,
        registry: &Registry,
        error: &IssueError,
        took: Duration,
    ) -> Result<(), IssueError> {
        let problem = error.problem_type();
        let recorded = self.audit.failed(grant, registry.provider_facts(), problem, took).await;
        recorded.map_err(|unrecorded| {
            tracing::error!(problem = problem.slug(), cause = %error, "a failure is not recorded");
            unrecorded.into()
        })
    }
}
