//! A double of Docker Hub: the token server of the registry, for two tokens of one user, and a
//! registry behind it, which real clients use. It also lies on demand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::federation::own_jwt;
use crate::gateway::{Asked, Gateway, basic, bearer, challenge};

pub const DOCKERHUB_USER: &str = "acme-bot";
/// A token of the user that may push, and one that may only read.
pub const DOCKERHUB_TOKENS: (&str, &str) =
    ("canary-dckr-pat-write-3d1e", "canary-dckr-pat-read-77b0");
/// The user's namespace: the user may use every repository in it.
const NAMESPACE: &str = "acme/";
const SERVICE: &str = "registry.docker.io";
/// Seconds that a bearer token lives.
const LIFE: i64 = 300;

/// What the token server answers in place of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerHubLie {
    /// A token that opens another repository as well.
    Wider,
    /// A token that opens nothing, as for a user without rights.
    Nothing,
    /// The stored token.
    Stored,
}

#[derive(Default)]
struct Shared {
    /// What each bearer token opens.
    tokens: BTreeMap<String, Vec<Asked>>,
    /// The scope of each request for a token.
    asked: Vec<String>,
    lie: Option<DockerHubLie>,
}

#[derive(Clone)]
struct Service {
    host: String,
    gateway: Arc<Gateway>,
    shared: Arc<Mutex<Shared>>,
}

/// It runs on the test's runtime.
pub struct DockerHub {
    service: Service,
    server: JoinHandle<()>,
}

impl DockerHub {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let gateway = Arc::new(Gateway::start().await);
        let service = Service { host, gateway, shared: Arc::default() };
        let router = Router::new().route("/token", get(token)).fallback(registry);
        let router = router.with_state(service.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { service, server }
    }

    /// `127.0.0.1:PORT`, where the registry answers that clients know as `docker.io`.
    pub fn host(&self) -> &str {
        &self.service.host
    }

    /// The value for `endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.service.host)
    }

    /// From now on answers like this.
    pub fn lie(&self, lie: Option<DockerHubLie>) {
        self.service.shared.lock().unwrap().lie = lie;
    }

    /// The scope of each request for a token, oldest first.
    pub fn asked(&self) -> Vec<String> {
        self.service.shared.lock().unwrap().asked.clone()
    }
}

impl Drop for DockerHub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn token(
    State(service): State<Service>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    let (user, password) = basic(&headers).unwrap_or_default();
    let may: &[&'static str] = match password.as_str() {
        write if write == DOCKERHUB_TOKENS.0 => &["pull", "push"],
        read if read == DOCKERHUB_TOKENS.1 => &["pull"],
        _ => &[],
    };
    if user != DOCKERHUB_USER || may.is_empty() || text("service") != SERVICE {
        let body = json!({ "details": "incorrect username or password" });
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    let mut shared = service.shared.lock().unwrap();
    let scope = text("scope");
    shared.asked.push(scope.clone());
    let parts: Vec<&str> = scope.splitn(3, ':').collect();
    let mut access = Vec::new();
    if let ["repository", repository, actions] = parts[..]
        && shared.lie != Some(DockerHubLie::Nothing)
    {
        let is_own = repository.starts_with(NAMESPACE);
        let asked = |action: &&&'static str| is_own && actions.split(',').any(|it| it == **action);
        access.push((repository, may.iter().filter(asked).copied().collect::<Vec<_>>()));
    }
    if shared.lie == Some(DockerHubLie::Wider) {
        access.push(("acme/other", vec!["pull"]));
    }
    let opens = access.iter().flat_map(|(repository, actions)| {
        let of = |action| Asked { repository: (*repository).to_owned(), action };
        actions.iter().copied().map(of)
    });
    let opens: Vec<Asked> = opens.collect();
    let access = access.iter().map(|(name, actions)| {
        json!({ "type": "repository", "name": name, "actions": actions, "parameters": {} })
    });
    let exp = jiff::Timestamp::now().as_second() + LIFE;
    let claims = json!({ "aud": SERVICE, "exp": exp, "access": access.collect::<Vec<_>>() });
    let stored = shared.lie == Some(DockerHubLie::Stored);
    let made = if stored { password } else { own_jwt(&claims) };
    shared.tokens.insert(made.clone(), opens);
    let issued_at = jiff::Timestamp::now().to_string();
    axum::Json(json!({
        "token": made, "access_token": made, "expires_in": LIFE, "issued_at": issued_at,
    }))
    .into_response()
}

async fn registry(State(service): State<Service>, request: Request) -> Response {
    let asked = Asked::of(request.method(), request.uri().path());
    let is_open = {
        let shared = service.shared.lock().unwrap();
        let opens = bearer(request.headers()).and_then(|token| shared.tokens.get(token));
        opens.is_some_and(|opens| asked.as_ref().is_none_or(|asked| opens.contains(asked)))
    };
    if is_open {
        return service.gateway.forward(request).await;
    }
    let scope = asked.map(|asked| asked.scope()).unwrap_or_default();
    challenge(&format!("http://{}/token", service.host), SERVICE, &scope)
}
