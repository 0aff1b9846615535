//! Cloudsmith: its double is driven by Cloudsmith's own client, then by the broker, and skopeo uses
//! what the broker answers.

use rise_broker_tests::federation::{self, IssuerFront, ServingFront};
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    AUTH, CLOUDSMITH_API_KEY, Cloudsmith, CloudsmithLie, OciLayout, Response, Settings, Skopeo,
    TestBroker, logs, vendor_client,
};
use serde_json::json;

const AUDIENCE: &str = "https://cloudsmith.example.com";
const PULL: &str = "project:my-app:registry:prod:actions:pull";
const PUSH: &str = "project:my-app:registry:prod:actions:push";

struct Scene {
    cloudsmith: Cloudsmith,
    broker: TestBroker,
    _front: ServingFront,
}

impl Scene {
    async fn start() -> Self {
        let (cloudsmith, front) = (Cloudsmith::start().await, IssuerFront::bind().await);
        cloudsmith.account("puller-1a2b", front.trust(AUDIENCE, &[PULL]), false);
        cloudsmith.account("pusher-3c4d", front.trust(AUDIENCE, &[PUSH]), true);
        let text = format!("{AUTH}{}{}", front.signing(), table(&cloudsmith));
        let settings = Settings::new(text).providers(&["cloudsmith"]);
        let broker = TestBroker::with_settings(settings).start().await;
        Self { cloudsmith, _front: front.serve(&broker), broker }
    }

    async fn ask(&self, project: &str, actions: &str) -> Response {
        let token = self.broker.token_for(project);
        self.broker.credentials(&token, &format!("project={project}&actions={actions}")).await
    }

    /// A skopeo that is logged in with an answer.
    fn skopeo(&self, answer: &Response) -> Skopeo {
        let text = |name: &str| answer.json()["credentials"][name].as_str().unwrap().to_owned();
        let skopeo = Skopeo::new();
        skopeo.log_in(self.cloudsmith.host(), &text("username"), &text("password"));
        skopeo
    }

    /// No output has an identity token, or the API key of an account.
    fn has_no_secret(&self, answers: &[&Response]) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        let identities = self.cloudsmith.exchanges().into_iter().map(|(_, identity)| identity);
        let secrets: Vec<String> = identities.chain([CLOUDSMITH_API_KEY.to_owned()]).collect();
        let texts = answers.iter().map(|answer| answer.text.clone()).chain([logs::text(), audit]);
        for text in texts {
            for secret in &secrets {
                let part = secret.rsplit('.').next().unwrap();
                assert!(!text.contains(part), "{part} in {text}");
            }
        }
    }
}

fn table(cloudsmith: &Cloudsmith) -> RegistryTable {
    registry("cloudsmith")
        .with("registry_url", cloudsmith.host())
        .with("endpoint_url", cloudsmith.url())
        .with("organization", "acme")
        .with("repository", "images")
        .with("pull_service", "puller-1a2b")
        .with("push_service", "pusher-3c4d")
        .with("audience", AUDIENCE)
        .with("accept_scope", "namespace")
        .with("trust_provider", true)
        .ceiling("private = true")
}

/// The double takes from Cloudsmith's client what it takes from the broker.
#[tokio::test]
async fn cloudsmiths_own_client_exchanges_the_same_tokens() {
    let scene = Scene::start().await;
    for actions in ["pull", "push"] {
        assert_eq!(scene.ask("my-app", actions).await.status, 200);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity").display().to_string();
    let client = async |organization: &str, service: &str, identity: &str| {
        std::fs::write(&file, identity).unwrap();
        let arguments = [scene.cloudsmith.url(), organization.into(), service.into(), file.clone()];
        vendor_client("cloudsmith_client.py", &arguments.each_ref().map(String::as_str)).await
    };
    let exchanges = scene.cloudsmith.exchanges();
    for (service, identity) in &exchanges {
        let made = client("acme", service, identity).await;
        assert!(made["token"].as_str().is_some(), "{made}");
    }
    let (puller, pusher) = (&exchanges[0], &exchanges[1]);
    for (organization, service, identity, status) in [
        ("acme", pusher.0.as_str(), puller.1.as_str(), "401"),
        ("acme", "nobody", &puller.1, "400"),
        ("other", &puller.0, &puller.1, "422"),
        ("acme", &puller.0, "no-jwt", "401"),
    ] {
        let refused = client(organization, service, identity).await;
        assert!(refused["error"].as_str().unwrap_or_default().contains(status), "{refused}");
    }
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_as_the_account_of_the_actions() {
    let scene = Scene::start().await;
    let (push, pull) = (scene.ask("my-app", "pull,push").await, scene.ask("my-app", "pull").await);
    for answer in [&push, &pull] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["credentials"]["username"], "token");
        assert_eq!(
            (&json["scope"], &json["enforced_by"]),
            (&json!("namespace"), &json!("provider"))
        );
        assert_eq!(json["image"], format!("{}/acme/images/my-app", scene.cloudsmith.host()));
        let left = json["credentials"]["expires_in"].as_i64().unwrap();
        assert!((5300..=5400).contains(&left), "{left}");
    }
    for ((service, identity), (name, subject)) in
        scene.cloudsmith.exchanges().iter().zip([("pusher-3c4d", PUSH), ("puller-1a2b", PULL)])
    {
        let claims = federation::claims(identity);
        assert_eq!((service.as_str(), &claims["sub"]), (name, &json!(subject)));
        assert_eq!(claims["aud"], AUDIENCE);
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by Cloudsmith");
    let image = |path: &str| format!("{}/{path}:v1", scene.cloudsmith.host());
    let (pusher, puller) = (scene.skopeo(&push), scene.skopeo(&pull));
    pusher.push(&layout, &image("acme/images/my-app")).await.unwrap();
    puller.pull(&image("acme/images/my-app"), &folder.path().join("copy")).await.unwrap();
    puller.push(&layout, &image("acme/images/my-app")).await.unwrap_err();
    pusher.push(&layout, &image("acme/other/my-app")).await.unwrap_err();
    scene.has_no_secret(&[&push, &pull]);
}

#[tokio::test]
async fn a_project_that_the_organization_does_not_trust_gets_nothing() {
    let scene = Scene::start().await;
    let answer = scene.ask("other", "push").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    for told in ["`pusher-3c4d`", "`project:other:registry:NAME:actions:push`"] {
        assert!(logs::text().contains(told), "{}", logs::text());
    }
    scene.has_no_secret(&[&answer]);
}

#[tokio::test]
async fn what_does_not_end_in_time_reaches_no_caller() {
    let scene = Scene::start().await;
    for (lie, told) in [
        (CloudsmithLie::ApiKey, "a token that does not say when it ends"),
        (CloudsmithLie::Echo, "sent an identity token back"),
        (CloudsmithLie::Later, "beyond the registry's `max_lifetime`"),
    ] {
        scene.cloudsmith.lie(Some(lie));
        let answer = scene.ask("my-app", "pull").await;
        assert_eq!(
            answer.problem().as_deref(),
            Some("provider-failed"),
            "{lie:?}: {}",
            answer.text
        );
        assert!(logs::text().contains(told), "{lie:?}: {}", logs::text());
        scene.has_no_secret(&[&answer]);
    }
}
