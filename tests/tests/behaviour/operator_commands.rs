//! An operator's mistakes on the command line and in files that commands read: each is rejected
//! with the value, the place and the remedy.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation, Printed};

const ID: &str = "01M7XYNW8K6XBGT75WF4PVR3VR";

fn installation() -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{}", oci("oci.example.com")));
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
    installation
}

fn explain(installation: &Installation, file: &str) -> Printed {
    installation.run(&["explain", "--project", "my-app", "--token-file", file])
}

/// Runs a command, which fails with one error.
fn error(installation: &Installation, arguments: &[&str]) -> String {
    let printed = installation.run(arguments);
    assert!(printed.code.is_some_and(|code| code > 0), "{arguments:?}: {}", printed.stdout);
    printed.stderr
}

#[test]
fn a_token_file_that_has_something_else_is_told_what_it_has() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let wrapped = |before: &str, after: &str| format!("{before}{token}{after}\n").into_bytes();
    for (content, expected) in [
        (wrapped("{\"count\":1,\"value\":\"", "\"}"), "with `jq -r .value`"),
        (wrapped("{\"access_token\":\"", "\"}"), "with `jq -r .access_token`"),
        (wrapped("{\"status\":{\"token\":\"", "\"}}"), "with `jq -r .status.token`"),
        (b"{\"error\":\"denied\"}".to_vec(), "the file has JSON, expected a token"),
        (wrapped("Bearer ", ""), "the file has the header of a request"),
        (wrapped("authorization: bearer ", ""), "the file has the header of a request"),
        (wrapped("\"", "\""), "the token is in quotation marks"),
        (wrapped("'", "'"), "the token is in quotation marks"),
        (wrapped("RISE_TOKEN=", ""), "sets the variable RISE_TOKEN"),
        (wrapped("export RISE_TOKEN=", ""), "sets the variable RISE_TOKEN"),
        (wrapped("", &format!("\n{token}")), "the file has 2 words or lines"),
        (wrapped("-----BEGIN PRIVATE KEY-----\n", ""), "has a key or a certificate (PEM)"),
        (b"\n".to_vec(), "the file is empty"),
        (wrapped("\u{feff}", ""), "byte order mark"),
        (b"\xff\xfee\0y\0J\0".to_vec(), "`-Encoding ascii`"),
    ] {
        installation.file("token", &content);
        let printed = explain(&installation, "token");
        assert_eq!(printed.code, Some(2), "{expected}: {}", printed.stdout);
        assert!(printed.stderr.starts_with("error: --token-file token: "), "{}", printed.stderr);
        assert!(printed.stderr.contains(expected), "{expected}: {}", printed.stderr);
        assert!(!printed.stderr.contains(&token[..20]), "{}", printed.stderr);
    }
    installation.file("token", format!("  {token}\r\n"));
    let printed = explain(&installation, "token");
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
}

#[test]
fn a_token_in_place_of_its_file_is_never_printed() {
    let installation = installation();
    let token = installation.token_for("my-app");
    for argument in [token.clone(), format!("Bearer {token}"), "x".repeat(5000)] {
        let printed = explain(&installation, &argument);
        assert_eq!(printed.code, Some(2));
        assert!(
            printed.stderr.contains("the option takes the path of a file")
                && printed.stderr.len() < 500,
            "{}",
            printed.stderr
        );
        assert!(!printed.stderr.contains("eyJ") && !printed.stderr.contains("xxx"));
    }
    let missing = explain(&installation, "nowhere").stderr;
    assert!(missing.contains("--token-file nowhere: ") && missing.contains("standard input"));
}

