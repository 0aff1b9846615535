//! The optional trait of a provider whose repositories the broker manages.

use crate::{Error, Grant, Provider};

/// The life of a repository, from its creation until its project is gone.
///
/// A provider without it does not manage repositories. Pass it on with
/// `export_provider!(Example, repositories)`. Capabilities work in all three functions, for the
/// repository of the grant's project. Each function can be called again at any time, also after a
/// call that failed half-way, and then finishes what is left.
pub trait Repositories: Provider {
    /// Returns what there is, and changes nothing.
    fn describe(settings: &Self::Settings, grant: &Grant) -> Result<Repository, Error>;

    /// Creates the repository if there is none, and makes it what the operator wants if it is
    /// managed. With `adopt` a foreign or orphaned repository becomes managed first; without, it
    /// stays as it is. Returns what there is then.
    fn ensure(settings: &Self::Settings, grant: &Grant, adopt: bool) -> Result<Repository, Error>;

    /// Marks a managed repository as orphaned. A repository that was orphaned by an earlier call is
    /// deleted if the operator wants that and the grace is over. Returns what there is then.
    fn retire(settings: &Self::Settings, grant: &Grant) -> Result<Repository, Error>;
}

/// One repository as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Whose it is.
    pub ownership: Ownership,
    /// When its project was retired, in seconds since the Unix epoch.
    pub orphaned_at: Option<u64>,
    /// The names of the settings that are not as the operator wants them, for people.
    pub differs: Vec<String>,
}

/// Whose a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// There is no such repository.
    Absent,
    /// It belongs to this broker.
    Managed,
    /// It belongs to this broker, and its project was retired.
    Orphaned,
    /// It belongs to somebody else. Nothing changes it.
    Foreign,
}

impl Repository {
    /// There is no such repository.
    pub const ABSENT: Self =
        Self { ownership: Ownership::Absent, orphaned_at: None, differs: Vec::new() };
}
