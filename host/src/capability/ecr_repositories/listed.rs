//! A repository as an operator lists it: whose it is, and what of it is not as wanted. Nothing here
//! changes a repository.

use super::wanted::Claim;
use super::{RepositoryAccess, RepositoryPlace};
use crate::capability::aws::AwsError;
use crate::capability::aws::repository::{
    RepositoryAnswer, RepositoryCall, RepositoryDescription, RepositoryPage,
};
use crate::capability::wit::rise::registry::ecr_repositories::Setting;
use crate::domain::{Ownership, Project};

/// A repository that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub ownership: Ownership,
    /// When its project was retired, in seconds since the Unix epoch.
    pub orphaned_at: Option<u64>,
    /// When it may be deleted. `None`: never.
    pub deletable_at: Option<u64>,
    /// The settings that are not as the operator wants them. Empty unless it is managed.
    pub differs: Vec<&'static str>,
    /// It has none of a broker's ownership tags, so it can be adopted.
    pub is_free: bool,
}

impl RepositoryAccess {
    /// Reads a page of the account's repositories, of every owner.
    pub async fn page(&self, token: Option<String>) -> Result<RepositoryPage, AwsError> {
        self.client.repositories(&self.place, token).await
    }

    /// Reads whose the repository of `project` is. `None`: it is gone.
    pub async fn look(
        &self,
        repository: &str,
        project: &Project,
        description: &RepositoryDescription,
    ) -> Result<Option<Listed>, AwsError> {
        let place = RepositoryPlace { repository: repository.to_owned(), ..self.place.clone() };
        let answer = self.client.repository(&place, RepositoryCall::Tags).await?;
        let RepositoryAnswer::Tags(tags) = answer else { return gone(&answer) };
        let claim = self.wanted.claim(&tags, project);
        let mut listed = Listed::of(claim);
        if self.wanted.auto_remove {
            let end = |at| self.wanted.grace_ends(at);
            listed.deletable_at = listed.orphaned_at.and_then(end);
        }
        if claim == Claim::Broker {
            let answer = self.client.repository(&place, RepositoryCall::Lifecycle).await?;
            let RepositoryAnswer::Lifecycle(policy) = answer else { return gone(&answer) };
            let differs = self.wanted.differs(description, &tags, policy.as_deref());
            listed.differs = differs.into_iter().map(name).collect();
        }
        Ok(Some(listed))
    }
}

impl Listed {
    /// A repository whose name is that of no project. Its tags do not matter.
    pub const OF_NO_PROJECT: Self = Self {
        ownership: Ownership::Foreign,
        orphaned_at: None,
        deletable_at: None,
        differs: Vec::new(),
        is_free: false,
    };

    fn of(claim: Claim) -> Self {
        let (ownership, orphaned_at) = match claim {
            Claim::Broker => (Ownership::Managed, None),
            Claim::Orphaned(at) => (Ownership::Orphaned, at),
            Claim::OtherBroker | Claim::Nobody => (Ownership::Foreign, None),
        };
        let is_free = claim == Claim::Nobody;
        Self { ownership, orphaned_at, deletable_at: None, differs: Vec::new(), is_free }
    }
}

fn gone(answer: &RepositoryAnswer) -> Result<Option<Listed>, AwsError> {
    if *answer == RepositoryAnswer::Absent {
        return Ok(None);
    }
    Err(AwsError::Nonsense("ECR answered something else than was asked".to_owned()))
}

/// The name in the contract.
fn name(setting: Setting) -> &'static str {
    match setting {
        Setting::Lifecycle => "lifecycle",
        Setting::Scanning => "scanning",
        Setting::Mutability => "mutability",
        Setting::Tags => "tags",
        Setting::Encryption => "encryption",
    }
}
