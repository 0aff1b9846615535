//! Providers that were not written in Rust issue credentials like any other.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use rise_broker::config::Environment;
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::{
    AUTH, Imaginary, Installation, TestBroker, binary, compiled, logs, repository, target,
};
use rise_provider_kit::conformance::{self, Bench, Effort};
use serde_json::Value;

async fn issues(kind: &str) {
    let server = Imaginary::start().await;
    let registry = format!(
        r#"
[providers.{kind}]
wasi = "stubbed"
limits = {{ cpu_ms = 2000, memory_mib = 192 }}
[registries.prod]
type = "{kind}"
base_url = "{}"
repo_prefix = "rise/"
admin_token = "{ADMIN_TOKEN}"
trust_provider = true
cache = {{ share = "off" }}
[registries.prod.ceiling.http]
private = true
"#,
        server.url()
    );
    let broker = TestBroker::with_registries(&registry).guests(&[kind]).start().await;
    let started = Instant::now();
    for turn in 1..=3 {
        let token = broker.token_for("my-app");
        let answer = broker.credentials(&token, "project=my-app&actions=pull&lifetime=900").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["credentials"]["password"], format!("made-for-rise/my-app-{turn}"));
        assert_eq!(
            (&json["repository"], &json["enforced_by"]),
            (&"rise/my-app".into(), &"provider".into())
        );
    }
    // Compiling takes seconds; a call must not.
    assert!(started.elapsed().as_secs() < 5);
    let heard = server.heard();
    assert_eq!(heard[0].header("authorization"), format!("Bearer {ADMIN_TOKEN}"));
    let asked =
        serde_json::json!({ "repository": "rise/my-app", "actions": ["pull"], "lifetime": 900 });
    assert_eq!(heard[0].json(), asked);
}

async fn passes(kind: &str, example: &str) {
    let component = target().join("guests").join(format!("{kind}.wasm"));
    let examples = repository().join("examples").join(example).join("conformance.toml");
    let (environment, cache) = (Environment::new(), compiled());
    let bench = Bench {
        effort: Effort { sequential: 50, parallel: 16 },
        environment: &environment,
        cache: &cache,
        compiler: Compiler::Program(binary(), Bounds::default()),
    };
    let report = conformance::check(&component, &examples, &bench).await;
    assert!(report.passed(), "{report}");
}

fn wants_wasi(server: &str, more: &str) -> String {
    format!(
        "{more}\n[registries.prod]\ntype = \"wants-filesystem\"\n\
         registry_url = \"a.example.com\"\nserver = \"{server}\"\n"
    )
}

#[tokio::test]
async fn what_imports_more_of_wasi_than_every_program_is_refused_by_name() {
    for (more, setting) in [
        ("", "its own table below [providers]"),
        ("[providers]\nwasi = \"none\"", "its own table below [providers]"),
        // Another provider may have it, so a refusal names this one.
        ("[providers.oci]\nwasi = \"stubbed\"", "[providers.wants-filesystem]"),
        (
            "[providers]\nwasi = \"stubbed\"\n[providers.wants-filesystem]\nwasi = \"none\"",
            "[providers.wants-filesystem]",
        ),
    ] {
        let installation =
            Installation::new(format!("{more}\n{}{}", AUTH, wants_wasi("127.0.0.1:1", "")));
        installation.guest("wants-filesystem");
        let printed = installation.run(&["check"]);
        assert_eq!(printed.code, Some(1), "{more}");
        for expected in [
            "providers/wants-filesystem.wasm: wants `wasi:",
            &format!("with `wasi = \"stubbed\"` in {setting}"),
        ] {
            assert!(printed.stderr.contains(expected), "{more}: {}", printed.stderr);
        }
    }
}

#[tokio::test]
async fn what_is_stubbed_sees_nothing() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap().to_string();
    let registry =
        wants_wasi(&address, "[providers.wants-filesystem]\nwasi = \"stubbed\"\nlimits = {}");
    let broker = TestBroker::with_registries(&registry).guests(&["wants-filesystem"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let log = logs::text();
    for what in [
        "read",
        "list",
        "write",
        "connect",
        "listen",
        "datagrams",
        "names",
        "variables",
        "arguments",
        "input",
    ] {
        assert!(log.contains(&format!("{what}: false")), "{what}: {log}");
        assert!(!log.contains(&format!("{what}: true")), "{what}: {log}");
    }
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!Path::new("/tmp/rise-broker-wants-filesystem").exists());
}

#[tokio::test]
async fn stubs_that_are_taken_away_are_not_taken_over() {
    let stubbed = wants_wasi("127.0.0.1:1", "[providers.wants-filesystem]\nwasi = \"stubbed\"");
    let installation = Installation::new(format!("{AUTH}{stubbed}"));
    installation.guest("wants-filesystem");
    let serving = installation.serve();
    let none = wants_wasi("127.0.0.1:1", "[providers.wants-filesystem]\nwasi = \"none\"");
    installation.settings(format!("{AUTH}{none}"));
    let is_refused = |said: &Value| said["refused"][0]["stage"] == "imports";
    let said = serving.until("/api/v1/providers", is_refused).await;
    let problem = said["refused"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("in [providers.wants-filesystem]"), "{problem}");
}

#[tokio::test]
async fn the_example_in_rust_passes_the_conformance_kit() {
    passes("imaginary", "rust").await;
}

#[tokio::test]
async fn python_issues() {
    issues("imaginary-python").await;
}

#[tokio::test]
async fn python_passes_the_conformance_kit() {
    passes("imaginary-python", "python").await;
}

#[tokio::test]
#[ignore = "its tools weigh 385 MB: `make examples` runs it"]
async fn javascript_issues() {
    issues("imaginary-javascript").await;
}

#[tokio::test]
#[ignore = "its tools weigh 385 MB: `make examples` runs it"]
async fn javascript_passes_the_conformance_kit() {
    passes("imaginary-javascript", "javascript").await;
}
