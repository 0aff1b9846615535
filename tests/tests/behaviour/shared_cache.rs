//! One mint for several brokers that share a Redis, and nothing but a mint of their own while the
//! store fails or lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rise_broker_tests::redis::{GateMode, Redis};
use rise_broker_tests::registry::RegistryTable;
use rise_broker_tests::replicas::Replicas;
use rise_broker_tests::{Answer, Installation, Response, TestBroker, eventually, logs};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::task::JoinSet;

const MINT: &str = "GetAuthorizationToken";
const QUERY: &str = "project=my-app";

fn by_subject(table: RegistryTable) -> RegistryTable {
    table.shared("subject")
}

async fn ask(broker: &TestBroker) -> Response {
    broker.credentials(&broker.token_for("my-app"), QUERY).await
}

fn password(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["credentials"]["password"].as_str().unwrap().to_owned()
}

/// The source in the `issue.completed` of this answer, and the request of the mint.
fn source(broker: &TestBroker, answer: &Response) -> (String, String) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = answer.json()["request_id"].clone();
    let is_it = |record: &Value| record["event"] == "issue.completed" && record["request_id"] == id;
    let record = broker.audit().into_iter().find(is_it).unwrap();
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    (text("source"), text("minted_by"))
}

/// The names of this kind in the store.
fn names(redis: &Redis, kind: &str) -> Vec<String> {
    let found = redis.ask(&["KEYS", &format!("{{rise}}:{kind}:*")]);
    found.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The only name of this kind.
fn name(redis: &Redis, kind: &str) -> String {
    let names = names(redis, kind);
    assert_eq!(names.len(), 1, "{names:?}");
    names.into_iter().next().unwrap()
}

/// A stored value in hex, for [`write`].
fn read(redis: &Redis, name: &str) -> String {
    let script = "local value = redis.call('GET', KEYS[1])
        return (value:gsub('.', function(byte) return string.format('%02x', byte:byte()) end))";
    redis.ask(&["EVAL", script, "1", name])
}

fn write(redis: &Redis, name: &str, hex: &str) {
    let script = "local value = ARGV[1]:gsub('..', function(byte)
          return string.char(tonumber(byte, 16))
        end)
        return redis.call('SET', KEYS[1], value, 'PX', 600000)";
    redis.ask(&["EVAL", script, "1", name, hex]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_three_brokers_is_one_mint_and_each_request_has_its_record() {
    let replicas = Replicas::with_registry(by_subject).await;
    let brokers: [_; 3] = replicas.brokers().await;
    let brokers = brokers.map(Arc::new);
    let token = brokers[0].token_for("my-app");
    replicas.aws.always(MINT, Answer::late(Duration::from_millis(1200)));
    let mut asked = JoinSet::new();
    for index in 0..3 * 256 {
        let (broker, token) = (Arc::clone(&brokers[index % 3]), token.clone());
        asked.spawn(async move { broker.credentials(&token, QUERY).await });
        if index % 12 == 11 {
            // A broker that is not optimized would be too busy to hear the store.
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
    let passwords: BTreeSet<_> = asked.join_all().await.iter().map(password).collect();
    assert_eq!((passwords.len(), replicas.aws.count(MINT)), (1, 1));
    let mut sources = BTreeMap::<String, usize>::new();
    let mut minted_by = BTreeSet::new();
    for record in brokers.iter().flat_map(|broker| broker.audit()) {
        if record["event"] == "issue.completed" {
            *sources.entry(record["source"].as_str().unwrap().to_owned()).or_default() += 1;
            minted_by.insert(record["minted_by"].to_string());
        }
    }
    assert_eq!((sources["minted"], minted_by.len()), (1, 1), "{sources:?}");
    assert_eq!(sources.values().sum::<usize>(), 3 * 256, "{sources:?}");
    let intents = brokers.iter().flat_map(|broker| broker.audit());
    assert_eq!(intents.filter(|record| record["event"] == "issue.intent").count(), 1);
}

#[tokio::test]
async fn a_kept_credential_serves_the_other_brokers_and_one_that_starts() {
    let replicas = Replicas::with_registry(by_subject).await;
    let [one, other] = replicas.brokers().await;
    let first = ask(&one).await;
    let (made, minted_by) = source(&one, &first);
    assert_eq!(made, "minted");
    let later = replicas.broker().await;
    for broker in [&other, &later] {
        let answer = ask(broker).await;
        assert_eq!(source(broker, &answer), ("cached".to_owned(), minted_by.clone()));
        let [first, answer] = [&first, &answer].map(|answer| {
            let mut answer = answer.json();
            answer.as_object_mut().unwrap().remove("request_id");
            answer["credentials"].as_object_mut().unwrap().remove("expires_in");
            answer
        });
        assert_eq!(answer, first, "all but the request and the moment is the same");
    }
    assert_eq!(replicas.aws.count(MINT), 1);
    // Another subject, project or set of actions is another mint.
    for (subject, project, more) in
        [("cd", "my-app", ""), ("ci", "other", ""), ("ci", "my-app", "&actions=pull")]
    {
        let claims = serde_json::json!({ "repository": format!("acme/{project}") });
        let now = rise_broker::domain::Clock::system().now();
        let token = later.token_of(subject, &claims, now);
        let answer = later.credentials(&token, &format!("project={project}{more}")).await;
        assert_eq!(source(&later, &answer).0, "minted", "{subject} {project} {more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_by_another_broker() {
    let replicas = Replicas::with_registry(by_subject).await;
    let [one, other] = replicas.brokers().await.map(Arc::new);
    let leader = Installation::new(replicas.settings());
    fs::copy(replicas.issuer_key(), leader.path("issuer.pem")).unwrap();
    let serving = leader.serve();
    replicas.aws.next(MINT, [Answer::late(Duration::from_mins(1))]);
    let url = format!("{}/api/v1/registry/credentials?{QUERY}", serving.url);
    let token = one.token_for("my-app");
    let asks = tokio::spawn(reqwest::Client::new().get(url).bearer_auth(&token).send());
    replicas.aws.wait_for(MINT, 1).await;
    let mut waiting = JoinSet::new();
    for broker in [&one, &other] {
        let (broker, token) = (Arc::clone(broker), token.clone());
        waiting.spawn(async move { broker.credentials(&token, QUERY).await });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(replicas.aws.count(MINT), 1, "both wait");
    kill_process(serving.id(), Signal::KILL).unwrap();
    let killed = Instant::now();
    assert!(asks.await.unwrap().is_err());
    let passwords: BTreeSet<_> = waiting.join_all().await.iter().map(password).collect();
    assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());
    assert_eq!((passwords.len(), replicas.aws.count(MINT)), (1, 2));
}

#[tokio::test]
async fn a_credential_is_renewed_once_for_all_brokers() {
    let replicas = Replicas::with_registry(by_subject).await;
    replicas.forward(0);
    let brokers: [_; 3] = replicas.brokers().await;
    let mut first = BTreeSet::new();
    for broker in &brokers {
        first.insert(password(&ask(broker).await));
    }
    assert_eq!((first.len(), replicas.aws.count(MINT)), (1, 1));
    replicas.forward(2000);
    for broker in &brokers {
        assert!(first.contains(&password(&ask(broker).await)), "it is good meanwhile");
    }
    for broker in &brokers {
        eventually("each broker has the new one", async || {
            !first.contains(&password(&ask(broker).await))
        })
        .await;
    }
    assert_eq!(replicas.aws.count(MINT), 2);
}

#[tokio::test]
async fn a_failure_is_remembered_for_all_brokers() {
    let replicas = Replicas::with_registry(by_subject).await;
    let brokers: [_; 3] = replicas.brokers().await;
    replicas.aws.always(MINT, Answer::access_denied());
    for broker in &brokers {
        let answer = ask(broker).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    }
    assert_eq!(replicas.aws.count(MINT), 1);
}

#[tokio::test]
async fn requests_that_share_nothing_leave_nothing_in_the_store() {
    let replicas = Replicas::with_registry(|table| table.shared("off")).await;
    let brokers: [_; 2] = replicas.brokers().await;
    for broker in &brokers {
        assert_eq!(source(broker, &ask(broker).await).0, "minted");
        assert_eq!(source(broker, &ask(broker).await).0, "minted");
    }
    for kind in ["credential", "failure", "mint"] {
        assert_eq!(names(&replicas.redis, kind), Vec::<String>::new());
    }
}

/// Each way in which the store fails: every broker mints for itself, at once.
#[tokio::test]
async fn while_the_store_fails_each_broker_mints_for_itself() {
    let replicas = Replicas::with_registry(by_subject).await;
    let brokers: [_; 2] = replicas.brokers().await;
    let pass = GateMode::Pass(replicas.redis.port());
    let lie = |bytes: &[u8]| GateMode::Lie(bytes.to_vec());
    let mut project = 0;
    for mode in [
        GateMode::Refuse,
        GateMode::Silent,
        GateMode::Slow(replicas.redis.port(), Duration::from_millis(400)),
        lie(b"+OK\r\n"),
        lie(b"*1\r\n$4\r\nlead\r\n"),
        lie(b"*1\r\n$4\r\nwait\r\n"),
        lie(b"*3\r\n$4\r\nkept\r\n:0\r\n$3\r\nabc\r\n"),
        lie(b"*3\r\n$4\r\nkept\r\n:-1\r\n$0\r\n\r\n"),
        lie(b"*4\r\n$6\r\nfailed\r\n:9\r\n$1\r\nx\r\n:-2\r\n"),
        lie(b"-OOM command not allowed\r\n"),
        lie(b"-READONLY replica\r\n"),
        lie(&vec![b'$'; 1 << 20]),
    ] {
        replicas.gate.set(mode.clone());
        project += 1;
        for broker in &brokers {
            let name = format!("app-{project}");
            let started = Instant::now();
            let token = broker.token_for(&name);
            let answer = broker.credentials(&token, &format!("project={name}")).await;
            assert_eq!(source(broker, &answer).0, "minted", "{mode:?}");
            assert!(started.elapsed() < Duration::from_secs(3), "{mode:?} {:?}", started.elapsed());
            // And serves it from its own cache.
            let again = broker.credentials(&token, &format!("project={name}")).await;
            assert_eq!(source(broker, &again).0, "cached", "{mode:?}");
        }
        replicas.gate.set(pass.clone());
        for broker in &brokers {
            eventually("the store is back", async || broker.has_store().await).await;
        }
    }
    assert!(logs::text().contains("the shared store of [shared] fails"));
    let metrics = brokers[0].admin("/metrics").await.text;
    assert!(metrics.contains("purpose=\"credentials\""), "{metrics}");
}

/// The same for what the store itself does.
#[tokio::test]
async fn a_store_that_cannot_write_costs_mints() {
    let replicas = Replicas::with_registry(by_subject).await;
    let brokers: [_; 2] = replicas.brokers().await;
    let elsewhere = Redis::start().await;
    let elsewhere = elsewhere.port().to_string();
    let redis = &replicas.redis;
    let mint = async |failure: &str| {
        for broker in &brokers {
            let token = broker.token_for(failure);
            let answer = broker.credentials(&token, &format!("project={failure}")).await;
            assert_eq!(source(broker, &answer).0, "minted", "{failure}");
        }
    };
    let recovers = async || {
        for broker in &brokers {
            eventually("the store is back", async || broker.has_store().await).await;
        }
    };
    redis.pause();
    mint("stopped").await;
    redis.resume();
    recovers().await;
    redis.ask(&["REPLICAOF", "127.0.0.1", &elsewhere]);
    mint("replica").await;
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    recovers().await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    mint("full").await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    recovers().await;
}

/// The store forgets who mints: nothing is published, and everybody is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_who_mints_costs_one_more_mint() {
    let replicas = Replicas::with_registry(by_subject).await;
    let [one, other] = replicas.brokers().await.map(Arc::new);
    replicas.aws.always(MINT, Answer::late(Duration::from_millis(700)));
    let asks = |broker: &Arc<TestBroker>| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move { ask(&broker).await })
    };
    let first = asks(&one);
    replicas.aws.wait_for(MINT, 1).await;
    replicas.redis.ask(&["FLUSHALL"]);
    let second = asks(&other);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_ne!(password(&first), password(&second));
    assert_eq!(replicas.aws.count(MINT), 2);
    // The second has published, the first has kept its own.
    assert_eq!(password(&ask(&one).await), password(&first));
    let later = replicas.broker().await;
    assert_eq!(password(&ask(&later).await), password(&second));
}

/// A broker that was away for longer than its lock lasts publishes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_lock_publishes_nothing() {
    let replicas = Replicas::with_registry(by_subject).await;
    let broker = Arc::new(replicas.broker().await);
    replicas.aws.next(MINT, [Answer::late(Duration::from_millis(500))]);
    let asks = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { ask(&broker).await })
    };
    replicas.aws.wait_for(MINT, 1).await;
    let lock = name(&replicas.redis, "mint");
    replicas.redis.ask(&["SET", &lock, "another owner", "PX", "60000"]);
    password(&asks.await.unwrap());
    assert_eq!(names(&replicas.redis, "credential"), Vec::<String>::new());
    assert_eq!(replicas.redis.ask(&["GET", &lock]), "another owner");
}

