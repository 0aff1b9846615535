//! Why a grant is not answered with credentials.

use std::time::Duration;

use super::RepositoryConflict;
use crate::audit::AuditError;
use crate::capability::aws::AwsError;
use crate::capability::wit::rise::registry::types::Error;
use crate::capability::{CallState, printable, withheld_text};
use crate::domain::ProblemType;
use crate::identity::Replayed;
use crate::limits::Refused;
use crate::provider::CallError;
use crate::shared::StoreUnavailable;

/// Grouped by what happens next. Texts are for the operator.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IssueError {
    /// The provider broke a rule or could not do its work: its author or the settings must change.
    #[error("{0}")]
    ProviderFailed(String),
    /// The registry or cloud refused: the broker's permissions there must change.
    #[error("{0}")]
    UpstreamDenied(String),
    /// Later: the registry or cloud asks for a pause, in seconds if it says how long.
    #[error("the registry or cloud asks for a pause")]
    UpstreamThrottled(Option<u32>),
    /// Later.
    #[error("{0}")]
    UpstreamUnavailable(String),
    /// Later: the registry or cloud did not answer in time.
    #[error("{0}")]
    UpstreamTimedOut(String),
    /// Later: the registry did not answer a while ago, or asked for a pause, and is not called now.
    #[error("the registry is left alone for {} s", wait.as_secs())]
    LeftAlone { wait: Duration },
    /// Later: the broker runs as many provider calls as it can.
    #[error("too many provider calls at once")]
    Overloaded,
    /// Later: the broker would have to end more credentials than it keeps a list of.
    #[error("too many credentials wait for their end")]
    OutstandingFull,
    /// Later: the registry has no place for another call, or its pace is used up.
    #[error(transparent)]
    Limited(#[from] Refused),
    /// Later: the store in which brokers list what is out does not answer.
    #[error("what other brokers have minted is not known: {0}")]
    ListUnavailable(#[from] StoreUnavailable),
    /// The caller needs another token, or the broker cannot remember that this one was used.
    #[error(transparent)]
    Replayed(#[from] Replayed),
    /// Later: without a durable record no credential leaves.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The repository is not there, or not the project's: somebody must decide.
    #[error("{0}")]
    RepositoryConflict(RepositoryConflict),
    /// A bug in the broker.
    #[error("{0}")]
    Internal(String),
}

impl IssueError {
    /// The word for it in problems, audit records and metrics.
    pub fn problem_type(&self) -> ProblemType {
        match self {
            Self::ProviderFailed(_) => ProblemType::ProviderFailed,
            Self::UpstreamDenied(_) => ProblemType::UpstreamDenied,
            Self::UpstreamThrottled(_) | Self::UpstreamUnavailable(_) | Self::LeftAlone { .. } => {
                ProblemType::UpstreamUnavailable
            }
            Self::UpstreamTimedOut(_) => ProblemType::UpstreamTimeout,
            Self::Overloaded | Self::OutstandingFull => ProblemType::Overloaded,
            Self::Limited(refused) => refused.problem_type(),
            Self::Replayed(Replayed::Used | Replayed::BeforeStart | Replayed::Early) => {
                ProblemType::TokenReplayed
            }
            Self::Replayed(Replayed::Full | Replayed::Unknown(_)) => {
                ProblemType::ReplayStoreUnavailable
            }
            Self::ListUnavailable(_) => ProblemType::SharedStoreUnavailable,
            Self::Audit(_) => ProblemType::AuditUnavailable,
            Self::RepositoryConflict(_) => ProblemType::RepositoryConflict,
            Self::Internal(_) => ProblemType::Internal,
        }
    }

    /// Whether the same request may succeed later, with nothing changed.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::UpstreamThrottled(_)
            | Self::UpstreamUnavailable(_)
            | Self::UpstreamTimedOut(_)
            | Self::LeftAlone { .. }
            | Self::Overloaded
            | Self::OutstandingFull
            | Self::ListUnavailable(_)
            | Self::Limited(_) => true,
            Self::ProviderFailed(_)
            | Self::UpstreamDenied(_)
            | Self::Replayed(_)
            | Self::Audit(_)
            | Self::RepositoryConflict(_)
            | Self::Internal(_) => false,
        }
    }
}

impl From<AwsError> for IssueError {
    fn from(error: AwsError) -> Self {
        let text = error.to_string();
        match error {
            AwsError::Denied(_)
            | AwsError::RejectedKeys(_)
            | AwsError::InvalidSettings(_)
            | AwsError::Nonsense(_) => Self::UpstreamDenied(text),
            AwsError::Throttled(_) => Self::UpstreamThrottled(None),
            AwsError::TimedOut(_) => Self::UpstreamTimedOut(text),
            AwsError::ClockDiffers(_) | AwsError::Unavailable(_) => Self::UpstreamUnavailable(text),
        }
    }
}

impl From<CallError> for IssueError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Trapped(_) | CallError::Limit(_) => Self::ProviderFailed(error.to_string()),
            CallError::UpstreamTimedOut => Self::UpstreamTimedOut(error.to_string()),
            CallError::Overloaded => Self::Overloaded,
            CallError::Host(_) => Self::Internal(error.to_string()),
        }
    }
}

/// The meaning of an error that a provider returned. Whether an upstream was too slow is what the
/// host saw, not what the provider says.
pub(super) fn returned(error: Error, state: &CallState) -> IssueError {
    let clean =
        |text: String| state.withheld(&text).map_or_else(|| printable(&text, 512), withheld_text);
    match error {
        Error::Refused(text) => IssueError::ProviderFailed(format!(
            "asked for {}",
            state.refused.clone().unwrap_or_else(|| clean(text))
        )),
        Error::InvalidSettings(text) => {
            IssueError::ProviderFailed(format!("its settings are wrong: {}", clean(text)))
        }
        Error::Unsupported(text) => {
            IssueError::ProviderFailed(format!("cannot do that here: {}", clean(text)))
        }
        Error::Failed(text) => IssueError::ProviderFailed(clean(text)),
        Error::Denied(text) => IssueError::UpstreamDenied(clean(text)),
        Error::NotFound(text) => {
            IssueError::UpstreamDenied(format!("no such repository: {}", clean(text)))
        }
        Error::Throttled(pause) => IssueError::UpstreamThrottled(pause),
        Error::Unavailable(text) if state.upstream_slow => {
            IssueError::UpstreamTimedOut(clean(text))
        }
        Error::Unavailable(text) => IssueError::UpstreamUnavailable(clean(text)),
    }
}
