//! Part of `make soak`: eight callers of a provider that misbehaves, and callers of another, each
//! fifty times a second, which is ten times what `[limits]` lets one project ask. As fast as
//! answers come would show how much this machine can do, no more. Prints what the latter saw, and
//! fails if it is worse than promised. Names after `--` choose among the guests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rise_broker_tests::load::{Load, LoadReport};
use rise_broker_tests::registry::{imaginary, oci, registry};
use rise_broker_tests::siege::flat;
use rise_broker_tests::{AUTH, Imaginary, Installation, Serving, Wire, within};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const RATE: f64 = 50.;
/// Twenty seconds each.
const REQUESTS: usize = 1_000;
/// Callers of the guest that misbehaves, one request after the other.
const CALLERS: usize = 8;
/// Between the requests of one of them.
const PAUSE: Duration = Duration::from_millis(160);
const MISBEHAVES: [&str; 14] = [
    "loop",
    "recurse",
    "recurse-in-memory",
    "memory",
    "handles",
    "secrets",
    "many-secrets",
    "host-call",
    "giant-string",
    "giant-result",
    "log-flood",
    "error-giant",
    "trap",
    "state",
];
const HTTP: [&str; 4] = ["silence", "flood", "many-requests", "too-many"];

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

async fn run() {
    println!("load average {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
    // On a thread of their own: a flood of theirs must not hold up who measures.
    let upstreams = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut servers = Vec::new();
    for _ in HTTP {
        servers.push(upstreams.spawn(Imaginary::start()).await.unwrap());
    }
    let mut installation = Installation::new(settings(&servers));
    installation.unlimited();
    // What a busy disk adds to each request is not what is measured.
    let record = tempfile::tempdir_in("/dev/shm").unwrap();
    installation.without("RISE_AUDIT__DIRECTORY");
    installation
        .variable("RISE_AUDIT__DIRECTORY", &record.path().join("audit").display().to_string());
    installation.guest("misbehaves");
    installation.guest("http-rogue");
    let token =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]).stdout;
    let token = token.trim();
    let serving = installation.serve();
    let to: SocketAddr = serving.url.rsplit_once('/').unwrap().1.parse().unwrap();
    let load = Load { connections: 16, requests: REQUESTS, rate: Some(RATE) };
    let path = "/api/v1/registry/credentials?project=my-app&registry=quiet";
    // Warm.
    load.run(to, path, token).await;
    let (resident, files) = (serving.resident(), serving.open_files());
    let mut all_hold = true;
    let chosen: Vec<_> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_chosen = |how: &&&str| chosen.is_empty() || chosen.iter().any(|name| name == **how);
    for how in MISBEHAVES.iter().chain(&HTTP).filter(is_chosen) {
        // Measured anew each time: who else uses this machine changes by the minute.
        let quiet = load.run(to, path, token).await;
        let (busy, calls) = beside(to, token, how, load.run(to, path, token)).await;
        settle(&serving, resident, files).await;
        let returned = serving.resident() <= flat(resident) && serving.open_files() <= files;
        let ratio = busy.quantile(0.99).as_secs_f64() / quiet.quantile(0.99).as_secs_f64();
        println!(
            "{how:18} {calls:6} calls; others quiet {}, beside it {}, p99 ratio {ratio:.1}; \
             resident {} -> {} KiB, files {files} -> {}",
            shown(&quiet),
            shown(&busy),
            resident,
            serving.resident(),
            serving.open_files()
        );
        let holds = quiet.failed + busy.failed == 0 && ratio <= 3. && returned && calls > 0;
        if !holds {
            println!("BROKEN: {how}");
            let others =
                serving.lines_so_far().into_iter().filter(|line| line["registry"] == "quiet");
            others.for_each(|line| println!("{line}"));
        }
        all_hold &= holds;
    }
    println!("load average {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
    upstreams.shutdown_background();
    assert!(all_hold, "not all that is promised holds");
}

fn settings(servers: &[Imaginary]) -> String {
    let names: Vec<_> = MISBEHAVES
        .iter()
        .chain(&HTTP)
        .chain(&["quiet"])
        .map(|name| format!("\"{name}\""))
        .collect();
    let mut text = AUTH.replace("\"prod\"", &names.join(", "));
    text += "[log]\nlevel = \"error,rise_broker::command=info\"\n";
    text += &oci("quiet.example.com").named("quiet").to_string();
    for how in MISBEHAVES {
        let registry = registry("misbehaves")
            .named(how)
            .with("how", how)
            .with("registry_url", format!("{how}.example.com"))
            .with("accept_scope", "registry")
            .with("trust_provider", true);
        text += &registry.to_string();
    }
    for (how, server) in HTTP.iter().zip(servers) {
        let url = server.url();
        let paths = ["api/tokens", "silence", "flood"].map(|path| format!("\"POST {url}/{path}\""));
        let registry = imaginary(&url)
            .with("type", "http-rogue")
            .named(how)
            .with("misbehave", *how)
            .ceiling(&format!("private = true\nallow = [{}]", paths.join(", ")));
        text += &registry.to_string();
    }
    text
}

/// Runs `others` while callers of the registry `how` ask again and again; how often those were
/// answered.
async fn beside(
    to: SocketAddr,
    token: &str,
    how: &str,
    others: impl Future<Output = LoadReport>,
) -> (LoadReport, usize) {
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (over, request) = (
            Arc::clone(&over),
            format!(
                "GET /api/v1/registry/credentials?project=my-app&registry={how} HTTP/1.1\r\n\
                 host: x\r\nauthorization: Bearer {token}\r\n\r\n"
            ),
        );
        callers.spawn(async move {
            let mut answers = 0;
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut wire = Wire::connect_from(Ipv4Addr::new(127, 0, 2, 1), to).await;
            while !over.load(Ordering::SeqCst) {
                ticks.tick().await;
                wire.send(&request).await;
                answers += usize::from(wire.hear().await.status > 0);
            }
            answers
        });
    }
    let report = others.await;
    over.store(true, Ordering::SeqCst);
    (report, callers.join_all().await.into_iter().sum())
}

async fn settle(serving: &Serving, resident: u64, files: usize) {
    // Connections of a registry are kept for half a minute, and freed memory until the broker next
    // sweeps.
    let is_over = async || serving.resident() <= flat(resident) && serving.open_files() <= files;
    within(Duration::from_secs(90), is_over).await;
}

fn shown(report: &LoadReport) -> String {
    format!(
        "p50 {:.1?} p99 {:.1?} ({} not 200)",
        report.quantile(0.5),
        report.quantile(0.99),
        report.failed
    )
}
