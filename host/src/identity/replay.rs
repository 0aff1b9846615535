//! Remembers which tokens were used, for issuers with `replay = "single_use"`.
//!
//! The memory is lost at a restart, so a token that was issued before the start is rejected: the
//! broker does not know whether it was used. With `[shared]`, brokers also ask a common memory
//! (`shared`), which outlives them.
//!
//! **Invariant:** a token that is reserved or used is rejected until it expires. If its credential
//! did not reach the caller, the token can be used again.
//! **Invariant:** a token is used after it was issued by the broker's clock. A memory that begins
//! later knows by `iat` that it may have been used.
//! **Invariant:** the memory is bounded. When it is full, further tokens are rejected; no used
//! token is forgotten before it expires.

mod shared;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::bounds::LEEWAY;
use super::claims::integer;
use crate::domain::{Claims, Clock};
use crate::shared::StoreUnavailable;
use shared::SharedToken;
pub(super) use shared::SharedTokens;

/// About 10 MiB for one issuer; enough for 13 tokens a second that live for an hour.
const MOST_TOKENS: usize = 50_000;
/// How long a token waits whose issuer's clock is ahead.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Seconds for which a token is remembered after it can no longer be accepted.
const MARGIN: i64 = 5;

type Id = [u8; 32];

/// The used tokens of one issuer.
///
/// A token is forgotten when it has expired by the wall clock, and its lifetime has also passed on
/// a clock that nobody can set. A wall clock that runs ahead for a while and is set back makes no
/// used token usable again.
pub(super) struct UsedTokens {
    /// The memory of all brokers, which is asked after this one.
    shared: Option<SharedTokens>,
    started: Timestamp,
    most: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    by_id: HashMap<Id, Times>,
    /// The ids by [`Times::until`].
    by_time: BTreeSet<(i64, Id)>,
}

/// When a token may be forgotten.
#[derive(Clone, Copy)]
struct Times {
    /// By the clock that never goes back, in seconds since its start.
    until: i64,
    /// By the wall clock, in seconds since 1970.
    expires: i64,
}

/// The time by both clocks, in seconds.
#[derive(Clone, Copy)]
struct Now {
    wall: i64,
    elapsed: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Replayed {
    /// The caller needs another token.
    #[error("the token was used already, or another request is using it")]
    Used,
    /// The caller needs another token.
    #[error(
        "the token was issued before the memory of used tokens began, so it may have been used \
         before"
    )]
    BeforeStart,
    /// The caller needs another token, later.
    #[error(
        "the token was issued more than {} s in the future, and is good for one request",
        LONGEST_WAIT.as_secs()
    )]
    Early,
    /// The caller may try again.
    #[error(
        "{MOST_TOKENS} used tokens of the issuer are remembered, and there is no room for more"
    )]
    Full,
    /// The caller may try again.
    #[error("{0}, so that nobody knows whether the token was used")]
    Unknown(StoreUnavailable),
}

/// A token that nobody else can use. When this is dropped without a commit, the token can be used
/// again.
#[must_use = "a token that is not committed can be used again"]
pub struct Reservation(Option<Held>);

struct Held {
    store: Arc<UsedTokens>,
    id: Id,
    shared: Option<SharedToken>,
}

/// What is remembered of one token.
struct Token {
    id: Id,
    /// In seconds since 1970.
    issued: i64,
    /// When it can be forgotten, in seconds since 1970.
    expires: i64,
}

impl Token {
    /// `claims` are verified: `jti`, `iat` and `exp` are present.
    fn of(claims: &Claims) -> Option<Self> {
        Some(Self {
            id: Id::from(Sha256::digest(claims.get("jti")?.as_str()?)),
            issued: integer(claims, "iat").unwrap_or(0),
            expires: integer(claims, "exp").unwrap_or(i64::MAX).saturating_add(LEEWAY + MARGIN),
        })
    }

    /// Waits until the token was issued by this broker's clock. If it were used before, a memory
    /// that begins in the meantime would take it for a new one.
    async fn wait_until_issued(&self, clock: &Clock) -> Result<(), Replayed> {
        let ahead = self.issued.saturating_mul(1000).saturating_sub(clock.now().as_millisecond());
        let Ok(ahead @ 1..) = u64::try_from(ahead) else { return Ok(()) };
        let ahead = Duration::from_millis(ahead);
        if ahead > LONGEST_WAIT {
            return Err(Replayed::Early);
        }
        tokio::time::sleep(ahead).await;
        Ok(())
    }
}

