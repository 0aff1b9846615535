//! Part of `make bench`: tokens per second of `/token`, with an OIDC token as the password. Beside
//! it stand the registry that verifies these tokens, and two servers that verify the same password
//! and sign the same claims: one only does that, the other also makes the record durable.
//!
//! All are processes of their own on the same machine, asked by the same load generator over the
//! same number of connections, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rise_broker::domain::Clock;
use rise_broker_tests::baseline::{self, Baseline, DurableLog};
use rise_broker_tests::load::{Load, LoadReport};
use rise_broker_tests::{Client, Serving, Signer, TokenInstallation};
use serde_json::{Value, json};

const AUDIENCE: &str = "rise-registry";
const ISSUER: &str = "https://ci.example.com";
const CONNECTIONS: usize = 64;
const REQUESTS: usize = 4_000;
const ROUNDS: usize = 5;
/// Of the fastest rate that the broker has reached.
const STEADY: f64 = 0.5;
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
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
"#;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::args().nth(1).as_deref() {
        Some("signs") => runtime.block_on(stand_beside(false)),
        Some("records") => runtime.block_on(stand_beside(true)),
        Some(_) | None => {
            for algorithm in ["RS256", "ES256"] {
                runtime.block_on(measure(algorithm));
            }
        }
    }
}

/// One server, what it is asked, and with which `Authorization`.
struct Target {
    name: &'static str,
    address: SocketAddr,
    path: String,
    authorization: String,
}

impl Target {
    async fn run(&self, load: Load) -> LoadReport {
        let report = load.run_as(self.address, &self.path, &self.authorization).await;
        assert_eq!(report.failed, 0, "{}: answers that are not 200", self.name);
        report
    }
}

async fn measure(algorithm: &str) {
    let issuer = Signer::new("one");
    let signing = format!("algorithm = \"{algorithm}\"");
    let scene = TokenInstallation::start(SETTINGS, signing, |installation| {
        installation.file("keys.json", json!({ "keys": [issuer.jwk()] }).to_string());
    })
    .await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("oidc:{}", password(&issuer))));
    let url = scene.token_url("repository:my-app:pull,push");
    let path = url.strip_prefix(&scene.broker.url).unwrap();
    let answer = Client::new().get_with(&url, &[("authorization", &basic)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let completed = scene.installation.audit();
    let record = completed.iter().rfind(|record| record["event"] == "token.completed");
    let record = format!("{}\n", record.or(completed.last()).unwrap());
    let told = json!({
        "record": record, "key": issuer.jwk(), "algorithm": algorithm, "claims": claims(&token),
    });
    let baselines = [Baseline::start("signs", &told), Baseline::start("records", &told)];
    println!("{algorithm}: token {} bytes, record {} bytes", token.len(), record.len());

    let asks = |name, address| Target {
        name,
        address,
        path: path.to_owned(),
        authorization: basic.clone(),
    };
    let targets = [
        asks("verifies and signs", baselines[0].address),
        asks("and records", baselines[1].address),
        Target {
            name: "registry's verification",
            address: scene.registry.host().parse().unwrap(),
            path: "/v2/".to_owned(),
            authorization: format!("Bearer {token}"),
        },
        asks("rise-broker", scene.broker.url.rsplit_once('/').unwrap().1.parse().unwrap()),
    ];
    compare(&targets, &scene.broker).await;
}

async fn compare(targets: &[Target], broker: &Serving) {
    let saturate = Load { connections: CONNECTIONS, requests: REQUESTS, rate: None };
    for target in targets {
        target.run(saturate).await;
    }
    let mut cpu = 0.;
    let mut rates = vec![Vec::new(); targets.len()];
    for _ in 0..ROUNDS {
        for (target, rates) in targets.iter().zip(&mut rates) {
            let before = broker.cpu_seconds();
            rates.push(target.run(saturate).await.per_second());
            cpu += broker.cpu_seconds() - before;
        }
    }
    let rates: Vec<f64> = rates.into_iter().map(median).collect();
    let own = rates[targets.len() - 1];
    println!("  a second, {CONNECTIONS} connections, median of {ROUNDS} runs of {REQUESTS}:");
    for (target, rate) in targets.iter().zip(&rates) {
        println!("  {:24} {rate:8.0}; ratio of rise-broker {:.2}", target.name, own / rate);
    }
    let each = cpu / (ROUNDS * REQUESTS) as f64 * 1e6;
    println!("  rise-broker's processor time: {each:.0} us for each token");
    let rate = own * STEADY;
    let steady = Load { connections: CONNECTIONS, requests: REQUESTS, rate: Some(rate) };
    println!("  at {rate:.0} a second, half of what the broker can do:");
    for target in targets {
        let report = target.run(steady).await;
        let [p50, p99]: [Duration; 2] = [0.5, 0.99].map(|share| report.quantile(share));
        println!("  {:24} p50 {p50:?}, p99 {p99:?}", target.name);
    }
}

/// An OIDC token of a job.
fn password(issuer: &Signer) -> String {
    let now = Clock::system().now().as_second();
    issuer.sign(&json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/my-app:ref:refs/heads/main",
        "repository": "acme/my-app", "iat": now, "nbf": now, "exp": now + 3_600,
    }))
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn stand_beside(records: bool) {
    let told = baseline::told();
    let record: &'static str = told["record"].as_str().unwrap().to_owned().leak();
    let log = records.then(DurableLog::start);
    let jwk = serde_json::from_value(told["key"].clone()).unwrap();
    let key: &'static DecodingKey = Box::leak(Box::new(DecodingKey::from_jwk(&jwk).unwrap()));
    let algorithm = told["algorithm"].as_str().unwrap();
    let signer: &'static Signer = Box::leak(Box::new(Signer::with_algorithm("two", algorithm)));
    let claims: &'static Value = Box::leak(Box::new(told["claims"].clone()));
    let answer = async move |headers: HeaderMap| -> Response {
        if !is_valid(&headers, key) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let token = signer.sign(claims);
        if let Some(log) = &log {
            log.record(record).await;
        }
        axum::Json(json!({ "token": token, "access_token": token, "expires_in": 300 }))
            .into_response()
    };
    baseline::serve(Router::new().route("/token", get(answer))).await;
}

fn is_valid(headers: &HeaderMap, key: &DecodingKey) -> bool {
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(basic) = basic.and_then(|value| value.strip_prefix("Basic ")) else { return false };
    let Ok(login) = BASE64_STANDARD.decode(basic) else { return false };
    let Some(token) = login.strip_prefix(b"oidc:") else { return false };
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    decode::<Value>(token, key, &validation).is_ok()
}
