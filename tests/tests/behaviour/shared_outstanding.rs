//! Credentials that one broker has minted and another one ends: for their callers, for operators,
//! and when the broker that has minted them is gone with its log.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::redis::{GateMode, REDIS_PASSWORD, Redis, RedisGate};
use rise_broker_tests::registry::RegistryTable;
use rise_broker_tests::{
    AUTH, Client, HARBOR, Installation, Minting, MintingMood, Response, Settings, TestBroker,
    eventually, logs, repository,
};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const OPERATOR: &str = r#"
[[operators]]
name = "sre"
issuer = "local"
claims = { role = "sre" }
allow = ["revoke"]
"#;
pub(crate) const REVOCATIONS: &str = "/api/v1/registry/revocations";
/// An id of the right form that no request has.
const NOBODYS: &str = "01M7XW52RJVA23PFBZSRPG9G5D";

/// Brokers with one store, one registry, one issuer and one clock.
pub(crate) struct Group {
    pub(crate) redis: Redis,
    pub(crate) gate: RedisGate,
    pub(crate) server: Minting,
    ahead: Arc<AtomicI64>,
    folder: TempDir,
}

impl Group {
    pub(crate) async fn prepare() -> Self {
        let redis = Redis::start().await;
        let gate = RedisGate::start(GateMode::Pass(redis.port())).await;
        let folder = tempfile::tempdir().unwrap();
        for (name, byte) in [("old.key", "07"), ("new.key", "08")] {
            fs::write(folder.path().join(name), byte.repeat(32)).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(folder.path().join(name), private).unwrap();
        }
        let server = Minting::start(&HARBOR).await;
        Self { redis, gate, server, ahead: Arc::default(), folder }
    }

    pub(crate) fn settings(&self, keys: &[&str], table: &RegistryTable) -> String {
        let keys: Vec<_> =
            keys.iter().map(|name| self.folder.path().join(name).display().to_string()).collect();
        let port = self.gate.port();
        format!(
            "[shared]\nurl = \"redis://127.0.0.1:{port}\"\npassword = \"{REDIS_PASSWORD}\"\n\
             key_files = {keys:?}\nreplicas = 3\n{AUTH}{table}{OPERATOR}"
        )
    }

    pub(crate) async fn broker_with(&self, keys: &[&str], table: &RegistryTable) -> TestBroker {
        let settings = Settings::new(self.settings(keys, table));
        let (key, own) = (self.folder.path().join("issuer.pem"), settings.path("issuer.pem"));
        if key.exists() {
            fs::copy(&key, &own).unwrap();
        }
        let (system, ahead) = (Clock::system(), Arc::clone(&self.ahead));
        let clock = Clock::from_fn(move || {
            system.now() + SignedDuration::from_secs(ahead.load(Ordering::Relaxed))
        });
        let broker =
            TestBroker::with_settings(settings).providers(&["harbor"]).clock(clock).start().await;
        fs::copy(own, key).unwrap();
        broker
    }

    /// A broker that has another registry.
    async fn stranger(&self) -> TestBroker {
        let text = self.settings(&["old.key"], &self.server.table());
        let settings = Settings::new(
            text.replace("\"prod\"", "\"staging\"")
                .replace("registries.prod", "registries.staging"),
        );
        fs::copy(self.folder.path().join("issuer.pem"), settings.path("issuer.pem")).unwrap();
        TestBroker::with_settings(settings).providers(&["harbor"]).start().await
    }

    pub(crate) async fn brokers(&self, share: &str) -> [TestBroker; 3] {
        let table = self.server.table().shared(share);
        let mut brokers = Vec::new();
        for _ in 0..3 {
            brokers.push(self.broker_with(&["old.key"], &table).await);
        }
        brokers.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
    }

