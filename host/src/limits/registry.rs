//! Provider calls of one registry. Their number at once is limited, so that a registry that hangs
//! does not take every instance. Their starts per second are limited below what the registry's
//! upstream accepts: AWS from a whole account, whichever registry calls it.
//!
//! A call first takes its [`CallTurn`], which says when it may start, and later its [`Place`].
//! Brokers that share a store keep one pace together (`shared_pace`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::pace::Pace;
use super::settings::PaceOf;
use super::shared_pace::{SharedMoment, SharedPace};
use super::{Rate, Refused};
use crate::domain::Clock;
use crate::shared::Shared;

/// No call waits longer for the pace. A minute of waiting is what clients afford.
pub const LONGEST_TURN: Duration = Duration::from_mins(1);
/// How long a call whose turn it is waits for one of those before it to end. They end within the
/// time that a provider has.
pub const LONGEST_PLACE: Duration = Duration::from_secs(8);
/// Calls that wait for a place, for each that runs: more would wait for nothing.
const WAITING: usize = 2;
/// A clock that is moved, in a test, is looked at this often.
const LOOK: Duration = Duration::from_millis(100);

pub struct RegistryLimit {
    /// A place to wait in or to be called from.
    line: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    /// `None`: it is unlimited.
    pace: Option<Arc<RegistryPace>>,
    clock: Clock,
}

/// How fast calls start, of one registry or of all that call one account.
pub(super) enum RegistryPace {
    Here(Pace),
    Together(Box<SharedPace>),
}

/// When a call may start.
pub struct CallTurn {
    limit: Arc<RegistryLimit>,
    /// By the broker's clock.
    pub moment: Duration,
    /// What was taken of the pace of all brokers.
    together: Option<SharedMoment>,
}

