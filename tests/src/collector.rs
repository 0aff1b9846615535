//! A server to which a broker sends its audit records: it notes each request, and answers as told
//! or passes it on to a real peer.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const LONGEST: usize = 32 << 20;

/// One request.
#[derive(Clone, Debug)]
pub struct Collected {
    pub method: String,
    pub url: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The status of its answer. `None`: there was none.
    pub status: Option<u16>,
}

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Collects {
    /// Answers with this status and body, and drops what it got.
    Answers(u16, String),
    /// Never answers.
    Hangs,
    /// The peer gets it, and the answer is lost.
    LosesTheAnswer,
}

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Collector {
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    /// Where requests go that nothing was told about. `None`: they are answered with 200.
    target: Option<String>,
    script: Mutex<VecDeque<Collects>>,
    collected: Mutex<Vec<Collected>>,
}

impl Collector {
    /// Starts one that accepts everything, or passes it on to the peer at `target`.
    pub async fn start(target: Option<&str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            url: url.clone(),
            target: target.map(ToOwned::to_owned),
            script: Mutex::default(),
            collected: Mutex::default(),
        });
        let router = Router::new().fallback(collect).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, server }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Does this with the next requests, one each.
    pub fn next(&self, script: impl IntoIterator<Item = Collects>) {
        self.shared.script.lock().unwrap().extend(script);
    }

    /// Whether everything that it was told has happened.
    pub fn is_done(&self) -> bool {
        self.shared.script.lock().unwrap().is_empty()
    }

    /// Every request so far, oldest first.
    pub fn collected(&self) -> Vec<Collected> {
        self.shared.collected.lock().unwrap().clone()
    }

    /// Forgets the requests so far, and returns how many there were.
    pub fn forget(&self) -> usize {
        std::mem::take(&mut *self.shared.collected.lock().unwrap()).len()
    }

    /// The bodies of the requests that it accepted, one after another.
    pub fn accepted(&self) -> Vec<u8> {
        let all = self.collected().into_iter();
        all.filter(|it| it.status == Some(200)).flat_map(|it| it.body).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn collect(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter();
    let headers = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    let mut collected = Collected {
        method: parts.method.to_string(),
        url: format!("{}{}", shared.url, parts.uri),
        headers: headers.collect(),
        body: to_bytes(body, LONGEST).await.unwrap().to_vec(),
        status: None,
    };
    let told = shared.script.lock().unwrap().pop_front();
    let (status, body) = match (&told, &shared.target) {
        (Some(Collects::Answers(status, body)), _) => (*status, body.clone().into_bytes()),
        (Some(Collects::Hangs), _) => {
            shared.collected.lock().unwrap().push(collected);
            return std::future::pending().await;
        }
        (Some(Collects::LosesTheAnswer) | None, None) => (200, Vec::new()),
        (Some(Collects::LosesTheAnswer) | None, Some(target)) => {
            pass_on(&collected, target, &parts.uri.to_string()).await
        }
    };
    collected.status = Some(status);
    shared.collected.lock().unwrap().push(collected);
    if matches!(told, Some(Collects::LosesTheAnswer)) {
        return std::future::pending().await;
    }
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

async fn pass_on(request: &Collected, target: &str, path: &str) -> (u16, Vec<u8>) {
    let method = request.method.parse().unwrap();
    let mut passed = reqwest::Client::new().request(method, format!("{target}{path}"));
    for (name, value) in &request.headers {
        if !["host", "content-length"].contains(&name.as_str()) {
            passed = passed.header(name, value);
        }
    }
    let answer = passed.body(request.body.clone()).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}
