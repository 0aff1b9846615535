//! The `oci` provider and a real registry: pushes with the broker's answer, and with the caller's
//! own login.

use std::fs;
use std::path::Path;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{
    DEMO_PASSWORD, DEMO_USER, DockerRegistry, OciLayout, RegistryAuth, Skopeo, TestBroker, logs,
};
use serde_json::{Value, json};

async fn broker(registry: &DockerRegistry, more: &str) -> TestBroker {
    let registry = oci(registry.host()).with("namespace", "rise/apps").lines(more);
    TestBroker::with_registries(registry).start().await
}

fn shared_account() -> String {
    format!(
        "username = \"{DEMO_USER}\"\npassword = \"{DEMO_PASSWORD}\"\naccept_scope = \"registry\""
    )
}

async fn push(skopeo: &Skopeo, layout: &OciLayout, image: &str) -> Result<(), String> {
    let image = format!("docker://{image}");
    let ran = skopeo
        .run(&[
            "copy",
            "--dest-tls-verify=false",
            "--preserve-digests",
            &layout.reference(),
            &image,
        ])
        .await;
    if ran.success { Ok(()) } else { Err(ran.stderr) }
}

async fn pull(skopeo: &Skopeo, image: &str, to: &Path) -> Result<(), String> {
    let (image, copy) = (format!("docker://{image}"), format!("oci:{}:tiny", to.display()));
    let ran =
        skopeo.run(&["copy", "--src-tls-verify=false", "--preserve-digests", &image, &copy]).await;
    if ran.success { Ok(()) } else { Err(ran.stderr) }
}

/// Every blob of an OCI layout by its digest: manifest, settings and layer.
fn blobs(layout: &Path) -> Vec<(String, Vec<u8>)> {
    let mut blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    blobs.sort();
    blobs
}

#[tokio::test]
async fn an_image_goes_there_and_back_with_what_the_broker_answered() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let broker = broker(&registry, &shared_account()).await;
    let token = broker.token_for("my-app");
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut json = answer.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let image = format!("{}:v1", text(&json["image"]));
    let [host, user, password] =
        ["registry_url", "username", "password"].map(|key| text(&json["credentials"][key]));
    assert_eq!(image, format!("{host}/{}:v1", text(&json["repository"])));

    let directory = tempfile::tempdir().unwrap();
    let [original, copy] = ["original", "copy"].map(|name| directory.path().join(name));
    let layout = OciLayout::write(&original, "there and back");
    let skopeo = Skopeo::new();
    let refused = push(&skopeo, &layout, &image).await.unwrap_err();
    assert!(refused.contains("authentication required"), "{refused}");
    skopeo.log_in(&host, &user, &password);
    push(&skopeo, &layout, &image).await.unwrap();
    // The caller asked for pulling alone.
    let pulling = broker.credentials(&token, "project=my-app&actions=pull").await.json();
    let puller = Skopeo::new();
    puller.log_in(
        &host,
        &text(&pulling["credentials"]["username"]),
        &text(&pulling["credentials"]["password"]),
    );
    pull(&puller, &image, &copy).await.unwrap();
    let there = blobs(&original);
    assert_eq!(there.len(), 3);
    assert_eq!(blobs(&copy), there);
    let digest = layout.manifest_digest().trim_start_matches("sha256:").to_owned();
    assert!(there.iter().any(|(name, _)| *name == digest));

    json["request_id"] = "[request_id]".into();
    let shown = serde_json::to_string_pretty(&json).unwrap().replace(registry.host(), "[host]");
    insta::assert_snapshot!(shown, @r#"
    {
      "actions": [
        "pull",
        "push"
      ],
      "credentials": {
        "expires_at": null,
        "expires_in": null,
        "kind": "basic",
        "password": "demo-password",
        "registry_url": "[host]",
        "username": "demo"
      },
      "enforced_by": "host",
      "image": "[host]/rise/apps/my-app",
      "project": "my-app",
      "refresh_after": null,
      "registry": "prod",
      "repository": "rise/apps/my-app",
      "request_id": "[request_id]",
      "revocable": false,
      "scope": "registry"
    }
    "#);
}

#[tokio::test]
async fn a_project_that_no_rule_gives_gets_no_password() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let broker = broker(&registry, &shared_account()).await;
    let token = broker.token_for("my-app");
    let other = broker.credentials(&token, "project=other").await;
    let reader = broker.token(&json!({ "role": "reader" }));
    let too_much = broker.credentials(&reader, "project=my-app&actions=push").await;
    let image = format!("image={}/rise/apps/other:v1", registry.host());
    let by_image = broker.credentials(&token, &image).await;
    for answer in [&other, &too_much, &by_image] {
        assert_eq!(answer.status, 403, "{}", answer.text);
        assert_eq!(answer.problem().as_deref(), Some("access-denied"));
        assert!(!answer.text.contains(DEMO_PASSWORD), "{}", answer.text);
    }
    let events: Vec<_> = broker.audit().iter().map(|record| record["event"].clone()).collect();
    assert_eq!(events, ["authz.denied", "authz.denied", "authz.denied"]);
    assert!(!registry.process().output().contains("rise/apps"), "the registry was not asked");
}

#[tokio::test]
async fn callers_with_a_login_of_their_own_are_told_where_to_push() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    for kind in ["oci", "docker", "oci-client-auth"] {
        let own = oci(registry.host()).with("type", kind).with("namespace", "rise/apps");
        let broker = TestBroker::with_registries(own).start().await;
        let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text);
        let json = answer.json();
        let credentials = json!({
            "registry_url": registry.host(), "username": "", "password": "",
            "expires_in": null, "expires_at": null, "kind": "client-auth",
        });
        assert_eq!(json["credentials"], credentials, "{kind}");
        assert_eq!(
            (json["scope"].as_str(), json["enforced_by"].as_str()),
            (Some("none"), Some("host")),
            "{kind}"
        );
        let image = format!("{}:{kind}", json["image"].as_str().unwrap());
        assert_eq!(image, format!("{}/rise/apps/my-app:{kind}", registry.host()));

        let directory = tempfile::tempdir().unwrap();
        let [original, copy] = ["original", "copy"].map(|name| directory.path().join(name));
        let layout = OciLayout::write(&original, kind);
        let skopeo = Skopeo::new();
        // The broker's answer opens nothing …
        skopeo.log_in(registry.host(), "", "");
        push(&skopeo, &layout, &image).await.unwrap_err();
        // … and the caller's own login does.
        skopeo.log_in(registry.host(), DEMO_USER, DEMO_PASSWORD);
        push(&skopeo, &layout, &image).await.unwrap();
        pull(&skopeo, &image, &copy).await.unwrap();
        assert_eq!(blobs(&copy), blobs(&original), "{kind}");
    }
}

#[tokio::test]
async fn the_shared_password_is_in_no_record_and_no_log() {
    // This is not the demo password, which the logs of other tests in this process may contain.
    let shared = oci("localhost:5000").account("ci", "oci-canary-password");
    let broker = TestBroker::with_registries(shared).start().await;
    let token = broker.token_for("my-app");
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.json()["credentials"]["password"], "oci-canary-password");
    let request_id = answer.json()["request_id"].as_str().unwrap().to_owned();
    let audit = broker.audit();
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0]["credential"]["scope"], "registry");
    let (audit, logs) = (Value::from(audit).to_string(), logs::text());
    for text in [&audit, &logs] {
        assert!(text.contains(&request_id));
        assert!(!text.contains("oci-canary-password") && !text.contains(&token));
    }
}
