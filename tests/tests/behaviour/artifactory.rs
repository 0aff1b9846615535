//! Artifactory: its double is driven by pyartifactory, then by the broker, and the issued tokens by
//! pyartifactory again. A double that lies gets nothing through.

use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    ARTIFACTORY_ADMIN, Artifactory, ArtifactoryLie, Response, TestBroker, logs, vendor_client,
};
use serde_json::{Value, json};

const CLIENT: &str = "artifactory_client.py";
const PROVIDER: &[&str] = &["artifactory"];

fn table(server: &Artifactory) -> RegistryTable {
    registry("artifactory")
        .with("base_url", server.url())
        .with("repository", "docker-local")
        .with("access_token", ARTIFACTORY_ADMIN)
        .with("trust_provider", true)
        .ceiling("private = true")
}

async fn ask(broker: &TestBroker, query: &str) -> Response {
    broker.credentials(&broker.token_for("my-app"), &format!("project=my-app{query}")).await
}

async fn client(server: &Artifactory, arguments: &[&str]) -> Value {
    let url = server.url();
    let arguments: Vec<&str> =
        [url.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    vendor_client(CLIENT, &arguments).await
}

/// The double is what a client of others takes it for.
#[tokio::test]
async fn pyartifactory_makes_uses_and_revokes_tokens() {
    let server = Artifactory::start().await;
    let scope = "artifact:docker-local/team/app/**:r,w";
    let made = client(&server, &["token", ARTIFACTORY_ADMIN, "Robot", scope, "600"]).await;
    let made = &made["ok"];
    assert_eq!((&made["scope"], &made["expires_in"]), (&json!(scope), &json!(600)), "{made}");
    let token = made["access_token"].as_str().unwrap();
    let path = "docker-local/team/app/latest/manifest.json";
    let pushed = client(&server, &["push", "robot", token, path]).await;
    assert_eq!(pushed["ok"], "/team/app/latest/manifest.json", "{pushed}");
    // Without `d`, nothing is replaced; elsewhere, nothing is written.
    for path in [path, "docker-local/team/app2/x", "docker-local/other/x", "other/team/app/x"] {
        let refused = client(&server, &["push", "robot", token, path]).await;
        assert_eq!(refused["status"], 403, "{path}: {refused}");
    }
    assert_eq!(client(&server, &["push", "somebody", token, path]).await["status"], 401);
    let refused = client(&server, &["token", token, "robot", scope, "600"]).await;
    assert!(refused["error"].as_str().unwrap().contains("administrators"), "{refused}");
    assert_eq!(client(&server, &["revoke", ARTIFACTORY_ADMIN, token]).await["ok"], true);
    assert_eq!(client(&server, &["pull", "robot", token, path]).await["status"], 401);
}

#[tokio::test]
async fn a_token_opens_one_repository_for_the_granted_actions() {
    let server = Artifactory::start().await;
    let broker = TestBroker::with_registries(table(&server)).providers(PROVIDER).start().await;
    let answer = ask(&broker, "&lifetime=900").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("provider")));
    assert_eq!(json["credentials"]["registry_url"], server.host());
    assert_eq!(json["repository"], "docker-local/my-app");
    let left = json["credentials"]["expires_in"].as_i64().unwrap();
    assert!((800..=900).contains(&left), "{left}");
    let asked = server.asked();
    assert_eq!(asked[0]["scope"], "artifact:docker-local/my-app/**:r,w");
    assert_eq!(asked[0]["expires_in"], 900);
    assert_eq!(asked[0]["refreshable"], false);
    let id = json["request_id"].as_str().unwrap();
    assert_eq!(asked[0]["description"], format!("rise-broker, grant {id}"));
    let user = json["credentials"]["username"].as_str().unwrap();
    assert_eq!(user, format!("rise-{}", id.to_lowercase()));

    let token = json["credentials"]["password"].as_str().unwrap();
    let path = "docker-local/my-app/latest/manifest.json";
    let pushed = client(&server, &["push", user, token, path]).await;
    assert_eq!(pushed["ok"], "/my-app/latest/manifest.json", "{pushed}");
    for other in ["docker-local/my-app-2/x", "docker-local/other/x", "generic-local/my-app/x"] {
        assert_eq!(client(&server, &["push", user, token, other]).await["status"], 403, "{other}");
        assert_eq!(client(&server, &["pull", user, token, other]).await["status"], 403, "{other}");
    }
    let pull = ask(&broker, "&actions=pull").await.json();
    let (user, token) = (&pull["credentials"]["username"], &pull["credentials"]["password"]);
    let (user, token) = (user.as_str().unwrap(), token.as_str().unwrap());
    assert_eq!(server.asked()[1]["scope"], "artifact:docker-local/my-app/**:r");
    assert_eq!(client(&server, &["pull", user, token, path]).await["ok"], pushed["ok"]);
    let refused = client(&server, &["push", user, token, "docker-local/my-app/new/x"]).await;
    assert_eq!(refused["status"], 403, "{refused}");
}

