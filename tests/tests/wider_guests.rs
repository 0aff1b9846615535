//! Providers that were not written in Rust issue credentials like any other.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests are not covered by the `…-in-tests` switches"
)]

use std::time::Instant;

use rise_broker::config::Environment;
use rise_broker::conformance::{self, Bench, Effort};
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker_tests::broker::{binary, compiled, repository, target};
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::{Imaginary, TestBroker};

async fn issues(kind: &str) {
    let server = Imaginary::start().await;
    let registry = format!(
        r#"
[providers.{kind}.limits]
cpu_ms = 2000
memory_mib = 192
[registries.prod]
type = "{kind}"
base_url = "{}"
repo_prefix = "rise/"
admin_token = "{ADMIN_TOKEN}"
trust_provider = true
[registries.prod.ceiling.http]
private = true
"#,
        server.url()
    );
    let broker = TestBroker::start_with(&registry, &[kind]).await;
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
