//! Repositories whose life the broker manages: whose they are, and what changes them.

use serde::Serialize;

/// A repository as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryState {
    pub ownership: Ownership,
    /// When its project was retired, in seconds since the Unix epoch.
    pub orphaned_at: Option<u64>,
    /// Whether it has the mark of an orphan, whoever owns it: nobody inherits its images.
    pub is_marked: bool,
    /// The settings that are not as the operator wants them.
    pub differs: Vec<String>,
}

/// Whose a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ownership {
    /// There is no such repository.
    Absent,
    /// It has the ownership tags of this broker.
    Managed,
    /// The same, and its project was retired.
    Orphaned,
    /// It belongs to somebody else. The broker changes nothing of it.
    Foreign,
}

impl Ownership {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Managed => "managed",
            Self::Orphaned => "orphaned",
            Self::Foreign => "foreign",
        }
    }
}

/// One change of a repository, as the audit log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryChange {
    Create,
    Lifecycle,
    Scanning,
    Mutability,
    Tags,
    Adopt,
    Orphan,
    Delete,
}

impl RepositoryChange {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Lifecycle => "lifecycle",
            Self::Scanning => "scanning",
            Self::Mutability => "mutability",
            Self::Tags => "tags",
            Self::Adopt => "adopt",
            Self::Orphan => "orphan",
            Self::Delete => "delete",
        }
    }
}
