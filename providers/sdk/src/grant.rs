//! What was granted: to whom is the host's business, for which project and to do what is here.

use std::ops::BitOr;

use crate::host;

/// Access that the host has authenticated, authorized and recorded.
///
/// A provider narrows credentials down to a grant. It never decides whether the caller deserves one, and the host
/// refuses anything wider. In a test, [`testing::grant`](crate::testing::grant) makes one.
pub struct Grant(pub(crate) host::Grant);

impl Grant {
    /// Unique for this grant (a ULID). Appears in the audit log.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// A DNS label: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub fn project(&self) -> String {
        self.0.project()
    }

    /// What the credentials must allow, and nothing besides.
    pub fn actions(&self) -> Actions {
        host::actions(&self.0)
    }

    /// How long the caller needs the credentials, in seconds. Where the registry offers a choice, the shortest that is
    /// enough.
    pub fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    /// The host's clock, in seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.0.now()
    }
}

/// A set of things to do with a repository.
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
    /// Nothing at all.
    pub const NONE: Self = Self(0);
    /// Read manifests and layers.
    pub const PULL: Self = Self(1);
    /// Write manifests and layers.
    pub const PUSH: Self = Self(1 << 1);
    /// Not granted yet.
    pub const DELETE: Self = Self(1 << 2);

    /// Whether there is nothing to do.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in here.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// All of both; what `|` does, in a constant.
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
