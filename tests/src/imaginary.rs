//! A registry with an API of its own: `POST /api/tokens` makes tokens for callers with the admin
//! token. It also does what a real registry does not do on demand: it repeats what it receives,
//! redirects, floods, stays silent, and hangs up.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The token that may make tokens. The guest `http-rogue` knows it too.
pub const ADMIN_TOKEN: &str = "canary-admin-token-1f0c";

/// One received request.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub method: Method,
    /// The path with its query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl ReceivedRequest {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Vec<ReceivedRequest>>,
    /// The answer of `/api/tokens` in place of a token: status, `Retry-After`, body.
    instead: Mutex<Option<(u16, Option<String>, String)>>,
    /// The delay before it makes a token.
    delay: Mutex<Duration>,
}

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Imaginary {
    host: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Imaginary {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/api/tokens", post(make_token).fallback(nothing))
            .route("/api/projects/{project}/tokens", post(make_token))
            .route("/echo", any(echo))
            .route("/redirect", any(async || ([("location", "/api/tokens")], StatusCode::FOUND)))
            .route("/flood", any(flood))
            .route("/compressed", any(async || ([("content-encoding", "gzip")], "not really")))
            .route("/silence", any(std::future::pending::<StatusCode>))
            .route("/closes", any(closes))
            .fallback(nothing)
            .with_state(Arc::clone(&shared));
        let (state, inner) = (Arc::clone(&shared), router);
        let outer =
            Router::new().fallback(move |request: Request<Body>| hear(state, inner, request));
        let server = tokio::spawn(async move {
            axum::serve(listener, outer).await.unwrap();
        });
        Self { host, shared, server }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The value for `base_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// Answers every later request for a token like this.
    pub fn answer(&self, status: u16, retry_after: Option<&str>, body: &str) {
        let answer = (status, retry_after.map(str::to_owned), body.to_owned());
        *self.shared.instead.lock().unwrap() = Some(answer);
    }

    /// Delays every later token by this time.
    pub fn slow(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Every request so far, oldest first.
    pub fn heard(&self) -> Vec<ReceivedRequest> {
        self.shared.heard.lock().unwrap().clone()
    }
}

impl Drop for Imaginary {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn hear(
    shared: Arc<Shared>,
    router: Router,
    request: Request<Body>,
) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    shared.heard.lock().unwrap().push(ReceivedRequest {
        method: head.method.clone(),
        path: head.uri.to_string(),
        headers: head.headers.clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    tower::ServiceExt::oneshot(router, Request::from_parts(head, Body::from(body))).await
}

async fn make_token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let delay = *shared.delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    if let Some((status, retry_after, body)) = shared.instead.lock().unwrap().clone() {
        let pause = retry_after.into_iter().map(|seconds| ("retry-after", seconds));
        let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
        for (name, value) in pause {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let expected = format!("Bearer {ADMIN_TOKEN}");
    if headers.get("authorization").is_none_or(|value| value.as_bytes() != expected.as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let number = shared.heard.lock().unwrap().len();
    let now = jiff::Timestamp::now().as_second();
    let token = json!({
        "username": format!("token-{number}"),
        "token": format!("made-for-{}-{number}", asked["repository"].as_str().unwrap_or("nobody")),
        "expires_at": now + asked["lifetime"].as_i64().unwrap_or(600),
    });
    axum::Json(token).into_response()
}

/// Every form of what it received, in every place of an answer.
async fn echo(uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let authorization = text("authorization");
    let answer = json!({
        "uri": uri.to_string(),
        "authorization": authorization.trim_start_matches("Bearer "),
        "key": text("x-key"),
        "encoded": BASE64_STANDARD.encode(format!("{authorization}{}", text("x-key"))),
        "body": String::from_utf8_lossy(&body),
    });
    ([("x-seen", authorization)], axum::Json(answer)).into_response()
}

async fn flood() -> Vec<u8> {
    vec![b' '; 8 << 20]
}

/// Hangs up within the answer: hyper does so when a body fails.
async fn closes() -> Response {
    Response::new(Body::new(Limited::new(Full::new(Bytes::from_static(b"too long")), 1)))
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}
