//! Passwords and tokens of what the broker itself calls, changed while it runs: the store of
//! `[shared]`, targets of `[audit.ship]`, and the collector of `[traces]`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rise_broker_tests::redis::{GateMode, REDIS_PASSWORD, Redis, RedisGate};
use rise_broker_tests::shipping::{ShippingBroker, has_everything, shipped_lines};
use rise_broker_tests::{Client, Collector, Postgres, Serving, eventually};
use serde_json::Value;

const NEW: &str = "canary-new-secret-4712";
/// 32 bytes in hex.
const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// What the settings name by `${file:…}`.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn write(&self, name: &str, text: &str) {
        // As the kubelet does it: nobody reads half of one.
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn reference(&self, name: &str) -> String {
        format!("'${{file:{}}}'", self.0.join(name).display())
    }

    fn settings(&self, postgres: &Postgres, gate: &RedisGate, collector: &str) -> String {
        let [_, password] = postgres.passwords();
        let shipped = postgres.settings().replace(&format!("'{password}'"), &self.reference("sql"));
        let (redis, token) = (self.reference("redis"), self.reference("token"));
        let (port, key) = (gate.port(), self.0.join("shared.key").display().to_string());
        format!(
            "[shared]\nurl = 'redis://127.0.0.1:{port}'\npassword = {redis}\nkey_files = ['{key}']\n\
             [traces]\nurl = '{collector}/v1/traces'\ntoken = {token}\n{shipped}\
             [audit.ship.https]\nurl = '{collector}/logs'\ntoken = {token}\n"
        )
    }
}

async fn store_is_up(serving: &Serving, value: u8) {
    let line = format!("rise_broker_shared_up {value}");
    eventually(&line, async || {
        let metrics = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
        metrics.lines().any(|found| found == line)
    })
    .await;
}

/// The token of the last request whose URL ends so.
fn last_token(collector: &Collector, end: &str) -> String {
    let collected = collector.collected();
    let last = collected.iter().rfind(|request| request.url.ends_with(end)).unwrap();
    last.headers["authorization"].strip_prefix("Bearer ").unwrap().to_owned()
}

/// Nobody keeps an old connection.
async fn peers_get_new_passwords(redis: &Redis, gate: &RedisGate, postgres: &Postgres) {
    redis.ask(&["CONFIG", "SET", "requirepass", NEW]);
    gate.set(GateMode::Pass(redis.port()));
    let owner = postgres.owner().await;
    owner.batch_execute(&format!("ALTER ROLE rise_ship PASSWORD '{NEW}'")).await.unwrap();
    let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE usename = 'rise_ship'";
    owner.query(statement, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_passwords_and_tokens_are_used_without_a_restart() {
    let (postgres, redis) = (Postgres::start().await, Redis::start().await);
    let gate = RedisGate::start(GateMode::Pass(redis.port())).await;
    let collector = Collector::start(None).await;
    let folder = tempfile::tempdir().unwrap();
    let files = Files(folder.path());
    let [_, password] = postgres.passwords();
    for (name, text) in
        [("sql", password), ("redis", REDIS_PASSWORD), ("token", "old"), ("shared.key", KEY)]
    {
        files.write(name, text);
    }
    let broker = ShippingBroker::new(&files.settings(&postgres, &gate, collector.url())).await;
    broker.migrate(&postgres);
    let serving = broker.installation.serve();
    broker.issue(&serving, 1).await;
    has_everything(&serving, "postgres").await;
    store_is_up(&serving, 1).await;

    peers_get_new_passwords(&redis, &gate, &postgres).await;
    broker.issue(&serving, 1).await;
    serving
        .wait_for_line("the audit log is not shipped; it stays here, and the broker tries again");
    store_is_up(&serving, 0).await;

    for name in ["sql", "redis", "token"] {
        files.write(name, NEW);
    }
    serving.wait_for_line("the audit log is shipped again");
    store_is_up(&serving, 1).await;
    broker.issue(&serving, 1).await;
    has_everything(&serving, "postgres").await;
    has_everything(&serving, "https").await;
    assert_eq!(shipped_lines(&postgres).await, broker.own_lines());
    for end in ["/logs", "/v1/traces"] {
        eventually(end, async || last_token(&collector, end) == NEW).await;
    }
    assert_eq!(serving.admin("/readyz").await["not_taken_over"], Value::Null);
    assert!(!serving.log().contains(NEW), "{}", serving.log());

    // A secret for another address is not sent to this one.
    let other = Collector::start(None).await;
    let settings = broker.installation.path("config/default.toml");
    let text = fs::read_to_string(&settings).unwrap();
    broker.installation.settings(text.replace(collector.url(), other.url()));
    files.write("token", "for-another-server");
    let is_told = |said: &Value| {
        let expected = ["audit.ship", "traces.url"].map(Value::from).to_vec();
        said["not_taken_over"]["needs_restart"] == Value::from(expected)
    };
    serving.until("/readyz", is_told).await;
    let sent = |end: &str| {
        collector.collected().iter().filter(|request| request.url.ends_with(end)).count()
    };
    let before = ["/logs", "/v1/traces"].map(|end| (end, sent(end)));
    broker.issue(&serving, 1).await;
    for (end, count) in before {
        eventually(end, async || sent(end) > count).await;
        assert_eq!(last_token(&collector, end), NEW);
    }
    assert_eq!(other.collected().len(), 0);
}
