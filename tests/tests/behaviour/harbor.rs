//! Harbor: its double is driven by harborapi, then by the broker. Harbor's robots live for a day at
//! least, so the broker ends each at the end of its grant: also after a restart, after a failed
//! mint, and once a Harbor that was away answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    AUTH, Client, HARBOR_ADMIN, Harbor, HarborMood, Installation, Response, TestBroker, eventually,
    logs, repository, vendor_client,
};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

const PROVIDER: &[&str] = &["harbor"];

fn table(server: &Harbor) -> RegistryTable {
    registry("harbor")
        .with("base_url", server.url())
        .with("project", "team")
        .with("username", HARBOR_ADMIN.0)
        .with("password", HARBOR_ADMIN.1)
        .with("accept_scope", "namespace")
        .with("trust_provider", true)
        .ceiling("private = true")
}

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

async fn start(server: &Harbor, ahead: &Ahead) -> TestBroker {
    TestBroker::with_registries(table(server))
        .providers(PROVIDER)
        .clock(ahead.clock())
        .start()
        .await
}

async fn ask(broker: &TestBroker, query: &str) -> Response {
    broker.credentials(&broker.token_for("my-app"), &format!("project=my-app{query}")).await
}

async fn client(server: &Harbor, arguments: &[&str]) -> Value {
    let url = server.url();
    let login = [url.as_str(), HARBOR_ADMIN.0, HARBOR_ADMIN.1];
    let arguments: Vec<&str> = login.into_iter().chain(arguments.iter().copied()).collect();
    vendor_client("harbor_client.py", &arguments).await
}

/// The status of a request for the tags of a repository, with the login of an answer.
async fn opens(server: &Harbor, answer: &Value, repository: &str) -> u16 {
    let text = |name: &str| answer["credentials"][name].as_str().unwrap().to_owned();
    let url = format!("{}/v2/{repository}/tags/list", server.url());
    let login = BASE64_STANDARD.encode(format!("{}:{}", text("username"), text("password")));
    let login = format!("Basic {login}");
    Client::new().get_with(&url, &[("authorization", &login)]).await.status
}

async fn until_empty(server: &Harbor, broker: &TestBroker) {
    eventually("no robot is left", async || {
        broker.end_due();
        server.robots().is_empty()
    })
    .await;
}

