//! Registries whose credentials would live longer than was granted: the broker ends each at the end
//! of its grant, also after a restart, after a failed mint, and once a registry that was away
//! answers again. Each guarantee is one function, and holds for every registry of [`guarantees`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::{
    AUTH, Client, GITEA, GITLAB, HARBOR, HUB_ORGANIZATION, Installation, Minting, MintingKind,
    MintingMood, NEXUS, Response, Serving, Settings, TestBroker, eventually, logs, repository,
};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Makes a module with a test of each guarantee, for each registry.
macro_rules! guarantees {
    ($($name:ident: $kind:expr,)+) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn a_credential_lives_as_long_as_was_granted() {
                super::a_credential_lives_as_long_as_was_granted(&$kind).await;
            }

            #[tokio::test]
            async fn its_caller_and_an_operator_end_a_credential() {
                super::its_caller_and_an_operator_end_a_credential(&$kind).await;
            }

            #[tokio::test]
            async fn a_registry_that_ended_nothing_is_caught_up_with() {
                super::a_registry_that_ended_nothing_is_caught_up_with(&$kind).await;
            }

            #[tokio::test]
            async fn a_registry_that_throttles_is_left_alone_for_a_while() {
                super::a_registry_that_throttles_is_left_alone_for_a_while(&$kind).await;
            }

            #[tokio::test]
            async fn a_failed_mint_leaves_nothing_behind() {
                super::a_failed_mint_leaves_nothing_behind(&$kind).await;
            }

            #[tokio::test]
            async fn what_is_made_late_is_ended_too() {
                super::what_is_made_late_is_ended_too(&$kind).await;
            }

            #[tokio::test]
            async fn a_credential_that_got_the_id_since_is_left_alone() {
                super::a_credential_that_got_the_id_since_is_left_alone(&$kind).await;
            }

            #[tokio::test]
            async fn a_restart_forgets_nothing() {
                super::a_restart_forgets_nothing(&$kind).await;
            }

            #[tokio::test]
            async fn another_registry_is_not_taken_for_the_one_before() {
                super::another_registry_is_not_taken_for_the_one_before(&$kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_killed_broker_leaves_nothing_behind() {
                super::a_killed_broker_leaves_nothing_behind(&$kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_broker_killed_while_it_ends_a_credential_ends_it_later() {
                super::a_broker_killed_while_it_ends_a_credential_ends_it_later(&$kind).await;
            }
        })+
    };
}

guarantees! {
    harbor: HARBOR,
    gitlab: GITLAB,
    gitea: GITEA,
    nexus: NEXUS,
    dockerhub: HUB_ORGANIZATION,
}

const OPERATOR: &str = r#"
[[operators]]
name = "sre"
issuer = "local"
claims = { role = "operator" }
allow = ["revoke"]
"#;

/// A clock that a test moves on.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicI64>);

impl Ahead {
    fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        let system = Clock::system();
        Clock::from_fn(move || {
            system.now() + SignedDuration::from_secs(seconds.load(Ordering::Relaxed))
        })
    }

    fn by(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// A registry, a broker, and the broker's clock.
struct Scene {
    server: Minting,
    broker: TestBroker,
    ahead: Ahead,
    kind: &'static MintingKind,
}

impl Scene {
    async fn of(kind: &'static MintingKind) -> Self {
        let (server, ahead) = (Minting::start(kind).await, Ahead::default());
        let broker = Self::broker(&server, &ahead, kind).await;
        Self { server, broker, ahead, kind }
    }

    async fn broker(server: &Minting, ahead: &Ahead, kind: &MintingKind) -> TestBroker {
        TestBroker::with_registries(server.table())
            .providers(&[kind.provider])
            .clock(ahead.clock())
            .start()
            .await
    }

    async fn ask(&self, query: &str) -> Response {
        let token = self.broker.token_for("my-app");
        self.broker.credentials(&token, &format!("project=my-app{query}")).await
    }

    async fn issue(&self, query: &str) -> Value {
        let answer = self.ask(query).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    async fn opens(&self, answer: &Value) -> u16 {
        self.server.opens(answer, self.kind.repository).await
    }

    /// The events about one mint that are recorded.
    fn events(&self, minted_by: &str) -> Vec<String> {
        let records = self.broker.audit();
        let of = records.iter().filter(|record| record["minted_by"] == minted_by);
        of.map(|record| record["event"].as_str().unwrap().to_owned()).collect()
    }

    async fn metrics(&self) -> String {
        self.broker.admin("/metrics").await.text
    }

    async fn until_empty(&self) {
        eventually("no credential is left, in the registry and on the list", async || {
            // Where nobody knows what the registry has made, it is asked again a minute later.
            self.ahead.by(1);
            self.broker.end_due();
            self.server.alive().is_empty()
                && self.broker.process.issuing.outstanding().credentials == 0
        })
        .await;
    }

    /// Searches everything that the broker wrote, except answers with a credential.
    async fn expect_no_secret(&self) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        let texts = [("audit", audit), ("log", logs::text()), ("metrics", self.metrics().await)];
        for secret in self.server.secrets() {
            for (name, text) in &texts {
                assert!(!text.contains(&secret), "{secret} in {name}");
            }
        }
    }
}

async fn until_empty(server: &Minting, broker: &TestBroker) {
    eventually("no credential is left", async || {
        broker.end_due();
        server.alive().is_empty()
    })
    .await;
    eventually("the list is empty", async || broker.process.issuing.outstanding().credentials == 0)
        .await;
}

async fn a_credential_lives_as_long_as_was_granted(kind: &'static MintingKind) {
    let scene = Scene::of(kind).await;
    let answer = scene.issue("&lifetime=600").await;
    let accepted = scene.server.table().setting("accept_scope");
    let scope = if accepted.is_empty() { "repository" } else { &accepted };
    assert_eq!((&answer["scope"], &answer["ended_by"]), (&json!(scope), &json!("broker")));
    assert_eq!(answer["enforced_by"], "provider");
    assert_eq!(answer["repository"], kind.repository);
    let left = answer["credentials"]["expires_in"].as_i64().unwrap();
    assert!((595..=600).contains(&left), "{left}");
    let minted = scene.server.only();
    assert_eq!(answer["credentials"]["username"], minted.username);
    assert_eq!(scene.opens(&answer).await, 200);

    // Nothing happens before its end.
    let id = answer["request_id"].as_str().unwrap();
    scene.ahead.by(590);
    scene.broker.end_due();
    assert_eq!(scene.opens(&answer).await, 200);
    assert_eq!(scene.events(id), ["issue.completed"]);
    scene.ahead.by(15);
    scene.until_empty().await;
    assert_eq!(scene.opens(&answer).await, 401);
    let expected = ["issue.completed", "revoke.intent", "revoke.completed"];
    eventually("the end is recorded", async || scene.events(id) == expected).await;
    scene.expect_no_secret().await;
}

/// `revocation.rs` has the cases of these.
async fn its_caller_and_an_operator_end_a_credential(kind: &'static MintingKind) {
    let server = Minting::start(kind).await;
    let settings = Settings::new(format!("{AUTH}{}{OPERATOR}", server.table()));
    let broker = TestBroker::with_settings(settings).providers(&[kind.provider]).start().await;
    let token = broker.token(&json!({ "repository": "acme/my-app", "role": "operator" }));
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = broker.credentials(&token, "project=my-app").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answers.push(answer.json());
    }
    let path = |answer: &Value| {
        format!("/api/v1/registry/credentials/{}", answer["request_id"].as_str().unwrap())
    };
    let ended = broker.delete(&path(&answers[0]), &token).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["state"]), (200, &json!("ended")));
    let mut opens = Vec::new();
    for answer in &answers {
        opens.push(server.opens(answer, kind.repository).await);
    }
    assert_eq!(opens, [401, 200, 200]);
    let body = json!({ "provider": kind.provider });
    let all = broker.post("/api/v1/registry/revocations", &token, &body).await;
    assert_eq!((all.status.as_u16(), &all.json()["matched"]), (202, &json!(2)), "{}", all.text);
    until_empty(&server, &broker).await;
    for answer in &answers {
        assert_eq!(server.opens(answer, kind.repository).await, 401);
    }
}

