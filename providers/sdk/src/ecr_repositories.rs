//! One repository of Amazon ECR: the one that the call is for.
//!
//! No function takes a name, an account, a tag or a setting: the host fills them in. It refuses
//! every function outside [`Repositories`](crate::Repositories), and reads the repository's tags
//! again before each change.

use crate::{Error, host};

/// Who owns a repository, by its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This broker, for this project.
    Broker,
    /// This broker, and its project was retired.
    Orphaned,
    /// Anybody else: another broker, Terraform, a person.
    Other,
}

/// A part of a repository that the operator's settings state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Which images expire.
    Lifecycle,
    /// Whether images are scanned when they are pushed.
    Scanning,
    /// Whether tags of images may move.
    Mutability,
    /// The tags that the operator wants besides those of ownership.
    Tags,
    /// ECR cannot change it later.
    Encryption,
}

impl Setting {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Scanning => "scanning",
            Self::Mutability => "mutability",
            Self::Tags => "tags",
            Self::Encryption => "encryption",
        }
    }
}

/// A repository that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub owner: Owner,
    /// When its project was retired, in seconds since the Unix epoch.
    pub orphaned_at: Option<u64>,
    /// What is not as the operator wants it. Empty for another owner's repository.
    pub differs: Vec<Setting>,
}

/// Returns `None` if there is no such repository.
pub fn describe() -> Result<Option<Found>, Error> {
    host::describe_repository()
}

/// Creates the repository with its tags, in one request. Returns `false` if there is one already:
/// [`describe`] says whose. Only in `ensure`.
pub fn create() -> Result<bool, Error> {
    host::create_repository()
}

/// Makes one part of the repository what the operator wants. Only in `ensure`. The host refuses
/// [`Setting::Encryption`].
pub fn configure(part: Setting) -> Result<(), Error> {
    host::configure_repository(part)
}

/// Makes this broker the owner. Only in `ensure` with `adopt`, and not if the tags name another
/// broker or another project.
pub fn adopt() -> Result<(), Error> {
    host::adopt_repository()
}

/// Tags the repository as orphaned, with the time. Only in `retire`.
pub fn orphan() -> Result<(), Error> {
    host::orphan_repository()
}

/// Deletes the repository with its images. Only in `retire`, if the operator sets `auto_remove` and
/// the repository has been an orphan for longer than the grace.
pub fn delete() -> Result<(), Error> {
    host::delete_repository()
}
