//! Notices that the system's clock was set while the broker ran: tokens, signatures for AWS and
//! expiry times are then off by as much, until every clock agrees again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::Clock;

/// A clock that is slewed gains or loses far less between two looks.
const STEP: SignedDuration = SignedDuration::from_secs(5);
/// How long readiness reports a step.
const SHOWN: Duration = Duration::from_mins(10);

pub struct ClockSteps {
    clock: Clock,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The moment at which the process would have started by the clock of now.
    start: Timestamp,
    steps: u64,
    last: Option<Step>,
}

#[derive(Clone, Copy)]
struct Step {
    /// Negative: the clock went back.
    seconds: i64,
    at: Duration,
}

/// A step that was noticed a short time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RecentStep {
    /// By how much the clock was set; negative if it went back.
    pub stepped_seconds: i64,
    pub seconds_ago: u64,
}

impl ClockSteps {
    pub fn new(clock: Clock) -> Self {
        let start = start(&clock);
        Self { clock, seen: Mutex::new(Seen { start, steps: 0, last: None }) }
    }

    /// Compares the clock with the time that has passed. Returns the last step, if it is recent.
    pub fn check(&self) -> Option<RecentStep> {
        let (start, now) = (start(&self.clock), self.clock.elapsed());
        let mut seen = self.seen();
        let difference = start.duration_since(seen.start);
        if difference.abs() >= STEP {
            let seconds = difference.as_secs();
            tracing::warn!(
                seconds,
                "the clock was set: tokens and AWS signatures are judged by it; see that it is \
                 synchronized"
            );
            seen.start = start;
            seen.steps = seen.steps.saturating_add(1);
            seen.last = Some(Step { seconds, at: now });
        }
        let Step { seconds, at } = seen.last?;
        let ago = now.saturating_sub(at);
        (ago < SHOWN).then_some(RecentStep { stepped_seconds: seconds, seconds_ago: ago.as_secs() })
    }

    /// How often the clock was set.
    pub fn count(&self) -> u64 {
        self.seen().steps
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(clock: &Clock) -> Timestamp {
    clock.now().checked_sub(clock.elapsed()).unwrap_or(Timestamp::MIN)
}
