//! `rise-broker serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Outcome, load, prepare, texts};
use crate::config::node::Problem;
use crate::{http, telemetry};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// Begin a new audit chain behind one that was found broken. `audit verify` goes on to show the break.
    #[arg(long)]
    accept_broken_chain: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let config = load(&arguments.directory.config_dir).await.map_err(texts)?;
    telemetry::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let (public, admin) = (config.listen, config.admin_listen);
    let places =
        ["listen", "admin_listen"].map(|key| config.written.problem(&format!("/server/{key}"), ""));
    let (tls, app) = prepare(config).await.map_err(texts)?;
    let app = Arc::new(app);
    app.identity.prefetch();
    let [public_place, admin_place] = places;
    let public = bind(public, public_place).await?;
    let admin = bind(admin, admin_place).await?;
    let started = app.audit.start(arguments.accept_broken_chain).await;
    started.map_err(|error| vec![error.to_string()])?;
    let stop = Stop::new().map_err(|error| vec![format!("cannot listen for signals: {error}")])?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(
        url = format!("{scheme}://{}", address(&public)),
        admin = format!("http://{}", address(&admin)),
        registries = app.registries.iter().count(),
        "ready"
    );
    // The admin listener outlives the public one, so that the drain can be watched.
    let admin = tokio::spawn(http::listen::serve(
        admin,
        http::admin_router(Arc::clone(&app)),
        None,
        std::future::pending(),
    ));
    let draining = Arc::clone(&app);
    let stopped = async move {
        stop.wait().await;
        draining.drain();
        tracing::info!("stopping: requests in flight are finished first");
    };
    http::listen::serve(public, http::router(Arc::clone(&app)), tls, stopped).await;
    app.audit.stop().await;
    admin.abort();
    tracing::info!("stopped");
    Ok(())
}

/// `place` becomes the problem if there is one.
async fn bind(address: SocketAddr, place: Problem) -> Result<TcpListener, Vec<String>> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!(
            "cannot listen on {address}: {error}; name another address, or stop what is there"
        );
        texts(vec![Problem { message, ..place }])
    })
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map(|it| it.to_string()).unwrap_or_default()
}

/// SIGTERM or an interrupt from the keyboard.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