    pub(crate) fn forward(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// As if every broker had been gone for a while.
    pub(crate) fn nobody_lives(&self) {
        for name in self.redis.ask(&["KEYS", "{rise}:broker:*"]).lines() {
            self.redis.ask(&["DEL", name]);
        }
    }

    pub(crate) fn deletions(&self) -> usize {
        self.server.requests().iter().filter(|sent| sent.starts_with("DELETE")).count()
    }

    pub(crate) async fn until_ended(&self, broker: &TestBroker, left: usize) {
        eventually("the credential has ended", async || {
            broker.end_due();
            self.server.alive().len() == left
        })
        .await;
    }
}

pub(crate) fn token(broker: &TestBroker, sub: &str) -> String {
    let now = broker.process.foundation.clock.now();
    broker.token_of(sub, &json!({ "repository": "acme/my-app" }), now)
}

pub(crate) fn operator(broker: &TestBroker) -> String {
    broker.token_of("alice", &json!({ "role": "sre" }), broker.process.foundation.clock.now())
}

pub(crate) async fn issue(broker: &TestBroker, sub: &str, query: &str) -> Value {
    let answer = broker.credentials(&token(broker, sub), &format!("project=my-app{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

pub(crate) fn id(answer: &Value) -> &str {
    answer["request_id"].as_str().unwrap()
}

pub(crate) async fn give_back(broker: &TestBroker, sub: &str, id: &str) -> Response {
    broker.delete(&format!("/api/v1/registry/credentials/{id}"), &token(broker, sub)).await
}

/// The status of the answer, with the state of the credential or the problem.
pub(crate) fn state(answer: &Response) -> (u16, String) {
    let state = answer.json()["state"].as_str().map(str::to_owned);
    (answer.status.as_u16(), state.or_else(|| answer.problem()).unwrap_or_default())
}

pub(crate) fn stated(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

pub(crate) fn events(broker: &TestBroker, minted_by: &str) -> Vec<String> {
    let records = broker.audit();
    let of = records.iter().filter(|record| record["minted_by"] == minted_by);
    of.map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn out(broker: &TestBroker) -> usize {
    broker.process.issuing.outstanding().credentials
}

#[tokio::test]
async fn what_one_broker_minted_is_given_back_to_another() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("off").await;
    let answer = issue(&one, "ci", "").await;
    let ended = give_back(&other, "ci", id(&answer)).await;
    assert_eq!(state(&ended), stated(200, "ended"), "{}", ended.text);
    assert!(group.server.alive().is_empty());
    let expected = ["revoke.returned", "revoke.intent", "revoke.completed"];
    eventually("the end is recorded", async || events(&other, id(&answer)) == expected).await;
    assert_eq!(events(&one, id(&answer)), ["issue.completed"]);
    // The minter learns of it, and nobody ends it again.
    one.follow_others().await;
    assert_eq!((out(&one), out(&other)), (0, 0));
    for broker in [&one, &other, &third] {
        assert_eq!(state(&give_back(broker, "ci", id(&answer)).await), stated(200, "ended"));
    }
    assert_eq!(group.deletions(), 1);
    assert!(one.admin("/metrics").await.text.contains("shared_outstanding_credentials 0"));
}

#[tokio::test]
async fn nobody_gives_back_what_somebody_else_has() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let answer = issue(&one, "ci", "").await;
    let refused = give_back(&other, "someone-else", id(&answer)).await;
    assert_eq!(state(&refused), stated(404, "credential-not-found"));
    let denied = other.audit().into_iter().find(|record| record["event"] == "authz.denied");
    assert_eq!(denied.unwrap()["subject"]["sub"], "someone-else");
    let nobodys = give_back(&other, "ci", NOBODYS).await;
    assert_eq!(state(&nobodys), stated(404, "credential-not-found"));
    assert_eq!(group.server.opens(&answer, HARBOR.repository).await, 200);
    assert_eq!((group.deletions(), out(&one), out(&other)), (0, 1, 0));
}

/// The last one ends it, wherever each of them comes to.
#[tokio::test]
async fn a_shared_credential_ends_with_the_last_who_has_it() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("project").await;
    let (first, second) = (issue(&one, "ci", "").await, issue(&one, "cd", "").await);
    assert_eq!(first["credentials"]["username"], second["credentials"]["username"]);
    assert_eq!(state(&give_back(&other, "ci", id(&second)).await).0, 404);
    // Repeated, and at another broker.
    for broker in [&other, &third, &one] {
        let given = give_back(broker, "ci", id(&first)).await;
        assert_eq!(state(&given), stated(200, "shared"), "{}", given.text);
    }
    assert_eq!(group.server.opens(&first, HARBOR.repository).await, 200);
    let given = give_back(&third, "cd", id(&second)).await;
    assert_eq!(state(&given), stated(200, "ended"), "{}", given.text);
    assert!(group.server.alive().is_empty());
    // The minter still has a copy, which it hands out to nobody.
    let next = issue(&one, "ci", "").await;
    assert_ne!(next["credentials"]["username"], first["credentials"]["username"]);
    assert_eq!(group.server.opens(&next, HARBOR.repository).await, 200);
}

#[tokio::test]
async fn an_operator_ends_at_one_broker_what_another_minted() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("project").await;
    for (selects, sub) in [
        (json!({ "project": "my-app" }), "ci"),
        (json!({ "subject": "local:ci" }), "ci"),
        // It was minted for another one, and this subject got it, too.
        (json!({ "subject": "local:cd" }), "cd"),
        (json!({ "provider": "harbor", "registry": "prod" }), "ci"),
        (json!({ "request_id": null }), "ci"),
    ] {
        let minted = issue(&one, "ci", "").await;
        let mut body = selects.clone();
        if sub == "cd" {
            issue(&one, "cd", "").await;
        }
        if body.get("request_id").is_some() {
            body["request_id"] = minted["request_id"].clone();
        }
        let mut dry = body.clone();
        dry["dry_run"] = json!(true);
        let sre = operator(&other);
        for broker in [&one, &other, &third] {
            let listed = broker.post(REVOCATIONS, &sre, &dry).await;
            assert_eq!(listed.json()["matched"], 1, "{selects}: {}", listed.text);
            let listed = &listed.json()["credentials"][0];
            assert_eq!(listed["minted_by"], minted["request_id"]);
            assert_eq!((&listed["sub"], &listed["ending"]), (&json!("ci"), &json!(false)));
        }
        let nobody = json!({ "subject": "local:nobody", "dry_run": true });
        assert_eq!(other.post(REVOCATIONS, &sre, &nobody).await.json()["matched"], 0);
        let ended = other.post(REVOCATIONS, &sre, &body).await;
        let facts = (ended.status.as_u16(), ended.json()["matched"].clone());
        assert_eq!(facts, (202, json!(1)), "{selects}: {}", ended.text);
        group.until_ended(&other, 0).await;
        let expected = ["revoke.intent", "revoke.completed"];
        eventually("it is recorded", async || events(&other, id(&minted)) == expected).await;
        one.follow_others().await;
        assert_eq!(out(&one), 0, "{selects}");
    }
    // By the path of a caller, too, and what is gone without a call.
    let [first, second] = [issue(&one, "ci", "").await, issue(&one, "ci", "&actions=pull").await];
    let path = format!("/api/v1/registry/credentials/{}", id(&first));
    let ended = third.delete(&path, &operator(&third)).await;
    assert_eq!(state(&ended), stated(200, "ended"), "{}", ended.text);
    let gone = json!({ "request_id": second["request_id"], "gone": true });
    let gone = third.post(REVOCATIONS, &operator(&third), &gone).await;
    assert_eq!((gone.status.as_u16(), gone.json()["matched"].clone()), (200, json!(1)));
    one.follow_others().await;
    assert_eq!((group.server.alive().len(), out(&one)), (1, 0));
}

/// The broker that minted it is gone, and so is its log.
#[tokio::test]
async fn one_of_the_others_ends_what_a_lost_broker_minted() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("off").await;
    let answer = issue(&one, "ci", "&lifetime=600").await;
    drop(one);
    group.nobody_lives();
    let both = async || {
        tokio::join!(other.follow_others(), third.follow_others());
    };
    both().await;
    assert_eq!((out(&other), out(&third)), (0, 0), "its time has not come");
    group.forward(605);
    both().await;
    assert_eq!(out(&other) + out(&third), 1, "one of them");
    group.until_ended(&other, 0).await;
    both().await;
    eventually("nothing is left", async || out(&other) + out(&third) == 0).await;
    let events = [events(&other, id(&answer)), events(&third, id(&answer))].concat();
    assert_eq!(events, ["revoke.intent", "revoke.completed"]);
    assert_eq!(group.deletions(), 1);
    assert!(logs::text().contains("ends credentials that another broker has minted"));
}

/// While it lives, a broker ends its own, and a caller who asks another one is served by that.
#[tokio::test]
async fn a_broker_that_lives_ends_its_own() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("off").await;
    issue(&one, "ci", "&lifetime=600").await;
    group.forward(605);
    other.follow_others().await;
    third.follow_others().await;
    assert_eq!((out(&other), out(&third)), (0, 0));
    // Its registry is away, and it gives up for a while: others try.
    group.server.mood(Some(MintingMood::Away));
    let patience = 4 * rise_broker_tests::PATIENCE;
    let tries = rise_broker_tests::within(patience, async || {
        group.forward(31);
        one.end_due();
        other.follow_others().await;
        out(&other) == 1
    });
    assert!(tries.await, "no other broker tries");
    group.server.mood(None);
    eventually("it has ended once", async || {
        group.forward(31);
        one.end_due();
        other.end_due();
        one.follow_others().await;
        group.server.alive().is_empty() && out(&one) + out(&other) == 0
    })
    .await;
}

