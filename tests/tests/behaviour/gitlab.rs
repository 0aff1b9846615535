//! GitLab: its double is driven by python-gitlab, then by the broker. `ended_by_the_broker.rs` has
//! what holds for the end of its deploy tokens.

use rise_broker_tests::{GITLAB, GITLAB_TOKEN, Minting, TestBroker, vendor_client};
use serde_json::{Value, json};

async fn client(server: &Minting, arguments: &[&str]) -> Value {
    let url = server.url();
    let start = [url.as_str(), GITLAB_TOKEN];
    let arguments: Vec<&str> = start.into_iter().chain(arguments.iter().copied()).collect();
    vendor_client("gitlab_client.py", &arguments).await
}

/// The double is what a client of others takes it for.
#[tokio::test]
async fn python_gitlab_makes_finds_and_deletes_deploy_tokens() {
    let server = Minting::start(&GITLAB).await;
    let end = "2099-01-16T00:00:00Z";
    let scopes = ["read_registry", "write_registry"];
    let create = ["group/app", "create", "job-1", end, scopes[0], scopes[1]];
    let made = client(&server, &create).await;
    let made = &made["ok"];
    assert_eq!((&made["name"], &made["scopes"]), (&json!("job-1"), &json!(scopes)), "{made}");
    assert_eq!(made["username"], "gitlab+deploy-token-1");
    assert_eq!(made["expires_at"], "2099-01-16T00:00:00.000Z");
    let login =
        json!({ "credentials": { "username": made["username"], "password": made["token"] } });
    assert_eq!(server.opens(&login, "group/app/my-app").await, 200);
    assert_eq!(server.opens(&login, "group/my-app").await, 401);
    let read = client(&server, &["group/app", "get", "1"]).await;
    assert_eq!((&read["ok"]["name"], &read["ok"]["token"]), (&json!("job-1"), &Value::Null));
    // The list comes in pages, and the client reads them all.
    server.add_others(30);
    let names = client(&server, &["group/app", "names"]).await;
    assert_eq!(names["ok"].as_array().map(Vec::len), Some(31), "{names}");
    assert_eq!(client(&server, &["group/app", "delete", "1"]).await["ok"], true);
    assert_eq!(server.opens(&login, "group/app/my-app").await, 401);
    assert_eq!(client(&server, &["group/app", "get", "1"]).await["status"], 404);
    assert_eq!(client(&server, &["group/other", "names"]).await["status"], 404);
}

/// GitLab's own end of a deploy token, which counts if the broker is gone for good.
#[tokio::test]
async fn a_deploy_token_ends_at_midnight_at_the_latest() {
    let server = Minting::start(&GITLAB).await;
    let broker = TestBroker::with_registries(server.table()).providers(&["gitlab"]).start().await;
    let token = broker.token_for("my-app");
    for (actions, scopes) in [
        ("pull", json!(["read_registry"])),
        ("push", json!(["read_registry", "write_registry"])),
        ("pull,push", json!(["read_registry", "write_registry"])),
    ] {
        let query = format!("project=my-app&lifetime=600&actions={actions}");
        let answer = broker.credentials(&token, &query).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let (id, minted) = (answer.json()["request_id"].clone(), server.only());
        assert_eq!(minted.name, format!("rise-{}", id.as_str().unwrap().to_lowercase()));
        assert_eq!(json!(minted.scopes), scopes);
        let end = minted.expires_at.unwrap();
        let left = end - jiff::Timestamp::now().as_second();
        assert_eq!(end % 86_400, 0, "{end}");
        assert!((590..=86_400 + 600).contains(&left), "{left}");
        server.remove_all();
    }
}

/// `group/{project}`: each project has a GitLab project of its own, and its tokens open no other.
#[tokio::test]
async fn each_project_may_have_a_gitlab_project_of_its_own() {
    let server = Minting::start(&GITLAB).await;
    let table = server.table().with("project", "group/{project}");
    let broker = TestBroker::with_registries(table).providers(&["gitlab"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await.json();
    assert_eq!(answer["repository"], "group/my-app", "{answer}");
    assert_eq!(server.opens(&answer, "group/my-app").await, 200);
    assert_eq!(server.opens(&answer, "group/my-app/cache").await, 200);
    assert_eq!(server.opens(&answer, "group/app").await, 401);
    assert_eq!(server.requests(), ["POST group/my-app deploy_tokens"]);
    // The access token of the settings knows no such GitLab project.
    let other = broker.credentials(&broker.token_for("other"), "project=other").await;
    assert_eq!((other.status.as_u16(), other.problem().as_deref()), (502, Some("upstream-denied")));
}

/// A token that the broker knows by its name only is found behind a hundred others.
#[tokio::test]
async fn a_token_whose_answer_was_lost_is_found_among_many() {
    let server = Minting::start(&GITLAB).await;
    let broker = TestBroker::with_registries(server.table()).providers(&["gitlab"]).start().await;
    server.add_others(250);
    server.mood(Some(rise_broker_tests::MintingMood::LosesAnswer));
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    server.mood(None);
    rise_broker_tests::eventually("the token is deleted", async || {
        broker.end_due();
        server.alive().len() == 250
    })
    .await;
    let lists = server.requests().iter().filter(|it| it.starts_with("GET")).count();
    assert!(lists >= 3, "{lists}");
}
