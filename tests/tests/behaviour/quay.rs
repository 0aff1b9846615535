//! Quay: robots that trust the broker. skopeo uses what the broker answers.

use rise_broker_tests::federation::{IssuerFront, ServingFront};
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    AUTH, OciLayout, QUAY_ROBOT_PASSWORD, Quay, QuayLie, Response, Settings, Skopeo, TestBroker,
    lines, logs,
};
use serde_json::json;

const AUDIENCE: &str = "quay.example.com";
const PULL: &str = "project:my-app:registry:prod:actions:pull";
const PUSH: &str = "project:my-app:registry:prod:actions:push";

struct Scene {
    quay: Quay,
    broker: TestBroker,
    _front: ServingFront,
}

impl Scene {
    /// The robots of `my-app`, each with its one subject.
    async fn start() -> Self {
        let (quay, front) = (Quay::start().await, IssuerFront::bind().await);
        let repository = ["acme/my-app"];
        let (pull, push) = (["pull"], ["pull", "push"]);
        quay.robot("acme+my-app_pull", front.trust(AUDIENCE, &[PULL]), &repository, &pull);
        quay.robot("acme+my-app_push", front.trust(AUDIENCE, &[PUSH]), &repository, &push);
        let settings = settings(&table(&quay), &front);
        let broker = TestBroker::with_settings(settings).start().await;
        Self { quay, _front: front.serve(&broker), broker }
    }

    async fn ask(&self, project: &str, actions: &str) -> Response {
        let token = self.broker.token_for(project);
        self.broker.credentials(&token, &format!("project={project}&actions={actions}")).await
    }

    /// No output has an identity token, or the robot's own password.
    fn has_no_secret(&self, answers: &[&Response]) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        let identities = self.quay.exchanges().into_iter().map(|(_, identity)| identity);
        let secrets: Vec<String> = identities.chain([QUAY_ROBOT_PASSWORD.to_owned()]).collect();
        let texts = answers.iter().map(|answer| answer.text.clone()).chain([logs::text(), audit]);
        for text in texts {
            for secret in &secrets {
                let part = secret.rsplit('.').next().unwrap();
                assert!(!text.contains(part), "{part} in {text}");
            }
        }
    }
}

fn table(quay: &Quay) -> RegistryTable {
    registry("quay")
        .with("base_url", quay.url())
        .with("organization", "acme")
        .with("pull_robot", "{project}_pull")
        .with("push_robot", "{project}_push")
        .with("audience", AUDIENCE)
        .with("trust_provider", true)
        .ceiling("private = true")
}

fn settings(table: &RegistryTable, front: &IssuerFront) -> Settings {
    Settings::new(format!("{AUTH}{}{table}", front.signing())).providers(&["quay"])
}

/// A skopeo that is logged in with an answer.
fn skopeo(quay: &Quay, answer: &Response) -> Skopeo {
    let text = |name: &str| answer.json()["credentials"][name].as_str().unwrap().to_owned();
    let skopeo = Skopeo::new();
    skopeo.log_in(quay.host(), &text("username"), &text("password"));
    skopeo
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_as_the_robot_of_the_actions() {
    let scene = Scene::start().await;
    let (push, pull) = (scene.ask("my-app", "pull,push").await, scene.ask("my-app", "pull").await);
    for (answer, robot) in [(&push, "acme+my-app_push"), (&pull, "acme+my-app_pull")] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["credentials"]["username"], robot);
        assert_eq!(
            (&json["scope"], &json["enforced_by"]),
            (&json!("repository"), &json!("provider"))
        );
        assert_eq!(json["image"], format!("{}/acme/my-app", scene.quay.host()));
        let left = json["credentials"]["expires_in"].as_i64().unwrap();
        assert!((3500..=3600).contains(&left), "{left}");
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by a robot of Quay");
    let image = |project: &str| format!("{}/acme/{project}:v1", scene.quay.host());
    let (pusher, puller) = (skopeo(&scene.quay, &push), skopeo(&scene.quay, &pull));
    pusher.push(&layout, &image("my-app")).await.unwrap();
    puller.pull(&image("my-app"), &folder.path().join("copy")).await.unwrap();
    for (skopeo, project) in [(&pusher, "other"), (&puller, "my-app")] {
        let refused = skopeo.push(&layout, &image(project)).await.unwrap_err();
        assert!(refused.contains("unauthorized"), "{project}: {refused}");
    }
    scene.has_no_secret(&[&push, &pull]);
}

