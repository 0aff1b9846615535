//! Mints that failed a moment ago. Those who ask again at once get the same answer, so that a crowd
//! whose mint failed does not become a storm of calls.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::IssueError;
use super::key::CredentialKey;
use crate::domain::Clock;

/// A registry that refused the broker is asked again after this time: only somebody who changes its
/// permissions helps.
const DENIED: Duration = Duration::from_secs(10);
const OTHER: Duration = Duration::from_secs(1);
/// A registry that asks for more is asked again after this time all the same.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(5);

pub(super) struct RememberedFailures {
    failures: Cache<CredentialKey, Arc<Remembered>>,
    clock: Clock,
}

struct Remembered {
    error: IssueError,
    /// By the broker's clock.
    until: Duration,
}

impl RememberedFailures {
    pub(super) fn new(entries: u32, clock: Clock) -> Self {
        let failures =
            Cache::builder().max_capacity(entries.into()).time_to_live(LONGEST_PAUSE).build();
        Self { failures, clock }
    }

    /// `left`: for how long, if another broker knows that.
    pub(super) fn remember(&self, key: CredentialKey, error: &IssueError, left: Option<Duration>) {
        let pause = left.or_else(|| pause(error));
        let Some(pause) = pause.filter(|_| key.is_shared()) else { return };
        let until = self.clock.elapsed() + pause;
        self.failures.insert(key, Arc::new(Remembered { error: error.clone(), until }));
    }

    pub(super) fn recall(&self, key: &CredentialKey) -> Option<IssueError> {
        let remembered = self.failures.get(key)?;
        let left = remembered.until.saturating_sub(self.clock.elapsed());
        if left.is_zero() {
            self.failures.invalidate(key);
            return None;
        }
        Some(shortened(remembered.error.clone(), left))
    }
}

/// What is left of a pause that the registry asked for.
pub(super) fn shortened(error: IssueError, left: Duration) -> IssueError {
    let is_pause = matches!(error, IssueError::UpstreamThrottled(Some(_)));
    if is_pause { IssueError::UpstreamThrottled(Some(seconds(left))) } else { error }
}

/// How long `error` is the answer to everybody who asks for the same. `None`: it says nothing about
/// the next mint.
pub(super) fn pause(error: &IssueError) -> Option<Duration> {
    match error {
        IssueError::UpstreamDenied(_) => Some(DENIED),
        IssueError::UpstreamThrottled(Some(asked)) => {
            Some(Duration::from_secs((*asked).into()).clamp(OTHER, LONGEST_PAUSE))
        }
        IssueError::UpstreamThrottled(None)
        | IssueError::ProviderFailed(_)
        | IssueError::UpstreamUnavailable(_)
        | IssueError::UpstreamTimedOut(_)
        | IssueError::Overloaded
        | IssueError::Internal(_) => Some(OTHER),
        IssueError::LeftAlone { .. }
        | IssueError::OutstandingFull
        | IssueError::ListUnavailable(_)
        | IssueError::Limited(_)
        | IssueError::Replayed(_)
        | IssueError::RepositoryConflict(_)
        | IssueError::Audit(_) => None,
    }
}

/// Rounded up.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