/// Whatever is written over what a broker has stored, another one mints its own.
#[tokio::test]
async fn a_value_that_was_edited_moved_or_replayed_is_as_good_as_none() {
    let replicas = Replicas::with_registry(by_subject).await;
    replicas.forward(0);
    let writer = replicas.broker().await;
    let redis = &replicas.redis;
    let old = password(&ask(&writer).await);
    let place = name(redis, "credential");
    let value = read(redis, &place);
    let token = writer.token_for("other");
    assert_eq!(writer.credentials(&token, "project=other").await.status, 200);
    let other = names(redis, "credential").into_iter().find(|name| *name != place).unwrap();
    let mut edited = value.clone();
    let middle = edited.len() / 2;
    edited.replace_range(middle..=middle, if &value[middle..=middle] == "0" { "1" } else { "0" });
    for (kind, hex) in [
        ("edited", edited),
        ("moved", read(redis, &other)),
        ("cut", value[..value.len() - 2].to_owned()),
        ("short", "01".to_owned()),
        ("empty", String::new()),
        ("long", "00".repeat(60_000)),
    ] {
        let reader = replicas.broker().await;
        write(redis, &place, &hex);
        assert_eq!(source(&reader, &ask(&reader).await).0, "minted", "{kind}");
        // What it has published is good again.
        let next = replicas.broker().await;
        assert_eq!(source(&next, &ask(&next).await).0, "cached", "{kind}");
    }
    let counted = "rise_broker_shared_failures_total{purpose=\"credentials\",reason=\"nonsense\"}";
    let reader = replicas.broker().await;
    write(redis, &place, "0102");
    password(&ask(&reader).await);
    assert!(reader.admin("/metrics").await.text.contains(counted));
    // A value of before opens, and is judged by its times.
    write(redis, &place, &value);
    let soon = replicas.broker().await;
    assert_eq!(password(&ask(&soon).await), old);
    replicas.forward(3000);
    write(redis, &place, &value);
    let late = replicas.broker().await;
    assert_ne!(password(&ask(&late).await), old, "its last quarter has begun");
}

