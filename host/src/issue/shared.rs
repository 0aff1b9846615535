//! One mint for several brokers, and a credential of one of them for all.
//!
//! A flight asks the store before it mints ([`SharedMints::find`]). One script says that the
//! credential is kept, that the mint failed a moment ago, that another broker is minting, or that
//! this one leads. The leader holds a lock that ends by itself ([`LEASE`]) and is renewed while the
//! mint runs: if the leader is killed, another broker leads soon. What came of the mint is
//! published by a script that compares the owner of the lock: a leader that lost its lock publishes
//! nothing.
//!
//! `form` is how a credential lies in the store, and what is checked when it comes back.
//!
//! **Invariant (I12):** while the store does not answer, every flight mints for its own broker. A
//! credential that comes from the store is within the grant, or it is not used.
//! **Invariant:** a credential that somebody can end is published once the others have it on the
//! list of what is out (`shared_outstanding`), and none takes it that is not on it, or that ends.

mod form;
mod lease;

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use ulid::Ulid;
use zeroize::Zeroizing;

use super::IssueError;
use super::failures::{LONGEST_PAUSE, pause};
use super::key::MintKey;
use super::minted::{Minted, Reuse};
use super::shared_outstanding::{HoldAnswer, SharedOutstanding};
use crate::domain::Clock;
use crate::registries::Registry;
use crate::rules::Grant;
use crate::shared::{Reason, Script, Shared, StoreUnavailable, Use};
use lease::{Lease, Lock};

/// The kinds of names. A credential, why there is none, and who makes one.
const KEPT: &str = "credential";
const FAILED: &str = "failure";
const LOCK: &str = "mint";

/// A lock that is not renewed for so long is free: its broker was killed or cannot reach the store.
/// Those who wait then still have time for a mint.
const LEASE: Duration = Duration::from_secs(5);
/// How long a waiting flight sleeps between two questions, and up to how much longer: the flights
/// of many brokers should not ask at the same moment.
const POLL: Duration = Duration::from_millis(50);
const JITTER: u128 = 50;
/// After so many late answers in a row a flight mints by itself. One may be a busy moment.
pub(super) const MOST_LATE: usize = 3;
/// A store that offers more values than these that are of no use is not asked again.
const MOST_REFUSED: usize = 8;
/// Of a value, in bytes: tells it from all others of its name.
const HEAD: usize = 21;

/// Keys: the names of the credential, of its failure and of the lock, each under each key of the
/// brokers. Arguments: how many keys, owner, lease in milliseconds, and the beginnings of values
/// that are of no use to the asker. Asked again by the same owner, it says the same.
const ASK: &str = "
local keys = tonumber(ARGV[1])
local function find(from)
  for i = from + 1, from + keys do
    local value = redis.call('GET', KEYS[i])
    local wanted = value
    for j = 4, #ARGV do wanted = wanted and value:sub(1, #ARGV[j]) ~= ARGV[j] end
    if wanted then return i, value end
  end
end
local at, value = find(0)
if value then return { 'kept', at - 1, value } end
at, value = find(keys)
if value then return { 'failed', at - keys - 1, value, redis.call('PTTL', KEYS[at]) } end
for i = 2 * keys + 1, 3 * keys do
  local owner = redis.call('GET', KEYS[i])
  if owner and owner ~= ARGV[2] then return { 'wait' } end
end
redis.call('SET', KEYS[2 * keys + 1], ARGV[2], 'PX', ARGV[3])
return { 'lead' }";

/// The mints of this broker and of those that share its store.
pub(super) struct SharedMints {
    shared: Arc<Shared>,
    out: Arc<SharedOutstanding>,
    clock: Clock,
}

/// What a flight has to do.
pub(super) enum Found {
    /// Nothing: another broker has minted the credential.
    Kept {
        minted: Minted,
        /// Whether it did so while this flight waited.
        has_waited: bool,
    },
    /// Nothing: the mint failed a moment ago, and is not tried again for this time.
    Failed(IssueError, Duration),
    /// To mint.
    Lead(Lead),
    /// To mint for this broker alone, because the store does not answer.
    Alone,
}

/// The right to mint for all brokers, until dropped.
pub(super) struct Lead {
    lease: Lease,
    names: MintNames,
}

/// What a flight asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) registry: &'a Registry,
    pub(super) grant: &'a Grant,
    /// Whether this broker has one, and wants another one.
    pub(super) renews: bool,
    /// How long the flight waits for another broker.
    pub(super) longest: Duration,
}

