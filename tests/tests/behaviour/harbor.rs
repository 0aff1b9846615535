//! Harbor: its double is driven by harborapi, then by the broker. `ended_by_the_broker.rs` has what
//! holds for the end of its robots.

use rise_broker_tests::{HARBOR, HARBOR_ADMIN, Minting, TestBroker, vendor_client};
use serde_json::{Value, json};

async fn client(server: &Minting, arguments: &[&str]) -> Value {
    let url = server.url();
    let login = [url.as_str(), HARBOR_ADMIN.0, HARBOR_ADMIN.1];
    let arguments: Vec<&str> = login.into_iter().chain(arguments.iter().copied()).collect();
    vendor_client("harbor_client.py", &arguments).await
}

/// The double is what a client of others takes it for.
#[tokio::test]
async fn harborapi_makes_finds_and_deletes_robots() {
    let server = Minting::start(&HARBOR).await;
    let made = client(&server, &["create", "team", "job-1", "pull", "push"]).await;
    let made = &made["ok"];
    assert_eq!(made["name"], "robot$team+job-1", "{made}");
    let found = client(&server, &["find", "3", "job-1"]).await;
    assert_eq!(found["ok"], json!(["robot$team+job-1"]));
    let refused = client(&server, &["create", "other", "job-2", "pull"]).await;
    assert!(refused["error"].as_str().unwrap().contains("403"), "{refused}");
    let login = json!({ "credentials": { "username": made["name"], "password": made["secret"] } });
    assert_eq!(server.opens(&login, "team/my-app").await, 200);
    assert_eq!(server.opens(&login, "other/my-app").await, 401);
    let id = made["id"].to_string();
    assert_eq!(client(&server, &["delete", &id]).await["ok"], true);
    assert_eq!(server.opens(&login, "team/my-app").await, 401);
    assert_eq!(client(&server, &["find", "3", "job-1"]).await["ok"], json!([]));
}

#[tokio::test]
async fn a_robot_has_the_granted_actions_and_its_name_is_that_of_the_request() {
    let server = Minting::start(&HARBOR).await;
    let broker = TestBroker::with_registries(server.table()).providers(&["harbor"]).start().await;
    for (actions, expected) in [("pull", vec!["pull"]), ("push", vec!["pull", "push"])] {
        let query = format!("project=my-app&actions={actions}");
        let answer = broker.credentials(&broker.token_for("my-app"), &query).await.json();
        let id = answer["request_id"].as_str().unwrap().to_lowercase();
        let robot = server.only();
        assert_eq!(robot.name, format!("robot$team+rise-{id}"));
        assert_eq!(answer["credentials"]["username"], robot.name);
        assert_eq!(robot.scopes, expected);
        server.remove_all();
    }
}
