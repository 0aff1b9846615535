//! The capabilities `kept` and `random`, and claims of tokens: a login is made once and reaches no
//! caller, a password is made by the host, and a claim tells no configured secret.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{Imaginary, OperatorKey, Response, TestBroker, logs};
use rise_provider::testing::jwt;
use serde_json::json;

const SECRET_SUB: &str = "robot-of-the-cloud";

fn answers(server: &Imaginary, login_ends_in: i64) {
    let exp = jiff::Timestamp::now().as_second() + login_ends_in;
    let login = jwt(&json!({ "sub": "the-login", "exp": exp }));
    let body = json!({ "token": login, "other": jwt(&json!({ "sub": SECRET_SUB })) });
    server.answer(200, None, &body.to_string());
}

fn table(server: &Imaginary, how: &str) -> RegistryTable {
    registry("login-rogue")
        .with("base_url", server.url())
        .with("key", OperatorKey::p256().pem())
        .with("header", r#"{"alg":"ES256"}"#)
        .with("admin_token", ADMIN_TOKEN)
        .with("misbehave", how)
        .with("trust_provider", true)
        .ceiling("private = true")
}

async fn broker(table: impl std::fmt::Display) -> TestBroker {
    TestBroker::with_registries(table).guests(&["login-rogue"]).start().await
}

async fn ask(broker: &TestBroker) -> Response {
    broker.credentials(&broker.token_for("my-app"), "project=my-app").await
}

/// A broker whose clock is in the test's hands.
struct Moved {
    broker: TestBroker,
    /// Seconds that its clock is ahead.
    ahead: Arc<AtomicI64>,
}

impl Moved {
    async fn start(table: RegistryTable) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let offset = Arc::clone(&ahead);
        let later = move || SignedDuration::from_secs(offset.load(Ordering::SeqCst));
        let clock = Clock::from_fn(move || Clock::system().now() + later());
        let broker = TestBroker::with_registries(table).guests(&["login-rogue"]).clock(clock);
        Self { broker: broker.start().await, ahead }
    }

    fn forward(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn ask(&self) -> Response {
        let ahead = SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst));
        let claims = json!({ "repository": "acme/my-app" });
        let token = self.broker.token_of("ci", &claims, Clock::system().now() + ahead);
        self.broker.credentials(&token, "project=my-app").await
    }
}

fn paths(server: &Imaginary) -> Vec<String> {
    server.heard().into_iter().map(|heard| heard.path).collect()
}

const LOGIN: &str = "/api/tokens";
const TOKEN: &str = "/api/projects/my-app/tokens";

#[tokio::test]
async fn one_login_serves_several_grants_until_it_ends() {
    let server = Imaginary::start().await;
    answers(&server, 3600);
    let moved = Moved::start(table(&server, "no")).await;
    for _ in 0..3 {
        let answer = moved.ask().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["credentials"]["username"], SECRET_SUB);
    }
    assert_eq!(paths(&server), [LOGIN, TOKEN, TOKEN, TOKEN]);
    // The provider keeps it for ten minutes, and the last of them is for nobody.
    moved.forward(541);
    assert_eq!(moved.ask().await.status, 200);
    assert_eq!(paths(&server)[4..], [LOGIN, TOKEN]);
}

#[tokio::test]
async fn a_login_is_kept_no_longer_than_it_lives() {
    let server = Imaginary::start().await;
    answers(&server, 30);
    let broker = broker(table(&server, "no")).await;
    assert_eq!(ask(&broker).await.status, 200);
    assert_eq!(ask(&broker).await.status, 200);
    assert_eq!(paths(&server), [LOGIN, TOKEN, LOGIN, TOKEN]);
}

