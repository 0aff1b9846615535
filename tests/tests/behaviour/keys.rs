//! The keys that sign tokens, as an operator handles them: by the program, on a disk, while a
//! broker serves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Stdio;
use std::time::Duration;

use rise_broker_tests::registry::distribution;
use rise_broker_tests::{
    AUTH, Client, Installation, Serving, eventually, eventually_blocking, repository,
};
use serde_json::Value;

const KEYS: &str = "signing-keys.pem";

fn installed(algorithm: &str) -> Installation {
    let signing = format!(
        "[signing]\nissuer = \"https://broker.example.com\"\nkey_file = \"{KEYS}\"\n\
         algorithm = \"{algorithm}\"\n"
    );
    let installation =
        Installation::new(format!("{AUTH}{signing}{}", distribution("r.example.com")));
    let provider = repository().join("dist/providers/distribution.wasm");
    installation.provider(&provider, "distribution");
    installation
}

/// The states and names of the keys, as `keys list` prints them.
fn listed(installation: &Installation) -> Vec<(String, String)> {
    let printed = installation.run(&["keys", "list"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words[0].to_owned(), words[3].to_owned())
    };
    printed.stdout.lines().skip(1).map(line).collect()
}

async fn published(serving: &Serving) -> Vec<String> {
    let answer = Client::new().get(&format!("{}/.well-known/jwks.json", serving.url)).await.json();
    let name = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    answer["keys"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_a_broker_that_serves() {
    let installation = installed("RS256");
    for command in ["list", "rotate"] {
        let none = installation.run(&["keys", command]);
        assert_eq!(none.code, Some(1));
        assert!(none.stderr.contains("`serve` creates it at its first start"), "{}", none.stderr);
    }
    // `check` creates nothing, and speaks of the keys that there will be.
    let checked = installation.run(&["check"]);
    assert_eq!(checked.code, Some(0));
    assert!(!checked.stderr.contains("Ed25519"), "{}", checked.stderr);
    assert!(!installation.path(KEYS).exists());

    let serving = installation.serve();
    let before = listed(&installation);
    assert_eq!(
        before.iter().map(|(state, _)| state.as_str()).collect::<Vec<_>>(),
        ["current", "next"]
    );
    assert_eq!(fs::metadata(installation.path(KEYS)).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(published(&serving).await, [&*before[0].1, &*before[1].1]);

    let early = installation.run(&["keys", "rotate"]);
    assert_eq!(early.code, Some(1));
    assert!(
        early.stderr.contains("rotate after that, or with `--now` if nobody uses tokens"),
        "{}",
        early.stderr
    );
    assert_eq!(listed(&installation), before);

    let rotated = installation.run(&["keys", "rotate", "--now"]);
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
    let after = listed(&installation);
    assert_eq!((&after[0].1, &after[2].1), (&before[1].1, &before[0].1));
    let expected: Vec<String> = after.iter().map(|(_, kid)| kid.clone()).collect();
    eventually("the broker publishes the new keys", async || published(&serving).await == expected)
        .await;
    let certificates = installation.run(&["keys", "certificate"]);
    assert_eq!(certificates.stdout.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(!certificates.stdout.contains("PRIVATE"));

    // A file that is broken or gone leaves the keys that serve.
    let whole = fs::read(installation.path(KEYS)).unwrap();
    fs::write(installation.path(KEYS), &whole[..whole.len() - 100]).unwrap();
    let finding = |answer: &Value, text: &str| answer.to_string().contains(text);
    serving.until("/readyz", |answer| finding(answer, "restore it from your backup")).await;
    assert_eq!(published(&serving).await, expected);
    fs::remove_file(installation.path(KEYS)).unwrap();
    serving.until("/readyz", |answer| finding(answer, "is gone")).await;
    assert_eq!(published(&serving).await, expected);
    assert!(!installation.path(KEYS).exists(), "it is not made anew");
}

#[test]
fn a_rotation_that_is_killed_leaves_a_whole_set() {
    let installation = installed("ES256");
    let serving = installation.serve();
    drop(serving);
    for round in 0..24 {
        let before = listed(&installation);
        let mut command = installation.command(&["keys", "rotate", "--now"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // At another moment each time, from before it reads to after it is done.
        std::thread::sleep(Duration::from_micros(round * 1500));
        let _ = child.kill();
        child.wait().unwrap();
        let after = listed(&installation);
        let is_rotated = after[0].1 == before[1].1 && after[2].1 == before[0].1;
        assert!(after == before || is_rotated, "{before:?} {after:?}");
    }
    // The lock of a process that was killed is free, and its draft is in nobody's way.
    eventually_blocking("a rotation", || {
        installation.run(&["keys", "rotate", "--now"]).code == Some(0)
    });
    let left: Vec<_> = fs::read_dir(installation.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("draft"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_file_that_is_not_safe_or_not_whole_is_refused_with_the_remedy() {
    let installation = installed("ES256");
    drop(installation.serve());
    let path = installation.path(KEYS);
    let whole = fs::read(&path).unwrap();
    let refused = |expected: &str| {
        for command in [&["check"][..], &["serve"], &["keys", "list"], &["keys", "rotate", "--now"]]
        {
            let printed = installation.run(command);
            assert_eq!(printed.code, Some(1), "{command:?}");
            assert!(printed.stderr.contains(expected), "{command:?}: {}", printed.stderr);
            assert!(!printed.stderr.contains("PRIVATE"), "{command:?}: {}", printed.stderr);
        }
    };
    for mode in [0o640, 0o604, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        refused("run `chmod 600 signing-keys.pem`");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    if fs::metadata(&path).unwrap().uid() == 0 {
        chown(&path, Some(64_124), None).unwrap();
        refused("belongs to uid 64124, who knows the key");
        chown(&path, Some(0), None).unwrap();
    }
    for text in [&whole[..whole.len() / 2], b"", b"-----BEGIN PRIVATE KEY-----\n"] {
        fs::write(&path, text).unwrap();
        refused("restore it from your backup, or remove it");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("it is a folder, not a regular file");
}
