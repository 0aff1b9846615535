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
             `repositories.create` for this registry.",
        ),
        RepositoryConflict::Orphaned => Advice::now(
            "The repository is left over from an earlier project",
            "A project of this name was retired, and its repository still has its images. To take \
             it over with them, ask the operator to remove its tag `rise:orphaned-at`. Otherwise \
             ask the operator to delete it, or use another name.",
        ),
        RepositoryConflict::Foreign => Advice::now(
            "The repository belongs to somebody else",
            "It exists without this broker's ownership tags, so the broker changes nothing of it. \
             If it is the project's, ask the operator to add the tags `rise:owner` and \
             `rise:project`.",
        ),
    }
}
