//! Bytes on a socket that no well-behaved client sends, from any address of 127.0.0.0/8.
//! 127.0.0.0/8.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use rise_broker::config::Edge;
use rise_broker::http::listen;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How long an answer or the end of a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A router on a free port, with the broker's real accept loop.
#[derive(Debug)]
pub struct Listening {
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

impl Listening {
    pub async fn start(router: Router, edge: Edge, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async move {
            let never = std::future::pending();
            listen::serve(listener, router, &edge, tls, never).await.finish().await;
        };
        Self { address, server: tokio::spawn(server) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire<S = TcpStream>(S);

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The status. 0: the connection was closed before the head of an answer was complete.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The name of the problem: `access-denied` for `urn:rise:problem:access-denied`.
    pub fn problem(&self) -> Option<String> {
        let json: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(json["type"].as_str()?.strip_prefix("urn:rise:problem:")?.to_owned())
    }
}

impl Wire {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, to).await
    }

    pub async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::V4(from), 0).into()).unwrap();
        Self(socket.connect(to).await.unwrap())
    }

    /// Sends one request on a new connection and reads one answer.
    pub async fn once(to: SocketAddr, request: &str) -> Heard {
        let mut wire = Self::connect(to).await;
        wire.send(request).await;
        wire.hear().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn over(stream: S) -> Self {
        Self(stream)
    }

    /// Sends bytes. A closed connection shows only when it is read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
        let _ = self.0.flush().await;
    }

    /// Reads one answer, by its `Content-Length`. Its status is 0 if the connection ends before.
    ///
    /// # Panics
    /// If neither an answer nor the end comes.
    pub async fn hear(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("no answer")
    }

    async fn read(&mut self) -> Heard {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let Ok(byte) = self.0.read_u8().await else {
                let head = String::from_utf8_lossy(&bytes).into_owned();
                return Heard { head, ..Heard::default() };
            };
            bytes.push(byte);
        }
        let head = String::from_utf8(bytes).unwrap();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        let mut answer = Heard { status, head, body: String::new() };
        let length =
            answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if self.0.read_exact(&mut body).await.is_ok() {
            answer.body = String::from_utf8(body).unwrap();
        }
        answer
    }

    /// Waits until the other side closes the connection. Returns the bytes that it sent before.
    ///
    /// # Panics
    /// If it does not close it.
    pub async fn hung_up(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        let _ = ended.expect("the connection stays open");
        rest
    }

    pub fn into_inner(self) -> S {
        self.0
    }
}
