//! The repositories of a registry as they are. Reads only.

use tokio::task::JoinSet;

use super::ManagedRegistry;
use super::patience::patiently;
use super::report::Progress;
use crate::capability::aws::AwsError;
use crate::capability::aws::repository::RepositoryDescription;
use crate::capability::ecr_repositories::Listed;
use crate::capability::printable;
use crate::domain::{Location, Ownership, Project};

/// Of the account's repositories, a thousand each. ECR's own limit is 100,000 repositories.
const MOST_PAGES: usize = 200;
/// Below the prefix. Each costs one or two requests.
const MOST: usize = 20_000;
/// Requests at once, of the tens in a second that ECR accepts.
const AT_ONCE: usize = 4;

/// The repositories below the prefix of a registry.
pub(super) struct Inventory {
    pub(super) registry: String,
    /// Host and path, for people.
    pub(super) below: String,
    /// By name.
    pub(super) entries: Vec<Entry>,
    /// Whether a bound left some out.
    pub(super) is_complete: bool,
}

pub(super) struct Entry {
    pub(super) repository: String,
    /// The project whose repository this is, by its name.
    pub(super) project: Option<Project>,
    pub(super) listed: Listed,
}

type Found = (String, RepositoryDescription);

impl Inventory {
    pub(super) async fn read(managed: &ManagedRegistry) -> Result<Self, String> {
        let pattern = &managed.registry.pattern;
        let prefix = pattern.prefix();
        let progress = Progress::new(&managed.registry.name);
        let (found, is_complete) = managed.names(&prefix, &progress).await?;
        let mut entries = managed.entries(found, &progress).await?;
        progress.end();
        entries.sort_by(|one, other| one.repository.cmp(&other.repository));
        Ok(Self {
            registry: managed.registry.name.to_string(),
            below: format!("{}/{prefix}", pattern.host()),
            entries,
            is_complete,
        })
    }

    pub(super) fn incomplete(&self) -> String {
        format!(
            "{}: there are more repositories below {} than this command reads ({MOST}, or \
             {MOST_PAGES} pages of the account), so that it cannot plan",
            self.registry, self.below
        )
    }
}

impl ManagedRegistry {
    /// The repositories below the prefix, and whether these are all.
    async fn names(&self, prefix: &str, progress: &Progress) -> Result<(Vec<Found>, bool), String> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = patiently(|| self.access.page(token.clone()), AwsError::is_passing).await;
            let page = page.map_err(|error| self.problem("ecr:DescribeRepositories", &error))?;
            found
                .extend(page.repositories.into_iter().filter(|(name, _)| name.starts_with(prefix)));
            progress.found(found.len());
            token = page.token;
            if found.len() > MOST {
                found.truncate(MOST);
                return Ok((found, false));
            }
            if token.is_none() {
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    async fn entries(&self, found: Vec<Found>, progress: &Progress) -> Result<Vec<Entry>, String> {
        let (all, mut entries) = (found.len(), Vec::new());
        let mut running = JoinSet::new();
        for (name, description) in found {
            if running.len() >= AT_ONCE {
                entries.extend(joined(running.join_next().await)?);
                progress.read(entries.len(), all);
            }
            let managed = self.clone();
            running.spawn(async move { managed.entry(name, description).await });
        }
        while !running.is_empty() {
            entries.extend(joined(running.join_next().await)?);
            progress.read(entries.len(), all);
        }
        Ok(entries)
    }

    /// `None`: it is gone by now.
    async fn entry(
        self,
        repository: String,
        description: RepositoryDescription,
    ) -> Result<Option<Entry>, String> {
        let Some(project) = self.project_of(&repository) else {
            let listed = Listed::OF_NO_PROJECT;
            return Ok(Some(Entry { repository, project: None, listed }));
        };
        let look = || self.access.look(&repository, &project, &description);
        let listed = patiently(look, AwsError::is_passing).await.map_err(|error| {
            let actions = "ecr:ListTagsForResource or ecr:GetLifecyclePolicy";
            self.problem(&format!("{actions} on {}", printable(&repository, 255)), &error)
        })?;
        Ok(listed.map(|listed| Entry { repository, project: Some(project), listed }))
    }

    /// The project whose own repository has this name. Child repositories are nobody's here.
    fn project_of(&self, repository: &str) -> Option<Project> {
        let pattern = &self.registry.pattern;
        let location = Location::parse(pattern.host().as_str(), repository).ok()?;
        let project = pattern.project_of(&location, self.registry.shape)?;
        (pattern.fill(&project).repository == repository).then_some(project)
    }

    fn problem(&self, request: &str, error: &AwsError) -> String {
        format!(
            "registries.{}: {request} failed: {error}; `rise-broker check --live` names the \
             permissions that are missing",
            self.registry.name
        )
    }
}

fn joined<T>(joined: Option<Result<Result<T, String>, tokio::task::JoinError>>) -> Result<T, String>
where
    T: Default,
{
    match joined {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(format!("a request ended early: {error}")),
        None => Ok(T::default()),
    }
}

impl Entry {
    /// Why the broker does not change it, if it belongs to somebody else.
    pub(super) fn foreign(&self) -> Option<&'static str> {
        if self.listed.ownership != Ownership::Foreign {
            return None;
        }
        Some(match (&self.project, self.listed.is_free) {
            (None, _) => "its name is that of no project of this registry",
            (Some(_), true) => "it has no ownership tags",
            (Some(_), false) => "its tags name another broker or another project",
        })
    }
}
