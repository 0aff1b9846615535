//! Single-use tokens on several brokers that share one Redis: good once, and never good while
//! nobody can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::redis::{GateMode, REDIS_PASSWORD, Redis};
use rise_broker_tests::replicas::{Replicas, ask, fresh_token, next_second};
use rise_broker_tests::{TestBroker, eventually, logs};
use serde_json::json;

/// The key of the store with the facts about its memory.
const ABOUT: &str = "{rise}:about";

fn replayed() -> (u16, String) {
    (401, "token-replayed".to_owned())
}

fn unknown() -> (u16, String) {
    (503, "replay-store-unavailable".to_owned())
}

fn served() -> (u16, String) {
    (200, String::new())
}

/// Waits until the broker serves fresh tokens again.
async fn recovers(broker: &TestBroker, failure: &str) {
    eventually(failure, async || ask(broker, &fresh_token(broker)).await == served()).await;
}

/// Whether the broker has counted failures of this kind.
async fn counts(broker: &TestBroker, reason: &str) -> bool {
    broker.admin("/metrics").await.text.contains(&format!("reason=\"{reason}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_on_three_brokers() {
    let replicas = Replicas::prepare("", "off").await;
    let brokers: [_; 3] = replicas.brokers().await;
    let mut good = 0;
    for round in 0..5 {
        let token = fresh_token(&brokers[0]);
        let crowd = (0..50).map(|index| ask(&brokers[index % 3], &token));
        let mut answers = BTreeMap::<_, usize>::new();
        for answer in futures(crowd).await {
            *answers.entry(answer).or_default() += 1;
        }
        // On a busy machine the store may answer too late, which costs the token and is no replay.
        let times = |of: &(u16, String)| answers.get(of).copied().unwrap_or(0);
        let late = times(&(503, "replay-store-unavailable".to_owned()));
        let right = times(&served()) + times(&replayed()) + late == 50;
        let once = times(&served()) == 1 || times(&served()) == 0 && late > 0;
        assert!(right && once, "round {round}: {answers:?}");
        good += times(&served());
    }
    assert!(good > 0, "no token was good");
}

#[tokio::test]
async fn a_broker_that_starts_knows_what_was_used_before_and_rejects_nothing_else() {
    let replicas = Replicas::prepare("", "off").await;
    let first = replicas.broker().await;
    let [used, fresh] = [fresh_token(&first), fresh_token(&first)];
    assert_eq!(ask(&first, &used).await, served());
    drop(first);
    next_second().await;
    let second = replicas.broker().await;
    assert_eq!(ask(&second, &used).await, replayed());
    assert_eq!(ask(&second, &fresh).await, served(), "issued before this broker started");
}

#[tokio::test]
async fn a_failed_request_does_not_use_up_the_token() {
    let replicas = Replicas::prepare("", "off").await;
    let [one, other] = replicas.brokers().await;
    let token = fresh_token(&one);
    replicas.aws.next("GetAuthorizationToken", [rise_broker_tests::Answer::access_denied()]);
    assert_eq!(ask(&one, &token).await.0, 502);
    assert_eq!(ask(&other, &token).await, served());
    assert_eq!(ask(&one, &token).await, replayed());
}

/// Each way in which the store fails, and that nobody gets a credential for a token of which
/// nobody can tell whether it was used. Then it works again, without a restart.
#[tokio::test]
async fn a_store_that_fails_costs_requests_and_no_token_is_good_twice() {
    let replicas = Replicas::prepare("", "off").await;
    let [one, other] = replicas.brokers().await;
    let port = replicas.redis.port();
    let pass = GateMode::Pass(port);
    let lie = |bytes: &[u8]| GateMode::Lie(bytes.to_vec());
    for (failure, mode, reason) in [
        ("refuses connections", GateMode::Refuse, "away"),
        ("does not answer", GateMode::Silent, "slow"),
        ("answers late", GateMode::Slow(port, Duration::from_millis(400)), "slow"),
        ("is no Redis", lie(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "nonsense"),
        ("says OK to everything", lie(b"+OK\r\n+OK\r\n"), "nonsense"),
        ("answers without an end", lie(&vec![b'$'; 1 << 20]), "nonsense"),
        ("says that an answer is huge", lie(&b"$2000000000\r\n".repeat(10)), "slow"),
        ("is not ready", lie(&b"-LOADING Redis is loading\r\n".repeat(10)), "refusing"),
    ] {
        let used = fresh_token(&one);
        assert_eq!(ask(&one, &used).await, served(), "{failure}: before");
        replicas.gate.set(mode);
        for broker in [&one, &other] {
            let fresh = fresh_token(broker);
            assert_eq!(ask(broker, &fresh).await, unknown(), "{failure}");
            let again = ask(broker, &used).await;
            assert!([replayed(), unknown()].contains(&again), "{failure}: {again:?}");
        }
        eventually(failure, async || counts(&one, reason).await).await;
        replicas.gate.set(pass.clone());
        recovers(&one, failure).await;
        recovers(&other, failure).await;
        assert_eq!(ask(&other, &used).await, replayed(), "{failure}: after");
    }
    assert!(logs::text().contains("the shared store of [shared] fails"));
    assert!(!logs::text().contains(REDIS_PASSWORD));
}

/// The same for what the store itself does.
#[tokio::test]
async fn a_store_that_cannot_write_costs_requests() {
    let replicas = Replicas::prepare("", "off").await;
    let [one, other] = replicas.brokers().await;
    let elsewhere = Redis::start().await;
    let elsewhere = elsewhere.port().to_string();
    let redis = &replicas.redis;
    let rejects = async |failure: &str| {
        for broker in [&one, &other] {
            let token = fresh_token(broker);
            assert_eq!(ask(broker, &token).await, unknown(), "{failure}");
        }
    };
    redis.pause();
    rejects("stopped").await;
    redis.resume();
    recovers(&one, "stopped").await;
    recovers(&other, "stopped").await;
    redis.ask(&["REPLICAOF", "127.0.0.1", &elsewhere]);
    rejects("a replica").await;
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    recovers(&one, "a replica").await;
    recovers(&other, "a replica").await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    rejects("full").await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    recovers(&one, "full").await;
    recovers(&other, "full").await;
    for reason in ["slow", "read-only", "full"] {
        assert!(counts(&one, reason).await, "{reason}");
    }
}

#[tokio::test]
async fn a_store_that_forgets_keys_is_not_relied_on() {
    let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(&arguments).await;
    let replicas = Replicas::on(redis, "", "off").await;
    let broker = replicas.broker().await;
    assert_eq!(ask(&broker, &fresh_token(&broker)).await, unknown());
    assert!(counts(&broker, "forgetful").await);
    // The broker notices by itself, and does so again.
    let policy = |policy| replicas.redis.ask(&["CONFIG", "SET", "maxmemory-policy", policy]);
    policy("noeviction");
    recovers(&broker, "the store keeps its keys").await;
    policy("volatile-ttl");
    eventually("the broker has noticed", async || {
        ask(&broker, &fresh_token(&broker)).await == unknown()
    })
    .await;
}

/// Its memory begins when the brokers notice, and not when the next token comes.
#[tokio::test]
async fn a_store_that_was_emptied_soon_takes_fresh_tokens() {
    let replicas = Replicas::prepare("", "off").await;
    let broker = replicas.broker().await;
    replicas.redis.ask(&["FLUSHALL"]);
    eventually("a memory has begun", async || replicas.redis.ask(&["EXISTS", ABOUT]) == "1").await;
    next_second().await;
    assert_eq!(ask(&broker, &fresh_token(&broker)).await, served());
}

/// Emptied, restarted, or another store: what was used before is unknown, so that a token of
/// before is rejected.
#[tokio::test]
async fn a_store_that_lost_its_memory_accepts_no_token_of_before() {
    let replicas = Replicas::prepare("", "off").await;
    let [one, other] = replicas.brokers().await;
    let [used, fresh] = [fresh_token(&one), fresh_token(&one)];
    assert_eq!(ask(&one, &used).await, served());
    replicas.redis.ask(&["FLUSHALL"]);
    for token in [&used, &fresh] {
        assert_eq!(ask(&other, token).await, replayed(), "after FLUSHALL");
    }
    next_second().await;
    let (used, fresh) = (fresh_token(&one), fresh_token(&one));
    assert_eq!(ask(&other, &used).await, served());
    // What takes over has what the old one had, or lacks the last writes: nobody knows.
    let replica = Redis::start().await;
    replica.ask(&["REPLICAOF", "127.0.0.1", &replicas.redis.port().to_string()]);
    eventually("the replica has caught up", async || {
        replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    replicas.gate.set(GateMode::Pass(replica.port()));
    recovers(&one, "a failover").await;
    recovers(&other, "a failover").await;
    for (broker, token) in [(&one, &used), (&other, &used), (&one, &fresh), (&other, &fresh)] {
        assert_eq!(ask(broker, token).await, replayed(), "after a failover");
    }
}

/// Brokers may have served without the store meanwhile, and it does not know what they accepted.
#[tokio::test]
async fn a_store_that_no_broker_asks_for_a_minute_accepts_no_token_of_before() {
    let replicas = Replicas::prepare("", "off").await;
    let broker = replicas.broker().await;
    let fresh = fresh_token(&broker);
    let ends_in = |milliseconds: &str| replicas.redis.ask(&["PEXPIRE", ABOUT, milliseconds]);
    let lasts = || replicas.redis.ask(&["PTTL", ABOUT]).parse::<i64>().unwrap();
    ends_in("20000");
    eventually("a broker has asked", async || (50_000..=60_000).contains(&lasts())).await;
    replicas.gate.set(GateMode::Refuse);
    eventually("the broker has noticed", async || {
        ask(&broker, &fresh_token(&broker)).await == unknown()
    })
    .await;
    ends_in("1");
    eventually("the minute is over", async || lasts() == -2).await;
    replicas.gate.set(GateMode::Pass(replicas.redis.port()));
    recovers(&broker, "the store is asked again").await;
    assert_eq!(ask(&broker, &fresh).await, replayed());
    assert!((1..=60_000).contains(&lasts()));
}

/// Five minutes after it has begun a memory, tokens are good on every broker.
#[tokio::test]
async fn a_broker_whose_clock_is_ahead_keeps_no_token_from_the_others() {
    let replicas = Replicas::prepare("", "off").await;
    replicas.forward(7200);
    let ahead = replicas.broker().await;
    let token = |broker: &TestBroker, seconds| {
        let issued = Clock::system().now() + SignedDuration::from_secs(seconds);
        broker.token_of("ci", &json!({ "repository": "acme/my-app" }), issued)
    };
    for store in ["new", "emptied"] {
        assert_eq!(ask(&ahead, &token(&ahead, 7200)).await, served(), "{store}");
        replicas.forward(302 - 7200);
        let other = replicas.broker().await;
        assert_eq!(ask(&other, &token(&other, 302)).await, served(), "{store}");
        replicas.forward(7200 - 302);
        replicas.redis.ask(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn keys_are_rotated_while_tokens_stay_used() {
    let replicas = Replicas::prepare("", "off").await;
    replicas.key("new.key", 8);
    replicas.key("foreign.key", 9);
    let [old, both, new] = [
        replicas.table(&["shared.key"], ""),
        replicas.table(&["shared.key", "new.key"], ""),
        replicas.table(&["new.key", "shared.key"], ""),
    ];
    let first = replicas.broker_with(&old).await;
    let used_by_old = fresh_token(&first);
    assert_eq!(ask(&first, &used_by_old).await, served());
    let second = replicas.broker_with(&both).await;
    let third = replicas.broker_with(&new).await;
    let used_by_new = fresh_token(&third);
    assert_eq!(ask(&third, &used_by_new).await, served());
    for broker in [&second, &third] {
        assert_eq!(ask(broker, &used_by_old).await, replayed());
        assert_eq!(ask(broker, &used_by_new).await, replayed());
    }
    // A broker that lacks the key of the others would not know what they used.
    let foreign = replicas.broker_with(&replicas.table(&["foreign.key"], "")).await;
    assert_eq!(ask(&foreign, &fresh_token(&foreign)).await, unknown());
    assert!(logs::text().contains("a key that is not among `key_files`"));
}

#[tokio::test]
async fn the_store_is_reached_over_tls_by_its_authority_alone() {
    let redis = Redis::start_with_tls().await;
    let (port, authority) = (redis.port(), redis.authority().to_owned());
    let replicas = Replicas::on(redis, "", "off").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, authority).unwrap();
    let plain = replicas.table(&["shared.key"], "");
    let at = |url: &str, more: &str| {
        let from = format!("redis://127.0.0.1:{}", replicas.gate.port());
        format!("{}{more}\n", plain.replace(&from, url))
    };
    let url = format!("rediss://127.0.0.1:{port}");
    let right = at(&url, &format!("ca_file = \"{}\"", path.display()));
    let broker = replicas.broker_with(&right).await;
    assert_eq!(ask(&broker, &fresh_token(&broker)).await, served());
    let strange = replicas.broker_with(&at(&url, "")).await;
    assert_eq!(ask(&strange, &fresh_token(&strange)).await, unknown());
}

/// Neither the wire nor what the store keeps tells what was asked for.
#[tokio::test]
async fn the_store_learns_no_token_and_no_project() {
    let replicas = Replicas::prepare("", "off").await;
    let broker = replicas.broker().await;
    let token = fresh_token(&broker);
    assert_eq!(ask(&broker, &token).await, served());
    let (wire, dump) = (replicas.gate.seen(), replicas.redis.dump());
    assert!(contains(&wire, "rise"), "something was written");
    assert!(contains(&dump, "about"), "something is kept");
    let mut canaries = replicas.aws.secrets();
    canaries.extend(token.split('.').map(str::to_owned));
    canaries.extend(["my-app", "acme"].map(str::to_owned));
    for canary in canaries.iter().filter(|canary| canary.len() > 3) {
        assert!(!contains(&wire, canary), "{canary} on the wire");
        assert!(!contains(&dump, canary), "{canary} in the store");
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Waits for all of them at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_ready = true;
        for (future, result) in &mut waiting {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, result)| result).collect()
}
