//! Carries a plan out: one call of the provider for each step, a few at a time, at the pace of the
//! registry. A step that fails does not stop the others, and each can be repeated.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tokio::task::JoinSet;
use ulid::Ulid;

use super::ManagedRegistry;
use super::patience::patiently;
use super::plan::{Plan, Step, StepKind};
use super::report;
use crate::audit::Audit;
use crate::capability::ecr_repositories::{Adoption, RepositoryTask};
use crate::command::warn;
use crate::domain::{Ownership, Project, RepositoryOperation, RepositoryState};
use crate::issue::{self, IssueError, Tenures};
use crate::limits::RegistryLimit;
use crate::rules::Grant;
use crate::user;

/// Steps at once. Each sends up to nine requests, one after the other.
const AT_ONCE: usize = 4;

pub(super) struct StepResult {
    pub(super) step: Step,
    /// `None`: it is as planned now.
    pub(super) problem: Option<String>,
}

/// What the steps of a plan share.
pub(super) struct Means<'a> {
    pub(super) limit: Option<&'a Arc<RegistryLimit>>,
    pub(super) audit: &'a Audit,
    /// Of running brokers. `None`: they share nothing.
    pub(super) tenures: Option<&'a Arc<Tenures>>,
}

/// What all steps need.
#[derive(Clone)]
struct Work {
    managed: ManagedRegistry,
    limit: Option<Arc<RegistryLimit>>,
    audit: Audit,
    tenures: Option<Arc<Tenures>>,
}

/// Asks on the terminal.
pub(super) fn agrees(changes: usize) -> Result<bool, Vec<String>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(vec![
            "nothing was changed: standard input is not a terminal, so nobody can be asked; review \
             the plan, then run this with --yes"
                .to_owned(),
        ]);
    }
    warn(format_args!(
        "Make {}? Type yes:",
        if changes == 1 { "this change".to_owned() } else { format!("these {changes} changes") }
    ));
    let mut answer = String::new();
    let read = stdin.read_line(&mut answer);
    read.map_err(|error| vec![format!("cannot read the answer: {error}")])?;
    Ok(answer.trim() == "yes")
}

/// Returns the results in the order of the plan.
pub(super) async fn carry_out(
    managed: &ManagedRegistry,
    plan: &Plan,
    means: Means<'_>,
    is_told: bool,
) -> Vec<StepResult> {
    let Means { limit, audit, tenures } = means;
    let (limit, audit, tenures) = (limit.cloned(), audit.clone(), tenures.cloned());
    let work = Work { managed: managed.clone(), limit, audit, tenures };
    let (mut running, mut results) = (JoinSet::new(), Vec::new());
    let mut waiting = plan.steps.iter().cloned().enumerate();
    loop {
        while running.len() < AT_ONCE
            && let Some((order, step)) = waiting.next()
        {
            let work = work.clone();
            running.spawn(async move { (order, work.make(step).await) });
        }
        let Some(joined) = running.join_next().await else { break };
        let Ok((order, result)) = joined else { continue };
        if is_told {
            report::step(&result, results.len() + 1, plan.steps.len());
        }
        results.push((order, result));
    }
    results.sort_by_key(|(order, _)| *order);
    results.into_iter().map(|(_, result)| result).collect()
}

impl Work {
    async fn make(self, step: Step) -> StepResult {
        let registry = &self.managed.registry;
        let about = (&registry.name, &step.project);
        let (id, user) = (Ulid::generate(), user::own_login());
        let grant = Arc::new(Grant::of_command(id, &user, about, step.kind.operation()));
        let task = step.kind.task();
        let made = patiently(|| self.attempt(&grant, task), IssueError::is_temporary).await;
        let is_retired = matches!(step.kind, StepKind::Orphan | StepKind::Delete);
        let problem = match made {
            Ok(state) => {
                if is_retired {
                    self.tell_brokers(&step.project).await;
                }
                step.kind.unexpected(&state)
            }
            Err(denied @ IssueError::UpstreamDenied(_)) => Some(format!(
                "{denied}; `rise-broker check --live` names the permissions that are missing"
            )),
            Err(error) => Some(error.to_string()),
        };
        StepResult { step, problem }
    }

    /// They hand out nothing more that they have kept for it.
    async fn tell_brokers(&self, project: &Project) {
        let registry = &self.managed.registry.name;
        if let Some(tenures) = &self.tenures
            && !tenures.end(registry, project).await
        {
            warn(format_args!(
                "{project}: the store of [shared] does not answer, so that brokers may hand out \
                 the logins that they have kept for it; restart them to prevent that"
            ));
        }
    }

    async fn attempt(
        &self,
        grant: &Arc<Grant>,
        task: RepositoryTask,
    ) -> Result<RepositoryState, IssueError> {
        let _place = match &self.limit {
            Some(limit) => Some(limit.take_turn().await?.place().await?),
            None => None,
        };
        issue::manage(&self.managed.registry, grant, task, &self.audit).await
    }
}

impl StepKind {
    fn task(self) -> RepositoryTask {
        match self {
            Self::Create | Self::Configure => RepositoryTask::Ensure { adopt: Adoption::Nothing },
            Self::Adopt => RepositoryTask::Ensure { adopt: Adoption::Anything },
            Self::Orphan => RepositoryTask::Orphan,
            Self::Delete => RepositoryTask::Delete,
        }
    }

    fn operation(self) -> RepositoryOperation {
        match self {
            Self::Create | Self::Configure | Self::Adopt => RepositoryOperation::Create,
            Self::Orphan | Self::Delete => RepositoryOperation::Delete,
        }
    }

    /// Why a repository in this state is not what the step was to make of it: somebody else changed
    /// it after the plan was made.
    fn unexpected(self, state: &RepositoryState) -> Option<String> {
        let is_expected = match self {
            Self::Create | Self::Configure | Self::Adopt => state.ownership == Ownership::Managed,
            Self::Orphan => matches!(state.ownership, Ownership::Orphaned | Ownership::Absent),
            Self::Delete => state.ownership == Ownership::Absent,
        };
        (!is_expected).then(|| {
            format!(
                "it is {} now: somebody changed it since the plan was made; run this again",
                state.ownership.as_str()
            )
        })
    }
}
