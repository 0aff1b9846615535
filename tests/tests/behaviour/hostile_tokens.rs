//! A provider that asks for tokens beyond its registry's ceiling, and one that passes on an
//! identity token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rise_broker_tests::registry::registry;
use rise_broker_tests::{AUTH, Imaginary, Response, SIGNING, Settings, TestBroker, lines, logs};
use serde_json::{Value, json};

const SERVICE: &str = "r.example.com";
const AUDIENCE: &str = "https://cloud.example.com";

fn settings(server: &Imaginary, misbehave: &str, trusted: bool) -> Settings {
    let table = registry("tokens-rogue")
        .with("registry_url", SERVICE)
        .with("base_url", server.url())
        .with("audience", AUDIENCE)
        .with("misbehave", misbehave)
        .with("location", "r.example.com/{project}")
        .with("trust_provider", trusted)
        .ceiling("private = true");
    Settings::new(format!("{AUTH}{SIGNING}{table}")).guests(&["tokens-rogue"])
}

async fn ask(server: &Imaginary, misbehave: &str) -> (TestBroker, Response) {
    let broker = TestBroker::with_settings(settings(server, misbehave, true)).start().await;
    let token = broker.token_for("my-app");
    let answer = broker.credentials(&token, "project=my-app&lifetime=900&actions=pull").await;
    (broker, answer)
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_signed_is_what_was_granted() {
    let server = Imaginary::start().await;
    for behaviour in ["no", "later-expiry", "no-expiry"] {
        let (broker, answer) = ask(&server, behaviour).await;
        assert_eq!(answer.status, 200, "{behaviour}: {}", answer.text);
        let json = answer.json();
        assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("host")));
        let left = json["credentials"]["expires_in"].as_i64().unwrap();
        assert!((880..=900).contains(&left), "{behaviour}: {left}");
        let claims = claims(json["credentials"]["password"].as_str().unwrap());
        let access = json!([{ "type": "repository", "name": "my-app", "actions": ["pull"] }]);
        assert_eq!((&claims["access"], &claims["aud"]), (&access, &json!(SERVICE)));
        assert_eq!(claims["iss"], "https://broker.example.com");
        assert!(claims["project"].is_null());
        let events: Vec<_> = broker.audit().iter().map(|it| it["event"].clone()).collect();
        assert_eq!(events, ["issue.intent", "issue.completed"], "{behaviour}");
    }
}

#[tokio::test]
async fn nothing_beyond_the_ceiling_is_signed() {
    let server = Imaginary::start().await;
    for (misbehave, expected) in [
        ("other-service", "a registry token for the service `other.example.com`"),
        ("service-in-other-case", "a registry token for the service `R.EXAMPLE.COM`"),
        ("injection", "a registry token for the service"),
        ("line-break", "a registry token for the service `r.example.com  X-Injected: 1`"),
        ("no-service", "a registry token for the service ``"),
        ("huge-service", "a registry token for the service `r.example.comr.example.com"),
        ("other-audience", "an identity token for the audience `sts.example.com`"),
        ("swapped", "a registry token for the service `https://cloud.example.com`"),
        ("thousands", "more than 8 signatures"),
        ("thousands-of-identities", "more than 8 signatures"),
    ] {
        let (broker, answer) = ask(&server, misbehave).await;
        assert_eq!(answer.status, 502, "{misbehave}: {}", answer.text);
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{misbehave}");
        let id = answer.header("x-request-id").unwrap();
        let logs = logs::text();
        let line = logs.lines().find(|line| line.contains(id) && line.contains("asked for"));
        let line = line.unwrap_or_else(|| panic!("{misbehave}: no line says what was asked for"));
        assert!(line.contains(expected), "{misbehave}: {line}");
        let events: Vec<_> = broker.audit().iter().map(|it| it["event"].clone()).collect();
        assert_eq!(events, ["issue.intent", "issue.failed"], "{misbehave}");
    }
}

#[tokio::test]
async fn an_identity_token_reaches_nobody_but_the_registry() {
    let server = Imaginary::start().await;
    for misbehave in [
        "identity-as-password",
        "identity-as-bearer",
        "identity-as-refresh",
        "echo-to-password",
        "echo-to-text",
        "echo-of-basic",
        "echo-of-form",
    ] {
        let before = server.heard().len();
        let (broker, answer) = ask(&server, misbehave).await;
        assert_eq!(answer.status, 502, "{misbehave}: {}", answer.text);
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{misbehave}");
        // Whatever has the claims of one: its payload begins with the same letters.
        let audit = Value::from(broker.audit()).to_string();
        let logs = logs::text();
        let id = answer.header("x-request-id").unwrap();
        assert!(logs.contains(id));
        for (place, text) in [("answer", &answer.text), ("audit", &audit), ("log", &logs)] {
            assert!(!text.contains("eyJ"), "{misbehave}: a token in the {place}");
        }
        let heard = server.heard().split_off(before);
        if misbehave.starts_with("echo") {
            assert_eq!(heard.len(), 1, "{misbehave}");
        }
        if misbehave == "echo-to-password" {
            let sent = heard[0].header("authorization").replace("Bearer ", "");
            let claims = claims(&sent);
            assert_eq!(claims["sub"], "project:my-app:registry:prod:actions:pull");
            assert_eq!(claims["aud"], AUDIENCE);
            for (claim, value) in [("project", "my-app"), ("registry", "prod"), ("actions", "pull")]
            {
                assert_eq!(claims[claim], value);
            }
            let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            assert_eq!(life, 300);
            assert!(claims["access"].is_null());
            // Nor is it a password.
            let query = format!("/token?service={SERVICE}&scope=repository:my-app:pull");
            let login = base64::engine::general_purpose::STANDARD.encode(format!("x:{sent}"));
            let request = axum::http::Request::get(query)
                .header("authorization", format!("Basic {login}"))
                .body(axum::body::Body::empty());
            assert_eq!(broker.send(request.unwrap()).await.status, 401);
        }
    }
}

#[tokio::test]
async fn a_token_of_its_own_making_is_worth_nothing() {
    let server = Imaginary::start().await;
    let (broker, answer) = ask(&server, "forged").await;
    // The operator trusts this provider, and the answer says so.
    assert_eq!(answer.json()["enforced_by"], "provider", "{}", answer.text);
    let untrusted = TestBroker::with_settings(settings(&server, "forged", false)).try_start().await;
    assert!(lines(&untrusted.err().unwrap()).contains("trust_provider"));
    drop(broker);
    // Outside `issue` there is nothing to sign for.
    let located = TestBroker::with_settings(settings(&server, "locate", true)).try_start().await;
    let problems = lines(&located.err().unwrap());
    assert!(problems.contains("capabilities are for `issue` only"), "{problems}");
}
