//! Part of `make soak`: three brokers as programs on one Redis and one PostgreSQL. It fails if a
//! token that is good once is good twice, a matrix of jobs mints twice, the brokers together let
//! more through than one would, or a failure of the store, for half a minute each under load, costs
//! more than it may. It prints what `FLUSHALL` costs, and what one, two and three brokers serve.
//!
//! `ROUNDS=1000` and `SECONDS=30` are the full size.

use std::time::{Duration, Instant};

use rise_broker_tests::load::Load;
use rise_broker_tests::redis::{GateMode, Redis};
use rise_broker_tests::together::{Statuses, Together};
use tokio::task::JoinSet;

const LIMIT: usize = 3000;
const PER_SECOND: u32 = 60;
/// Limits that nothing here meets.
const WIDE: &str = "[limits]
address = { per_second = 1000000, burst = 1000000 }
subject = { per_second = 1000000, burst = 1000000 }
project = { per_second = 1000000, burst = 1000000 }
";

fn main() {
    let rounds = number("ROUNDS", 1000);
    let time = Duration::from_secs(number("SECONDS", 30));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut all_holds = true;
    let mut promise = |holds: bool, text: String| {
        println!("{} {text}", if holds { "holds:" } else { "BROKEN:" });
        all_holds &= holds;
    };
    runtime.block_on(async {
        let group = Together::start(3, WIDE, true).await;
        let (twice, good, late) = good_once(&group, rounds).await;
        promise(
            twice == 0,
            format!("no token is good twice: {good} of {rounds} rounds, {late} late"),
        );
        println!("the store answered too late: {:?}", group.store_failures().await);
        let minted = matrices(&group, rounds / 50).await;
        promise(
            minted.iter().all(|mints| *mints == 1),
            format!("one mint each matrix: {minted:?}"),
        );
        let [alone, together] = [limited(1).await, limited(3).await];
        let near = together.abs_diff(alone) * 100 <= alone;
        promise(near, format!("limits of three are those of one: {together} and {alone}"));
        for failure in failures(&group).await {
            let cost = fail(&group, &failure, time).await;
            promise(cost.holds(), format!("{}: {cost:?}", failure.name));
        }
        println!("FLUSHALL each second: {:?}", flushed(&group, time).await);
        drop(group);
        for brokers in 1..=3 {
            println!("{brokers} brokers: {}", throughput(brokers).await);
        }
    });
    assert!(all_holds, "not all that is promised holds");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// How many tokens were good twice and once, and how many requests the store answered too late.
async fn good_once(group: &Together, rounds: u64) -> (usize, usize, usize) {
    let (mut twice, mut good, mut late) = (0, 0, 0);
    for _ in 0..rounds {
        let answers = group.crowd_with_one_token(50).await;
        let times = |status| answers.get(&status).copied().unwrap_or(0);
        assert_eq!(times(200) + times(401) + times(503), 50, "{answers:?}");
        twice += usize::from(times(200) > 1);
        good += usize::from(times(200) == 1);
        late += times(503);
    }
    (twice, good, late)
}

/// The mints of each matrix of 256 jobs.
async fn matrices(group: &Together, matrices: u64) -> Vec<usize> {
    let mut mints = Vec::new();
    for matrix in 0..matrices {
        let before = group.aws.count("GetAuthorizationToken");
        let answers = group.matrix(256, &format!("matrix-{matrix}")).await;
        assert_eq!(answers, Statuses::from([(200, 256)]));
        mints.push(group.aws.count("GetAuthorizationToken") - before);
    }
    mints
}

/// How many requests so many brokers together let through, of a subject that asks more often.
async fn limited(brokers: usize) -> usize {
    let limits = format!(
        "[limits]\naddress = {{ per_second = 100000, burst = 100000 }}\n\
         subject = {{ per_second = 1, burst = {LIMIT} }}\n\
         project = {{ per_second = 100000, burst = 100000 }}\n"
    );
    let group = Together::start(brokers, &limits, false).await;
    let mut passed = 0;
    let started = Instant::now();
    for _ in 0..LIMIT * 2 / 60 {
        let answers = group.matrix(60, "my-app").await;
        passed += answers.get(&200).copied().unwrap_or(0);
    }
    passed - usize::try_from(started.elapsed().as_secs()).unwrap()
}

struct Failure {
    name: &'static str,
    mode: Option<GateMode>,
    begin: Vec<Vec<String>>,
    end: Vec<Vec<String>>,
    pauses: bool,
    _elsewhere: Option<Redis>,
}

async fn failures(group: &Together) -> Vec<Failure> {
    let port = group.redis.port();
    let gate = |name, mode| Failure {
        name,
        mode: Some(mode),
        begin: Vec::new(),
        end: Vec::new(),
        pauses: false,
        _elsewhere: None,
    };
    let asked = |name, begin: &[&str], end: &[&str]| {
        let words = |words: &[&str]| vec![words.iter().map(|word| (*word).to_owned()).collect()];
        let nothing = GateMode::Pass(port);
        Failure { begin: words(begin), end: words(end), mode: None, ..gate(name, nothing) }
    };
    let elsewhere = Redis::start().await;
    let other = elsewhere.port().to_string();
    let replica = ["REPLICAOF", "127.0.0.1", &other];
    vec![
        gate("away", GateMode::Refuse),
        gate("silent", GateMode::Silent),
        gate("slow", GateMode::Slow(port, Duration::from_millis(400))),
        gate("garbage", GateMode::Lie(b"+OK\r\n+OK\r\n".to_vec())),
        Failure { pauses: true, ..asked("stopped", &["PING"], &["PING"]) },
        asked("full", &["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
        Failure {
            _elsewhere: Some(elsewhere),
            ..asked("read-only", &replica, &["REPLICAOF", "NO", "ONE"])
        },
    ]
}

/// What a failure costs.
#[derive(Debug)]
#[allow(dead_code, reason = "all of it is printed")]
struct Cost {
    /// Answers to tokens that are good as often as one likes.
    usual: Statuses,
    /// Answers to tokens that are good once.
    once: Statuses,
    mints: usize,
    recovered_ms: u128,
}

impl Cost {
    fn holds(&self) -> bool {
        let usual_fails = self.usual.keys().any(|status| *status != 200);
        let once_is_wrong = self.once.keys().any(|status| ![200, 401, 503].contains(status));
        // Each broker may mint once for itself, and once more when it renews.
        !usual_fails && !once_is_wrong && self.mints <= 6 && self.recovered_ms <= 30_000
    }
}

async fn fail(group: &Together, failure: &Failure, time: Duration) -> Cost {
    let mints = group.aws.count("GetAuthorizationToken");
    match &failure.mode {
        Some(mode) => group.gate.set(mode.clone()),
        None if failure.pauses => group.redis.pause(),
        None => run(&group.redis, &failure.begin),
    }
    let [usual, once] = group.load(PER_SECOND, time).await;
    match &failure.mode {
        Some(_) => group.gate.set(GateMode::Pass(group.redis.port())),
        None if failure.pauses => group.redis.resume(),
        None => run(&group.redis, &failure.end),
    }
    let recovered_ms = group.recovers().await.as_millis();
    let mints = group.aws.count("GetAuthorizationToken") - mints;
    Cost { usual, once, mints, recovered_ms }
}

fn run(redis: &Redis, commands: &[Vec<String>]) {
    for command in commands {
        redis.ask(&command.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Answers of both kinds and mints while the store is emptied each second.
async fn flushed(group: &Together, time: Duration) -> (Statuses, Statuses, usize) {
    let mints = group.aws.count("GetAuthorizationToken");
    let flush = async {
        loop {
            group.redis.ask(&["FLUSHALL"]);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let [usual, once] = tokio::select! {
        answers = group.load(PER_SECOND, time) => answers,
        () = flush => unreachable!("it goes on for ever"),
    };
    (usual, once, group.aws.count("GetAuthorizationToken") - mints)
}

/// How many requests so many brokers answer a second from their caches, and what each costs.
async fn throughput(brokers: usize) -> String {
    let group = Together::start(brokers, WIDE, false).await;
    let token = group.token(false, "my-app");
    let path = "/api/v1/registry/credentials?project=my-app";
    let before = group.cpu();
    let load = Load { connections: 32, requests: 20_000, rate: None };
    let report = load.run(group.balancer.address, path, &token).await;
    assert_eq!(report.failed, 0, "every request is answered");
    let usual = micros(before, group.cpu(), 20_000);
    let before = group.cpu();
    for _ in 0..100 {
        let crowd: JoinSet<_> = (0..brokers * 20)
            .map(|index| group.ask(index % brokers, &group.token(true, "my-app"), "my-app"))
            .collect();
        assert!(crowd.join_all().await.iter().all(|status| *status == 200));
    }
    let once = micros(before, group.cpu(), brokers * 2_000);
    format!(
        "{:.0} a second; processor time of the brokers and of the store for one request: {usual}, \
         with a single-use token {once}",
        report.per_second()
    )
}

fn micros(before: [f64; 2], after: [f64; 2], requests: usize) -> String {
    let each = |index: usize| (after[index] - before[index]) * 1e6 / requests as f64;
    format!("{:.0} and {:.0} µs", each(0), each(1))
}
