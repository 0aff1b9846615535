//! The broker in process: real settings, real compiled components, the built-in issuer, no socket.

mod builder;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use rise_broker::audit::{Disk, Folder};
use rise_broker::broker::Broker;
use rise_broker::config::node::Problem;
use rise_broker::config::{Config, Environment};
use rise_broker::domain::Clock;
use rise_broker::generation::Generation;
use rise_broker::http::listen::Tls;
use rise_broker::identity::LocalIssuer;
use rise_broker::identity::local::TokenRequest;
use rise_broker::process::Process;
use rise_broker::reload::{Current, Reloader, Source};
use serde_json::Value;
use tower::ServiceExt;

pub use self::builder::BrokerBuilder;

use crate::wire::Listening;
use crate::{AUTH, Settings};

/// The `aud` of every test's tokens.
pub const AUDIENCE: &str = "rise-registry";

pub struct TestBroker {
    pub process: Arc<Process>,
    pub generation: Arc<Generation>,
    pub settings: Settings,
    issuer: LocalIssuer,
    current: Arc<Current>,
    config: Config,
    router: Router,
    admin: Router,
}

/// One answer with its whole body.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Response {
    /// The body as JSON; `null` if it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The name of the problem: `access-denied` for `urn:rise:problem:access-denied`.
    pub fn problem(&self) -> Option<String> {
        let json = self.json();
        Some(json["type"].as_str()?.strip_prefix("urn:rise:problem:")?.to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl TestBroker {
    /// Builds a broker with [`AUTH`](crate::AUTH) and these registries.
    pub fn with_registries(registries: impl Display) -> BrokerBuilder {
        Self::with_settings(Settings::new(format!("{AUTH}{registries}")))
    }

    /// Builds a broker with exactly these settings.
    pub fn with_settings(settings: Settings) -> BrokerBuilder {
        BrokerBuilder::new(settings)
    }

    fn new(broker: Broker, settings: Settings, config: Config) -> Self {
        let issuer =
            LocalIssuer::open_or_create(&settings.path("issuer.pem")).expect("the issuer's key");
        let current = Current::new(broker.clone());
        let (router, admin) = (current.router(), current.admin_router());
        let Broker { process, generation } = broker;
        Self { process, generation, settings, issuer, current, config, router, admin }
    }

    /// Reloads with exactly these settings, as the real broker does after a change of its files.
    ///
    /// # Panics
    /// If they are wrong.
    pub async fn reload(&self, text: impl Display) {
        let source = Source::new(self.settings.config_directory(), Environment::new());
        let current = Arc::clone(&self.current);
        let mut reloader = Reloader::new(current, source, self.config.clone());
        self.settings.write(text);
        Box::pin(reloader.check_for_changes(true)).await;
        assert_eq!(self.process.findings.last().settings, Vec::<String>::new());
    }

    /// Mints a token of the built-in issuer for another subject than `ci`, issued at this time.
    pub fn token_of(&self, subject: &str, claims: &Value, now: Timestamp) -> String {
        mint_for(&self.issuer, subject, claims, now)
    }

    /// Mints a token of the built-in issuer.
    pub fn token(&self, claims: &Value) -> String {
        mint(&self.issuer, claims)
    }

    /// Mints a token that may pull and push `project`.
    pub fn token_for(&self, project: &str) -> String {
        self.token(&serde_json::json!({ "repository": format!("acme/{project}") }))
    }

    /// Sends `GET /api/v1/registry/credentials?{query}`.
    pub async fn credentials(&self, token: &str, query: &str) -> Response {
        self.get(&format!("/api/v1/registry/credentials?{query}"), Some(token)).await
    }

    /// Sends `POST /api/v1/explain` without a project, and returns what the caller may do.
    pub async fn explain(&self, token: &str) -> Value {
        let request = Request::post("/api/v1/explain")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::from("{}")).unwrap()).await.json()
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Response {
        let request = Request::get(path);
        let request = token.into_iter().fold(request, |request, token| {
            request.header("authorization", format!("Bearer {token}"))
        });
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Response {
        let request = Request::delete(path).header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a JSON body.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> Response {
        answer(&self.router, request).await
    }

    /// Puts what the audit log in `directory` has out on the list of this broker, as a start does.
    pub async fn recover(&self, directory: PathBuf) {
        self.current.broker().recover(directory).await;
    }

    /// Ends the credentials that are due, as a broker that serves does every second.
    pub fn end_due(&self) {
        self.process.issuing.end_due(&self.generation.registries);
    }

    /// Looks for leftovers where it is time to, as a broker that serves does every few seconds.
    pub fn look_for_leftovers(&self) {
        let broker = self.current.broker();
        broker.process.issuing.look_for_leftovers(&broker.generation.registries);
    }

    /// Tells other brokers what is out, and does what they want, as a broker that serves does every
    /// few seconds.
    pub async fn follow_others(&self) {
        self.process.issuing.follow_others(&self.generation.registries).await;
    }

    /// Whether the store of `[shared]` answers again.
    pub async fn has_store(&self) -> bool {
        // It may not have noticed yet that its connection is broken.
        self.follow_others().await;
        self.admin("/metrics").await.text.lines().any(|line| line == "rise_broker_shared_up 1")
    }

    pub async fn admin(&self, path: &str) -> Response {
        answer(&self.admin, Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// The callers' routes.
    pub(crate) fn routes(&self) -> Router {
        self.router.clone()
    }

    /// Serves the callers' routes on a free port until the returned value is dropped.
    pub async fn listen(&self, tls: Option<&Tls>) -> Listening {
        let acceptor = tls.map(Tls::acceptor);
        Listening::start(self.router.clone(), self.process.edge.clone(), acceptor).await
    }

    /// Reads every audit record, in order.
    pub fn audit(&self) -> Vec<Value> {
        audit_records(&self.settings.path("audit"))
    }
}

pub(crate) fn mint(issuer: &LocalIssuer, claims: &Value) -> String {
    mint_for(issuer, "ci", claims, Clock::system().now())
}

fn mint_for(issuer: &LocalIssuer, subject: &str, claims: &Value, now: Timestamp) -> String {
    let request = TokenRequest {
        subject: subject.to_owned(),
        audience: AUDIENCE.to_owned(),
        claims: claims.as_object().cloned().unwrap_or_default(),
        lifetime: SignedDuration::from_hours(1),
    };
    issuer.mint(request, now).unwrap().expose().to_owned()
}

async fn answer(router: &Router, request: Request<Body>) -> Response {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Response { status: parts.status, headers: parts.headers, text }
}

/// Reads every line of the segments in `directory`, in order, with a line break between segments.
pub fn audit_text(directory: &Path) -> String {
    let folder = Folder::new(directory.to_owned());
    let read = |name: &String| fs::read_to_string(directory.join(name)).unwrap();
    folder.segments().unwrap().iter().map(read).collect::<Vec<_>>().join("\n")
}

/// Reads every record of the segments in `directory`. A last line that is still being written is
/// left out.
pub(crate) fn audit_records(directory: &Path) -> Vec<Value> {
    let text = audit_text(directory);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The problems as a person sees them.
pub fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
