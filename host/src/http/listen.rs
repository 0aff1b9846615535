//! The accept loop: HTTP/1.1, a deadline for every wait, a cap on connections, and how they end.
//!
//! `axum::serve` sets no timeouts, so that a client which sends its headers byte by byte holds a connection for ever.
//!
//! **Invariant:** a connection costs its client a place among [`Edge::connections`] from `accept` on, before TLS or HTTP.

mod connection;
mod places;
mod tls;

pub use tls::Tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::Edge;
use crate::domain::ClientAddress;
use connection::Connection;
use places::{Place, Places};

/// Who is at the other end of the connection: perhaps a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// How long to leave `accept` alone when the process is out of file descriptors.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long requests in flight get after the last connection was accepted.
const DRAIN: Duration = Duration::from_secs(15);

/// Connections that are still served, though no new ones are taken.
pub struct Draining {
    stop: watch::Sender<bool>,
    open: mpsc::Receiver<()>,
}

/// Accepts until `stop` resolves. What is open then is served on, and waited for by [`Draining::finish`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    edge: &Edge,
    tls: Option<TlsAcceptor>,
    stop: impl Future<Output = ()>,
) -> Draining {
    let places = Arc::new(Places::new(edge));
    let (stopping, stopped) = watch::channel(false);
    // Each connection holds a sender: when all are gone, the receiver says so.
    let (alive, open) = mpsc::channel(1);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        // Closed at once: whoever has a place would otherwise decide how long the others wait.
        let Some(place) = places.take(ClientAddress::new(peer)) else { continue };
        let connection = Connection {
            router: router.clone(),
            peer: Peer(peer),
            timeouts: edge.timeouts,
            stopped: stopped.clone(),
        };
        tokio::spawn(open_connection(stream, tls.clone(), connection, place, alive.clone()));
    }
    drop(alive);
    Draining { stop: stopping, open }
}

async fn open_connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: Connection,
    place: Place,
    alive: mpsc::Sender<()>,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection.serve(stream).await,
        Some(tls) => {
            let handshake = tokio::time::timeout(connection.timeouts.handshake, tls.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                connection.serve(stream).await;
            }
        }
    }
    drop((place, alive));
}

impl Draining {
    /// Tells every connection to end after the request that it is in, and waits for them, for fifteen seconds at most.
    pub async fn finish(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(DRAIN, self.open.recv()).await.is_err() {
            tracing::warn!("some requests were still in flight when the time to drain was over");
        }
    }
}
