//! The hosts of the world behind one HTTP proxy: each answers over TLS under its own name.
//!
//! So settings can be tried exactly as they are in the documentation, with the names of real
//! services in them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The proxy. It runs on the test's runtime.
#[derive(Debug)]
pub struct Internet {
    /// `http://127.0.0.1:PORT`
    pub proxy: String,
    /// The certificate of all hosts, in PEM.
    pub certificate: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By URL.
    pages: BTreeMap<String, Value>,
    /// If set, each page is only for requests with this `Authorization`.
    authorization: Option<String>,
    requests: Mutex<Vec<String>>,
    connects: Mutex<Vec<String>>,
}

impl Internet {
    /// Serves these pages.
    ///
    /// # Panics
    /// If a URL is none.
    pub async fn start(pages: BTreeMap<String, Value>, bearer: Option<&str>) -> Self {
        let host = |url: &String| url::Url::parse(url).unwrap().host_str().unwrap().to_owned();
        let hosts: Vec<String> = pages.keys().map(host).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
        let authorization = bearer.map(|token| format!("Bearer {token}"));
        let shared = Arc::new(Shared { pages, authorization, ..Shared::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let tls = TlsAcceptor::from(Arc::new(tls.unwrap()));
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connect(stream, tls.clone(), Arc::clone(&serving)));
            }
        });
        Self { proxy, certificate, shared, server }
    }

    /// The URLs that were requested so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Internet {
    /// The hosts, with ports, to which connections were requested so far.
    pub fn connects(&self) -> Vec<String> {
        self.shared.connects.lock().unwrap().clone()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers `CONNECT host:port`, and then as that host.
async fn connect(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let head = head(&mut stream).await;
    let Some(to) = head.first().and_then(|line| line.strip_prefix("CONNECT ")) else { return };
    let authority = to.split(' ').next().unwrap_or_default().to_owned();
    shared.connects.lock().unwrap().push(authority.clone());
    let _ = stream.write_all(b"HTTP/1.1 200 connected\r\n\r\n").await;
    let Ok(stream) = tls.accept(stream).await else { return };
    let mut stream = BufReader::new(stream);
    let head = self::head(&mut stream).await;
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let url = format!("https://{}{path}", authority.strip_suffix(":443").unwrap_or(&authority));
    let authorization = head.iter().find_map(|line| line.strip_prefix("authorization: "));
    let is_known = shared.authorization.as_deref().is_none_or(|own| authorization == Some(own));
    let (status, body) = match shared.pages.get(&url) {
        _ if !is_known => (401, String::new()),
        Some(page) => (200, page.to_string()),
        None => (404, String::new()),
    };
    shared.requests.lock().unwrap().push(url);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn head<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).await;
        if read.is_err() || line.trim().is_empty() {
            return lines;
        }
        lines.push(line.trim().to_owned());
    }
}
