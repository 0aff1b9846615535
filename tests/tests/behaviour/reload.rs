//! The real binary while its providers and settings change: correct changes take effect at once,
//! wrong ones change nothing, and callers notice neither.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::time::Duration;

use rise_broker_tests::load::Load;
use rise_broker_tests::provider_files::{broken, component, digest, drop_in, noted};
use rise_broker_tests::registry::{RegistryTable, ecr, oci};
use rise_broker_tests::{AUTH, Answer, Client, Installation, Serving, Stub};
use serde_json::Value;

const PATH: &str = "/api/v1/registry/credentials?project=my-app";
const NOT_LOADED: &str = "a provider was not loaded; the one loaded before stays in use";

/// A registry with one account for all callers.
fn shared() -> RegistryTable {
    oci("oci.example.com").account("robot", "a-password")
}

fn settings(registries: impl Display) -> String {
    format!("{AUTH}{registries}")
}

fn installation() -> Installation {
    let mut installation = Installation::new(settings(shared()));
    installation.unlimited();
    installation
}

fn token(installation: &Installation) -> String {
    let printed =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout.trim().to_owned()
}

async fn status(serving: &Serving, token: &str) -> u16 {
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    Client::new().get_with(&format!("{}{PATH}", serving.url), &headers).await.status
}

fn address(url: &str) -> SocketAddr {
    url.rsplit_once('/').unwrap().1.parse().unwrap()
}