#[test]
fn a_list_that_is_no_json_does_not_become_text() {
    let installation = installation();
    for claim in ["groups=[x,y]", "groups=['x','y']", "groups=[\"x\" \"y\"]"] {
        let said = error(&installation, &["token", "--subject", "a", "--claim", claim]);
        assert!(said.contains(&format!("--claim {claim}: the list is not JSON")), "{said}");
        assert!(said.contains("groups=[\"a\",\"b\"]"), "{said}");
    }
    for claim in ["groups=[\"x\"]", "text=[x", "text=x]"] {
        let made = installation.run(&["token", "--subject", "a", "--claim", claim]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
    }
}

/// The broker would reject what a new key signs, and everybody else what the old key signed.
#[test]
fn a_lost_key_is_not_replaced_by_the_command_that_prints_tokens() {
    let installation = installation();
    let key = installation.path("issuer.pem");
    drop(installation.serve());
    assert!(key.exists());
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let said = error(&installation, &["token", "--subject", "a"]);
    assert!(
        said.contains("config/default.toml: auth.issuers: the key of issuer `local` at ")
            && said.contains("issuer.pem is gone")
            && said.contains("restore it from your backup")
            && said.contains("restart the broker"),
        "{said}"
    );
    assert!(!key.exists());
    // Both remedies work.
    fs::write(&key, kept).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    installation.token_for("my-app");
    fs::remove_file(&key).unwrap();
    drop(installation.serve());
    installation.token_for("my-app");
    // A key that `token` made is remembered, too; another file is another key.
    fs::remove_file(&key).unwrap();
    assert!(error(&installation, &["token", "--subject", "a"]).contains("is gone"));
}

#[test]
fn a_folder_without_segments_is_not_an_empty_log() {
    let mut installation = installation();
    installation.without("RISE_AUDIT__DIRECTORY");
    drop(installation.serve());
    for command in [&["audit", "verify"][..], &["audit", "query"], &["audit", "tail"]] {
        let with = |directory| [command, &["--directory", directory]].concat();
        let said = error(&installation, &with("state"));
        assert!(
            said.contains(
                "--directory state: there are no segments in this folder, but in state/audit"
            ),
            "{said}"
        );
        let said = error(&installation, &with("config"));
        assert!(said.contains("--directory config: there are no segments (`audit-"), "{said}");
        let right = installation.run(&with("state/audit"));
        assert_eq!(right.code, Some(0), "{}", right.stderr);
    }
}

#[test]
fn keys_ids_times_and_secrets_that_are_none_are_rejected() {
    let installation = installation();
    drop(installation.serve());
    for key in ["/etc/rise-broker/key.pem", "nonsense", "", "AAAA", "-----BEGIN PUBLIC KEY-----"] {
        let argument = format!("--trust-key={key}");
        let said = error(&installation, &["audit", "verify", &argument]);
        assert!(said.contains("expected a public key of 43 characters"), "{said}");
    }
    let key = "A".repeat(43);
    let verified = installation.run(&["audit", "verify", "--trust-key", &key]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    for option in ["--request-id", "--minted-by"] {
        let said = error(&installation, &["audit", "query", option, "nonsense"]);
        assert!(said.contains("expected the id of a request, 26 characters"), "{said}");
    }
    for command in ["query", "tail"] {
        let said = error(&installation, &["audit", command, "--since", "1h", "--until", "2h"]);
        assert!(said.contains("is not before --until "), "{said}");
    }
    let said = error(&installation, &["audit", "fingerprint"]);
    assert!(said.contains("standard input is empty, expected a password"), "{said}");
    let mut child = installation
        .command(&["audit", "fingerprint"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"x\n").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[tokio::test]
async fn records_are_found_by_the_names_that_other_programs_print() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = rise_broker_tests::Client::new().get_as(&url, &token).await.unwrap();
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    drop(serving);
    let query = |arguments: &[&str]| installation.run(&[&["audit", "query"], arguments].concat());
    let (session, small) = (format!("rise-{id}"), id.to_lowercase());
    for arguments in [
        ["--subject", "ci"],
        ["--subject", "local:ci"],
        ["--request-id", &id],
        ["--request-id", &session],
        ["--request-id", &small],
        ["--minted-by", &session],
        ["--registry", "prod"],
    ] {
        let found = query(&arguments);
        assert!(found.stdout.contains(&id), "{arguments:?}: {}{}", found.stdout, found.stderr);
    }
    for (arguments, expected) in [
        (["--registry", "prd"], "no record has the registry `prd`, the log has prod"),
        (["--subject", "other:ci"], "no record matches"),
        (["--request-id", ID], "no record matches"),
    ] {
        let found = query(&arguments);
        assert_eq!((found.code, &*found.stdout), (Some(0), ""));
        assert!(found.stderr.contains(expected), "{arguments:?}: {}", found.stderr);
    }
}
