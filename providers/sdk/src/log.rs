//! Lines for the operator, tagged with the registry and the grant.
//!
//! The one capability that works outside `issue` too. The host bounds how many lines and how long.
//!
//! ```
//! use rise_provider::log::{self, Level};
//! use rise_provider::testing::{Call, Host};
//!
//! let ((), calls) = Host::new().run(|| log::warn("nothing is removed yet"));
//! assert_eq!(calls, [Call::Log { level: Level::Warn, message: "nothing is removed yet".to_owned() }]);
//! ```

use crate::host;

/// How much an operator should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the author of the provider.
    Debug,
    /// Worth knowing.
    Info,
    /// Something that the operator should change.
    Warn,
    /// Something that did not work.
    Error,
}

/// For the author of the provider.
pub fn debug(message: &str) {
    host::log(Level::Debug, message);
}

/// Worth knowing.
pub fn info(message: &str) {
    host::log(Level::Info, message);
}

/// Something that the operator should change.
pub fn warn(message: &str) {
    host::log(Level::Warn, message);
}

/// Something that did not work.
pub fn error(message: &str) {
    host::log(Level::Error, message);
}