/// A broker with other settings leaves it to others, for a while.
#[tokio::test]
async fn a_broker_without_the_registry_leaves_it_to_others() {
    let group = Group::prepare().await;
    let [one, _, third] = group.brokers("off").await;
    let stranger = group.stranger().await;
    let answer = issue(&one, "ci", "&lifetime=600").await;
    let ending = give_back(&stranger, "ci", id(&answer)).await;
    assert_eq!(state(&ending), stated(202, "ending"), "{}", ending.text);
    assert_eq!(group.server.alive().len(), 1);
    // The minter learns of it.
    one.follow_others().await;
    group.until_ended(&one, 0).await;
    issue(&one, "ci", "&lifetime=600").await;
    drop(one);
    group.nobody_lives();
    group.forward(1000);
    stranger.follow_others().await;
    assert_eq!(out(&stranger), 0);
    third.follow_others().await;
    group.until_ended(&third, 0).await;
}

/// It lets the others do what an operator wants, and says so.
#[tokio::test]
async fn an_operator_ends_at_a_broker_without_the_registry() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let stranger = group.stranger().await;
    let sre = operator(&stranger);
    let minted = issue(&one, "ci", "&lifetime=600").await;
    let ended = stranger.post(REVOCATIONS, &sre, &json!({ "project": "my-app" })).await;
    let facts = (ended.status.as_u16(), ended.json()["matched"].clone());
    assert_eq!(facts, (202, json!(1)), "{}", ended.text);
    assert_eq!(ended.json()["credentials"][0]["ending"], true);
    let is_request = |record: &Value| record["event"] == "revoke.requested";
    let requested = stranger.audit().into_iter().find(is_request).unwrap();
    assert_eq!(requested["revocation"]["credentials"], 1, "{requested}");
    one.follow_others().await;
    group.until_ended(&one, 0).await;
    assert_eq!(events(&one, id(&minted)).last().unwrap(), "revoke.completed");
    // By the path of a caller, and what others have ended is not asked for again.
    let minted = issue(&one, "ci", "&lifetime=600").await;
    let path = format!("/api/v1/registry/credentials/{}", id(&minted));
    assert_eq!(state(&stranger.delete(&path, &sre).await), stated(202, "ending"));
    other.follow_others().await;
    assert_eq!(out(&other), 0, "the minter lives");
    one.follow_others().await;
    group.until_ended(&one, 0).await;
    eventually("its list is empty", async || out(&one) == 0).await;
    let again = stranger.post(REVOCATIONS, &sre, &json!({ "project": "my-app" })).await;
    assert_eq!(again.json()["matched"], 0, "{}", again.text);
}

