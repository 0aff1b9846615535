//! A registry that is down is not asked by everybody, and one that asks for a pause gets it.
//!
//! A breaker opens when enough of the calls of ten seconds were not answered. It then lets one call
//! through at a time, each after a longer pause, until one is answered. Mints that wait for their
//! turn hear of it at once.
//!
//! Brokers that share a store (`shared`) ask it before each call: what one of them has found out
//! holds for all, and one of them at a time tries the registry. Each counts its own failures, and
//! while the store does not answer, each goes by its own breaker.

mod shared;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::IssueError;
use super::failures::LONGEST_PAUSE;
use crate::domain::Clock;
use crate::registries::Registry;
use crate::shared::{Shared, StoreUnavailable};
use shared::{Finding, ProbeLease, SharedBreaker, StoredState};

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
    /// What all brokers know together.
    shared: Option<Arc<SharedBreaker>>,
}

/// Moments are by the broker's clock.
#[derive(Default)]
struct BreakerState {
    /// When the window began.
    began: Duration,
    calls: u32,
    failures: u32,
    /// How often it has opened in a row. 0: it is closed.
    opened: u32,
    /// When it opened last.
    opened_at: Duration,
    /// No call before this.
    until: Duration,
    is_probing: bool,
    elsewhere: Elsewhere,
}

/// What other brokers have found out, as the store said last.
#[derive(Default)]
struct Elsewhere {
    /// No call before this.
    until: Duration,
    is_down: bool,
    /// Since when the store has said nothing but that the registry is left alone, while this broker
    /// found no failure itself. After [`LONGEST_PAUSE`] this broker goes by its own breaker: a
    /// store that lies keeps no registry closed for longer.
    since: Option<Duration>,
}

/// One call that the breaker has let through.
pub(super) struct CallAttempt {
    breaker: Arc<Breaker>,
    is_probe: bool,
    /// What lets it try the registry for all brokers.
    lease: Option<ProbeLease>,
}

impl Breaker {
    /// `shared`: where brokers share what they find out.
    pub(super) fn new(registry: &Registry, shared: Option<&Arc<Shared>>, clock: Clock) -> Self {
        let shared = shared.map(|shared| SharedBreaker::new(shared, registry));
        Self { shared, ..Self::alone(registry.name.as_str(), clock) }
    }

    fn alone(registry: &str, clock: Clock) -> Self {
        let (state, opening) = (Mutex::default(), Notify::new());
        Self { registry: registry.to_owned(), clock, state, opening, shared: None }
    }

    /// Whether this broker would let a call through now, if it alone knows.
    pub(super) fn check_here(&self) -> Result<(), IssueError> {
        if self.shared.is_some() {
            return Ok(());
        }
        self.refusal(&self.state()).map_or(Ok(()), Err)
    }

    /// Whether a call would be let through now. Other brokers may have closed what is open here.
    pub(super) async fn check(&self) -> Result<(), IssueError> {
        let Some(refusal) = self.refusal(&self.state()) else { return Ok(()) };
        let Some(shared) = &self.shared else { return Err(refusal) };
        match shared.look().await {
            Ok(state) => self.hear(state),
            Err(StoreUnavailable(_)) => Err(refusal),
        }
    }