async fn a_registry_that_ended_nothing_is_caught_up_with(kind: &'static MintingKind) {
    for mood in [MintingMood::Away, MintingMood::Refuses, MintingMood::Throttles] {
        let scene = Scene::of(kind).await;
        let mut answers = Vec::new();
        for action in ["pull", "push"] {
            answers.push(scene.issue(&format!("&lifetime=600&actions={action}")).await);
        }
        scene.server.mood(Some(mood));
        scene.ahead.by(605);
        eventually("the end is tried", async || {
            scene.broker.end_due();
            scene.broker.audit().iter().any(|record| record["event"] == "revoke.failed")
        })
        .await;
        let metrics = scene.metrics().await;
        assert!(metrics.contains("rise_broker_overdue_credentials 2"), "{mood:?}: {metrics}");
        assert_eq!(scene.server.alive().len(), 2, "{mood:?}");
        scene.server.mood(None);
        scene.ahead.by(60);
        scene.until_empty().await;
        for answer in &answers {
            assert_eq!(scene.opens(answer).await, 401, "{mood:?}");
        }
        let metrics = scene.metrics().await;
        assert!(metrics.contains("rise_broker_overdue_credentials 0"), "{mood:?}: {metrics}");
        scene.expect_no_secret().await;
    }
}

/// For as long as it asked for, 30 seconds.
async fn a_registry_that_throttles_is_left_alone_for_a_while(kind: &'static MintingKind) {
    let scene = Scene::of(kind).await;
    let answer = scene.issue("&lifetime=600").await;
    scene.server.mood(Some(MintingMood::Throttles));
    scene.ahead.by(605);
    let id = answer["request_id"].as_str().unwrap();
    let expected = ["issue.completed", "revoke.intent", "revoke.failed"];
    eventually("the end is tried", async || {
        scene.broker.end_due();
        scene.events(id) == expected
    })
    .await;
    scene.server.mood(None);
    scene.ahead.by(20);
    scene.broker.end_due();
    // Several times what an end would take.
    for _ in 0..5 {
        scene.issue("&lifetime=43200").await;
    }
    assert_eq!(scene.events(id), expected);
    assert_eq!(scene.opens(&answer).await, 200);
    scene.ahead.by(15);
    eventually("the credential is ended", async || {
        scene.broker.end_due();
        scene.opens(&answer).await == 401
    })
    .await;
}

