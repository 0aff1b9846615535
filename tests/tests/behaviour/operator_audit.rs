//! Logrotate, cleanups and half restored backups in the folder of the audit log.

use std::fs;
use std::process::Command;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Client, Installation, Printed};

fn installation() -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{}", oci("oci.example.com")));
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
    installation
}

/// Serves so often. Each time makes a segment.
fn serve(installation: &Installation, times: usize) {
    for _ in 0..times {
        serve_once(installation);
    }
}

/// Serves and stops as systemd does. Returns the log.
fn serve_once(installation: &Installation) -> String {
    let mut serving = installation.serve();
    serving.terminate();
    assert!(serving.ended().success());
    serving.log()
}

fn segment(number: u64) -> String {
    format!("audit/audit-{number:08}.jsonl")
}

fn gzip(installation: &Installation, number: u64, arguments: &[&str]) {
    let path = installation.path(&segment(number));
    let end = if arguments.contains(&"-d") { ".gz" } else { "" };
    let file = format!("{}{end}", path.display());
    assert!(Command::new("gzip").args(arguments).arg(file).status().unwrap().success());
}

fn verify(installation: &Installation) -> Printed {
    installation.run(&["audit", "verify"])
}

/// The error of a start.
fn refused(installation: &Installation) -> String {
    let printed = installation.run(&["serve"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    printed.stderr
}

#[test]
fn a_packed_newest_segment_is_told_and_its_number_is_not_used_again() {
    let installation = installation();
    serve(&installation, 3);
    gzip(&installation, 3, &[]);
    let name = "audit-00000003.jsonl.gz";
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    for part in [name, "was packed or renamed", "run `gunzip audit-00000003.jsonl.gz`"] {
        assert!(verified.stderr.contains(part), "{part}: {}", verified.stderr);
    }
    let said = refused(&installation);
    let place = "audit.directory: audit: the audit log is broken at audit-00000003.jsonl.gz";
    for part in [place, "`gunzip", "--accept-broken-chain"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!installation.path(&segment(3)).exists());
    gzip(&installation, 3, &["-d"]);
    assert_eq!(verify(&installation).code, Some(0));
    serve(&installation, 1);
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(verified.stdout.contains("in 4 segments"), "{}", verified.stdout);
    // Other ends of the same kind.
    for end in [".1", ".zst", ".old"] {
        let (plain, packed) = (segment(4), format!("{}{end}", segment(4)));
        fs::rename(installation.path(&plain), installation.path(&packed)).unwrap();
        assert!(refused(&installation).contains("unpack or rename it to `audit-00000004.jsonl`"));
        fs::rename(installation.path(&packed), installation.path(&plain)).unwrap();
    }
}

#[test]
fn an_accepted_gap_begins_above_every_number() {
    let installation = installation();
    serve(&installation, 3);
    gzip(&installation, 3, &[]);
    let mut serving = installation.command(&["serve", "--accept-broken-chain"]);
    let mut serving = serving.stderr(std::process::Stdio::null()).spawn().unwrap();
    rise_broker_tests::eventually_blocking("segment 4", || {
        fs::metadata(installation.path(&segment(4))).is_ok_and(|found| found.len() > 0)
    });
    serving.kill().unwrap();
    serving.wait().unwrap();
    assert!(!installation.path(&segment(3)).exists());
    gzip(&installation, 3, &["-d"]);
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stderr.contains("--accept-broken-chain"), "{}", verified.stderr);
}

#[test]
fn packed_segments_between_are_named_and_those_before_are_left_out() {
    let installation = installation();
    serve(&installation, 4);
    gzip(&installation, 1, &[]);
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(
        verified.stdout.contains("not checked: audit-00000001.jsonl.gz"),
        "{}",
        verified.stdout
    );
    gzip(&installation, 3, &[]);
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stderr.contains("gunzip audit-00000003.jsonl.gz"), "{}", verified.stderr);
    assert!(refused(&installation).contains("gunzip audit-00000003.jsonl.gz"));
    gzip(&installation, 3, &["-d"]);
    serve(&installation, 1);
}

#[test]
fn newest_segments_that_are_gone_are_missed() {
    let installation = installation();
    serve(&installation, 3);
    let copy = fs::read(installation.path(&segment(3))).unwrap();
    fs::remove_file(installation.path(&segment(3))).unwrap();
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stderr.contains("audit-00000003.jsonl, line 1"), "{}", verified.stderr);
    assert!(verified.stderr.contains("put it back"), "{}", verified.stderr);
    assert!(refused(&installation).contains("put it back"));
    fs::write(installation.path(&segment(3)), copy).unwrap();
    serve(&installation, 1);
    assert_eq!(verify(&installation).code, Some(0));
}

#[test]
fn a_log_that_is_gone_is_missed_and_the_new_chain_says_so() {
    let installation = installation();
    assert_eq!(verify(&installation).code, Some(1), "there is no folder yet");
    serve(&installation, 2);
    for number in [1, 2] {
        fs::remove_file(installation.path(&segment(number))).unwrap();
    }
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stderr.contains("audit-00000002.jsonl"), "{}", verified.stderr);
    let log = serve_once(&installation);
    assert!(
        log.contains("audit: all segments of the audit log up to audit-00000002.jsonl are gone"),
        "{log}"
    );
    assert!(installation.path(&segment(3)).exists());
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stderr.contains("was removed or moved away"), "{}", verified.stderr);
    // Once is enough.
    assert!(!serve_once(&installation).contains("are gone"));
}

#[test]
fn another_folder_is_another_log() {
    let mut installation = installation();
    serve(&installation, 2);
    installation.variable("RISE_AUDIT__DIRECTORY", "other");
    assert!(!serve_once(&installation).contains("are gone"));
    assert!(installation.path("other/audit-00000001.jsonl").exists());
    assert_eq!(verify(&installation).code, Some(0));
}

#[test]
fn a_log_without_its_keys_is_told_at_start() {
    let installation = installation();
    serve(&installation, 1);
    fs::remove_dir_all(installation.path("state")).unwrap();
    let log = serve_once(&installation);
    for part in [
        "audit: the last checkpoint of the audit log is signed with the key ",
        "state/audit-signing.pem is ",
        "restore the keys that belong to this log",
        "--trust-key ",
    ] {
        assert!(log.contains(part), "{part}\nin\n{log}");
    }
    assert!(!serve_once(&installation).contains("restore the keys"));
}

#[tokio::test]
async fn a_segment_that_is_packed_while_the_broker_writes_can_be_unpacked() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let mut serving = installation.serve();
    gzip(&installation, 1, &[]);
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = Client::new().get_as(&url, &token).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    serving.terminate();
    assert!(serving.ended().success());
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    gzip(&installation, 1, &["-d"]);
    let verified = verify(&installation);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    serve(&installation, 1);
}

/// The message names the folder, too.
#[test]
fn a_second_broker_is_told_which_folder_is_in_use() {
    let installation = installation();
    let _serving = installation.serve();
    let said = refused(&installation);
    assert!(
        said.contains("RISE_AUDIT__DIRECTORY: audit.directory: audit: ")
            && said.contains("another broker writes into this folder"),
        "{said}"
    );
}
