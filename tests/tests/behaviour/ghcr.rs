//! GitHub Container Registry: stored tokens for pulls or pushes, and the job's own login where none
//! is stored.

use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{Response, TestBroker, lines, logs};
use serde_json::json;

const TOKENS: (&str, &str) = ("canary-ghp-write-51ab", "canary-ghp-read-0c9d");

fn table() -> RegistryTable {
    registry("ghcr").with("registry_url", "ghcr.io").with("namespace", "acme")
}

/// With a token for pulls alone.
fn pulls() -> RegistryTable {
    table()
        .with("username", "acme-images")
        .with("pull_password", TOKENS.1)
        .with("accept_scope", "registry")
}

async fn start(table: RegistryTable) -> TestBroker {
    TestBroker::with_registries(table).providers(&["ghcr"]).start().await
}

async fn ask(broker: &TestBroker, actions: &str) -> Response {
    let token = broker.token_for("my-app");
    broker.credentials(&token, &format!("project=my-app&actions={actions}")).await
}

#[tokio::test]
async fn a_job_pushes_with_its_own_login_and_a_node_pulls_with_the_stored_one() {
    let broker = start(pulls()).await;
    let push = ask(&broker, "pull,push").await.json();
    assert_eq!(push["credentials"]["kind"], "client-auth", "{push}");
    assert_eq!((&push["scope"], &push["image"]), (&json!("none"), &json!("ghcr.io/acme/my-app")));
    assert_eq!(push["credentials"]["password"], "");
    let pull = ask(&broker, "pull").await.json();
    assert_eq!((&pull["scope"], &pull["enforced_by"]), (&json!("registry"), &json!("host")));
    assert_eq!(pull["credentials"]["username"], "acme-images");
    assert_eq!(pull["credentials"]["password"], TOKENS.1);
    assert_eq!(pull["credentials"]["expires_at"], json!(null));
}

#[tokio::test]
async fn a_push_gets_the_token_that_may_push_and_a_pull_does_not() {
    let broker = start(pulls().with("password", TOKENS.0)).await;
    for (actions, token) in [("push", TOKENS.0), ("pull,push", TOKENS.0), ("pull", TOKENS.1)] {
        let answer = ask(&broker, actions).await.json();
        assert_eq!(answer["credentials"]["password"], token, "{actions}");
    }
    for text in [logs::text(), serde_json::to_string(&broker.audit()).unwrap()] {
        for token in [TOKENS.0, TOKENS.1] {
            assert!(!text.contains(token), "{text}");
        }
    }
}

#[tokio::test]
async fn a_stored_token_is_accepted_as_what_it_is() {
    let started = TestBroker::with_registries(pulls().without("accept_scope"));
    let problems = started.providers(&["ghcr"]).try_start().await.err().expect("a problem");
    assert!(lines(&problems).contains("accept_scope = \"registry\""), "{}", lines(&problems));
    // Without any, there is nothing to accept.
    let broker = start(table()).await;
    for actions in ["pull", "pull,push"] {
        let answer = ask(&broker, actions).await.json();
        assert_eq!(answer["credentials"]["kind"], "client-auth", "{answer}");
    }
}