/// What is stored for one mint, under each key of the brokers. The first is the one to write.
#[derive(Clone)]
struct MintNames {
    kept: Vec<String>,
    failed: Vec<String>,
    lock: Vec<String>,
}

/// The questions of one flight.
struct Questions<'a> {
    mints: &'a SharedMints,
    wanted: Wanted<'a>,
    names: MintNames,
    owner: String,
    /// The beginnings of values that are of no use to it.
    refused: Vec<Vec<u8>>,
}

/// An answer to [`ASK`].
enum Answer {
    Kept(StoredValue),
    Failed(StoredValue, Duration),
    Wait,
    Lead,
}

struct StoredValue {
    /// Which of the names it has.
    at: usize,
    bytes: Vec<u8>,
}

impl SharedMints {
    pub(super) fn new((shared, out): (&Arc<Shared>, &Arc<SharedOutstanding>)) -> Self {
        let clock = shared.clock().clone();
        Self { shared: Arc::clone(shared), out: Arc::clone(out), clock }
    }

    /// Finds the credential of `key`, or the right to mint it. Waits while another broker mints it.
    pub(super) async fn find(&self, key: &MintKey, wanted: Wanted<'_>) -> Found {
        let (names, owner) = (self.names(key), Ulid::generate().to_string());
        let mut questions = Questions { mints: self, wanted, names, owner, refused: Vec::new() };
        let until = self.clock.elapsed() + wanted.longest;
        let (mut has_waited, mut late) = (false, 0);
        while questions.refused.len() <= MOST_REFUSED {
            let answer = questions.ask().await;
            late = if is_late(&answer) { late + 1 } else { 0 };
            let value = match answer {
                Ok(Answer::Kept(value)) => match questions.credential(&value).await {
                    Some(minted) => return Found::Kept { minted, has_waited },
                    None => value,
                },
                Ok(Answer::Failed(value, left)) => match questions.failure(&value) {
                    Some(error) => return Found::Failed(error, left),
                    None => value,
                },
                Ok(Answer::Wait) if self.clock.elapsed() < until => {
                    has_waited = true;
                    tokio::time::sleep(pause_between()).await;
                    continue;
                }
                Err(StoreUnavailable(Reason::Slow)) if late < MOST_LATE => continue,
                // A store that is late may have given the lock all the same.
                Ok(Answer::Lead) | Err(StoreUnavailable(Reason::Slow)) => {
                    return Found::Lead(questions.lead());
                }
                Ok(Answer::Wait) | Err(StoreUnavailable(_)) => return Found::Alone,
            };
            questions.refuse(value);
        }
        Found::Alone
    }

    /// Tells the other brokers what came of a mint.
    pub(super) async fn publish(&self, lead: Lead, result: &Result<Arc<Minted>, IssueError>) {
        let Lead { lease, names } = lead;
        let (kind, names, text, lasts) = match result {
            Ok(minted) => (KEPT, names.kept, form::of_credential(minted), minted.useful()),
            Err(error) => {
                let lasts = pause(error).unwrap_or_default();
                (FAILED, names.failed, form::of_failure(error), lasts)
            }
        };
        let sealed = names.first().zip(text).and_then(|(name, text)| {
            let value = self.shared.seal(kind, name, text)?;
            Some((name, value))
        });
        match sealed {
            Some((name, value)) => lease.publish(name, &value, lasts).await,
            None => lease.release().await,
        }
    }

    fn names(&self, key: &MintKey) -> MintNames {
        let parts = key.parts();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let names = |kind| self.shared.names(kind, &parts);
        MintNames { kept: names(KEPT), failed: names(FAILED), lock: names(LOCK) }
    }
}

