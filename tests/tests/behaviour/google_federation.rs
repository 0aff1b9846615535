//! Google without a stored key: the broker's identity token logs in to a workload identity pool,
//! whose provider decides for which projects.

use rise_broker_tests::federation::{IssuerFront, ServingFront};
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    AUTH, Google, Response, SIGNING, Settings, TestBroker, lines, logs, vendor_client,
};
use serde_json::json;

const AUDIENCE: &str = "//iam.googleapis.com/projects/123456789012/locations/global/\
                        workloadIdentityPools/rise/providers/broker";
const PULLER: &str = "puller@acme.iam.gserviceaccount.com";
const PUSHER: &str = "pusher@acme.iam.gserviceaccount.com";
const PUSH: &str = "project:my-app:registry:prod:actions:push";
const PULL: &str = "project:my-app:registry:prod:actions:pull";

struct Scene {
    google: Google,
    broker: TestBroker,
    _front: ServingFront,
}

impl Scene {
    /// `change` changes the registry, which impersonates service accounts.
    async fn start(subjects: &[&str], change: impl FnOnce(RegistryTable) -> RegistryTable) -> Self {
        let (google, front) = (Google::start().await, IssuerFront::bind().await);
        google.trust(front.trust(AUDIENCE, subjects));
        let text = format!("{AUTH}{}{}", front.signing(), change(table(&google)));
        let settings = Settings::new(text).providers(&["google"]);
        let broker = TestBroker::with_settings(settings).start().await;
        Self { google, _front: front.serve(&broker), broker }
    }

    async fn ask(&self, project: &str, actions: &str) -> Response {
        let token = self.broker.token_for(project);
        self.broker.credentials(&token, &format!("project={project}&actions={actions}")).await
    }

    fn has_no_secret(&self, answers: &[&Response]) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        let texts = answers.iter().map(|answer| answer.text.clone()).chain([logs::text(), audit]);
        let secrets = self.google.secrets();
        for text in texts {
            for secret in &secrets {
                let parts = secret.split('.').skip(1).chain([secret.as_str()]);
                for part in parts.filter(|part| part.len() > 8) {
                    assert!(!text.contains(part), "{part} in {text}");
                }
            }
        }
    }
}

fn table(google: &Google) -> RegistryTable {
    registry("google")
        .with("project_id", "acme")
        .with("region", "europe-west1")
        .with("repository", "docker")
        .with("audience", AUDIENCE)
        .with("pull_service_account", PULLER)
        .with("push_service_account", PUSHER)
        .with("endpoint_url", google.url())
        .with("accept_scope", "namespace")
        .with("trust_provider", true)
        .ceiling("private = true")
}

/// Callers get tokens of the workload identity.
fn direct(table: RegistryTable) -> RegistryTable {
    table.without("pull_service_account").without("push_service_account")
}

fn password(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["credentials"]["password"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_identity_token_impersonates_the_account_for_the_actions() {
    let scene = Scene::start(&[PUSH, PULL], |table| table).await;
    let (push, pull) = (scene.ask("my-app", "pull,push").await, scene.ask("my-app", "pull").await);
    assert_eq!(scene.google.account_of(&password(&push)).as_deref(), Some(PUSHER));
    assert_eq!(scene.google.account_of(&password(&pull)).as_deref(), Some(PULLER));
    let json = push.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("namespace"), &json!("provider")));
    assert_eq!(json["repository"], "acme/docker/my-app");
    assert_eq!(scene.google.logins(), 2, "one for each action");
    scene.has_no_secret(&[&push, &pull]);
}

/// A login that Google gave for one project is in the host. It serves no other.
#[tokio::test]
async fn a_kept_login_does_not_pass_by_what_google_trusts() {
    let scene = Scene::start(&[PUSH], |table| table).await;
    assert_eq!(scene.ask("my-app", "pull,push").await.status, 200);
    for (project, actions) in [("my-app", "pull"), ("other", "pull,push"), ("my-app2", "push")] {
        let answer = scene.ask(project, actions).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
        scene.has_no_secret(&[&answer]);
    }
    assert!(logs::text().contains("rejected by the attribute condition"), "{}", logs::text());
    let told = "must accept the `sub` `project:my-app2:registry:NAME:actions:push`";
    assert!(logs::text().contains(told), "{}", logs::text());
    assert_eq!(scene.ask("my-app", "push").await.status, 200);
    assert_eq!(scene.google.logins(), 1, "it still serves the one that it is for");
    assert_eq!(scene.google.assertions().len(), 4);
}

