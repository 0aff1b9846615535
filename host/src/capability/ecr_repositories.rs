//! `ecr-repositories`: the life of one repository of Amazon ECR.
//!
//! A provider chooses the step. The host knows the repository, which is that of the grant's
//! project, and everything that is written into it.
//!
//! **Invariant (I11):** before each change the host reads the repository's tags. It changes only a
//! repository with this broker's ownership tags, or one that the operator or a caller with the
//! right to do so adopts. Each change has a record before it is sent, and one after it.
//! **Invariant:** what is deleted has been an orphan for longer than the operator's grace, so that
//! no run can orphan and delete.

mod listed;
mod seen;
mod task;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::component::{Linker, Resource};

use super::aws::Aws;
use super::aws::repository::{RepositoryAnswer, RepositoryCall, RepositoryPlace};
use super::state::{HasState, Purpose};
use super::{CallState, GrantHandle};
use crate::capability::wit::rise::registry::ecr_repositories::{self, Found, Setting};
use crate::capability::wit::rise::registry::types::Error;
use crate::domain::{Ownership, RepositoryChange};
use crate::rules::Grant;
pub use listed::Listed;
pub use seen::SeenRepository;
pub use task::{Adoption, RepositoryTask};
pub use wanted::WantedRepository;
use wanted::{Claim, ORPHANED_AT};

/// The functions that one call may use: looks and creates while another broker does the same, and
/// each part of the settings once.
const MOST_CALLS: usize = 9;

/// The repositories of one registry, and the client that reaches them.
#[derive(Clone)]
pub struct RepositoryAccess {
    pub client: Arc<dyn Aws>,
    /// Without the repository.
    pub place: RepositoryPlace,
    pub wanted: Arc<WantedRepository>,
}

/// One call of a provider about the repository of a grant's project.
pub struct RepositoryWork {
    pub grant: Arc<Grant>,
    /// The name, as the host locates the project.
    pub repository: String,
    pub task: RepositoryTask,
    pub journal: Arc<dyn RepositoryJournal>,
}

/// Records the changes of a repository.
#[async_trait]
pub trait RepositoryJournal: Send + Sync {
    /// Records a change before it is sent. If this fails, nothing is sent.
    async fn intent(&self, work: &RepositoryWork, change: RepositoryChange) -> Result<(), String>;
    /// Records whether it worked.
    fn outcome(&self, work: &RepositoryWork, change: RepositoryChange, worked: bool);
}

/// A change whose intent is recorded. It has failed if nobody says otherwise.
struct RecordedChange {
    work: Arc<RepositoryWork>,
    change: RepositoryChange,
    worked: bool,
}

impl Drop for RecordedChange {
    fn drop(&mut self) {
        self.work.journal.outcome(&self.work, self.change, self.worked);
    }
}