/// One of the calls that a registry may have at once, until dropped.
pub struct Place(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

impl RegistryPace {
    /// `shared`: where it is kept for several brokers.
    pub(super) fn new(
        of: &PaceOf,
        rate: Rate,
        shared: Option<&Arc<Shared>>,
        clock: &Clock,
    ) -> Self {
        match shared {
            None => Self::Here(Pace::new(rate)),
            Some(shared) => Self::Together(Box::new(SharedPace::new(of, rate, shared, clock))),
        }
    }
}

impl RegistryLimit {
    pub(super) fn new(in_flight: usize, pace: Option<Arc<RegistryPace>>, clock: &Clock) -> Self {
        Self {
            line: Arc::new(Semaphore::new(in_flight * (1 + WAITING))),
            calls: Arc::new(Semaphore::new(in_flight)),
            pace,
            clock: clock.clone(),
        }
    }

    /// Takes the next turn. Calls start in the order in which they take their turns.
    pub async fn take_turn(self: &Arc<Self>) -> Result<CallTurn, Refused> {
        let now = self.clock.elapsed();
        let taken = match self.pace.as_deref() {
            None => Ok((now, None)),
            Some(RegistryPace::Here(pace)) => {
                pace.take(now, LONGEST_TURN).map(|moment| (moment, None))
            }
            Some(RegistryPace::Together(pace)) => {
                pace.take().await.map(|taken| (taken.moment, Some(taken)))
            }
        };
        let (moment, together) = taken.map_err(|wait| Refused::Queued { wait })?;
        Ok(CallTurn { limit: Arc::clone(self), moment, together })
    }
}

impl CallTurn {
    /// Waits for the turn, and then for a place.
    pub async fn place(mut self) -> Result<Place, Refused> {
        self.comes().await;
        let full = |limit| Refused::Overloaded { limit };
        let line = Arc::clone(&self.limit.line).try_acquire_owned();
        let line = line.map_err(|_| full("registry-queue"))?;
        let longest = Instant::now() + LONGEST_PLACE;
        self.start_here()?;
        self.comes().await;
        let calls = Arc::clone(&self.limit.calls);
        let call = timeout_at(longest, calls.acquire_owned()).await;
        let call = call.ok().and_then(Result::ok).ok_or_else(|| full("registry-in-flight"))?;
        Ok(Place([line, call]))
    }

    async fn comes(&self) {
        while !self.wait().is_zero() {
            sleep(self.wait().clamp(Duration::from_millis(1), LOOK)).await;
        }
    }

    /// The moment of all brokers has come: from here on the call waits for this broker's own pace.
    /// It does not have to wait unless the store has given many calls one moment.
    fn start_here(&mut self) -> Result<(), Refused> {
        let Some(RegistryPace::Together(pace)) = self.limit.pace.as_deref() else { return Ok(()) };
        let taken = pace.here.take(self.limit.clock.elapsed(), LONGEST_PLACE);
        self.moment = taken.map_err(|wait| Refused::Queued { wait })?;
        self.together = None;
        Ok(())
    }

    fn wait(&self) -> Duration {
        self.moment.saturating_sub(self.limit.clock.elapsed())
    }
}

/// A turn that was not waited for is somebody else's.
impl Drop for CallTurn {
    fn drop(&mut self) {
        if self.wait().is_zero() {
            return;
        }
        match (self.limit.pace.as_deref(), self.together.take()) {
            (None, _) => {}
            (Some(RegistryPace::Here(pace)), _) => pace.give_back(self.moment),
            (Some(RegistryPace::Together(pace)), Some(taken)) => pace.give_back(taken),
            (Some(RegistryPace::Together(pace)), None) => pace.here.give_back(self.moment),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    fn limit(in_flight: usize, pace: Option<Rate>) -> Arc<RegistryLimit> {
        let (clock, of) = (Clock::system(), PaceOf::Registry("prod".parse().unwrap()));
        let pace = pace.map(|rate| Arc::new(RegistryPace::new(&of, rate, None, &clock)));
        Arc::new(RegistryLimit::new(in_flight, pace, &clock))
    }

    #[tokio::test]
    async fn calls_at_once_are_bounded_and_so_are_those_who_wait() {
        let limit = limit(2, None);
        let place = || {
            let limit = Arc::clone(&limit);
            async move { limit.take_turn().await.unwrap().place().await }
        };
        let first = place().await.unwrap();
        let _second = place().await.unwrap();
        let soon = Duration::from_millis(20);
        assert!(timeout(soon, place()).await.is_err(), "the third waits");
        drop(first);
        let _third = place().await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..100 {
            waiting.spawn(place());
        }
        let started = Instant::now();
        for _ in 0..96 {
            assert!(matches!(
                waiting.join_next().await.unwrap().unwrap(),
                Err(Refused::Overloaded { limit: "registry-queue" })
            ));
        }
        assert!(started.elapsed() < LONGEST_PLACE / 2, "the queue is full at once");
    }

    #[tokio::test]
    async fn calls_are_paced_in_the_order_of_their_turns() {
        let limit = limit(64, Some(rate(20, 3)));
        let started = Instant::now();
        for _ in 0..3 {
            let turn = limit.take_turn().await.unwrap();
            assert!(turn.moment <= limit.clock.elapsed(), "the burst does not wait");
            drop(turn.place().await.unwrap());
        }
        let (first, second) = (limit.take_turn().await.unwrap(), limit.take_turn().await.unwrap());
        assert!(first.moment < second.moment);
        drop(second.place().await.unwrap());
        assert!(started.elapsed() >= Duration::from_millis(90), "{:?}", started.elapsed());
        drop(first.place().await.unwrap());
        // A turn that is not waited for, or not to its end, goes to the next who asks.
        let [third, fourth] = [limit.take_turn().await.unwrap(), limit.take_turn().await.unwrap()];
        let moments = [third.moment, fourth.moment];
        assert!(timeout(Duration::from_millis(1), third.place()).await.is_err());
        drop(fourth);
        let again = [limit.take_turn().await.unwrap(), limit.take_turn().await.unwrap()];
        assert_eq!(again.each_ref().map(|turn| turn.moment), moments);
    }

    #[tokio::test]
    async fn a_turn_that_is_too_far_away_is_not_taken() {
        let limit = limit(1, Some(rate(1, 1)));
        let mut taken = Vec::new();
        for _ in 0..=60 {
            taken.push(limit.take_turn().await.unwrap());
        }
        let Err(Refused::Queued { wait }) = limit.take_turn().await else { panic!("it is taken") };
        assert!(wait > LONGEST_TURN && wait <= LONGEST_TURN + Duration::from_secs(1), "{wait:?}");
    }
}
