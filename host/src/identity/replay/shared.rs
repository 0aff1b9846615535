//! The memory of used tokens that all brokers share.
//!
//! A reservation ends by itself after [`LEASE`]: a broker that is killed leaves no token reserved.
//! [`SharedToken::secure`] makes the store remember the token until it has expired; it comes before
//! the credential leaves.
//!
//! **Invariant:** the memory knows since when it is whole. A store that was emptied, restarted or
//! replaced, or that no broker has asked for a while, begins a new memory, and a token that was
//! issued before is rejected.
//! **Invariant:** a token is accepted only by an answer of a store that keeps what it was told.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use ulid::Ulid;

use super::{Replayed, Token};
use crate::shared::{MOST_AHEAD, Reason, Script, Shared, StoreUnavailable, UNATTENDED, Use};

/// Longer than a request takes.
const LEASE: Duration = Duration::from_mins(1);
/// How much later than this broker another one may still accept the token, in seconds: their clocks
/// differ.
const CLOCKS: i64 = 300;
/// Longer than any token is accepted. Redis has a largest number.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// Keys: the facts about the store, and the token's names. The first name is written, and all of
/// them are looked for: other brokers may write another one while keys are rotated.
/// Arguments, times in milliseconds: now, issued, lease, owner, run id, fingerprint, how far now
/// may be ahead of the store's time, and for how long the memory lasts while no broker asks.
const RESERVE: &str = "
local since = redis.call('HGET', KEYS[1], 'since')
if not since then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local latest = math.min(tonumber(ARGV[1]), now + tonumber(ARGV[7]))
  since = string.format('%.0f', math.max(now, latest))
  redis.call('HSET', KEYS[1], 'since', since, 'run', ARGV[5], 'key', ARGV[6])
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
end
if tonumber(ARGV[2]) < tonumber(since) then return 'before' end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 'used' end
end
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
return 'reserved'";

/// Keys: the facts about the store, and the token's first name. Arguments: owner, milliseconds.
const SECURE: &str = "
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 'lost'
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 'secured'";

/// Keys: the token's first name. Arguments: owner.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[1])
return 'released'";

/// The tokens of one issuer.
pub(in crate::identity) struct SharedTokens {
    shared: Arc<Shared>,
    iss: String,
}

/// One token, and who has reserved it.
#[derive(Clone)]
pub(super) struct SharedToken(Arc<SharedTokenState>);

struct SharedTokenState {
    shared: Arc<Shared>,
    /// The facts about the store, and the token under each key.
    keys: Vec<String>,
    issued: i64,
    expires: i64,
    owner: String,
}

impl SharedTokens {
    pub(in crate::identity) fn new(shared: &Arc<Shared>, iss: &str) -> Self {
        Self { shared: Arc::clone(shared), iss: iss.to_owned() }
    }

    pub(super) fn token(&self, token: &Token) -> SharedToken {
        let Self { shared, iss } = self;
        let mut keys = vec![shared.about()];
        keys.extend(shared.names("token", &[iss.as_bytes(), &token.id]));
        SharedToken(Arc::new(SharedTokenState {
            shared: Arc::clone(shared),
            keys,
            issued: token.issued,
            expires: token.expires,
            owner: Ulid::generate().to_string(),
        }))
    }
}

impl SharedToken {
    pub(super) async fn reserve(&self) -> Result<(), Replayed> {
        let SharedTokenState { shared, keys, issued, owner, .. } = &*self.0;
        if shared.evicts(Use::Tokens) {
            return Err(Replayed::Unknown(StoreUnavailable(Reason::Forgetful)));
        }
        let run_id = shared.run_id(Use::Tokens).map_err(Replayed::Unknown)?;
        let now = shared.clock().now().as_millisecond().to_string();
        let issued = issued.saturating_mul(1000).to_string();
        let lease = milliseconds(LEASE).min(self.left()).to_string();
        let (ahead, fingerprint) = (MOST_AHEAD.to_string(), shared.fingerprint());
        let arguments = [&*now, &issued, &lease, owner, &run_id, fingerprint, &ahead, UNATTENDED]
            .map(str::as_bytes);
        match &*self.run(RESERVE, keys, &arguments).await? {
            b"reserved" => Ok(()),
            b"used" => Err(Replayed::Used),
            b"before" => Err(Replayed::BeforeStart),
            _ => Err(Replayed::Unknown(shared.nonsense(Use::Tokens))),
        }
    }

    pub(super) async fn secure(&self) -> Result<(), Replayed> {
        let SharedTokenState { shared, keys, owner, .. } = &*self.0;
        let left = self.left().to_string();
        let keys = keys.get(..2).unwrap_or_default();
        match &*self.run(SECURE, keys, &[owner.as_bytes(), left.as_bytes()]).await? {
            b"secured" => Ok(()),
            // The lease ended, or the store was emptied.
            b"lost" => Err(Replayed::Unknown(StoreUnavailable(Reason::Forgetful))),
            _ => Err(Replayed::Unknown(shared.nonsense(Use::Tokens))),
        }
    }

    /// A failure is no problem: the lease ends by itself.
    pub(super) async fn release(&self) {
        let SharedTokenState { keys, owner, .. } = &*self.0;
        let keys = keys.get(1..2).unwrap_or_default();
        let _ = self.run(RELEASE, keys, &[owner.as_bytes()]).await;
    }

    /// The same for somebody who cannot wait.
    pub(super) fn release_soon(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { self.release().await });
        }
    }

    async fn run(
        &self,
        text: &'static str,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<Vec<u8>, Replayed> {
        let shared = &self.0.shared;
        let answer = shared.run(Use::Tokens, Script { text, keys, arguments }).await;
        let Value::BulkString(word) = answer.map_err(Replayed::Unknown)? else {
            return Err(Replayed::Unknown(shared.nonsense(Use::Tokens)));
        };
        Ok(word)
    }

    /// How long the token must be remembered, in milliseconds.
    fn left(&self) -> i64 {
        let now = self.0.shared.clock().now().as_second();
        let left = self.0.expires.saturating_sub(now).max(1).saturating_add(CLOCKS);
        left.saturating_mul(1000).min(milliseconds(LONGEST))
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