/// Each way in which the store fails: another broker says so, and the minter ends its own.
#[tokio::test]
async fn a_store_that_fails_costs_no_end() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let pass = GateMode::Pass(group.redis.port());
    for (failure, mode) in [
        ("refuses connections", GateMode::Refuse),
        ("does not answer", GateMode::Silent),
        ("says OK to everything", GateMode::Lie(b"+OK\r\n+OK\r\n".to_vec())),
        ("is full", GateMode::Lie(b"-OOM command not allowed\r\n".repeat(10))),
    ] {
        let kept = issue(&one, "ci", "&lifetime=600").await;
        group.gate.set(mode);
        let unlisted = issue(&one, "ci", "&lifetime=600&actions=pull").await;
        for answer in [&kept, &unlisted] {
            let refused = give_back(&other, "ci", id(answer)).await;
            assert_eq!(state(&refused), stated(503, "shared-store-unavailable"), "{failure}");
            assert!(refused.header("retry-after").is_some());
        }
        let all = json!({ "project": "my-app" });
        let refused = other.post(REVOCATIONS, &operator(&other), &all).await;
        assert_eq!(state(&refused), stated(503, "shared-store-unavailable"), "{failure}");
        // What is its own, and nobody else's.
        let given = give_back(&one, "ci", id(&unlisted)).await;
        assert_eq!(state(&given), stated(200, "ended"), "{failure}: {}", given.text);
        group.forward(605);
        group.until_ended(&one, 0).await;
        eventually("its list is empty", async || out(&one) == 0).await;
        group.gate.set(pass.clone());
        let next = issue(&one, "ci", "").await;
        eventually("the others know of it again", async || {
            one.follow_others().await;
            give_back(&other, "ci", id(&next)).await.status == 200
        })
        .await;
        assert!(group.server.alive().is_empty(), "{failure}");
        one.follow_others().await;
    }
    let metrics = other.admin("/metrics").await.text;
    assert!(metrics.contains("purpose=\"outstanding\",reason=\"away\""), "{metrics}");
}