#[tokio::test]
async fn a_push_may_replace_a_tag_where_the_operator_allows_it() {
    let server = Artifactory::start().await;
    let table = table(&server).with("allow_overwrite", true).with("username", "rise");
    let broker = TestBroker::with_registries(table).providers(PROVIDER).start().await;
    let json = ask(&broker, "").await.json();
    let token = json["credentials"]["password"].as_str().unwrap();
    assert_eq!(json["credentials"]["username"], "rise");
    for _ in 0..2 {
        let pushed = client(&server, &["push", "rise", token, "docker-local/my-app/a/b"]).await;
        assert_eq!(pushed["ok"], "/my-app/a/b", "{pushed}");
    }
}

/// Each is found by the provider or the host, and no part of the wrong token reaches the caller.
#[tokio::test]
async fn an_artifactory_that_lies_gets_nothing_through() {
    for (lie, told) in [
        (ArtifactoryLie::Wider, "with the scope `applied-permissions/admin`"),
        (ArtifactoryLie::SecretlyWider, "with the scope `applied-permissions/admin`"),
        (ArtifactoryLie::OtherProject, "with the scope `artifact:docker-local/other/**:r,w`"),
        (ArtifactoryLie::Later, "with the expiry"),
        (ArtifactoryLie::Endless, "with the expiry"),
        (ArtifactoryLie::OwnLogin, "sent a configured secret back"),
        (ArtifactoryLie::OtherUser, "with the user `admin`"),
        (ArtifactoryLie::Refreshable, "can be refreshed"),
    ] {
        let server = Artifactory::start().await;
        server.lie(lie);
        let broker = TestBroker::with_registries(table(&server)).providers(PROVIDER).start().await;
        let answer = ask(&broker, "").await;
        let found = (answer.status.as_u16(), answer.problem());
        assert_eq!(found, (502, Some("provider-failed".to_owned())), "{lie:?}: {}", answer.text);
        assert!(logs::text().contains(told), "{lie:?}: {told}: {}", logs::text());
        let audit = serde_json::to_string(&broker.audit()).unwrap();
        let secrets = server.tokens();
        for secret in
            secrets.iter().map(String::as_str).chain([ARTIFACTORY_ADMIN, "canary-refresh"])
        {
            for (name, text) in
                [("answer", &answer.text), ("log", &logs::text()), ("audit", &audit)]
            {
                assert!(!text.contains(secret), "{lie:?}: {secret} in the {name}");
            }
        }
    }
}

#[tokio::test]
async fn an_admin_token_that_artifactory_rejects_is_told_by_path() {
    let server = Artifactory::start().await;
    let table = table(&server).with("access_token", "not-the-admin-token");
    let broker = TestBroker::with_registries(table).providers(PROVIDER).start().await;
    assert_eq!(ask(&broker, "").await.problem().as_deref(), Some("upstream-denied"));
    let told = format!("POST {}/access/api/v1/tokens answered 401", server.host());
    assert!(logs::text().contains(&told), "{}", logs::text());
}