#[tokio::test]
async fn each_exchange_is_for_one_robot_with_the_subject_of_the_grant() {
    let scene = Scene::start().await;
    for (actions, robot, subject) in [
        ("pull", "acme+my-app_pull", PULL),
        ("push", "acme+my-app_push", PUSH),
        ("pull,push", "acme+my-app_push", PUSH),
    ] {
        assert_eq!(scene.ask("my-app", actions).await.status, 200);
        let (asked, identity) = scene.quay.exchanges().pop().unwrap();
        let claims = rise_broker_tests::federation::claims(&identity);
        assert_eq!((asked.as_str(), &claims["sub"]), (robot, &json!(subject)), "{actions}");
        assert_eq!(claims["aud"], AUDIENCE);
    }
    assert_eq!(scene.quay.exchanges().len(), 3);
}

#[tokio::test]
async fn a_robot_that_does_not_trust_the_project_gives_nothing() {
    let scene = Scene::start().await;
    // Quay has no robots for it.
    let answer = scene.ask("other", "pull").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("`acme+other_pull`"), "{}", logs::text());
    let told = "`project:other:registry:NAME:actions:pull`";
    assert!(logs::text().contains(told), "{}", logs::text());
    // It has a robot of this name, which trusts another project.
    let trust = IssuerFront::bind().await.trust(AUDIENCE, &[PULL]);
    scene.quay.robot("acme+other_pull", trust, &["acme/other"], &["pull"]);
    let answer = scene.ask("other", "pull").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    scene.has_no_secret(&[&answer]);
}

#[tokio::test]
async fn what_is_not_the_robots_hour_reaches_no_caller() {
    let scene = Scene::start().await;
    for (lie, told) in [
        (QuayLie::OtherRobot, "a password of the robot `acme+admin`"),
        (QuayLie::OwnPassword, "a password that does not end"),
        (QuayLie::Echo, "sent an identity token back"),
        (QuayLie::Later, "beyond the registry's `max_lifetime`"),
    ] {
        scene.quay.lie(Some(lie));
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
    scene.quay.lie(None);
    assert_eq!(scene.ask("my-app", "pull").await.status, 200);
}

#[tokio::test]
async fn robots_for_all_projects_are_accepted_as_what_they_are() {
    let (quay, front) = (Quay::start().await, IssuerFront::bind().await);
    let shared = table(&quay).with("pull_robot", "puller").with("push_robot", "pusher");
    let refused = TestBroker::with_settings(settings(&shared, &front)).try_start().await;
    let problems = lines(&refused.err().expect("a problem"));
    assert!(problems.contains("accept_scope = \"namespace\""), "{problems}");
    let other = ["acme/my-app", "acme/other"];
    quay.robot("acme+puller", front.trust(AUDIENCE, &[PULL]), &other, &["pull"]);
    let shared = shared.with("accept_scope", "namespace");
    let broker = TestBroker::with_settings(settings(&shared, &front)).start().await;
    let _front = front.serve(&broker);
    let answer =
        broker.credentials(&broker.token_for("my-app"), "project=my-app&actions=pull").await;
    assert_eq!(answer.json()["scope"], "namespace", "{}", answer.text);
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by nobody");
    let image = format!("{}/acme/other:v1", quay.host());
    skopeo(&quay, &answer).push(&layout, &image).await.unwrap_err();
}
