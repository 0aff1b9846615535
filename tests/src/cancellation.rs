//! Clients that hang up at any moment of a call that waits in an import: for AWS, or for a registry
//! over HTTP.
//!
//! `benches/soak_cancellation.rs` runs it at full size, `tests/behaviour/cancellation.rs` at a
//! small one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::siege::flat;
use crate::{
    AUTH, Answer, Client, Imaginary, Installation, PATIENCE, Serving, Stub, Wire, audit_text,
    registry, within,
};

const REGISTRIES: [&str; 2] = ["ecr", "http"];
/// Clients at the same time. All come from one address, which may open more connections than that.
const CLIENTS: usize = 48;
/// How long AWS and the registry take for each answer. A call of `ecr` waits for two answers.
const UPSTREAM: Duration = Duration::from_millis(50);
/// How long a client waits at most, in milliseconds. That is sometimes long enough for an answer.
const LONGEST: u64 = 90_000;

#[derive(Debug)]
pub struct CancellationReport {
    /// Clients that hung up before an answer, and clients that received one.
    pub hung_up: usize,
    pub answered: usize,
    /// Issues that began, and how they ended.
    pub intents: usize,
    pub completed: usize,
    pub failed: usize,
    pub without_outcome: usize,
    /// Issues that finished after their client had gone.
    pub finished_alone: usize,
    pub instances: usize,
    pub panics: usize,
    pub next: [u16; 2],
    pub resident_kib: [u64; 2],
    pub open_files: [usize; 2],
}

/// Waits up to `patience` for memory and files to return. Idle connections to AWS stay open for 90
/// s, and calls whose clients have gone need more connections than there are clients.
///
/// # Panics
/// If the broker does not start.
pub async fn run(clients: usize, patience: Duration) -> CancellationReport {
    let (aws, http) = (Stub::start().await, Imaginary::start().await);
    aws.always("AssumeRole", Answer::late(UPSTREAM));
    aws.always("GetAuthorizationToken", Answer::late(UPSTREAM));
    http.slow(UPSTREAM);
    let installation = installation(&aws, &http);
    let token =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]).stdout;
    let token = token.trim().to_owned();
    let serving = installation.serve();
    let to: SocketAddr = serving.url.rsplit_once('/').unwrap().1.parse().unwrap();
    // This opens every connection to AWS and to the registry that so many clients need.
    disconnect(to, &token, 10 * CLIENTS, true).await;
    nobody_is_left(&serving).await;
    let (resident, files) = (serving.resident(), serving.open_files());

    let (hung_up, answered) = disconnect(to, &token, clients, false).await;
    nobody_is_left(&serving).await;
    let is_flat = async || serving.open_files() <= files && serving.resident() <= flat(resident);
    within(patience, is_flat).await;
    let mut next = [0; 2];
    for (registry, status) in REGISTRIES.iter().zip(&mut next) {
        *status = Wire::once(to, &request(registry, &token)).await.status;
    }
    let lines = serving.lines_so_far();
    let panics = lines.iter().filter(|line| line.to_string().contains("panic")).count();
    let [intents, completed, minted, failed] =
        ["issue.intent", "issue.completed", "issue.minted", "issue.failed"]
            .map(|event| requests(&installation, event));
    let ended: BTreeSet<_> =
        [&completed, &minted, &failed].into_iter().flatten().cloned().collect();
    CancellationReport {
        hung_up,
        answered,
        intents: intents.len(),
        completed: completed.len(),
        failed: failed.len(),
        without_outcome: intents.difference(&ended).count(),
        // Every client of the warm-up and both last ones received an answer.
        finished_alone: ended.len().saturating_sub(10 * CLIENTS + answered + next.len()),
        instances: instances(&serving).await,
        panics,
        next,
        resident_kib: [resident, serving.resident()],
        open_files: [files, serving.open_files()],
    }
}

fn installation(aws: &Stub, http: &Imaginary) -> Installation {
    let auth = AUTH.replace("\"prod\"", "\"ecr\", \"http\"");
    let mut installation = Installation::new(format!(
        r#"
[limits]
registry = {{ in_flight = 1000, per_second = 100000, burst = 100000 }}
[log]
level = "error,rise_broker::command=info"
{auth}
{}{}"#,
        registry::ecr(aws.endpoint()).named("ecr"),
        registry::imaginary(&http.url()).named("http"),
    ));
    installation.unlimited();
    installation.guest("imaginary");
    installation
}

fn request(registry: &str, token: &str) -> String {
    format!(
        "GET /api/v1/registry/credentials?project=my-app&registry={registry} HTTP/1.1\r\n\
         host: x\r\nauthorization: Bearer {token}\r\n\r\n"
    )
}

/// Lets every client ask once. Returns how many hung up before an answer, and how many did not.
async fn disconnect(to: SocketAddr, token: &str, clients: usize, patient: bool) -> (usize, usize) {
    let requests: Arc<[String]> =
        REGISTRIES.iter().map(|registry| request(registry, token)).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..CLIENTS {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        running.spawn(async move {
            let (mut hung_up, mut answered) = (0, 0);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= clients {
                    return (hung_up, answered);
                }
                let mut wire = Wire::connect_from(Ipv4Addr::LOCALHOST, to).await;
                wire.send(&requests[number % requests.len()]).await;
                let pause = if patient { 20_000_000 } else { moment(number) };
                let mut stream = wire.into_inner();
                let heard = timeout(Duration::from_micros(pause), stream.read_u8()).await;
                if heard.is_ok_and(|read| read.is_ok()) {
                    answered += 1;
                } else {
                    hung_up += 1;
                }
            }
        });
    }
    let each = running.join_all().await;
    each.iter().fold((0, 0), |(left, right), own| (left + own.0, right + own.1))
}

/// A multiplicative hash: the same moment for the same number, evenly spread.
fn moment(number: usize) -> u64 {
    (u64::try_from(number).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % LONGEST
}

/// Waits until no instance is alive, or the patience of a test is over.
async fn nobody_is_left(serving: &Serving) {
    within(PATIENCE, async || instances(serving).await == 0).await;
}

async fn instances(serving: &Serving) -> usize {
    let text = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    let line = text.lines().find_map(|line| line.strip_prefix("rise_broker_provider_instances "));
    line.unwrap().trim().parse().unwrap()
}

/// The request ids of all records of this event.
fn requests(installation: &Installation, event: &str) -> BTreeSet<String> {
    audit_text(&installation.path("audit"))
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|record| record["event"] == event)
        .map(|record| record["request_id"].as_str().unwrap().to_owned())
        .collect()
}
