//! Azure without a stored secret: the broker's identity token logs the application in, and its
//! federated credentials decide for which projects.

use rise_broker_tests::azure::{Step, StepRequest};
use rise_broker_tests::federation::{IssuerFront, ServingFront};
use rise_broker_tests::{AUTH, Azure, Response, Settings, TestBroker, lines, logs};
use serde_json::json;

use crate::azure_double::{microsoft, settings as client_settings};

const AUDIENCE: &str = "api://AzureADTokenExchange";
const PUSH: &str = "project:my-app:registry:prod:actions:push";
const PULL: &str = "project:my-app:registry:prod:actions:pull";

struct Scene {
    azure: Azure,
    broker: TestBroker,
    front: ServingFront,
}

impl Scene {
    async fn start(subjects: &[&str]) -> Self {
        Self::start_with(subjects, |text| text).await
    }

    /// `change` changes the broker's settings.
    async fn start_with(subjects: &[&str], change: impl FnOnce(String) -> String) -> Self {
        let (azure, front) = (Azure::start().await, IssuerFront::bind().await);
        let table = azure.table_with_trust(front.trust(AUDIENCE, subjects));
        let text = change(format!("{AUTH}{}{table}", front.signing()));
        let settings = Settings::new(text).providers(&["azure"]);
        let broker = TestBroker::with_settings(settings).start().await;
        Self { azure, front: front.serve(&broker), broker }
    }

    async fn ask(&self, project: &str, actions: &str) -> Response {
        let token = self.broker.token_for(project);
        self.broker.credentials(&token, &format!("project={project}&actions={actions}")).await
    }

    fn steps(&self) -> Vec<Step> {
        self.azure.received().iter().map(|request| request.step).collect()
    }

    /// Checks that no output has a token that opens more than a scope, or a part of one.
    fn has_no_secret(&self, answers: &[&Response]) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        let texts = answers.iter().map(|answer| answer.text.clone()).chain([audit, logs::text()]);
        let secrets = self.azure.secrets();
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

/// Changes the settings of a broker.
type Change = fn(String) -> String;

fn assertion(request: &StepRequest) -> &str {
    request.all("client_assertion")[0]
}

#[tokio::test]
async fn the_application_logs_in_with_an_identity_token() {
    let scene = Scene::start(&[PUSH, PULL]).await;
    let push = scene.ask("my-app", "pull,push").await;
    assert_eq!(push.status, 200, "{}", push.text);
    let json = push.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("provider")));
    assert_eq!(json["credentials"]["password"], scene.azure.tokens()[0]);
    let received = scene.azure.received();
    assert_eq!(scene.steps(), [Step::Login, Step::Exchange, Step::Token]);
    assert!(received[0].all("client_secret").is_empty());
    assert_eq!(received[2].all("scope"), ["repository:team/my-app:pull,push"]);
    let pull = scene.ask("my-app", "pull").await;
    assert_eq!(pull.status, 200, "{}", pull.text);
    let kinds: Vec<_> = scene.broker.audit().iter().map(|it| it["event"].clone()).collect();
    assert_eq!(kinds, ["issue.intent", "issue.completed", "issue.intent", "issue.completed"]);
    scene.has_no_secret(&[&push, &pull]);
}

/// A login that Entra ID gave for one project is in the host. It serves no other.
#[tokio::test]
async fn a_kept_login_does_not_pass_by_what_entra_trusts() {
    let scene = Scene::start(&[PUSH]).await;
    let once = [Step::Login, Step::Exchange, Step::Token];
    assert_eq!(scene.ask("my-app", "pull,push").await.status, 200);
    for (project, actions) in [("my-app", "pull"), ("other", "pull,push"), ("my-app2", "push")] {
        let answer = scene.ask(project, actions).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
        assert_eq!(scene.steps().last(), Some(&Step::Login), "{project} {actions}");
        scene.has_no_secret(&[&answer]);
    }
    assert!(logs::text().contains("AADSTS700213"), "{}", logs::text());
    assert!(logs::text().contains("`project:my-app2:registry:NAME:actions:push`"));
    // It still serves the one that it is for.
    assert_eq!(scene.ask("my-app", "push").await.status, 200);
    let expected = [&once[..], &[Step::Login; 3], &[Step::Token]].concat();
    assert_eq!(scene.steps(), expected);
}

