//! The error of providers and capabilities.

/// Why a call failed. The variants differ by what happens next.
///
/// Capabilities and providers have the same errors, so a provider can return an error that it got.
/// The texts are for operators: the host never shows them to a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The operator's settings are wrong. A retry cannot help.
    #[error("the settings are wrong: {0}")]
    InvalidSettings(String),
    /// The operator does not allow this registry to do that. It is a bug in the provider, or an
    /// attack.
    #[error("refused: {0}")]
    Refused(String),
    /// The registry or cloud denied the request. A retry cannot help.
    #[error("denied: {0}")]
    Denied(String),
    /// The registry has no such repository, and the provider created none.
    #[error("not found: {0}")]
    NotFound(String),
    /// The registry or cloud asks for a pause, in seconds if it states them.
    #[error("throttled")]
    Throttled(Option<u32>),
    /// The registry or cloud could not be reached. A retry may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// This provider cannot do that on this registry.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Any other failure, such as an unexpected answer.
    #[error("failed: {0}")]
    Failed(String),
}