/// Waits until the provider of this name is the one with these bytes.
async fn serves(serving: &Serving, name: &str, bytes: &[u8]) {
    let expected = digest(bytes);
    let is_loaded =
        |provider: &Value| provider["name"] == name && provider["sha256"] == expected.as_str();
    let said = |said: &Value| said["providers"].as_array().unwrap().iter().any(is_loaded);
    serving.until("/api/v1/providers", said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_exchanged_under_load_and_no_request_notices() {
    let installation = installation();
    let (token, good) = (token(&installation), component("oci"));
    let versions = ["one", "two"].map(|note| noted(&good, note));
    let serving = installation.serve();
    let load = Load { connections: 8, requests: 1_000, rate: Some(80.) };
    let (to, bearer) = (address(&serving.url), token.clone());
    let load = tokio::spawn(async move { load.run(to, PATH, &bearer).await });
    let folder = installation.path("providers");
    let broken = broken(&good);
    for (round, (stage, bytes)) in broken.iter().enumerate() {
        let version = &versions[round % 2];
        drop_in(&folder, "oci.wasm", version);
        serves(&serving, "oci", version).await;
        // One file has a name of its own, the next replaces the provider in use.
        let name = if round % 2 == 0 { "new.wasm" } else { "oci.wasm" };
        drop_in(&folder, name, bytes);
        let refused = |said: &Value| {
            let refused = &said["refused"][0];
            refused["sha256"] == digest(bytes).as_str() && refused["stage"] == *stage
        };
        let said = serving.until("/api/v1/providers", refused).await;
        assert!(said["providers"].to_string().contains(&digest(version)), "{said:#}");
        let ready = serving.admin("/readyz").await;
        assert_eq!(ready["status"], "ready");
        assert_eq!(ready["not_taken_over"]["providers"], said["refused"], "{ready:#}");
        if name == "new.wasm" {
            fs::remove_file(folder.join(name)).unwrap();
            serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
        }
    }
    drop_in(&folder, "oci.wasm", &versions[0]);
    serves(&serving, "oci", &versions[0]).await;
    serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
    let report = load.await.unwrap();
    assert_eq!((report.times.len(), report.failed), (1_000, 0));
    let lines = serving.lines_so_far();
    let mut reported: Vec<_> = lines.iter().filter(|line| line["message"] == NOT_LOADED).collect();
    assert!(
        reported
            .iter()
            .all(|line| line["problem"].as_str().is_some_and(|problem| problem.len() > 20))
    );
    reported.sort_by_key(|line| line["digest"].to_string());
    reported.dedup_by_key(|line| line["digest"].to_string());
    assert_eq!(reported.len(), 6, "each once: {reported:#?}");
    assert_eq!(lines.iter().filter(|line| line["message"] == NOT_LOADED).count(), 6);
    assert!(!lines.iter().any(|line| line.to_string().contains("panicked")), "{lines:#?}");
    let metrics = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    for counted in ["component\"} 4", "imports\"} 2"] {
        let line = format!("rise_broker_provider_load_failures_total{{stage=\"{counted}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_volume_of_kubernetes_is_followed_through_its_links() {
    let mut installation = installation();
    installation.folder("volume", 0o755);
    installation.without("RISE_PROVIDERS__DIRECTORY");
    installation.variable("RISE_PROVIDERS__DIRECTORY", "volume");
    let volume = installation.path("volume");
    let generation = |name: &str, bytes: &[u8]| {
        fs::create_dir(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("oci.wasm"), bytes).unwrap();
        symlink(name, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    };
    let good = component("oci");
    generation("..first", &good);
    symlink("..data/oci.wasm", volume.join("oci.wasm")).unwrap();
    let serving = installation.serve();
    serves(&serving, "oci", &good).await;
    // The file changes more than once: a watch of the file itself would end with the first change.
    for (old, name) in [("..first", "..second"), ("..second", "..third")] {
        let bytes = noted(&good, name);
        generation(name, &bytes);
        fs::remove_dir_all(volume.join(old)).unwrap();
        serves(&serving, "oci", &bytes).await;
    }
    assert!(serving.lines_so_far().iter().all(|line| line["level"] != "ERROR"));
}

#[tokio::test]
async fn a_provider_without_its_file_serves_until_no_registry_uses_it() {
    let installation = installation();
    let token = token(&installation);
    let serving = installation.serve();
    fs::remove_file(installation.path("providers/oci.wasm")).unwrap();
    let line = serving.wait_for_line(
        "the file of a provider in use is gone; the provider stays in \
         use until the next start, which will fail",
    );
    assert_eq!((&line["level"], &line["file"]), (&"ERROR".into(), &"providers/oci.wasm".into()));
    let is_missing = |said: &Value| {
        said["providers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|provider| provider["name"] == "oci" && provider["is_missing"] == true)
    };
    serving.until("/api/v1/providers", is_missing).await;
    assert_eq!(status(&serving, &token).await, 200);
    installation.settings(settings(ecr("http://127.0.0.1:9")));
    let is_gone = |said: &Value| {
        said["providers"].as_array().unwrap().iter().all(|provider| provider["name"] != "oci")
    };
    serving.until("/api/v1/providers", is_gone).await;
    serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
}

#[tokio::test]
async fn wrong_settings_change_nothing_and_say_which_key_of_which_file_is_wrong() {
    let installation = installation();
    let token = token(&installation);
    let serving = installation.serve();
    for (wrong, expected) in [
        ("[servre]\nlisten = 1\n", "config/default.toml: servre"),
        (
            "[registries.other]\ntype = \"oci\"\n",
            "config/default.toml: registries.other.registry_url",
        ),
        ("[registries.other]\ntype = \"nobody\"\n", "config/default.toml: registries.other.type"),
    ] {
        installation.settings(format!("{}{wrong}", settings(shared())));
        let says = |said: &Value| {
            said["not_taken_over"]["settings"][0]
                .as_str()
                .is_some_and(|problem| problem.starts_with(expected))
        };
        let said = serving.until("/readyz", says).await;
        assert_eq!(said["status"], "ready", "{said:#}");
        let line = serving.wait_for_line("the new settings are not in use; the old ones stay");
        assert!(line["problem"].as_str().unwrap().starts_with(expected), "{line:#}");
        assert_eq!(status(&serving, &token).await, 200);
    }
    installation.settings(settings(shared()).replace("acme/{project}", "nobody/{project}"));
    serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
    assert_eq!(status(&serving, &token).await, 403, "the rules are other ones now");
}

#[tokio::test]
async fn a_hangup_takes_all_over_as_one_and_what_needs_a_restart_is_said() {
    let installation = installation();
    let serving = installation.serve();
    serving.hang_up();
    serving.wait_for_line("reloaded");
    installation.file("config/local.toml", "[log]\nlevel = \"debug\"\n");
    let line = serving.wait_for_line("a changed setting takes effect after a restart");
    assert_eq!(line["setting"], "log.level");
    let says = |said: &Value| said["not_taken_over"]["needs_restart"][0] == "log.level";
    serving.until("/readyz", says).await;
    // The next start takes it, so that nobody has to be called.
    let metrics = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    assert!(metrics.contains("reloads_total{outcome=\"failed\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_call_in_flight_finishes_on_what_it_began_with() {
    let aws = Stub::start().await;
    let installation = Installation::new(settings(ecr(aws.endpoint())));
    let token = token(&installation);
    let serving = installation.serve();
    assert_eq!(status(&serving, &token).await, 200);
    aws.next("GetAuthorizationToken", [Answer::late(Duration::from_secs(3))]);
    let asked = aws.count("GetAuthorizationToken");
    let slow = async { status(&serving, &token).await };
    let meanwhile = async {
        aws.wait_for("GetAuthorizationToken", asked + 1).await;
        let version = noted(&component("ecr"), "later");
        drop_in(&installation.path("providers"), "ecr.wasm", &version);
        installation
            .settings(settings(ecr(aws.endpoint())).replace("acme/{project}", "nobody/{project}"));
        serves(&serving, "ecr", &version).await;
        status(&serving, &token).await
    };
    assert_eq!(tokio::join!(slow, meanwhile), (200, 403));
}