impl Questions<'_> {
    async fn ask(&self) -> Result<Answer, StoreUnavailable> {
        let MintNames { kept, failed, lock } = &self.names;
        let (keys, lease) = (kept.len().to_string(), LEASE.as_millis().to_string());
        let mut arguments = vec![keys.as_bytes(), self.owner.as_bytes(), lease.as_bytes()];
        arguments.extend(self.refused.iter().map(Vec::as_slice));
        let keys = [kept.as_slice(), failed, lock].concat();
        let script = Script { text: ASK, keys: &keys, arguments: &arguments };
        let shared = &self.mints.shared;
        let answer = shared.run(Use::Credentials, script).await?;
        Answer::parse(answer).ok_or_else(|| shared.nonsense(Use::Credentials))
    }

    /// The credential in `value`, if it is good for long enough, and does not end before.
    async fn credential(&self, value: &StoredValue) -> Option<Minted> {
        let Wanted { registry, grant, renews, .. } = self.wanted;
        let text = self.open(KEPT, self.names.kept.get(value.at)?, value)?;
        let now = self.mints.clock.now();
        let minted = form::credential(&text, registry, grant, now)?;
        let is_good = match minted.reuse(grant.lifetime(), now) {
            Reuse::Fresh => true,
            Reuse::Renewing => !renews,
            Reuse::Late | Reuse::Unusable => false,
        };
        let is_out = async || {
            for _ in 0..MOST_LATE {
                match self.mints.out.could_hold(minted.by).await {
                    Err(StoreUnavailable(Reason::Slow)) => {}
                    answer => return matches!(answer, Ok(HoldAnswer::Held)),
                }
            }
            false
        };
        let is_good = is_good && (!minted.is_endable(registry) || is_out().await);
        is_good.then_some(minted)
    }

    fn failure(&self, value: &StoredValue) -> Option<IssueError> {
        form::failure(&self.open(FAILED, self.names.failed.get(value.at)?, value)?)
    }

    fn open(&self, kind: &str, name: &str, value: &StoredValue) -> Option<Zeroizing<Vec<u8>>> {
        self.mints.shared.unseal(Use::Credentials, (kind, name), &value.bytes)
    }

    fn refuse(&mut self, StoredValue { mut bytes, .. }: StoredValue) {
        bytes.truncate(HEAD);
        self.refused.push(bytes);
    }

    fn lead(self) -> Lead {
        let (shared, owner) = (Arc::clone(&self.mints.shared), self.owner);
        let name = self.names.lock.first().cloned().unwrap_or_default();
        Lead { lease: Lease::hold(Lock { shared, name, owner }, LEASE), names: self.names }
    }
}

impl Answer {
    /// `None`: no answer to [`ASK`].
    fn parse(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let Value::BulkString(word) = parts.next()? else { return None };
        let answer = match &*word {
            b"kept" => Self::Kept(StoredValue::parse(&mut parts)?),
            b"failed" => {
                let value = StoredValue::parse(&mut parts)?;
                let Value::Int(left @ 0..) = parts.next()? else { return None };
                let left = Duration::from_millis(left.unsigned_abs());
                Self::Failed(value, left.min(LONGEST_PAUSE))
            }
            b"wait" => Self::Wait,
            b"lead" => Self::Lead,
            _ => return None,
        };
        parts.next().is_none().then_some(answer)
    }
}

impl StoredValue {
    fn parse(parts: &mut impl Iterator<Item = Value>) -> Option<Self> {
        let (Value::Int(at), Value::BulkString(bytes)) = (parts.next()?, parts.next()?) else {
            return None;
        };
        Some(Self { at: usize::try_from(at).ok()?, bytes })
    }
}

fn is_late<T>(answer: &Result<T, StoreUnavailable>) -> bool {
    matches!(answer, Err(StoreUnavailable(Reason::Slow)))
}

fn pause_between() -> Duration {
    let jitter = Ulid::generate().random() % JITTER;
    POLL + Duration::from_millis(u64::try_from(jitter).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_are_parsed_strictly() {
        let parse = |parts: &[Value]| Answer::parse(Value::Array(parts.to_vec()));
        let kept = [text("kept"), Value::Int(1), text("value")];
        let failed = [text("failed"), Value::Int(0), text("value"), Value::Int(9_000_000_000)];
        assert!(matches!(
            parse(&kept),
            Some(Answer::Kept(StoredValue { at: 1, bytes })) if bytes == b"value"
        ));
        assert!(matches!(
            parse(&failed),
            Some(Answer::Failed(StoredValue { at: 0, .. }, LONGEST_PAUSE))
        ));
        assert!(matches!(parse(&[text("wait")]), Some(Answer::Wait)));
        assert!(matches!(parse(&[text("lead")]), Some(Answer::Lead)));
        for wrong in [
            &[][..],
            &[text("")],
            &[text("leads")],
            &[Value::Int(1)],
            &[text("lead"), Value::Nil],
            &kept[..2],
            &failed[..3],
            &[text("kept"), Value::Int(-1), text("value")],
            &[text("kept"), text("0"), text("value")],
            &[text("kept"), Value::Int(0), Value::Nil],
            &[text("failed"), Value::Int(0), text("value"), Value::Int(-2)],
        ] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
        for wrong in [Value::Nil, Value::Okay, text("lead"), Value::Int(0)] {
            assert!(Answer::parse(wrong).is_none());
        }
    }
}
