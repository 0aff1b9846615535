//! Each limit: below it, at it, above it, and after recovery. Time stands still until a test moves
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use jiff::Timestamp;
use rise_broker::domain::Clock;
use rise_broker::http::listen::Peer;
use rise_broker_tests::registry::{RegistryTable, ecr};
use rise_broker_tests::{AUTH, Answer, Response, Settings, Stub, TestBroker, eventually};

const DEFAULTS: &str = "[limits]\n";
/// All limits are raised, except for those that a test states after this.
const RAISED: &str = "[limits]\nsubject = { per_second = 100000, burst = 100000 }\n";

fn registry(aws: &Stub, name: &str) -> RegistryTable {
    ecr(aws.endpoint()).named(name).with("repo_prefix", format!("{name}/"))
}

/// A broker whose clock the test controls.
struct Timed {
    broker: TestBroker,
    now: Arc<AtomicI64>,
    aws: Stub,
}

impl Timed {
    async fn start(limits: &str) -> Self {
        let aws = Stub::start().await;
        let text = format!("{limits}\n{AUTH}\n{}", registry(&aws, "prod"));
        Self::on(Settings::new(text), aws).await
    }

    async fn on(settings: Settings, aws: Stub) -> Self {
        let now = Arc::new(AtomicI64::new(Clock::system().now().as_millisecond()));
        let read = Arc::clone(&now);
        let clock = Clock::from_fn(move || {
            Timestamp::from_millisecond(read.load(Ordering::SeqCst)).unwrap()
        });
        let broker = TestBroker::with_settings(settings).clock(clock).start().await;
        Self { broker, now, aws }
    }

    fn forward(&self, milliseconds: i64) {
        self.now.fetch_add(milliseconds, Ordering::SeqCst);
    }

    async fn from(&self, address: &str, token: &str) -> Response {
        self.ask(address, token, "", "project=my-app").await
    }

    async fn ask(&self, address: &str, token: &str, forwarded: &str, query: &str) -> Response {
        let mut request = Request::get(format!("/api/v1/registry/credentials?{query}"))
            .header("authorization", format!("Bearer {token}"))
            .extension(Peer(address.parse().unwrap()));
        if !forwarded.is_empty() {
            request = request.header("x-forwarded-for", forwarded);
        }
        self.broker.send(request.body(Body::empty()).unwrap()).await
    }
}

fn limited(answer: &Response, seconds: std::ops::RangeInclusive<u32>) {
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert_eq!(answer.problem().as_deref(), Some("rate-limited"));
    let pause: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds.contains(&pause), "{pause}");
}

#[tokio::test]
async fn an_address_has_forty_failures_and_then_twenty_per_second() {
    let timed = Timed::start(DEFAULTS).await;
    let good = timed.broker.token_for("my-app");
    for _ in 0..40 {
        assert_eq!(timed.from("192.0.2.1", "bad").await.status, 401);
    }
    limited(&timed.from("192.0.2.1", "bad").await, 1..=2);
    // This includes callers who did nothing wrong: the address is checked before the token.
    limited(&timed.from("192.0.2.1", &good).await, 1..=2);
    assert_eq!(timed.from("192.0.2.2", &good).await.status, 200, "another address is not limited");
    timed.forward(50);
    assert_eq!(timed.from("192.0.2.1", &good).await.status, 200, "what succeeds counts nothing");
    assert_eq!(timed.from("192.0.2.1", "bad").await.status, 401);
    limited(&timed.from("192.0.2.1", "bad").await, 1..=2);
    timed.forward(2_000);
    for _ in 0..40 {
        assert_eq!(timed.from("192.0.2.1", "bad").await.status, 401);
    }
    limited(&timed.from("192.0.2.1", "bad").await, 1..=2);
}

#[tokio::test]
async fn an_ipv6_client_does_not_get_more_by_having_more_addresses() {
    let timed = Timed::start("[limits]\naddress = { per_second = 1, burst = 4 }").await;
    for last in 1..=4 {
        assert_eq!(timed.from(&format!("2001:db8:0:12{last}0::{last}"), "bad").await.status, 401);
    }
    limited(&timed.from("2001:db8:0:12ff::9", "bad").await, 1..=3);
    assert_eq!(timed.from("2001:db8:0:1300::9", "bad").await.status, 401);
}

