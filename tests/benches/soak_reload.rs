//! Part of `make soak`: 200 requests per second while 100 reloads alternate between two versions of
//! a provider, and five broken files come and go. Prints what callers saw, and fails if it is worse
//! than promised.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rise_broker_tests::load::{Load, LoadReport};
use rise_broker_tests::provider_files::{broken, component, digest, drop_in, noted};
use rise_broker_tests::{AUTH, Installation, Serving};
use serde_json::Value;

const OCI: &str = "[registries.prod]\ntype = \"oci\"\nregistry_url = \"oci.example.com\"\n\
     username = \"robot\"\n\
                   password = \"a-password\"\naccept_scope = \"registry\"\n";
const PATH: &str = "/api/v1/registry/credentials?project=my-app";
const RATE: f64 = 200.;
const QUIET: usize = 6_000;
const BUSY: usize = 20_000;
const RELOADS: usize = 100;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

async fn run() {
    let mut installation = Installation::new(format!("{AUTH}{OCI}"));
    installation.unlimited();
    installation.variable("RISE_LOG__LEVEL", "warn,rise_broker::command::serve=info");
    let token =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]).stdout;
    let serving = installation.serve();
    let to: SocketAddr = serving.url.rsplit_once('/').unwrap().1.parse().unwrap();
    let load = async |requests| {
        let (load, token) = (Load { connections: 16, requests, rate: Some(RATE) }, token.clone());
        let ended = tokio::spawn(async move { load.run(to, PATH, token.trim()).await }).await;
        ended.inspect_err(|_| println!("the broker said: {:#?}", serving.lines_so_far())).unwrap()
    };
    let quiet = load(QUIET).await;
    let started = Instant::now();
    let (busy, ()) = tokio::join!(load(BUSY), exchange(&installation, &serving));
    let took = started.elapsed();
    for (name, report) in [("quiet", &quiet), ("reloading", &busy)] {
        println!("{name:9} {}", shown(report));
    }
    let lines = serving.lines_so_far();
    let reported = lines.iter().filter(|line| line["stage"].is_string()).count();
    println!(
        "{RELOADS} reloads and 6 broken files within {took:?}; broken files reported {reported} \
         times"
    );
    let mut all_hold = true;
    for (promise, holds) in [
        ("no request fails", quiet.failed + busy.failed == 0),
        ("each broken file is reported once", reported == 6),
        ("p99 within 2x of quiet", busy.quantile(0.99) <= 2 * quiet.quantile(0.99)),
    ] {
        println!("{} {promise}", if holds { "holds:" } else { "BROKEN:" });
        all_hold &= holds;
    }
    assert!(all_hold, "not all that is promised holds");
}

async fn exchange(installation: &Installation, serving: &Serving) {
    let folder = installation.path("providers");
    let good = component("oci");
    let versions = ["one", "two"].map(|note| noted(&good, note));
    let broken = broken(&good);
    for round in 0..RELOADS {
        let version = &versions[round % 2];
        drop_in(&folder, "oci.wasm", version);
        serves(serving, version).await;
        if let Some((_, bytes)) = broken.get(round / 16).filter(|_| round % 16 == 10) {
            drop_in(&folder, "broken.wasm", bytes);
            let refused = |said: &Value| said["refused"][0]["sha256"] == digest(bytes).as_str();
            serving.until("/api/v1/providers", refused).await;
            std::fs::remove_file(folder.join("broken.wasm")).unwrap();
            serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
        }
    }
}

async fn serves(serving: &Serving, bytes: &[u8]) {
    let expected = digest(bytes);
    let is_loaded =
        |provider: &Value| provider["name"] == "oci" && provider["sha256"] == expected.as_str();
    serving
        .until("/api/v1/providers", |said| {
            said["providers"].as_array().unwrap().iter().any(is_loaded)
        })
        .await;
}

fn shown(report: &LoadReport) -> String {
    let at = |share| -> Duration { report.quantile(share) };
    format!(
        "{} requests, {} not 200, {} connections reopened, p50 {:?}, p99 {:?}, max {:?}",
        report.times.len(),
        report.failed,
        report.reopened,
        at(0.5),
        at(0.99),
        at(1.)
    )
}
