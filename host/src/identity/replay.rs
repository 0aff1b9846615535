//! Remembers which tokens were used, for issuers with `replay = "single_use"`.
//!
//! The memory is lost at a restart, so a token that was issued before the start is rejected: the
//! broker does not know whether it was used. Brokers do not share what they remember.
//!
//! **Invariant:** a token that is reserved or used is rejected until it expires. If its credential
//! did not reach the caller, the token can be used again.
//! **Invariant:** the memory is bounded. When it is full, further tokens are rejected; no used
//! token is forgotten before it expires.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::bounds::LEEWAY;
use super::claims::integer;
use crate::domain::Claims;

/// About 10 MiB for one issuer; enough for 13 tokens a second that live for an hour.
const MOST_TOKENS: usize = 50_000;
/// Seconds for which a token is remembered after it can no longer be accepted.
const MARGIN: i64 = 5;

type Id = [u8; 32];

/// The used tokens of one issuer.
pub(super) struct UsedTokens {
    started: Timestamp,
    most: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    ids: HashSet<Id>,
    /// The ids by the second from which they may be forgotten.
    until: BTreeSet<(i64, Id)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Replayed {
    /// The caller needs another token.
    #[error("the token was used already, or another request is using it")]
    Used,
    /// The caller needs another token.
    #[error("the token was issued before the broker started, so it may have been used before")]
    BeforeStart,
    /// The caller may try again.
    #[error(
        "{MOST_TOKENS} used tokens of the issuer are remembered, and there is no room for more"
    )]
    Full,
}

/// A token that nobody else can use. When this is dropped without a commit, the token can be used
/// again.
#[must_use = "a token that is not committed can be used again"]
pub struct Reservation(Option<Held>);

struct Held {
    store: Arc<UsedTokens>,
    entry: (i64, Id),
}

impl UsedTokens {
    pub(super) fn new(started: Timestamp) -> Self {
        Self { started, most: MOST_TOKENS, used: Mutex::default() }
    }

    /// `claims` must be verified: `jti`, `iat` and `exp` are present.
    pub(super) fn reserve(
        self: &Arc<Self>,
        claims: &Claims,
        now: Timestamp,
    ) -> Result<Reservation, Replayed> {
        // Compared in milliseconds: a token of the second in which the broker started is rejected.
        let issued = integer(claims, "iat").unwrap_or(0).saturating_mul(1000);
        if issued < self.started.as_millisecond() {
            return Err(Replayed::BeforeStart);
        }
        let until = integer(claims, "exp").unwrap_or(i64::MAX).saturating_add(LEEWAY + MARGIN);
        let id = claims.get("jti").and_then(|jti| jti.as_str()).ok_or(Replayed::Used)?;
        let entry = (until, Id::from(Sha256::digest(id)));
        let mut used = self.used();
        used.forget(now.as_second());
        if used.ids.contains(&entry.1) {
            return Err(Replayed::Used);
        }
        if used.ids.len() >= self.most {
            return Err(Replayed::Full);
        }
        used.ids.insert(entry.1);
        used.until.insert(entry);
        drop(used);
        Ok(Reservation(Some(Held { store: Arc::clone(self), entry })))
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn forget(&mut self, now: i64) {
        while let Some(entry) = self.until.first().copied().filter(|(until, _)| *until <= now) {
            self.until.remove(&entry);
            self.ids.remove(&entry.1);
        }
    }
}

impl Reservation {
    /// For a token that may be used more than once.
    pub(super) fn unlimited() -> Self {
        Self(None)
    }

    /// Marks the token as used.
    pub(crate) fn commit(mut self) {
        self.0 = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(Held { store, entry }) = self.0.take() else { return };
        let mut used = store.used();
        used.until.remove(&entry);
        used.ids.remove(&entry.1);
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

    fn store(most: usize) -> Arc<UsedTokens> {
        let started = Timestamp::from_second(START).unwrap();
        Arc::new(UsedTokens { most, ..UsedTokens::new(started) })
    }

    fn token(jti: &str, issued: i64, lifetime: i64) -> Claims {
        let claims = json!({ "jti": jti, "iat": issued, "exp": issued + lifetime });
        claims.as_object().unwrap().clone()
    }

    fn reserve(store: &Arc<UsedTokens>, token: &Claims, now: i64) -> Result<Reservation, Replayed> {
        store.reserve(token, Timestamp::from_second(now).unwrap())
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
    fn what_was_issued_before_the_start_may_have_been_used() {
        let half = Timestamp::from_millisecond(START * 1000 + 500).unwrap();
        let store = Arc::new(UsedTokens::new(half));
        assert_eq!(
            reserve(&store, &token("a", START - 1, 300), START + 1).unwrap_err(),
            Replayed::BeforeStart
        );
        assert_eq!(
            reserve(&store, &token("a", START, 300), START + 1).unwrap_err(),
            Replayed::BeforeStart
        );
        assert!(reserve(&store, &token("a", START + 1, 300), START + 1).is_ok());
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
        assert_eq!(store.used().ids.len(), 3);
        // The first has expired and makes room.
        assert!(reserve(&store, &token("y", START, 300), START + 135).is_ok());
        let used = store.used();
        assert_eq!((used.ids.len(), used.until.len()), (2, 2));
    }
}