#[tokio::test]
async fn entra_rejects_what_it_has_no_credential_for() {
    let other_audience = |text: String| text.replace(AUDIENCE, "api://AzureADTokenExchangeChina");
    let other_registry = |text: String| {
        text.replace("[registries.prod", "[registries.test").replace("[\"prod\"]", "[\"test\"]")
    };
    for (change, told) in
        [(other_audience as Change, "AADSTS700212"), (other_registry, "AADSTS700213")]
    {
        let scene = Scene::start_with(&[PUSH, PULL], change).await;
        let answer = scene.ask("my-app", "pull").await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{told}: {}", answer.text);
        assert!(logs::text().contains(told), "{told}: {}", logs::text());
        scene.has_no_secret(&[&answer]);
    }
    // Its keys cannot be fetched.
    let scene = Scene::start(&[PUSH]).await;
    let Scene { azure, broker, front } = scene;
    drop(front);
    let token = broker.token_for("my-app");
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("must be reached from the internet over https"));
    drop(azure);
}

/// Entra ID would reject each token. Without this, the first caller found out.
#[tokio::test]
async fn keys_that_entra_rejects_are_told_at_the_start() {
    let (azure, front) = (Azure::start().await, IssuerFront::bind().await);
    let start = async |audience: &str, algorithm: &str| {
        let signing = format!("{}algorithm = \"{algorithm}\"\n", front.signing());
        let table =
            azure.table_with_trust(front.trust(AUDIENCE, &[PUSH])).with("audience", audience);
        let settings = Settings::new(format!("{AUTH}{signing}{table}")).providers(&["azure"]);
        lines(&TestBroker::with_settings(settings).try_start().await.err().unwrap_or_default())
    };
    let government = "api://AzureADTokenExchangeUSGov";
    for (audience, algorithm) in [(AUDIENCE, "ES256"), (AUDIENCE, "EdDSA"), (government, "ES256")] {
        let told = format!(
            "registries.prod.audience: `{audience}` is the audience of Microsoft Entra ID, which \
             accepts RS256 only, and the signing key is for {algorithm}: set `algorithm = \
             \"RS256\"` in [signing], and run `rise-broker keys rotate` twice"
        );
        let found = start(audience, algorithm).await;
        assert!(found.contains(&told), "{found}");
    }
    for (audience, algorithm) in [(AUDIENCE, "RS256"), (government, "RS256"), ("own", "ES256")] {
        assert_eq!(start(audience, algorithm).await, "", "{audience} {algorithm}");
    }
}

/// The double takes from Microsoft's client what it takes from the broker.
#[tokio::test]
async fn clients_of_microsoft_log_in_with_the_same_token() {
    let scene = Scene::start(&[PUSH]).await;
    assert_eq!(scene.ask("my-app", "pull,push").await.status, 200);
    assert_eq!(scene.ask("other", "pull,push").await.problem().as_deref(), Some("upstream-denied"));
    let received = scene.azure.received();
    let of = |index: usize| json!({ "assertion": assertion(&received[index]) });
    let found = microsoft(&scene.azure, &client_settings(&scene.azure, &of(0))).await;
    assert_eq!(found["blob"], "hello", "{found}");
    let found = microsoft(&scene.azure, &client_settings(&scene.azure, &of(3))).await;
    assert!(found["text"].as_str().unwrap_or_default().contains("AADSTS700213"), "{found}");
}

#[tokio::test]
async fn only_a_registry_that_federates_needs_a_broker_that_signs() {
    let (azure, front) = (Azure::start().await, IssuerFront::bind().await);
    let with_secret = azure.table();
    let table = azure.table_with_trust(front.trust(AUDIENCE, &[]));
    let start = async |text: String| {
        let settings = Settings::new(text).providers(&["azure"]);
        TestBroker::with_settings(settings).try_start().await
    };
    let problems = start(format!("{AUTH}{table}")).await.err().expect("a problem");
    let told = format!("tokens signed for `{AUDIENCE}`, and this broker signs none; set `issuer`");
    assert!(lines(&problems).contains(&told), "{}", lines(&problems));
    // What the operator states as a ceiling counts like the setting.
    let ceiling = "[registries.prod.ceiling.tokens]\naudiences = [\"api://AzureADTokenExchange\"]";
    let problems = start(format!("{AUTH}{with_secret}\n{ceiling}")).await.err();
    assert!(lines(&problems.expect("a problem")).contains(&told));
    for signing in ["", &front.signing()] {
        assert!(start(format!("{AUTH}{signing}{with_secret}")).await.is_ok(), "{signing}");
    }
    // The operator closes what the settings would open.
    let closed = "[registries.prod.ceiling.tokens]\naudiences = []";
    let broker = start(format!("{AUTH}{table}\n{closed}"))
        .await
        .unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
    assert!(logs::text().contains("not in `ceiling.tokens.audiences`"), "{}", logs::text());
}
