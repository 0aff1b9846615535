//! The repository of a grant's project: looked at before a mint, created where the settings say so,
//! and managed for those who may.
//!
//! **Invariant:** calls about one repository that run at the same time for the same task are one
//! call, so that a thousand first pushes create it once.

mod request;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{IssueError, Issuing, error};
use crate::audit::Audit;
use crate::capability::ecr_repositories::{
    Adoption, RepositoryJournal, RepositoryTask, RepositoryWork, SeenRepository,
};
use crate::capability::printable;
use crate::capability::wit::repositories::exports::rise::registry::repositories as contract;
use crate::config::CreateRepositories;
use crate::domain::{
    Action, Deadline, Ownership, Project, RegistryName, RepositoryChange, RepositoryState,
};
use crate::provider::{Finished, RepositoriesCall};
use crate::registries::{Epoch, Registry};
use crate::rules::Grant;

/// The settings that an answer names.
const MOST_DIFFERENCES: usize = 16;
/// For the records of a call, beside what the provider may take.
const RECORDS: Duration = Duration::from_secs(2);

/// What calls at the same time share.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RepositoryKey {
    registry: RegistryName,
    epoch: Epoch,
    project: Project,
    task: RepositoryTask,
}

impl RepositoryKey {
    fn new(registry: &Registry, grant: &Grant, task: RepositoryTask) -> Self {
        Self {
            registry: registry.name.clone(),
            epoch: registry.epoch,
            project: grant.project().clone(),
            task,
        }
    }
}

pub(super) type RepositoryResult = Result<RepositoryState, IssueError>;

/// Records changes in the audit log.
struct AuditJournal {
    audit: Audit,
    registry: Arc<Registry>,
}

#[async_trait]
impl RepositoryJournal for AuditJournal {
    async fn intent(&self, work: &RepositoryWork, change: RepositoryChange) -> Result<(), String> {
        let facts = self.registry.provider_facts();
        let recorded = self.audit.repository_intent(&work.grant, facts, &work.repository, change);
        recorded.await.map_err(|error| error.to_string())
    }

    fn outcome(&self, work: &RepositoryWork, change: RepositoryChange, worked: bool) {
        let facts = self.registry.provider_facts();
        self.audit.repository_outcome(&work.grant, facts, (&work.repository, change), worked);
        tracing::info!(
            registry = %self.registry.name,
            repository = %work.repository,
            change = change.as_str(),
            worked,
            "changed a repository"
        );
    }
}

/// Calls the provider once for the repository of `grant`.
pub async fn manage(
    registry: &Arc<Registry>,
    grant: &Arc<Grant>,
    task: RepositoryTask,
    audit: &Audit,
) -> RepositoryResult {
    if registry.repositories.is_none() {
        return Err(IssueError::RepositoryConflict(RepositoryConflict::NotManaged));
    }
    let journal = AuditJournal { audit: audit.clone(), registry: Arc::clone(registry) };
    let work = Arc::new(RepositoryWork {
        grant: Arc::clone(grant),
        repository: registry.locate(grant.project()).repository,
        task,
        journal: Arc::new(journal),
    });
    let call = RepositoriesCall { settings: Arc::clone(&registry.settings), work };
    let deadline = Deadline::after(registry.provider.guest.limits.wall + RECORDS);
    let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
    let Finished { value, state } = called?;
    let returned = value.map_err(|error| error::returned(error, &state))?;
    if registry.capabilities.repositories.is_none() {
        return Ok(state_of(&returned));
    }
    // Where the host makes the calls, it believes what it saw, and not the provider.
    let seen = state.repository.ok_or_else(|| {
        let told = "said whose the repository is, and did not look at it";
        IssueError::ProviderFailed(told.to_owned())
    })?;
    let SeenRepository { ownership, orphaned_at, is_marked } = seen;
    Ok(RepositoryState { ownership, orphaned_at, is_marked, ..state_of(&returned) })
}

