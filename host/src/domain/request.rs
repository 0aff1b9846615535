//! A caller's request, parsed but not yet authorized.

use super::{Actions, ImageReference, Project, RegistryName};

/// One request for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRequest {
    pub target: Target,
    /// `None` means the registry `default`, else the only one.
    pub registry: Option<RegistryName>,
    /// `None` means everything that the caller may do.
    pub actions: Option<Actions>,
    pub lifetime: Lifetime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Project(Project),
    Image(ImageReference),
}

/// The requested lifetime, between a minute and twelve hours. It is a request only: the
/// registry decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    seconds: u32,
    is_stated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 60 to 43200 seconds")]
pub struct InvalidLifetime;

impl Lifetime {
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// The same, but not longer than `most` seconds.
    #[must_use]
    pub fn at_most(self, most: u32) -> Self {
        Self { seconds: self.seconds.min(most), ..self }
    }

    /// Whether the caller stated it, and so needs a credential that lasts this long.
    pub fn is_stated(self) -> bool {
        self.is_stated
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self { seconds: 3600, is_stated: false }
    }
}

impl TryFrom<u32> for Lifetime {
    type Error = InvalidLifetime;

    fn try_from(seconds: u32) -> Result<Self, InvalidLifetime> {
        let is_valid = (60..=43_200).contains(&seconds);
        if is_valid { Ok(Self { seconds, is_stated: true }) } else { Err(InvalidLifetime) }
    }
}
