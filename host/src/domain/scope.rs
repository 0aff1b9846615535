//! The scope of a credential, and the party that enforces it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The smallest unit that contains everything a credential opens, from narrow to wide.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// There is no credential: callers use their own logins.
    None,
    /// One repository, and only the granted actions.
    Repository,
    /// A group of repositories, such as a Harbor or GitLab project or an owner.
    Namespace,
    /// Everything that the account of the registry may do.
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

/// The party that enforces the scope of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnforcedBy {
    /// The host ensures the scope, whatever the provider does.
    Host,
    /// The host relies on the statement of the provider.
    Provider,
}
