//! A registry that is down is not asked by everybody, and one that asks for a pause gets it.
//!
//! A breaker opens when enough of the calls of ten seconds were not answered. It then lets one call
//! through at a time, each after a longer pause, until one is answered. Mints that wait for their
//! turn hear of it at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::IssueError;
use super::failures::LONGEST_PAUSE;
use crate::domain::Clock;

/// The calls of this time are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// At least this many without an answer, and at least half of all. One flight answers many callers,
/// so calls are few.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MOST_DOUBLINGS: u32 = 4;

/// The breaker of one registry in one epoch.
pub(super) struct Breaker {
    registry: String,
    clock: Clock,
    state: Mutex<BreakerState>,
    /// Told each time that it opens.
    opening: Notify,
}

#[derive(Default)]
struct BreakerState {
    /// When the window began, by the broker's clock.
    began: Duration,
    calls: u32,
    failures: u32,
    /// How often it has opened in a row. 0: it is closed.
    opened: u32,
    /// No call before this.
    until: Duration,
    is_probing: bool,
}

/// One call that the breaker has let through.
pub(super) struct CallAttempt {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

impl Breaker {
    pub(super) fn new(registry: &str, clock: Clock) -> Self {
        let (state, opening) = (Mutex::default(), Notify::new());
        Self { registry: registry.to_owned(), clock, state, opening }
    }

    /// Whether a call would be let through now.
    pub(super) fn check(&self) -> Result<(), IssueError> {
        self.refusal(&self.state()).map_or(Ok(()), Err)
    }

    /// Lets a call through.
    pub(super) fn begin(self: &Arc<Self>) -> Result<CallAttempt, IssueError> {
        let mut state = self.state();
        if let Some(error) = self.refusal(&state) {
            return Err(error);
        }
        let is_probe = state.opened > 0;
        state.is_probing |= is_probe;
        drop(state);
        Ok(CallAttempt { breaker: Arc::clone(self), is_probe })
    }

    /// Waits until it opens, and returns what those hear whose turn has not come. A pause that the
    /// registry asks for ends no wait: turns after it are still good.
    pub(super) async fn opens(&self) -> IssueError {
        loop {
            let opening = self.opening.notified();
            tokio::pin!(opening);
            opening.as_mut().enable();
            let refusal = Some(self.state()).filter(|state| state.opened > 0);
            if let Some(error) = refusal.and_then(|state| self.refusal(&state)) {
                return error;
            }
            opening.await;
        }
    }

    /// For how long the registry is left alone, if it is.
    pub(super) fn left_alone(&self) -> Option<Duration> {
        let state = self.state();
        let left = state.until.saturating_sub(self.clock.elapsed());
        (state.opened > 0 || !left.is_zero()).then_some(left)
    }

    fn refusal(&self, state: &BreakerState) -> Option<IssueError> {
        let left = state.until.saturating_sub(self.clock.elapsed());
        if left.is_zero() && !state.is_probing {
            return None;
        }
        Some(IssueError::LeftAlone { wait: left.max(Duration::from_secs(1)) })
    }

    fn failed(&self, is_probe: bool) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if now.saturating_sub(state.began) > WINDOW {
            state.begin_window(now);
        }
        state.calls += 1;
        state.failures += 1;
        let is_down = state.failures >= FAILURES && state.failures * 2 >= state.calls;
        // Calls that began before it opened say nothing new.
        if is_probe || (state.opened == 0 && is_down) {
            let pause = FIRST_PAUSE * (1 << state.opened.min(MOST_DOUBLINGS));
            state.until = now + pause.min(Duration::from_mins(1));
            state.opened += 1;
            self.opening.notify_waiters();
            if state.opened == 1 {
                tracing::warn!(
                    registry = self.registry,
                    failures = state.failures,
                    "a registry does not answer: until it does, one call at a time tries it"
                );
            }
        }
    }

