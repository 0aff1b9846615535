//! One log line when the store goes away and one when it is back, and a count of each failure.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Clock;
use crate::telemetry::Metrics;

/// An episode ends when this time has passed without a failure.
const CALM: Duration = Duration::from_secs(2);

/// What the store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To keep the connection.
    Connection,
    Tokens,
    Limits,
    /// To know which credentials are out, and which have ended.
    Outstanding,
    /// Kept credentials, and who mints.
    Credentials,
    /// When calls of a registry may start, and which registries are left alone.
    Registries,
}

/// Why the store is of no use now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no connection.
    Away,
    /// The answer takes too long.
    Slow,
    /// It is a replica.
    ReadOnly,
    Full,
    /// It answers with an error.
    Refusing,
    /// Its answers are no answers of Redis.
    Nonsense,
    /// It does not keep what it was told.
    Forgetful,
}

impl Use {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Tokens => "tokens",
            Self::Limits => "limits",
            Self::Outstanding => "outstanding",
            Self::Credentials => "credentials",
            Self::Registries => "registries",
        }
    }
}

impl Reason {
    /// The word for it in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Slow => "slow",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
            Self::Refusing => "refusing",
            Self::Nonsense => "nonsense",
            Self::Forgetful => "forgetful",
        }
    }
}

/// A time during which the store fails, from the first failure on.
pub(super) struct Episodes {
    clock: Clock,
    metrics: Metrics,
    current: Mutex<Option<Episode>>,
}

#[derive(Clone, Copy)]
struct Episode {
    /// By the broker's clock.
    began: Duration,
    last: Duration,
    failures: u64,
}

impl Episodes {
    pub(super) fn new(clock: Clock, metrics: Metrics) -> Self {
        Self { clock, metrics, current: Mutex::default() }
    }

    /// Counts a failure that begins no episode: the store answers.
    pub(super) fn count(&self, purpose: Use, reason: Reason) {
        self.metrics.shared_failure(purpose.as_str(), reason.as_str());
    }

    /// `cause` is for the operator.
    pub(super) fn failed(&self, purpose: Use, reason: Reason, cause: &str) {
        self.count(purpose, reason);
        let now = self.clock.elapsed();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(episode) = current.as_mut() {
            episode.last = now;
            episode.failures += 1;
            return;
        }
        *current = Some(Episode { began: now, last: now, failures: 1 });
        drop(current);
        tracing::warn!(
            reason = reason.as_str(),
            purpose = purpose.as_str(),
            cause,
            "the shared store of [shared] fails: until it answers, limits and the pace of \
             registries are this broker's share, each broker mints for itself and ends only what \
             it has issued itself, and single-use tokens are rejected"
        );
    }

    pub(super) fn answered(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(episode) = *current else { return };
        let now = self.clock.elapsed();
        if now.saturating_sub(episode.last) < CALM {
            return;
        }
        *current = None;
        drop(current);
        let took = now.saturating_sub(episode.began);
        tracing::info!(
            seconds = took.as_secs(),
            failures = episode.failures,
            "the shared store of [shared] answers again"
        );
    }

    pub(super) fn is_calm(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}