impl UsedTokens {
    pub(super) fn new(started: Timestamp, shared: Option<SharedTokens>) -> Self {
        Self { shared, started, most: MOST_TOKENS, used: Mutex::default() }
    }

    /// `claims` must be verified.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        claims: &Claims,
        clock: &Clock,
    ) -> Result<Reservation, Replayed> {
        let token = Token::of(claims).ok_or(Replayed::Used)?;
        token.wait_until_issued(clock).await?;
        let Some(shared) = &self.shared else {
            // Compared in milliseconds: a token of the second in which the broker started is
            // rejected.
            if token.issued.saturating_mul(1000) < self.started.as_millisecond() {
                return Err(Replayed::BeforeStart);
            }
            return self.reserve_here(&token, clock);
        };
        // A store that lies cannot make this broker accept a token twice.
        let mut reservation = self.reserve_here(&token, clock)?;
        let reserved = shared.token(&token);
        if let Some(held) = &mut reservation.0 {
            held.shared = Some(reserved.clone());
        }
        reserved.reserve().await?;
        Ok(reservation)
    }

    fn reserve_here(
        self: &Arc<Self>,
        token: &Token,
        clock: &Clock,
    ) -> Result<Reservation, Replayed> {
        let now = Now::of(clock);
        let Token { id, expires, .. } = *token;
        let mut used = self.used();
        used.forget(now);
        if used.by_id.contains_key(&id) {
            return Err(Replayed::Used);
        }
        if used.by_id.len() >= self.most {
            return Err(Replayed::Full);
        }
        used.remember(id, expires, now);
        drop(used);
        Ok(Reservation(Some(Held { store: Arc::clone(self), id, shared: None })))
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn forget(&mut self, now: Now) {
        let is_over = |(until, _): &(i64, Id)| *until <= now.elapsed;
        while let Some((_, id)) = self.by_time.first().copied().filter(is_over) {
            let Some(Times { expires, .. }) = self.release(&id) else { break };
            if expires > now.wall {
                // The wall clock was set back: the token is valid for longer than it seemed.
                self.remember(id, expires, now);
            }
        }
    }

    fn remember(&mut self, id: Id, expires: i64, now: Now) {
        let until = now.elapsed_at(expires);
        self.by_id.insert(id, Times { until, expires });
        self.by_time.insert((until, id));
    }

    fn release(&mut self, id: &Id) -> Option<Times> {
        let times = self.by_id.remove(id)?;
        self.by_time.remove(&(times.until, *id));
        Some(times)
    }
}

impl Now {
    fn of(clock: &Clock) -> Self {
        let elapsed = i64::try_from(clock.elapsed().as_secs()).unwrap_or(i64::MAX);
        Self { wall: clock.now().as_second(), elapsed }
    }

    /// The elapsed time at this second of the wall clock, if nobody sets it; never now or before.
    fn elapsed_at(self, wall: i64) -> i64 {
        self.elapsed.saturating_add(wall.saturating_sub(self.wall).max(1))
    }
}

impl Reservation {
    /// For a token that may be used more than once.
    pub(super) fn unlimited() -> Self {
        Self(None)
    }

    /// Makes sure that no broker accepts the token again, before its credential is handed out.
    pub(crate) async fn secure(&self) -> Result<(), Replayed> {
        match self.0.as_ref().and_then(|held| held.shared.as_ref()) {
            Some(shared) => shared.secure().await,
            None => Ok(()),
        }
    }

    /// The token is used. It must be secured.
    pub(crate) fn commit(mut self) {
        self.0 = None;
    }

