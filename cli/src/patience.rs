//! Repeats a request that failed for a passing reason, until the wait of the run is used up.
//!
//! **Invariant:** the pause that a server asks for by `Retry-After` is kept, or the run fails at
//! once.
//! **Invariant:** a run with a wait ends when the wait is over; a run without one ends after one
//! attempt.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::deadline::{ATTEMPT, Deadline, spoken};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// The longest first pause. Each further one may be twice as long, and lasts half of that at least.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that no server asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// With less time left, another attempt has no chance.
const LEAST: Duration = Duration::from_millis(250);
/// A pause from this length on is told where no terminal shows it.
const TOLD: Duration = Duration::from_secs(4);
/// Characters of a reason that fit on a line of a terminal.
const REASON: usize = 60;

/// The time that a run may spend on waiting and repeating.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    started: Instant,
    wait: Duration,
    /// The longest attempt.
    attempt: Duration,
    terminal: Terminal,
}

/// Whether a failed request is worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Never,
    /// Never, because the broker itself has rejected the token or denied the request.
    Refused,
    /// The reason may pass soon.
    Soon,
    /// The server asks for this pause.
    After(Duration),
}

/// A failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setback {
    pub(crate) failure: Failure,
    pub(crate) repeat: Repeat,
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self { failure, repeat: Repeat::Never }
    }
}

impl From<Setback> for Failure {
    fn from(setback: Setback) -> Self {
        setback.failure
    }
}

impl Patience {
    pub(crate) fn new(wait: Duration, terminal: Terminal) -> Self {
        Self { started: Instant::now(), wait, attempt: ATTEMPT, terminal }
    }

    /// The same wait, counted from now and not shown on the terminal.
    pub(crate) fn restarted(self) -> Self {
        Self { started: Instant::now(), ..self.quiet() }
    }

    /// One attempt of at most `attempt`, within the same time.
    pub(crate) fn once_within(self, attempt: Duration) -> Self {
        let attempt = attempt.min(self.deadline().remaining());
        Self { started: Instant::now(), wait: Duration::ZERO, attempt, ..self }
    }

    /// One attempt.
    pub(crate) fn once(self) -> Self {
        self.once_within(ATTEMPT)
    }

    /// Shows nothing on the terminal.
    pub(crate) fn quiet(self) -> Self {
        Self { terminal: Terminal { progress: false, ..self.terminal }, ..self }
    }

    /// The end of everything. The first attempt may take longer than the wait.
    pub(crate) fn deadline(self) -> Deadline {
        Deadline::at(self.started + self.wait.max(self.attempt))
    }

    /// Calls `attempt` until it succeeds, fails for good, or no time is left. While it lasts, the
    /// terminal shows `what`.
    pub(crate) fn repeat<T>(
        self,
        what: &str,
        mut attempt: impl FnMut(Deadline) -> Result<T, Setback>,
    ) -> Result<T, Failure> {
        let waiting = self.terminal.waiting(what);
        let begun = Instant::now();
        let mut deadline = self.deadline().at_most(self.attempt);
        let mut tries = 1;
        let mut is_told = false;
        loop {
            let Setback { failure, repeat } = match attempt(deadline) {
                Ok(value) => return Ok(value),
                Err(setback) => setback,
            };
            let left = (self.started + self.wait).saturating_duration_since(Instant::now());
            let Some(pause) = pause(repeat, tries, left, random()) else {
                return Err(explained(failure, repeat, tries, begun.elapsed(), left));
            };
            tries += 1;
            waiting.show(format!("{what}, attempt {tries}: {}", reason(&failure)));
            if pause >= TOLD && !is_told && !self.terminal.progress {
                is_told = true;
                self.terminal.note(&format!(
                    "rise-registry: {what} again for up to {}, because {}",
                    spoken(left.as_secs()),
                    failure.line()
                ));
            }
            thread::sleep(pause);
            deadline = Deadline::at(self.started + self.wait).at_most(self.attempt);
        }
    }
}

/// The pause before the next attempt, or `None` if there is none. `random` is from 0 to 1. Without
/// it, all jobs of a matrix would come back at the same moment.
fn pause(repeat: Repeat, tries: u32, left: Duration, random: f64) -> Option<Duration> {
    let asked = match repeat {
        Repeat::Never | Repeat::Refused => return None,
        Repeat::Soon => Duration::ZERO,
        Repeat::After(pause) => pause,
    };
    let step = |tries: u32| {
        let doubled = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10));
        doubled.min(LONGEST_PAUSE)
    };
    let half = step(tries) / 2;
    let least = asked.max(half);
    let spare = left.checked_sub(LEAST)?.checked_sub(least)?;
    let pause = least + half.min(spare).mul_f64(random);
    let rest = left.saturating_sub(LEAST + pause);
    // No further pause would fit, so the last attempt comes as late as it can, and not at the same
    // moment as those of other jobs.
    let is_last = rest < step(tries.saturating_add(1)) / 2;
    Some(if is_last { pause + rest.mul_f64(random) } else { pause })
}

/// The beginning of the failure, which fits on a line.
fn reason(failure: &Failure) -> String {
    let line = failure.line();
    let first = line.split(": ").next().unwrap_or_default();
    first.chars().take(REASON).collect()
}