#[tokio::test]
async fn without_service_accounts_callers_get_the_workload_identity() {
    let scene = Scene::start(&[PUSH, PULL], direct).await;
    for (actions, subject) in [("pull,push", PUSH), ("pull", PULL), ("pull", PULL)] {
        let answer = scene.ask("my-app", actions).await;
        let password = password(&answer);
        assert_eq!(scene.google.subject_of(&password).as_deref(), Some(subject));
        assert_eq!(answer.json()["scope"], "namespace");
        let left = answer.json()["credentials"]["expires_in"].as_i64().unwrap();
        assert!((3500..=3600).contains(&left), "{left}");
        for text in [logs::text(), serde_json::to_string(&scene.broker.audit()).unwrap()] {
            assert!(!text.contains(&password));
        }
        scene.has_no_secret(&[&answer]);
    }
    assert!(scene.google.asked().is_empty());
    let answer = scene.ask("other", "pull").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
}

#[tokio::test]
async fn a_repository_for_each_project_is_as_narrow_as_its_identity() {
    let each = |table: RegistryTable| {
        table.with("repository", "{project}").with("child_repositories", true)
    };
    let scene = Scene::start(&[PUSH], |table| each(direct(table)).without("accept_scope")).await;
    let answer = scene.ask("my-app", "pull,push").await;
    assert_eq!(scene.google.subject_of(&password(&answer)).as_deref(), Some(PUSH));
    let json = answer.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("provider")));
    assert_eq!(json["repository"], "acme/my-app");
    // What is below it is the project's.
    let body = json!({ "image": "europe-west1-docker.pkg.dev/acme/my-app/web:v1" });
    let request = axum::http::Request::post("/api/v1/registry/credentials")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", scene.broker.token_for("my-app")));
    let request = request.body(axum::body::Body::from(body.to_string())).unwrap();
    let answer = scene.broker.send(request).await;
    assert_eq!(answer.json()["project"], "my-app", "{}", answer.text);
    // Accounts that serve all projects are wider.
    let google = Google::start().await;
    let front = IssuerFront::bind().await;
    let text = format!("{AUTH}{}{}", front.signing(), each(table(&google)).without("accept_scope"));
    let settings = Settings::new(text).providers(&["google"]);
    let problems = TestBroker::with_settings(settings).try_start().await.err().expect("a problem");
    assert!(lines(&problems).contains("accept_scope = \"namespace\""), "{}", lines(&problems));
}

/// The double takes from google-auth what it takes from the broker.
#[tokio::test]
async fn google_auth_logs_in_with_the_same_tokens() {
    let scene = Scene::start(&[PUSH, PULL], |table| table).await;
    for (project, actions) in [("my-app", "push"), ("my-app", "pull"), ("other", "push")] {
        scene.ask(project, actions).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = scene.google.assertions();
    let file = folder.path().join("token").display().to_string();
    let client = async |token: &str, account: &str| {
        std::fs::write(&file, token).unwrap();
        let arguments = [scene.google.url(), AUDIENCE, &file, account];
        vendor_client("google_federation_client.py", &arguments).await
    };
    for (token, account, subject) in [(&tokens[0], PUSHER, PUSH), (&tokens[1], PULLER, PULL)] {
        let made = client(token, account).await;
        let own = made["token"].as_str().unwrap_or_else(|| panic!("{made}"));
        assert_eq!(scene.google.account_of(own).as_deref(), Some(account));
        let made = client(token, "-").await;
        let own = made["token"].as_str().unwrap_or_else(|| panic!("{made}"));
        assert_eq!(scene.google.subject_of(own).as_deref(), Some(subject));
    }
    for (token, account, told) in
        [(&tokens[1], PUSHER, "denied"), (&tokens[2], "-", "attribute condition")]
    {
        let refused = client(token, account).await;
        assert!(refused["error"].as_str().unwrap_or_default().contains(told), "{refused}");
    }
}

#[tokio::test]
async fn only_a_registry_that_federates_needs_a_broker_that_signs() {
    let google = Google::start().await;
    let settings = Settings::new(format!("{AUTH}{}", table(&google))).providers(&["google"]);
    let problems = TestBroker::with_settings(settings).try_start().await.err().expect("a problem");
    let told = format!("tokens signed for `{AUDIENCE}`, and this broker signs none");
    assert!(lines(&problems).contains(&told), "{}", lines(&problems));
}

#[tokio::test]
async fn keys_that_google_rejects_are_told_at_the_start() {
    let google = Google::start().await;
    for (algorithm, is_right) in [("RS256", true), ("ES256", true), ("EdDSA", false)] {
        let signing = format!("{SIGNING}algorithm = \"{algorithm}\"\n");
        let text = format!("{AUTH}{signing}{}", table(&google));
        let settings = Settings::new(text).providers(&["google"]);
        let problems = TestBroker::with_settings(settings).try_start().await.err();
        let found = lines(&problems.unwrap_or_default());
        let told = "is the audience of Google, which accepts RS256 and ES256 only, and the signing \
                    key is for EdDSA";
        assert_eq!(found.is_empty(), is_right, "{found}");
        assert!(is_right || found.contains(told), "{found}");
    }
}
