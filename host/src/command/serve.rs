//! `rise-broker serve`: start, serve until a signal, finish.
//!
//! `signals` are handled from the first line on; `edges` fits the listeners into the limit of open
//! files.

mod edges;
mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use super::{Outcome, load, load_tls, local_key, texts};
use crate::broker::Broker;
use crate::config::{Edge, Written, environment};
use crate::control::{self, ControlFolders};
use crate::domain::Deadline;
use crate::http::listen::{Draining, Tls};
use crate::limits::SWEEP;
use crate::process::{Process, Surroundings};
use crate::reload::{self, Current, Reloader, Source};
use crate::ship::{ShipSettings, Shipping, ShippingPlace, ShippingTasks};
use crate::telemetry::Traces;
use crate::{hardening, http, telemetry};
use edges::Edges;
use signals::Signals;

/// For mints that go on without a caller when the broker stops.
const LAST_MINTS: Duration = Duration::from_secs(5);
/// For the records that were not shipped yet.
const LAST_SHIPPED: Duration = Duration::from_secs(5);
/// For the spans that were not sent yet.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// How often the broker looks for credentials that are to end.
const END_DUE: Duration = Duration::from_secs(1);
/// How often the list of what is out is compared with that of the other brokers.
const FOLLOW: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// Begin a new audit chain behind a broken one. `audit verify` still reports the break.
    #[arg(long)]
    accept_broken_chain: bool,
}

/// A broker that is ready to accept connections.
struct Started {
    current: Arc<Current>,
    reloader: Reloader,
    tls: Option<Tls>,
    public: TcpListener,
    admin: TcpListener,
    drain_delay: Duration,
    edges: Edges,
    shipping: Option<ShippingTasks>,
    control: ControlFolders,
    _log: telemetry::Flushing,
}

pub(super) async fn run(arguments: ServeArguments) -> Outcome {
    // Process 1 of a container loses a signal that nobody handles, and others end by a SIGHUP.
    let mut signals =
        Signals::new().map_err(|error| vec![format!("cannot listen for signals: {error}")])?;
    let runtime = Handle::current();
    // A start reads files and compiles providers, which nothing can interrupt.
    let starting = tokio::task::spawn_blocking(move || runtime.block_on(start(arguments)));
    let started = tokio::select! {
        started = starting => started.map_err(|error| vec![format!("cannot start: {error}")])??,
        _ = signals.stop.wait() => {
            tracing::info!("stopped before it was ready");
            return Ok(());
        }
    };
    serve(started, signals).await
}

