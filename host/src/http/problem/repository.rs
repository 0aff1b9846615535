//! What callers are told about a repository that is not theirs, or not there.

use super::Advice;
use crate::issue::RepositoryConflict;

pub(super) fn conflict(conflict: RepositoryConflict) -> Advice {
    match conflict {
        RepositoryConflict::NotManaged => Advice::now(
            "The broker manages no repositories here",
            "Create and delete the repository at the registry, or ask the operator to set \
             `repositories` for this registry.",
        ),
        RepositoryConflict::NeverCreated => Advice::now(
            "The broker creates no repositories here",
            "Create the repository at the registry, or ask the operator to set \
             `repositories.create` for this registry to `on-request` or `on-push`.",
        ),
        RepositoryConflict::Orphaned => Advice::now(
            "The repository is left over from an earlier project",
            "A project of this name was retired, and its repository still has its images. If it is \
             the same project, take it over with them: `rise-registry repository create --adopt`, \
             or PUT with `adopt=true`, by a caller whose rules allow `create`. Otherwise use \
             another name, or ask the operator.",
        ),
        RepositoryConflict::Foreign => Advice::now(
            "The repository belongs to somebody else",
            "It exists without this broker's ownership tags, so the broker changes nothing of it. \
             If it is the project's, ask the operator to adopt it with `rise-broker repositories \
             apply`.",
        ),
    }
}
