//! How one registry takes revocations: how many at once, and how long it is left alone.

use jiff::Timestamp;

use super::Revoked;

/// Calls of one registry at once.
pub(super) const AT_ONCE: usize = 8;
/// The longest pause of a registry that does not answer, in seconds. A credential lives at most a
/// minute longer than it was granted once the registry answers again.
const LONGEST_PAUSE: i64 = 30;
/// The longest pause before a registry that denied is asked again for the same credential.
const LONGEST_DENIAL: i64 = 60;

#[derive(Default)]
pub(super) struct Pace {
    workers: usize,
    /// Failures of the registry itself since its last success.
    failures: u32,
    paused_until: Option<Timestamp>,
}

impl Pace {
    /// How many more workers may start for so many revocations that are due. They count as started.
    pub(super) fn start(&mut self, due: usize, now: Timestamp) -> usize {
        if self.is_paused(now) {
            return 0;
        }
        let most = if self.failures > 0 { 1 } else { AT_ONCE };
        let more = due.min(most.saturating_sub(self.workers));
        self.workers += more;
        more
    }

    pub(super) fn worker_ends(&mut self) {
        self.workers = self.workers.saturating_sub(1);
    }

    pub(super) fn is_paused(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Returns in how many seconds the same revocation is due again; `None`: never. `attempts` are
    /// those for this credential.
    pub(super) fn after(
        &mut self,
        outcome: &Revoked,
        attempts: u32,
        now: Timestamp,
    ) -> Option<i64> {
        match outcome {
            Revoked::Ended => {
                (self.failures, self.paused_until) = (0, None);
                None
            }
            Revoked::Later(asked) => {
                self.failures = self.failures.saturating_add(1);
                let pause = asked.map_or_else(|| doubled(self.failures), i64::from);
                let pause = pause.clamp(1, LONGEST_PAUSE);
                self.paused_until = Some(later(now, pause));
                Some(pause)
            }
            Revoked::Denied => Some(doubled(attempts).min(LONGEST_DENIAL)),
            Revoked::Elsewhere(pause) => Some(*pause),
            Revoked::EndedElsewhere => None,
        }
    }
}

/// Seconds: 1, 2, 4 …
fn doubled(times: u32) -> i64 {
    1_i64 << times.saturating_sub(1).min(16)
}

pub(super) fn later(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now)
}
