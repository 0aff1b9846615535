//! `rise-registry configure`: afterwards clients ask the helper, nothing else changes, and the
//! change can be undone.

use std::fs;

use rise_broker_tests::{
    BrokerDouble, DEMO_PASSWORD, DEMO_USER, DockerRegistry, OciLayout, RegistryAuth, Saying,
    Workstation,
};
use serde_json::{Value, json};

const OWN: &str = r#"{
	"auths": {"other.example.com": {"auth": "c2VjcmV0LWNhbmFyeQ=="}},
	"credHelpers": {"aws.example.com": "ecr-login", "r.example.com": "desktop"},
	"detachKeys": "ctrl-e,e"
}
"#;

fn workstation() -> Workstation {
    let double = BrokerDouble::start(Saying::answer("500 No", "", ""));
    Workstation::new().with("RISE_URL", &double.url).with("RISE_TOKEN", "a.j.wt")
}

fn json_of(machine: &Workstation, path: &str) -> Value {
    serde_json::from_slice(&fs::read(machine.path(path)).unwrap()).unwrap()
}

#[test]
fn a_change_is_shown_agreed_to_kept_and_taken_back() {
    let machine = workstation();
    machine.file(".docker/config.json", OWN);
    let ask = ["configure", "docker", "--host", "r.example.com", "--host", "s.example.com"];
    // Nobody can answer a question here.
    let refused = machine.rise(&ask);
    assert_eq!(refused.code, Some(0), "a preview is no failure: {refused:?}");
    insta::assert_snapshot!(format!("{}{}", refused.stdout, refused.stderr));
    assert_eq!(fs::read_to_string(machine.path(".docker/config.json")).unwrap(), OWN);

    let written = machine.rise(&[&ask[..], &["--yes"]].concat());
    assert_eq!((written.code, &written.stdout), (Some(0), &refused.stdout), "{written:?}");
    assert!(!written.stdout.contains("c2VjcmV0"), "{}", written.stdout);
    let mut expected: Value = serde_json::from_str(OWN).unwrap();
    expected["credHelpers"]["r.example.com"] = "rise".into();
    expected["credHelpers"]["s.example.com"] = "rise".into();
    assert_eq!(json_of(&machine, ".docker/config.json"), expected);
    assert_eq!(fs::read_to_string(machine.path(".docker/config.json.before-rise")).unwrap(), OWN);
    let again = machine.rise(&[&ask[..], &["--yes"]].concat());
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""));
    assert_eq!(again.stderr, "rise-registry: nothing to change\n");

    // A change by somebody else in the meantime stays.
    expected["detachKeys"] = "ctrl-x".into();
    machine.file(".docker/config.json", expected.to_string());
    let undone = machine.rise(&["configure", "docker", "--undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    insta::assert_snapshot!("undone", format!("{}{}", undone.stdout, undone.stderr));
    let mut before: Value = serde_json::from_str(OWN).unwrap();
    before["detachKeys"] = "ctrl-x".into();
    assert_eq!(json_of(&machine, ".docker/config.json"), before);
    assert!(!machine.path(".docker/config.json.before-rise").exists());
}

#[test]
fn a_file_that_was_not_there_is_gone_again_and_a_broken_one_is_left_alone() {
    let machine = workstation();
    for (client, path) in [
        ("podman", ".config/containers/auth.json"),
        ("buildx", ".docker/buildx/config/r.example.com:5000/config.json"),
        ("docker", ".docker/config.json"),
    ] {
        let host = ["configure", client, "--host", "r.example.com:5000", "--yes"];
        let written = machine.rise(&host);
        assert_eq!(written.code, Some(0), "{written:?}");
        let expected = json!({ "credHelpers": { "r.example.com:5000": "rise" } });
        assert_eq!(json_of(&machine, path), expected);
        let undone = machine.rise(&["configure", client, "--undo", "--yes"]);
        assert_eq!(undone.code, Some(0), "{undone:?}");
        assert!(!machine.path(path).exists(), "{client}");
        machine.file(path, "{broken");
        let broken = machine.rise(&host);
        assert_eq!((broken.code, broken.stdout.as_str()), (Some(7), ""), "{broken:?}");
        assert_eq!(fs::read_to_string(machine.path(path)).unwrap(), "{broken");
        fs::remove_file(machine.path(path)).unwrap();
    }
    // Buildx looks up logins by repository only where the registry speaks Bearer.
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let refused = machine.rise(&["configure", "buildx", "--host", ecr, "--yes"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("use `rise-registry configure docker`"), "{refused:?}");
    let bad = machine.rise(&["configure", "buildx", "--host", "../..", "--yes"]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
}

/// Buildx looks into the folder of the host that it connects to, for the key that docker writes.
#[test]
fn buildx_finds_docker_hub_by_its_own_names() {
    let machine = workstation();
    let arguments = ["configure", "buildx", "--host", "docker.io", "--yes"];
    let written = machine.rise(&arguments);
    assert_eq!(written.code, Some(0), "{written:?}");
    let path = ".docker/buildx/config/registry-1.docker.io/config.json";
    let helpers = &json_of(&machine, path)["credHelpers"];
    assert_eq!(helpers["https://index.docker.io/v1/"], "rise", "{helpers}");
    let undone = machine.rise(&["configure", "buildx", "--undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert!(!machine.path(path).exists());
}

#[test]
fn the_kubelet_gets_a_configuration_to_paste() {
    let machine = workstation().with("RISE_URL", "https://broker.example.com");
    let printed = machine.rise(&["configure", "kubelet", "--host", "r.example.com"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    insta::assert_snapshot!(format!("{}{}", printed.stdout, printed.stderr));
    assert_eq!(machine.rise(&["configure", "kubelet", "--undo"]).code, Some(2));
}

/// A kubelet rejects a configuration with a member that its version does not know.
#[test]
fn each_kubelet_gets_what_its_version_knows() {
    let machine = workstation().with("RISE_AUDIENCE", "https://broker.example.com");
    let configured = |version: &str| {
        machine.rise(&["configure", "kubelet", "--host", "r.example.com", "--kubernetes", version])
    };
    let role = "resources: [\"https://broker.example.com\"]";
    let gate = "KubeletServiceAccountTokenForCredentialProviders";
    let own = "Give each node a token of its own";
    for (version, attributes, said, unsaid) in [
        ("1.26", json!(null), vec![own], vec![role, gate]),
        ("v1.32.9", json!(null), vec![own], vec![role, gate]),
        (
            "1.33.5-gke.100",
            json!({ "requireServiceAccount": true,
                "serviceAccountTokenAudience": "https://broker.example.com" }),
            vec![role, gate],
            vec![own],
        ),
        (
            "1.34",
            json!({ "requireServiceAccount": true, "cacheType": "Token",
                "serviceAccountTokenAudience": "https://broker.example.com" }),
            vec![role],
            vec![gate, own],
        ),
    ] {
        let printed = configured(version);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let json: Value = serde_json::from_str(&printed.stdout).unwrap();
        assert_eq!(json["providers"][0]["tokenAttributes"], attributes, "{version}");
        assert!(said.iter().all(|text| printed.stderr.contains(text)), "{printed:?}");
        assert!(!unsaid.iter().any(|text| printed.stderr.contains(text)), "{printed:?}");
    }
    for (client, version) in [("kubelet", "1.25"), ("kubelet", "latest"), ("docker", "1.34")] {
        let host = ["--host", "r.example.com", "--kubernetes", version];
        let printed = machine.rise(&[&["configure", client], &host[..]].concat());
        assert_eq!(printed.code, Some(2), "{printed:?}");
        assert!(printed.stderr.contains("kubernetes"), "{printed:?}");
    }
}

/// With an entry of `credHelpers`, docker would not read the caller's own login any more.
#[test]
fn a_registry_for_own_logins_is_left_alone() {
    let listed = |registries: &[(&str, &str)]| {
        let list = registries.iter().map(|(host, scope)| {
            json!({ "registry": "r", "registry_url": host, "image": format!("{host}/{{project}}"),
                "type": "oci", "scope": scope })
        });
        let json = json!({ "registries": list.collect::<Vec<_>>() }).to_string();
        let answer = Saying::answer("200 OK", "content-type: application/json\r\n", &json);
        let double = BrokerDouble::start(answer);
        Workstation::new().with("RISE_URL", &double.url).with("RISE_TOKEN", "a.j.wt")
    };
    let both = listed(&[("own.example.com", "none"), ("r.example.com", "registry")]);
    let left_out = "rise-registry: own.example.com is left out: you use your own login there\n";
    let printed = both.rise(&["configure", "docker", "--yes"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stderr.starts_with(left_out), "{printed:?}");
    assert_eq!(both.docker_config(), json!({ "credHelpers": { "r.example.com": "rise" } }));
    let kubelet = both.rise(&["configure", "kubelet"]);
    let json: Value = serde_json::from_str(&kubelet.stdout).unwrap();
    assert_eq!(json["providers"][0]["matchImages"], json!(["r.example.com"]));
    // Two registries of one host: one of them issues credentials.
    let one_host = listed(&[("r.example.com", "none"), ("r.example.com", "repository")]);
    assert_eq!(one_host.rise(&["configure", "docker", "--yes"]).code, Some(0));
    assert_eq!(one_host.docker_config(), json!({ "credHelpers": { "r.example.com": "rise" } }));
    let own = listed(&[("own.example.com", "none")]);
    let printed = own.rise(&["configure", "docker", "--yes"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(2), ""), "{printed:?}");
    assert!(printed.stderr.contains("the broker issues no credentials"), "{printed:?}");
    assert!(!own.path(".docker/config.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_asks_the_helper_afterwards() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let host = registry.host();
    let listed = json!({ "registries": [{ "registry": "prod", "registry_url": host,
        "image": format!("{host}/rise/{{project}}"), "type": "oci" }] });
    let granted = json!({
        "credentials": {
            "registry_url": host, "username": DEMO_USER, "password": DEMO_PASSWORD,
            "expires_in": 3600,
                         "expires_at": null, "kind": "basic" },
        "repository": "rise/my-app", "image": format!("{host}/rise/my-app"),
        "project": "my-app", "registry": "prod",
        "actions": ["push"], "scope": "registry", "enforced_by": "host", "request_id": "01J",
    });
    let says = |json: &Value| {
        Saying::answer("200 OK", "content-type: application/json\r\n", &json.to_string())
    };
    let double = BrokerDouble::start(Saying::InTurn(vec![says(&listed), says(&granted)]));
    let machine = Workstation::new()
        .with("RISE_URL", &double.url)
        .with("RISE_TOKEN", "a.j.wt")
        .with("RISE_PROJECT", "my-app");
    let layout = OciLayout::write(&machine.path("image"), "configured").reference();
    let image = format!("docker://{host}/rise/my-app:1");
    let push = || {
        // Podman reads this file without REGISTRY_AUTH_FILE.
        machine.run(
            "skopeo",
            &["--insecure-policy", "copy", "--dest-tls-verify=false", &layout, &image],
        )
    };
    assert_ne!(push().code, Some(0));
    let written = machine.rise(&["configure", "podman", "--yes"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let pushed = push();
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    assert_eq!(double.requests().len(), 2);
}
