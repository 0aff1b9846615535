//! Keeps a fetched key set and renews it.
//!
//! - A set older than ten minutes is still used, and renewed in the background.
//! - A set older than six hours is no longer used. So an issuer may be down for six hours; for as
//!   long, a key that it withdrew may still be accepted.
//! - A `kid` that is not in the set causes a fetch, unless there was one within the last minute.
//!
//! - Without a usable set, the issuer is asked every few seconds until it answers.
//!
//! A fetch is a [`crate::flight`], one at a time. It may take much longer than callers wait: a slow
//! issuer is waited for in the background, and its keys are there for the next caller. Only some
//! callers wait at once, because a token costs nothing to whoever invents one.
//!
//! **Invariant:** the lock is never held across an `await`, and the set is replaced only by one
//! that parsed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::source::{FetchError, KeySource};
use super::{Fetches, IssuerKey, KeySet, Keys, NoKey, log_left_out};
use crate::domain::Clock;
use crate::flight::{Flight, Flights};

// Milliseconds, as the clock's differences are.
const RENEW_AFTER: i64 = 10 * 60 * 1000;
const UNUSABLE_AFTER: i64 = 6 * 60 * 60 * 1000;
/// Keeps a flood of invented `kid`s from causing a flood of fetches. Failed attempts count too.
const BETWEEN_UNKNOWN_KIDS: i64 = 60 * 1000;
const FIRST_PAUSE: i64 = 1000;
const LONGEST_PAUSE: i64 = 60 * 1000;
/// Without keys every caller is refused, so the pauses stay short.
const LONGEST_PAUSE_WITHOUT_KEYS: i64 = 4 * 1000;
/// Covers both requests of a fetch. An issuer behind a VPN, or one that has just started, takes
/// several seconds for each.
pub(crate) const FETCH_DEADLINE: Duration = Duration::from_secs(30);
/// How long a caller waits for a fetch, within the patience of clients.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// How many callers of one issuer wait for a fetch at once; further ones are refused at once. Each
/// has a place of `limits.in_flight`: an issuer that hangs, and strangers with tokens in its name,
/// must not take the places of everybody else.
const WAITING: usize = 64;

pub(crate) struct CachedKeys(Arc<Cache>);

struct Cache {
    /// The issuer's name, for the log.
    issuer: String,
    source: Box<dyn KeySource>,
    clock: Clock,
    state: Mutex<CacheState>,
    /// At most one: an issuer has one key set.
    fetches: Flights<(), ()>,
    /// The callers that may still wait for one.
    waiting: Semaphore,
}

#[derive(Default)]
struct CacheState {
    set: Option<Fetched>,
    /// When the last fetch began.
    attempted: Option<i64>,
    /// Failed fetches since the last success. A fetch in flight counts until it succeeds.
    failures: u32,
    /// Successful and failed fetches since the start, for metrics.
    worked: u64,
    failed: u64,
    /// No fetch begins sooner than this after the last one.
    pause: i64,
}

struct Fetched {
    set: Arc<KeySet>,
    at: i64,
    /// With jitter, so that many brokers do not ask at once.
    renew_after: i64,
}

enum Lookup {
    Answered(Result<Arc<IssuerKey>, NoKey>),
    /// The answer is known when this fetch has ended.
    AfterFetch(Flight<()>),
}

impl CachedKeys {
    /// Fetches nothing yet.
    pub(crate) fn new(issuer: &str, source: Box<dyn KeySource>, clock: Clock) -> Self {
        Self(Arc::new(Cache {
            issuer: issuer.to_owned(),
            source,
            clock,
            state: Mutex::default(),
            fetches: Flights::default(),
            waiting: Semaphore::new(WAITING),
        }))
    }
}

#[async_trait]
impl Keys for CachedKeys {
    async fn find(&self, kid: Option<&str>) -> Result<Arc<IssuerKey>, NoKey> {
        match self.0.lookup(kid) {
            Lookup::Answered(answer) => answer,
            Lookup::AfterFetch(fetch) => {
                self.0.wait(fetch).await;
                self.0.find_now(kid)
            }
        }
    }