/// Nobody got these credentials, so nobody else would delete them.
async fn a_failed_mint_leaves_nothing_behind(kind: &'static MintingKind) {
    for (mood, status, made) in [
        (MintingMood::OtherName, 502, 1),
        (MintingMood::OwnLogin, 502, 1),
        (MintingMood::LosesAnswer, 503, 1),
        (MintingMood::Hangs, 504, 1),
        (MintingMood::Away, 503, 0),
        (MintingMood::Throttles, 503, 0),
    ] {
        if mood == MintingMood::OwnLogin && kind.member.is_none() {
            continue;
        }
        let scene = Scene::of(kind).await;
        scene.server.mood(Some(mood));
        let answer = scene.ask("").await;
        assert_eq!(answer.status, status, "{mood:?}: {}", answer.text);
        assert_eq!(scene.server.alive().len(), made, "{mood:?}");
        for secret in scene.server.secrets() {
            assert!(!answer.text.contains(&secret), "{mood:?}: {secret}");
        }
        scene.server.mood(None);
        if mood == MintingMood::OtherName {
            // It is not the grant's credential, and nobody but a person can say whose it is.
            continue;
        }
        scene.until_empty().await;
        scene.expect_no_secret().await;
    }
}

/// The registry was asked, and does it when the broker has looked and found nothing.
async fn what_is_made_late_is_ended_too(kind: &'static MintingKind) {
    let scene = Scene::of(kind).await;
    scene.server.mood(Some(MintingMood::Late));
    assert_eq!(scene.ask("").await.status, 503);
    scene.server.mood(None);
    let asked = scene.server.requests().len();
    eventually("the broker has looked", async || {
        scene.broker.end_due();
        scene.server.requests().len() > asked
    })
    .await;
    scene.server.arrive();
    assert_eq!(scene.server.alive().len(), 1);
    scene.until_empty().await;
    let completed = |record: &Value| record["event"] == "revoke.completed";
    eventually("its end is recorded once", async || {
        scene.broker.audit().iter().filter(|record| completed(record)).count() == 1
    })
    .await;
}

async fn a_credential_that_got_the_id_since_is_left_alone(kind: &'static MintingKind) {
    let scene = Scene::of(kind).await;
    scene.issue("&lifetime=600").await;
    scene.server.replace_all();
    scene.ahead.by(605);
    eventually("the list is empty", async || {
        scene.broker.end_due();
        scene.broker.process.issuing.outstanding().credentials == 0
    })
    .await;
    assert_eq!(scene.server.alive(), ["release"]);
}

