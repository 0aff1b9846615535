//! Part of `make soak`: PostgreSQL is killed, slow, locked for five minutes (`LOCKED=300`) and
//! full, each under 15 requests a second to a broker that ships its audit log there. It fails if a
//! request fails, or a record is lost or there twice. The full disk is a real one, which only root
//! can make.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rise_broker_tests::load::Load;
use rise_broker_tests::redis::{GateMode, RedisGate};
use rise_broker_tests::shipping::{ShippingBroker, ship_metric, shipped_lines};
use rise_broker_tests::{Postgres, Serving, within};
use tempfile::TempDir;

/// Fewer than the pace of a registry on AWS, as each is a mint.
const PER_SECOND: u64 = 15;
/// Of the failures that are short.
const SHORT: u64 = 30;
const SLOW: Duration = Duration::from_millis(1500);
const PATH: &str = "/api/v1/registry/credentials?project=my-app";

fn main() {
    let locked = std::env::var("LOCKED").map_or(300, |text| text.parse().unwrap());
    let holds = tokio::runtime::Runtime::new().unwrap().block_on(run(locked));
    assert!(holds, "not all that is promised holds");
}

struct Scene {
    postgres: Postgres,
    gate: RedisGate,
    broker: ShippingBroker,
    serving: Serving,
}

async fn run(locked: u64) -> bool {
    let postgres = Postgres::start().await;
    // Bytes pass it, whatever they are.
    let gate = RedisGate::start(GateMode::Pass(postgres.port())).await;
    let settings = postgres
        .settings()
        .replace(&format!(":{}/", postgres.port()), &format!(":{}/", gate.port()));
    let broker = ShippingBroker::new(&settings).await;
    broker.migrate(&postgres);
    let serving = broker.installation.serve();
    let mut scene = Scene { postgres, gate, broker, serving };

    scene.postgres.kill();
    let mut holds = scene.load("killed", SHORT).await;
    scene.postgres.start_again().await;
    holds &= scene.catches_up().await;

    scene.gate.set(GateMode::Slow(scene.postgres.port(), SLOW));
    holds &= scene.load("slow", SHORT).await;
    scene.gate.set(GateMode::Pass(scene.postgres.port()));
    holds &= scene.catches_up().await;

    let locking = scene.postgres.owner().await;
    locking.batch_execute("BEGIN; LOCK TABLE rise_audit.records").await.unwrap();
    holds &= scene.load("locked", locked).await;
    locking.batch_execute("COMMIT").await.unwrap();
    holds &= scene.catches_up().await;

    match SmallDisk::mount() {
        None => println!("full: not tried, a small disk cannot be mounted here"),
        Some(disk) => {
            scene.move_to(&disk).await;
            let ballast = disk.fill();
            holds &= scene.load("full", SHORT).await;
            fs::remove_file(ballast).unwrap();
            holds &= scene.catches_up().await;
            scene.move_back().await;
        }
    }
    let printed = scene.broker.installation.run(&["audit", "verify", "--from", "postgres"]);
    println!("{}", printed.stdout.trim());
    holds && printed.code == Some(0)
}

impl Scene {
    /// Whether every request is answered.
    async fn load(&self, name: &str, seconds: u64) -> bool {
        let requests = usize::try_from(PER_SECOND * seconds).unwrap();
        let load = Load { connections: 8, requests, rate: Some(PER_SECOND as f64) };
        let address = self.serving.url.strip_prefix("http://").unwrap().parse().unwrap();
        let report = load.run(address, PATH, self.broker.token()).await;
        println!(
            "{name} for {seconds} s: {} of {requests} failed, p99 {} ms, {} records behind",
            report.failed,
            report.quantile(0.99).as_millis(),
            self.lag().await
        );
        report.failed == 0
    }

    async fn lag(&self) -> u64 {
        ship_metric(&self.serving, "audit_ship_lag_records", "target=\"postgres\"").await
    }

    /// Whether everything is there once, when the lag is gone.
    async fn catches_up(&self) -> bool {
        let started = Instant::now();
        let caught_up = within(Duration::from_mins(2), async || self.lag().await == 0).await;
        let took = started.elapsed().as_millis();
        let is_equal = shipped_lines(&self.postgres).await == self.broker.own_lines();
        println!("  caught up after {took} ms; every record is there once: {is_equal}");
        caught_up && is_equal
    }

    /// Moves the records to a disk.
    async fn move_to(&self, disk: &SmallDisk) {
        self.postgres.give(disk.0.path());
        let path = disk.0.path().display();
        let statement = format!("CREATE TABLESPACE small LOCATION '{path}'");
        let owner = self.postgres.owner().await;
        owner.batch_execute(&statement).await.unwrap();
        move_all(&owner, "pg_default", "small").await;
    }

    async fn move_back(&self) {
        let owner = self.postgres.owner().await;
        move_all(&owner, "small", "pg_default").await;
        owner.batch_execute("DROP TABLESPACE small").await.unwrap();
    }
}

async fn move_all(owner: &tokio_postgres::Client, from: &str, to: &str) {
    for kind in ["TABLE", "INDEX"] {
        let statement = format!("ALTER {kind} ALL IN TABLESPACE {from} SET TABLESPACE {to}");
        owner.batch_execute(&statement).await.unwrap();
    }
}

/// A disk of its own in memory. It is unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=256m", "tmpfs"]).arg(directory.path());
        let is_mounted = command.status().is_ok_and(|status| status.success());
        is_mounted.then_some(Self(directory))
    }

    /// Fills it with a file.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        let error = std::io::copy(&mut std::io::repeat(7), &mut file).unwrap_err();
        println!("the disk is full: {error}");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
