//! One rate for each key, counted by this broker alone or by all brokers together.
//!
//! Together, one script of the shared store counts as `governor` does, by the store's clock. While
//! the store does not answer, this broker lets its share of the rate through, less what it has let
//! through before.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::{KeyedLimit, Rate, Refused};
use crate::domain::{ClientNetwork, Clock, Project};
use crate::shared::{Script, Shared, StoreUnavailable, Use};

/// Keys: when the key's bucket will have recovered, in microseconds. Arguments: the time of one
/// request, the tolerance, and 1 to count. Returns how long to wait, or 0. A bucket that is fuller
/// than full says that the clock was set back.
const COUNT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local one, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = now + tolerance + one
local function keep(at)
  redis.call('SET', KEYS[1], string.format('%.3f', at), 'PX', math.ceil((at - now) / 1000))
end
local recovers = tonumber(redis.call('GET', KEYS[1]) or now) or now
if recovers > full then
  recovers = full
  keep(full)
end
if now < recovers - tolerance then return math.ceil(recovers - tolerance - now) end
if ARGV[3] == '1' then keep(math.max(recovers, now) + one) end
return 0";

const SECOND: f64 = 1e6;

/// A key of a limit, for a store that brokers share.
pub(super) trait LimitKey: Hash + Eq + Clone {
    fn parts(&self) -> Vec<Vec<u8>>;
}

impl LimitKey for Project {
    fn parts(&self) -> Vec<Vec<u8>> {
        vec![self.as_str().as_bytes().to_vec()]
    }
}

impl LimitKey for (String, String) {
    fn parts(&self) -> Vec<Vec<u8>> {
        vec![self.0.as_bytes().to_vec(), self.1.as_bytes().to_vec()]
    }
}

impl LimitKey for ClientNetwork {
    fn parts(&self) -> Vec<Vec<u8>> {
        vec![self.to_string().into_bytes()]
    }
}

pub(super) struct Counted<K: LimitKey> {
    name: &'static str,
    /// What this broker has let through.
    here: KeyedLimit<K>,
    together: Option<Together<K>>,
}

struct Together<K: LimitKey> {
    shared: Arc<Shared>,
    rate: Rate,
    /// What this broker has let through of its share: what it may let through without a store.
    share: KeyedLimit<K>,
}

impl<K: LimitKey> Counted<K> {
    pub(super) fn new(
        name: &'static str,
        (rate, keys): (Rate, usize),
        shared: Option<&Arc<Shared>>,
        clock: &Clock,
    ) -> Self {
        let together = shared.map(|shared| Together {
            shared: Arc::clone(shared),
            rate,
            share: KeyedLimit::share(name, (rate, shared.replicas), keys, clock),
        });
        Self { name, here: KeyedLimit::new(name, rate, keys, clock), together }
    }

    /// Counts one for `key`, unless it is over the limit.
    pub(super) async fn count(&self, key: &K) -> Result<(), Refused> {
        let Some(together) = &self.together else { return self.here.count(key) };
        // No broker lets more through than one alone would, whatever the store says. And a key
        // that is over the limit here costs the store nothing.
        self.here.check(key)?;
        match together.ask(self.name, key, true).await {
            Ok(answer) => {
                answer?;
                // A store that is late now and then gives nobody a second share. More than the
                // share is what another broker did not need.
                let _ = together.share.count(key);
            }
            Err(StoreUnavailable(_)) => together.share.count(key)?,
        }
        self.here.count(key)
    }

    /// Whether [`Self::count`] would succeed. Counts nothing.
    pub(super) async fn check(&self, key: &K) -> Result<(), Refused> {
        let Some(together) = &self.together else { return self.here.check(key) };
        self.here.check(key)?;
        match together.ask(self.name, key, false).await {
            Ok(answer) => answer,
            Err(StoreUnavailable(_)) => together.share.check(key),
        }
    }

    pub(super) fn sweep(&self) {
        self.here.sweep();
        if let Some(together) = &self.together {
            together.share.sweep();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.here.len()
    }
}

impl<K: LimitKey> Together<K> {
    async fn ask(
        &self,
        name: &'static str,
        key: &K,
        counts: bool,
    ) -> Result<Result<(), Refused>, StoreUnavailable> {
        let Self { shared, rate, .. } = self;
        let (per_second, burst) = (rate.per_second.to_string(), rate.burst.to_string());
        let parts = key.parts();
        // Another rate counts anew, as in memory.
        let parts: Vec<&[u8]> = [name, &per_second, &burst]
            .map(str::as_bytes)
            .into_iter()
            .chain(parts.iter().map(Vec::as_slice))
            .collect();
        let keys = [shared.name("limit", &parts)];
        let one = SECOND / f64::from(rate.per_second.get());
        let tolerance = one * f64::from(rate.burst.get() - 1);
        let (one, tolerance) = (format!("{one:.3}"), format!("{tolerance:.3}"));
        let counts: &[u8] = if counts { b"1" } else { b"0" };
        let arguments = [one.as_bytes(), tolerance.as_bytes(), counts];
        let script = Script { text: COUNT, keys: &keys, arguments: &arguments };
        let answer = shared.run(Use::Limits, script).await?;
        let Value::Int(wait @ 0..) = answer else { return Err(shared.nonsense(Use::Limits)) };
        if wait == 0 {
            return Ok(Ok(()));
        }
        // A full bucket recovers in this time: no true answer is longer.
        let longest = Duration::from_secs(rate.burst.get().into());
        let wait = Duration::from_micros(wait.unsigned_abs()).min(longest);
        Ok(Err(Refused::TooOften { limit: name, wait }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_have_different_parts() {
        let subject = |issuer: &str, sub: &str| (issuer.to_owned(), sub.to_owned()).parts();
        assert_ne!(subject("ci", "a"), subject("c", "ia"));
        let network = |address: &str| {
            crate::domain::ClientAddress::new(address.parse().unwrap()).network().parts()
        };
        assert_eq!(network("2001:db8::1"), network("2001:db8::2"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
