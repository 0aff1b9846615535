//! `deploy/compose` without an engine: Compose reads its file, and its services are started one by
//! one on the same files of settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rise_broker_tests::chart::read_yaml;
use rise_broker_tests::{
    Client, Installation, OciLayout, PeerCommand, Port, Process, Serving, Skopeo, repository,
};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    repository().join("deploy/compose")
}

/// The services of a profile. Compose 1 lists all of them, whatever the profile.
fn services(compose: &Value, profile: &str) -> Vec<String> {
    let services = compose["services"].as_object().unwrap().iter();
    let of_profile = services.filter(|(_, service)| match service["profiles"].as_array() {
        Some(profiles) => profiles.contains(&json!(profile)),
        None => true,
    });
    of_profile.map(|(name, _)| name.clone()).collect()
}

#[test]
fn compose_reads_the_file_and_its_profiles() {
    let compose = read_yaml("deploy/compose/compose.yaml");
    for (profile, expected) in [
        ("registry", &["broker", "browser", "catalog", "certificates", "registry"][..]),
        ("registry-open", &["broker", "browser", "catalog", "registry-open"]),
    ] {
        let mut command = Command::new("timeout");
        command.args(["60", "docker-compose", "--file"]).arg(folder().join("compose.yaml"));
        command.args(["config", "--quiet"]).env("COMPOSE_PROFILES", profile);
        command.env_remove("COMPOSE_FILE").env_remove("RISE_IMAGE");
        let output = command.output().expect("run `make peers` first");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(services(&compose, profile), expected);
        // The broker's run mode is the profile.
        assert!(folder().join(format!("config/{profile}.toml")).exists(), "{profile}");
    }
    // Without a variable, `.env` names the profile.
    let settings = fs::read_to_string(folder().join(".env")).unwrap();
    assert!(settings.contains("\nCOMPOSE_PROFILES=registry\n"), "{settings}");
}

/// No service but the one that runs nginx may write outside its volumes or has a capability, and
/// what needs no login changes no image.
#[test]
fn services_can_do_no_more_than_they_need() {
    let compose = read_yaml("deploy/compose/compose.yaml");
    for (name, service) in compose["services"].as_object().unwrap() {
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        if name != "browser" {
            assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
            assert_eq!(service["read_only"], true, "{name}");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    let volumes = compose["services"]["catalog"]["volumes"].as_array().unwrap();
    for volume in volumes {
        assert!(volume.as_str().unwrap().ends_with(":ro"), "{volume}");
    }
    let settings = read_yaml("deploy/compose/catalog.yml");
    let maintenance = &settings["storage"]["maintenance"];
    assert_eq!(maintenance["readonly"]["enabled"], true);
    assert_eq!(maintenance["uploadpurging"]["enabled"], false, "it writes");
    let page = fs::read_to_string(repository().join("docs/install/compose.md")).unwrap();
    let row = page.lines().find(|line| line.contains("localhost:5001")).unwrap();
    assert!(row.contains("every user and program of this machine can read"), "{row}");
}

#[test]
fn the_task_of_the_seeds_starts_this_file() {
    let tasks = fs::read_to_string(repository().join("mise.toml")).unwrap();
    assert!(tasks.contains("[tasks.\"backend:deps\"]"), "{tasks}");
    assert!(tasks.contains("docker compose --file deploy/compose/compose.yaml up"), "{tasks}");
}

/// The broker with the settings of a profile. Only paths and ports differ from the container's.
fn installation(profile: &str, registry: &str) -> Installation {
    let mut installation = Installation::new("");
    for entry in fs::read_dir(folder().join("config")).unwrap() {
        let entry = entry.unwrap();
        let name = format!("config/{}", entry.file_name().to_str().unwrap());
        let text = fs::read_to_string(entry.path()).unwrap();
        installation.file(&name, text.replace("/var/lib/rise-broker/", ""));
    }
    installation.provider(&repository().join("dist/providers/distribution.wasm"), "distribution");
    installation.variable("RISE_CONFIG_RUN_MODE", profile);
    installation.variable("RISE_REGISTRY__REGISTRY_URL", registry);
    installation.without("RISE_SERVER__STATE_DIRECTORY");
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
    installation
}

fn token(installation: &Installation) -> String {
    let claim = "repository=acme/my-app";
    let printed = installation.run(&["token", "--subject", "me", "--claim", claim]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout.trim().to_owned()
}

/// Debian's registry on a file of settings, whose images lie in `images`.
async fn registry(file: &str, port: Port, images: &Path, more: &[(&str, &str)]) -> Process {
    let address = format!("127.0.0.1:{}", port.number());
    let mut command = PeerCommand::system("docker-registry")
        .argument("serve")
        .argument(folder().join(file).display().to_string())
        .variable("REGISTRY_HTTP_ADDR", address.as_str())
        .variable("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", images.display().to_string());
    for (name, value) in more {
        command = command.variable(name, *value);
    }
    Process::start("docker-registry", command, port, &format!("http://{address}/v2/")).await
}

struct Scene {
    installation: Installation,
    serving: Serving,
    host: String,
    _registry: Process,
}

/// What `docker compose up` starts, in its order.
async fn scene(images: &Path) -> Scene {
    let port = Port::free();
    let host = format!("127.0.0.1:{}", port.number());
    let installation = installation("registry", &host);
    let serving = installation.serve();
    let certificates = installation.path("certificates.pem").display().to_string();
    let printed = installation.run(&["keys", "certificate", "--output", &certificates]);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), ""), "{}", printed.stderr);
    let realm = format!("{}/token", serving.url);
    let more = [
        ("REGISTRY_AUTH_TOKEN_REALM", realm.as_str()),
        ("REGISTRY_AUTH_TOKEN_SERVICE", &host),
        ("REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE", &certificates),
    ];
    let registry = registry("registry.yml", port, images, &more).await;
    Scene { installation, serving, host, _registry: registry }
}

