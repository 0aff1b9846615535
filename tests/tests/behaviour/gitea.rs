//! Gitea and Forgejo: their double is driven by py-gitea and pyforgejo, then by the broker.
//! `ended_by_the_broker.rs` has what holds for the end of its access tokens.

use rise_broker_tests::{GITEA, GITEA_BOT, Minting, TestBroker, vendor_client};
use serde_json::{Value, json};

async fn client(server: &Minting, kind: &str, arguments: &[&str]) -> Value {
    let url = server.url();
    let start = [kind, url.as_str(), GITEA_BOT.0, GITEA_BOT.1];
    let arguments: Vec<&str> = start.into_iter().chain(arguments.iter().copied()).collect();
    vendor_client("gitea_client.py", &arguments).await
}

/// The double is what clients of others take it for.
#[tokio::test]
async fn py_gitea_and_pyforgejo_make_find_and_delete_tokens() {
    for kind in ["gitea", "forgejo"] {
        let server = Minting::start(&GITEA).await;
        let made = client(&server, kind, &["create", "job-1", "write:package"]).await;
        let made = &made["ok"];
        assert_eq!(made["name"], "job-1", "{kind}: {made}");
        assert_eq!(made["scopes"], json!(["write:package"]), "{kind}");
        let login = json!({ "credentials": { "username": "rise-bot", "password": made["sha1"] } });
        assert_eq!(server.opens(&login, "team/my-app").await, 200, "{kind}");
        assert_eq!(server.opens(&login, "nobody/my-app").await, 401, "{kind}");
        // A name is taken once, and a scope must exist.
        for wrong in [["create", "job-1", "read:package"], ["create", "job-2", "package"]] {
            let refused = client(&server, kind, &wrong).await;
            assert!(refused["error"].as_str().unwrap().contains("400"), "{kind}: {refused}");
        }
        // The list comes in pages, and both clients read them all.
        server.add_others(60);
        let names = client(&server, kind, &["names"]).await;
        assert_eq!(names["ok"].as_array().map(Vec::len), Some(61), "{kind}: {names}");
        assert_eq!(client(&server, kind, &["delete", "job-1"]).await["ok"], true, "{kind}");
        assert_eq!(server.opens(&login, "team/my-app").await, 401, "{kind}");
        let gone = client(&server, kind, &["delete", "job-1"]).await;
        assert!(gone["error"].as_str().unwrap().contains("404"), "{kind}: {gone}");
    }
}

/// Also as `type = "forgejo"`.
#[tokio::test]
async fn a_token_has_the_granted_actions_and_its_name_is_that_of_the_request() {
    for name in ["gitea", "forgejo"] {
        let server = Minting::start(&GITEA).await;
        let table = server.table().with("type", name);
        let broker = TestBroker::with_registries(table).providers(&["gitea"]).start().await;
        for (actions, scope) in
            [("pull", "read:package"), ("push", "write:package"), ("pull,push", "write:package")]
        {
            let query = format!("project=my-app&actions={actions}");
            let answer = broker.credentials(&broker.token_for("my-app"), &query).await.json();
            let (id, token) = (answer["request_id"].as_str().unwrap(), server.only());
            assert_eq!(token.name, format!("rise-{}", id.to_lowercase()), "{name}");
            assert_eq!(answer["credentials"]["username"], GITEA_BOT.0);
            assert_eq!(token.scopes, [scope]);
            server.remove_all();
        }
    }
}

/// What docs/registries/gitea.md says of the scope: it is that of the bot user.
#[tokio::test]
async fn a_token_opens_every_owner_that_the_bot_user_may_open() {
    let server = Minting::start(&GITEA).await;
    let broker = TestBroker::with_registries(server.table()).providers(&["gitea"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await.json();
    for (repository, status) in [("team/x", 200), ("other-team/x", 200), ("nobody/x", 401)] {
        assert_eq!(server.opens(&answer, repository).await, status, "{repository}");
    }
}
