//! Docker Hub: stored tokens and bearer tokens, used by skopeo, and every name of it.
//! `ended_by_the_broker.rs` has what holds for the end of its organization access tokens.

use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    DOCKERHUB_TOKENS, DOCKERHUB_USER, DockerHub, DockerHubLie, HUB_LOGIN, HUB_ORGANIZATION,
    Minting, OciLayout, Response, Skopeo, TestBroker, lines, logs,
};
use serde_json::json;

/// A registry that hands out stored tokens.
fn stored(hub: &DockerHub) -> RegistryTable {
    registry("dockerhub")
        .with("registry_url", "docker.io")
        .with("namespace", "acme")
        .with("username", DOCKERHUB_USER)
        .with("password", DOCKERHUB_TOKENS.0)
        .with("endpoint_url", hub.url())
        .with("accept_scope", "registry")
}

/// A registry that hands out bearer tokens.
fn bearer(hub: &DockerHub) -> RegistryTable {
    stored(hub)
        .without("accept_scope")
        .with("issues", "bearer")
        .with("trust_provider", true)
        .ceiling("private = true")
}

async fn start(table: RegistryTable) -> TestBroker {
    TestBroker::with_registries(table).providers(&["dockerhub"]).start().await
}

async fn problems(table: RegistryTable) -> String {
    let started = TestBroker::with_registries(table).providers(&["dockerhub"]).try_start().await;
    lines(&started.err().expect("a problem"))
}

async fn ask(broker: &TestBroker, actions: &str) -> Response {
    let token = broker.token_for("my-app");
    broker.credentials(&token, &format!("project=my-app&actions={actions}")).await
}

fn password(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["credentials"]["password"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_stored_token_opens_the_whole_account_and_says_so() {
    let hub = DockerHub::start().await;
    let told = problems(stored(&hub).without("accept_scope")).await;
    assert!(told.contains("accept_scope = \"registry\""), "{told}");
    let broker = start(stored(&hub).with("pull_password", DOCKERHUB_TOKENS.1)).await;
    let (push, pull) = (ask(&broker, "pull,push").await, ask(&broker, "pull").await);
    for (answer, token) in [(&push, DOCKERHUB_TOKENS.0), (&pull, DOCKERHUB_TOKENS.1)] {
        assert_eq!(password(answer), token);
        let json = answer.json();
        assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("registry"), &json!("host")));
        assert_eq!(
            (&json["credentials"]["kind"], &json["ended_by"]),
            (&json!("basic"), &json!(null))
        );
        assert_eq!(json["credentials"]["username"], DOCKERHUB_USER);
        assert_eq!(json["image"], "docker.io/acme/my-app");
    }
    assert!(hub.asked().is_empty(), "the broker asks nobody");
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by a stored token");
    let image = |name: &str| format!("{}/acme/{name}:v1", hub.host());
    let (pusher, puller) = (Skopeo::new(), Skopeo::new());
    pusher.log_in(hub.host(), DOCKERHUB_USER, &password(&push));
    puller.log_in(hub.host(), DOCKERHUB_USER, &password(&pull));
    // This is what `registry` means.
    for name in ["my-app", "other"] {
        pusher.push(&layout, &image(name)).await.unwrap();
        puller.pull(&image(name), &folder.path().join(name)).await.unwrap();
        puller.push(&layout, &image(name)).await.unwrap_err();
    }
    for text in [logs::text(), serde_json::to_string(&broker.audit()).unwrap()] {
        for token in [DOCKERHUB_TOKENS.0, DOCKERHUB_TOKENS.1] {
            assert!(!text.contains(token), "{text}");
        }
    }
}

#[tokio::test]
async fn a_bearer_token_opens_one_repository_for_five_minutes() {
    let hub = DockerHub::start().await;
    let broker = start(bearer(&hub)).await;
    let (push, pull) = (ask(&broker, "pull,push").await, ask(&broker, "pull").await);
    let scopes = ["repository:acme/my-app:pull,push", "repository:acme/my-app:pull"];
    assert_eq!(hub.asked(), scopes);
    for answer in [&push, &pull] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        assert_eq!(
            (&json["scope"], &json["enforced_by"]),
            (&json!("repository"), &json!("provider"))
        );
        assert_eq!(
            (&json["credentials"]["kind"], &json["credentials"]["username"]),
            (&json!("bearer"), &json!(""))
        );
        let left = json["credentials"]["expires_in"].as_i64().unwrap();
        assert!((290..=300).contains(&left), "{left}");
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by a bearer token");
    let skopeo = Skopeo::new();
    let push_to = async |answer: &Response, name: &str| {
        let to = format!("docker://{}/acme/{name}:v1", hub.host());
        let (token, source) = (password(answer), layout.reference());
        let arguments =
            ["copy", "--dest-tls-verify=false", "--dest-registry-token", &token, &source, &to];
        skopeo.run(&arguments).await.success
    };
    assert!(push_to(&push, "my-app").await);
    assert!(!push_to(&push, "other").await);
    assert!(!push_to(&pull, "my-app").await);
    for text in [&push.text, &pull.text, &logs::text()] {
        assert!(!text.contains(DOCKERHUB_TOKENS.0), "{text}");
    }
}

