//! The accept loop: HTTP/1.1 with a deadline for every wait and a limit on connections.
//!
//! `axum::serve` sets no timeouts, so that a client could send its headers byte by byte and hold a
//! connection for ever.
//!
//! **Invariant:** a connection takes one of [`Edge::connections`] slots from `accept` on, before
//! TLS and HTTP.

mod certificate;
mod connection;
mod handshakes;
mod slots;
mod tls;
mod x509;

pub use tls::Tls;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::config::Edge;
use crate::domain::ClientAddress;
use connection::Connection;
use handshakes::Handshakes;
use slots::{Slot, Slots};

/// The other end of the connection, which may be a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The pause after a failed `accept`.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long requests in flight may take after the last connection was accepted.
const DRAIN: Duration = Duration::from_secs(15);

/// Connections that are still served while no new ones are accepted.
pub struct Draining {
    stop: watch::Sender<bool>,
    open: mpsc::Receiver<()>,
}

/// Accepts connections until `stop` resolves. Open connections are served on until
/// [`Draining::finish`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    edge: &Edge,
    tls: Option<TlsAcceptor>,
    stop: impl Future<Output = ()>,
) -> Draining {
    let (slots, handshakes) = (Arc::new(Slots::new(edge)), Arc::new(Handshakes::default()));
    let (stopping, stopped) = watch::channel(false);
    // Each connection holds a sender, so the receiver closes after the last connection.
    let (alive, open) = mpsc::channel(1);
    tokio::pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut stop => break,
        };
        // A connection without a slot is closed at once. If it waited, those who hold the slots
        // would decide for how long.
        let Some(slot) = slots.claim(ClientAddress::new(peer)) else { continue };
        let connection = Connection {
            router: router.clone(),
            peer: Peer(peer),
            timeouts: edge.timeouts,
            stopped: stopped.clone(),
        };
        let held = (slot, Arc::clone(&handshakes));
        tokio::spawn(open_connection(stream, tls.clone(), connection, held, alive.clone()));
    }
    drop(alive);
    Draining { stop: stopping, open }
}

/// Accepts connections to the admin listener for ever. Each connection gets in, because an
/// orchestrator stops a broker whose probes are hung up on: beyond [`Edge::connections`], the
/// oldest connection is closed.
pub async fn serve_probes(listener: TcpListener, router: Router, edge: &Edge) {
    let (_never, stopped) = watch::channel(false);
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        let (stream, peer) = accept(&listener).await;
        if open.len() >= edge.connections {
            open.retain(|connection| !connection.is_finished());
        }
        if open.len() >= edge.connections
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = Connection {
            router: router.clone(),
            peer: Peer(peer),
            timeouts: edge.timeouts,
            stopped: stopped.clone(),
        };
        let _ = stream.set_nodelay(true);
        open.push_back(tokio::spawn(connection.serve(stream)).abort_handle());
    }
}

/// The next connection. `accept` fails while the process has no file descriptors left.
async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn open_connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: Connection,
    (slot, handshakes): (Slot, Arc<Handshakes>),
    alive: mpsc::Sender<()>,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection.serve(stream).await,
        Some(tls) => {
            let handshake = tokio::time::timeout(connection.timeouts.handshake, tls.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => connection.serve(stream).await,
                Ok(Err(error)) => handshakes.failed(connection.peer.0, &error),
                Err(_) => handshakes.failed(connection.peer.0, &"it took too long"),
            }
        }
    }
    drop((slot, alive));
}

impl Draining {
    /// Ends every connection after its current request, and waits for that for at most fifteen
    /// seconds.
    pub async fn finish(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(DRAIN, self.open.recv()).await.is_err() {
            tracing::warn!("some requests were still in flight after the time to drain");
        }
    }
}
