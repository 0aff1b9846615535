//! What all brokers know together of one registry: until when it is left alone, and which of them
//! tries it.
//!
//! A broker asks before each mint, and tells when its own breaker opens or closes and when the
//! registry asks for a pause. The right to try a registry that is down is a lease: it ends by
//! itself ([`LEASE`]) and is renewed while the call runs.
//!
//! **Invariant (I12):** an answer is believed for a bounded time: see `Elsewhere`.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinHandle;
use ulid::Ulid;

use crate::issue::failures::LONGEST_PAUSE;
use crate::registries::Registry;
use crate::shared::{Script, Shared, StoreUnavailable, Use};

/// A broker that is killed while it tries the registry is followed by another one after this time.
const LEASE: Duration = Duration::from_secs(5);
/// How long the store knows that a registry was down or answers again. Brokers that have heard
/// nothing for longer find out by themselves.
const KEPT: Duration = Duration::from_mins(10);
/// More than a breaker ever opens in a row while anybody remembers.
const MOST_OPENED: i64 = 1_000_000;

/// What scripts begin with. Keys: the state under each key of the brokers. The newest is the state,
/// and the first name is written.
macro_rules! state {
    ($rest:literal) => {
        concat!(
            "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, told = KEYS[1], -1
for _, name in ipairs(KEYS) do
  local at = tonumber(redis.call('HGET', name, 'told') or -1) or -1
  if at > told then key, told = name, at end
end
local state = redis.call('HMGET', key, 'opened', 'until', 'probe', 'lease')
local opened, ends = tonumber(state[1] or 0) or 0, tonumber(state[2] or 0) or 0",
            $rest
        )
    };
}

/// Arguments, times in milliseconds: owner, lease, 1 to take it, the longest pause, how long the
/// state is kept. Asked again by the same owner, it renews the lease. A pause that is too long says
/// that the clock was set back.
const ASK: &str = state!(
    "
local owner, longest = ARGV[1], tonumber(ARGV[4])
if told < 0 then return { 'unknown' } end
local left = ends - now
if left > longest then
  left = longest
  redis.call('HSET', key, 'until', string.format('%.0f', now + left))
end
if left > 0 then return { 'wait', left, opened } end
if opened == 0 then return { 'closed', math.max(now - told, 0) } end
local lease = math.min(tonumber(state[4] or 0) or 0, now + tonumber(ARGV[2]))
if state[3] and state[3] ~= owner and lease > now then return { 'wait', lease - now, opened } end
if ARGV[3] == '1' then
  redis.call('HSET', key, 'probe', owner, 'lease', string.format('%.0f', now + ARGV[2]))
  redis.call('PEXPIRE', key, ARGV[5])
end
return { 'probe', opened }"
);

/// Arguments, times in milliseconds: owner of a lease that ends, how often the breaker opened, for
/// how long, and how long the state is kept after that.
const TELL: &str = state!(
    "
local again, pause = tonumber(ARGV[2]), tonumber(ARGV[3])
if again == 0 and opened > 0 then ends = 0 end
if pause > 0 then ends = math.max(ends, now + pause) end
if again > 0 then again = math.max(again, opened) end
redis.call('HSET', KEYS[1], 'told', string.format('%.0f', now), 'opened', again,
  'until', string.format('%.0f', ends))
if again == 0 or state[3] == ARGV[1] then redis.call('HDEL', KEYS[1], 'probe', 'lease') end
redis.call('PEXPIRE', KEYS[1], ARGV[4] + math.max(ends - now, 0))
return 'told'"
);

/// Arguments: owner.
const RELEASE: &str = state!(
    "
if state[3] ~= ARGV[1] then return 'lost' end
redis.call('HDEL', key, 'probe', 'lease')
return 'released'"
);

/// The state of one registry in one epoch.
pub(super) struct SharedBreaker {
    shared: Arc<Shared>,
    names: Vec<String>,
}

/// What the store says of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredState {
    /// No broker has told anything lately.
    Unknown,
    /// It answers, and so long ago a broker said so.
    Closed(Duration),
    /// It is left alone, because it is down or because it asked for a pause.
    LeftAlone { left: Duration, is_down: bool },
    /// It is down, and one broker may try it. It was found down so often in a row.
    MayTry(u32),
}

/// What a broker has found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    /// How often its breaker has opened in a row. 0: the registry answers.
    pub(super) opened: u32,
    pub(super) pause: Duration,
}

/// The right to try a registry that is down, until dropped.
pub(super) struct ProbeLease {
    of: Arc<SharedBreaker>,
    owner: Option<String>,
    keeper: JoinHandle<()>,
}

impl SharedBreaker {
    pub(super) fn new(shared: &Arc<Shared>, registry: &Registry) -> Arc<Self> {
        let parts = [registry.name.as_str().as_bytes(), registry.epoch.bytes()];
        let names = shared.names("registry", &parts);
        Arc::new(Self { shared: Arc::clone(shared), names })
    }

    /// What holds now. Takes nothing.
    pub(super) async fn look(&self) -> Result<StoredState, StoreUnavailable> {
        self.ask("", false).await
    }

