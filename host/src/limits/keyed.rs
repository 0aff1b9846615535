//! One rate per key, by the generic cell rate algorithm of `governor`, in a map of bounded size.
//!
//! Strangers choose the keys, so each shard of the map has a bound. A new key whose shard is full
//! shares the shard's overflow bucket with all other such keys. They are still limited, and no
//! known key is forgotten because of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{NotUntil, Quota, RateLimiter};

use super::{Rate, Refused};
use crate::domain::Clock;

const SHARDS: usize = 16;
/// The least time between two early sweeps of a full map.
const SWEEP_FULL_MS: u64 = 1_000;

type Governor<K, S> = RateLimiter<K, S, Elapsed, NoOpMiddleware<Duration>>;

/// One rate for each key.
pub struct KeyedLimit<K: Hash + Eq + Clone> {
    name: &'static str,
    clock: Elapsed,
    buckets: Arc<Buckets<K>>,
    counting: Governor<K, Counting<K>>,
    checking: Governor<K, Checking<K>>,
    /// When a full map was last swept, in milliseconds of `clock`.
    swept: AtomicU64,
}

impl<K: Hash + Eq + Clone> KeyedLimit<K> {
    pub fn new(name: &'static str, rate: Rate, keys: usize, clock: &Clock) -> Self {
        Self::with_quota(name, rate.quota(), keys, clock)
    }

    /// One of `replicas` equal shares of the rate, for each key.
    pub(super) fn share(
        name: &'static str,
        (rate, replicas): (Rate, u32),
        keys: usize,
        clock: &Clock,
    ) -> Self {
        Self::with_quota(name, rate.share(replicas), keys, clock)
    }

    fn with_quota(name: &'static str, quota: Quota, keys: usize, clock: &Clock) -> Self {
        let clock = Elapsed(clock.clone());
        let buckets = Arc::new(Buckets::new(keys));
        Self {
            name,
            counting: Governor::new(quota, Counting(Arc::clone(&buckets)), clock.clone()),
            checking: Governor::new(quota, Checking(Arc::clone(&buckets)), clock.clone()),
            clock,
            buckets,
            swept: AtomicU64::new(0),
        }
    }

    /// Counts one for `key`, unless it is over the limit.
    pub fn count(&self, key: &K) -> Result<(), Refused> {
        let taken = self.counting.check_key(key);
        if self.buckets.is_full(key) {
            self.sweep_early();
        }
        taken.map_err(|until| self.refused(&until))
    }

    /// Whether [`KeyedLimit::count`] would succeed. Counts nothing.
    pub fn check(&self, key: &K) -> Result<(), Refused> {
        self.checking.check_key(key).map_err(|until| self.refused(&until))
    }

    /// Forgets the keys that may ask as often as new ones.
    pub fn sweep(&self) {
        self.counting.retain_recent();
        self.counting.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.counting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.counting.is_empty()
    }

    /// Sweeps a full map, which may hold many keys that can be forgotten.
    fn sweep_early(&self) {
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX);
        let last = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= SWEEP_FULL_MS
            && self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.counting.retain_recent();
        }
    }

    fn refused(&self, until: &NotUntil<Duration>) -> Refused {
        Refused::TooOften { limit: self.name, wait: until.wait_time_from(self.clock.now()) }
    }
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }

    /// Of a burst at least one, or nothing would get through.
    fn share(self, replicas: u32) -> Quota {
        let each = Duration::from_secs(1) * replicas.max(1) / self.per_second.get();
        let burst = self.burst.get().div_ceil(replicas.max(1));
        let quota = Quota::with_period(each).unwrap_or_else(|| self.quota());
        NonZeroU32::new(burst).map_or(quota, |burst| quota.allow_burst(burst))
    }
}

/// The broker's clock in the form that `governor` wants.
#[derive(Clone)]
struct Elapsed(Clock);

impl governor::clock::Clock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// For each key the time when it will have recovered, for `governor`.
struct Buckets<K> {
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
    /// The most keys in one shard.
    bound: usize,
}

struct Shard<K> {
    keys: HashMap<K, Nanos>,
    overflow: Option<Nanos>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(keys: usize) -> Self {
        let shard = || Mutex::new(Shard { keys: HashMap::new(), overflow: None });
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| shard()),
            bound: keys.div_ceil(SHARDS),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder lies below what it was divided by")]
    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K>> {
        let hash = self.hasher.hash_one(key) % SHARDS as u64;
        lock(&self.shards[usize::try_from(hash).unwrap_or_default()])
    }

