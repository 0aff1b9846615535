//! The clock, which is a parameter everywhere.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of time. Tests use one that they control.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// `None` if the elapsed time follows `now`.
    start: Option<Instant>,
}

impl Clock {
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that asks the system for the time"
        )]
        let now = Arc::new(Timestamp::now);
        Self { now, start: Some(Instant::now()) }
    }

    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), start: None }
    }

    /// A wall clock that somebody sets, while the elapsed time goes on.
    pub fn that_may_be_set(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), start: Some(Instant::now()) }
    }

    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Returns the seconds since the Unix epoch, and 0 before 1970.
    pub fn unix_seconds(&self) -> u64 {
        u64::try_from(self.now().as_second()).unwrap_or(0)
    }

    /// Returns the time since a fixed moment, for rates and pauses. It never goes back, even if the
    /// wall clock does.
    pub fn elapsed(&self) -> Duration {
        match self.start {
            Some(start) => start.elapsed(),
            None => Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH))
                .unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
