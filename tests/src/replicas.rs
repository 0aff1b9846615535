//! Several brokers in process that share one store, one AWS and one issuer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use serde_json::json;
use tempfile::TempDir;

use crate::redis::{GateMode, REDIS_PASSWORD, Redis, RedisGate};
use crate::registry::{self, RegistryTable};
use crate::{AUTH, Answer, Response, Settings, Stub, TestBroker};

/// What brokers that share a store have in common.
pub struct Replicas {
    pub redis: Redis,
    pub gate: RedisGate,
    pub aws: Stub,
    /// Seconds that the brokers' clock is ahead.
    ahead: Arc<AtomicI64>,
    folder: TempDir,
    text: String,
}

impl Replicas {
    /// Starts the store and the AWS. `text` is what the settings state beside issuers, rules and
    /// the registry `prod`, whose credentials are shared as `share` says.
    pub async fn prepare(text: &str, share: &str) -> Self {
        Self::on(Redis::start().await, text, share).await
    }

    /// The same on this store.
    pub async fn on(redis: Redis, text: &str, share: &str) -> Self {
        let auth =
            AUTH.replace("name = \"local\"\nkey", "name = \"local\"\nreplay = \"single_use\"\nkey");
        Self::of(redis, &format!("{text}\n{auth}"), |table| table.shared(share)).await
    }

    /// The same with tokens that are good more than once, and with a registry `prod` that `change`
    /// returns for a table of ECR.
    pub async fn with_registry(change: impl Fn(RegistryTable) -> RegistryTable) -> Self {
        Self::with("", change).await
    }

    /// The same with `text` in the settings.
    pub async fn with(text: &str, change: impl Fn(RegistryTable) -> RegistryTable) -> Self {
        Self::of(Redis::start().await, &format!("{text}\n{AUTH}"), change).await
    }

    async fn of(redis: Redis, text: &str, table: impl Fn(RegistryTable) -> RegistryTable) -> Self {
        let gate = RedisGate::start(GateMode::Pass(redis.port())).await;
        let aws = Stub::start().await;
        let text = format!("{text}\n{}", table(registry::ecr(aws.endpoint())));
        let ahead = Arc::new(AtomicI64::new(0));
        let folder = tempfile::tempdir().unwrap();
        let replicas = Self { redis, gate, aws, ahead, folder, text };
        replicas.key("shared.key", 7);
        replicas
    }

    /// Moves the clock of every broker, and of what the AWS says from now on.
    pub fn forward(&self, seconds: i64) {
        let ahead = self.ahead.fetch_add(seconds, Ordering::SeqCst) + seconds;
        let expires = Answer::Expires(SignedDuration::from_secs(ahead + 3600));
        self.aws.always("GetAuthorizationToken", expires);
    }

    /// The settings of one more broker.
    pub fn settings(&self) -> String {
        format!("{}{}", self.table(&["shared.key"], "replicas = 3"), self.text)
    }

    /// The key of the issuer that all brokers have. There is one once a broker has started.
    pub fn issuer_key(&self) -> PathBuf {
        self.folder.path().join("issuer.pem")
    }

    /// Writes a key file of `[shared]` with 32 bytes of this value.
    pub fn key(&self, name: &str, byte: u8) -> PathBuf {
        let path = self.folder.path().join(name);
        secret_file(&path, &hex(byte));
        path
    }

    /// `[shared]` with these key files, and `more` in it.
    pub fn table(&self, keys: &[&str], more: &str) -> String {
        let keys: Vec<_> =
            keys.iter().map(|name| self.folder.path().join(name).display().to_string()).collect();
        format!(
            "[shared]\nurl = \"redis://127.0.0.1:{}\"\npassword = \"{REDIS_PASSWORD}\"\n\
             key_files = {keys:?}\n{more}\n",
            self.gate.port()
        )
    }

    /// Starts one more broker.
    pub async fn broker(&self) -> TestBroker {
        self.broker_with(&self.table(&["shared.key"], "replicas = 3")).await
    }

    /// Starts one more broker with this `[shared]`.
    pub async fn broker_with(&self, shared: &str) -> TestBroker {
        self.broker_of(&format!("{shared}{}", self.text)).await
    }

    /// Starts one more broker with these settings.
    pub async fn broker_of(&self, text: &str) -> TestBroker {
        let settings = Settings::new(text);
        let key = self.issuer_key();
        if key.exists() {
            fs::copy(&key, settings.path("issuer.pem")).unwrap();
        }
        let text = settings.path("issuer.pem");
        let (system, ahead) = (Clock::system(), Arc::clone(&self.ahead));
        let clock = Clock::from_fn(move || {
            system.now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst))
        });
        let broker = TestBroker::with_settings(settings).clock(clock).start().await;
        if !key.exists() {
            fs::copy(text, key).unwrap();
            // The memory of used tokens has begun.
            next_second().await;
        }
        broker
    }

    pub async fn brokers<const N: usize>(&self) -> [TestBroker; N] {
        let mut brokers = Vec::new();
        for _ in 0..N {
            brokers.push(self.broker().await);
        }
        brokers.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
    }
}

/// A token for `my-app` that was issued now.
pub fn fresh_token(broker: &TestBroker) -> String {
    broker.token_of("ci", &json!({ "repository": "acme/my-app" }), Clock::system().now())
}

/// Waits until the next second begins. Memories of used tokens reject tokens of the second in which
/// they began.
pub async fn next_second() {
    let millisecond = Clock::system().now().as_millisecond().rem_euclid(1000);
    tokio::time::sleep(Duration::from_millis(1001 - u64::try_from(millisecond).unwrap())).await;
}

/// Asks for `my-app`: the status, and the problem if there is one.
pub async fn ask(broker: &TestBroker, token: &str) -> (u16, String) {
    let answer: Response = broker.credentials(token, "project=my-app").await;
    (answer.status.as_u16(), answer.problem().unwrap_or_default())
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn secret_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    only_mine(path);
}

pub(crate) fn only_mine(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