    fn prefetch(&self) {
        self.0.fetch_if_missing();
    }

    fn is_ready(&self) -> bool {
        let now = self.0.now();
        self.0.state().usable(now).is_some()
    }

    fn fetched(&self) -> Option<Fetches> {
        let now = self.0.now();
        let state = self.0.state();
        let age_seconds = state.set.as_ref().map(|fetched| fetched.age_seconds(now));
        Some(Fetches { age_seconds, worked: state.worked, failed: state.failed })
    }
}

impl Cache {
    fn lookup(self: &Arc<Self>, kid: Option<&str>) -> Lookup {
        let now = self.now();
        let mut state = self.state();
        let Some(fetched) = state.usable(now) else {
            return match self.fetches.join(&()) {
                Some(fetch) => Lookup::AfterFetch(fetch),
                None if state.has_paused(now) => Lookup::AfterFetch(self.fetch(&mut state, now)),
                None => Lookup::Answered(Err(NoKey::Unavailable)),
            };
        };
        let found = fetched.set.find(kid);
        let is_stale = !within(now, fetched.at, fetched.renew_after);
        if is_stale && self.may_fetch(&state, now) {
            self.fetch(&mut state, now);
        }
        if found.as_ref().err() != Some(&NoKey::Unknown) {
            return Lookup::Answered(found);
        }
        let asked_lately = state.attempted.is_some_and(|at| within(now, at, BETWEEN_UNKNOWN_KIDS));
        match self.fetches.join(&()) {
            Some(fetch) => Lookup::AfterFetch(fetch),
            None if !asked_lately && state.has_paused(now) => {
                Lookup::AfterFetch(self.fetch(&mut state, now))
            }
            None => Lookup::Answered(Err(state.not_in_set())),
        }
    }

    /// Waits until the fetch has ended, but not for long, and not in a crowd.
    async fn wait(&self, fetch: Flight<()>) {
        let issuer = &self.issuer;
        let Ok(_place) = self.waiting.try_acquire() else {
            tracing::debug!(issuer, "too many callers wait for the issuer's keys");
            return;
        };
        if tokio::time::timeout(PATIENCE, fetch.landed()).await.is_err() {
            tracing::debug!(issuer, "the issuer is slow; its keys are still awaited");
        }
    }

    /// The answer by the keys that are here now.
    fn find_now(&self, kid: Option<&str>) -> Result<Arc<IssuerKey>, NoKey> {
        let now = self.now();
        let state = self.state();
        let fetched = state.usable(now).ok_or(NoKey::Unavailable)?;
        match fetched.set.find(kid) {
            Err(NoKey::Unknown) => Err(state.not_in_set()),
            found => found,
        }
    }

    fn fetch_if_missing(self: &Arc<Self>) {
        let now = self.now();
        let mut state = self.state();
        if state.usable(now).is_none() && self.may_fetch(&state, now) {
            self.fetch(&mut state, now);
        }
    }

    fn may_fetch(&self, state: &CacheState, now: i64) -> bool {
        self.fetches.join(&()).is_none() && state.has_paused(now)
    }

    fn fetch(self: &Arc<Self>, state: &mut CacheState, now: i64) -> Flight<()> {
        state.attempted = Some(now);
        state.failures = state.failures.saturating_add(1);
        let longest =
            if state.usable(now).is_some() { LONGEST_PAUSE } else { LONGEST_PAUSE_WITHOUT_KEYS };
        state.pause = pause(state.failures, longest);
        let (asking, recording) = (Arc::clone(self), Arc::clone(self));
        self.fetches.join_or_start(
            (),
            FETCH_DEADLINE,
            async move { asking.source.fetch().await },
            move |fetched| recording.record(fetched.unwrap_or(Err(FetchError::Deadline))),
        )
    }

