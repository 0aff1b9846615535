//! `rise-broker serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::{Outcome, load, prepare, texts};
use crate::config::{Edge, Written, environment};
use crate::domain::Deadline;
use crate::http::listen::{Draining, Tls};
use crate::limits::SWEEP;
use crate::process::Process;
use crate::reload::{self, Current, Reloader, Source};
use crate::{hardening, http, telemetry};

const ADMIN_CONNECTIONS: usize = 256;
/// For mints that go on without a caller when the broker stops.
const LAST_MINTS: Duration = Duration::from_secs(5);
/// Room for the broker's other open files: the audit log and connections to registries and clouds.
const OTHER_FILES: u64 = 512;

#[derive(clap::Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// Begin a new audit chain behind a broken one. `audit verify` still reports the break.
    #[arg(long)]
    accept_broken_chain: bool,
}

pub(super) async fn run(arguments: &ServeArguments) -> Outcome {
    let source = Source::new(arguments.directory.config_dir.clone(), environment());
    let config = load(&arguments.directory.config_dir).await.map_err(texts)?;
    let source = source.and_providers(&config.providers);
    let _log = telemetry::start_in_background(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let drain_delay = config.drain_delay;
    let (tls, broker) = prepare(config.clone()).await.map_err(texts)?;
    for warning in &broker.generation.warnings {
        tracing::warn!("{warning}");
    }
    broker.generation.identity.prefetch();
    let registries = broker.generation.registries.iter().count();
    let process = Arc::clone(&broker.process);
    raise_open_files(process.edge.connections);
    let current = Current::new(broker);
    let public = bind(config.listen, &config.written, "listen").await?;
    let admin = bind(config.admin_listen, &config.written, "admin_listen").await?;
    let reloader = Reloader::new(Arc::clone(&current), source, config);
    let started = process.audit.start(arguments.accept_broken_chain).await;
    started.map_err(|error| vec![error.to_string()])?;
    let mut signals =
        Signals::new().map_err(|error| vec![format!("cannot listen for signals: {error}")])?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(
        url = format!("{scheme}://{}", address(&public)),
        admin = format!("http://{}", address(&admin)),
        registries,
        "ready"
    );
    let acceptor = tls.as_ref().map(Tls::acceptor);
    let mut background = JoinSet::new();
    background.spawn(keep_certificate(tls, signals.certificate, Arc::clone(&process)));
    background.spawn(reload::watch(reloader, signals.hangup));
    background.spawn(maintain(Arc::clone(&current)));
    // The admin listener outlives the public one, so that the drain can be watched.
    background.spawn(serve_admin(admin, Arc::clone(&current)));
    let stopped = async {
        let is_patient = signals.stop.wait().await;
        process.drain();
        tracing::info!("stopping: not ready any more, connections are still accepted");
        if is_patient {
            // A load balancer needs a moment to notice.
            let _ = tokio::time::timeout(drain_delay, signals.stop.wait()).await;
        }
    };
    let router = current.router();
    let draining = http::listen::serve(public, router, &process.edge, acceptor, stopped).await;
    tracing::info!("stopping: requests in flight are finished first");
    tokio::select! {
        () = finish(draining, &process) => {}
        _ = signals.stop.wait() => tracing::warn!("stopping at once, after a second signal"),
    }
    process.audit.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for requests in flight, and then for mints that go on without a caller.
async fn finish(draining: Draining, process: &Process) {
    draining.finish().await;
    process.issuing.finish(Deadline::after(LAST_MINTS)).await;
}

async fn keep_certificate(tls: Option<Tls>, hangup: Signal, process: Arc<Process>) {
    if let Some(tls) = tls {
        let clock = process.foundation.clock.clone();
        let report = |state| process.findings.report_certificate(state);
        tls.keep_current(hangup, clock, report).await;
    }
}

/// Forgets callers who have recovered, asks again for keys that are missing, and gives freed memory
/// back to the system.
async fn maintain(current: Arc<Current>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let broker = current.broker();
        broker.generation.limits.sweep();
        broker.process.issuing.sweep();
        broker.generation.identity.prefetch();
        // It walks the whole heap, which takes a moment.
        let _ = tokio::task::spawn_blocking(hardening::give_back_memory).await;
    }
}

async fn serve_admin(listener: TcpListener, current: Arc<Current>) {
    let edge = Edge { connections: ADMIN_CONNECTIONS, ..current.broker().process.edge.clone() };
    let never = std::future::pending();
    http::listen::serve(listener, current.admin_router(), &edge, None, never).await;
}

/// Raises the limit of open files as far as the system allows. Every connection is an open file,
/// and many systems start processes with a limit of 1024.
fn raise_open_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(needed.min(allowed)), maximum: limit.maximum };
    if limit.current.is_some_and(|current| current < needed) {
        let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
        if !is_raised || allowed < needed {
            tracing::warn!(
                allowed,
                needed,
                "the limit of open files is lower than `server.connections` needs; raise it \
                 (`LimitNOFILE`)"
            );
        }
    }
}

/// `key`: the setting that names the address.
async fn bind(
    address: SocketAddr,
    written: &Written,
    key: &str,
) -> Result<TcpListener, Vec<String>> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!(
            "cannot listen on {address}: {error}; name another address, or stop the program that \
             uses it"
        );
        texts(vec![written.problem(&format!("/server/{key}"), message)])
    })
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
}

struct Signals {
    stop: Stop,
    hangup: Signal,
    /// The same signal, for the certificate.
    certificate: Signal,
}

/// SIGTERM or an interrupt from the keyboard.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let stop = Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        let (hangup, certificate) = (signal(SignalKind::hangup())?, signal(SignalKind::hangup())?);
        Ok(Self { stop, hangup, certificate })
    }
}

impl Stop {
    /// Returns whether the sender can wait for the drain: SIGTERM can, a person at a keyboard
    /// cannot.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}
