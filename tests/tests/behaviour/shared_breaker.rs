//! A registry that is down or asks for a pause, with several brokers that share a Redis: what one
//! of them finds out holds for all, and nothing but its own breaker while the store fails or lies.

use std::fs;
use std::time::Duration;

use rise_broker_tests::redis::GateMode;
use rise_broker_tests::registry::imaginary;
use rise_broker_tests::replicas::Replicas;
use rise_broker_tests::{
    AUTH, Answer, Imaginary, Installation, Response, Settings, TestBroker, eventually,
};
use rustix::process::{Signal, kill_process};

/// The first call of each mint.
const CALL: &str = "AssumeRole";
/// In the script that a broker asks before a mint.
const SCRIPT: &str = "if told < 0 then return { 'unknown' } end";
/// What opens a breaker.
const FAILURES: usize = 5;

/// Each request is a mint of its own.
async fn replicas() -> Replicas {
    Replicas::with_registry(|table| table).await
}

async fn ask(broker: &TestBroker) -> Response {
    broker.credentials(&broker.token_for("my-app"), "project=my-app").await
}

async fn is_served(broker: &TestBroker) -> bool {
    let answer = ask(broker).await;
    if answer.status != 200 {
        assert_eq!(answer.problem().as_deref(), Some("upstream-unavailable"), "{}", answer.text);
    }
    answer.status == 200
}

