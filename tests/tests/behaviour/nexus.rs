//! Sonatype Nexus: its double is driven by the client of Sonatype's community, then by the broker.
//! `ended_by_the_broker.rs` has what holds for the end of its users.

use rise_broker_tests::{
    AUTH, Installation, Minting, NEXUS, NEXUS_ADMIN, TestBroker, logs, repository, vendor_client,
};
use serde_json::{Value, json};

async fn client(server: &Minting, arguments: &[&str]) -> Value {
    let url = server.url();
    let login = [url.as_str(), NEXUS_ADMIN.0, NEXUS_ADMIN.1];
    let arguments: Vec<&str> = login.into_iter().chain(arguments.iter().copied()).collect();
    vendor_client("nexus_client.py", &arguments).await
}

/// The double is what a client of others takes it for.
#[tokio::test]
async fn the_client_of_the_community_makes_finds_and_deletes_users() {
    let server = Minting::start(&NEXUS).await;
    let made = client(&server, &["create", "rise-job-1", "s3cret-of-job-1", "rise-push"]).await;
    let made = &made["ok"];
    assert_eq!((&made["userId"], &made["source"]), (&json!("rise-job-1"), &json!("default")));
    assert_eq!(made["roles"], json!(["rise-push"]));
    let login =
        json!({ "credentials": { "username": "rise-job-1", "password": "s3cret-of-job-1" } });
    assert_eq!(server.opens(&login, "rise/my-app").await, 200);
    assert_eq!(server.opens(&login, "other/my-app").await, 401);
    // An id is taken once, and a role must exist.
    for wrong in [["rise-job-1", "x", "rise-pull"], ["rise-job-2", "x", "nobody"]] {
        let refused = client(&server, &[&["create"], &wrong[..]].concat()).await;
        assert!(refused["error"].as_str().unwrap().contains("400"), "{refused}");
    }
    // A list has what begins with the text.
    client(&server, &["create", "rise-job-11", "x", "rise-pull"]).await;
    let found = client(&server, &["find", "rise-job-1"]).await;
    assert_eq!(found["ok"], json!(["rise-job-1", "rise-job-11"]));
    assert_eq!(client(&server, &["delete", "rise-job-1"]).await["ok"], true);
    assert_eq!(server.opens(&login, "rise/my-app").await, 401);
    let gone = client(&server, &["delete", "rise-job-1"]).await;
    assert!(gone["error"].as_str().unwrap().contains("404"), "{gone}");
    assert_eq!(server.alive(), ["rise-job-11"]);
}

#[tokio::test]
async fn a_user_has_the_role_of_the_granted_actions_and_is_named_after_the_request() {
    let server = Minting::start(&NEXUS).await;
    let broker = TestBroker::with_registries(server.table()).providers(&["nexus"]).start().await;
    for (actions, role) in
        [("pull", "rise-pull"), ("push", "rise-push"), ("pull,push", "rise-push")]
    {
        let query = format!("project=my-app&actions={actions}");
        let answer = broker.credentials(&broker.token_for("my-app"), &query).await.json();
        let id = answer["request_id"].as_str().unwrap().to_lowercase();
        let user = server.only();
        assert_eq!(user.name, format!("rise-{id}"));
        assert_eq!(answer["credentials"]["username"], user.name);
        assert_eq!(answer["credentials"]["password"], user.secret);
        assert_eq!(user.secret.len(), 32);
        assert_eq!(user.scopes, [role]);
        server.remove_all();
    }
}

/// The role of the settings does not exist. Nothing was made, so nothing is to end.
#[tokio::test]
async fn a_missing_role_is_told_to_the_operator() {
    let server = Minting::start(&NEXUS).await;
    let table = server.table().with("push_role", "rise-typo");
    let broker = TestBroker::with_registries(table).providers(&["nexus"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    let said = "does it have the role `rise-typo`? It wrote:";
    assert!(logs::text().lines().any(|line| line.contains(said)), "{}", logs::text());
    assert_eq!(broker.process.issuing.outstanding().credentials, 0);
}

/// Everything that only the operator can say is asked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_has_to_accept_is_told_at_once() {
    let server = Minting::start(&NEXUS).await;
    let table = server.table().without("trust_provider").without("accept_scope").ceiling("");
    let installation = Installation::new(format!("{AUTH}{table}"));
    installation.provider(&repository().join("dist/providers/nexus.wasm"), "nexus");
    let printed = installation.run(&["check"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stdout);
    for missing in [
        "set `accept_scope = \"namespace\"`",
        "registries.prod.trust_provider: missing; the provider `nexus` issues what the registry \
         returns over HTTP or what it makes itself",
        "`ceiling.http.private = true`",
    ] {
        assert!(printed.stderr.contains(missing), "{missing}: {}", printed.stderr);
    }
}