/// Everything that comes before the first connection.
async fn start(arguments: ServeArguments) -> Result<Started, Vec<String>> {
    let source = Source::new(arguments.directory.path(), environment());
    let config = load(&arguments.directory.path()).await.map_err(texts)?;
    let source = source.and_files_of(&config);
    let log = telemetry::start_in_background(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let drain_delay = config.drain_delay;
    let tls = load_tls(&config).await.map_err(texts)?;
    let built = Box::pin(Broker::build(config.clone(), Surroundings::real())).await;
    let broker = built.map_err(texts)?;
    for warning in &broker.generation.warnings {
        tracing::warn!("{warning}");
    }
    local_key::remember_in(&config);
    broker.generation.identity.prefetch();
    let process = Arc::clone(&broker.process);
    let _ = process.lost_lines.set(log.lost_lines());
    let edges = Edges::within_open_files(&process.edge);
    let current = Current::new(broker);
    let public = bind(config.listen, &config.written, "listen").await?;
    let admin = bind(config.admin_listen, &config.written, "admin_listen").await?;
    let (written, directory) = (config.written.clone(), config.audit.directory.clone());
    let (ship_settings, traces) = (config.ship.clone(), config.traces.clone());
    let state = config.state_directory.clone();
    let control =
        ControlFolders { state: config.state_directory.clone(), audit: directory.clone() };
    let reloader = Reloader::new(Arc::clone(&current), source, config);
    let started = process.audit.start(arguments.accept_broken_chain).await;
    started.map_err(|error| {
        let message = format!("{}: {error}", directory.display());
        texts(vec![written.problem("/audit/directory", message)])
    })?;
    current.broker().recover(directory).await;
    let shipping = ship(&ship_settings, state, &current);
    if let Some(traces) = &traces {
        let _ = process.traces.set(Traces::start(traces));
    }
    Ok(Started {
        current,
        reloader,
        tls,
        public,
        admin,
        drain_delay,
        edges,
        shipping,
        control,
        _log: log,
    })
}

/// Sends the audit log on, if the settings want it.
fn ship(settings: &ShipSettings, state: PathBuf, current: &Arc<Current>) -> Option<ShippingTasks> {
    let (broker, asked) = (current.broker(), Arc::clone(current));
    let keep = move || {
        let (_, keep) = asked.broker().generation.registries.that_revoke();
        Duration::try_from(keep).unwrap_or_default()
    };
    let place = ShippingPlace {
        audit: &broker.process.audit,
        state,
        clock: broker.process.foundation.clock.clone(),
        keep: Box::new(keep),
    };
    let (shipping, tasks) = Shipping::start(settings, place)?;
    let _ = broker.process.shipping.set(shipping);
    Some(tasks)
}

/// Ends what is to end, every second.
async fn end_credentials(current: Arc<Current>) {
    loop {
        tokio::time::sleep(END_DUE).await;
        let broker = current.broker();
        broker.process.issuing.end_due(&broker.generation.registries);
    }
}

/// Ends what other brokers cannot, every few seconds.
async fn follow_others(current: Arc<Current>) {
    loop {
        let broker = current.broker();
        broker.process.issuing.follow_others(&broker.generation.registries).await;
        tokio::time::sleep(FOLLOW).await;
    }
}

/// Serves until a signal, and then until the last request is finished.
async fn serve(started: Started, mut signals: Signals) -> Outcome {
    let Started {
        current,
        reloader,
        tls,
        public,
        admin,
        drain_delay,
        edges,
        shipping,
        control,
        _log,
    } = started;
    let process = current.broker().process;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(
        url = format!("{scheme}://{}", address(&public)),
        admin = format!("http://{}", address(&admin)),
        registries = current.broker().generation.registries.iter().count(),
        "ready"
    );
    let acceptor = tls.as_ref().map(Tls::acceptor);
    let mut background = JoinSet::new();
    background.spawn(keep_certificate(tls, signals.certificate, Arc::clone(&process)));
    background.spawn(reload::watch(reloader, signals.hangup));
    background.spawn(maintain(Arc::clone(&current)));
    background.spawn(end_credentials(Arc::clone(&current)));
    let following = background.spawn(follow_others(Arc::clone(&current)));
    background.spawn(control::listen(Arc::clone(&current), control));
    // The admin listener outlives the public one, so that the drain can be watched.
    background.spawn(serve_admin(admin, Arc::clone(&current), edges.admin));
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
    let draining = http::listen::serve(public, router, &edges.public, acceptor, stopped).await;
    tracing::info!("stopping: requests in flight are finished first");
    tokio::select! {
        () = finish(draining, &process) => {}
        _ = signals.stop.wait() => tracing::warn!("stopping at once, after a second signal"),
    }
    following.abort();
    process.issuing.leave_others().await;
    process.audit.stop().await;
    if let Some(shipping) = shipping {
        shipping.finish(Deadline::after(LAST_SHIPPED)).await;
    }
    if let Some(traces) = process.traces.get() {
        traces.finish(Deadline::after(LAST_SPANS)).await;
    }
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

/// Forgets callers who have recovered, wipes logins that have expired, asks again for keys that are
/// missing, and gives freed memory back to the system.
async fn maintain(current: Arc<Current>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let broker = current.broker();
        broker.generation.limits.sweep();
        broker.generation.registries.sweep(broker.process.foundation.clock.now());
        broker.process.issuing.sweep();
        broker.process.issuing.record_overdue(&broker.generation.registries).await;
        broker.process.issuing.sweep_denials(&broker.generation.registries);
        broker.process.issuing.look_for_leftovers(&broker.generation.registries);
        broker.process.refusals.sweep();
        broker.process.clock_steps.check();
        broker.generation.identity.prefetch();
        // It walks the whole heap, which takes a moment.
        let _ = tokio::task::spawn_blocking(hardening::give_back_memory).await;
    }
}

async fn serve_admin(listener: TcpListener, current: Arc<Current>, edge: Edge) {
    http::listen::serve_probes(listener, current.admin_router(), &edge).await;
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
