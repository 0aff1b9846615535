//! An OIDC issuer on loopback that does what a real one does not do on demand: redirect, name
//! another host, flood, stay silent.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::signer::Signer;

const DOCUMENT: &str = "/.well-known/openid-configuration";

/// The answer to one path.
#[derive(Clone, Debug)]
pub enum Reply {
    Json(Value),
    Status(u16),
    Redirect(String),
    /// So many bytes, as long as the client reads them.
    Flood(u64),
    /// Sends nothing and keeps the connection open.
    Silence,
    /// Closes the connection.
    Close,
    /// This reply, after a while.
    After(Duration, Box<Self>),
    /// A whole response, as it goes over the wire.
    Raw(String),
    /// The first reply to a request with this `authorization`, the second to others.
    Asking(String, Box<[Self; 2]>),
    /// This reply to a request with this bearer token, 401 to others.
    Protected(&'static str, Box<Self>),
}

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct IssuerDouble {
    issuer: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    replies: Mutex<HashMap<String, Reply>>,
    requests: Mutex<Vec<String>>,
}

impl IssuerDouble {
    /// Starts it with these keys.
    pub async fn start(signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        let double = Self { issuer, shared, server };
        double.publish(signers);
        double
    }

    /// The issuer's name, exactly as in `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Answers correctly from now on, with these keys and no others.
    pub fn publish(&self, signers: &[&Signer]) {
        self.points_to(&format!("{}/jwks", self.issuer));
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.keys(Reply::Json(json!({ "keys": keys })));
    }

    /// Names this `jwks_uri` in its discovery document from now on.
    pub fn points_to(&self, jwks_uri: &str) {
        self.document(Reply::Json(json!({ "issuer": self.issuer, "jwks_uri": jwks_uri })));
    }

    pub fn document(&self, reply: Reply) {
        self.answer(DOCUMENT, reply);
    }

    pub fn keys(&self, reply: Reply) {
        self.answer("/jwks", reply);
    }

    pub fn answer(&self, path: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// The paths that were requested so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How often its keys were requested.
    pub fn fetches(&self) -> usize {
        self.requests().iter().filter(|path| *path == DOCUMENT).count()
    }
}

impl Drop for IssuerDouble {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(respond(stream, Arc::clone(&shared)));
    }
}

async fn respond(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut authorization) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.is_err() || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("authorization: ") {
            value.trim().clone_into(&mut authorization);
        }
        if first.is_empty() {
            first = line;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    shared.requests.lock().unwrap().push(path.clone());
    let reply = shared.replies.lock().unwrap().get(&path).cloned().unwrap_or(Reply::Status(404));
    let reply = if let Reply::Protected(token, reply) = reply {
        let is_known = authorization == format!("Bearer {token}");
        if is_known { *reply } else { Reply::Status(401) }
    } else {
        reply
    };
    let reply = if let Reply::Asking(wanted, replies) = reply {
        let [known, other] = *replies;
        if authorization == wanted { known } else { other }
    } else {
        reply
    };
    let reply = if let Reply::After(pause, reply) = reply {
        tokio::time::sleep(pause).await;
        *reply
    } else {
        reply
    };
    let head =
        |status: u16, more: &str| format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{more}\r\n");
    let text = match reply {
        Reply::Json(value) => {
            let body = value.to_string();
            head(
                200,
                &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()),
            ) + &body
        }
        Reply::Raw(text) => text,
        Reply::Status(status) => head(status, "content-length: 0\r\n"),
        Reply::Redirect(to) => head(302, &format!("location: {to}\r\ncontent-length: 0\r\n")),
        Reply::Flood(bytes) => return flood(&mut stream, &head(200, ""), bytes).await,
        Reply::Silence => return tokio::time::sleep(Duration::from_mins(1)).await,
        Reply::Close | Reply::After(..) | Reply::Protected(..) | Reply::Asking(..) => return,
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn flood(stream: &mut BufReader<TcpStream>, head: &str, bytes: u64) {
    let mut sent = stream.write_all(head.as_bytes()).await;
    let block = vec![b' '; 1 << 16];
    for _ in 0..bytes / (1 << 16) {
        if sent.is_err() {
            return;
        }
        sent = stream.write_all(&block).await;
    }
}
