//! A double of STS and ECR that does what a real peer does not do on demand: it fails, stalls,
//! hangs up and lies.
//!
//! It answers `AssumeRole`, `AssumeRoleWithWebIdentity`, `GetCallerIdentity` (XML) and
//! `GetAuthorizationToken` of ECR and of ECR Public (JSON) on one endpoint, and checks no signature
//! of a request or a token. By default it answers as AWS does.

mod answer;
mod script;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use self::answer::Answer;
use self::script::Script;

use crate::aws::caller::{Caller, Keys};
use crate::aws::request::Request;
use crate::{PATIENCE, within};

const LONGEST_REQUEST: usize = 1 << 20;

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Stub {
    endpoint: String,
    script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

impl Stub {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let server = tokio::spawn(serve(listener, Arc::clone(&script)));
        Self { endpoint, script, server }
    }

    /// The value for `endpoint_url`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A caller with keys; it accepts any.
    pub fn caller(&self) -> Caller {
        let keys = Keys {
            access_key_id: "AKIASTUB".into(),
            secret_access_key: "stub".into(),
            session_token: None,
        };
        Caller::new(&self.endpoint, "eu-west-1", keys)
    }

    /// Answers every later request for `action` (`AssumeRole` …) like this.
    pub fn always(&self, action: &str, answer: Answer) {
        self.script.lock().unwrap().always(action, answer);
    }

    /// Answers the next requests for `action` with these, one each; then as before.
    pub fn next(&self, action: &str, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().next(action, answers);
    }

    /// From now on takes so many calls of each action a second, and throttles others as AWS does:
    /// with a bucket of `burst`.
    pub fn pace(&self, per_second: u32, burst: u32) {
        self.script.lock().unwrap().pace(per_second, burst);
    }

    /// From now on passwords of ECR have this length. Real ones have about 2,000 characters.
    pub fn password_bytes(&self, length: usize) {
        self.script.lock().unwrap().password_bytes = length;
    }

    /// How many calls were throttled by [`Stub::pace`].
    pub fn throttled(&self) -> usize {
        self.script.lock().unwrap().throttled
    }

    /// Every request so far, oldest first, including those that were delayed, refused or closed.
    pub fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().heard.clone()
    }

    /// The recorded requests for `action`, oldest first.
    pub fn recorded(&self, action: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.action == action);
        requests
    }

    pub fn count(&self, action: &str) -> usize {
        self.recorded(action).len()
    }

    /// Waits until `action` was requested `count` times, to act while an answer is delayed.
    ///
    /// # Panics
    /// If that does not happen within [`PATIENCE`].
    pub async fn wait_for(&self, action: &str, count: usize) {
        let asked = within(PATIENCE, async || self.count(action) >= count).await;
        assert!(asked, "{action} was asked for {} times, not {count}", self.count(action));
    }

    /// Every secret key, session token and ECR password that it has handed out: no output may
    /// contain one.
    pub fn secrets(&self) -> Vec<String> {
        self.script.lock().unwrap().secrets.clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        connections.spawn(async move {
            let service = service_fn(move |request| respond(request, Arc::clone(&script)));
            // `Answer::Close` and clients that go away end in an error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    script: Arc<Mutex<Script>>,
) -> Result<hyper::Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let headers: BTreeMap<_, _> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body =
        Limited::new(body, LONGEST_REQUEST).collect().await.map_err(io::Error::other)?.to_bytes();
    let (delay, reply) = script.lock().unwrap().hear(&Request::read(headers, &body));
    tokio::time::sleep(delay).await;
    // hyper closes the connection without a byte when the service fails.
    reply.map(Into::into).ok_or_else(|| io::Error::other("hangs up"))
}