    /// The token can be used again, on every broker.
    pub(crate) async fn release(mut self) {
        let Some(Held { store, id, shared }) = self.0.take() else { return };
        store.used().release(&id);
        if let Some(shared) = shared {
            shared.release().await;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(Held { store, id, shared }) = self.0.take() else { return };
        store.used().release(&id);
        if let Some(shared) = shared {
            shared.release_soon();
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Reservation" } else { "Reservation(unlimited)" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const START: i64 = 1_700_000_000;

    /// Both clocks at this second, as long as nobody sets the wall clock.
    fn at(now: i64) -> Clock {
        Clock::from_fn(move || Timestamp::from_second(now).unwrap())
    }

    fn store(most: usize) -> Arc<UsedTokens> {
        let started = Timestamp::from_second(START).unwrap();
        Arc::new(UsedTokens { most, ..UsedTokens::new(started, None) })
    }

    fn token(jti: &str, issued: i64, lifetime: i64) -> Claims {
        let claims = json!({ "jti": jti, "iat": issued, "exp": issued + lifetime });
        claims.as_object().unwrap().clone()
    }

    fn reserve(store: &Arc<UsedTokens>, token: &Claims, now: i64) -> Result<Reservation, Replayed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap();
        runtime.block_on(store.reserve(token, &at(now)))
    }

    #[test]
    fn a_token_is_used_once_and_a_failure_does_not_use_it() {
        let store = store(10);
        let a = token("a", START, 300);
        let first = reserve(&store, &a, START).unwrap();
        assert_eq!(reserve(&store, &a, START).unwrap_err(), Replayed::Used);
        drop(first);
        reserve(&store, &a, START + 1).unwrap().commit();
        for later in [1, 300, 329, 334] {
            assert_eq!(reserve(&store, &a, START + later).unwrap_err(), Replayed::Used, "{later}");
        }
        // It has expired long since: nobody gets as far as here with it.
        assert!(reserve(&store, &a, START + 335).is_ok());
        assert!(reserve(&store, &token("b", START, 300), START).is_ok());
    }

    #[test]
    fn a_wall_clock_that_is_set_forgets_no_token() {
        // (how far the wall clock is off when the token is used, and when it is looked for)
        for (first, later) in [(0, 3600), (3600, 0), (0, -3600), (-3600, 3600), (3600, -3600)] {
            let mut used = Used::default();
            let now = |wall, elapsed| Now { wall: START + wall, elapsed };
            let id: Id = [7; 32];
            used.remember(id, START + first.max(0) + 335, now(first, 100));
            used.forget(now(first + 10, 110));
            used.forget(now(later + 20, 120));
            assert!(used.by_id.contains_key(&id), "{first} {later}");
            used.forget(now(20, 120));
            assert!(used.by_id.contains_key(&id), "{first} {later}, and back");
            // It is forgotten when both clocks agree that it has expired.
            for elapsed in [4000, 12_000] {
                used.forget(now(8000, elapsed));
            }
            assert!(used.by_id.is_empty() && used.by_time.is_empty(), "{first} {later}");
        }
    }

    #[test]
    fn what_was_issued_before_the_start_may_have_been_used() {
        let half = Timestamp::from_millisecond(START * 1000 + 500).unwrap();
        let store = Arc::new(UsedTokens::new(half, None));
        for issued in [START - 1, START] {
            assert_eq!(
                reserve(&store, &token("a", issued, 300), START + 1).unwrap_err(),
                Replayed::BeforeStart
            );
        }
        assert!(reserve(&store, &token("a", START + 1, 300), START + 1).is_ok());
    }

    #[test]
    fn a_token_of_the_future_waits_for_its_time() {
        let begin = Timestamp::from_millisecond(START * 1000 + 950).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let started = std::time::Instant::now();
        let clock = Clock::from_fn(move || begin + started.elapsed());
        let reserve = |issued| {
            let store = store(10);
            let token = token("a", issued, 300);
            let reserved = runtime.block_on(store.reserve(&token, &clock));
            (reserved.map(Reservation::commit), clock.now().as_second() >= issued)
        };
        assert_eq!(reserve(START + 1), (Ok(()), true));
        assert_eq!(reserve(START + 7), (Err(Replayed::Early), false));
    }

    #[test]
    fn a_full_store_takes_no_more_and_forgets_nothing() {
        let store = store(3);
        for (index, lifetime) in [100, 200, 300].into_iter().enumerate() {
            reserve(&store, &token(&index.to_string(), START, lifetime), START).unwrap().commit();
        }
        for index in 0..1000 {
            let other = token(&format!("x{index}"), START, 300);
            assert_eq!(reserve(&store, &other, START + 10).unwrap_err(), Replayed::Full);
        }
        assert_eq!(
            reserve(&store, &token("0", START, 100), START + 10).unwrap_err(),
            Replayed::Used
        );
        assert_eq!(store.used().by_id.len(), 3);
        // The first has expired and makes room.
        assert!(reserve(&store, &token("y", START, 300), START + 135).is_ok());
        let used = store.used();
        assert_eq!((used.by_id.len(), used.by_time.len()), (2, 2));
    }
}