    fn record(self: &Arc<Self>, fetched: Result<KeySet, FetchError>) {
        let now = self.now();
        let mut state = self.state();
        match fetched {
            Ok(set) => {
                let before = state.set.as_ref().map(|before| Arc::clone(&before.set));
                log_left_out(&self.issuer, &set, before.as_deref());
                for kid in before.iter().flat_map(|before| set.replaced(before)) {
                    tracing::warn!(
                        issuer = self.issuer,
                        kid,
                        "the issuer published another key under the same `kid`"
                    );
                }
                let set = Arc::new(set);
                state.set = Some(Fetched { set, at: now, renew_after: with_jitter(RENEW_AFTER) });
                state.worked += 1;
                state.failures = 0;
                state.pause = 0;
            }
            Err(error) => {
                state.failed += 1;
                let age_seconds = state.set.as_ref().map(|fetched| fetched.age_seconds(now));
                tracing::warn!(
                    issuer = self.issuer,
                    %error,
                    age_seconds,
                    "the issuer's keys could not be fetched"
                );
                if state.usable(now).is_none() {
                    tokio::spawn(ask_again(Arc::downgrade(self), state.pause));
                }
            }
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.clock.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheState {
    fn usable(&self, now: i64) -> Option<&Fetched> {
        self.set.as_ref().filter(|fetched| now.saturating_sub(fetched.at) < UNUSABLE_AFTER)
    }

    /// Whether the pause after the last fetch is over.
    fn has_paused(&self, now: i64) -> bool {
        !self.attempted.is_some_and(|at| within(now, at, self.pause))
    }

    /// What it means that a `kid` is not in the set: it is unknown if the issuer just said so.
    fn not_in_set(&self) -> NoKey {
        if self.failures == 0 { NoKey::Unknown } else { NoKey::Unavailable }
    }
}

impl Fetched {
    fn age_seconds(&self, now: i64) -> i64 {
        now.saturating_sub(self.at) / 1000
    }
}

/// Whether `now` is less than `span` after `at`. A clock that was set back is not within anything:
/// otherwise it would keep us from fetching for as long as it was set back by.
fn within(now: i64, at: i64, span: i64) -> bool {
    (0..span).contains(&now.saturating_sub(at))
}

/// Fetches the keys that are still missing after the pause, whether or not a caller comes. Ends
/// with the last generation that uses them.
async fn ask_again(cache: Weak<Cache>, pause: i64) {
    tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap_or(0))).await;
    if let Some(cache) = cache.upgrade() {
        cache.fetch_if_missing();
    }
}

/// 1, 2, 4 … seconds up to `longest`, of which the second half is random.
fn pause(failures: u32, longest: i64) -> i64 {
    let doubled = FIRST_PAUSE.checked_shl(failures.saturating_sub(1).min(6)).unwrap_or(longest);
    let longest = doubled.min(longest);
    longest / 2 + longest / 2 * random_percent() / 100
}

/// Between a tenth less and a tenth more.
fn with_jitter(span: i64) -> i64 {
    span - span / 10 + span / 5 * random_percent() / 100
}

/// 0 to 100.
fn random_percent() -> i64 {
    let mut byte = [0];
    // For jitter only: without random numbers there is none.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    i64::from(byte[0]) * 100 / 255
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::identity::testing::{Signer, TestClock};

    struct FakeIssuer {
        kids: Mutex<Vec<&'static str>>,
        is_down: AtomicBool,
        fetches: AtomicUsize,
        gate: Semaphore,
    }

    #[async_trait]
    impl KeySource for Arc<FakeIssuer> {
        async fn fetch(&self) -> Result<KeySet, FetchError> {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if self.is_down.load(Ordering::SeqCst) {
                return Err(FetchError::Deadline);
            }
            let keys: Vec<_> =
                self.kids.lock().unwrap().iter().map(|kid| Signer::ed25519(kid).jwk()).collect();
            Ok(KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())?)
        }
    }

