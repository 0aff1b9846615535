//! Deadlines and the current time.

use std::time::{Duration, Instant, SystemTime};

/// The longest attempt. A server that takes longer is as good as down.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(9);

/// The instant at which an operation gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    pub(crate) fn at(instant: Instant) -> Self {
        Self(instant)
    }

    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// The earlier of this deadline and `duration` from now.
    #[must_use]
    pub(crate) fn at_most(self, duration: Duration) -> Self {
        Self(self.0.min(Instant::now() + duration))
    }
}

/// Seconds since 1970 by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "the only place that reads the clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `90 seconds`, `12 minutes`, `3 hours`, `2 days`.
pub(crate) fn spoken(seconds: u64) -> String {
    match seconds {
        1 => "1 second".to_owned(),
        0..=119 => format!("{seconds} seconds"),
        120..=7_199 => format!("{} minutes", (seconds + 30) / 60),
        7_200..=172_799 => format!("{} hours", (seconds + 1_800) / 3_600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    }
}
