//! Honest callers while strangers hold slow connections, send bad tokens, and name keys that do not
//! exist.
//!
//! `make soak` measures it (`benches/soak_edge.rs`); `tests/behaviour/siege.rs` runs it at a small
//! size and checks the outcomes only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::wire::Wire;
use crate::within;
use crate::{Installation, Serving};

const PATH: &str = "/api/v1/registry/credentials?project=my-app";
/// Two below the number that the broker accepts from one address.
const PER_ADDRESS: usize = 62;
/// How many failures an address has before it is limited. Each of these reaches the issuer's keys.
const FAILURES: usize = 40;

/// An issuer with one key that counts the requests for it.
#[derive(Debug)]
pub struct CountingIssuer {
    url: String,
    key: rcgen::KeyPair,
    fetches: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl CountingIssuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
        let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x }] });
        let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let fetches = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&fetches);
        let answer_keys = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Json(keys) }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(|| async { Json(metadata) }))
            .route("/keys", get(answer_keys));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, key, fetches, server }
    }

    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn claims(&self) -> Value {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        json!({
            "iss": self.url, "aud": crate::AUDIENCE, "sub": "honest",
            "iat": now, "exp": now + 3_600, "repository": "acme/my-app",
        })
    }

    fn unsigned(&self, key_id: &str) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": key_id });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(&header), part(&self.claims()))
    }

    pub fn token(&self) -> String {
        use rcgen::SigningKey as _;
        let text = self.unsigned("one");
        let signature = self.key.sign(text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token that is correct except for its signature, which names a key that does not exist.
    pub fn forged(&self, number: usize) -> String {
        format!("{}.{}", self.unsigned(&format!("key-{number}")), URL_SAFE_NO_PAD.encode([7; 64]))
    }
}

impl Drop for CountingIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The amounts of each attack.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    pub slow_connections: usize,
    pub key_ids: usize,
    /// Bad tokens per second, in addition.
    pub bad_tokens: u32,
    /// Honest requests per second.
    pub honest: u32,
    pub quiet: Duration,
    pub siege: Duration,
}

/// The answers that honest callers received.
#[derive(Debug, Default)]
pub struct Seen {
    pub answers: usize,
    pub not_ok: Vec<u16>,
    latencies: Vec<Duration>,
}

