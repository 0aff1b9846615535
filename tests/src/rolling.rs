//! Several brokers behind a balancer, while our clients and a keep-alive client ask: each is
//! restarted in turn as an upgrade does, then one is killed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tokio::task::{JoinSet, spawn_blocking};

use crate::load::{Load, LoadReport};
use crate::{AUTH, Balancer, Installation, Serving, Workstation, registry};

const CREDENTIALS: &str = "/api/v1/registry/credentials?project=my-app";
/// Clients of ours that run at once, each a process.
const AT_ONCE: usize = 4;
/// Until the balancer has seen that a broker ends.
const DRAIN_MS: &str = "1000";

#[derive(Debug)]
pub struct RollingReport {
    /// Runs of `rise-registry credentials`.
    pub runs: usize,
    pub failures: BTreeSet<String>,
    /// Requests of a client with keep-alive connections that repeats nothing that was answered.
    pub requests: usize,
    pub failed: usize,
    /// Connections that had ended before they were used again.
    pub reopened: usize,
    /// What `audit verify` says of each broker, if it is not content.
    pub broken_chains: Vec<String>,
}

/// # Panics
/// If a broker does not start.
pub async fn restart_all(brokers: usize, per_second: u32) -> RollingReport {
    run(brokers, per_second, async |group| {
        for index in 0..brokers {
            group.end(index, Signal::TERM).await;
            group.start_again(index).await;
        }
    })
    .await
}

/// # Panics
/// If a broker does not start.
pub async fn kill_one(brokers: usize, per_second: u32) -> RollingReport {
    run(brokers, per_second, async |group| {
        group.end(0, Signal::KILL).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        group.start_again(0).await;
    })
    .await
}

async fn run(
    brokers: usize,
    per_second: u32,
    meanwhile: impl AsyncFnOnce(&mut Group),
) -> RollingReport {
    let mut group = Group::of(brokers).await;
    let token = group.installations[0].token_for("my-app");
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = tokio::spawn(clients(group.url(), token.clone(), Arc::clone(&is_over)));
    let requests =
        tokio::spawn(requests(group.balancer.address, token, per_second, is_over.clone()));
    meanwhile(&mut group).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    is_over.store(true, Ordering::Relaxed);
    let (runs, failures) = clients.await.unwrap();
    let requests = requests.await.unwrap();
    let broken_chains = group.broken_chains();
    RollingReport {
        runs,
        failures,
        requests: requests.iter().map(|report| report.times.len()).sum(),
        failed: requests.iter().map(|report| report.failed).sum(),
        reopened: requests.iter().map(|report| report.reopened).sum(),
        broken_chains,
    }
}

/// Brokers with one issuer, each with a folder of its own.
struct Group {
    installations: Vec<Arc<Installation>>,
    serving: Vec<Option<Serving>>,
    balancer: Balancer,
}

impl Group {
    async fn of(brokers: usize) -> Self {
        let registry = registry::oci("registry.example.com").account("demo", "demo-password");
        let mut installations = Vec::new();
        for _ in 0..brokers {
            let mut installation = Installation::new(format!("{AUTH}{registry}"));
            installation.unlimited();
            installation.without("RISE_SERVER__DRAIN_DELAY_MS");
            installation.variable("RISE_SERVER__DRAIN_DELAY_MS", DRAIN_MS);
            installations.push(Arc::new(installation));
        }
        installations[0].token_for("my-app");
        for other in &installations[1..] {
            fs::copy(installations[0].path("issuer.pem"), other.path("issuer.pem")).unwrap();
        }
        let serving = installations.iter().map(|_| None).collect();
        let mut group = Self { installations, serving, balancer: Balancer::start().await };
        for index in 0..brokers {
            group.start_one(index).await;
        }
        group.balancer.all_are_ready().await;
        group
    }

    fn url(&self) -> String {
        format!("http://{}", self.balancer.address)
    }

    async fn start_one(&mut self, index: usize) {
        let installation = Arc::clone(&self.installations[index]);
        let serving = spawn_blocking(move || installation.serve()).await.unwrap();
        self.balancer.put(index, &serving);
        self.serving[index] = Some(serving);
    }

    /// Returns when it is ready, as an upgrade waits.
    async fn start_again(&mut self, index: usize) {
        self.start_one(index).await;
        self.balancer.all_are_ready().await;
    }

    async fn end(&mut self, index: usize, signal: Signal) {
        let mut serving = self.serving[index].take().unwrap();
        kill_process(serving.id(), signal).unwrap();
        spawn_blocking(move || serving.ended()).await.unwrap();
    }

    fn broken_chains(self) -> Vec<String> {
        let mut broken = Vec::new();
        for (installation, serving) in self.installations.iter().zip(self.serving) {
            drop(serving);
            let verified = installation.run(&["audit", "verify"]);
            if verified.code != Some(0) {
                broken.push(format!("{verified:?}"));
            }
        }
        broken
    }
}

/// Our clients, each run in a home of its own. Returns how many ran and what failures said.
async fn clients(
    url: String,
    token: String,
    is_over: Arc<AtomicBool>,
) -> (usize, BTreeSet<String>) {
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (url, token, is_over) = (url.clone(), token.clone(), Arc::clone(&is_over));
        workers.spawn_blocking(move || {
            let (mut runs, mut failures) = (0, BTreeSet::new());
            while !is_over.load(Ordering::Relaxed) {
                let machine = Workstation::new().with("RISE_URL", &url).with("RISE_TOKEN", &token);
                let ran = machine.rise(&["credentials", "--project", "my-app"]);
                runs += 1;
                if ran.code != Some(0) {
                    failures.insert(ran.stderr);
                }
            }
            (runs, failures)
        });
    }
    let all = workers.join_all().await;
    let runs = all.iter().map(|(runs, _)| runs).sum();
    (runs, all.into_iter().flat_map(|(_, failures)| failures).collect())
}

async fn requests(
    address: std::net::SocketAddr,
    token: String,
    per_second: u32,
    is_over: Arc<AtomicBool>,
) -> Vec<LoadReport> {
    let mut reports = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let load = Load {
            connections: 8,
            requests: per_second as usize,
            rate: Some(f64::from(per_second)),
        };
        reports.push(load.run(address, CREDENTIALS, &token).await);
    }
    reports
}
