//! The pace of one registry, or of one AWS account, kept by all brokers together.
//!
//! One script of the shared store gives each call the next moment at which one may start, by the
//! store's clock. While the store does not answer, this broker takes the moments of its share of
//! the rate.
//!
//! **Invariant (I12):** no broker starts calls faster than its own pace ([`SharedPace::here`]),
//! whatever the store says.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::Pace;
use super::settings::PaceOf;
use super::{LONGEST_TURN, Rate};
use crate::domain::Clock;
use crate::shared::{Script, Shared, StoreUnavailable, Use};

/// Keys: when the next call may start if there is no burst left, and the moments that were given
/// back, each under each key of the brokers. The first name of each is written.
/// Arguments, in microseconds: the time between two starts, how far ahead of it a burst may be, and
/// the longest wait. Returns the wait and the moment, or a wait that is too long. A next moment
/// that is later than the last one that can be taken says that the clock was set back.
const TAKE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, ahead, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local half = #KEYS / 2
local function keep(at)
  redis.call('SET', KEYS[1], string.format('%.3f', at), 'PX', math.ceil((at - now) / 1000) + 1)
end
local start = now
for i = 1, half do
  start = math.max(start, tonumber(redis.call('GET', KEYS[i]) or now) or now)
end
local last = now + longest + ahead + interval
if start > last then
  start = last
  keep(last)
end
local moment = math.max(start - ahead, now)
for i = half + 1, #KEYS do
  local gone = redis.call('ZRANGE', KEYS[i], '-inf', string.format('(%.0f', now), 'BYSCORE',
    'LIMIT', 0, 100)
  if #gone > 0 then redis.call('ZREM', KEYS[i], unpack(gone)) end
  local free = redis.call('ZRANGE', KEYS[i], string.format('%.0f', now),
    string.format('%.0f', moment), 'BYSCORE', 'LIMIT', 0, 1)
  if free[1] then
    redis.call('ZREM', KEYS[i], free[1])
    return { 'turn', tonumber(free[1]) - now, free[1] }
  end
end
local wait = math.ceil(moment - now)
if wait > longest then return { 'later', wait } end
keep(start + interval)
return { 'turn', wait, string.format('%.0f', math.ceil(moment)) }";

/// Keys: the moments that were given back. Arguments: one more of them, and for how many
/// milliseconds they are of use.
const GIVE_BACK: &str = "
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'given'";

const SECOND: f64 = 1e6;

pub(super) struct SharedPace {
    shared: Arc<Shared>,
    clock: Clock,
    rate: Rate,
    /// The next moment and those that were given back, under each key.
    names: Vec<String>,
    /// The name of the moments that are given back.
    free: String,
    /// What this broker starts.
    pub(super) here: Pace,
    /// This broker's share, for the time without a store.
    share: Pace,
    /// One for each call that may wait for its moment: no honest store gives more moments.
    turns: Arc<Semaphore>,
}

/// A moment of all brokers, or of this broker's share.
pub(super) struct SharedMoment {
    /// By the broker's clock.
    pub(super) moment: Duration,
    /// The text by which the store knows it. `None`: it is of this broker's share.
    at: Option<String>,
    _turn: OwnedSemaphorePermit,
}

/// An answer to [`TAKE`].
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Turn { wait: Duration, at: String },
    Later(Duration),
}

