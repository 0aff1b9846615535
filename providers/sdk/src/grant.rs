//! The grant: its project, its actions and its lifetime. Only the host knows the caller.

use std::ops::BitOr;

use crate::{Error, host};

/// Access that the host has authenticated, authorized and recorded.
///
/// A provider narrows credentials down to a grant. It never decides whether a caller gets one. The
/// host refuses what it can see to be wider: AWS sessions and configured secrets. It cannot judge a
/// credential that a registry returned over [`http`](crate::http) or that the provider made: the
/// answer then says `enforced_by: provider`. In a test,
/// [`testing::grant`](crate::testing::grant) makes a grant.
pub struct Grant(pub(crate) host::Grant);

impl Grant {
    /// The unique id of the grant (a ULID). It appears in the audit log.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// The project: path components as in the name of an OCI repository, with `/` between them, at
    /// most 128 characters. There is one component unless the operator allows more. In a URL it is
    /// one segment, with `%2F` for each `/`. It goes into a host name only if it is a DNS label.
    pub fn project(&self) -> String {
        self.0.project()
    }

    /// The actions that the credentials must allow, and no others.
    pub fn actions(&self) -> Actions {
        host::actions(&self.0)
    }

    /// How long the caller needs the credentials, in seconds. If the registry offers a choice, use
    /// the shortest lifetime that is enough.
    pub fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    /// The time of the host's clock at this call, in seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.0.now()
    }

    /// Keeps a note with the record of this credential, such as the id that the registry gave it.
    /// [`Revocation::revoke`](crate::Revocation::revoke) gets it back. Call it as soon as the
    /// credential exists, before anything else can fail. A later note replaces an earlier one.
    ///
    /// # Errors
    ///
    /// The note is longer than 1 KiB, empty, holds a control character or a secret, or the call is
    /// not one of `issue`.
    pub fn remember(&self, note: &str) -> Result<(), Error> {
        host::remember(&self.0, note)
    }
}

/// A set of actions on a repository.
///
/// ```
/// use rise_provider::Actions;
///
/// let actions = Actions::PULL | Actions::PUSH;
/// assert!(actions.contains(Actions::PUSH));
/// assert!(!actions.intersects(Actions::DELETE));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    /// No action.
    pub const NONE: Self = Self(0);
    /// Read manifests and layers.
    pub const PULL: Self = Self(1);
    /// Write manifests and layers.
    pub const PUSH: Self = Self(1 << 1);
    /// Delete images. No grant has it yet.
    pub const DELETE: Self = Self(1 << 2);

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the set has every action of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set has an action of `other`.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The actions of both sets, like `|`, for constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}