    fn issuer(kids: &[&'static str]) -> (Arc<FakeIssuer>, TestClock, CachedKeys) {
        let issuer = Arc::new(FakeIssuer {
            kids: Mutex::new(kids.to_vec()),
            is_down: AtomicBool::new(false),
            fetches: AtomicUsize::new(0),
            gate: Semaphore::new(1000),
        });
        let clock = TestClock::new();
        let keys = CachedKeys::new("test", Box::new(Arc::clone(&issuer)), clock.clock());
        (issuer, clock, keys)
    }

    fn fetches(issuer: &FakeIssuer) -> usize {
        issuer.fetches.load(Ordering::SeqCst)
    }

    async fn until_idle(keys: &CachedKeys) {
        if let Some(fetch) = keys.0.fetches.join(&()) {
            fetch.landed().await;
        }
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_fetch() {
        let (issuer, _clock, keys) = issuer(&["a"]);
        let keys = Arc::new(keys);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..WAITING {
            let keys = Arc::clone(&keys);
            callers.spawn(async move { keys.find(Some("a")).await.is_ok() });
        }
        assert!(callers.join_all().await.into_iter().all(|found| found));
        assert_eq!(fetches(&issuer), 1);
    }

    #[tokio::test]
    async fn a_crowd_does_not_wait_for_an_issuer_that_hangs() {
        let (issuer, clock, keys) = issuer(&["a"]);
        issuer.gate.forget_permits(1000);
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(keys.find(Some("a")))).collect();
        for caller in &mut waiting {
            assert!(futures_poll_once(caller).await.is_none());
        }
        assert_eq!(keys.find(Some("a")).await.err(), Some(NoKey::Unavailable));
        // Who gives up makes room for another one.
        drop(waiting.pop());
        let mut next = Box::pin(keys.find(Some("a")));
        assert!(futures_poll_once(&mut next).await.is_none());
        assert_eq!(keys.find(Some("a")).await.err(), Some(NoKey::Unavailable));
        issuer.gate.add_permits(1);
        for caller in waiting.into_iter().chain([next]) {
            assert!(caller.await.is_ok());
        }
        // With keys it is only invented names that wait, and then one fetch is on its way.
        clock.advance(61);
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(keys.find(Some("x")))).collect();
        for caller in &mut waiting {
            assert!(futures_poll_once(caller).await.is_none());
        }
        assert_eq!(keys.find(Some("x")).await.err(), Some(NoKey::Unavailable));
        assert!(keys.find(Some("a")).await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_does_not_end_the_fetch() {
        let (issuer, _clock, keys) = issuer(&["a"]);
        issuer.gate.forget_permits(1000);
        {
            let mut first = Box::pin(keys.find(Some("a")));
            assert!(futures_poll_once(&mut first).await.is_none());
        }
        issuer.gate.add_permits(1);
        assert!(keys.find(Some("a")).await.is_ok());
        assert_eq!(fetches(&issuer), 1);
    }

    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn a_flood_of_unknown_kids_is_one_fetch_a_minute() {
        let (issuer, clock, keys) = issuer(&["a"]);
        for index in 0..1000 {
            assert_eq!(
                keys.find(Some(&format!("invented-{index}"))).await.err(),
                Some(NoKey::Unknown)
            );
        }
        assert_eq!(fetches(&issuer), 1);
        clock.advance(61);
        for index in 0..1000 {
            assert_eq!(
                keys.find(Some(&format!("other-{index}"))).await.err(),
                Some(NoKey::Unknown)
            );
        }
        assert_eq!(fetches(&issuer), 2);
        assert!(keys.find(Some("a")).await.is_ok());
        assert_eq!(keys.find(None).await.err(), None);
    }

    #[tokio::test]
    async fn a_new_key_is_found_a_minute_after_the_last_fetch() {
        let (issuer, clock, keys) = issuer(&["a"]);
        assert!(keys.find(Some("a")).await.is_ok());
        *issuer.kids.lock().unwrap() = vec!["a", "b"];
        assert_eq!(keys.find(Some("b")).await.err(), Some(NoKey::Unknown));
        clock.advance(61);
        assert!(keys.find(Some("b")).await.is_ok());
        assert_eq!(fetches(&issuer), 2);
    }

    #[tokio::test]
    async fn an_old_set_is_renewed_in_the_background() {
        let (issuer, clock, keys) = issuer(&["a"]);
        assert!(keys.find(Some("a")).await.is_ok());
        *issuer.kids.lock().unwrap() = vec!["b"];
        clock.advance(8 * 60);
        assert!(keys.find(Some("a")).await.is_ok());
        assert_eq!(fetches(&issuer), 1);
        clock.advance(4 * 60);
        assert!(keys.find(Some("a")).await.is_ok());
        until_idle(&keys).await;
        assert_eq!(fetches(&issuer), 2);
        assert!(keys.find(Some("b")).await.is_ok());
        assert_eq!(keys.find(Some("a")).await.err(), Some(NoKey::Unknown));
    }

    #[tokio::test]
    async fn an_outage_is_survived_for_six_hours_and_not_hammered() {
        let (issuer, clock, keys) = issuer(&["a"]);
        assert!(keys.find(Some("a")).await.is_ok());
        issuer.is_down.store(true, Ordering::SeqCst);
        let minutes = 6 * 60 - 1;
        for _ in 0..minutes {
            clock.advance(60);
            for _ in 0..10 {
                assert!(keys.find(Some("a")).await.is_ok());
                until_idle(&keys).await;
            }
        }
        assert!(fetches(&issuer) <= minutes, "{}", fetches(&issuer));
        assert_eq!(keys.find(Some("b")).await.err(), Some(NoKey::Unavailable));
        assert!(keys.is_ready());
        let fetched = keys.fetched().unwrap();
        assert_eq!((fetched.age_seconds, fetched.worked), (Some(6 * 60 * 60 - 60), 1));
        assert_eq!(fetched.failed + 1, fetches(&issuer) as u64);
        clock.advance(60);
        assert!(!keys.is_ready());
        assert_eq!(keys.find(Some("a")).await.err(), Some(NoKey::Unavailable));
        issuer.is_down.store(false, Ordering::SeqCst);
        clock.advance(60);
        assert!(keys.find(Some("a")).await.is_ok());
    }

    #[tokio::test]
    async fn an_issuer_that_is_down_from_the_start_is_asked_every_few_seconds() {
        let (issuer, clock, keys) = issuer(&["a"]);
        issuer.is_down.store(true, Ordering::SeqCst);
        for _ in 0..100 {
            assert_eq!(keys.find(Some("a")).await.err(), Some(NoKey::Unavailable));
            keys.prefetch();
        }
        assert_eq!(fetches(&issuer), 1);
        for _ in 0..300 {
            clock.advance(1);
            let _ = keys.find(Some("a")).await;
        }
        assert!((60..170).contains(&fetches(&issuer)), "{}", fetches(&issuer));
        issuer.is_down.store(false, Ordering::SeqCst);
        clock.advance(5);
        assert!(keys.find(Some("a")).await.is_ok());
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_does_not_stop_renewal() {
        let (issuer, clock, keys) = issuer(&["a"]);
        assert!(keys.find(Some("a")).await.is_ok());
        clock.advance(-24 * 60 * 60);
        *issuer.kids.lock().unwrap() = vec!["b"];
        assert!(keys.find(Some("b")).await.is_ok());
        assert_eq!(fetches(&issuer), 2);
    }

    #[tokio::test]
    async fn prefetching_makes_ready() {
        let (issuer, _clock, keys) = issuer(&["a"]);
        assert!(!keys.is_ready());
        keys.prefetch();
        until_idle(&keys).await;
        keys.prefetch();
        assert!(keys.is_ready());
        assert_eq!(fetches(&issuer), 1);
    }
}
