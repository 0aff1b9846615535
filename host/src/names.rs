//! Looks up the addresses of host names, with one thread for each name.
//!
//! The C library waits as long as a silent name server makes it, often half a minute, and holds up
//! a thread meanwhile. A thread for each connection that is tried would be hundreds of threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::timeout;

use crate::flight::Flights;

/// How long a caller waits. The look-up goes on, and later callers for the same name join it.
const PATIENCE: Duration = Duration::from_secs(5);

type Found = Result<Vec<SocketAddr>, (ErrorKind, Arc<str>)>;

/// The threads are those of the process, so the look-ups are too.
static LOOKUPS: LazyLock<Flights<String, Found>> = LazyLock::new(Flights::default);

/// The addresses of `name`, each with port 0.
pub(crate) async fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    let asked = name.to_owned();
    let work = async move { tokio::task::spawn_blocking(move || find(&asked)).await };
    let land = |found: Option<Result<Found, _>>| {
        let ended = Err((ErrorKind::Other, "the look-up ended early".into()));
        found.and_then(Result::ok).unwrap_or(ended)
    };
    let flight = LOOKUPS.join_or_start(name.to_owned(), Duration::MAX, work, land);
    let Ok(landed) = timeout(PATIENCE, flight.landed()).await else {
        let message = format!("no name server has answered for `{name}` in {PATIENCE:?}");
        return Err(io::Error::new(ErrorKind::TimedOut, message));
    };
    let landed = landed.unwrap_or_else(|| Err((ErrorKind::Other, "it ended early".into())));
    landed.map_err(|(kind, message)| io::Error::new(kind, message.to_string()))
}

fn find(name: &str) -> Found {
    let found = (name, 0).to_socket_addrs();
    found.map(Iterator::collect).map_err(|error| (error.kind(), error.to_string().into()))
}
