//! Single flight: callers that need the same thing at the same time share one piece of work.
//!
//! The work is a task of its own with its own deadline. Each caller waits for as long as it wants;
//! a caller that stops waiting changes nothing for the others and for the work.
//!
//! **Invariant:** at most one flight per key is in the air. The lock is never held across an
//! `await`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The flights that are in the air, by what they are for.
pub(crate) struct Flights<K, V>(Arc<Mutex<InTheAir<K, V>>>);

type InTheAir<K, V> = HashMap<K, watch::Receiver<Option<V>>>;

/// A flight that a caller can wait for.
pub(crate) struct Flight<V>(watch::Receiver<Option<V>>);

/// Takes a flight out of the air when it has landed, and also when its work panics.
struct Landing<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The flight of `key`, if one is in the air.
    pub(crate) fn join(&self, key: &K) -> Option<Flight<V>> {
        self.in_the_air().get(key).cloned().map(Flight)
    }

    /// Joins the flight of `key`, or starts it: `work` runs until `deadline`, and `land` turns its
    /// result (`None` if it missed the deadline) into what every caller receives. `land` always
    /// runs unless the work panics, also when no caller is left.
    pub(crate) fn join_or_start<T: Send + 'static>(
        &self,
        key: K,
        deadline: Duration,
        work: impl Future<Output = T> + Send + 'static,
        land: impl FnOnce(Option<T>) -> V + Send + 'static,
    ) -> Flight<V> {
        let mut in_the_air = self.in_the_air();
        if let Some(flight) = in_the_air.get(&key) {
            return Flight(flight.clone());
        }
        let (landed, flight) = watch::channel(None);
        in_the_air.insert(key.clone(), flight.clone());
        let landing = Landing { flights: self.clone(), key };
        tokio::spawn(async move {
            let result = tokio::time::timeout(deadline, work).await.ok();
            let value = land(result);
            // In this order: a caller that finds no flight finds what `land` has stored.
            drop(landing);
            landed.send_replace(Some(value));
        });
        Flight(flight)
    }
}

impl<V: Clone> Flight<V> {
    /// What the flight brought; `None` if its work panicked.
    pub(crate) async fn landed(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<K, V> Flights<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.in_the_air().is_empty()
    }

    fn in_the_air(&self) -> MutexGuard<'_, InTheAir<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.in_the_air().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn landed_in_time<T>(result: Option<T>) -> T {
        result.expect("the work finished before its deadline")
    }

    #[tokio::test]
    async fn callers_of_one_key_share_one_piece_of_work() {
        let flights = Flights::<&str, usize>::default();
        let (started, finish) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(2)));
        let fly = |key| {
            let (started, finish) = (Arc::clone(&started), Arc::clone(&finish));
            let work = async move {
                let number = started.fetch_add(1, Ordering::SeqCst);
                finish.wait().await;
                number
            };
            flights.join_or_start(key, LONG, work, landed_in_time)
        };
        let crowd: Vec<_> = (0..100).map(|_| fly("a")).collect();
        assert!(flights.join(&"a").is_some() && flights.join(&"b").is_none());
        finish.wait().await;
        for caller in crowd {
            assert_eq!(caller.landed().await, Some(0));
        }
        // The next caller starts again.
        assert!(flights.join(&"a").is_none());
        let next = fly("a");
        finish.wait().await;
        assert_eq!(next.landed().await, Some(1));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_changes_nothing() {
        let flights = Flights::<(), u8>::default();
        let (finish, finished) = oneshot::channel();
        let work = async move { finished.await.unwrap_or_default() };
        drop(flights.join_or_start((), LONG, work, landed_in_time));
        let second = flights.join_or_start((), LONG, ready(8), landed_in_time);
        finish.send(7).unwrap();
        assert_eq!(second.landed().await, Some(7));
    }

    #[tokio::test]
    async fn work_that_misses_its_deadline_lands_without_a_result() {
        let flights = Flights::<(), bool>::default();
        let deadline = Duration::from_millis(10);
        let work = pending::<()>();
        let flight = flights.join_or_start((), deadline, work, |result| result.is_none());
        assert_eq!(flight.landed().await, Some(true));
        assert!(flights.join(&()).is_none());
    }

    #[tokio::test]
    async fn work_that_panics_leaves_no_flight_behind() {
        let flights = Flights::<(), ()>::default();
        let broken = async { panic!("broken work") };
        let flight = flights.join_or_start((), LONG, broken, |_: Option<()>| ());
        assert_eq!(flight.landed().await, None);
        let next = flights.join_or_start((), LONG, ready(()), landed_in_time);
        assert_eq!(next.landed().await, Some(()));
    }
}
