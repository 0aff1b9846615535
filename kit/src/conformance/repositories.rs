//! Checks the export `repositories`, where the settings of an example let the broker manage them:
//! each function can be called again, and changes what it should and nothing else.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::doubles::PATIENCE;
use super::examples::Case;
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;
use rise_broker::capability::ecr_repositories::{
    Adoption, RepositoryJournal, RepositoryTask, RepositoryWork,
};
use rise_broker::capability::wit::repositories::exports::rise::registry::repositories::{
    Ownership, Repository,
};
use rise_broker::domain::{Deadline, RepositoryChange};
use rise_broker::provider::RepositoriesCall;
use rise_broker::registries::Registry;
use rise_broker::rules::Grant;

const AREA: &str = "repositories";
const CHECK: &str = "are created, configured and orphaned, and a call that is repeated changes \
    nothing more";
const KEEP: RepositoryTask = RepositoryTask::Ensure { adopt: Adoption::Nothing };
const ADOPT: RepositoryTask = RepositoryTask::Ensure { adopt: Adoption::Anything };

/// The calls in order: what there is after each, and whether it may change anything.
const CALLS: [(RepositoryTask, Ownership, bool); 9] = [
    (RepositoryTask::Describe, Ownership::Absent, false),
    (KEEP, Ownership::Managed, true),
    (KEEP, Ownership::Managed, false),
    (RepositoryTask::Describe, Ownership::Managed, false),
    (RepositoryTask::Retire, Ownership::Orphaned, true),
    (RepositoryTask::Retire, Ownership::Orphaned, false),
    (KEEP, Ownership::Orphaned, false),
    (ADOPT, Ownership::Managed, true),
    (RepositoryTask::Describe, Ownership::Managed, false),
];

/// Remembers what was changed.
#[derive(Default)]
struct Changes(Mutex<Vec<RepositoryChange>>);

#[async_trait]
impl RepositoryJournal for Changes {
    async fn intent(&self, _: &RepositoryWork, change: RepositoryChange) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        Ok(())
    }

    fn outcome(&self, _: &RepositoryWork, _: RepositoryChange, _: bool) {}
}

pub(super) async fn check(case: &Case, report: &mut Report) {
    if case.registry.capabilities.repositories.is_none() {
        return;
    }
    let grant = case.project().and_then(|project| grant(&case.registry, &project, None, None));
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => return report.fail(AREA, "can be called", error),
    };
    let (registry, probe) = case.behind(case.upstream(&grant), Probe::default());
    let mut wrong = Vec::new();
    for (number, (task, expected, may_change)) in CALLS.into_iter().enumerate() {
        let changes = Arc::new(Changes::default());
        let returned = call(&registry, &grant, task, &changes).await;
        let made = changes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let what = format!("call {}, `{}`", number + 1, task.as_str());
        match returned {
            Err(error) => wrong.push(format!("{what}: {error}")),
            Ok(found) if found.ownership != expected => {
                wrong.push(format!("{what}: returns {:?}, not {expected:?}", found.ownership));
            }
            Ok(_) => {}
        }
        if !may_change && let Some(change) = made.first() {
            wrong.push(format!("{what}: changes the repository ({}) again", change.as_str()));
        }
    }
    wrong.extend(case.violations(&probe.seen()));
    report.record(AREA, CHECK, wrong);
}

async fn call(
    registry: &Registry,
    grant: &Arc<Grant>,
    task: RepositoryTask,
    changes: &Arc<Changes>,
) -> Result<Repository, String> {
    let work = Arc::new(RepositoryWork {
        grant: Arc::clone(grant),
        repository: registry.locate(grant.project()).repository,
        task,
        journal: Arc::<Changes>::clone(changes),
    });
    let call = RepositoriesCall { settings: Arc::clone(&registry.settings), work };
    let deadline = Deadline::after(PATIENCE);
    let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
    let finished = called.map_err(|error| error.to_string())?;
    finished.value.map_err(|error| format!("returns {error:?}"))
}