    fn is_full(&self, key: &K) -> bool {
        self.shard(key).keys.len() >= self.bound
    }

    /// The bucket of `key`, or the overflow bucket if the shard is full.
    fn read(shard: &Shard<K>, key: &K, bound: usize) -> Option<Nanos> {
        match shard.keys.get(key) {
            Some(known) => Some(*known),
            None if shard.keys.len() >= bound => shard.overflow,
            None => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Counting<K>(Arc<Buckets<K>>);

impl<K: Hash + Eq + Clone> StateStore for Counting<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Self(buckets) = self;
        let mut shard = buckets.shard(key);
        let (outcome, next) = decide(Buckets::read(&shard, key, buckets.bound))?;
        if let Some(known) = shard.keys.get_mut(key) {
            *known = next;
        } else if shard.keys.len() < buckets.bound {
            shard.keys.insert(key.clone(), next);
        } else {
            shard.overflow = Some(next);
        }
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Counting<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.0.shards {
            lock(shard).keys.retain(|_, recovers| *recovers > drop_below);
        }
    }

    fn shrink_to_fit(&self) {
        for shard in &self.0.shards {
            lock(shard).keys.shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Decides as [`Takes`] would, and keeps nothing.
struct Checking<K>(Arc<Buckets<K>>);

impl<K: Hash + Eq + Clone> StateStore for Checking<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Self(buckets) = self;
        let bucket = Buckets::read(&buckets.shard(key), key, buckets.bound);
        decide(bucket).map(|(outcome, _)| outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicI64;

    use jiff::Timestamp;

    use super::*;

    /// Two per second, three at once, on a clock that stands still until it is moved.
    fn limit(keys: usize) -> (KeyedLimit<u32>, impl Fn(i64)) {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let read = Arc::clone(&now);
        let clock = Clock::from_fn(move || {
            Timestamp::from_millisecond(read.load(Ordering::SeqCst)).unwrap()
        });
        let rate =
            Rate { per_second: NonZeroU32::new(2).unwrap(), burst: NonZeroU32::new(3).unwrap() };
        let forward = move |ms| {
            now.fetch_add(ms, Ordering::SeqCst);
        };
        (KeyedLimit::new("test", rate, keys, &clock), forward)
    }

    fn wait(refused: Result<(), Refused>) -> u128 {
        match refused {
            Err(Refused::TooOften { wait, .. }) => wait.as_millis(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn under_at_over_and_recovered() {
        let (limit, forward) = limit(100);
        for _ in 0..3 {
            assert!(limit.count(&1).is_ok());
        }
        assert_eq!(wait(limit.count(&1)), 500);
        assert!(limit.count(&2).is_ok(), "another key has a bucket of its own");
        forward(499);
        assert_eq!(wait(limit.count(&1)), 1);
        forward(1);
        assert!(limit.count(&1).is_ok());
        assert_eq!(wait(limit.count(&1)), 500);
        forward(10_000);
        for _ in 0..3 {
            assert!(limit.count(&1).is_ok());
        }
        assert!(limit.count(&1).is_err());
    }

    #[test]
    fn a_look_counts_nothing() {
        let (limit, forward) = limit(100);
        for _ in 0..10 {
            assert!(limit.check(&1).is_ok());
        }
        assert!(limit.is_empty());
        for _ in 0..3 {
            assert!(limit.count(&1).is_ok());
        }
        assert_eq!(wait(limit.check(&1)), 500);
        forward(500);
        assert!(limit.check(&1).is_ok());
    }

    #[test]
    fn the_map_is_bounded_and_shrinks() {
        let (limit, forward) = limit(160);
        for key in 0..100_000 {
            let _ = limit.count(&key);
        }
        assert_eq!(limit.len(), 160);
        assert!(
            limit.count(&200_000).is_err(),
            "without a place, it shares a bucket that is \
                                                 empty"
        );
        forward(2_000);
        limit.sweep();
        assert_eq!(limit.len(), 0);
        assert!(limit.count(&200_000).is_ok());
    }

    #[test]
    fn a_full_map_makes_room_for_newcomers() {
        let (limit, forward) = limit(16);
        for key in 0..1_000 {
            let _ = limit.count(&key);
        }
        forward(1_500);
        // The first one notices that its shard is full of those who have recovered.
        let _ = limit.count(&5_000);
        assert!(limit.len() <= 1, "{}", limit.len());
    }
}
