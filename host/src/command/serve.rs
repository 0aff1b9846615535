//! `rise-broker serve`.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Outcome, load, texts};
use crate::app::{App, Sdk};
use crate::domain::Clock;
use crate::{http, telemetry};

pub(super) async fn run(directory: &Path) -> Outcome {
    let config = load(directory).map_err(texts)?;
    telemetry::start(&config.log).map_err(|error| vec![error.to_string()])?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let (public, admin, tls) = (config.listen, config.admin_listen, config.tls.clone());
    let tls =
        tls.map(|files| http::listen::tls(&files)).transpose().map_err(|message| vec![message])?;
    let app = Arc::new(App::build(config, Clock::system(), &Sdk).await.map_err(texts)?);
    app.identity.prefetch();
    let public = bind(public, "server.listen").await?;
    let admin = bind(admin, "server.admin_listen").await?;
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
    http::listen::serve(public, http::router(app), tls, stopped).await;
    admin.abort();
    tracing::info!("stopped");
    Ok(())
}

async fn bind(address: std::net::SocketAddr, key: &str) -> Result<TcpListener, Vec<String>> {
    TcpListener::bind(address).await.map_err(|error| vec![format!("{key}: cannot listen on {address}: {error}; name another address, or stop what is there")])
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