fn events(broker: &TestBroker, minted_by: &str) -> Vec<String> {
    let records = broker.audit();
    let of = records.iter().filter(|record| record["minted_by"] == minted_by);
    of.map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

/// The double is what a client of others takes it for.
#[tokio::test]
async fn harborapi_makes_finds_and_deletes_robots() {
    let server = Harbor::start().await;
    let made = client(&server, &["create", "team", "job-1", "pull", "push"]).await;
    let made = &made["ok"];
    assert_eq!(made["name"], "robot$team+job-1", "{made}");
    let found = client(&server, &["find", "3", "job-1"]).await;
    assert_eq!(found["ok"], json!(["robot$team+job-1"]));
    let refused = client(&server, &["create", "other", "job-2", "pull"]).await;
    assert!(refused["error"].as_str().unwrap().contains("403"), "{refused}");
    let login = json!({ "credentials": { "username": made["name"], "password": made["secret"] } });
    assert_eq!(opens(&server, &login, "team/my-app").await, 200);
    assert_eq!(opens(&server, &login, "other/my-app").await, 401);
    let id = made["id"].to_string();
    assert_eq!(client(&server, &["delete", &id]).await["ok"], true);
    assert_eq!(opens(&server, &login, "team/my-app").await, 401);
    assert_eq!(client(&server, &["find", "3", "job-1"]).await["ok"], json!([]));
}

#[tokio::test]
async fn a_robot_lives_as_long_as_was_granted() {
    let (server, ahead) = (Harbor::start().await, Ahead::default());
    let broker = start(&server, &ahead).await;
    let answer = ask(&broker, "&lifetime=600").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("namespace"), &json!("provider")));
    assert_eq!(json["repository"], "team/my-app");
    assert_eq!(json["ended_by"], "broker");
    let left = json["credentials"]["expires_in"].as_i64().unwrap();
    assert!((595..=600).contains(&left), "{left}");
    let id = json["request_id"].as_str().unwrap();
    let name = format!("robot$team+rise-{}", id.to_lowercase());
    assert_eq!(json["credentials"]["username"], name);
    assert_eq!(server.robots(), [name]);
    assert_eq!(opens(&server, &json, "team/my-app").await, 200);

    // Nothing happens before its end.
    ahead.by(590);
    broker.end_due();
    assert_eq!(opens(&server, &json, "team/my-app").await, 200);
    assert_eq!(events(&broker, id), ["issue.completed"]);
    ahead.by(15);
    until_empty(&server, &broker).await;
    assert_eq!(opens(&server, &json, "team/my-app").await, 401);
    let expected = ["issue.completed", "revoke.intent", "revoke.completed"];
    eventually("the end is recorded", async || events(&broker, id) == expected).await;
    let audit = serde_json::to_string(&broker.audit()).unwrap();
    for secret in server.secrets().iter().map(String::as_str).chain([HARBOR_ADMIN.1]) {
        assert!(!audit.contains(secret) && !logs::text().contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_harbor_that_was_away_is_caught_up_with() {
    let (server, ahead) = (Harbor::start().await, Ahead::default());
    let broker = start(&server, &ahead).await;
    for action in ["pull", "push"] {
        assert_eq!(ask(&broker, &format!("&lifetime=600&actions={action}")).await.status, 200);
    }
    assert_eq!(server.robots().len(), 2);
    server.mood(Some(HarborMood::Away));
    ahead.by(605);
    eventually("the end is tried", async || {
        broker.end_due();
        logs::text().contains("a credential could not be ended; the broker tries again")
    })
    .await;
    let metrics = broker.admin("/metrics").await.text;
    assert!(metrics.contains("rise_broker_overdue_credentials 2"), "{metrics}");
    server.mood(None);
    ahead.by(60);
    until_empty(&server, &broker).await;
    eventually("nothing is overdue", async || {
        let metrics = broker.admin("/metrics").await.text;
        metrics.contains("rise_broker_outstanding_credentials 0")
    })
    .await;
}

/// Nobody got these robots, so nobody else would delete them.
#[tokio::test]
async fn a_failed_mint_leaves_no_robot_behind() {
    for (mood, status) in
        [(HarborMood::OtherName, 502), (HarborMood::OwnLogin, 502), (HarborMood::LosesAnswer, 503)]
    {
        let (server, ahead) = (Harbor::start().await, Ahead::default());
        let broker = start(&server, &ahead).await;
        server.mood(Some(mood));
        let answer = ask(&broker, "").await;
        assert_eq!(answer.status, status, "{mood:?}: {}", answer.text);
        assert_eq!(server.robots().len(), 1, "{mood:?}");
        server.mood(None);
        if mood == HarborMood::OtherName {
            // It is not the grant's robot, and nobody but a person can say whose it is.
            continue;
        }
        until_empty(&server, &broker).await;
        assert!(!answer.text.contains(HARBOR_ADMIN.1), "{mood:?}");
    }
}

#[tokio::test]
async fn a_robot_that_got_the_id_since_is_left_alone() {
    let (server, ahead) = (Harbor::start().await, Ahead::default());
    let broker = start(&server, &ahead).await;
    assert_eq!(ask(&broker, "&lifetime=600").await.status, 200);
    server.clear();
    let other = server.add_robot(1, "release");
    ahead.by(605);
    eventually("the list is empty", async || {
        broker.end_due();
        broker.process.issuing.outstanding().credentials == 0
    })
    .await;
    assert_eq!(server.robots(), [other]);
    assert!(!server.requests().iter().any(|request| request.starts_with("DELETE")));
}

/// What the log of the process before says is all that the next one has.
#[tokio::test]
async fn a_restart_forgets_nothing() {
    let (server, ahead) = (Harbor::start().await, Ahead::default());
    let broker = start(&server, &ahead).await;
    let one = ask(&broker, "&lifetime=600&actions=pull").await.json();
    let two = ask(&broker, "&lifetime=3600&actions=push").await.json();
    let log = broker.settings.path("audit");
    let next = start(&server, &ahead).await;
    next.recover(log).await;
    assert_eq!(next.process.issuing.outstanding().credentials, 2);
    ahead.by(605);
    eventually("the first has ended", async || {
        next.end_due();
        server.robots().len() == 1
    })
    .await;
    assert_eq!(opens(&server, &one, "team/my-app").await, 401);
    assert_eq!(opens(&server, &two, "team/my-app").await, 200);
    ahead.by(3000);
    until_empty(&server, &next).await;
}

/// Killed while Harbor makes the robot: there is an intent and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_leaves_no_robot_behind() {
    let server = Harbor::start().await;
    let mut installation = Installation::new(format!("{AUTH}{}", table(&server)));
    installation.unlimited();
    installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
    let token = installation.token_for("my-app");
    let mut serving = installation.serve();
    server.mood(Some(HarborMood::Hangs));
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let asking = tokio::spawn(async move { Client::new().get_as(&url, &token).await.is_ok() });
    eventually("Harbor makes a robot", async || server.robots().len() == 1).await;
    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    asking.abort();
    server.mood(None);
    let _serving = installation.serve();
    eventually("the robot is deleted", async || server.robots().is_empty()).await;
    let records = installation.audit();
    let ended = records.iter().find(|record| record["event"] == "revoke.intent").unwrap();
    assert_eq!(ended["revocation"]["cause"], "not-issued", "{ended}");
}
