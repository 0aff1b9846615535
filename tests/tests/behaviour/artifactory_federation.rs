//! Artifactory without a stored token: the broker's identity token is exchanged, and the identity
//! mappings decide for which projects. pyartifactory uses what comes of it.

use rise_broker_tests::federation::{IssuerFront, ServingFront};
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    AUTH, Artifactory, ArtifactoryLie, Response, Settings, TestBroker, lines, logs, vendor_client,
};
use serde_json::{Value, json};

const AUDIENCE: &str = "https://company.jfrog.io";
const PUSH: &str = "project:my-app:registry:prod:actions:push";
const PULL: &str = "project:my-app:registry:prod:actions:pull";

struct Scene {
    server: Artifactory,
    broker: TestBroker,
    _front: ServingFront,
}

fn table(server: &Artifactory) -> RegistryTable {
    registry("artifactory")
        .with("base_url", server.url())
        .with("repository", "docker-local")
        .with("provider_name", "rise-broker")
        .with("audience", AUDIENCE)
        .with("trust_provider", true)
        .ceiling("private = true")
}

/// The scope for a subject, as the administrator writes it into each mapping.
fn scope(subject: &str) -> String {
    let letters = if subject.ends_with("push") { "r,w" } else { "r" };
    format!("artifact:docker-local/my-app/**:{letters}")
}

impl Scene {
    async fn start(scope: impl Fn(&str) -> String) -> Self {
        Self::start_with(scope, |table| table).await
    }

    async fn start_with(
        scope: impl Fn(&str) -> String,
        change: impl FnOnce(RegistryTable) -> RegistryTable,
    ) -> Self {
        let (server, front) = (Artifactory::start().await, IssuerFront::bind().await);
        server.trust(front.trust(AUDIENCE, &[PUSH, PULL]), "ci-my-app", scope);
        let text = format!("{AUTH}{}{}", front.signing(), change(table(&server)));
        let settings = Settings::new(text).providers(&["artifactory"]);
        let broker = TestBroker::with_settings(settings).start().await;
        Self { server, _front: front.serve(&broker), broker }
    }

    async fn ask(&self, project: &str, actions: &str) -> Response {
        let token = self.broker.token_for(project);
        self.broker.credentials(&token, &format!("project={project}&actions={actions}")).await
    }

    async fn client(&self, arguments: &[&str]) -> Value {
        let url = self.server.url();
        let arguments: Vec<&str> =
            [url.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        vendor_client("artifactory_client.py", &arguments).await
    }

    /// No identity token is in any output, nor a part of one.
    fn has_no_identity(&self, answers: &[&Response]) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        let texts = answers.iter().map(|answer| answer.text.clone()).chain([logs::text(), audit]);
        let identities = self.server.identities();
        assert!(!identities.is_empty());
        for text in texts {
            for part in identities.iter().flat_map(|token| token.split('.').skip(1)) {
                assert!(!text.contains(part), "{part} in {text}");
            }
            assert!(!text.contains("canary-refresh"));
        }
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_a_token_of_one_repository() {
    let scene = Scene::start(scope).await;
    let answer = scene.ask("my-app", "pull,push").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("provider")));
    assert_eq!(json["repository"], "docker-local/my-app");
    let login = |json: &Value, name: &str| json["credentials"][name].as_str().unwrap().to_owned();
    let (user, token) = (login(&json, "username"), login(&json, "password"));
    assert_eq!(user, "ci-my-app");
    let path = "docker-local/my-app/latest/manifest.json";
    let pushed = scene.client(&["push", &user, &token, path]).await;
    assert_eq!(pushed["ok"], "/my-app/latest/manifest.json", "{pushed}");
    let refused = scene.client(&["push", &user, &token, "docker-local/other/x"]).await;
    assert_eq!(refused["status"], 403, "{refused}");
    let pull = scene.ask("my-app", "pull").await;
    let token = login(&pull.json(), "password");
    assert_eq!(scene.client(&["pull", &user, &token, path]).await["ok"], pushed["ok"]);
    let refused = scene.client(&["push", &user, &token, "docker-local/my-app/new/x"]).await;
    assert_eq!(refused["status"], 403, "{refused}");
    scene.has_no_identity(&[&answer, &pull]);
}

