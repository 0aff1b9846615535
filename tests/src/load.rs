//! A load generator: keep-alive connections that repeat one request, as fast as answers come or at
//! a fixed rate. At a fixed rate a request's time counts from the moment when it was due, so that a
//! stall shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub requests: usize,
    /// Requests per second over all connections. `None`: as fast as answers come.
    pub rate: Option<f64>,
}

pub struct LoadReport {
    /// The time of each request, sorted.
    pub times: Vec<Duration>,
    /// Requests without an answer, or with one other than 200.
    pub failed: usize,
    /// Connections that the server had closed before they were used again.
    pub reopened: usize,
    pub elapsed: Duration,
}

impl LoadReport {
    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that this share of the requests did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of a list that is there"
        )]
        let index = ((self.times.len() - 1) as f64 * share).round() as usize;
        self.times[index]
    }
}

impl Load {
    /// Sends a `GET` of `path` with this token.
    pub async fn run(self, address: SocketAddr, path: &str, token: &str) -> LoadReport {
        self.run_as(address, path, &format!("Bearer {token}")).await
    }

    /// The same with this `Authorization`.
    pub async fn run_as(self, address: SocketAddr, path: &str, authorization: &str) -> LoadReport {
        let request: Arc<[u8]> = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\n\r\n"
        )
        .into_bytes()
        .into();
        let next = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..self.connections {
            let (request, next) = (Arc::clone(&request), Arc::clone(&next));
            clients.spawn(async move { self.client(address, &request, &next, started).await });
        }
        let (mut times, mut failed, mut reopened) = (Vec::with_capacity(self.requests), 0, 0);
        while let Some(client) = clients.join_next().await {
            let client = client.unwrap();
            times.extend(client.times);
            failed += client.failed;
            reopened += client.reopened;
        }
        times.sort_unstable();
        LoadReport { times, failed, reopened, elapsed: started.elapsed() }
    }

    async fn client(
        self,
        address: SocketAddr,
        request: &[u8],
        next: &AtomicUsize,
        started: Instant,
    ) -> Client {
        let mut client = Client::new(address);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= self.requests {
                return client;
            }
            let due = self.rate.map(|rate| started + Duration::from_secs_f64(index as f64 / rate));
            if let Some(due) = due {
                sleep_until(due).await;
            }
            let began = due.unwrap_or_else(Instant::now);
            client.failed += usize::from(client.ask(request).await != Some(200));
            client.times.push(began.elapsed());
        }
    }
}

/// A client with one keep-alive connection at a time.
struct Client {
    address: SocketAddr,
    connection: Option<TcpStream>,
    buffer: Vec<u8>,
    times: Vec<Duration>,
    failed: usize,
    reopened: usize,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let (buffer, times) = (Vec::new(), Vec::new());
        Self { address, connection: None, buffer, times, failed: 0, reopened: 0 }
    }

    /// Sends the request and returns the status of the answer, if there is one. A server may close
    /// a connection between two requests at any time, as the broker does at its `lifetime_ms`. A
    /// request that meets such an end is sent again on a new connection, as every HTTP client does.
    async fn ask(&mut self, request: &[u8]) -> Option<u16> {
        let is_used = self.connection.is_some();
        match self.exchange(request).await {
            Ok(status) => Some(status),
            Err(_) if is_used && self.buffer.is_empty() => {
                self.reopened += 1;
                self.exchange(request).await.ok()
            }
            Err(_) => None,
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.buffer.clear();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.address).await?,
        };
        connection.set_nodelay(true)?;
        connection.write_all(request).await?;
        let (status, is_last) = answer(&mut connection, &mut self.buffer).await?;
        self.connection = (!is_last).then_some(connection);
        Ok(status)
    }
}

/// Reads one answer. Returns its status, and whether the connection ends with it.
async fn answer(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<(u16, bool)> {
    loop {
        if let Some(head) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next())
                .map_or(0, |length| length.trim().parse().unwrap());
            if buffer.len() >= head + 4 + length {
                return Ok((text[9..12].parse().unwrap(), text.contains("\nconnection: close")));
            }
        }
        if connection.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
