//! How fast calls of one registry start: each takes the next moment at which one may, in order.
//!
//! **Invariant:** each call knows at once how long it will wait. A moment that is given back goes
//! to the next who asks, and one that nobody used is lost: the pace is never exceeded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Rate;

pub(super) struct Pace {
    /// Between two starts.
    interval: Duration,
    /// How far ahead of the interval a burst may be.
    ahead: Duration,
    moments: Mutex<Moments>,
}

/// By the broker's clock.
#[derive(Default)]
struct Moments {
    /// When the next call may start if there is no burst left.
    next: Duration,
    /// Taken and not used. Bounded by the longest wait.
    free: BinaryHeap<Reverse<Duration>>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_burst(Duration::from_secs(1) / rate.per_second.get(), rate.burst.get())
    }

    /// The part of `rate` that is one broker's of so many. Of a burst at least one.
    pub(super) fn share(rate: Rate, replicas: u32) -> Self {
        let replicas = replicas.max(1);
        let interval = Duration::from_secs(1) * replicas / rate.per_second.get();
        Self::with_burst(interval, rate.burst.get().div_ceil(replicas))
    }

    fn with_burst(interval: Duration, burst: u32) -> Self {
        let ahead = interval.saturating_mul(burst.saturating_sub(1));
        Self { interval, ahead, moments: Mutex::default() }
    }

    /// Takes the next moment at which a call may start. `Err` is how long until then, if that is
    /// longer than `longest`: nothing is taken.
    pub(super) fn take(&self, now: Duration, longest: Duration) -> Result<Duration, Duration> {
        let mut moments = self.moments();
        let start = moments.next.max(now);
        let moment = start.saturating_sub(self.ahead).max(now);
        while moments.free.peek().is_some_and(|Reverse(free)| *free < now) {
            moments.free.pop();
        }
        if moments.free.peek().is_some_and(|Reverse(free)| *free <= moment) {
            return Ok(moments.free.pop().map_or(moment, |Reverse(free)| free));
        }
        let wait = moment.saturating_sub(now);
        if wait > longest {
            return Err(wait);
        }
        moments.next = start + self.interval;
        Ok(moment)
    }

    /// Gives back a moment that has not come yet.
    pub(super) fn give_back(&self, moment: Duration) {
        self.moments().free.push(Reverse(moment));
    }

    /// A call starts at `moment` by the pace of all brokers. What this pace gives comes after it,
    /// and without a burst at first.
    pub(super) fn follow(&self, moment: Duration) {
        let mut moments = self.moments();
        moments.next = moments.next.max(moment + self.ahead);
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_share_follows_what_was_taken_by_the_pace_of_all() {
        let rate = Rate { per_second: 20.try_into().unwrap(), burst: 8.try_into().unwrap() };
        let (pace, now, longest) =
            (Pace::share(rate, 3), Duration::from_secs(100), Duration::from_mins(1));
        let ms = |number| now + Duration::from_millis(number);
        for expected in [0, 0, 0, 150, 300] {
            assert_eq!(pace.take(now, longest), Ok(ms(expected)));
        }
        pace.follow(ms(20_000));
        for expected in [20_000, 20_150] {
            assert_eq!(pace.take(ms(10_000), longest), Ok(ms(expected)));
        }
        pace.follow(ms(10_000));
        assert_eq!(pace.take(ms(10_000), longest), Ok(ms(20_300)));
        // The smallest rate of many brokers.
        let rate = Rate { per_second: 1.try_into().unwrap(), burst: 1.try_into().unwrap() };
        let pace = Pace::share(rate, 100);
        assert_eq!(pace.take(now, longest), Ok(now));
        assert_eq!(pace.take(now, longest), Err(Duration::from_secs(100)));
        assert_eq!(pace.take(ms(100_000), longest), Ok(ms(100_000)));
    }
}