/// Each registry has its own, although the provider and the name are the same.
#[tokio::test]
async fn a_login_of_one_registry_is_not_found_in_another() {
    let (server, other) = (Imaginary::start().await, Imaginary::start().await);
    answers(&server, 3600);
    answers(&other, 3600);
    let text = format!("{}{}", table(&server, "no"), table(&other, "no").named("other"));
    let rules = rise_broker_tests::AUTH.replace("[\"prod\"]", "[\"prod\", \"other\"]");
    let settings = rise_broker_tests::Settings::new(format!("{rules}\n{text}"));
    let settings = settings.guests(&["login-rogue"]);
    let broker = TestBroker::with_settings(settings).start().await;
    for name in ["prod", "other"] {
        let query = format!("project=my-app&registry={name}");
        let answer = broker.credentials(&broker.token_for("my-app"), &query).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    assert_eq!(
        (paths(&server), paths(&other)),
        (vec![LOGIN.into(), TOKEN.into()], vec![LOGIN.into(), TOKEN.into()])
    );
}

#[tokio::test]
async fn a_login_that_the_registry_rejects_is_forgotten() {
    let server = Imaginary::start().await;
    answers(&server, 3600);
    let moved = Moved::start(table(&server, "no")).await;
    assert_eq!(moved.ask().await.status, 200);
    server.answer(401, None, "");
    assert_eq!(moved.ask().await.problem().as_deref(), Some("upstream-denied"));
    answers(&server, 3600);
    // A denial is remembered for ten seconds.
    moved.forward(15);
    assert_eq!(moved.ask().await.status, 200);
    assert_eq!(paths(&server), [LOGIN, TOKEN, TOKEN, LOGIN, TOKEN]);
}

#[tokio::test]
async fn what_is_kept_reaches_no_caller_and_only_what_was_taken_is_kept() {
    for (how, told) in [
        ("kept-as-password", "a login that it keeps"),
        ("taken-and-kept", "a login that it keeps"),
        ("keep-configured", "to keep a secret that comes from admin_token"),
        ("keep-assertion", "to keep a secret that comes from assertion"),
        ("keep-text", "to keep a secret that comes from guest"),
        ("claim-of-configured", "no claim"),
        ("claim-of-kept", "no claim"),
        ("weak-password", "26 bits of randomness, and 64 are the least"),
    ] {
        let server = Imaginary::start().await;
        answers(&server, 3600);
        // A configured secret may be a JWT.
        let table = table(&server, how).with("admin_token", jwt(&json!({ "sub": ADMIN_TOKEN })));
        let broker = broker(table).await;
        let answer = ask(&broker).await;
        let found = (answer.status.as_u16(), answer.problem());
        assert_eq!(found, (502, Some("provider-failed".to_owned())), "{how}: {}", answer.text);
        assert!(logs::text().contains(told), "{how}: {told}: {}", logs::text());
        assert!(!logs::text().contains(ADMIN_TOKEN), "{how}");
    }
}

/// Each password that has it in by chance would be withheld.
#[tokio::test]
async fn a_text_that_is_too_short_for_a_login_is_not_kept() {
    let server = Imaginary::start().await;
    for (login, status) in [("a", 502), ("1234567", 502), ("12345678", 200)] {
        let other = jwt(&json!({ "sub": SECRET_SUB }));
        server.answer(200, None, &json!({ "token": login, "other": other }).to_string());
        let answer = ask(&broker(table(&server, "no")).await).await;
        assert_eq!(answer.status, status, "{login}: {}", answer.text);
        let told = format!("a text of {} bytes cannot be kept", login.len());
        assert_eq!(logs::text().contains(&told), status == 502, "{login}: {}", logs::text());
    }
}

#[tokio::test]
async fn the_host_makes_passwords_and_names() {
    let server = Imaginary::start().await;
    answers(&server, 3600);
    let mut passwords = Vec::new();
    for _ in 0..2 {
        let answer = ask(&broker(table(&server, "random-password")).await).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["enforced_by"], "provider");
        passwords.push(json["credentials"]["password"].as_str().unwrap().to_owned());
    }
    assert!(passwords.iter().all(|password| password.len() == 32), "{passwords:?}");
    assert_ne!(passwords[0], passwords[1]);
    assert!(passwords.iter().all(|password| !logs::text().contains(password)));
    let answer = ask(&broker(table(&server, "random-name")).await).await;
    assert_eq!(answer.json()["credentials"]["username"].as_str().unwrap().len(), 12);
    // A password that the provider has the registry set needs trust like one from an answer.
    let untrusted = table(&server, "random-password").with("trust_provider", false);
    let settings = format!("{}\n{untrusted}", rise_broker_tests::AUTH);
    let settings = rise_broker_tests::Settings::new(settings).guests(&["login-rogue"]);
    assert!(TestBroker::with_settings(settings).try_start().await.is_err());
}

#[tokio::test]
async fn neither_works_outside_of_issue() {
    for how in ["keep-in-locate", "random-in-locate"] {
        let server = Imaginary::start().await;
        answers(&server, 3600);
        let answer = ask(&broker(table(&server, how)).await).await;
        assert_eq!(answer.status, 200, "{how}: {}", answer.text);
    }
}

/// A provider that sends no request starts without trust. A password that it makes still needs it.
#[tokio::test]
async fn a_password_of_the_host_reaches_a_caller_only_with_trust() {
    let server = Imaginary::start().await;
    let table = table(&server, "random-password")
        .without("trust_provider")
        .with("requests", Vec::<String>::new())
        .ceiling("");
    let broker = broker(table).await;
    let answer = ask(&broker).await;
    assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
    let said = "a password that the host made for it, and only the provider knows what that opens: \
                this registry does not set `trust_provider`";
    assert!(logs::text().lines().any(|line| line.contains(said)), "{}", logs::text());
}
