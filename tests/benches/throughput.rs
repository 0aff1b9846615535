//! Part of `make bench`: requests per second of a cached ECR credential, audited and limited. Two
//! servers stand beside it: one only answers with the same bytes, and one also verifies the same
//! token and makes the same audit bytes durable before it answers.
//!
//! All three are processes of their own on the same machine, asked by the same load generator over
//! the same number of connections, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rise_broker::domain::Clock;
use rise_broker_tests::baseline::{self, Baseline, DurableLog};
use rise_broker_tests::load::{Load, LoadReport};
use rise_broker_tests::{Client, Installation, Serving, Signer, Stub, registry};
use serde_json::{Value, json};

/// Sum in seconds, and count, by step.
type Steps = BTreeMap<String, (f64, f64)>;

const AUDIENCE: &str = "rise-registry";
const ISSUER: &str = "https://ci.example.com";
const PATH: &str = "/api/v1/registry/credentials?project=my-app";
const CONNECTIONS: usize = 64;
const REQUESTS: usize = 20_000;
const ROUNDS: usize = 5;
/// Requests of one run with one connection.
const ALONE: usize = 1_000;
const RATE: f64 = 2_000.0;
const RATE_SECONDS: usize = 20;
const SETTINGS: &str = r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "ci"
issuer = "https://ci.example.com"
jwks_file = "keys.json"
algorithms = ["RS256"]
[[rules]]
name = "main-pushes"
issuer = "ci"
claims = { repository = "acme/{project}", ref = "refs/heads/main" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
"#;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::args().nth(1).as_deref() {
        Some("bare") => runtime.block_on(stand_beside(false)),
        Some("verifying") => runtime.block_on(stand_beside(true)),
        Some(_) | None => runtime.block_on(measure()),
    }
}

async fn measure() {
    let signer = Signer::new("one");
    let now = Clock::system().now().as_second();
    let token = signer.sign(&json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/my-app:ref:refs/heads/main",
        "repository": "acme/my-app", "ref": "refs/heads/main",
        "iat": now, "nbf": now, "exp": now + 3_600,
    }));
    let aws = Stub::start().await;
    let registry = registry::ecr(aws.endpoint()).shared("subject");
    let mut installation = Installation::new(format!("{SETTINGS}{registry}"));
    installation.file("keys.json", json!({ "keys": [signer.jwk()] }).to_string());
    installation.unlimited();
    let audit = installation.path("audit");
    let broker = installation.serve_for_ever();

    let answer = Client::new().get_as(&format!("{}{PATH}", broker.url), &token).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    // This one is cached, like all that follow.
    let answer = Client::new().get_as(&format!("{}{PATH}", broker.url), &token).await.unwrap();
    let record = last_record(&audit);
    let told = json!({ "body": answer.text(), "record": record, "key": signer.jwk() });
    let baselines = [Baseline::start("bare", &told), Baseline::start("verifying", &told)];
    println!("answer {} bytes, record {} bytes", answer.text().len(), record.len());

    let broker_address: SocketAddr = broker.url.rsplit_once('/').unwrap().1.parse().unwrap();
    let targets = [
        ("bare handler", baselines[0].address),
        ("verifies and records", baselines[1].address),
        ("rise-broker", broker_address),
    ];
    let saturate = Load { connections: CONNECTIONS, requests: REQUESTS, rate: None };
    for (_, address) in targets {
        run(saturate, address, &token).await;
    }
    let (before, cpu) = (steps(&broker).await, broker.cpu_seconds());
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (index, (_, address)) in targets.iter().enumerate() {
            rates[index].push(run(saturate, *address, &token).await.per_second());
        }
    }
    let (after, cpu) = (steps(&broker).await, broker.cpu_seconds() - cpu);
    let rates = rates.map(median);
    println!(
        "requests per second, {CONNECTIONS} connections, median of {ROUNDS} runs of {REQUESTS}:"
    );
    for (index, (name, _)) in targets.iter().enumerate() {
        println!(
            "  {name:22} {:8.0}; ratio of rise-broker {:.2}",
            rates[index],
            rates[2] / rates[index]
        );
    }
    println!(
        "rise-broker's processor time: {:.0} us for each request",
        cpu / (ROUNDS * REQUESTS) as f64 * 1e6
    );
    print_steps(&before, &after);
    alone(&targets, &token).await;
    steady(&targets, &token).await;
    assert_eq!(aws.count("AssumeRole"), 1, "every answer but the first was cached");
}