#[tokio::test]
async fn t47_forwarded_addresses_count_from_trusted_proxies_only() {
    let aws = Stub::start().await;
    let text = format!(
        "[limits]\naddress = {{ per_second = 1, burst = 2 }}\n{AUTH}\n{}",
        registry(&aws, "prod")
    );
    let settings = Settings::new(text).layer("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n");
    let timed = Timed::on(settings, aws).await;
    let from = |peer, forwarded| timed.ask(peer, "bad", forwarded, "project=my-app");
    // A stranger gets no bucket for each address that it invents, and empties no other caller's.
    assert_eq!(from("192.0.2.1", "203.0.113.1").await.status, 401);
    assert_eq!(from("192.0.2.1", "203.0.113.2").await.status, 401);
    assert_eq!(from("192.0.2.1", "203.0.113.3").await.status, 429);
    assert_eq!(from("203.0.113.1", "").await.status, 401);
    assert_eq!(from("203.0.113.1", "").await.status, 401);
    assert_eq!(from("203.0.113.1", "").await.status, 429);
    // Behind the proxy each client has its own bucket, whatever header it sent.
    assert_eq!(from("10.0.0.1", "1.1.1.1, 203.0.113.1").await.status, 429);
    assert_eq!(from("10.0.0.1", "1.1.1.1, 203.0.113.7").await.status, 401);
    assert_eq!(from("10.0.0.1", "2.2.2.2, 203.0.113.7").await.status, 401);
    assert_eq!(from("10.0.0.2", "3.3.3.3, 203.0.113.7").await.status, 429);
}

#[tokio::test]
async fn a_subject_has_a_burst_and_then_so_many_per_second() {
    let timed = Timed::start("[limits]\nsubject = { per_second = 1, burst = 10 }").await;
    let token = timed.broker.token_for("my-app");
    for _ in 0..9 {
        assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    }
    // A wrong request counts too.
    assert_eq!(timed.ask("192.0.2.2", &token, "", "nonsense=1").await.status, 400);
    let called = timed.aws.requests().len();
    let answer = timed.from("192.0.2.3", &token).await;
    limited(&answer, 1..=3);
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("`subject` counts the requests of your token's subject"), "{detail}");
    assert_eq!(timed.aws.requests().len(), called, "nothing reaches AWS");
    timed.forward(999);
    limited(&timed.from("192.0.2.1", &token).await, 1..=2);
    timed.forward(1);
    assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    let list = timed.broker.get("/api/v1/registries", Some(&token)).await;
    limited(&list, 1..=3);
    timed.forward(10_000);
    for _ in 0..10 {
        assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    }
}

