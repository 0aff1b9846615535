//! The lock of a mint: held by one broker, renewed while it mints, and released with the result.
//!
//! **Invariant:** nothing is published by a broker that does not hold the lock any more.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinHandle;

use crate::shared::{Script, Shared, Use};

/// Keys: the lock, and where the result goes. Arguments: owner, result, its time in milliseconds.
const PUBLISH: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 'done'";

/// Keys: the lock. Arguments: owner.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[1])
return 'done'";

/// Keys: the lock. Arguments: owner, lease in milliseconds.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'done'";

/// A lock that this broker holds, until dropped.
pub(super) struct Lease {
    lock: Option<Lock>,
    keeper: JoinHandle<()>,
}

#[derive(Clone)]
pub(super) struct Lock {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
    pub(super) owner: String,
}

impl Lease {
    /// Keeps `lock`, which was taken for `time`.
    pub(super) fn hold(lock: Lock, time: Duration) -> Self {
        let kept = lock.clone();
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(time / 3).await;
                if kept.renew(time).await == Some(false) {
                    return;
                }
            }
        });
        Self { lock: Some(lock), keeper }
    }

    /// Stores `value` under `name` for `lasts`, if the lock is still held, and releases it.
    pub(super) async fn publish(mut self, name: &str, value: &[u8], lasts: Duration) {
        if let Some(lock) = self.lock.take() {
            lock.publish(name, value, lasts).await;
        }
    }

    pub(super) async fn release(mut self) {
        if let Some(lock) = self.lock.take() {
            lock.release().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Some(lock) = self.lock.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { lock.release().await });
        }
    }
}

/// A failure of the store is no problem: the lock ends by itself.
impl Lock {
    async fn publish(&self, name: &str, value: &[u8], lasts: Duration) {
        let keys = [self.name.clone(), name.to_owned()];
        let lasts = milliseconds(lasts);
        self.run(PUBLISH, &keys, &[self.owner.as_bytes(), value, lasts.as_bytes()]).await;
    }

    async fn release(&self) {
        self.run(RELEASE, std::slice::from_ref(&self.name), &[self.owner.as_bytes()]).await;
    }

    /// Whether it is still held; `None`: nobody knows.
    async fn renew(&self, time: Duration) -> Option<bool> {
        let (name, time) = (std::slice::from_ref(&self.name), milliseconds(time));
        self.run(RENEW, name, &[self.owner.as_bytes(), time.as_bytes()]).await
    }

    async fn run(&self, text: &'static str, keys: &[String], arguments: &[&[u8]]) -> Option<bool> {
        let script = Script { text, keys, arguments };
        let answer = self.shared.run(Use::Credentials, script).await.ok()?;
        let word = if let Value::BulkString(word) = &answer { word.as_slice() } else { &[] };
        match word {
            b"done" => Some(true),
            b"lost" => Some(false),
            _ => {
                self.shared.nonsense(Use::Credentials);
                None
            }
        }
    }
}

/// At least one: the store knows no shorter time.
fn milliseconds(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