fn retry_after(answer: &Response) -> u32 {
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// Calls the registry at one broker until that leaves it alone.
async fn goes_down(replicas: &Replicas, broker: &TestBroker) {
    replicas.aws.always(CALL, Answer::error(500, "InternalFailure"));
    for _ in 0..FAILURES {
        assert!(!is_served(broker).await);
    }
    assert!(is_left_alone(broker).await);
}

async fn is_left_alone(broker: &TestBroker) -> bool {
    broker.admin("/readyz").await.json()["left_alone"]["prod"]["seconds"].is_u64()
}

/// The pause is over, for the store and for the brokers.
fn after_the_pause(replicas: &Replicas, seconds: i64) {
    let name = name(replicas);
    replicas.redis.ask(&["HSET", &name, "until", "0"]);
    replicas.forward(seconds);
}

/// The name of what the store knows of the registry.
fn name(replicas: &Replicas) -> String {
    let names = replicas.redis.ask(&["KEYS", "{rise}:registry:*"]);
    assert_eq!(names.lines().count(), 1, "{names}");
    assert!(!names.contains("prod"), "{names}");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_tried_by_one_broker_at_a_time() {
    let replicas = replicas().await;
    let [one, two, three] = replicas.brokers().await;
    assert!(is_served(&two).await);
    goes_down(&replicas, &one).await;
    let calls = replicas.aws.count(CALL);
    for broker in [&two, &three] {
        let answer = ask(broker).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-unavailable"), "{}", answer.text);
        assert!((1..=9).contains(&retry_after(&answer)), "{}", answer.text);
        assert!(is_left_alone(broker).await);
    }
    assert_eq!(replicas.aws.count(CALL), calls, "they have heard of it");

    after_the_pause(&replicas, 6);
    assert!(!is_served(&two).await, "it is still down");
    let calls = replicas.aws.count(CALL);
    for broker in [&one, &two, &three] {
        assert!(!is_served(broker).await);
    }
    assert_eq!(replicas.aws.count(CALL), calls, "that one call said so to all");
    assert_eq!(replicas.redis.ask(&["HGET", &name(&replicas), "opened"]), "2");

    after_the_pause(&replicas, 11);
    replicas.aws.always(CALL, Answer::late(Duration::from_millis(1300)));
    let probe = tokio::spawn(async move { (is_served(&three).await, three) });
    replicas.aws.wait_for(CALL, calls + 1).await;
    for broker in [&one, &two, &one, &two] {
        assert!(!is_served(broker).await, "another broker tries it");
    }
    assert_eq!(replicas.aws.count(CALL), calls + 1);
    let (is_up, three) = probe.await.unwrap();
    assert!(is_up);
    replicas.aws.always(CALL, Answer::Usual);
    for broker in [&one, &two, &three] {
        assert!(is_served(broker).await, "it answers again");
        assert!(!is_left_alone(broker).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_the_registry_asks_for_is_for_all() {
    let (replicas, server) = (replicas().await, Imaginary::start().await);
    let table = imaginary(&server.url()).with("repo_prefix", "rise/");
    let shared = replicas.table(&["shared.key"], "replicas = 3");
    let mut brokers = Vec::new();
    for _ in 0..3 {
        let settings = Settings::new(format!("{shared}{AUTH}\n{table}"));
        brokers.push(TestBroker::with_settings(settings).guests(&["imaginary"]).start().await);
    }
    server.answer(429, Some("30"), "");
    for broker in &brokers {
        let answer = ask(broker).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-unavailable"), "{}", answer.text);
        assert!((25..=46).contains(&retry_after(&answer)), "{answer:?}");
        assert!(is_left_alone(broker).await);
    }
    assert_eq!(server.heard().len(), 1, "the others did not ask");
    server.answer(403, None, "");
    replicas.redis.ask(&["HSET", &name(&replicas), "until", "0"]);
    for (index, broker) in brokers[1..].iter().enumerate() {
        assert_eq!(ask(broker).await.problem().as_deref(), Some("upstream-denied"));
        assert_eq!(server.heard().len(), index + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_while_it_tries_is_followed_by_another_one() {
    let replicas = replicas().await;
    let broker = replicas.broker().await;
    goes_down(&replicas, &broker).await;
    let program = Installation::new(replicas.settings());
    fs::copy(replicas.issuer_key(), program.path("issuer.pem")).unwrap();
    let serving = program.serve();
    let calls = replicas.aws.count(CALL);
    replicas.aws.always(CALL, Answer::late(Duration::from_mins(1)));
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let token = broker.token_for("my-app");
    replicas.redis.ask(&["HSET", &name(&replicas), "until", "0"]);
    let asks = tokio::spawn(reqwest::Client::new().get(url).bearer_auth(token).send());
    replicas.aws.wait_for(CALL, calls + 1).await;
    kill_process(serving.id(), Signal::KILL).unwrap();
    assert!(asks.await.unwrap().is_err());
    replicas.aws.always(CALL, Answer::Usual);
    replicas.forward(6);
    assert!(!is_served(&broker).await, "nobody knows that it was killed");
    eventually("the other broker may try", async || is_served(&broker).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_fails_each_broker_goes_by_its_own_breaker() {
    for mode in [GateMode::Refuse, GateMode::Silent, GateMode::Lie(b"+OK\r\n".to_vec())] {
        let replicas = replicas().await;
        let brokers: [_; 2] = replicas.brokers().await;
        let failure = format!("{mode:?}");
        replicas.gate.set(mode);
        for broker in &brokers {
            let calls = replicas.aws.count(CALL);
            goes_down(&replicas, broker).await;
            let after = replicas.aws.count(CALL);
            assert!(after >= calls + FAILURES, "{failure}");
            assert!(!is_served(broker).await);
            assert_eq!(replicas.aws.count(CALL), after, "{failure}");
        }
        replicas.aws.always(CALL, Answer::Usual);
        replicas.forward(6);
        for broker in &brokers {
            assert!(is_served(broker).await, "{failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_opens_nothing_and_closes_nothing() {
    let replicas = replicas().await;
    let [one, other] = replicas.brokers().await;
    goes_down(&replicas, &one).await;
    replicas.redis.ask(&["FLUSHALL"]);
    let calls = replicas.aws.count(CALL);
    assert!(!is_served(&one).await);
    assert_eq!(replicas.aws.count(CALL), calls, "it remembers");
    replicas.aws.always(CALL, Answer::Usual);
    assert!(is_served(&other).await, "it has heard nothing");
    replicas.forward(6);
    assert!(is_served(&one).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lies_keeps_no_registry_closed_for_long() {
    let replicas = replicas().await;
    let broker = replicas.broker().await;
    let port = replicas.redis.port();
    // No answer that a store gives.
    for nonsense in ["do return {'wait', 300001, 1} end", "do return {'probe', 0} end"] {
        replicas.gate.set(GateMode::Edit(port, SCRIPT, nonsense));
        eventually("the broker is connected", async || {
            broker.admin("/metrics").await.text.contains("rise_broker_shared_up 1")
        })
        .await;
        assert!(is_served(&broker).await, "{nonsense}");
    }
    replicas.gate.set(GateMode::Edit(port, SCRIPT, "do return {'wait', 300000, 1} end"));
    eventually("the lie arrives", async || !is_served(&broker).await).await;
    replicas.forward(290);
    assert!(!is_served(&broker).await, "it may be true");
    replicas.forward(11);
    for _ in 0..3 {
        assert!(is_served(&broker).await, "the broker finds out");
    }
    // And it still has a breaker.
    goes_down(&replicas, &broker).await;
    let calls = replicas.aws.count(CALL);
    assert!(!is_served(&broker).await);
    assert_eq!(replicas.aws.count(CALL), calls);
}