/// The repository of a call.
struct Site {
    access: RepositoryAccess,
    work: Arc<RepositoryWork>,
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    ecr_repositories::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl CallState {
    /// Opens the capabilities for `work` and returns the handle that the provider gets.
    pub(crate) fn open_repository(
        &mut self,
        work: Arc<RepositoryWork>,
    ) -> wasmtime::Result<Resource<GrantHandle>> {
        let grant = Arc::clone(&work.grant).into();
        self.purpose = Purpose::Repository(work);
        Ok(self.table.push(GrantHandle { grant, now: self.now })?)
    }

    /// Begins a function: returns the repository of the call, or the refusal.
    fn site(&mut self, import: &'static str) -> Result<Site, Error> {
        self.begin(import)?;
        self.repository_calls += 1;
        if self.repository_calls > MOST_CALLS {
            return Err(self.refuse(format!("more than {MOST_CALLS} calls about a repository")));
        }
        let work = match &self.purpose {
            Purpose::Repository(work) => Arc::clone(work),
            Purpose::Nothing
            | Purpose::Issue(_)
            | Purpose::Revoke(_)
            | Purpose::Leftovers { .. } => {
                let asked = format!("`{import}` outside the functions of `repositories`");
                return Err(self.refuse(asked));
            }
        };
        let Some(access) = &self.capabilities.repositories else {
            let asked = "a repository, which this registry's settings do not let it manage";
            return Err(self.refuse(asked.to_owned()));
        };
        let place = RepositoryPlace { repository: work.repository.clone(), ..access.place.clone() };
        Ok(Site { access: RepositoryAccess { place, ..access.clone() }, work })
    }

    /// The same for a change, which only this task may make.
    fn site_to(
        &mut self,
        import: &'static str,
        is_its_task: impl Fn(RepositoryTask) -> bool,
    ) -> Result<Site, Error> {
        let site = self.site(import)?;
        if is_its_task(site.work.task) {
            return Ok(site);
        }
        Err(self.refuse(format!("`{import}` in a call to {}", site.work.task.as_str())))
    }

    async fn ask_ecr(
        &mut self,
        site: &Site,
        call: RepositoryCall,
    ) -> Result<RepositoryAnswer, Error> {
        let operation = call.operation();
        self.upstream(operation, site.access.client.repository(&site.access.place, call)).await
    }

    /// The repository's tags; `None` if there is no repository.
    async fn tags(&mut self, site: &Site) -> Result<Option<BTreeMap<String, String>>, Error> {
        let answer = self.ask_ecr(site, RepositoryCall::Tags).await?;
        if answer == RepositoryAnswer::Absent {
            return Ok(self.is_absent());
        }
        let RepositoryAnswer::Tags(tags) = answer else { return Err(unexpected()) };
        self.repository = Some(SeenRepository::of(site.claim(&tags), &tags));
        Ok(Some(tags))
    }

    /// Nothing, after the host has seen that there is no repository.
    fn is_absent<T>(&mut self) -> Option<T> {
        self.repository = Some(SeenRepository::new(Ownership::Absent, None));
        None
    }

    async fn find(&mut self, site: &Site) -> Result<Option<Found>, Error> {
        let answer = self.ask_ecr(site, RepositoryCall::Describe).await?;
        if answer == RepositoryAnswer::Absent {
            return Ok(self.is_absent());
        }
        let RepositoryAnswer::Description(description) = answer else { return Err(unexpected()) };
        let Some(tags) = self.tags(site).await? else { return Ok(None) };
        let claim = site.claim(&tags);
        let orphaned_at = if let Claim::Orphaned(at) = claim { at } else { None };
        let mut found = Found { owner: claim.into(), orphaned_at, differs: Vec::new() };
        if claim == Claim::Broker {
            let answer = self.ask_ecr(site, RepositoryCall::Lifecycle).await?;
            if answer == RepositoryAnswer::Absent {
                return Ok(self.is_absent());
            }
            let RepositoryAnswer::Lifecycle(lifecycle) = answer else { return Err(unexpected()) };
            let wanted = &site.access.wanted;
            found.differs = wanted.differs(&description, &tags, lifecycle.as_deref());
        }
        Ok(Some(found))
    }

    /// Records the intent of a change, and reads the tags again if it is one of an existing
    /// repository.
    async fn begin_change(
        &mut self,
        site: &Site,
        change: RepositoryChange,
        is_allowed: impl Fn(Claim) -> bool,
    ) -> Result<RecordedChange, Error> {
        let work = Arc::clone(&site.work);
        work.journal.intent(&work, change).await.map_err(Error::Unavailable)?;
        let recorded = RecordedChange { work, change, worked: false };
        if change == RepositoryChange::Create {
            return Ok(recorded);
        }
        let repository = &site.work.repository;
        let Some(tags) = self.tags(site).await? else {
            return Err(Error::NotFound(format!("the repository `{repository}`")));
        };
        if is_allowed(site.claim(&tags)) {
            return Ok(recorded);
        }
        Err(self.refuse(format!(
            "the change `{}` of the repository `{repository}`, whose tags do not allow it",
            change.as_str()
        )))
    }

    /// Sends the last request of a change.
    async fn finish(
        &mut self,
        site: &Site,
        mut recorded: RecordedChange,
        call: RepositoryCall,
    ) -> Result<bool, Error> {
        let answer = self.ask_ecr(site, call).await?;
        match (answer, recorded.change) {
            (RepositoryAnswer::Done, _)
            // A repetition finds that the first request has worked.
            | (RepositoryAnswer::Absent, RepositoryChange::Delete) => {}
            (RepositoryAnswer::Exists, RepositoryChange::Create) => return Ok(false),
            (RepositoryAnswer::Absent, _) => {
                return Err(Error::NotFound(format!("the repository `{}`", site.work.repository)));
            }
            (_, _) => return Err(unexpected()),
        }
        recorded.worked = true;
        let seen = |ownership, orphaned_at| Some(SeenRepository::new(ownership, orphaned_at));
        match recorded.change {
            RepositoryChange::Create | RepositoryChange::Adopt => {
                self.repository = seen(Ownership::Managed, None);
            }
            RepositoryChange::Orphan => {
                self.repository = seen(Ownership::Orphaned, Some(self.now));
            }
            RepositoryChange::Delete => self.repository = seen(Ownership::Absent, None),
            RepositoryChange::Lifecycle
            | RepositoryChange::Scanning
            | RepositoryChange::Mutability
            | RepositoryChange::Tags => {}
        }
        Ok(true)
    }

    async fn create_repository(&mut self) -> Result<bool, Error> {
        let site = self.site_to("ecr-repositories.create", RepositoryTask::is_ensure)?;
        let recorded = self.begin_change(&site, RepositoryChange::Create, |_| true).await?;
        let new = site.access.wanted.new_repository(site.work.grant.project());
        self.finish(&site, recorded, RepositoryCall::Create(new)).await
    }

    async fn configure_repository(&mut self, part: Setting) -> Result<(), Error> {
        let site = self.site_to("ecr-repositories.configure", RepositoryTask::is_ensure)?;
        let wanted = Arc::clone(&site.access.wanted);
        let (change, call) = match part {
            Setting::Lifecycle => {
                let Some(policy) = &wanted.lifecycle else { return Ok(()) };
                (RepositoryChange::Lifecycle, RepositoryCall::PutLifecycle(policy.clone()))
            }
            Setting::Scanning => {
                (RepositoryChange::Scanning, RepositoryCall::PutScanning(wanted.scan_on_push))
            }
            Setting::Mutability => {
                (RepositoryChange::Mutability, RepositoryCall::PutMutability(wanted.mutability))
            }
            Setting::Tags => {
                let tags = wanted.all_tags(site.work.grant.project());
                (RepositoryChange::Tags, RepositoryCall::Tag(tags))
            }
            Setting::Encryption => {
                let asked = "another encryption of a repository, which ECR cannot change";
                return Err(self.refuse(asked.to_owned()));
            }
        };
        let recorded = self.begin_change(&site, change, |claim| claim == Claim::Broker).await?;
        self.finish(&site, recorded, call).await.map(drop)
    }

    async fn adopt_repository(&mut self) -> Result<(), Error> {
        let site = self.site_to("ecr-repositories.adopt", RepositoryTask::adopts)?;
        let adopts_all = site.work.task == RepositoryTask::Ensure { adopt: Adoption::Anything };
        let is_free = |claim| match claim {
            Claim::Orphaned(_) => true,
            Claim::Nobody => adopts_all,
            Claim::Broker | Claim::OtherBroker => false,
        };
        let recorded = self.begin_change(&site, RepositoryChange::Adopt, is_free).await?;
        let tags = site.access.wanted.all_tags(site.work.grant.project());
        // In this order: half of it never makes an orphan, which could be old enough to be deleted.
        let untag = RepositoryCall::Untag(vec![ORPHANED_AT.to_owned()]);
        if self.ask_ecr(&site, untag).await? != RepositoryAnswer::Done {
            return Err(Error::NotFound(format!("the repository `{}`", site.work.repository)));
        }
        self.finish(&site, recorded, RepositoryCall::Tag(tags)).await.map(drop)
    }

    async fn orphan_repository(&mut self) -> Result<(), Error> {
        let site = self.site_to("ecr-repositories.orphan", RepositoryTask::is_retire)?;
        if site.work.task == RepositoryTask::Delete {
            return Err(Error::Unsupported("the repository is no orphan any more".to_owned()));
        }
        let now = wanted::orphaned_at(self.now);
        let now = now.ok_or_else(|| Error::Failed("the clock has no valid time".to_owned()))?;
        let recorded = self
            .begin_change(&site, RepositoryChange::Orphan, |claim| claim == Claim::Broker)
            .await?;
        let tags = BTreeMap::from([(ORPHANED_AT.to_owned(), now)]);
        self.finish(&site, recorded, RepositoryCall::Tag(tags)).await.map(drop)
    }

    async fn delete_repository(&mut self) -> Result<(), Error> {
        let site = self.site_to("ecr-repositories.delete", RepositoryTask::is_retire)?;
        if site.work.task == RepositoryTask::Orphan {
            return Err(Error::Unsupported("the repository is an orphan already".to_owned()));
        }
        let (wanted, now) = (Arc::clone(&site.access.wanted), self.now);
        if !wanted.auto_remove {
            return Err(self.refuse("to delete a repository without `auto_remove`".to_owned()));
        }
        let Some(tags) = self.tags(&site).await? else { return Ok(()) };
        let is_over =
            |claim| matches!(claim, Claim::Orphaned(Some(at)) if wanted.grace_is_over(at, now));
        if matches!(site.claim(&tags), Claim::Orphaned(_)) && !is_over(site.claim(&tags)) {
            return Err(Error::Unsupported("the grace of the orphan is not over".to_owned()));
        }
        let recorded = self.begin_change(&site, RepositoryChange::Delete, is_over).await?;
        self.finish(&site, recorded, RepositoryCall::Delete).await.map(drop)
    }
}

impl Site {
    fn claim(&self, tags: &BTreeMap<String, String>) -> Claim {
        self.access.wanted.claim(tags, self.work.grant.project())
    }
}

fn unexpected() -> Error {
    Error::Failed("ECR answered something else than was asked".to_owned())
}

impl ecr_repositories::Host for CallState {
    async fn describe(&mut self) -> wasmtime::Result<Result<Option<Found>, Error>> {
        Ok(match self.site("ecr-repositories.describe") {
            Ok(site) => self.find(&site).await,
            Err(refused) => Err(refused),
        })
    }

    async fn create(&mut self) -> wasmtime::Result<Result<bool, Error>> {
        Ok(self.create_repository().await)
    }

    async fn configure(&mut self, part: Setting) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.configure_repository(part).await)
    }

    async fn adopt(&mut self) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.adopt_repository().await)
    }

    async fn orphan(&mut self) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.orphan_repository().await)
    }

    async fn delete(&mut self) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.delete_repository().await)
    }
}