/// GitHub's `sub` can be customised to the owner, so that all repositories of an organisation are
/// one subject.
#[tokio::test]
async fn the_defaults_serve_fourteen_repositories_of_one_subject() {
    let timed = Timed::start(DEFAULTS).await;
    let token = timed.broker.token(&serde_json::json!({ "role": "reader" }));
    // All start at once, then four requests a second for a minute.
    let burst = (0..14).map(|number| (0, number));
    let steady = (1..=240).map(|number| (250, number % 14));
    for (pause, repository) in burst.chain(steady) {
        timed.forward(pause);
        let query = format!("project=app-{repository}&actions=pull");
        let answer = timed.ask("192.0.2.1", &token, "", &query).await;
        assert_eq!(answer.status, 200, "repository {repository}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_project_has_a_burst_and_then_so_many_per_second() {
    let limits = format!("{RAISED}project = {{ per_second = 5, burst = 20 }}\n");
    let timed = Timed::start(&limits).await;
    let (token, other) = (timed.broker.token_for("my-app"), timed.broker.token_for("other"));
    // Callers without a right do not use up the limit of those who have it.
    for _ in 0..30 {
        assert_eq!(timed.from("192.0.2.1", &other).await.status, 403);
    }
    for _ in 0..20 {
        assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    }
    let (called, recorded) = (timed.aws.requests().len(), timed.broker.audit().len());
    let answer = timed.from("192.0.2.1", &token).await;
    limited(&answer, 1..=2);
    assert!(answer.json()["detail"].to_string().contains("requests for this project"));
    assert_eq!((timed.aws.requests().len(), timed.broker.audit().len()), (called, recorded));
    assert_eq!(timed.ask("192.0.2.1", &other, "", "project=other").await.status, 200);
    timed.forward(200);
    assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    limited(&timed.from("192.0.2.1", &token).await, 1..=2);
    timed.forward(4_000);
    assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
}

#[tokio::test]
async fn calls_to_aws_are_paced_below_what_an_account_may() {
    let limits = "[limits]\nin_flight = 5000\nsubject = { per_second = 100000, burst = 100000 }\n\
         project = { per_second = 100000, burst = 100000 }";
    let aws = Stub::start().await;
    let text = format!("{limits}\n{AUTH}\n{}", registry(&aws, "prod"));
    let settings = Settings::new(text).layer("[server.timeouts]\nrequest_ms = 900\n");
    let timed = Timed::on(settings, aws).await;
    let token = timed.broker.token_for("my-app");
    for _ in 0..180 {
        assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    }
    let called = timed.aws.count("GetAuthorizationToken");
    let answer = timed.from("192.0.2.1", &token).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_deref()), (503, Some("overloaded")));
    assert_eq!(answer.header("retry-after"), Some("1"), "its turn is in 56 ms");
    assert_eq!(timed.aws.count("GetAuthorizationToken"), called);
    // The turn of the one that has given up, whose mint goes on, and then the next.
    timed.forward(112);
    assert_eq!(timed.from("192.0.2.1", &token).await.status, 200);
    timed.aws.wait_for("GetAuthorizationToken", called + 2).await;
    let events = timed.broker.audit();
    assert_eq!(events.iter().filter(|record| record["event"] == "issue.failed").count(), 0);
}

/// Shorter than the timeout of one attempt, longer than a request waits for its place.
const SLOW: Duration = Duration::from_millis(1_200);

fn slow(aws: &Stub) {
    aws.always("GetAuthorizationToken", Answer::late(SLOW));
}

#[tokio::test]
async fn t41_a_registry_that_hangs_leaves_the_others_alone() {
    let (hangs, aws) = (Stub::start().await, Stub::start().await);
    slow(&hangs);
    let rule = "[[rules]]\nname = \"both\"\nissuer = \"local\"\n\
         claims = { repository = \"acme/{project}\" }\nprojects = [\"*\"]\n\
         registries = [\"prod\", \"hangs\"]\nallow = [\"pull\"]\n";
    let limits = format!(
        "{RAISED}project = {{ per_second = 100000, burst = 100000 }}\n[limits.registries.hangs]\n\
         in_flight = 2\n"
    );
    let text =
        format!("{limits}\n{AUTH}{rule}\n{}{}", registry(&aws, "prod"), registry(&hangs, "hangs"));
    let timed = Arc::new(Timed::on(Settings::new(text), aws).await);
    let token = timed.broker.token_for("my-app");
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (timed, token) = (Arc::clone(&timed), token.clone());
        asked.spawn(async move {
            let query = "project=my-app&registry=hangs&actions=pull";
            timed.ask("192.0.2.1", &token, "", query).await.status.as_u16()
        });
    }
    hangs.wait_for("GetAuthorizationToken", 2).await;
    let started = Instant::now();
    let answer = timed.ask("192.0.2.1", &token, "", "project=my-app&registry=prod").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(started.elapsed() < SLOW, "it waited for the other registry: {:?}", started.elapsed());
    let mut statuses = asked.join_all().await;
    statuses.sort_unstable();
    // Two are called, and twice as many wait for them.
    assert_eq!(statuses, [&[200; 6][..], &[503; 14]].concat());
    assert_eq!(hangs.count("GetAuthorizationToken"), 6);
}

