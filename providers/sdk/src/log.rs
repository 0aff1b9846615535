//! Lines for the operator, tagged with the registry and the grant.
//!
//! Every function may write them. The other capabilities work only in functions with a grant. The
//! host limits the number of lines and their length.
//!
//! ```
//! use rise_provider::log::{self, Level};
//! use rise_provider::testing::{Call, Host};
//!
//! let ((), calls) = Host::new().run(|| log::warn("nothing is removed yet"));
//! let message = "nothing is removed yet".to_owned();
//! assert_eq!(calls, [Call::Log { level: Level::Warn, message }]);
//! ```

use crate::host;

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Details for the author of the provider.
    Debug,
    /// Information for the operator.
    Info,
    /// Something that the operator should change.
    Warn,
    /// Something failed.
    Error,
}

/// Logs details for the author of the provider.
pub fn debug(message: &str) {
    host::log(Level::Debug, message);
}

/// Logs information for the operator.
pub fn info(message: &str) {
    host::log(Level::Info, message);
}

/// Logs something that the operator should change. In `check` it is a warning about the settings,
/// which `rise-broker check` lists: begin it with the name of the setting, as in
/// `` `auto_remove = true` has no effect ``.
pub fn warn(message: &str) {
    host::log(Level::Warn, message);
}

/// Logs a failure.
pub fn error(message: &str) {
    host::log(Level::Error, message);
}