fn print_steps(before: &Steps, after: &Steps) {
    println!("rise-broker's steps meanwhile, mean:");
    for (step, (sum, count)) in after {
        let (sum_before, count_before) = before.get(step).copied().unwrap_or_default();
        if *count > count_before {
            println!("  {step:14} {:8.1} us", (sum - sum_before) / (count - count_before) * 1e6);
        }
    }
}

/// One caller at a time, in turns.
async fn alone(targets: &[(&str, SocketAddr)], token: &str) {
    let one = Load { connections: 1, requests: ALONE, rate: None };
    let mut medians = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (index, (_, address)) in targets.iter().enumerate() {
            medians[index].push(run(one, *address, token).await.quantile(0.5).as_secs_f64());
        }
    }
    let medians = medians.map(median);
    println!("one connection, median of {ROUNDS} medians of {ALONE} requests:");
    for (index, (name, _)) in targets.iter().enumerate() {
        println!(
            "  {name:22} p50 {:7.1} us; rise-broker takes {:.2} times as long",
            medians[index] * 1e6,
            medians[2] / medians[index]
        );
    }
}

/// At a rate that is far below what any of them could do.
async fn steady(targets: &[(&str, SocketAddr)], token: &str) {
    println!("at {RATE:.0} requests per second for {RATE_SECONDS} s:");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number")]
    let steady =
        Load { connections: CONNECTIONS, requests: RATE as usize * RATE_SECONDS, rate: Some(RATE) };
    for (name, address) in targets {
        let report = run(steady, *address, token).await;
        println!(
            "  {name:22} p50 {:?}, p99 {:?}, p99.9 {:?}",
            report.quantile(0.5),
            report.quantile(0.99),
            report.quantile(0.999)
        );
    }
}

async fn run(load: Load, address: SocketAddr, token: &str) -> LoadReport {
    let report = load.run(address, PATH, token).await;
    assert_eq!(report.failed, 0, "answers that are not 200");
    report
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn last_record(audit: &Path) -> String {
    let text = fs::read_to_string(audit.join("audit-00000001.jsonl")).unwrap();
    let record = text.lines().rfind(|line| line.contains("issue.completed")).unwrap();
    format!("{record}\n")
}

async fn steps(broker: &Serving) -> Steps {
    let text = Client::new().get(&format!("{}/metrics", broker.admin)).await.text();
    let mut steps = Steps::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("rise_broker_step_seconds_") else { continue };
        let Some((name, value)) = rest.rsplit_once(' ') else { continue };
        let step = name.split('"').nth(1).unwrap_or_default().to_owned();
        let value: f64 = value.parse().unwrap();
        if name.starts_with("sum{") {
            steps.entry(step).or_default().0 = value;
        } else if name.starts_with("count{") {
            steps.entry(step).or_default().1 = value;
        }
    }
    steps
}

async fn stand_beside(verifies: bool) {
    let told = baseline::told();
    let text = |key: &str| -> &'static str { told[key].as_str().unwrap().to_owned().leak() };
    let (body, record) = (text("body"), text("record"));
    let json = move || ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    let router = if verifies {
        let key: &'static DecodingKey = Box::leak(Box::new(
            DecodingKey::from_jwk(&serde_json::from_value(told["key"].clone()).unwrap()).unwrap(),
        ));
        let log = DurableLog::start();
        Router::new().route(
            "/api/v1/registry/credentials",
            get(async move |headers: HeaderMap| -> Response {
                if !is_valid(&headers, key) {
                    return StatusCode::UNAUTHORIZED.into_response();
                }
                log.record(record).await;
                json()
            }),
        )
    } else {
        Router::new().route("/api/v1/registry/credentials", get(async move || json()))
    };
    baseline::serve(router).await;
}

fn is_valid(headers: &HeaderMap, key: &DecodingKey) -> bool {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    decode::<Value>(token, key, &validation).is_ok()
}
