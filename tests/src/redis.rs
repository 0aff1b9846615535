//! Debian's redis-server, and a gate before it at which the network fails as told.

pub mod sentinel;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::https::Certificate;
use crate::process::{PeerCommand, Port, Process, find_program};

/// The password of every store.
pub const REDIS_PASSWORD: &str = "canary-redis-password-4711";

/// An empty store. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    certificate: Option<Certificate>,
}

impl Redis {
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with these further arguments.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_with(arguments: &[&str]) -> Self {
        let port = Port::free();
        let number = port.number();
        let mut command = Self::command();
        for argument in ["--port", &number.to_string()].into_iter().chain(arguments.iter().copied())
        {
            command = command.argument(argument);
        }
        let process = Process::start_until("redis-server", command, port, || accepts(number)).await;
        Self { process, port: number, certificate: None }
    }

    /// Starts a node of a Cluster that has no slots and knows no other node.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_node() -> Self {
        let bus = Port::free();
        let bus = bus.number().to_string();
        Self::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await
    }

    /// Starts one that speaks TLS alone.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_with_tls() -> Self {
        let (port, certificate) = (Port::free(), Certificate::new());
        let number = port.number();
        let command = Self::command();
        let folder = command.directory().to_owned();
        fs::write(folder.join("tls.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("tls.key"), certificate.key()).unwrap();
        let command = ["--port", "0", "--tls-port", &number.to_string()]
            .into_iter()
            .chain(["--tls-cert-file", "tls.pem", "--tls-key-file", "tls.key"])
            .chain(["--tls-auth-clients", "no", "--tls-ca-cert-file", "tls.pem"])
            .fold(command, PeerCommand::argument);
        let process = Process::start_until("redis-server", command, port, || accepts(number)).await;
        Self { process, port: number, certificate: Some(certificate) }
    }

    fn command() -> PeerCommand {
        let command = PeerCommand::system("redis-server");
        ["--bind", "127.0.0.1", "--requirepass", REDIS_PASSWORD, "--masterauth", REDIS_PASSWORD]
            .into_iter()
            .chain(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"])
            .chain(["--enable-debug-command", "yes"])
            .fold(command, PeerCommand::argument)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What clients must trust.
    ///
    /// # Panics
    /// If it speaks no TLS.
    pub fn authority(&self) -> &str {
        self.certificate.as_ref().unwrap().pem()
    }

    /// Runs one command of `redis-cli`, and returns what it prints.
    ///
    /// # Panics
    /// If the command fails.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let ran = Command::new(find_program("redis-cli"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--raw"])
            .args(arguments)
            .env("REDISCLI_AUTH", REDIS_PASSWORD)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Stops the whole program, which keeps its connections.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Ends it as a power cut does.
    pub fn kill(self) {
        drop(self);
    }

    /// Everything that is stored, as the store writes it to disk.
    pub fn dump(&self) -> Vec<u8> {
        self.ask(&["SAVE"]);
        fs::read(self.process.directory().join("dump.rdb")).unwrap()
    }
}

pub(crate) async fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

/// How a [`RedisGate`] treats connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateMode {
    /// Passes everything on to this port.
    Pass(u16),
    /// Does the same, and each answer comes so much later.
    Slow(u16, Duration),
    /// Hangs up at once.
    Refuse,
    /// Takes everything and does not answer.
    Silent,
    /// Answers each request with these bytes.
    Lie(Vec<u8>),
    /// Passes everything on to this port. On each connection, the first request with this text
    /// comes so much later.
    LateOnce(u16, &'static str, Duration),
    /// Passes everything on to this port, with one text of requests replaced by another one, so
    /// that a script answers something else.
    Edit(u16, &'static str, &'static str),
}

/// Stands between brokers and a store. It runs on the test's runtime.
#[derive(Debug)]
pub struct RedisGate {
    port: u16,
    mode: watch::Sender<GateMode>,
    seen: Arc<Mutex<Vec<u8>>>,
    server: JoinHandle<()>,
}

impl RedisGate {
    pub async fn start(mode: GateMode) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, modes) = watch::channel(mode);
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let server = tokio::spawn(serve(listener, modes, Arc::clone(&seen)));
        Self { port, mode, seen, server }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection, and treats new ones like this.
    pub fn set(&self, mode: GateMode) {
        self.mode.send_replace(mode);
    }

    /// Everything that passed so far, in both directions.
    ///
    /// # Panics
    /// Never.
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    /// Forgets what passed so far.
    ///
    /// # Panics
    /// Never.
    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Drop for RedisGate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    listener: TcpListener,
    mut modes: watch::Receiver<GateMode>,
    seen: Arc<Mutex<Vec<u8>>>,
) {
    // The connections end with this task, and with their mode.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            changed = modes.changed() => {
                connections.abort_all();
                if changed.is_err() {
                    return;
                }
            }
            Ok((stream, _)) = listener.accept() => {
                let mode = modes.borrow().clone();
                connections.spawn(treat(stream, mode, Arc::clone(&seen)));
            }
        }
    }
}

async fn treat(stream: TcpStream, mode: GateMode, seen: Arc<Mutex<Vec<u8>>>) {
    let (mut from, mut to) = stream.into_split();
    let (port, delay, change) = match mode {
        GateMode::Refuse => return,
        GateMode::Pass(port) => (port, Duration::ZERO, Change::None),
        GateMode::Slow(port, delay) => (port, delay, Change::None),
        GateMode::LateOnce(port, text, delay) => (port, Duration::ZERO, Change::Wait(text, delay)),
        GateMode::Edit(port, text, with) => (port, Duration::ZERO, Change::Edit(text, with)),
        GateMode::Silent => {
            while from.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
            return;
        }
        GateMode::Lie(bytes) => {
            while from.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            return;
        }
    };
    let Ok(store) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let (answers, requests) = store.into_split();
    tokio::select! {
        () = pass(from, requests, (Duration::ZERO, change), &seen) => {}
        () = pass(answers, to, (delay, Change::None), &seen) => {}
    }
}

/// What becomes of requests with a text.
enum Change {
    None,
    Edit(&'static str, &'static str),
    /// The first of them waits.
    Wait(&'static str, Duration),
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (delay, mut change): (Duration, Change),
    seen: &Mutex<Vec<u8>>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        seen.lock().unwrap().extend_from_slice(&buffer[..read]);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match change {
            Change::None => {}
            Change::Edit(text, with) => replace(&mut buffer[..read], text, with),
            Change::Wait(text, time) => {
                if buffer[..read].windows(text.len()).any(|part| part == text.as_bytes()) {
                    tokio::time::sleep(time).await;
                    change = Change::None;
                }
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Keeps the length, which the request states.
fn replace(bytes: &mut [u8], text: &str, with: &str) {
    let with = format!("{with:width$}", width = text.len());
    assert_eq!(with.len(), text.len(), "it is too long: {with}");
    for at in 0..bytes.len().saturating_sub(text.len()) {
        if bytes[at..].starts_with(text.as_bytes()) {
            bytes[at..at + text.len()].copy_from_slice(with.as_bytes());
        }
    }
}
