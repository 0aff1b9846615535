//! The time, as a value that is handed in.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Tells the time. Tests hand in one that they move themselves.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// `None`: follows `now`.
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

    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Seconds since the Unix epoch; a clock before 1970 reads 0.
    pub fn unix_seconds(&self) -> u64 {
        u64::try_from(self.now().as_second()).unwrap_or(0)
    }

    /// Since some fixed moment. The system's never goes back, whatever is done to the wall clock: for rates and pauses.
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