    fn answered(&self) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if now.saturating_sub(state.began) > WINDOW {
            state.begin_window(now);
        }
        state.calls += 1;
        if state.opened > 0 {
            tracing::info!(registry = self.registry, "a registry answers again");
            state.opened = 0;
            state.until = Duration::ZERO;
            state.begin_window(now);
        }
    }

    fn pause(&self, asked: u32) {
        let pause = Duration::from_secs(asked.into()).min(LONGEST_PAUSE);
        let mut state = self.state();
        state.until = state.until.max(self.clock.elapsed() + pause);
    }

    fn state(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BreakerState {
    fn begin_window(&mut self, now: Duration) {
        (self.began, self.calls, self.failures) = (now, 0, 0);
    }
}

impl CallAttempt {
    /// Counts how the call ended.
    pub(super) fn end<T>(self, result: &Result<T, IssueError>) {
        match result {
            Err(IssueError::UpstreamUnavailable(_) | IssueError::UpstreamTimedOut(_)) => {
                self.breaker.failed(self.is_probe);
            }
            Err(IssueError::UpstreamThrottled(asked)) => {
                self.breaker.answered();
                self.breaker.pause(asked.unwrap_or(0));
            }
            Ok(_) | Err(IssueError::UpstreamDenied(_) | IssueError::RepositoryConflict(_)) => {
                self.breaker.answered();
            }
            // Nothing is known about the registry.
            Err(
                IssueError::ProviderFailed(_)
                | IssueError::Overloaded
                | IssueError::OutstandingFull
                | IssueError::ListUnavailable(_)
                | IssueError::LeftAlone { .. }
                | IssueError::Limited(_)
                | IssueError::Replayed(_)
                | IssueError::Audit(_)
                | IssueError::Internal(_),
            ) => {}
        }
    }
}

impl Drop for CallAttempt {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.state().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::Timestamp;

    use super::*;

    fn breaker() -> (Arc<Breaker>, impl Fn(i64)) {
        let now = Arc::new(AtomicI64::new(1_790_000_000));
        let read = Arc::clone(&now);
        let clock =
            Clock::from_fn(move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap());
        let forward = move |seconds| {
            now.fetch_add(seconds, Ordering::SeqCst);
        };
        (Arc::new(Breaker::new("prod", clock)), forward)
    }

    fn down() -> Result<(), IssueError> {
        Err(IssueError::UpstreamUnavailable(String::new()))
    }

    #[test]
    fn it_opens_lets_one_probe_through_and_closes() {
        let (breaker, forward) = breaker();
        for _ in 0..FAILURES {
            breaker.begin().unwrap().end(&down());
        }
        for (pause, failed) in [(5, 1), (10, 2), (20, 3), (40, 4), (60, 5), (60, 6)] {
            assert_eq!(breaker.left_alone(), Some(Duration::from_secs(pause)), "{failed}");
            forward(i64::try_from(pause).unwrap() - 1);
            assert!(breaker.begin().is_err() && breaker.check().is_err());
            forward(1);
            let probe = breaker.begin().unwrap();
            assert!(breaker.begin().is_err(), "one at a time");
            probe.end(&down());
        }
        forward(60);
        // A probe that ends without a verdict is followed by another one.
        drop(breaker.begin().unwrap());
        breaker.begin().unwrap().end(&Ok(()));
        assert_eq!(breaker.left_alone(), None);
        assert!(breaker.begin().is_ok() && breaker.begin().is_ok());
    }

    #[tokio::test]
    async fn those_who_wait_hear_that_it_opens() {
        let (breaker, _) = breaker();
        let waits = Arc::clone(&breaker);
        let waiting = tokio::spawn(async move { waits.opens().await });
        let paused = Err::<(), _>(IssueError::UpstreamThrottled(Some(1)));
        breaker.begin().unwrap().end(&paused);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a pause ends no wait");
        for _ in 0..FAILURES {
            breaker.failed(false);
        }
        assert!(matches!(waiting.await.unwrap(), IssueError::LeftAlone { .. }));
        assert!(matches!(breaker.opens().await, IssueError::LeftAlone { .. }), "later, too");
    }

    #[test]
    fn it_stays_closed_while_most_calls_are_answered_or_failures_are_rare() {
        let (breaker, forward) = breaker();
        for _ in 0..50 {
            breaker.begin().unwrap().end(&Ok(()));
            breaker.begin().unwrap().end(&Err::<(), _>(IssueError::UpstreamDenied(String::new())));
            breaker.begin().unwrap().end(&down());
        }
        assert_eq!(breaker.left_alone(), None);
        for _ in 0..50 {
            forward(4);
            breaker.begin().unwrap().end(&down());
        }
        assert_eq!(breaker.left_alone(), None);
    }

    #[test]
    fn a_registry_that_asks_for_a_pause_gets_it() {
        let (breaker, forward) = breaker();
        breaker.begin().unwrap().end(&Err::<(), _>(IssueError::UpstreamThrottled(Some(30))));
        forward(29);
        let Err(IssueError::LeftAlone { wait }) = breaker.check() else { panic!("it is asked") };
        assert_eq!(wait, Duration::from_secs(1));
        forward(1);
        assert!(breaker.begin().is_ok() && breaker.begin().is_ok(), "it is closed");
        breaker.begin().unwrap().end(&Err::<(), _>(IssueError::UpstreamThrottled(Some(u32::MAX))));
        assert_eq!(breaker.left_alone(), Some(LONGEST_PAUSE));
    }
}
