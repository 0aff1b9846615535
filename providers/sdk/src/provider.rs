//! The trait that a provider implements, and the types that its `check` returns.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Error, Grant, Issued, Location, Needs};

/// One kind of registry.
///
/// Each call runs in a fresh instance and keeps nothing for the next one, so there is no `self`.
/// Only [`issue`](Provider::issue) may use capabilities, and the functions of
/// [`Revocation`](crate::Revocation), [`Repositories`](crate::Repositories) and
/// [`Leftovers`](crate::Leftovers). In the other functions the host refuses every capability except
/// [`log`](crate::log).
pub trait Provider {
    /// The settings of one registry. The host checks a configuration against its JSON Schema, and
    /// operators read the doc comments of the fields. Add `#[serde(deny_unknown_fields)]`, and make
    /// every secret a [`SecretName`](crate::SecretName).
    type Settings: DeserializeOwned + JsonSchema;

    /// The name that `type = "…"` in the configuration refers to.
    const NAME: &'static str;

    /// Other names, such as older spellings.
    const ALIASES: &'static [&'static str] = &[];

    /// The version that operators see. Use `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;

    /// A description for operators, of one sentence.
    const DESCRIPTION: &'static str;

    /// Returns how narrow the credentials of these settings are.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the settings and that the schema cannot express. Settings that
    /// are not JSON of type [`Settings`](Provider::Settings) are rejected before this function
    /// runs.
    fn check(settings: &Self::Settings) -> Result<Scope, Vec<Problem>>;

    /// Returns where `project` lives. `project` has the grammar of [`Grant::project`].
    ///
    /// The repository must have the project exactly once and unchanged, as whole path components.
    /// The function is pure: the host may call it at any time.
    fn locate(settings: &Self::Settings, project: &str) -> Result<Location, Error>;

    /// Returns the project that [`locate`](Provider::locate) puts at `location`, or `None`. The
    /// host decides which names are projects, and who owns what lies below a repository.
    fn resolve(settings: &Self::Settings, location: &Location) -> Option<String>;

    /// Returns which requests these settings need and where images are, so that the operator need
    /// not write `ceiling.http.allow` and `location`. It counts only for a provider that the
    /// operator trusts. The default means the origin of the setting `base_url`.
    ///
    /// The function is pure: the host calls it at start.
    fn needs(_settings: &Self::Settings) -> Needs {
        Needs::default()
    }

    /// Issues credentials for the whole grant, and for as little more as the registry allows.
    ///
    /// An [`Error`] of a capability can be returned as it is.
    fn issue(settings: &Self::Settings, grant: &Grant) -> Result<Issued, Error>;
}

/// The narrowest scope that the registry itself enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One repository, and only the granted actions.
    Repository,
    /// A group of repositories: a Harbor or GitLab project, an owner, or one Docker repository of
    /// Nexus or Artifactory with all images in it.
    Namespace,
    /// Everything that the registry's own account may do. The broker starts only if the operator
    /// accepts that.
    Registry,
    /// No access at all: callers use credentials of their own.
    None,
}

/// A problem with the settings of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON Pointer into the settings, such as `/account_id`; `""` means all settings.
    pub path: String,
    /// The expected value, in lower case and without a full stop.
    pub message: String,
}

impl Problem {
    /// Makes a problem with the setting at `path`, a JSON Pointer.
    ///
    /// ```
    /// let problem = rise_provider::Problem::new("/account_id", "expected 12 digits");
    /// assert_eq!(problem.path, "/account_id");
    /// ```
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// For functions that read the settings again after `check` has accepted them.
///
/// ```
/// use rise_provider::{Error, Problem};
/// let problem = Problem::new("/account_id", "expected 12 digits");
/// let error = Error::InvalidSettings("`/account_id`: expected 12 digits".to_owned());
/// assert_eq!(Error::from(problem), error);
/// ```
impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::InvalidSettings(format!("`{}`: {}", problem.path, problem.message))
    }
}
