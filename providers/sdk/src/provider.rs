//! The one trait that a provider implements, and what its `check` answers.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Error, Grant, Issued, Location};

/// One kind of registry.
///
/// Each call runs in a fresh instance, so nothing is remembered from one call to the next: there is no `self`. Only
/// [`issue`](Provider::issue) has capabilities; elsewhere every one but [`log`](crate::log) is refused.
pub trait Provider {
    /// One registry's settings. Its JSON Schema is what the host checks a configuration against and what an operator
    /// reads, so doc comments on fields count. Put `#[serde(deny_unknown_fields)]` on it, and make every secret a
    /// [`SecretName`](crate::SecretName).
    type Settings: DeserializeOwned + JsonSchema;

    /// What `type = "…"` in the configuration says.
    const NAME: &'static str;

    /// Other names for it, older spellings for instance.
    const ALIASES: &'static [&'static str] = &[];

    /// Shown to the operator; `env!("CARGO_PKG_VERSION")` is right.
    const VERSION: &'static str;

    /// One sentence for the operator.
    const DESCRIPTION: &'static str;

    /// How narrow credentials under `settings` are, or everything wrong with them that the schema cannot express.
    ///
    /// Settings that are not the JSON which [`Settings`](Provider::Settings) wants never get here: the host is told of
    /// a problem.
    fn check(settings: &Self::Settings) -> Result<Scope, Vec<Problem>>;

    /// Where `project` lives. `project` is a DNS label: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    ///
    /// It must stand in the repository exactly once, as a whole path segment. Pure: the host may call it at any time.
    fn locate(settings: &Self::Settings, project: &str) -> Result<Location, Error>;

    /// The project that owns `location`, the inverse of [`locate`](Provider::locate), or `None`.
    fn resolve(settings: &Self::Settings, location: &Location) -> Option<String>;

    /// Issues credentials for all of `grant`, and as little more as the registry can tell apart.
    ///
    /// An [`Error`] from a capability can be handed on as it is.
    fn issue(settings: &Self::Settings, grant: &Grant) -> Result<Issued, Error>;
}

/// The narrowest thing that the registry itself enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One repository, and only the granted actions.
    Repository,
    /// A group of repositories: a Harbor or GitLab project, an owner.
    Namespace,
    /// All that the registry's own account may do. Refused at start unless the operator accepts it.
    Registry,
    /// Nothing: callers use credentials of their own.
    None,
}

/// One thing that is wrong with a registry's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON Pointer into the settings, such as `/account_id`; `""` is all of them.
    pub path: String,
    /// What was expected, in lower case and without a full stop.
    pub message: String,
}

impl Problem {
    /// A problem with the setting at `path`, a JSON Pointer.
    ///
    /// ```
    /// let problem = rise_provider::Problem::new("/account_id", "expected 12 digits");
    /// assert_eq!(problem.path, "/account_id");
    /// ```
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}
