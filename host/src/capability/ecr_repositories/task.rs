//! What the host calls a provider for, and which repositories become the broker's by it.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepositoryTask {
    Describe,
    Ensure {
        adopt: Adoption,
    },
    Retire,
    /// A `retire` that orphans and never deletes.
    Orphan,
    /// A `retire` that deletes and never orphans.
    Delete,
}

/// Which repositories become the broker's, if they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Adoption {
    Nothing,
    /// One of this project, which the broker retired.
    Orphan,
    /// Also one that has no tags of ownership.
    Anything,
}

impl RepositoryTask {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Ensure { .. } => "ensure",
            Self::Retire | Self::Orphan | Self::Delete => "retire",
        }
    }

    pub(super) fn adopts(self) -> bool {
        matches!(self, Self::Ensure { adopt } if adopt != Adoption::Nothing)
    }

    pub(super) fn is_ensure(self) -> bool {
        matches!(self, Self::Ensure { .. })
    }

    pub(super) fn is_retire(self) -> bool {
        matches!(self, Self::Retire | Self::Orphan | Self::Delete)
    }
}