impl SharedPace {
    pub(super) fn new(of: &PaceOf, rate: Rate, shared: &Arc<Shared>, clock: &Clock) -> Self {
        // Another rate counts anew, as in memory.
        let (per_second, burst) = (rate.per_second.to_string(), rate.burst.to_string());
        let parts: Vec<_> = of.parts().into_iter().chain([&*per_second, &burst]).collect();
        let parts: Vec<_> = parts.into_iter().map(str::as_bytes).collect();
        let names = [shared.names("pace", &parts), shared.names("pace-free", &parts)].concat();
        let seconds = u32::try_from(LONGEST_TURN.as_secs()).unwrap_or(u32::MAX);
        let turns = rate.per_second.get().saturating_mul(seconds).saturating_add(rate.burst.get());
        let turns = usize::try_from(turns).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            free: shared.name("pace-free", &parts),
            names,
            here: Pace::new(rate),
            share: Pace::share(rate, shared.replicas),
            turns: Arc::new(Semaphore::new(turns)),
            rate,
            clock: clock.clone(),
            shared: Arc::clone(shared),
        }
    }

    /// Takes the next moment at which a call may start. `Err` is how long until then, if that is
    /// longer than [`LONGEST_TURN`]: nothing is taken.
    pub(super) async fn take(&self) -> Result<SharedMoment, Duration> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| LONGEST_TURN)?;
        let (moment, at) = match self.ask().await {
            Ok(Taken::Later(wait)) => return Err(wait),
            Ok(Taken::Turn { wait, at }) => {
                let moment = self.clock.elapsed() + wait;
                self.share.follow(moment);
                (moment, Some(at))
            }
            Err(StoreUnavailable(_)) => {
                (self.share.take(self.clock.elapsed(), LONGEST_TURN)?, None)
            }
        };
        Ok(SharedMoment { moment, at, _turn: turn })
    }

    /// Gives back a moment that has not come yet. One that does not reach the store is lost.
    pub(super) fn give_back(&self, SharedMoment { moment, at, .. }: SharedMoment) {
        let Some(at) = at else { return self.share.give_back(moment) };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, name) = (Arc::clone(&self.shared), self.free.clone());
        runtime.spawn(async move {
            let lasts = LONGEST_TURN.as_millis().to_string();
            let (keys, arguments) = ([name], [at.as_bytes(), lasts.as_bytes()]);
            let script = Script { text: GIVE_BACK, keys: &keys, arguments: &arguments };
            let _ = shared.run(Use::Registries, script).await;
        });
    }

    async fn ask(&self) -> Result<Taken, StoreUnavailable> {
        let Self { shared, rate, names, .. } = self;
        let interval = SECOND / f64::from(rate.per_second.get());
        let ahead = interval * f64::from(rate.burst.get() - 1);
        let (interval, ahead) = (format!("{interval:.3}"), format!("{ahead:.3}"));
        let longest = LONGEST_TURN.as_micros().to_string();
        let arguments = [&interval, &ahead, &longest].map(String::as_bytes);
        let script = Script { text: TAKE, keys: names, arguments: &arguments };
        let answer = shared.run(Use::Registries, script).await?;
        Taken::parse(answer).ok_or_else(|| shared.nonsense(Use::Registries))
    }
}

impl Taken {
    /// `None`: no answer to [`TAKE`].
    fn parse(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let (Value::BulkString(word), Value::Int(wait @ 0..)) = (parts.next()?, parts.next()?)
        else {
            return None;
        };
        let wait = Duration::from_micros(wait.unsigned_abs());
        let answer = match (&*word, parts.next()) {
            (b"turn", Some(Value::BulkString(at))) if wait <= LONGEST_TURN => {
                let at = String::from_utf8(at).ok()?;
                at.parse::<u64>().ok()?;
                Self::Turn { wait, at }
            }
            // The moment after the last one that can be taken.
            (b"later", None) if wait <= LONGEST_TURN + Duration::from_secs(1) => Self::Later(wait),
            _ => return None,
        };
        parts.next().is_none().then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_are_parsed_strictly() {
        let parse = |parts: &[Value]| Taken::parse(Value::Array(parts.to_vec()));
        let turn = [text("turn"), Value::Int(60_000_000), text("1790000000000000")];
        let wait = Duration::from_mins(1);
        assert_eq!(parse(&turn), Some(Taken::Turn { wait, at: "1790000000000000".to_owned() }));
        let later = [text("later"), Value::Int(60_100_000)];
        assert_eq!(parse(&later), Some(Taken::Later(Duration::from_millis(60_100))));
        for wrong in [
            &[][..],
            &turn[..1],
            &turn[..2],
            &[text("turn"), Value::Int(60_000_001), text("1")],
            &[text("turn"), Value::Int(-1), text("1")],
            &[text("turn"), Value::Int(1), text("soon")],
            &[text("turn"), Value::Int(1), Value::Int(1)],
            &[text("turn"), Value::Int(1), text("1"), Value::Nil],
            &[text("later"), Value::Int(61_000_001)],
            &[text("later"), Value::Int(i64::MAX)],
            &[text("later"), Value::Int(1), text("1")],
            &[text("now"), Value::Int(1), text("1")],
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        for wrong in [Value::Nil, Value::Okay, text("turn"), Value::Int(0)] {
            assert_eq!(Taken::parse(wrong), None);
        }
    }
}
