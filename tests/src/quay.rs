//! A double of Quay: robot accounts that trust an issuer, the exchange of an identity token for a
//! robot's password, the token server, and a registry behind it, which real clients use. It also
//! lies on demand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use crate::federation::{Trust, own_jwt};
use crate::gateway::{Asked, Gateway, basic, bearer, challenge};

/// The own password of every robot, which never ends.
pub const QUAY_ROBOT_PASSWORD: &str = "CANARYOFTHEROBOT9F3A";
/// Seconds that a password for an identity token lives.
const LIFE: i64 = 3600;

/// What it answers in place of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuayLie {
    /// A password of another robot.
    OtherRobot,
    /// The robot's own password.
    OwnPassword,
    /// The identity token.
    Echo,
    /// A password that lives for two days.
    Later,
}

struct Robot {
    trust: Trust,
    /// What it may do with which repository.
    roles: BTreeMap<String, Vec<&'static str>>,
}

#[derive(Default)]
struct Shared {
    robots: BTreeMap<String, Robot>,
    /// The robot of each password.
    passwords: BTreeMap<String, String>,
    /// What each token opens.
    tokens: BTreeMap<String, Vec<Asked>>,
    /// The robot and the identity token of each exchange.
    exchanges: Vec<(String, String)>,
    lie: Option<QuayLie>,
}

#[derive(Clone)]
struct Service {
    host: String,
    gateway: Arc<Gateway>,
    shared: Arc<Mutex<Shared>>,
}

/// It runs on the test's runtime.
pub struct Quay {
    service: Service,
    server: JoinHandle<()>,
}

impl Quay {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let gateway = Arc::new(Gateway::start().await);
        let service = Service { host, gateway, shared: Arc::default() };
        let router = Router::new()
            .route("/oauth2/federation/robot/token", get(exchange))
            .route("/v2/auth", get(token))
            .fallback(registry)
            .with_state(service.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { service, server }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> &str {
        &self.service.host
    }

    /// The value for `base_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.service.host)
    }

    /// Makes a robot with these actions on repositories.
    pub fn robot(&self, name: &str, trust: Trust, repositories: &[&str], actions: &[&'static str]) {
        let roles = repositories.iter().map(|name| ((*name).to_owned(), actions.to_vec()));
        let robot = Robot { trust, roles: roles.collect() };
        self.service.shared.lock().unwrap().robots.insert(name.to_owned(), robot);
    }

    /// From now on answers like this.
    pub fn lie(&self, lie: Option<QuayLie>) {
        self.service.shared.lock().unwrap().lie = lie;
    }

    /// The robot and the identity token of each exchange, oldest first.
    pub fn exchanges(&self) -> Vec<(String, String)> {
        self.service.shared.lock().unwrap().exchanges.clone()
    }
}

impl Drop for Quay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn refusal(text: &str) -> Response {
    (StatusCode::UNAUTHORIZED, axum::Json(json!({ "error": text }))).into_response()
}

async fn exchange(State(service): State<Service>, headers: HeaderMap) -> Response {
    let Some((name, identity)) = basic(&headers) else { return refusal("missing auth") };
    let trust = {
        let mut shared = service.shared.lock().unwrap();
        shared.exchanges.push((name.clone(), identity.clone()));
        shared.robots.get(&name).map(|robot| robot.trust.clone())
    };
    let Some(trust) = trust else {
        return refusal("Could not find robot with specified username");
    };
    if let Err(mistrust) = trust.verify(&identity).await {
        return refusal(&format!("Token does not match robot: {mistrust:?}"));
    }
    let mut shared = service.shared.lock().unwrap();
    let lie = shared.lie;
    let robot = if lie == Some(QuayLie::OtherRobot) { "acme+admin" } else { name.as_str() };
    let seconds = if lie == Some(QuayLie::Later) { 2 * 86_400 } else { LIFE };
    let exp = jiff::Timestamp::now().as_second() + seconds;
    let claims = json!({ "sub": robot, "aud": service.host, "exp": exp, "access": {} });
    let password = match lie {
        Some(QuayLie::OwnPassword) => QUAY_ROBOT_PASSWORD.to_owned(),
        Some(QuayLie::Echo) => identity,
        _ => own_jwt(&claims),
    };
    shared.passwords.insert(password.clone(), robot.to_owned());
    axum::Json(json!({ "token": password })).into_response()
}

/// The token server of the registry. It gives what the robot may do of what was asked for.
async fn token(
    State(service): State<Service>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let mut shared = service.shared.lock().unwrap();
    let (name, password) = basic(&headers).unwrap_or_default();
    if shared.passwords.get(&password) != Some(&name) {
        return refusal("Could not find robot with specified username and password");
    }
    let roles = shared.robots.get(&name).map(|robot| robot.roles.clone()).unwrap_or_default();
    let query = query.unwrap_or_default();
    let scopes = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "scope");
    let mut opens = Vec::new();
    for (_, scope) in scopes {
        let parts: Vec<&str> = scope.splitn(3, ':').collect();
        let ["repository", repository, actions] = parts[..] else { continue };
        let allowed = roles.get(repository).into_iter().flatten();
        let asked = allowed.filter(|action| actions.split(',').any(|one| one == **action));
        opens.extend(asked.map(|action| Asked { repository: repository.to_owned(), action }));
    }
    let made = format!("of-quay-{}", ulid::Ulid::generate());
    shared.tokens.insert(made.clone(), opens);
    axum::Json(json!({ "token": made })).into_response()
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
    challenge(&format!("http://{}/v2/auth", service.host), &service.host, &scope)
}
