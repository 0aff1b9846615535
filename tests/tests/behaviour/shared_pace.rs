//! The pace of a registry that several brokers keep together on one Redis, and what each of them
//! keeps while it is away or lies.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rise_broker_tests::redis::GateMode;
use rise_broker_tests::replicas::Replicas;
use rise_broker_tests::{Answer, Response, TestBroker, eventually};
use tokio::task::JoinSet;

/// Slow enough that a burst on a busy machine lets few further calls through. Callers whose turn
/// comes later than they wait are told at once.
const LIMITS: &str = "[limits]
registry = { per_second = 1, burst = 30 }
subject = { per_second = 100000, burst = 100000 }
[server.timeouts]
request_ms = 5000
";
/// How long a caller waits.
const PATIENCE: usize = 5;
/// In the script that gives a call its moment.
const SCRIPT: &str = "local moment = math.max(start - ahead, now)";

async fn replicas() -> Replicas {
    Replicas::with(LIMITS, |table| table).await
}

/// The answers to these requests, each for a project of its own, on each broker in turn and at
/// once.
async fn crowd(brokers: &[Arc<TestBroker>], requests: usize) -> Vec<Response> {
    let mut asked = JoinSet::new();
    for index in 0..requests {
        let broker = Arc::clone(&brokers[index % brokers.len()]);
        asked.spawn(async move {
            let project = format!("app-{index}");
            broker.credentials(&broker.token_for(&project), &format!("project={project}")).await
        });
    }
    asked.join_all().await
}

/// How many of them were served. Each other one is told when to come again.
fn served(answers: &[Response]) -> usize {
    let others = answers.iter().filter(|answer| answer.status != 200);
    for answer in others {
        assert_eq!(answer.problem().as_deref(), Some("overloaded"), "{}", answer.text);
        assert!(retry_after(answer) <= 65, "{answer:?}");
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

fn retry_after(answer: &Response) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

/// A burst, and one more for each second that it took and that callers wait.
fn burst_of(burst: usize, since: Instant) -> RangeInclusive<usize> {
    burst..=burst + usize::try_from(since.elapsed().as_secs()).unwrap() + PATIENCE + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_keep_the_pace_of_one() {
    let replicas = replicas().await;
    replicas.key("next.key", 8);
    // One of them has the new key in front already.
    let before = replicas.table(&["shared.key", "next.key"], "replicas = 3");
    let after = replicas.table(&["next.key", "shared.key"], "replicas = 3");
    let mut brokers = Vec::new();
    for table in [&before, &before, &after] {
        brokers.push(Arc::new(replicas.broker_with(table).await));
    }
    let started = Instant::now();
    let answers = crowd(&brokers, 120).await;
    let served = served(&answers);
    // A late answer of the store on a busy machine is a call of a share.
    assert!(burst_of(30, started).contains(&served), "{served}");
    // They wait in one line, a minute at the longest.
    let longest = answers.iter().filter(|it| it.status != 200).map(retry_after).max();
    assert!(longest.is_some_and(|longest| longest >= 55), "{longest:?}");
    let names = replicas.redis.ask(&["KEYS", "{rise}:pace:*"]);
    assert!(!names.is_empty() && !names.contains("prod"), "{names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broker_keeps_its_share_while_the_store_fails() {
    let replicas = replicas().await;
    let port = replicas.redis.port();
    for mode in [
        GateMode::Refuse,
        GateMode::Silent,
        GateMode::Slow(port, Duration::from_millis(400)),
        GateMode::Lie(b"+OK\r\n".to_vec()),
        // No store gives a moment that is so far away.
        GateMode::Edit(port, SCRIPT, "do return {'turn', 61000000, '9'} end"),
        GateMode::Edit(port, SCRIPT, "do return error('no') end"),
    ] {
        let failure = format!("{mode:?}");
        let is_connected = matches!(mode, GateMode::Edit(..));
        replicas.redis.ask(&["FLUSHALL"]);
        replicas.gate.set(if is_connected { mode.clone() } else { GateMode::Pass(port) });
        let broker = Arc::new(replicas.broker().await);
        if !is_connected {
            replicas.gate.set(mode);
        }
        let started = Instant::now();
        let served = served(&crowd(&[broker], 40).await);
        assert!(burst_of(10, started).contains(&served), "{failure}: {served}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_gives_nobody_a_second_burst() {
    let replicas = replicas().await;
    let brokers: [_; 3] = replicas.brokers().await;
    let brokers = brokers.map(Arc::new);
    let started = Instant::now();
    let before = served(&crowd(&brokers, 30).await);
    replicas.gate.set(GateMode::Refuse);
    let after = served(&crowd(&brokers, 60).await);
    assert!(burst_of(30, started).contains(&(before + after)), "{before} and {after}");
}

/// Whatever the store says, a broker that is told that each call may start now keeps its own pace,
/// and so does one that is told the same moment for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lies_makes_no_broker_faster() {
    for lie in ["do return {'turn', 0, '1'} end", "do return {'turn', 1000000, '1'} end"] {
        let replicas = replicas().await;
        replicas.gate.set(GateMode::Edit(replicas.redis.port(), SCRIPT, lie));
        let broker = Arc::new(replicas.broker().await);
        let started = Instant::now();
        let answers = crowd(&[broker], 90).await;
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(burst_of(30, started).contains(&served), "{lie}: {served}");
    }
}

/// The store's clock is set back, or a store takes over whose clock is behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_stops_no_call_for_long() {
    let replicas = replicas().await;
    let broker = Arc::new(replicas.broker().await);
    assert_eq!(served(&crowd(&[Arc::clone(&broker)], 1).await), 1);
    let name = replicas.redis.ask(&["KEYS", "{rise}:pace:*"]);
    // A thousand years ahead.
    replicas.redis.ask(&["SET", &name, "33000000000000000", "PX", "600000"]);
    assert_eq!(served(&crowd(&[broker], 1).await), 0);
    let next: f64 = replicas.redis.ask(&["GET", &name]).parse().unwrap();
    let now = jiff::Timestamp::now().as_microsecond();
    #[expect(clippy::cast_precision_loss, reason = "seconds are compared")]
    let ahead = (next - now as f64) / 1e6;
    assert!(ahead < 92.0, "after the longest wait and the burst there is a turn: {ahead}");
}

/// Their turns would else be lost for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn turns_that_nobody_waits_for_go_to_other_brokers() {
    let limits = LIMITS.replace("burst = 30", "burst = 5");
    let replicas = Replicas::with(&limits, |table| table).await;
    let [one, other] = replicas.brokers().await.map(Arc::new);
    replicas.aws.always("AssumeRole", Answer::error(500, "InternalFailure"));
    for answer in crowd(&[one], 30).await {
        assert_ne!(answer.status, 200);
    }
    // The registry is down, and those who wait have heard it.
    let free = || replicas.redis.ask(&["KEYS", "{rise}:pace-free:*"]);
    eventually("the turns are given back", async || !free().is_empty()).await;
    let count = || replicas.redis.ask(&["ZCARD", &free()]).parse::<usize>().unwrap();
    eventually("all of them", async || count() >= 10).await;
    replicas.aws.always("AssumeRole", Answer::Usual);
    let name = replicas.redis.ask(&["KEYS", "{rise}:registry:*"]);
    replicas.redis.ask(&["HSET", &name, "until", "0"]);
    // The line is half a minute long.
    assert_eq!(served(&crowd(&[other], 1).await), 1);
}