fn state_of(returned: &contract::Repository) -> RepositoryState {
    let ownership = match returned.ownership {
        contract::Ownership::Absent => Ownership::Absent,
        contract::Ownership::Managed => Ownership::Managed,
        contract::Ownership::Orphaned => Ownership::Orphaned,
        contract::Ownership::Foreign => Ownership::Foreign,
    };
    let differs = returned.differs.iter().take(MOST_DIFFERENCES);
    let differs = differs.map(|name| printable(name, 64)).collect();
    let is_marked = ownership == Ownership::Orphaned;
    RepositoryState { ownership, orphaned_at: returned.orphaned_at, is_marked, differs }
}

/// Why a repository is not what a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryConflict {
    #[error("the broker manages no repositories of this registry")]
    NotManaged,
    #[error("the settings of this registry do not let anybody create a repository")]
    NeverCreated,
    #[error("the repository is the orphan of an earlier project of this name")]
    Orphaned,
    #[error("the repository belongs to somebody else")]
    Foreign,
}

impl Issuing {
    /// Looks after the repository before a mint. Nobody inherits the images of an earlier project
    /// of the same name without asking.
    pub(super) async fn prepare(
        &self,
        registry: &Arc<Registry>,
        grant: &Arc<Grant>,
    ) -> Result<(), IssueError> {
        if registry.repositories.is_none() {
            return Ok(());
        }
        let creates = registry.creates() == CreateRepositories::OnPush
            && grant.actions().contains(Action::Push);
        let task = if creates {
            RepositoryTask::Ensure { adopt: Adoption::Nothing }
        } else {
            RepositoryTask::Describe
        };
        let state = self.manage(registry, grant, task).await?;
        match state.ownership {
            Ownership::Orphaned => {
                Err(IssueError::RepositoryConflict(RepositoryConflict::Orphaned))
            }
            Ownership::Foreign if state.is_marked => {
                Err(IssueError::RepositoryConflict(RepositoryConflict::Orphaned))
            }
            Ownership::Foreign if creates => {
                tracing::warn!(
                    registry = %registry.name,
                    project = %grant.project(),
                    "the repository exists and has no ownership tags of this broker: credentials \
                     are issued for it, and its settings stay as they are; adopt it, if the broker \
                     is to manage it"
                );
                Ok(())
            }
            Ownership::Foreign | Ownership::Managed | Ownership::Absent => Ok(()),
        }
    }

    /// No broker hands out what was minted before.
    async fn retired(&self, registry: &RegistryName, project: &Project) {
        self.0.cache.retire(registry, project);
        if let Some(tenures) = &self.0.tenures {
            tenures.end(registry, project).await;
        }
    }

    /// Joins the call that is under way for the same repository and task, or starts one.
    async fn manage(
        &self,
        registry: &Arc<Registry>,
        grant: &Arc<Grant>,
        task: RepositoryTask,
    ) -> RepositoryResult {
        let key = RepositoryKey::new(registry, grant, task);
        let (issuing, registry, grant) = (self.clone(), Arc::clone(registry), Arc::clone(grant));
        let deadline = registry.provider.guest.limits.wall + RECORDS * 2;
        let work = async move {
            let state = manage(&registry, &grant, task, &issuing.0.audit).await?;
            let is_gone = task == RepositoryTask::Retire && state.ownership == Ownership::Absent;
            if is_gone || state.ownership == Ownership::Orphaned {
                issuing.retired(&registry.name, grant.project()).await;
            }
            Ok(state)
        };
        let land = |result: Option<RepositoryResult>| {
            let late = || IssueError::UpstreamTimedOut("the repository took too long".to_owned());
            result.unwrap_or_else(|| Err(late()))
        };
        let flight = self.0.repositories.join_or_start(key, deadline, work, land);
        let ended = || Err(IssueError::Internal("the call about a repository ended".to_owned()));
        flight.landed().await.unwrap_or_else(ended)
    }
}