    /// Lets a call through.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<CallAttempt, IssueError> {
        let Some(shared) = &self.shared else { return self.begin_here(None) };
        self.check().await?;
        match shared.begin().await {
            Ok((StoredState::MayTry(opened), Some(lease))) => {
                self.hear(StoredState::MayTry(opened))?;
                self.begin_here(Some((opened, lease)))
            }
            Ok((state, _)) => {
                self.hear(state)?;
                self.begin_here(None)
            }
            Err(StoreUnavailable(_)) => self.begin_here(None),
        }
    }

    fn begin_here(
        self: &Arc<Self>,
        lease: Option<(u32, ProbeLease)>,
    ) -> Result<CallAttempt, IssueError> {
        let mut state = self.state();
        if let Some(error) = self.refusal(&state) {
            return Err(error);
        }
        if let Some((opened, _)) = &lease {
            state.opened = state.opened.max(*opened);
        }
        let is_probe = state.opened > 0;
        state.is_probing |= is_probe;
        drop(state);
        let lease = lease.map(|(_, lease)| lease);
        Ok(CallAttempt { breaker: Arc::clone(self), is_probe, lease })
    }

    /// Takes over what the store says, and says whether a call would be let through.
    fn hear(&self, stored: StoredState) -> Result<(), IssueError> {
        let now = self.clock.elapsed();
        let mut state = self.state();
        match stored {
            StoredState::Unknown => state.elsewhere = Elsewhere::default(),
            StoredState::Closed(age) => {
                // What this broker has found out since is newer.
                let is_old = state.opened > 0 && now.saturating_sub(age) <= state.opened_at;
                if state.is_down() && !is_old {
                    self.close(&mut state, now);
                }
                state.elsewhere = Elsewhere::default();
            }
            StoredState::MayTry(_) => state.elsewhere.until = Duration::ZERO,
            StoredState::LeftAlone { left, is_down } => {
                let since = *state.elsewhere.since.get_or_insert(now);
                let is_believed = now.saturating_sub(since) < LONGEST_PAUSE;
                state.elsewhere.until = if is_believed { now + left } else { Duration::ZERO };
                if is_down && !state.elsewhere.is_down {
                    tracing::warn!(
                        registry = self.registry,
                        "another broker gets no answer of a registry: it is left alone"
                    );
                }
                state.elsewhere.is_down = is_down;
                if is_down && is_believed {
                    self.opening.notify_waiters();
                }
            }
        }
        self.refusal(&state).map_or(Ok(()), Err)
    }

    /// Waits until it opens, and returns what those hear whose turn has not come. A pause that the
    /// registry asks for ends no wait: turns after it are still good.
    pub(super) async fn opens(&self) -> IssueError {
        loop {
            let opening = self.opening.notified();
            tokio::pin!(opening);
            opening.as_mut().enable();
            let refusal = Some(self.state()).filter(|state| state.is_down());
            if let Some(error) = refusal.and_then(|state| self.refusal(&state)) {
                return error;
            }
            opening.await;
        }
    }

    /// For how long the registry is left alone, if it is.
    pub(super) fn left_alone(&self) -> Option<Duration> {
        let state = self.state();
        let left = state.until().saturating_sub(self.clock.elapsed());
        (state.opened > 0 || !left.is_zero()).then_some(left)
    }

    fn refusal(&self, state: &BreakerState) -> Option<IssueError> {
        let left = state.until().saturating_sub(self.clock.elapsed());
        if left.is_zero() && !state.is_probing {
            return None;
        }
        Some(IssueError::LeftAlone { wait: left.max(Duration::from_secs(1)) })
    }

    /// Returns what other brokers should know.
    fn failed(&self, is_probe: bool) -> Option<Finding> {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if now.saturating_sub(state.began) > WINDOW {
            state.begin_window(now);
        }
        state.calls += 1;
        state.failures += 1;
        state.elsewhere.since = None;
        let is_down = state.failures >= FAILURES && state.failures * 2 >= state.calls;
        // Calls that began before it opened say nothing new.
        if !is_probe && (state.opened > 0 || !is_down) {
            return None;
        }
        let pause = FIRST_PAUSE * (1 << state.opened.min(MOST_DOUBLINGS));
        let pause = pause.min(Duration::from_mins(1));
        (state.until, state.opened_at) = (now + pause, now);
        state.opened += 1;
        self.opening.notify_waiters();
        if state.opened == 1 {
            tracing::warn!(
                registry = self.registry,
                failures = state.failures,
                "a registry does not answer: until it does, one call at a time tries it"
            );
        }
        Some(Finding { opened: state.opened, pause })
    }

    /// Returns what other brokers should know: that the registry was left alone, and answers.
    fn answered(&self) -> Option<Finding> {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if now.saturating_sub(state.began) > WINDOW {
            state.begin_window(now);
        }
        state.calls += 1;
        let was_down = state.is_down();
        if was_down {
            self.close(&mut state, now);
        }
        was_down.then_some(Finding { opened: 0, pause: Duration::ZERO })
    }

    fn close(&self, state: &mut BreakerState, now: Duration) {
        tracing::info!(registry = self.registry, "a registry answers again");
        (state.opened, state.until) = (0, Duration::ZERO);
        (state.elsewhere.is_down, state.elsewhere.until) = (false, Duration::ZERO);
        state.begin_window(now);
    }

    fn pause(&self, asked: u32) -> Duration {
        let pause = Duration::from_secs(asked.into()).min(LONGEST_PAUSE);
        let mut state = self.state();
        state.until = state.until.max(self.clock.elapsed() + pause);
        pause
    }

    fn state(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BreakerState {
    fn begin_window(&mut self, now: Duration) {
        (self.began, self.calls, self.failures) = (now, 0, 0);
    }

    fn is_down(&self) -> bool {
        self.opened > 0 || self.elsewhere.is_down
    }

    fn until(&self) -> Duration {
        self.until.max(self.elsewhere.until)
    }
}

impl CallAttempt {
    /// Counts how the call ended, and tells the other brokers what they should know.
    pub(super) async fn end<T>(mut self, result: &Result<T, IssueError>) {
        let finding = self.finding(result);
        if let (Some(finding), Some(shared)) = (finding, &self.breaker.shared) {
            shared.tell(finding, self.lease.take()).await;
        }
    }

    fn finding<T>(&self, result: &Result<T, IssueError>) -> Option<Finding> {
        let breaker = &self.breaker;
        match result {
            Err(IssueError::UpstreamUnavailable(_) | IssueError::UpstreamTimedOut(_)) => {
                breaker.failed(self.is_probe)
            }
            Err(IssueError::UpstreamThrottled(asked)) => {
                let answers = breaker.answered();
                let pause = breaker.pause(asked.unwrap_or(0));
                let finding = answers.or((!pause.is_zero()).then_some(Finding::default()));
                finding.map(|finding| Finding { pause, ..finding })
            }
            Ok(_) | Err(IssueError::UpstreamDenied(_) | IssueError::RepositoryConflict(_)) => {
                breaker.answered()
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
            ) => None,
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
mod tests;