#[tokio::test]
async fn what_is_too_much_for_everybody_is_shed_at_once_and_health_is_not() {
    let aws = Stub::start().await;
    slow(&aws);
    let text = format!("[limits]\nin_flight = 3\n{AUTH}\n{}", registry(&aws, "prod"));
    let timed = Arc::new(Timed::on(Settings::new(text), aws).await);
    let token = timed.broker.token_for("my-app");
    let ask = |clients: usize| {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..clients {
            let (timed, token) = (Arc::clone(&timed), token.clone());
            asked.spawn(async move { timed.from("192.0.2.1", &token).await });
        }
        asked
    };
    let served = ask(3);
    timed.aws.wait_for("GetAuthorizationToken", 3).await;
    // Three of them wait for a moment, and are served if one of the first three ends by then.
    let crowd = ask(53);
    for _ in 0..50 {
        assert_eq!(timed.broker.admin("/readyz").await.status, 200);
        assert_eq!(timed.broker.admin("/healthz").await.status, 200);
    }
    let shed: Vec<_> =
        crowd.join_all().await.into_iter().filter(|answer| answer.status != 200).collect();
    assert!(shed.len() >= 50, "{} are shed", shed.len());
    for answer in shed {
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (503, Some("overloaded"))
        );
        assert!(answer.header("retry-after").is_some());
    }
    assert!(served.join_all().await.iter().all(|answer| answer.status == 200));
    assert_eq!(timed.from("192.0.2.1", &token).await.status, 200, "recovered");
}

#[tokio::test]
async fn a_request_ends_with_its_deadline_and_its_mint_goes_on() {
    let aws = Stub::start().await;
    slow(&aws);
    let text = format!("{AUTH}\n{}", registry(&aws, "prod"));
    let settings = Settings::new(text).layer("[server.timeouts]\nrequest_ms = 900\n");
    let timed = Timed::on(settings, aws).await;
    let token = timed.broker.token_for("my-app");
    let started = Instant::now();
    let answer = timed.from("192.0.2.1", &token).await;
    assert_eq!(
        (answer.status.as_u16(), answer.problem().as_deref()),
        (504, Some("upstream-timeout"))
    );
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let is_minted = async || timed.broker.audit().last().unwrap()["event"] == "issue.minted";
    eventually("the outcome of the mint is recorded", is_minted).await;
}

#[tokio::test]
async fn what_is_remembered_of_callers_is_bounded() {
    let timed =
        Timed::start("[limits]\nkeys = 64\naddress = { per_second = 1, burst = 100 }").await;
    for subject in 0..500_u32 {
        let [_, _, high, low] = subject.to_be_bytes();
        timed.from(&format!("192.0.{high}.{low}"), "bad").await;
    }
    let [addresses, _, _] = timed.broker.generation.limits.remembered();
    assert_eq!(addresses, 64);
    timed.forward(60_000);
    timed.broker.generation.limits.sweep();
    assert_eq!(timed.broker.generation.limits.remembered(), [0; 3]);
}

#[tokio::test]
async fn wrong_limits_are_found_at_start() {
    let aws = Stub::start().await;
    for (limits, expected) in [
        ("in_flight = 0", "limits.in_flight"),
        ("subject = { per_second = 0 }", "limits.subject.per_second"),
        ("subject = { per_minute = 1 }", "limits.subject"),
        ("[limits.registries.nobody]\nin_flight = 1", "unknown registry `nobody`"),
    ] {
        let text = format!("[limits]\n{limits}\n{AUTH}\n{}", registry(&aws, "prod"));
        let problems =
            TestBroker::with_settings(Settings::new(text)).try_start().await.err().unwrap();
        let text = rise_broker_tests::lines(&problems);
        assert!(text.contains(expected), "{limits}: {text}");
    }
    let settings = Settings::new(format!("{AUTH}\n{}", registry(&aws, "prod")));
    let settings = settings.layer("[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"lan\"]\n");
    let problems = TestBroker::with_settings(settings).try_start().await.err().unwrap();
    let text = rise_broker_tests::lines(&problems);
    assert!(
        text.contains("local.toml: server.trusted_proxies: `lan` is neither a network"),
        "{text}"
    );
}
