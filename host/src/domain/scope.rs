//! How much a credential opens, and who sees to it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The narrowest thing that holds a credential in, from narrow to wide.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing is handed out: callers use credentials of their own.
    None,
    /// One repository, and only the granted actions.
    Repository,
    /// A group of repositories: a Harbor or GitLab project, an owner.
    Namespace,
    /// All that the registry's own account may do.
    Registry,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Repository => "repository",
            Self::Namespace => "namespace",
            Self::Registry => "registry",
        })
    }
}

/// Who keeps a credential inside its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnforcedBy {
    /// The host composed or knows it, whatever the provider did.
    Host,
    /// It is as narrow as the provider says.
    Provider,
}