async fn copy(skopeo: &Skopeo, from: &str, to: &str) -> Result<(), String> {
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let ran = skopeo.run(&[&["copy"], &insecure[..], &[from, to]].concat()).await;
    if ran.success { Ok(()) } else { Err(ran.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_pushes_its_own_project_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let scene = scene(&images).await;
    let token = token(&scene.installation);

    let mut login = Command::new("docker");
    login.args(["login", &scene.host, "--username", "oidc", "--password", &token]);
    login.env("DOCKER_CONFIG", folder.path().join("docker"));
    let output = login.output().expect("run `make peers` first");
    assert!(output.status.success(), "{output:?}\n{}", scene.serving.log());

    let layout = OciLayout::write(&folder.path().join("layout"), "through compose");
    let image = |project: &str| format!("docker://{}/{project}:1", scene.host);
    let skopeo = Skopeo::new();
    copy(&skopeo, &layout.reference(), &image("my-app")).await.unwrap_err();
    skopeo.log_in(&scene.host, "oidc", &token);
    copy(&skopeo, &layout.reference(), &image("my-app")).await.unwrap();
    let pulled = format!("oci:{}:1", folder.path().join("pulled").display());
    copy(&skopeo, &image("my-app"), &pulled).await.unwrap();
    let refused = copy(&skopeo, &layout.reference(), &image("other")).await.unwrap_err();
    assert!(refused.contains("denied"), "{refused}");

    // The registry browser reads the same images, and changes nothing.
    let port = Port::free();
    let catalog = format!("http://127.0.0.1:{}", port.number());
    let _catalog = registry("catalog.yml", port, &images, &[]).await;
    let client = Client::new();
    let listed = client.get(&format!("{catalog}/v2/_catalog")).await.json();
    assert_eq!(listed, json!({ "repositories": ["my-app"] }));
    let tags = client.get(&format!("{catalog}/v2/my-app/tags/list")).await.json();
    assert_eq!(tags["tags"], json!(["1"]));
    let to = image("my-app").replace(&scene.host, catalog.trim_start_matches("http://"));
    copy(&Skopeo::new(), &layout.reference(), &to).await.unwrap_err();
}

/// The profile `registry-open`: the seeds' commands, word for word but for the port.
#[tokio::test]
async fn the_open_registry_wants_no_login() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::free();
    let host = format!("127.0.0.1:{}", port.number());
    // The image registry:2 has these settings of its own.
    let images = folder.path().join("images");
    let _registry = registry(
        "catalog.yml",
        port,
        &images,
        &[("REGISTRY_STORAGE_MAINTENANCE", "{ readonly: { enabled: false } }")],
    )
    .await;
    let installation = installation("registry-open", &host);
    let token = token(&installation);
    let serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer: Value = Client::new().get_as(&url, &token).await.unwrap().json();
    assert_eq!(answer["credentials"]["kind"], "client-auth", "{answer}");
    assert_eq!(answer["image"], format!("{host}/rise-apps/my-app"));
    let layout = OciLayout::write(&folder.path().join("layout"), "open");
    let image = format!("docker://{host}/my-app:1");
    copy(&Skopeo::new(), &layout.reference(), &image).await.unwrap();
    let client = Client::new();
    let listed = client.get(&format!("http://{host}/v2/_catalog")).await.json();
    assert_eq!(listed, json!({ "repositories": ["my-app"] }));
    let tags = client.get(&format!("http://{host}/v2/my-app/tags/list")).await.json();
    assert_eq!(tags["tags"], json!(["1"]));
}