impl Seen {
    pub fn quantile(&self, of: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into a short list"
        )]
        let index = ((sorted.len() as f64 * of) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
pub struct SiegeReport {
    pub quiet: Seen,
    pub besieged: Seen,
    /// The answers to forged tokens: 401, 429, other.
    pub forged: [usize; 3],
    /// The answers to bad tokens: 401, 429, other.
    pub bad: [usize; 3],
    pub slow_opened: usize,
    pub fetches: usize,
    pub resident_kib: [u64; 2],
    pub open_files: [usize; 2],
}

/// The memory, in KiB, up to which use counts as flat.
pub fn flat(resident: u64) -> u64 {
    resident + resident / 10 + 8 * 1024
}

/// Starts the real binary and besieges it.
///
/// # Panics
/// If the broker does not start.
pub async fn run(siege: Siege) -> SiegeReport {
    let issuer = Arc::new(CountingIssuer::start().await);
    let serving = broker(&issuer);
    let to: SocketAddr = serving.url.rsplit_once('/').unwrap().1.parse().unwrap();
    // This warms it up: code is compiled, keys are fetched.
    honest(to, &issuer, siege.honest, Duration::from_secs(2)).await;
    let files = serving.open_files();
    let resident = serving.resident();

    let quiet = honest(to, &issuer, siege.honest, siege.quiet).await;
    let (besieged, forged, bad, slow_opened) = lay(to, &issuer, siege).await;
    settle(&serving, resident, files).await;
    SiegeReport {
        quiet,
        besieged,
        forged,
        bad,
        slow_opened,
        fetches: issuer.fetches(),
        resident_kib: [resident, serving.resident()],
        open_files: [files, serving.open_files()],
    }
}

/// Waits until open files are as few as before, and memory is flat.
async fn settle(serving: &Serving, resident: u64, files: usize) {
    let is_over = async || serving.open_files() <= files && serving.resident() <= flat(resident);
    within(Duration::from_secs(40), is_over).await;
}

async fn lay(
    to: SocketAddr,
    issuer: &Arc<CountingIssuer>,
    siege: Siege,
) -> (Seen, [usize; 3], [usize; 3], usize) {
    let over = Arc::new(AtomicBool::new(false));
    let slow_opened = Arc::new(AtomicUsize::new(0));
    let mut strangers = JoinSet::new();
    for number in 0..siege.slow_connections {
        strangers.spawn(slow(to, number, Arc::clone(&over), Arc::clone(&slow_opened)));
    }
    let forging = tokio::spawn(forge(to, Arc::clone(issuer), siege.key_ids, siege.siege));
    let flooding = tokio::spawn(flood(to, siege.bad_tokens, siege.siege));
    let besieged = honest(to, issuer, siege.honest, siege.siege).await;
    let (forged, bad) = (forging.await.unwrap(), flooding.await.unwrap());
    over.store(true, Ordering::SeqCst);
    strangers.join_all().await;
    (besieged, forged, bad, slow_opened.load(Ordering::SeqCst))
}

fn broker(issuer: &CountingIssuer) -> Serving {
    let text = format!(
        r#"
[limits]
subject = {{ per_second = 100000, burst = 100000 }}
project = {{ per_second = 100000, burst = 100000 }}
[log]
level = "error"
[auth]
audience = "{}"
[[auth.issuers]]
name = "counting"
issuer = "{}"
algorithms = ["EdDSA"]
[[rules]]
name = "honest"
issuer = "counting"
claims = {{ repository = "acme/{{project}}" }}
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
[registries.prod]
type = "oci"
registry_url = "localhost:5000"
"#,
        crate::AUDIENCE,
        issuer.url,
    );
    let text = text.replace("level = \"error\"", "level = \"error,rise_broker::command=info\"");
    Installation::new(&text).serve_for_ever()
}

fn asking(token: &str) -> String {
    format!("GET {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
}

/// Asks at a constant rate, each request in a task of its own, so that a slow answer does not delay
/// the next request.
async fn honest(to: SocketAddr, issuer: &CountingIssuer, rate: u32, time: Duration) -> Seen {
    let request: Arc<str> = asking(&issuer.token()).into();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (end, mut asked) = (Instant::now() + time, JoinSet::new());
    while Instant::now() < end {
        let due = ticks.tick().await.into_std();
        let request = Arc::clone(&request);
        asked.spawn(async move {
            let heard = Wire::once(to, &request).await;
            (heard.status, due.elapsed())
        });
    }
    let mut seen = Seen::default();
    for (status, latency) in asked.join_all().await {
        seen.answers += 1;
        seen.latencies.push(latency);
        if status != 200 {
            seen.not_ok.push(status);
        }
    }
    seen
}

/// The address of stranger number n, in a network for this purpose.
fn stranger(network: u8, number: usize) -> Ipv4Addr {
    let [_, _, high, low] = u32::try_from(number + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, network.saturating_add(high), low, 1)
}

/// Begins a request, continues with one byte a second, and begins again when the broker hangs up.
async fn slow(to: SocketAddr, number: usize, over: Arc<AtomicBool>, opened: Arc<AtomicUsize>) {
    let from = stranger(10, number / PER_ADDRESS);
    // Strangers are out of step: the broker hangs up on each after five seconds.
    sleep(Duration::from_millis(u64::try_from(number * 37 % 5_000).unwrap())).await;
    while !over.load(Ordering::SeqCst) {
        let mut wire = Wire::connect_from(from, to).await;
        opened.fetch_add(1, Ordering::SeqCst);
        wire.send("GET / HTTP/1.1\r\nx: ").await;
        while !over.load(Ordering::SeqCst) {
            wire.send("y").await;
            if timeout(Duration::from_secs(1), wire.hung_up()).await.is_ok() {
                break;
            }
        }
    }
}

fn count(counts: &mut [usize; 3], status: u16) {
    let [refused, limited, other] = counts;
    *match status {
        401 => refused,
        429 => limited,
        _ => other,
    } += 1;
}

/// Sends each token from an address that may still fail.
async fn forge(
    to: SocketAddr,
    issuer: Arc<CountingIssuer>,
    key_ids: usize,
    time: Duration,
) -> [usize; 3] {
    let mut counts = [0; 3];
    let mut ticks = interval(time / u32::try_from(key_ids.div_ceil(FAILURES)).unwrap());
    for number in 0..key_ids.div_ceil(FAILURES) {
        ticks.tick().await;
        let mut wire = Wire::connect_from(stranger(20, number), to).await;
        for key in (number * FAILURES..key_ids).take(FAILURES) {
            wire.send(asking(&issuer.forged(key))).await;
            count(&mut counts, wire.hear().await.status);
        }
    }
    counts
}

/// Sends bad tokens from one address over open connections. The broker limits most of them before
/// it reads the token.
async fn flood(to: SocketAddr, rate: u32, time: Duration) -> [usize; 3] {
    const CONNECTIONS: u32 = 16;
    let end = Instant::now() + time;
    let mut floods = JoinSet::new();
    for _ in 0..CONNECTIONS {
        floods.spawn(async move {
            let mut counts = [0; 3];
            let mut ticks = interval(Duration::from_secs(1) * CONNECTIONS / rate);
            let mut wire = Wire::connect_from(stranger(30, 0), to).await;
            while Instant::now() < end {
                ticks.tick().await;
                wire.send(asking("eyJhbGciOiJub25lIn0.e30.x")).await;
                count(&mut counts, wire.hear().await.status);
            }
            counts
        });
    }
    let each = floods.join_all().await;
    each.into_iter().fold([0; 3], |sum, own| std::array::from_fn(|index| sum[index] + own[index]))
}