#[tokio::test]
async fn other_keys_and_other_settings_share_nothing() {
    let replicas = Replicas::with_registry(by_subject).await;
    let one = replicas.broker().await;
    let first = password(&ask(&one).await);
    replicas.key("new.key", 8);
    // Another epoch.
    let role = "rise-backend-ecr-push";
    let text = replicas.settings().replace(role, "another-role");
    let another = replicas.broker_of(&text).await;
    assert_ne!(password(&ask(&another).await), first);
    // While keys are rotated, brokers find what the others have.
    let both = replicas.broker_with(&replicas.table(&["new.key", "shared.key"], "")).await;
    assert_eq!(password(&ask(&both).await), first);
    let token = both.token_for("other");
    let by_new = password(&both.credentials(&token, "project=other").await);
    let old = replicas.broker_with(&replicas.table(&["shared.key", "new.key"], "")).await;
    assert_eq!(password(&old.credentials(&token, "project=other").await), by_new);
    // A broker without the key of the others does not use the store.
    replicas.key("foreign.key", 9);
    let foreign = replicas.broker_with(&replicas.table(&["foreign.key"], "")).await;
    assert_ne!(password(&ask(&foreign).await), first);
}

/// Neither the wire nor what the store keeps tells what was issued, and for whom.
#[tokio::test]
async fn the_store_learns_no_credential_and_no_project() {
    let replicas = Replicas::with_registry(by_subject).await;
    let [one, other] = replicas.brokers().await;
    let answer = ask(&one).await;
    assert_eq!(password(&answer), password(&ask(&other).await));
    replicas.aws.always(MINT, Answer::access_denied());
    let token = one.token_for("failing-canary");
    assert_eq!(one.credentials(&token, "project=failing-canary").await.status, 502);
    let (wire, dump) = (replicas.gate.seen(), replicas.redis.dump());
    for kind in ["credential", "failure"] {
        assert!(contains(&wire, kind) && contains(&dump, kind), "{kind} is stored");
    }
    let answer = answer.json();
    let mut canaries = replicas.aws.secrets();
    canaries.extend(token.split('.').map(str::to_owned));
    canaries.extend(["my-app", "failing-canary", "acme", "rise-backend"].map(str::to_owned));
    canaries.extend(
        ["username", "password"]
            .map(|name| answer["credentials"][name].as_str().unwrap_or_default().to_owned()),
    );
    canaries.push(answer["request_id"].as_str().unwrap().to_owned());
    for canary in canaries.iter().filter(|canary| canary.len() > 3 || *canary == "AWS") {
        assert!(!contains(&wire, canary), "{canary} on the wire");
        assert!(!contains(&dump, canary), "{canary} in the store");
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
