//! What a broker asks on a new connection and every two seconds: whether the store can be written,
//! whether it is still the same one and remembers what it was told, and whether the other brokers
//! have the same key.
//!
//! **Invariant:** the memory of used tokens ends when no broker has asked for [`UNATTENDED`].
//! Brokers may serve without the store meanwhile, and it does not learn which tokens they accept.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::Reason;
use super::failure::{CheckFailure, ConnectFailure, nonsense};
use super::keys::SharedKeys;
use crate::domain::Clock;

/// How far the clocks of broker and store may be apart before a line is logged, in milliseconds.
const CLOCKS_APART: i64 = 5_000;
/// How long the memory lasts while no broker asks, in milliseconds: longer than most restarts, and
/// shorter than a change of the settings of all brokers and back takes.
pub(crate) const UNATTENDED: &str = "60000";

/// How far a broker's clock may move the beginning of a new memory beyond the store's time, in
/// milliseconds. A broker that is far ahead must not have every token rejected until then.
pub(crate) const MOST_AHEAD: i64 = 300_000;

/// Reads what the store says of itself, and resets it if it is another store than before: one that
/// was restarted or took over may have lost what was written last. Returns `ok`, `new` if
/// its memory begins now, or `other-key`, and the time of the store. Arguments: the broker's time,
/// how far it may be ahead, how long the memory lasts (nothing: it is only looked at), the store's
/// run id, and fingerprints of keys, the first to write.
const HELLO: &str = "
local about = redis.call('HMGET', KEYS[1], 'since', 'run', 'key')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = false
for i = 5, #ARGV do known = known or about[3] == ARGV[i] end
if about[3] and not known then return { 'other-key', now } end
local since, word = about[1], 'ok'
if not since or about[2] ~= ARGV[4] then
  local latest = math.min(tonumber(ARGV[1]), now + tonumber(ARGV[2]))
  since, word = string.format('%.0f', math.max(now, latest)), 'new'
end
if ARGV[3] == '' then return { word, now } end
redis.call('HSET', KEYS[1], 'since', since, 'run', ARGV[4], 'key', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { word, now }";

/// A name in the store. The braces keep all of them on one node of a Cluster, as scripts need it.
pub(super) fn key(prefix: &str, name: &str) -> String {
    format!("{{{prefix}}}:{name}")
}

pub(super) fn about(prefix: &str) -> String {
    key(prefix, "about")
}

pub(super) struct StoreFacts {
    /// Another one after a restart or a failover.
    pub(super) run_id: Arc<str>,
    /// Whether the store forgets keys before their time when it is full.
    pub(super) evicts: bool,
    /// How far this broker's clock is ahead of the store's, in milliseconds.
    pub(super) ahead: i64,
}

/// Asks the store for what it says of itself, and checks that it can be written.
pub(super) async fn greet(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    keys: &SharedKeys,
    clock: &Clock,
    only_looks: bool,
) -> Result<StoreFacts, CheckFailure> {
    let said = text(ask(connection, &redis::cmd("INFO")).await?)?;
    let line = |name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
        said.lines().find_map(value)
    };
    let run_id = line("run_id").ok_or_else(|| nonsense("INFO names no run_id"))?;
    if only_looks && line("role").is_some_and(|role| role == "slave") {
        let text = "it is a replica: name the primary, or the Sentinels".to_owned();
        return Err(ConnectFailure { reason: Reason::ReadOnly, text }.into());
    }
    let policy = line("maxmemory_policy").unwrap_or_default();
    let is_bounded = line("maxmemory").is_none_or(|most| most != "0");
    let now = clock.now().as_millisecond();
    let mut hello = redis::cmd("EVAL");
    hello
        .arg(HELLO)
        .arg(1)
        .arg(about(prefix))
        .arg(now)
        .arg(MOST_AHEAD)
        .arg(if only_looks { "" } else { UNATTENDED })
        .arg(&run_id);
    hello.arg(keys.fingerprint());
    for fingerprint in keys.fingerprints().skip(1) {
        hello.arg(fingerprint);
    }
    let Value::Array(answer) = ask(connection, &hello).await? else {
        return Err(nonsense("the answer to a script is none").into());
    };
    let theirs = match answer.as_slice() {
        [Value::BulkString(word), Value::Int(theirs)] if word == b"ok" || word == b"new" => {
            if word == b"new" && !only_looks {
                tracing::warn!(
                    "the shared store is new, was emptied, restarted or took over, or no broker \
                     has asked it for a minute: single-use tokens that were issued before now are \
                     rejected"
                );
            }
            theirs
        }
        [Value::BulkString(word), Value::Int(_)] if word == b"other-key" => {
            return Err(other_key(prefix).into());
        }
        _ => return Err(nonsense("the answer to a script is none").into()),
    };
    let evicts = is_bounded && policy != "noeviction";
    Ok(StoreFacts { run_id: run_id.into(), evicts, ahead: now.saturating_sub(*theirs) })
}

pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
) -> Result<Value, RedisError> {
    connection.send_packed_command(command).await?.extract_error()
}

pub(super) fn text(value: Value) -> Result<String, ConnectFailure> {
    let Value::BulkString(bytes) = value else { return Err(nonsense("an answer is no text")) };
    String::from_utf8(bytes).map_err(|_| nonsense("an answer is no text"))
}

/// One line for each connection: clocks do not run apart quickly.
pub(super) fn warn_of_clocks(apart: i64) {
    if apart.abs() > CLOCKS_APART {
        tracing::warn!(
            seconds = apart / 1000,
            "the clocks of this broker and of the shared store are apart: synchronize both, \
             because tokens are judged by one and limits are counted by the other"
        );
    }
}

fn other_key(prefix: &str) -> ConnectFailure {
    let text = format!(
        "the other brokers use a key that is not among `key_files` of [shared]: give all brokers \
         the same files, or, if that key is lost, delete the key `{}` of the store",
        about(prefix)
    );
    ConnectFailure { reason: Reason::Refusing, text }
}
