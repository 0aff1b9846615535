//! How fast calls of one registry start: each takes the next moment at which one may, in order.
//!
//! **Invariant:** calls start in the order in which they took their moments, and each knows at once
//! how long it will wait. A moment that is not used is lost: the pace is never exceeded.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Rate;

pub(super) struct Pace {
    /// Between two starts.
    interval: Duration,
    /// How far ahead of the interval a burst may be.
    ahead: Duration,
    /// When the next call may start if there is no burst left, by the broker's clock.
    next: Mutex<Duration>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.get();
        let ahead = interval.saturating_mul(rate.burst.get() - 1);
        Self { interval, ahead, next: Mutex::default() }
    }

    /// Takes the next moment at which a call may start. `Err` is how long until then, if that is
    /// longer than `longest`: nothing is taken.
    pub(super) fn take(&self, now: Duration, longest: Duration) -> Result<Duration, Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now);
        let moment = start.saturating_sub(self.ahead).max(now);
        let wait = moment.saturating_sub(now);
        if wait > longest {
            return Err(wait);
        }
        *next = start + self.interval;
        Ok(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_starts_at_once_and_the_rest_in_order() {
        let rate = Rate { per_second: 20.try_into().unwrap(), burst: 3.try_into().unwrap() };
        let (pace, now, longest) =
            (Pace::new(rate), Duration::from_secs(100), Duration::from_millis(120));
        let ms = |number| now + Duration::from_millis(number);
        for expected in [0, 0, 0, 50, 100] {
            assert_eq!(pace.take(now, longest), Ok(ms(expected)));
        }
        // A call that would wait for too long takes nothing.
        assert_eq!(pace.take(now, longest), Err(Duration::from_millis(150)));
        assert_eq!(pace.take(now, longest), Err(Duration::from_millis(150)));
        assert_eq!(pace.take(ms(60), longest), Ok(ms(150)));
        // After a pause the whole burst is there again.
        for expected in [1_000, 1_000, 1_000, 1_050] {
            assert_eq!(pace.take(ms(1_000), longest), Ok(ms(expected)));
        }
    }
}
