//! Issuing from the cache: one mint for a crowd, and never a credential that somebody's own grant
//! would not have made. The broker's clock is in the test's hands; real components, AWS is a stub.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rise_broker::domain::Clock;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::scene::{RULE, scene_that_shares};
use rise_broker_tests::{AUTH, Answer, Response, Settings, Stub, TestBroker, eventually, logs};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MINT: &str = "GetAuthorizationToken";
const HOUR: i64 = 3600;

/// An ECR registry named `prod`. `role` is what another epoch differs in.
fn prod(aws: &Stub, role: &str, more: &str) -> String {
    let role = format!("arn:aws:iam::123456789012:role/{role}");
    let share = ["subject", "project", "off"].into_iter().find(|share| more.contains(share));
    let table = ecr(aws.endpoint()).with("push_role_arn", role).shared(share.unwrap_or("subject"));
    if share.is_some() { table.to_string() } else { table.lines(more).to_string() }
}

struct Scene {
    broker: TestBroker,
    aws: Stub,
    /// Seconds that the broker's clock is ahead.
    ahead: Arc<AtomicI64>,
}

impl Scene {
    /// Tokens of the registry last an hour.
    async fn start(more: &str) -> Self {
        let aws = Stub::start().await;
        let text = format!("{AUTH}\n{}", prod(&aws, "push", more));
        Self::on(Settings::new(&text), aws).await
    }

    async fn on(settings: Settings, aws: Stub) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let (system, offset) = (Clock::system(), Arc::clone(&ahead));
        let clock = Clock::from_fn(move || {
            system.now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst))
        });
        let broker = TestBroker::with_settings(settings).clock(clock).start().await;
        let scene = Self { broker, aws, ahead };
        scene.forward(0);
        scene
    }

    fn now(&self) -> Timestamp {
        Clock::system().now() + SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst))
    }

    /// Moves the clock; tokens of the registry last an hour from then on.
    fn forward(&self, seconds: i64) {
        let ahead = self.ahead.fetch_add(seconds, Ordering::SeqCst) + seconds;
        self.aws.always(MINT, Answer::Expires(SignedDuration::from_secs(ahead + HOUR)));
    }

    fn token(&self, subject: &str, claims: &Value) -> String {
        self.broker.token_of(subject, claims, self.now())
    }

    async fn ask(&self, subject: &str, query: &str) -> Response {
        let claims = json!({ "repository": "acme/my-app" });
        self.broker.credentials(&self.token(subject, &claims), query).await
    }

    async fn my_app(&self) -> Response {
        self.ask("ci", "project=my-app").await
    }

    fn mints(&self) -> usize {
        self.aws.count(MINT)
    }

    /// The `issue.completed` of this answer.
    fn record(&self, answer: &Response) -> Value {
        let id = answer.json()["request_id"].clone();
        let is_it =
            |record: &Value| record["event"] == "issue.completed" && record["request_id"] == id;
        self.broker.audit().into_iter().find(is_it).unwrap_or_else(|| panic!("{}", answer.text))
    }

    fn source(&self, answer: &Response) -> String {
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.record(answer)["source"].as_str().unwrap().to_owned()
    }
}

/// Asks `count` times at once.
async fn crowd(scene: &Arc<Scene>, count: usize) -> Vec<Response> {
    let mut asked = JoinSet::new();
    for _ in 0..count {
        let scene = Arc::clone(scene);
        asked.spawn(async move { scene.my_app().await });
    }
    asked.join_all().await
}

fn password(answer: &Response) -> String {
    answer.json()["credentials"]["password"].as_str().unwrap_or_default().to_owned()
}

