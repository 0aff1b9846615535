//! Many helpers at once make one request and write one file, and all answer.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use rise_broker_tests::{Installation, Workstation, audit_text};
use serde_json::Value;

const SETTINGS: &str = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
     key_file = \"issuer.pem\"\n\
    [[rules]]\nname = \"r\"\nissuer = \"local\"\nclaims = { repository = \"acme/my-app\" }\n\
         projects = [\"my-app\"]\nregistries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n\
    [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\nusername = \"u\"\n\
         password = \"canary-5e1d\"\naccept_scope = \"registry\"\n";

/// How many credentials the broker recorded as made.
fn made(installation: &Installation) -> usize {
    audit_text(&installation.path("audit")).matches("\"issue.completed\"").count()
}

#[test]
fn fifty_helpers_on_a_cold_cache_make_one_request_and_all_answer() {
    let installation = Installation::new(SETTINGS);
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let serving = installation.serve();
    let machine = Workstation::new()
        .with("RISE_URL", &serving.url)
        .with("RISE_TOKEN", &token)
        .with("RISE_PROJECT", "my-app");
    let start = || {
        let mut child = machine.command("docker-credential-rise", &["get"]).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"r.example.com").unwrap();
        child
    };
    let children: Vec<_> = (0..50).map(|_| start()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["Secret"], "canary-5e1d");
    }
    assert_eq!(made(&installation), 1);
    for (path, bytes) in machine.files() {
        if String::from_utf8_lossy(&bytes).contains("canary-5e1d") {
            let metadata = path.metadata().unwrap();
            assert_eq!(metadata.mode() & 0o777, 0o600, "{}", path.display());
            assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        }
    }
}
