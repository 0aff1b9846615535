//! Failures of AWS calls, and what providers hear of them.

use crate::capability::wit::rise::registry::types::Error;

/// Why an AWS call failed, by what happens next. The texts are for the operator.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AwsError {
    #[error("AWS denied it: {0}")]
    Denied(String),
    #[error("AWS rejects the access keys: {0}")]
    RejectedKeys(String),
    #[error(
        "the clock of this machine differs from that of AWS, which therefore rejects each request; \
         synchronize it: {0}"
    )]
    ClockDiffers(String),
    #[error("AWS asks for a pause: {0}")]
    Throttled(String),
    #[error("AWS did not answer in time: {0}")]
    TimedOut(String),
    #[error("AWS cannot be reached: {0}")]
    Unavailable(String),
    #[error("AWS returned an unexpected answer: {0}")]
    Nonsense(String),
    #[error("{0}")]
    InvalidSettings(String),
}

impl AwsError {
    /// Whether the same call may work a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::TimedOut(_) | Self::Unavailable(_) => true,
            Self::Denied(_)
            | Self::RejectedKeys(_)
            | Self::ClockDiffers(_)
            | Self::Nonsense(_)
            | Self::InvalidSettings(_) => false,
        }
    }

    /// The outcome, as metrics name it.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Denied(_) | Self::RejectedKeys(_) => "denied",
            Self::ClockDiffers(_) => "clock-differs",
            Self::Throttled(_) => "throttled",
            Self::TimedOut(_) => "timed-out",
            Self::Unavailable(_) => "unavailable",
            Self::Nonsense(_) => "nonsense",
            Self::InvalidSettings(_) => "invalid-settings",
        }
    }
}

impl From<AwsError> for Error {
    fn from(error: AwsError) -> Self {
        match error {
            AwsError::Denied(text) => Self::Denied(text),
            keys @ AwsError::RejectedKeys(_) => Self::Denied(keys.to_string()),
            clock @ AwsError::ClockDiffers(_) => Self::Unavailable(clock.to_string()),
            AwsError::Throttled(_) => Self::Throttled(None),
            AwsError::TimedOut(text) | AwsError::Unavailable(text) => Self::Unavailable(text),
            AwsError::Nonsense(text) => Self::Failed(text),
            AwsError::InvalidSettings(text) => Self::InvalidSettings(text),
        }
    }
}