#[tokio::test]
async fn a_store_that_forgot_everything_is_told_again() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let answer = issue(&one, "ci", "").await;
    group.redis.ask(&["FLUSHALL"]);
    assert_eq!(state(&give_back(&other, "ci", id(&answer)).await).0, 404);
    // Once to see that it is missing, and once to tell.
    one.follow_others().await;
    one.follow_others().await;
    assert_eq!(state(&give_back(&other, "ci", id(&answer)).await), stated(200, "ended"));
    one.follow_others().await;
    assert_eq!(out(&one), 0);
}

/// Also while keys are rotated.
#[tokio::test]
async fn brokers_with_another_first_key_find_it() {
    let group = Group::prepare().await;
    let table = group.server.table();
    let old = group.broker_with(&["old.key", "new.key"], &table).await;
    let new = group.broker_with(&["new.key", "old.key"], &table).await;
    for (one, other) in [(&old, &new), (&new, &old)] {
        let answer = issue(one, "ci", "").await;
        assert_eq!(state(&give_back(other, "cd", id(&answer)).await).0, 404);
        assert_eq!(state(&give_back(other, "ci", id(&answer)).await), stated(200, "ended"));
        one.follow_others().await;
        assert_eq!(out(one), 0);
    }
}

/// What the log of the process before has, and what others have ended meanwhile.
#[tokio::test]
async fn a_restart_ends_nothing_again() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("off").await;
    let (first, second) =
        (issue(&one, "ci", "&lifetime=600").await, issue(&one, "ci", "&lifetime=600").await);
    assert_eq!(state(&give_back(&other, "ci", id(&first)).await), stated(200, "ended"));
    third.recover(one.settings.path("audit")).await;
    drop(one);
    assert_eq!(out(&third), 2);
    third.follow_others().await;
    assert_eq!(out(&third), 1);
    group.nobody_lives();
    group.forward(605);
    third.follow_others().await;
    group.until_ended(&third, 0).await;
    assert_eq!(events(&third, id(&second)), ["revoke.intent", "revoke.completed"]);
    assert_eq!(group.deletions(), 2);
}