    /// What holds for a call that is about to start, and the lease if it may try the registry.
    pub(super) async fn begin(
        self: &Arc<Self>,
    ) -> Result<(StoredState, Option<ProbeLease>), StoreUnavailable> {
        let owner = Ulid::generate().to_string();
        let state = self.ask(&owner, true).await?;
        let may_try = matches!(state, StoredState::MayTry(_));
        Ok((state, may_try.then(|| ProbeLease::hold(self, owner))))
    }

    /// Tells the other brokers. A failure is no problem: they find out by themselves.
    pub(super) async fn tell(&self, finding: Finding, lease: Option<ProbeLease>) {
        let owner = lease.and_then(ProbeLease::end).unwrap_or_default();
        let (pause, kept) = (milliseconds(finding.pause), milliseconds(KEPT));
        let opened = finding.opened.to_string();
        self.run_for_word(TELL, &[&owner, &opened, &pause, &kept], b"told").await;
    }

    async fn release(&self, owner: &str) {
        self.run_for_word(RELEASE, &[owner], b"released").await;
    }

    async fn ask(&self, owner: &str, takes: bool) -> Result<StoredState, StoreUnavailable> {
        let takes = if takes { "1" } else { "0" };
        let [lease, longest, kept] = [LEASE, LONGEST_PAUSE, KEPT].map(milliseconds);
        let answer = self.run(ASK, &[owner, &lease, takes, &longest, &kept]).await?;
        StoredState::parse(answer).ok_or_else(|| self.shared.nonsense(Use::Registries))
    }

    async fn run_for_word(&self, text: &'static str, arguments: &[&str], word: &[u8]) {
        match self.run(text, arguments).await {
            Ok(Value::BulkString(said)) if said == word || said == b"lost" => {}
            Ok(_) => {
                self.shared.nonsense(Use::Registries);
            }
            Err(StoreUnavailable(_)) => {}
        }
    }

    async fn run(&self, text: &'static str, words: &[&str]) -> Result<Value, StoreUnavailable> {
        let arguments: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let script = Script { text, keys: &self.names, arguments: &arguments };
        self.shared.run(Use::Registries, script).await
    }
}

impl ProbeLease {
    fn hold(of: &Arc<SharedBreaker>, owner: String) -> Self {
        let (kept, renews) = (Arc::clone(of), owner.clone());
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                let _ = kept.ask(&renews, true).await;
            }
        });
        Self { of: Arc::clone(of), owner: Some(owner), keeper }
    }

    /// The owner, for the script that releases it.
    fn end(mut self) -> Option<String> {
        self.owner.take()
    }
}

impl Drop for ProbeLease {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Some(owner) = self.owner.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let of = Arc::clone(&self.of);
            runtime.spawn(async move { of.release(&owner).await });
        }
    }
}

impl StoredState {
    /// `None`: no answer to [`ASK`].
    fn parse(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let (word, numbers) = parts.split_first()?;
        let Value::BulkString(word) = word else { return None };
        Some(match (&**word, numbers) {
            (b"unknown", []) => Self::Unknown,
            (b"closed", [Value::Int(age @ 0..)]) => {
                Self::Closed(Duration::from_millis(age.unsigned_abs()))
            }
            (b"wait", [Value::Int(left @ 0..), Value::Int(opened @ 0..=MOST_OPENED)]) => {
                let left = Duration::from_millis(left.unsigned_abs());
                let is_down = *opened > 0;
                Self::LeftAlone { left: Some(left).filter(|it| *it <= LONGEST_PAUSE)?, is_down }
            }
            (b"probe", [Value::Int(opened @ 1..=MOST_OPENED)]) => {
                Self::MayTry(u32::try_from(*opened).ok()?)
            }
            _ => return None,
        })
    }
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_are_parsed_strictly() {
        let parse = |parts: &[Value]| StoredState::parse(Value::Array(parts.to_vec()));
        let wait = [text("wait"), Value::Int(300_000), Value::Int(0)];
        let left_alone = StoredState::LeftAlone { left: LONGEST_PAUSE, is_down: false };
        assert_eq!(parse(&wait), Some(left_alone));
        assert_eq!(parse(&[text("unknown")]), Some(StoredState::Unknown));
        assert_eq!(parse(&[text("probe"), Value::Int(3)]), Some(StoredState::MayTry(3)));
        let closed = StoredState::Closed(Duration::from_millis(7));
        assert_eq!(parse(&[text("closed"), Value::Int(7)]), Some(closed));
        for wrong in [
            &[][..],
            &wait[..1],
            &wait[..2],
            &[text("wait"), Value::Int(300_001), Value::Int(1)],
            &[text("wait"), Value::Int(-1), Value::Int(1)],
            &[text("wait"), Value::Int(1), Value::Int(-1)],
            &[text("wait"), Value::Int(1), text("1")],
            &[text("unknown"), Value::Nil],
            &[text("closed"), Value::Int(-1)],
            &[text("closed")],
            &[text("probe"), Value::Int(0)],
            &[text("probe"), Value::Int(i64::MAX)],
            &[text("open"), Value::Int(1)],
            &[Value::Int(1)],
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        for wrong in [Value::Nil, Value::Okay, text("unknown"), Value::Int(0)] {
            assert_eq!(StoredState::parse(wrong), None);
        }
    }
}
