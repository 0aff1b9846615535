//! What a caller asks for: to look at the repository of a project, to create it, or to retire it.
//!
//! **Invariant:** a caller adopts only an orphan of the project. A repository of somebody else is
//! an operator's to adopt.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout_at;
use tracing::Instrument;

use super::{RECORDS, RepositoryConflict, RepositoryKey, RepositoryResult};
use crate::capability::ecr_repositories::{Adoption, RepositoryTask};
use crate::config::CreateRepositories;
use crate::domain::{Ownership, RepositoryOperation, RepositoryState};
use crate::flight::Flight;
use crate::issue::breaker::Breaker;
use crate::issue::{IssueError, Issuing, Order, RESERVE};
use crate::limits::{CallTurn, LONGEST_PLACE, LONGEST_TURN};
use crate::registries::Registry;
use crate::rules::Grant;
use crate::telemetry::traces::with_trace;

/// One call of the provider that a caller's request needs.
struct RequestedCall {
    grant: Arc<Grant>,
    registry: Arc<Registry>,
    breaker: Arc<Breaker>,
    turn: CallTurn,
    task: RepositoryTask,
}

impl Issuing {
    /// Does with the repository what the grant of `order` is for. A failure of what would have
    /// changed it is recorded; the changes themselves have records of their own.
    pub async fn repository(
        &self,
        order: Order,
        adopt: bool,
    ) -> Result<RepositoryState, IssueError> {
        let started = Instant::now();
        let grant = Arc::clone(order.admitted.grant());
        let operation = grant.operation().ok_or_else(not_of_a_repository)?;
        let done = match (order.token.secure().await, operation) {
            (Err(replayed), _) => Err(replayed.into()),
            (Ok(()), RepositoryOperation::Describe) => {
                self.ask_provider(&order, RepositoryTask::Describe).await
            }
            (Ok(()), RepositoryOperation::Create) => self.create(&order, adopt).await,
            (Ok(()), RepositoryOperation::Delete) => self.retire(&order).await,
        };
        match done {
            Ok(state) => {
                order.token.commit();
                Ok(state)
            }
            Err(error) => {
                if operation != RepositoryOperation::Describe {
                    let took = started.elapsed();
                    self.record_failure(&grant, &order.registry, &error, took).await?;
                }
                order.token.release().await;
                Err(error)
            }
        }
    }

    async fn create(&self, order: &Order, adopt: bool) -> RepositoryResult {
        let creates = order.registry.creates();
        if adopt || creates == CreateRepositories::Never {
            let found = self.ask_provider(order, RepositoryTask::Describe).await?;
            match found.ownership {
                Ownership::Absent if creates == CreateRepositories::Never => {
                    return Err(IssueError::RepositoryConflict(RepositoryConflict::NeverCreated));
                }
                Ownership::Orphaned if adopt => {}
                Ownership::Orphaned
                | Ownership::Foreign
                | Ownership::Managed
                | Ownership::Absent => {
                    usable(found)?;
                }
            }
        }
        let adopt = if adopt { Adoption::Orphan } else { Adoption::Nothing };
        usable(self.ask_provider(order, RepositoryTask::Ensure { adopt }).await?)
    }

    async fn retire(&self, order: &Order) -> RepositoryResult {
        let left = self.ask_provider(order, RepositoryTask::Retire).await?;
        if left.ownership == Ownership::Foreign {
            return Err(IssueError::RepositoryConflict(RepositoryConflict::Foreign));
        }
        Ok(left)
    }

    /// Joins the call that is under way for the same, or starts one, and waits for it as long as
    /// the order may.
    async fn ask_provider(&self, order: &Order, task: RepositoryTask) -> RepositoryResult {
        let (grant, registry) = (order.admitted.grant(), &order.registry);
        if registry.repositories.is_none() {
            return Err(IssueError::RepositoryConflict(RepositoryConflict::NotManaged));
        }
        self.0.audit.check()?;
        let key = RepositoryKey::new(registry, grant, task);
        let under_way = self.0.repository_requests.join(&key);
        let flight = match under_way {
            Some(flight) => flight,
            None => self.take_off(order, key).await?,
        };
        let until = order.deadline.less(RESERVE);
        let landed = timeout_at(until.instant().into(), flight.landed()).await;
        let ended = || Err(IssueError::Internal("the call about a repository ended".to_owned()));
        landed.map_err(|_| late())?.unwrap_or_else(ended)
    }

    /// Starts the call, which waits for its turn. A call that another request has started in the
    /// meantime is joined, and the turn given back.
    async fn take_off(
        &self,
        order: &Order,
        key: RepositoryKey,
    ) -> Result<Flight<RepositoryResult>, IssueError> {
        let (grant, registry) = (Arc::clone(order.admitted.grant()), Arc::clone(&order.registry));
        let breaker = self.0.breakers.of(&registry, &self.0.clock);
        breaker.check().await?;
        let deadline =
            LONGEST_TURN + LONGEST_PLACE + registry.provider.guest.limits.wall + RECORDS * 3;
        let (turn, task) = (order.calls.take_turn().await?, key.task);
        let call = RequestedCall { grant, registry, breaker, turn, task };
        let issuing = self.clone();
        let work = with_trace(async move { issuing.call_in_turn(call).await }.in_current_span());
        let land = |result: Option<RepositoryResult>| result.unwrap_or_else(|| Err(late()));
        Ok(self.0.repository_requests.join_or_start(key, deadline, work, land))
    }

    async fn call_in_turn(&self, call: RequestedCall) -> RepositoryResult {
        let RequestedCall { grant, registry, breaker, turn, task } = call;
        let _place = tokio::select! {
            biased;
            left_alone = breaker.opens() => return Err(left_alone),
            place = turn.place() => place?,
        };
        let attempt = breaker.begin().await?;
        // A stop of the broker waits until the outcome of each change is recorded.
        let _changing = Arc::clone(&self.0.minting);
        let result = self.manage(&registry, &grant, task).await;
        attempt.end(&result).await;
        result
    }
}

/// What the caller asked for exists, or why not.
fn usable(state: RepositoryState) -> RepositoryResult {
    let conflict = match state.ownership {
        Ownership::Orphaned => RepositoryConflict::Orphaned,
        Ownership::Foreign => RepositoryConflict::Foreign,
        Ownership::Managed | Ownership::Absent => return Ok(state),
    };
    Err(IssueError::RepositoryConflict(conflict))
}

fn late() -> IssueError {
    IssueError::UpstreamTimedOut("the repository took too long".to_owned())
}

fn not_of_a_repository() -> IssueError {
    IssueError::Internal("a grant for credentials where one for a repository is needed".to_owned())
}
