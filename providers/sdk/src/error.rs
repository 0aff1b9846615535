//! The one error of providers and capabilities.

/// Why something could not be done, by what happens next.
///
/// Capabilities and providers fail in the same words, so a provider can hand on what it got. Texts are for operators:
/// the host never shows them to a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The operator's settings are wrong. Retrying cannot help.
    #[error("the settings are wrong: {0}")]
    InvalidSettings(String),
    /// Outside what the operator allows this registry: a bug, or worse.
    #[error("refused: {0}")]
    Refused(String),
    /// The registry or cloud said no. Retrying cannot help.
    #[error("denied: {0}")]
    Denied(String),
    /// The registry has no such repository, and none was made.
    #[error("not found: {0}")]
    NotFound(String),
    /// The registry or cloud asks for a pause, in seconds where it says.
    #[error("throttled")]
    Throttled(Option<u32>),
    /// The registry or cloud could not be reached. Retrying may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// This provider cannot do that on this registry.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Anything else, such as an answer that makes no sense.
    #[error("failed: {0}")]
    Failed(String),
}