#[tokio::test]
async fn a_bearer_token_for_something_else_is_refused() {
    let hub = DockerHub::start().await;
    let broker = start(bearer(&hub)).await;
    for (lie, problem, told) in [
        (DockerHubLie::Wider, "provider-failed", "opens `repository:acme/other:pull`"),
        (DockerHubLie::Nothing, "upstream-denied", "does not open pull on `acme/my-app`"),
        (DockerHubLie::Stored, "provider-failed", "sent a configured secret back"),
    ] {
        hub.lie(Some(lie));
        let answer = ask(&broker, "pull").await;
        assert_eq!(answer.problem().as_deref(), Some(problem), "{lie:?}: {}", answer.text);
        assert!(logs::text().contains(told), "{lie:?}: {}", logs::text());
        assert!(!logs::text().contains(DOCKERHUB_TOKENS.0));
    }
    // A token that may only read does not open a push.
    let broker = start(bearer(&hub).with("password", DOCKERHUB_TOKENS.1)).await;
    hub.lie(None);
    let answer = ask(&broker, "pull,push").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("does not open push on `acme/my-app`"), "{}", logs::text());
}

#[tokio::test]
async fn an_organization_token_opens_one_repository_for_the_granted_actions() {
    let server = Minting::start(&HUB_ORGANIZATION).await;
    let broker = start(server.table()).await;
    for (actions, scope) in [
        ("pull", "scope-image-pull"),
        ("push", "scope-image-push"),
        ("pull,push", "scope-image-push"),
    ] {
        let answer = ask(&broker, actions).await;
        let (secret, minted) = (password(&answer), server.only());
        let json = answer.json();
        let id = json["request_id"].as_str().unwrap().to_lowercase();
        assert_eq!((minted.name, minted.secret), (format!("rise-{id}"), secret));
        assert_eq!(
            (minted.opens, &minted.scopes[..]),
            (&["acme/my-app"][..], &[scope.to_owned()][..])
        );
        assert_eq!(json["credentials"]["username"], "acme");
        // Docker Hub would end it a day later.
        let ends = json["credentials"]["expires_at"].as_str().unwrap();
        let ends: jiff::Timestamp = ends.parse().unwrap();
        let later = minted.expires_at.unwrap() - ends.as_second();
        assert!((86_395..=86_405).contains(&later), "{later}");
        server.remove_all();
        for text in [answer.text, logs::text(), serde_json::to_string(&broker.audit()).unwrap()] {
            assert!(!text.contains(HUB_LOGIN) && !text.contains(DOCKERHUB_TOKENS.0), "{text}");
        }
    }
    let logins = server.requests().iter().filter(|request| *request == "POST auth/token").count();
    assert_eq!(logins, 1, "a login serves many grants");
    // The broker reads every page to find the token of a mint whose answer it never got.
    server.add_others(150);
    server.mood(Some(rise_broker_tests::MintingMood::LosesAnswer));
    assert_eq!(ask(&broker, "pull").await.status, 503);
    server.mood(None);
    rise_broker_tests::eventually("the token is deleted", async || {
        broker.end_due();
        server.alive().len() == 150
    })
    .await;
}

/// Docker, its helpers, podman and the kubelet each call it otherwise.
#[tokio::test]
async fn docker_hub_is_one_registry_by_all_its_names() {
    let hub = DockerHub::start().await;
    for name in [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "registry.hub.docker.com",
        "https://index.docker.io/v1/",
    ] {
        for (provider, table) in [
            ("dockerhub", stored(&hub).with("registry_url", name)),
            (
                "oci",
                stored(&hub).with("registry_url", name).with("type", "oci").without("endpoint_url"),
            ),
        ] {
            let broker = start(table).await;
            let answer = ask(&broker, "pull").await.json();
            assert_eq!(answer["image"], "docker.io/acme/my-app", "{provider} {name}");
            assert_eq!(answer["credentials"]["registry_url"], "docker.io", "{provider} {name}");
        }
    }
    let broker = start(stored(&hub)).await;
    for image in [
        "docker.io/acme/my-app:v1",
        "index.docker.io/acme/my-app",
        "registry-1.docker.io/acme/my-app",
        "registry.hub.docker.com/acme/my-app",
        "acme/my-app:v1",
    ] {
        let request = axum::http::Request::post("/api/v1/registry/credentials")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", broker.token_for("my-app")));
        let body = json!({ "image": image, "actions": ["pull"] }).to_string();
        let answer = broker.send(request.body(axum::body::Body::from(body)).unwrap()).await;
        assert_eq!(answer.json()["project"], "my-app", "{image}: {}", answer.text);
    }
    // Two names of it are not two registries.
    let second = registry("oci").named("second").with("registry_url", "index.docker.io");
    let both = format!("{}{}", stored(&hub), second.with("namespace", "acme"));
    let both = rise_broker_tests::Settings::new(format!("{}{both}", rise_broker_tests::AUTH));
    let started = TestBroker::with_settings(both.providers(&["dockerhub"])).try_start().await;
    let told = lines(&started.err().expect("a problem"));
    assert!(told.contains("collides with the registry"), "{told}");
}