/// Adds how long the run waited, or why it does not wait.
fn explained(
    failure: Failure,
    repeat: Repeat,
    tries: u32,
    waited: Duration,
    left: Duration,
) -> Failure {
    let failure = if tries > 1 {
        failure.with(&format!("; tried {tries} times in {}", spoken(waited.as_secs())))
    } else {
        failure
    };
    match repeat {
        Repeat::After(pause) if !left.is_zero() && left < pause + LEAST => failure.with(&format!(
            "; the pause of {} s that it asks for does not fit into the {} s that are left of \
             --wait",
            pause.as_secs(),
            left.as_secs()
        )),
        Repeat::After(_) | Repeat::Soon | Repeat::Never | Repeat::Refused => failure,
    }
}

/// From 0 to 1. Each `RandomState` has new keys.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_grow_keep_what_is_asked_for_and_fit_into_what_is_left() {
        let millis = Duration::from_millis;
        let after = |pause| Repeat::After(seconds(pause));
        for (repeat, tries, left, random, expected) in [
            (Repeat::Never, 1, seconds(60), 1.0, None),
            (Repeat::Refused, 1, seconds(60), 1.0, None),
            (Repeat::Soon, 1, seconds(60), 1.0, Some(millis(500))),
            (Repeat::Soon, 1, seconds(60), 0.0, Some(millis(250))),
            (Repeat::Soon, 3, seconds(60), 1.0, Some(seconds(2))),
            (Repeat::Soon, 9, seconds(60), 1.0, Some(seconds(8))),
            (Repeat::Soon, u32::MAX, seconds(60), 1.0, Some(seconds(8))),
            (Repeat::Soon, 9, seconds(60), 0.0, Some(seconds(4))),
            // The rest is too short for another pause: the last attempt is at its end.
            (Repeat::Soon, 9, seconds(6), 1.0, Some(millis(5_750))),
            (Repeat::Soon, 9, seconds(6), 0.0, Some(seconds(4))),
            (Repeat::Soon, 9, seconds(4), 1.0, None),
            (Repeat::Soon, 1, millis(400), 1.0, None),
            (Repeat::Soon, 9, millis(200), 1.0, None),
            (Repeat::Soon, 1, Duration::ZERO, 1.0, None),
            (after(3), 1, seconds(60), 0.0, Some(seconds(3))),
            (after(3), 1, seconds(60), 1.0, Some(millis(3_250))),
            (after(3), 1, seconds(4), 1.0, Some(millis(3_250))),
            (after(3), 1, seconds(3), 0.0, None),
            (after(200), 1, seconds(60), 0.0, None),
            (after(0), 2, seconds(60), 1.0, Some(seconds(1))),
        ] {
            let found = pause(repeat, tries, left, random);
            assert_eq!(found, expected, "{repeat:?} {tries} {left:?} {random}");
        }
        // What a broker sees that is down for a whole wait: no burst, neither at the start nor at
        // the end.
        for (round, wait) in (0..1000).map(|round| (round, seconds(1 + round % 60))) {
            let (mut left, mut tries, mut pauses) = (wait, 1, Vec::new());
            while let Some(pause) = pause(Repeat::Soon, tries, left, random()) {
                pauses.push(pause);
                tries += 1;
                left -= pause;
            }
            let mut step = FIRST_PAUSE;
            for pause in &pauses {
                assert!(*pause >= step / 2, "{round}: {pauses:?}");
                step = (step * 2).min(LONGEST_PAUSE);
            }
            assert!(!pauses.is_empty() && left <= LONGEST_PAUSE, "{round}: {pauses:?}");
        }
        let randoms: Vec<_> = (0..100).map(|_| random()).collect();
        assert!(randoms.iter().all(|random| (0.0..=1.0).contains(random)));
        assert!(randoms.iter().any(|random| *random < 0.5) && randoms.iter().any(|it| *it > 0.5));
    }

    #[test]
    fn a_failure_says_how_often_it_was_tried() {
        let patience = Patience::new(seconds(60), Terminal::default());
        let mut tries = 0;
        let failed: Result<(), _> = patience.repeat("", |_| {
            tries += 1;
            let repeat = if tries < 3 { Repeat::Soon } else { Repeat::Never };
            Err(Setback { failure: Failure::Unavailable("down".into()), repeat })
        });
        let line = failed.unwrap_err().line();
        assert!(line.starts_with("down; tried 3 times in "), "{line}");
        let mut tries = 0;
        let failed: Result<(), _> = patience.once().repeat("", |_| {
            tries += 1;
            let failure = Failure::Unavailable("down".into());
            Err(Setback { failure, repeat: Repeat::After(seconds(1)) })
        });
        assert_eq!((failed.unwrap_err().line().as_str(), tries), ("down", 1));
    }

    #[test]
    fn a_pause_that_does_not_fit_is_named() {
        let patience = Patience::new(seconds(30), Terminal::default());
        let failed: Result<(), _> = patience.repeat("", |_| {
            let failure = Failure::Unavailable("busy".into());
            Err(Setback { failure, repeat: Repeat::After(seconds(200)) })
        });
        let line = failed.unwrap_err().line();
        assert!(line.starts_with("busy; the pause of 200 s that it asks for"), "{line}");
    }
}
