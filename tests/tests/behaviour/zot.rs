//! zot needs no provider of its own: it takes the tokens that the broker signs for Distribution
//! registries. Its double checks them as zot's source does, and skopeo uses it.

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker::keys::{KeySet, SigningKind};
use rise_broker_tests::registry::distribution;
use rise_broker_tests::{
    AUTH, Listening, OciLayout, SIGNING, Settings, Skopeo, TestBroker, Zot, federation,
};
use serde_json::{Value, json};

/// Lets tokens with `repository = "acme/<project>"` use a second registry as well.
const SECOND: &str = r#"
[[rules]]
name = "second"
issuer = "local"
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["second"]
allow = ["pull", "push"]
"#;

struct Scene {
    zot: Zot,
    broker: TestBroker,
    listening: Listening,
    settings: String,
}

impl Scene {
    /// A broker with `zot` as `prod`, and another registry as `second`.
    async fn start() -> Self {
        let zot = Zot::start().await;
        let table = distribution(zot.host()).with("namespace", "apps");
        let second = distribution("registry.example.com").named("second").with("namespace", "apps");
        let settings = format!("{AUTH}{SECOND}{SIGNING}{table}{second}");
        let broker = TestBroker::with_settings(Settings::new(&settings).provider("distribution"));
        let broker = broker.start().await;
        let listening = broker.listen(None).await;
        let scene = Self { zot, broker, listening, settings };
        scene.configure(&scene.broker.generation.signing.as_ref().unwrap().certificates());
        scene
    }

    /// Gives zot the file that `rise-broker keys certificate` prints.
    fn configure(&self, certificates: &str) {
        let realm = format!("http://{}/token", self.listening.address);
        self.zot.configure(&realm, self.zot.host(), certificates);
    }

    async fn login(&self, registry: &str, actions: &str) -> Value {
        let token = self.broker.token_for("my-app");
        let query = format!("project=my-app&registry={registry}&actions={actions}");
        let answer = self.broker.credentials(&token, &query).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    fn image(&self, project: &str) -> String {
        format!("{}/apps/{project}:v1", self.zot.host())
    }

    fn skopeo(&self, login: &Value) -> Skopeo {
        let text = |name: &str| login["credentials"][name].as_str().unwrap().to_owned();
        let skopeo = Skopeo::new();
        skopeo.log_in(self.zot.host(), &text("username"), &text("password"));
        skopeo
    }
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_with_what_the_broker_answered() {
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "in zot");
    let (push, pull) = (scene.login("prod", "pull,push").await, scene.login("prod", "pull").await);
    assert_eq!((&push["scope"], &push["enforced_by"]), (&json!("repository"), &json!("host")));
    let (pusher, puller) = (scene.skopeo(&push), scene.skopeo(&pull));
    pusher.push(&layout, &scene.image("my-app")).await.unwrap();
    puller.pull(&scene.image("my-app"), &folder.path().join("copy")).await.unwrap();
    puller.push(&layout, &scene.image("my-app")).await.unwrap_err();
    for other in ["other", "my-app2", "my-app/web"] {
        pusher.push(&layout, &scene.image(other)).await.unwrap_err();
        puller.pull(&scene.image(other), &folder.path().join(other)).await.unwrap_err();
    }
    // Without any client of the broker: the caller's OIDC token is the password.
    let own = Skopeo::new();
    own.log_in(scene.zot.host(), "oidc", &scene.broker.token_for("my-app"));
    own.push(&layout, &scene.image("my-app")).await.unwrap();
    own.push(&layout, &scene.image("other")).await.unwrap_err();
}

/// zot compares type, name and each action letter by letter, and knows no `*`.
#[tokio::test]
async fn a_token_names_the_repository_and_each_action() {
    let scene = Scene::start().await;
    for (actions, named) in [("pull", json!(["pull"])), ("pull,push", json!(["pull", "push"]))] {
        let login = scene.login("prod", actions).await;
        let claims = federation::claims(login["credentials"]["password"].as_str().unwrap());
        let access = json!([{ "type": "repository", "name": "apps/my-app", "actions": named }]);
        assert_eq!(claims["access"], access);
    }
}

/// zot reads the first certificate of its file alone.
#[tokio::test]
async fn after_a_rotation_zot_needs_the_new_file() {
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "after a rotation");
    let (path, now) = (scene.broker.settings.path("signing-keys.pem"), Clock::system().now());
    let (kind, overlap) = (SigningKind::Rsa(2048), SignedDuration::from_hours(12));
    let keys = KeySet::rotate(&path, kind, now, overlap, true).unwrap();
    scene.broker.reload(&scene.settings).await;
    let skopeo = Skopeo::new();
    skopeo.log_in(scene.zot.host(), "oidc", &scene.broker.token_for("my-app"));
    skopeo.push(&layout, &scene.image("my-app")).await.unwrap_err();
    scene.configure(&keys.certificates());
    skopeo.push(&layout, &scene.image("my-app")).await.unwrap();
}

/// This is why a zot should have a broker, or at least repositories, of its own: it does not look
/// for whom a token is. A registry of the Distribution project does.
#[tokio::test]
async fn a_token_for_another_registry_opens_the_same_name_in_zot() {
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "for another registry");
    let (source, to) = (layout.reference(), format!("docker://{}", scene.image("my-app")));
    let login = scene.login("second", "pull,push").await;
    let token = login["credentials"]["password"].as_str().unwrap();
    let arguments =
        ["copy", "--dest-tls-verify=false", "--dest-registry-token", token, &source, &to];
    assert!(Skopeo::new().run(&arguments).await.success);
    let other = format!("docker://{}", scene.image("other"));
    let arguments =
        ["copy", "--dest-tls-verify=false", "--dest-registry-token", token, &source, &other];
    assert!(!Skopeo::new().run(&arguments).await.success);
}