/// The store and the network to it see no name, and no note.
#[tokio::test]
async fn the_store_learns_no_project_no_subject_and_no_note() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("subject").await;
    let sub = "canary-subject-0815";
    let (first, second) = (issue(&one, sub, "").await, issue(&one, sub, "").await);
    let dump = group.redis.dump();
    assert_eq!(state(&give_back(&other, sub, id(&first)).await).1, "shared");
    let wire = group.gate.seen();
    let mut canaries = group.server.secrets();
    canaries.extend(["my-app", "acme", sub, id(&first), id(&second)].map(str::to_owned));
    canaries.push(first["credentials"]["username"].as_str().unwrap().to_owned());
    canaries.push(group.server.url());
    let contains = |bytes: &[u8], text: &str| {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(contains(&dump, "outstanding"), "something is kept");
    for canary in canaries {
        assert!(!contains(&dump, &canary), "{canary} in the store");
        assert!(!contains(&wire, &canary), "{canary} on the wire");
    }
}

/// A value that was edited or moved is none.
#[tokio::test]
async fn a_store_that_lies_ends_nothing_else() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let (mine, theirs) = (issue(&one, "ci", "").await, issue(&one, "cd", "").await);
    let names = group.redis.ask(&["ZRANGE", "{rise}:outstanding", "0", "-1"]);
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names.len(), 2);
    // Each has the other's body.
    let swap =
        "local a, b = redis.call('HGET', KEYS[1], 'body'), redis.call('HGET', KEYS[2], 'body')
        redis.call('HSET', KEYS[1], 'body', b) redis.call('HSET', KEYS[2], 'body', a)";
    group.redis.ask(&["EVAL", swap, "2", names[0], names[1]]);
    for (sub, answer) in [("ci", &mine), ("cd", &theirs)] {
        let refused = give_back(&other, sub, id(answer)).await;
        assert_eq!(state(&refused), stated(503, "shared-store-unavailable"));
    }
    assert_eq!((group.server.alive().len(), out(&other)), (2, 0));
}

/// A real process, killed, and its folder deleted.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_broker_minted_ends_at_its_time() {
    let group = Group::prepare().await;
    let table = group.server.table();
    let other = group.broker_with(&["old.key"], &table).await;
    let mut installation = Installation::new(group.settings(&["old.key"], &table));
    fs::copy(group.folder.path().join("issuer.pem"), installation.path("issuer.pem")).unwrap();
    installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
    installation.unlimited();
    let mut serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app&lifetime=600", serving.url);
    let answer = Client::new().get_as(&url, &installation.token_for("my-app")).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(group.redis.ask(&["ZCARD", "{rise}:outstanding"]), "1");
    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    drop(installation);
    group.forward(605);
    let taken_over = rise_broker_tests::within(Duration::from_mins(1), async || {
        other.follow_others().await;
        other.end_due();
        group.server.alive().is_empty()
    });
    assert!(taken_over.await, "{}", logs::text());
}
