//! Limits that several brokers count together on one Redis, and what each of them counts while it
//! is away.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use rise_broker::http::listen::Peer;
use rise_broker_tests::redis::GateMode;
use rise_broker_tests::replicas::{Replicas, fresh_token};
use rise_broker_tests::{TestBroker, eventually};

/// Slow enough that a burst on a busy machine lets no further request through.
const LIMITS: &str = "[limits]
address = { per_second = 1, burst = 30 }
subject = { per_second = 1, burst = 60 }
project = { per_second = 100000, burst = 100000 }
";

async fn from(broker: &TestBroker, token: &str) -> u16 {
    let request = Request::get("/api/v1/registry/credentials?project=my-app")
        .header("authorization", format!("Bearer {token}"))
        .extension(Peer("192.0.2.7".parse().unwrap()));
    broker.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
}

/// How many of these requests, on each broker in turn, are within the limit.
async fn within(brokers: &[TestBroker], requests: usize, token: impl Fn() -> String) -> usize {
    let mut within = 0;
    for index in 0..requests {
        within += usize::from(from(&brokers[index % brokers.len()], &token()).await != 429);
    }
    within
}

/// About as many as one broker would let through, and one more for each second that it took. On a
/// busy machine an answer of the store may come after 20 ms, and the broker counts alone.
fn as_one(limit: usize, since: Instant) -> std::ops::RangeInclusive<usize> {
    let recovered = usize::try_from(since.elapsed().as_secs()).unwrap() + 1;
    let late = limit / 5;
    limit - late..=limit + late + recovered
}

#[tokio::test]
async fn three_brokers_count_subjects_and_addresses_as_one() {
    let replicas = Replicas::prepare(LIMITS, "subject").await;
    let brokers: [_; 3] = replicas.brokers().await;
    let started = Instant::now();
    let served = within(&brokers, 120, || fresh_token(&brokers[0])).await;
    assert!(as_one(60, started).contains(&served), "{served}");
    let started = Instant::now();
    let failures = within(&brokers, 90, || "bad".to_owned()).await;
    assert!(as_one(30, started).contains(&failures), "{failures}");
    // Each broker knows of it, before it reads a token.
    for broker in &brokers {
        assert_eq!(from(broker, &fresh_token(&brokers[0])).await, 429);
    }
}

#[tokio::test]
async fn each_broker_counts_its_share_while_the_store_is_away() {
    let replicas = Replicas::prepare(LIMITS, "subject").await;
    let brokers: [_; 3] = replicas.brokers().await;
    let pass = GateMode::Pass(replicas.redis.port());
    for mode in [GateMode::Refuse, GateMode::Silent, GateMode::Lie(b"+OK\r\n".to_vec())] {
        let failure = format!("{mode:?}");
        let replicas = Replicas::prepare(LIMITS, "subject").await;
        let brokers: [_; 3] = replicas.brokers().await;
        replicas.gate.set(mode);
        let started = Instant::now();
        let failures = within(&brokers, 90, || "bad".to_owned()).await;
        assert!(as_one(30, started).contains(&failures), "{failure}: {failures}");
        let alone = within(&brokers[..1], 10, || "bad".to_owned()).await;
        assert!(alone <= 2, "{failure}: {alone}");
    }
    // And as one again when it is back.
    replicas.gate.set(GateMode::Refuse);
    assert_eq!(from(&brokers[0], "bad").await, 401);
    replicas.gate.set(pass);
    for broker in &brokers {
        eventually("the store is back", async || broker.has_store().await).await;
    }
    let started = Instant::now();
    let failures = within(&brokers, 90, || "bad".to_owned()).await;
    let expected = as_one(30, started.checked_sub(Duration::from_secs(1)).unwrap());
    assert!(expected.contains(&failures), "{failures}");
}

/// Who can make the store fail would else get a limit twice.
#[tokio::test]
async fn a_store_that_goes_away_gives_nobody_a_second_share() {
    let replicas = Replicas::prepare(LIMITS, "subject").await;
    let brokers: [_; 3] = replicas.brokers().await;
    let started = Instant::now();
    let before = within(&brokers, 90, || "bad".to_owned()).await;
    replicas.gate.set(GateMode::Refuse);
    let after = within(&brokers, 90, || "bad".to_owned()).await;
    assert!(as_one(30, started).contains(&(before + after)), "{before} and {after}");
}

/// A store that answers anything makes no broker let through more than one alone would.
#[tokio::test]
async fn a_store_that_lies_lifts_no_limit() {
    let replicas = Replicas::prepare(LIMITS, "subject").await;
    let broker = replicas.broker().await;
    let started = Instant::now();
    let mut within = 0;
    for _ in 0..60 {
        replicas.redis.ask(&["FLUSHALL"]);
        within += usize::from(from(&broker, "bad").await != 429);
    }
    assert!(as_one(30, started).contains(&within), "{within}");
}

/// The store's clock is set back, or a store takes over whose clock is behind.
#[tokio::test]
async fn a_clock_that_is_set_back_blocks_nobody_for_long() {
    let replicas = Replicas::prepare(LIMITS, "subject").await;
    let broker = replicas.broker().await;
    assert_eq!(from(&broker, "bad").await, 401);
    let names = replicas.redis.ask(&["KEYS", "{rise}:limit:*"]);
    let name = names.lines().next().unwrap();
    // A thousand years ahead.
    replicas.redis.ask(&["SET", name, "33000000000000000", "PX", "600000"]);
    let blocked = from(&broker, "bad").await;
    assert_eq!(blocked, 429);
    eventually("it is let through again", async || from(&broker, "bad").await == 401).await;
}
