//! schemathesis against the running broker, in three searches: no request gets an answer that the
//! description lacks.
//!
//! The test also checks the broker's own counts: a search that never gets in finds nothing.

use std::collections::BTreeSet;
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rise_broker_tests::{
    AUTH, Client, Installation, Serving, python_program, registry, repository,
};

const REGISTRIES: &str = r#"
[registries.prod]
type = "oci-client-auth"
registry_url = "registry.example.com"
namespace = "rise"
[[rules]]
name = "anything"
issuer = "local"
claims = { role = "any" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
[[operators]]
name = "anything"
issuer = "local"
claims = { role = "any" }
allow = ["revoke", "audit"]
"#;

/// The checks of answers, and the checks that wrong requests are refused.
const CHECKS: [&str; 10] = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
];

const SIGNING: &str = "[signing]\nissuer = \"https://broker.example.com\"\n\
                       algorithm = \"ES256\"\nkey_file = \"signing-keys.pem\"\n";

fn installed() -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{SIGNING}{REGISTRIES}"));
    installation.unlimited();
    installation
}

fn token(installation: &Installation, role: &str) -> String {
    let claim = format!("role={role}");
    let printed = installation.run(&["token", "--subject", "ci", "--claim", &claim]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout.trim().to_owned()
}

async fn metrics(broker: &Serving) -> String {
    Client::new().get(&format!("{}/metrics", broker.admin)).await.text()
}

/// Searches all routes. Returns the outcomes that the broker counted on routes with a token.
async fn search(broker: &Serving, token: Option<&str>) -> BTreeSet<String> {
    let header = token.map(|token| format!("Authorization: Bearer {token}"));
    let printed = schemathesis(broker, "schemathesis.toml", header.as_deref(), &[]).await;
    assert!(printed.contains("16 selected / 16 total"), "{printed}");
    outcomes(broker, "/regist").await
}

/// Runs a search and returns what it printed.
async fn schemathesis(
    broker: &Serving,
    settings: &str,
    header: Option<&str>,
    arguments: &[&str],
) -> String {
    let examples = std::env::var("OPENAPI_EXAMPLES").unwrap_or_else(|_| "15".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(python_program("schemathesis", "schemathesis"));
    command
        .arg("--config-file")
        .arg(repository().join("tests/peers").join(settings))
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", broker.url))
        .args(["--checks", &CHECKS.join(","), "--max-examples", &examples])
        .args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-color"])
        .args(header.map(|header| format!("--header={header}")))
        .args(arguments);
    // Removes this machine's proxies.
    command.env_clear().env("HOME", directory.path()).current_dir(directory.path());
    command.env("LANG", "C.UTF-8").kill_on_drop(true);
    let ran = command.stdin(Stdio::null()).output().await.unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    printed
}

/// What the broker counted on these routes.
async fn outcomes(broker: &Serving, route: &str) -> BTreeSet<String> {
    let metrics = metrics(broker).await;
    let on_routes = metrics.lines().filter(|line| {
        line.starts_with("rise_broker_requests_total")
            && line.contains(route)
            && !line.contains("method=\"HEAD\"")
            // A series begins before its first event.
            && !line.ends_with(" 0")
    });
    on_routes
        .filter_map(|line| Some(line.split("outcome=\"").nth(1)?.split('"').next()?.to_owned()))
        .collect()
}

fn known(outcomes: &BTreeSet<String>, expected: &[&str]) {
    let unexpected: Vec<_> =
        outcomes.iter().filter(|outcome| !expected.contains(&outcome.as_str())).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

const BEFORE_THE_TOKEN: [&str; 4] =
    ["missing-token", "invalid-token", "method-not-allowed", "uri-too-long"];
const ABOUT_THE_REQUEST: [&str; 3] =
    ["invalid-request", "payload-too-large", "unsupported-media-type"];

#[tokio::test]
async fn no_answer_with_a_valid_token_is_undescribed() {
    let installation = installed();
    let broker = installation.serve();
    let token = token(&installation, "any");
    let outcomes = search(&broker, Some(&token)).await;
    known(
        &outcomes,
        &[
            &BEFORE_THE_TOKEN[..],
            &ABOUT_THE_REQUEST,
            &["ok", "access-denied", "credential-not-found"],
        ]
        .concat(),
    );
    assert!(outcomes.contains("ok") && outcomes.contains("invalid-request"), "{outcomes:?}");
}

#[tokio::test]
async fn no_answer_without_a_token_is_undescribed() {
    let installation = installed();
    let broker = installation.serve();
    let outcomes = search(&broker, None).await;
    known(&outcomes, &BEFORE_THE_TOKEN);
    assert!(outcomes.contains("missing-token"), "{outcomes:?}");
}

#[tokio::test]
async fn no_answer_without_rights_is_undescribed() {
    let installation = installed();
    let broker = installation.serve();
    let token = token(&installation, "nobody");
    let outcomes = search(&broker, Some(&token)).await;
    // The list of registries is an answer, and empty.
    known(
        &outcomes,
        &[
            &BEFORE_THE_TOKEN[..],
            &ABOUT_THE_REQUEST,
            &["ok", "access-denied", "credential-not-found"],
        ]
        .concat(),
    );
    assert!(outcomes.contains("access-denied"), "{outcomes:?}");
    let metrics = metrics(&broker).await;
    let issued = |line: &&str| {
        line.starts_with("rise_broker_credential_requests_total")
            && line.contains("outcome=\"ok\"")
            && !line.ends_with(" 0")
    };
    assert_eq!(metrics.lines().find(issued), None);
}

/// A login, and the service of a registry that has one: without them no search gets in.
#[tokio::test]
async fn no_answer_of_the_token_server_is_undescribed() {
    let table = registry::distribution("registry.example.com").named("signed");
    let mut installation = Installation::new(format!("{AUTH}{SIGNING}{REGISTRIES}{table}"));
    installation.provider(&repository().join("dist/providers/distribution.wasm"), "distribution");
    installation.unlimited();
    let broker = installation.serve();
    let login = format!("oidc:{}", token(&installation, "any"));
    let header = format!("Authorization: Basic {}", BASE64_STANDARD.encode(login));
    let only = ["--include-path", "/token", "--include-method", "GET"];
    schemathesis(&broker, "schemathesis-token.toml", Some(&header), &only).await;
    let outcomes = outcomes(&broker, "\"/token\"").await;
    known(&outcomes, &[&BEFORE_THE_TOKEN[..], &ABOUT_THE_REQUEST, &["ok"]].concat());
    // The search gets in. With the service given, only chance finds a request that is refused.
    assert!(outcomes.contains("ok"), "{outcomes:?}");
}
