//! Servers that benchmarks compare the broker with: the benchmark's program started again, in a
//! folder of its own, as a process that ends with it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};

use axum::Router;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What it is told, in the folder that it is started in.
const TOLD: &str = "baseline.json";

pub struct Baseline {
    child: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Baseline {
    /// Starts this program with `kind` as its argument.
    pub fn start(kind: &str, told: &Value) -> Self {
        let directory = tempfile::Builder::new().prefix("rise-test-").tempdir().unwrap();
        fs::write(directory.path().join(TOLD), told.to_string()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(kind)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap(), _directory: directory }
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What [`Baseline::start`] was given.
pub fn told() -> Value {
    serde_json::from_slice(&fs::read(TOLD).unwrap()).unwrap()
}

/// Serves until the process that started this one has ended.
pub async fn serve(router: Router) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        #[expect(clippy::exit, reason = "nobody is left to be told")]
        std::process::exit(0);
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// A log of the simplest kind that loses nothing.
#[derive(Clone)]
pub struct DurableLog(SyncSender<(&'static str, oneshot::Sender<()>)>);

impl DurableLog {
    /// Starts one thread that writes what has come meanwhile, at most 64 records, and answers
    /// after `fdatasync`.
    pub fn start() -> Self {
        let (sender, receiver) = sync_channel::<(&'static str, oneshot::Sender<()>)>(1_024);
        let mut file = File::create("records.jsonl").unwrap();
        std::thread::spawn(move || {
            while let Ok(first) = receiver.recv() {
                let batch: Vec<_> =
                    std::iter::once(first).chain(receiver.try_iter().take(63)).collect();
                let bytes: String = batch.iter().map(|(record, _)| *record).collect();
                file.write_all(bytes.as_bytes()).unwrap();
                file.sync_data().unwrap();
                for (_, reply) in batch {
                    let _ = reply.send(());
                }
            }
        });
        Self(sender)
    }

    pub async fn record(&self, record: &'static str) {
        let (reply, durable) = oneshot::channel();
        self.0.send((record, reply)).unwrap();
        durable.await.unwrap();
    }
}