fn problem(answer: &Response) -> (u16, String) {
    (answer.status.as_u16(), answer.problem().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_shares_one_mint_and_each_has_its_record() {
    let scene = Arc::new(Scene::start("").await);
    scene.aws.always(MINT, Answer::late(Duration::from_millis(300)));
    let answers = crowd(&scene, 200).await;
    let passwords: BTreeSet<String> = answers.iter().map(password).collect();
    assert_eq!(passwords.len(), 1, "{passwords:?}");
    assert_eq!((scene.aws.count("AssumeRole"), scene.mints()), (1, 1));
    let later = scene.my_app().await;
    assert_eq!(scene.source(&later), "cached");
    let records = scene.broker.audit();
    let of = |event: &str| {
        records.iter().filter(|record| record["event"] == event).cloned().collect::<Vec<_>>()
    };
    let (intents, completed) = (of("issue.intent"), of("issue.completed"));
    assert_eq!((intents.len(), completed.len(), of("issue.minted").len()), (1, 201, 0));
    let mint = &intents[0]["request_id"];
    assert!(completed.iter().all(|record| record["minted_by"] == *mint));
    let minted: Vec<_> = completed.iter().filter(|record| record["source"] == "minted").collect();
    assert_eq!((minted.len(), &minted[0]["request_id"]), (1, mint));
    // The AWS session is the mint's, and in every record.
    let session = format!("rise-{}", mint.as_str().unwrap());
    let role = &scene.aws.recorded("AssumeRole")[0];
    assert_eq!(role.parameter("RoleSessionName"), Some(session.as_str()));
    assert!(completed.iter().all(|record| record["aws"]["role_session_name"] == session.as_str()));
    let ids: BTreeSet<_> =
        completed.iter().map(|record| record["request_id"].to_string()).collect();
    assert_eq!(ids.len(), 201);
}

/// Each part of the key by itself. The test fails if the key loses one of them.
#[tokio::test]
async fn nobody_gets_what_another_key_has() {
    let scene = Scene::start("").await;
    let claims = json!({ "repository": "acme/my-app", "role": "reader" });
    let mut seen = BTreeSet::new();
    for (subject, query) in [
        ("ci", "project=my-app"),
        ("ci", "project=other&actions=pull"),
        ("ci", "project=my-app&actions=pull"),
        ("ci", "project=my-app&actions=push"),
        ("somebody-else", "project=my-app"),
    ] {
        let token = scene.token(subject, &claims);
        let first = scene.broker.credentials(&token, query).await;
        assert_eq!(scene.source(&first), "minted", "{subject} {query}");
        let again = scene.broker.credentials(&token, query).await;
        assert_eq!(scene.source(&again), "cached", "{subject} {query}");
        assert_eq!(password(&first), password(&again));
        assert!(seen.insert(password(&first)), "{subject} {query}");
    }
    // The same actions, stated or not, are the same grant.
    let stated = scene.ask("ci", "project=my-app&actions=push,pull").await;
    assert_eq!(scene.source(&stated), "cached");
}

#[tokio::test]
async fn two_registries_share_nothing() {
    let aws = Stub::start().await;
    let other = prod(&aws, "push", "").replace("prod", "other").replace("rise/", "other/");
    let auth = AUTH.replace("registries = [\"prod\"]", "registries = [\"prod\", \"other\"]");
    let text = format!("{auth}\n{}{other}", prod(&aws, "push", ""));
    let scene = Scene::on(Settings::new(&text), aws).await;
    for registry in ["prod", "other"] {
        let answer = scene.ask("ci", &format!("project=my-app&registry={registry}")).await;
        assert_eq!(scene.source(&answer), "minted", "{registry}");
    }
}

#[tokio::test]
async fn a_reload_ends_what_was_kept_if_the_registry_changes() {
    let scene = Scene::start("").await;
    let first = scene.my_app().await;
    let text = |role: &str, more: &str| format!("{AUTH}\n{}", prod(&scene.aws, role, more));
    // Another rule changes nothing about what was issued.
    let rule = "[[rules]]\nname = \"more\"\nissuer = \"local\"\nclaims = { x = \"y\" }\n\
                projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n";
    scene.broker.reload(&format!("{}{rule}", text("push", ""))).await;
    assert_eq!(scene.source(&scene.my_app().await), "cached");
    assert_eq!(scene.broker.process.issuing.cache_use().entries, 1);
    for changed in [
        text("push-2", ""),
        text("push-2", "session_tags = true"),
        text("push-2", "").replace("example-secret-access-key", "another-secret"),
    ] {
        scene.broker.reload(&changed).await;
        assert_eq!(scene.broker.process.issuing.cache_use().entries, 0);
        let answer = scene.my_app().await;
        assert_eq!(scene.source(&answer), "minted");
        assert_ne!(password(&answer), password(&first));
        assert_eq!(scene.source(&scene.my_app().await), "cached");
    }
}

#[tokio::test]
async fn i6_authorization_comes_before_the_cache() {
    let scene = Scene::start("").await;
    assert_eq!(scene.my_app().await.status, 200);
    let text = format!("{AUTH}\n{}", prod(&scene.aws, "push", ""));
    scene.broker.reload(&text.replace("acme/{project}", "acme-2/{project}")).await;
    assert_eq!(problem(&scene.my_app().await), (403, "access-denied".to_owned()));
    scene.broker.reload(&text).await;
    assert_eq!(scene.source(&scene.my_app().await), "cached");
    assert_eq!(scene.mints(), 1);
}

#[tokio::test]
async fn the_operator_says_who_shares() {
    let claims = json!({ "repository": "acme/my-app" });
    for (share, sources) in [
        ("subject", ["minted", "cached", "minted"]),
        ("project", ["minted", "cached", "cached"]),
        ("off", ["minted", "minted", "minted"]),
    ] {
        let scene = Scene::start(&format!("cache = {{ share = \"{share}\" }}")).await;
        for (subject, expected) in ["a", "a", "b"].iter().zip(sources) {
            let token = scene.token(subject, &claims);
            let answer = scene.broker.credentials(&token, "project=my-app").await;
            assert_eq!(scene.source(&answer), expected, "{share} {subject}");
        }
    }
}

#[tokio::test]
async fn a_credential_is_renewed_in_the_second_half_of_its_life() {
    let scene = Scene::start("").await;
    let first = scene.my_app().await;
    let refresh: Timestamp = first.json()["refresh_after"].as_str().unwrap().parse().unwrap();
    let half = refresh.as_second() - scene.now().as_second();
    assert!((HOUR / 2 - 5..=HOUR / 2).contains(&half), "{half}");
    scene.forward(HOUR / 2 - 10);
    assert_eq!(scene.source(&scene.my_app().await), "cached");
    assert_eq!(scene.mints(), 1);

    // At half life nobody waits, and one renewal is made.
    scene.forward(20);
    scene.aws.next(MINT, [Answer::late(Duration::from_millis(800))]);
    let started = Instant::now();
    for _ in 0..10 {
        let answer = scene.my_app().await;
        assert_eq!(
            (scene.source(&answer).as_str(), password(&answer)),
            ("cached", password(&first))
        );
    }
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
    eventually("the renewal is used", async || password(&scene.my_app().await) != password(&first))
        .await;
    assert_eq!(scene.mints(), 2);
    // The intent of the renewal has its outcome, and the credential is found by its mint.
    let records = scene.broker.audit();
    let minted: Vec<_> =
        records.iter().filter(|record| record["event"] == "issue.minted").collect();
    assert_eq!(minted.len(), 1);
    let renewed = scene.my_app().await;
    assert_eq!(scene.record(&renewed)["minted_by"], minted[0]["request_id"]);
    assert_eq!(scene.record(&renewed)["credential"], minted[0]["credential"]);
}

#[tokio::test]
async fn callers_wait_for_the_renewal_in_the_last_quarter() {
    let scene = Scene::start("").await;
    let first = scene.my_app().await;
    scene.forward(HOUR * 3 / 4 + 10);
    let answer = scene.my_app().await;
    assert_eq!(scene.source(&answer), "minted");
    assert_ne!(password(&answer), password(&first));
    assert_eq!(scene.mints(), 2);
}

#[tokio::test]
async fn while_the_registry_is_down_what_is_kept_is_served_to_its_end() {
    let scene = Scene::start("").await;
    let first = scene.my_app().await;
    for late in [HOUR / 2 + 60, HOUR * 3 / 4, HOUR - 90] {
        let ahead = scene.ahead.load(Ordering::SeqCst);
        scene.forward(late - ahead);
        scene.aws.always(MINT, Answer::error(500, "ServerException"));
        let answer = scene.my_app().await;
        assert_eq!((answer.status.as_u16(), password(&answer)), (200, password(&first)), "{late}");
    }
    scene.forward(40);
    scene.aws.always(MINT, Answer::error(500, "ServerException"));
    assert_eq!(problem(&scene.my_app().await), (503, "upstream-unavailable".to_owned()));
    // The failure is remembered for a second.
    scene.forward(2);
    let answer = scene.my_app().await;
    assert_eq!(scene.source(&answer), "minted");
}

#[tokio::test]
async fn a_stated_lifetime_is_kept() {
    let scene = Scene::start("").await;
    let lasts = |answer: &Response| answer.json()["credentials"]["expires_in"].as_i64().unwrap();
    assert_eq!(scene.my_app().await.status, 200);
    scene.forward(1200);
    let answer = scene.ask("ci", "project=my-app&lifetime=2000").await;
    assert_eq!(scene.source(&answer), "cached");
    let answer = scene.ask("ci", "project=my-app&lifetime=3000").await;
    assert_eq!(scene.source(&answer), "minted");
    assert!(lasts(&answer) >= 3000);
    // The registry gives an hour at most: it would give no more to a second request either.
    let answer = scene.ask("ci", "project=my-app&lifetime=7200").await;
    assert_eq!(scene.source(&answer), "minted");
    scene.forward(60);
    let answer = scene.ask("ci", "project=my-app&lifetime=7200").await;
    assert_eq!(scene.source(&answer), "cached");
}

#[tokio::test]
async fn what_does_not_end_is_reused_for_a_minute() {
    let oci = "[registries.prod]\ntype = \"oci\"\nregistry_url = \"oci.example.com\"\n";
    let text = format!("{AUTH}\n{oci}");
    let scene = Scene::on(Settings::new(&text), Stub::start().await).await;
    let sources: Vec<String> = {
        let mut sources = Vec::new();
        for seconds in [0, 30, 25, 10] {
            scene.forward(seconds);
            let answer = scene.my_app().await;
            assert_eq!(answer.json()["refresh_after"], Value::Null);
            sources.push(scene.source(&answer));
        }
        sources
    };
    assert_eq!(sources, ["minted", "cached", "cached", "minted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_one_call_for_everybody_who_waits() {
    let throttled = Answer::throttled(None);
    for (failure, expected) in [
        (Answer::access_denied(), (502, "upstream-denied")),
        (throttled, (503, "upstream-unavailable")),
        (Answer::garbage(), (502, "provider-failed")),
    ] {
        let scene = Arc::new(Scene::start("").await);
        let slow = Answer::After(Duration::from_millis(300), Box::new(failure.clone()));
        scene.aws.always(MINT, slow);
        let answers = crowd(&scene, 200).await;
        let expected = (expected.0, expected.1.to_owned());
        for answer in &answers {
            assert_eq!(problem(answer), expected, "{failure:?}: {}", answer.text);
        }
        let calls = scene.aws.count("AssumeRole");
        assert_eq!(calls, 1, "{failure:?}");
        if expected.1 == "upstream-denied" {
            // Also for those who come within ten seconds.
            assert_eq!(problem(&scene.my_app().await), expected);
            assert_eq!(scene.aws.count("AssumeRole"), calls);
        }
        let failed =
            scene.broker.audit().into_iter().filter(|record| record["event"] == "issue.failed");
        assert_eq!(failed.count(), 1, "{failure:?}");
        scene.forward(11);
        assert_eq!(scene.my_app().await.status, 200, "{failure:?}");
    }
}

/// The lines of the log that have this text, of one request.
fn logged(id: &str, text: &str) -> usize {
    logs::text().lines().filter(|line| line.contains(id) && line.contains(text)).count()
}

/// The request that fails with it logs it. A mint that nobody waits for logs it itself.
#[tokio::test]
async fn a_failed_mint_is_logged_once() {
    let (told, alone) = ("request failed", "a mint failed");
    let scene = Scene::start("").await;
    scene.aws.next(MINT, [Answer::access_denied()]);
    let answer = scene.my_app().await;
    assert_eq!(problem(&answer), (502, "upstream-denied".to_owned()));
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    assert_eq!((logged(&id, told), logged(&id, alone)), (1, 0), "{}", logs::text());

    // The renewal of a kept credential fails, at half its life and in the last quarter.
    let scene = Scene::start("").await;
    scene.my_app().await;
    for late in [HOUR / 2 + 60, HOUR * 3 / 4 + 60] {
        let ahead = scene.ahead.load(Ordering::SeqCst);
        scene.forward(late - ahead);
        scene.aws.always(MINT, Answer::error(500, "ServerException"));
        let answer = scene.my_app().await;
        assert_eq!(scene.source(&answer), "cached");
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        eventually("the failure is logged", async || logged(&id, alone) == 1).await;
        assert_eq!(logged(&id, told), 0, "{}", logs::text());
    }
}

/// The caller that the mint was started for had to leave before it failed.
#[tokio::test]
async fn a_mint_that_fails_after_its_caller_has_gone_is_logged() {
    let aws = Stub::start().await;
    let text = format!("{AUTH}\n{}", prod(&aws, "push", ""));
    let settings = Settings::new(&text).layer("[server.timeouts]\nrequest_ms = 800\n");
    let scene = Scene::on(settings, aws).await;
    let late = Answer::After(Duration::from_millis(1_200), Box::new(Answer::access_denied()));
    scene.aws.always(MINT, late);
    let answer = scene.my_app().await;
    assert_eq!(problem(&answer), (504, "upstream-timeout".to_owned()));
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    eventually("the failure is logged", async || logged(&id, "a mint failed") == 1).await;
    assert_eq!(logged(&id, "request failed"), 1, "{}", logs::text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_costs_each_caller_its_own_deadline() {
    let aws = Stub::start().await;
    let text = format!("{AUTH}\n{}", prod(&aws, "push", ""));
    let settings = Settings::new(&text).layer("[server.timeouts]\nrequest_ms = 800\n");
    let scene = Arc::new(Scene::on(settings, aws).await);
    scene.aws.always(MINT, Answer::late(Duration::from_millis(1_400)));
    let answers = crowd(&scene, 100).await;
    for answer in &answers {
        assert_eq!(problem(answer), (504, "upstream-timeout".to_owned()));
    }
    // All callers are gone, the one that it was started for too. The mint is not lost.
    eventually("the mint ends", async || {
        scene.broker.audit().iter().any(|record| record["event"] == "issue.minted")
    })
    .await;
    let answer = scene.my_app().await;
    assert_eq!(scene.source(&answer), "cached");
    assert_eq!(scene.mints(), 1);
}

#[tokio::test]
async fn a_registry_that_is_down_is_left_alone() {
    let scene = Scene::start("cache = { share = \"off\" }").await;
    scene.aws.always("AssumeRole", Answer::error(500, "InternalFailure"));
    for _ in 0..5 {
        assert_eq!(problem(&scene.my_app().await), (503, "upstream-unavailable".to_owned()));
    }
    let calls = scene.aws.count("AssumeRole");
    let answer = scene.my_app().await;
    assert_eq!(problem(&answer), (503, "upstream-unavailable".to_owned()));
    let pause: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((4..=6).contains(&pause), "{pause}");
    assert_eq!(scene.aws.count("AssumeRole"), calls);
    let ready = scene.broker.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.json()["left_alone"]["prod"]["seconds"].is_u64(), "{}", ready.text);
    let gauge = "rise_broker_registry_left_alone{registry=\"prod\"} 1";
    assert!(scene.broker.admin("/metrics").await.text.contains(gauge));
    scene.aws.always("AssumeRole", Answer::Usual);
    scene.forward(6);
    assert_eq!(scene.my_app().await.status, 200);
    assert_eq!(scene.broker.admin("/readyz").await.json()["left_alone"], json!({}));
}

/// The turns of those who wait are a second apart. They hear at once that the registry is down.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_registry_that_goes_down_hears_it_at_once() {
    let aws = Stub::start().await;
    let limits = "[limits]\nregistry = { per_second = 1, burst = 5 }\n";
    let text = format!("{limits}{AUTH}\n{}", prod(&aws, "push", ""));
    let scene = Arc::new(Scene::on(Settings::new(&text), aws).await);
    scene.aws.always("AssumeRole", Answer::error(500, "InternalFailure"));
    let token = Arc::new(scene.token("ci", &json!({ "role": "reader" })));
    let started = Instant::now();
    let ask = |number: usize| {
        let (scene, token) = (Arc::clone(&scene), Arc::clone(&token));
        async move { scene.broker.credentials(&token, &format!("project=app-{number}")).await }
    };
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..14 {
        clients.spawn(ask(number));
    }
    for answer in clients.join_all().await {
        assert_eq!(problem(&answer), (503, "upstream-unavailable".to_owned()), "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
    }
    // The turn of the last one is nine seconds away.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    scene.aws.always("AssumeRole", Answer::Usual);
    scene.forward(6);
    assert_eq!(ask(99).await.status, 200);
}

/// The same `sub` of another issuer is another subject.
#[tokio::test]
async fn two_issuers_with_one_sub_share_nothing() {
    let rule = "[[rules]]\nname = \"ours\"\nissuer = \"local\"\n\
                claims = { repository = \"acme/{project}\" }\nprojects = [\"*\"]\n\
                registries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n";
    let scene = scene_that_shares(rule, RULE, "subject").await;
    let theirs = scene.token(&json!({ "sub": "ci" }));
    let ours = scene.broker.token_for("my-app");
    for token in [&theirs, &ours, &theirs, &ours] {
        assert_eq!(scene.ask(token).await, (200, String::new()));
    }
    assert_eq!(scene.aws.count(MINT), 2);
}

#[tokio::test]
async fn who_has_to_queue_hears_when_to_come_back() {
    let aws = Stub::start().await;
    let limits = "[limits]\nregistry = { per_second = 1, burst = 1 }\n";
    let text = format!("{limits}{AUTH}\n{}", prod(&aws, "push", ""));
    let settings = Settings::new(&text).layer("[server.timeouts]\nrequest_ms = 1500\n");
    let scene = Scene::on(settings, aws).await;
    let claims = json!({ "role": "reader" });
    let token = scene.token("ci", &claims);
    let ask = async |number: usize| {
        scene.broker.credentials(&token, &format!("project=app-{number}")).await
    };
    assert_eq!(ask(0).await.status, 200);
    let started = Instant::now();
    for (number, seconds) in [(1, 4), (2, 5), (3, 6)] {
        // The turns before theirs are taken.
        if number == 1 {
            for taken in 11..14 {
                let _ = tokio::time::timeout(Duration::from_millis(50), ask(taken)).await;
            }
        }
        let answer = ask(number).await;
        assert_eq!(problem(&answer), (503, "overloaded".to_owned()), "{}", answer.text);
        let pause: i64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((seconds - 2..=seconds).contains(&pause), "{number}: {pause}");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "nobody waits for nothing");
    scene.forward(6);
    eventually("the mints were made", async || scene.mints() == 7).await;
    for number in 1..=3 {
        let answer = ask(number).await;
        assert_ne!(scene.source(&answer), "minted");
    }
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let aws = Stub::start().await;
    let text = format!("[cache]\nentries = 3\nmib = 1\n{AUTH}\n{}", prod(&aws, "push", ""));
    let scene = Scene::on(Settings::new(&text), aws).await;
    let token = scene.token("ci", &json!({ "role": "reader" }));
    let ask = async |number: usize| {
        let answer = scene.broker.credentials(&token, &format!("project=app-{number}")).await;
        scene.source(&answer)
    };
    for number in 0..10 {
        assert_eq!(ask(number).await, "minted");
    }
    let issuing = &scene.broker.process.issuing;
    issuing.sweep();
    let used = issuing.cache_use();
    assert_eq!(used.entries, 3);
    assert!((1..1 << 20).contains(&used.bytes), "{used:?}");
    // The last ones stay.
    assert_eq!((ask(9).await.as_str(), ask(0).await.as_str()), ("cached", "minted"));
}

#[tokio::test]
async fn a_token_that_is_good_once_is_used_up_by_what_was_kept() {
    let settings = "replay = \"single_use\"";
    let scene = scene_that_shares(settings, RULE, "subject").await;
    scene.later(2);
    let [one, two] = ["one", "two"].map(|id| scene.token(&json!({ "jti": id })));
    assert_eq!(scene.ask(&one).await.0, 200);
    assert_eq!(scene.ask(&two).await.0, 200);
    assert_eq!(scene.aws.count(MINT), 1);
    for token in [&one, &two] {
        assert_eq!(scene.ask(token).await, (401, "token-replayed".to_owned()));
    }
}