#[tokio::test]
async fn a_project_without_a_mapping_gets_nothing() {
    let scene = Scene::start(scope).await;
    assert_eq!(scene.ask("my-app", "push").await.status, 200);
    for (project, actions) in [("other", "push"), ("my-app2", "pull")] {
        let answer = scene.ask(project, actions).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
        scene.has_no_identity(&[&answer]);
        // The operator needs it, and the caller does not.
        let subject = format!("project:{project}:registry:NAME:actions:{actions}");
        let told = format!("add an identity mapping for the `sub` `{subject}` to the OIDC");
        assert!(logs::text().contains(&told), "{told}: {}", logs::text());
        assert!(!answer.text.contains("actions:"), "{}", answer.text);
    }
    let scene = Scene::start_with(scope, |table| table.with("audience", "https://other")).await;
    let answer = scene.ask("my-app", "push").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("token verification failed: Audience"), "{}", logs::text());
    let scene = Scene::start_with(scope, |table| table.with("provider_name", "none")).await;
    let answer = scene.ask("my-app", "push").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("`provider_name` is no OIDC integration"), "{}", logs::text());
}

/// A mapping that gives more than the grant is found before the caller gets its token.
#[tokio::test]
async fn a_mapping_that_gives_something_else_gets_nothing_through() {
    let wide = |_: &str| "applied-permissions/admin".to_owned();
    let same = |_: &str| scope(PUSH);
    for (scope, actions) in [(&wide as &dyn Fn(&str) -> String, "push"), (&same, "pull")] {
        let scene = Scene::start(scope).await;
        let answer = scene.ask("my-app", actions).await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
        assert!(logs::text().contains("correct the identity mapping"), "{}", logs::text());
        for token in scene.server.tokens() {
            assert!(!answer.text.contains(&token) && !logs::text().contains(&token));
        }
    }
    for (lie, told) in [
        (ArtifactoryLie::Refreshable, "can be refreshed"),
        (ArtifactoryLie::OwnLogin, "an identity token"),
    ] {
        let scene = Scene::start(scope).await;
        scene.server.lie(lie);
        let answer = scene.ask("my-app", "push").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
        assert!(logs::text().contains(told), "{told}: {}", logs::text());
        scene.has_no_identity(&[&answer]);
    }
}

#[tokio::test]
async fn a_mapping_may_name_a_group_of_the_project() {
    let template = "applied-permissions/groups:docker-{project}-{actions}";
    let group = |subject: &str| {
        let actions = subject.rsplit(':').next().unwrap();
        format!("applied-permissions/groups:docker-my-app-{actions}")
    };
    let scene = Scene::start_with(group, |table| table.with("token_scope", template)).await;
    for actions in ["pull", "push"] {
        let answer = scene.ask("my-app", actions).await;
        assert_eq!(answer.json()["scope"], "repository", "{}", answer.text);
    }
    // One group for all projects opens all of them, and the operator must accept that.
    let server = Artifactory::start().await;
    let front = IssuerFront::bind().await;
    let wide = table(&server).with("token_scope", "applied-permissions/groups:docker-{actions}");
    let settings = Settings::new(format!("{AUTH}{}{wide}", front.signing()));
    let started = TestBroker::with_settings(settings.providers(&["artifactory"])).try_start().await;
    let problems = lines(&started.err().expect("a problem"));
    assert!(problems.contains("accept_scope = \"registry\""), "{problems}");
    // Without [signing], only this registry has a problem.
    let settings = Settings::new(format!("{AUTH}{}", table(&server))).providers(&["artifactory"]);
    let problems = TestBroker::with_settings(settings).try_start().await.err().expect("a problem");
    let told = format!("tokens signed for `{AUDIENCE}`, and this broker signs none");
    assert!(lines(&problems).contains(&told), "{}", lines(&problems));
}
