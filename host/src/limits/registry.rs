//! Provider calls of one registry. Their number at once is limited, so that a registry that hangs
//! does not take every instance. Their starts per second are limited below what the registry's
//! upstream accepts from the whole account.

use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::state::{InMemoryState, NotKeyed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::keyed::{Elapsed, Governor};
use super::{Refused, RegistryLimits};
use crate::domain::{Clock, Deadline};

/// How long a request waits for its place.
const QUEUE: Duration = Duration::from_millis(500);
/// How many requests wait for each call at once. In a longer queue requests would wait in vain.
const WAITING: usize = 2;

/// The limit on calls of one registry.
pub struct RegistryLimit {
    /// Requests that wait or are in a call.
    line: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    pace: Option<Governor<NotKeyed, InMemoryState>>,
    clock: Elapsed,
}

/// One of the calls that a registry may have at once, until dropped.
pub struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl RegistryLimit {
    pub fn new(limits: &RegistryLimits, clock: &Clock) -> Self {
        let clock = Elapsed(clock.clone());
        Self {
            line: Arc::new(Semaphore::new(limits.in_flight * (1 + WAITING))),
            calls: Arc::new(Semaphore::new(limits.in_flight)),
            pace: limits.pace.map(|rate| Governor::direct_with_clock(rate.quota(), clock.clone())),
            clock,
        }
    }

    /// Waits for a place and the pace, for half a second at most and not past `deadline`.
    pub async fn enter(&self, deadline: Deadline) -> Result<Place, Refused> {
        let _waiting =
            self.line.try_acquire().map_err(|_| Refused::Overloaded { limit: "registry-queue" })?;
        let until = Instant::from_std(deadline.instant()).min(Instant::now() + QUEUE);
        let call = timeout_at(until, Arc::clone(&self.calls).acquire_owned()).await;
        let call = call
            .ok()
            .and_then(Result::ok)
            .ok_or(Refused::Overloaded { limit: "registry-in-flight" })?;
        self.wait_for_pace(until).await?;
        Ok(Place(call))
    }

    async fn wait_for_pace(&self, until: Instant) -> Result<(), Refused> {
        let Some(pace) = &self.pace else { return Ok(()) };
        while let Err(not_before) = pace.check() {
            let wait = not_before.wait_time_from(self.clock.now());
            if Instant::now() + wait > until {
                return Err(Refused::Overloaded { limit: "registry-pace" });
            }
            // A test's clock may stand still, which must not make this spin.
            sleep(wait.max(Duration::from_millis(1))).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rate;
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(20))
    }

    #[tokio::test]
    async fn calls_at_once_are_bounded_and_so_are_those_who_wait() {
        let limit =
            RegistryLimit::new(&RegistryLimits { in_flight: 2, pace: None }, &Clock::system());
        let first = limit.enter(soon()).await.unwrap();
        let _second = limit.enter(soon()).await.unwrap();
        assert!(limit.enter(soon()).await.is_err());
        drop(first);
        let _third = limit.enter(soon()).await.unwrap();
        let later = Deadline::after(Duration::from_secs(5));
        let mut waiting = tokio::task::JoinSet::new();
        let limit = Arc::new(limit);
        for _ in 0..100 {
            let limit = Arc::clone(&limit);
            waiting.spawn(async move { limit.enter(later).await.map(drop) });
        }
        let started = std::time::Instant::now();
        assert!(matches!(
            waiting.join_next().await.unwrap().unwrap(),
            Err(Refused::Overloaded { limit: "registry-queue" })
        ));
        assert!(started.elapsed() < QUEUE / 2, "the queue is full at once");
    }

    #[tokio::test]
    async fn calls_are_paced() {
        let limits = RegistryLimits { in_flight: 64, pace: Some(rate(20, 3)) };
        let limit = RegistryLimit::new(&limits, &Clock::system());
        let started = std::time::Instant::now();
        for _ in 0..3 {
            drop(limit.enter(soon()).await.unwrap());
        }
        assert!(limit.enter(soon()).await.is_err(), "50 ms are more than there is");
        drop(limit.enter(Deadline::after(Duration::from_secs(1))).await.unwrap());
        assert!(started.elapsed() >= Duration::from_millis(40), "{:?}", started.elapsed());
    }
}