/// What the log of the process before says is all that the next one has.
async fn a_restart_forgets_nothing(kind: &'static MintingKind) {
    let scene = Scene::of(kind).await;
    let one = scene.issue("&lifetime=600&actions=pull").await;
    let two = scene.issue("&lifetime=3600&actions=push").await;
    let next = Scene::broker(&scene.server, &scene.ahead, kind).await;
    next.recover(scene.broker.settings.path("audit")).await;
    assert_eq!(next.process.issuing.outstanding().credentials, 2);
    scene.ahead.by(605);
    eventually("the first has ended", async || {
        next.end_due();
        scene.server.alive().len() == 1
    })
    .await;
    assert_eq!(scene.opens(&one).await, 401);
    assert_eq!(scene.opens(&two).await, 200);
    scene.ahead.by(3000);
    until_empty(&scene.server, &next).await;
}

/// The settings were changed before the end. Another registry has no such credential, and says so.
async fn another_registry_is_not_taken_for_the_one_before(kind: &'static MintingKind) {
    let scene = Scene::of(kind).await;
    let answer = scene.issue("&lifetime=600").await;
    let other = Minting::start(kind).await;
    let changed = Scene::broker(&other, &scene.ahead, kind).await;
    changed.recover(scene.broker.settings.path("audit")).await;
    scene.ahead.by(605);
    eventually("the end is tried", async || {
        changed.end_due();
        changed.audit().iter().any(|record| record["event"] == "revoke.failed")
    })
    .await;
    assert_eq!(changed.process.issuing.outstanding().overdue, 1);
    assert_eq!(other.requests(), Vec::<String>::new());
    let url = format!("`{}/", scene.server.url());
    let said = |line: &str| line.contains(&url) && line.contains("was made with other settings");
    assert!(logs::text().lines().any(said), "{}", logs::text());
    assert_eq!(scene.opens(&answer).await, 200);
    // With the settings as they were, it ends.
    scene.until_empty().await;
}

/// Killed while the registry makes the credential: there is an intent and nothing else.
async fn a_killed_broker_leaves_nothing_behind(kind: &'static MintingKind) {
    let server = Minting::start(kind).await;
    let installation = installation(&server, kind);
    let mut serving = installation.serve();
    server.mood(Some(MintingMood::Hangs));
    let asking = ask_of(&serving, &installation);
    eventually("the registry makes a credential", async || server.alive().len() == 1).await;
    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    asking.abort();
    server.mood(None);
    let _serving = installation.serve();
    eventually("the credential is deleted", async || server.alive().is_empty()).await;
    let records = installation.audit();
    let ended = records.iter().find(|record| record["event"] == "revoke.intent").unwrap();
    assert_eq!(ended["revocation"]["cause"], "not-issued", "{ended}");
}

/// Killed while the registry deletes the credential.
async fn a_broker_killed_while_it_ends_a_credential_ends_it_later(kind: &'static MintingKind) {
    let server = Minting::start(kind).await;
    let installation = installation(&server, kind);
    let mut serving = installation.serve();
    server.mood(Some(MintingMood::LosesAnswerAndHangs));
    assert_eq!(ask_of(&serving, &installation).await.unwrap(), Some(503));
    eventually("the registry is to delete the credential", async || {
        server.requests().iter().any(|request| request.starts_with("DELETE"))
    })
    .await;
    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    assert_eq!(server.alive().len(), 1);
    server.mood(None);
    let _serving = installation.serve();
    eventually("the credential is deleted", async || server.alive().is_empty()).await;
}

/// A broker as a program, with this registry.
fn installation(server: &Minting, kind: &MintingKind) -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{}", server.table()));
    installation.unlimited();
    let component = format!("dist/providers/{}.wasm", kind.provider);
    installation.provider(&repository().join(component), kind.provider);
    installation
}

/// Asks a running broker for a credential. Returns the status of its answer.
fn ask_of(serving: &Serving, installation: &Installation) -> JoinHandle<Option<u16>> {
    let token = installation.token_for("my-app");
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    tokio::spawn(async move { Client::new().get_as(&url, &token).await.ok().map(|it| it.status) })
}
