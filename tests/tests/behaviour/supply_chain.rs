//! Which files are loaded: pinned by `providers.lock`, signed, and with no more permissions than
//! allowed.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minisign::KeyPair;
use rise_broker_tests::provider_files::{component, digest, drop_in, guest, noted};
use rise_broker_tests::registry::{oci, registry};
use rise_broker_tests::{AUTH, Installation, Serving, repository};
use serde_json::Value;

fn installation(require: &str) -> Installation {
    let oci = oci("oci.example.com").account("robot", "a-password");
    Installation::new(format!("[providers]\n{require}\n{AUTH}{oci}"))
}

fn lock(installation: &Installation) -> String {
    let printed = installation.run(&["provider", "lock", "--yes"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout
}

async fn refused(serving: &Serving, bytes: &[u8], stage: &str) -> Value {
    let is_refused = |said: &Value| {
        said["refused"][0]["sha256"] == digest(bytes).as_str()
            && said["refused"][0]["stage"] == stage
    };
    serving.until("/api/v1/providers", is_refused).await
}

fn loaded(said: &Value, name: &str) -> String {
    let providers = said["providers"].as_array().unwrap();
    let found = providers.iter().find(|provider| provider["name"] == name);
    found.map(|provider| provider["sha256"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_locked_broker_refuses_a_swapped_file() {
    let installation = installation("require = \"locked\"");
    lock(&installation);
    let serving = installation.serve();
    let (good, other) = (component("oci"), noted(&component("oci"), "swapped"));
    drop_in(&installation.path("providers"), "oci.wasm", &other);
    let said = refused(&serving, &other, "lock").await;
    assert_eq!(loaded(&said, "oci"), digest(&good), "{said:#}");
    let problem = said["refused"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("is not in config/providers.lock"), "{problem}");
    // Once the lock allows it, it is loaded without a restart or a signal.
    let printed = lock(&installation);
    assert!(printed.contains("~ oci"), "{printed}");
    serving.until("/api/v1/providers", |said| loaded(said, "oci") == digest(&other)).await;
}

#[tokio::test]
async fn a_locked_broker_does_not_start_on_a_swapped_file() {
    let installation = installation("require = \"locked\"");
    lock(&installation);
    drop_in(&installation.path("providers"), "oci.wasm", &noted(&component("oci"), "swapped"));
    let printed = installation.run(&["check"]);
    assert_eq!(printed.code, Some(1));
    assert!(
        printed.stderr.contains("error: providers/oci.wasm: is not in config/providers.lock"),
        "{}",
        printed.stderr
    );
    fs::remove_file(installation.path("config/providers.lock")).unwrap();
    let printed = installation.run(&["check"]);
    assert!(
        printed.stderr.contains("providers.lock_file: config/providers.lock does not exist"),
        "{}",
        printed.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_swapped_between_two_reads_is_not_loaded() {
    let installation = installation("require = \"locked\"");
    lock(&installation);
    let serving = installation.serve();
    let (good, other) = (component("oci"), noted(&component("oci"), "between"));
    let folder = installation.path("providers");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The files change by renaming and by writing in place, as fast as the disk allows, with
        // pauses in which a file counts as complete.
        scope.spawn(|| {
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let bytes = if round % 2 == 0 { &other } else { &good };
                if round % 3 == 0 {
                    fs::write(folder.join("oci.wasm"), bytes).unwrap();
                } else {
                    drop_in(&folder, "oci.wasm", bytes);
                }
                std::thread::sleep(Duration::from_millis(if round % 50 < 10 { 230 } else { 1 }));
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let deadline = Instant::now() + Duration::from_secs(8);
                while Instant::now() < deadline {
                    serving.hang_up();
                    let said = serving.admin("/api/v1/providers").await;
                    assert_eq!(loaded(&said, "oci"), digest(&good), "{said:#}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                stop.store(true, Ordering::Relaxed);
            });
        });
    });
    drop_in(&folder, "oci.wasm", &other);
    assert_eq!(loaded(&refused(&serving, &other, "lock").await, "oci"), digest(&good));
}

#[tokio::test]
async fn what_asks_for_more_is_not_loaded_until_it_is_locked_again() {
    let installation = installation("");
    lock(&installation);
    // This lock pretends that the locked version asked for less.
    let path = installation.path("config/providers.lock");
    let text = fs::read_to_string(&path).unwrap();
    let (before, own) = text.split_once("name = \"oci\"").unwrap();
    let own = own.replace("\"secrets\"", "\"log\"");
    installation.file("config/providers.lock", format!("{before}name = \"oci\"{own}"));
    let printed = installation.run(&["check"]);
    assert_eq!(printed.code, Some(1));
    assert!(
        printed.stderr.contains("asks for more than config/providers.lock allows it: secrets"),
        "{}",
        printed.stderr
    );
    let printed = lock(&installation);
    assert!(printed.contains("now also may pass on its registry's secrets"), "{printed}");
    let serving = installation.serve();
    // A newer version with the same imports is accepted: no setting requires a lock.
    let newer = noted(&component("oci"), "newer");
    drop_in(&installation.path("providers"), "oci.wasm", &newer);
    let said =
        serving.until("/api/v1/providers", |said| loaded(said, "oci") == digest(&newer)).await;
    assert_eq!(said["refused"], Value::Array(vec![]));
    let own = own.replace(&digest(&component("oci")), &"0".repeat(64));
    installation.file("config/providers.lock", format!("{before}name = \"oci\"{own}"));
    let said = refused(&serving, &newer, "lock").await;
    assert_eq!(loaded(&said, "oci"), digest(&newer), "the last good one serves on");
}

#[tokio::test]
async fn a_newer_one_that_imports_more_is_not_loaded_until_it_is_locked_again() {
    let installation = installation("");
    lock(&installation);
    let serving = installation.serve();
    let (good, newer) = (component("oci"), guest("oci-next"));
    drop_in(&installation.path("providers"), "oci.wasm", &newer);
    let said = refused(&serving, &newer, "lock").await;
    assert_eq!(loaded(&said, "oci"), digest(&good), "the last good one serves on");
    let problem = said["refused"][0]["problem"].as_str().unwrap();
    let expected = "asks for more than config/providers.lock allows it: http; review it";
    assert!(problem.contains(expected), "{problem}");
    let printed = installation.run(&["check"]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stderr.contains(expected), "{}", printed.stderr);
    let printed = lock(&installation);
    let expected = "-> 9.9.9\n    now also may send requests to its registry's own addresses";
    assert!(printed.contains(expected), "{printed}");
    // It may use `http` now, and the registry's settings must say where.
    let text = fs::read_to_string(installation.path("config/default.toml")).unwrap();
    let ceiling =
        "[registries.prod.ceiling.http]\nallow = [\"POST https://collector.example.com/\"]";
    installation.file("config/default.toml", format!("{text}\n{ceiling}\n"));
    serving.until("/api/v1/providers", |said| loaded(said, "oci") == digest(&newer)).await;
}

fn sign(folder: &Path, name: &str, bytes: &[u8], key: &KeyPair) {
    let signature = minisign::sign(Some(&key.pk), &key.sk, Cursor::new(bytes), None, None).unwrap();
    drop_in(folder, &format!("{name}.minisig"), signature.to_string().as_bytes());
}

#[tokio::test]
async fn only_what_is_signed_by_a_key_of_ours_is_loaded() {
    let (key, stranger) = (
        KeyPair::generate_unencrypted_keypair().unwrap(),
        KeyPair::generate_unencrypted_keypair().unwrap(),
    );
    let require = format!("require = \"signed\"\nsigning_keys = [{:?}]", key.pk.to_base64());
    let installation = installation(&require);
    let folder = installation.path("providers");
    let printed = installation.run(&["check"]);
    assert!(
        printed.stderr.contains(
            "providers/oci.wasm: not signed: its signature \
         providers/oci.wasm.minisig cannot be read"
        ),
        "{}",
        printed.stderr
    );
    for name in ["ecr", "oci"] {
        sign(&folder, &format!("{name}.wasm"), &component(name), &key);
    }
    let serving = installation.serve();
    let good = digest(&component("oci"));
    let other = noted(&component("oci"), "unsigned");
    // The signature of another key, one of other bytes, and no signature.
    sign(&folder, "oci.wasm", &other, &stranger);
    drop_in(&folder, "oci.wasm", &other);
    assert_eq!(loaded(&refused(&serving, &other, "signature").await, "oci"), good);
    sign(&folder, "oci.wasm", &component("oci"), &key);
    assert_eq!(loaded(&refused(&serving, &other, "signature").await, "oci"), good);
    fs::remove_file(folder.join("oci.wasm.minisig")).unwrap();
    assert_eq!(loaded(&refused(&serving, &other, "signature").await, "oci"), good);
    sign(&folder, "oci.wasm", &other, &key);
    let is_taken = |said: &Value| {
        loaded(said, "oci") == digest(&other) && said["refused"] == Value::Array(vec![])
    };
    serving.until("/api/v1/providers", is_taken).await;
}

#[test]
fn keys_that_are_none_are_named() {
    for (require, expected) in [
        ("require = \"signed\"", "providers.signing_keys: empty"),
        ("signing_keys = [\"x\"]", "providers.signing_keys.0: not a minisign public key"),
        ("require = \"some\"", "providers.require"),
    ] {
        let printed = installation(require).run(&["check"]);
        assert!(printed.stderr.contains(expected), "{}", printed.stderr);
    }
}

#[test]
fn locking_shows_what_is_asked_for_and_writes_only_when_told_to() {
    let installation = installation("");
    let printed = installation.run(&["provider", "lock"]);
    assert_eq!(printed.code, Some(1), "nobody is there to agree");
    assert!(printed.stdout.contains("may     assume AWS roles"), "{}", printed.stdout);
    assert!(!installation.path("config/providers.lock").exists());
    assert!(lock(&installation).contains("wrote config/providers.lock"));
    assert!(lock(&installation).contains("config/providers.lock is up to date"));
    fs::remove_file(installation.path("providers/ecr.wasm")).unwrap();
    installation.guest("misbehaves");
    let printed = lock(&installation);
    assert!(printed.contains("- ecr") && printed.contains("+ misbehaves"), "{printed}");
    installation.provider(Path::new("/etc/hostname"), "nonsense");
    let printed = installation.run(&["provider", "lock", "--yes"]);
    assert_eq!(printed.code, Some(1), "what cannot be loaded is not locked");
}

/// An export is no permission, but the operator should know what the provider is for.
#[test]
fn locking_shows_what_is_managed_and_ended() {
    let installation = installation("");
    for name in ["ecr", "harbor"] {
        installation.provider(&repository().join(format!("dist/providers/{name}.wasm")), name);
    }
    let printed = lock(&installation);
    let of = |name: &str| {
        let start = printed.find(&format!("{name} 0.")).unwrap();
        printed[start..].split("\n  file").nth(1).unwrap().split("\n  sha256").nth(1).unwrap()
    };
    let section =
        |name: &str| of(name).lines().take_while(|line| !line.is_empty()).collect::<String>();
    assert!(section("ecr").contains("  manages repositories, if "), "{printed}");
    assert!(!section("ecr").contains("  ends "), "{printed}");
    assert!(section("harbor").contains("  ends    each credential that it makes"), "{printed}");
    assert!(!section("oci").contains("  ends "), "{printed}");
}

#[tokio::test]
async fn who_is_in_the_lock_is_trusted_where_a_registry_enforces_nothing() {
    let made_up = registry("misbehaves")
        .with("registry_url", "a.example.com")
        .with("how", "made-up-password")
        .with("password", "x-password")
        .with("accept_scope", "registry");
    let installation = Installation::new(format!("{AUTH}{made_up}"));
    installation.guest("misbehaves");
    let ask = async |serving: &Serving| {
        let token = installation
            .run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"])
            .stdout;
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        let bearer = format!("Bearer {}", token.trim());
        rise_broker_tests::Client::new().get_with(&url, &[("authorization", &bearer)]).await.status
    };
    let serving = installation.serve();
    assert_eq!(ask(&serving).await, 502);
    lock(&installation);
    let is_locked = |said: &Value| {
        said["providers"].as_array().unwrap().iter().all(|provider| provider["is_locked"] == true)
    };
    serving.until("/api/v1/providers", is_locked).await;
    assert_eq!(ask(&serving).await, 200);
    drop_in(
        &installation.path("providers"),
        "misbehaves.wasm",
        &noted(&guest("misbehaves"), "other"),
    );
    serving.until("/api/v1/providers", |said| !is_locked(said)).await;
    assert_eq!(ask(&serving).await, 502, "other bytes are not what was looked at");
}
