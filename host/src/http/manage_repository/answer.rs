//! The JSON of an answer about a repository.

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;
use utoipa::ToSchema;

use crate::domain::{Ownership, Project, RepositoryState};
use crate::registries::Registry;

#[derive(Serialize, ToSchema)]
#[schema(as = Repository, description = "The repository of a project, and what happens to it.")]
pub(in crate::http) struct RepositoryAnswer {
    #[schema(
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$"
    )]
    project: String,
    registry: String,
    repository: String,
    /// `{registry_url}/{repository}`. Append `:tag` for a reference to push to.
    image: String,
    ownership: Ownership,
    /// When its project was retired. `null` unless `ownership` is `orphaned`.
    #[schema(required, format = DateTime)]
    orphaned_at: Option<String>,
    /// From when on it may be deleted. `null`: nothing deletes it, or nobody knows.
    #[schema(required, format = DateTime)]
    deleted_after: Option<String>,
    /// The settings that are not as the operator wants them.
    differs: Vec<String>,
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

impl RepositoryAnswer {
    pub(super) fn new(
        registry: &Registry,
        project: &Project,
        state: RepositoryState,
        id: Ulid,
    ) -> Self {
        let RepositoryState { ownership, orphaned_at, differs, .. } = state;
        let location = registry.locate(project);
        let orphaned_at = orphaned_at.filter(|_| ownership == Ownership::Orphaned);
        let deleted_after = orphaned_at.and_then(|at| registry.deleted_after(at));
        Self {
            project: project.to_string(),
            registry: registry.name.to_string(),
            image: location.to_string(),
            repository: location.repository,
            ownership,
            orphaned_at: orphaned_at.and_then(time),
            deleted_after: deleted_after.and_then(time),
            differs,
            request_id: id.to_string(),
        }
    }
}

/// `None` beyond the years that RFC 3339 can write.
fn time(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    Some(Timestamp::from_second(seconds).ok()?.to_string())
}
