//! Tokens of an independent OIDC provider, accepted by discovery over loopback http.

use rise_broker_tests::registry::oci;
use rise_broker_tests::{Oidc, Response, Settings, TestBroker, logs};
use serde_json::{Value, json};

const AUDIENCE: &str = "rise-registry";
const SUBJECT: &str = "repo:acme/my-app:ref:refs/heads/main";

/// A broker that trusts `issuer`, and gives callers a registry's shared login by their claim
/// `repository`.
async fn broker(issuer: &str, algorithm: &str) -> TestBroker {
    let registry = oci("localhost:5000").account("demo", "oidc-canary-password");
    let text = format!(
        r#"
[auth]
audience = "{AUDIENCE}"
[[auth.issuers]]
name = "mock"
issuer = "{issuer}"
algorithms = ["{algorithm}"]
[[rules]]
name = "ci"
issuer = "mock"
claims = {{ repository = "acme/{{project}}", ref = "refs/heads/main" }}
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
{registry}"#
    );
    TestBroker::with_settings(Settings::new(text)).start().await
}

async fn token(oidc: &Oidc, audience: &str) -> String {
    let claims = json!({ "repository": "acme/my-app", "ref": "refs/heads/main" });
    oidc.token(SUBJECT, audience, &claims).await
}

async fn ask(broker: &TestBroker, token: &str) -> Response {
    broker.credentials(token, "project=my-app").await
}

/// Checks for 401, a problem and a challenge, without the reason, which is for the operator.
fn expect_refused(answer: &Response, case: &str) {
    assert_eq!(answer.status, 401, "{case}: {}", answer.text);
    assert_eq!(answer.problem().as_deref(), Some("invalid-token"), "{case}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{case}");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{case}");
    for hidden in ["127.0.0.1", "signature", "acme", AUDIENCE, "canary"] {
        assert!(!answer.text.contains(hidden), "{case}: {}", answer.text);
    }
}

/// The log line about a request that was refused.
fn reason(answer: &Response) -> String {
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    let logs = logs::text();
    logs.lines().find(|line| line.contains(&id)).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_foreign_providers_token_is_accepted_by_discovery() {
    let oidc = Oidc::start().await;
    let broker = broker(oidc.issuer(), "RS256").await;
    let token = token(&oidc, AUDIENCE).await;
    let answer = ask(&broker, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["credentials"]["password"], "oidc-canary-password");
    let subject = &broker.audit()[0]["subject"];
    assert_eq!(*subject, json!({ "issuer": "mock", "sub": SUBJECT }));

    // The rule reads each of the token's claims.
    assert_eq!(broker.credentials(&token, "project=other").await.status, 403);
    let branch = json!({ "repository": "acme/my-app", "ref": "refs/heads/feature" });
    let branch = oidc.token(SUBJECT, AUDIENCE, &branch).await;
    assert_eq!(ask(&broker, &branch).await.problem().as_deref(), Some("access-denied"));
    let nothing = oidc.token("alice", AUDIENCE, &json!({})).await;
    assert_eq!(ask(&broker, &nothing).await.problem().as_deref(), Some("access-denied"));
    assert!(!logs::text().contains(&token));
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let oidc = Oidc::start_with_token_seconds(-300).await;
    let broker = broker(oidc.issuer(), "RS256").await;
    let answer = ask(&broker, &token(&oidc, AUDIENCE).await).await;
    expect_refused(&answer, "expired");
    assert!(reason(&answer).contains("the token has expired"), "{}", reason(&answer));
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused() {
    let oidc = Oidc::start().await;
    let broker = broker(oidc.issuer(), "RS256").await;
    for audience in ["another", "rise-registry-2", "RISE-REGISTRY"] {
        let answer = ask(&broker, &token(&oidc, audience).await).await;
        expect_refused(&answer, audience);
        assert!(reason(&answer).contains("`aud`"), "{}", reason(&answer));
    }
}

#[tokio::test]
async fn a_token_that_was_changed_is_refused() {
    let oidc = Oidc::start().await;
    let broker = broker(oidc.issuer(), "RS256").await;
    let mine = token(&oidc, AUDIENCE).await;
    let other = json!({ "repository": "acme/other", "ref": "refs/heads/main" });
    let other = oidc.token(SUBJECT, AUDIENCE, &other).await;
    let [header, payload, signature] =
        mine.split('.').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{mine}"));
    let other_payload = other.split('.').nth(1).unwrap();
    let turned = if signature.starts_with('A') { "B" } else { "A" };
    for (case, changed) in [
        ("signature", format!("{header}.{payload}.{turned}{}", &signature[1..])),
        ("payload", format!("{header}.{other_payload}.{signature}")),
        ("no signature", format!("{header}.{payload}.")),
    ] {
        expect_refused(&ask(&broker, &changed).await, case);
    }
    assert_eq!(ask(&broker, &mine).await.status, 200, "as it was, it is good");
}

#[tokio::test]
async fn an_issuer_that_is_not_configured_is_unknown() {
    let (known, unknown) = tokio::join!(Oidc::start(), Oidc::start());
    let broker = broker(known.issuer(), "RS256").await;
    let answer = ask(&broker, &token(&unknown, AUDIENCE).await).await;
    expect_refused(&answer, "unknown issuer");
    assert!(reason(&answer).contains("not one of the configured issuers"), "{}", reason(&answer));
    assert_eq!(ask(&broker, &token(&known, AUDIENCE).await).await.status, 200);
    assert!(known.process().output().contains("GET /jwks"));
    assert!(!unknown.process().output().contains("GET /jwks"), "nobody asked it for keys");
}

#[tokio::test]
async fn an_algorithm_that_the_issuer_is_not_known_for_is_refused() {
    let oidc = Oidc::start().await;
    let broker = broker(oidc.issuer(), "ES256").await;
    let answer = ask(&broker, &token(&oidc, AUDIENCE).await).await;
    expect_refused(&answer, "RS256");
    assert!(reason(&answer).contains("`algorithms`"), "{}", reason(&answer));
}

#[tokio::test]
async fn an_issuer_that_is_down_from_the_start_makes_its_callers_wait() {
    let oidc = Oidc::start().await;
    let token = token(&oidc, AUDIENCE).await;
    let broker = broker(oidc.issuer(), "RS256").await;
    drop(oidc);
    let answer = ask(&broker, &token).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.problem().as_deref(), Some("issuer-unavailable"));
    let pause: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&pause), "{pause}");
    assert_eq!(answer.header("www-authenticate"), None, "another token would not help");
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    assert_eq!(broker.audit(), [] as [Value; 0], "nobody was known");
}

#[tokio::test]
async fn keys_that_were_fetched_outlive_their_issuer() {
    let oidc = Oidc::start().await;
    let broker = broker(oidc.issuer(), "RS256").await;
    let (first, second) = (token(&oidc, AUDIENCE).await, token(&oidc, AUDIENCE).await);
    assert_eq!(ask(&broker, &first).await.status, 200);
    drop(oidc);
    assert_eq!(ask(&broker, &first).await.status, 200);
    assert_eq!(ask(&broker, &second).await.status, 200, "one that was never seen before");
}
