//! A double of Google's token services and of its IAM credentials: it exchanges the assertion of a
//! service account, or a token of an issuer that a workload identity pool trusts, for a login, and
//! makes tokens of service accounts. google-auth drives it first (`google.rs` and
//! `google_federation.rs` of the tests). It also lies on demand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use crate::OperatorKey;
use crate::federation::{Mistrust, Trust};

/// The service account of the broker.
pub const GOOGLE_BROKER: &str = "broker@acme.iam.gserviceaccount.com";
/// A service account that does not exist.
pub const GOOGLE_GONE: &str = "gone@acme.iam.gserviceaccount.com";
const ACCOUNTS: [&str; 2] =
    ["puller@acme.iam.gserviceaccount.com", "pusher@acme.iam.gserviceaccount.com"];

/// Which of them google-auth asks for depends on what it does next.
const SCOPES: &str = "https://www.googleapis.com/auth/";

/// What it answers in place of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoogleLie {
    /// A token that lives for twelve hours.
    Later,
    /// The broker's own login.
    OwnLogin,
    /// The assertion, in place of a login.
    Echo,
    /// A token of another account, which nobody can see.
    OtherAccount,
}

#[derive(Debug, Default)]
struct Shared {
    logins: Vec<String>,
    /// The subject of each token of the security token service.
    federated: BTreeMap<String, String>,
    /// What the workload identity pool trusts.
    trust: Option<Trust>,
    /// The account of each token.
    tokens: BTreeMap<String, String>,
    /// The assertions and the identity tokens that it received.
    assertions: Vec<String>,
    /// The path and the body of each request for a token of an account.
    asked: Vec<(String, Value)>,
    lie: Option<GoogleLie>,
}

#[derive(Clone)]
struct Service {
    key: Arc<OperatorKey>,
    shared: Arc<Mutex<Shared>>,
}

/// It runs on the test's runtime.
pub struct Google {
    url: String,
    service: Service,
    server: JoinHandle<()>,
}

impl Google {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = Service { key: Arc::new(OperatorKey::rsa()), shared: Arc::default() };
        let router = Router::new()
            .route("/token", post(exchange))
            .route("/v1/token", post(exchange_identity))
            .route("/v1/projects/-/serviceAccounts/{account}", post(generate))
            .with_state(service.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, service, server }
    }

    /// The value for `endpoint_url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The JSON file of the broker's service account.
    pub fn key_file(&self) -> String {
        self.service.key.service_account(GOOGLE_BROKER)
    }

    /// Makes a workload identity pool that trusts this.
    pub fn trust(&self, trust: Trust) {
        self.service.shared.lock().unwrap().trust = Some(trust);
    }

    /// The identity tokens that it received, oldest first.
    pub fn assertions(&self) -> Vec<String> {
        self.service.shared.lock().unwrap().assertions.clone()
    }

    /// The subject of a token of the security token service.
    pub fn subject_of(&self, token: &str) -> Option<String> {
        self.service.shared.lock().unwrap().federated.get(token).cloned()
    }

    /// From now on answers like this.
    pub fn lie(&self, lie: GoogleLie) {
        self.service.shared.lock().unwrap().lie = Some(lie);
    }

    /// The path and the body of each request for a token of an account, oldest first.
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.service.shared.lock().unwrap().asked.clone()
    }

    /// How many logins it made.
    pub fn logins(&self) -> usize {
        self.service.shared.lock().unwrap().logins.len()
    }

    /// The account that a token is of.
    pub fn account_of(&self, token: &str) -> Option<String> {
        self.service.shared.lock().unwrap().tokens.get(token).cloned()
    }

    /// Everything that no output and no caller may have: the key, assertions, logins.
    pub fn secrets(&self) -> Vec<String> {
        let shared = self.service.shared.lock().unwrap();
        let made = shared.logins.iter().chain(&shared.assertions).cloned();
        made.chain(self.service.key.canaries()).collect()
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn problem(status: u16, text: &str) -> Response {
    let body = json!({ "error": text, "error_description": text });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// As Google's APIs answer, other than its token services.
fn refusal(status: u16, text: &str) -> Response {
    let body = json!({ "error": { "code": status, "message": text } });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

async fn exchange(State(service): State<Service>, body: Bytes) -> Response {
    let fields: BTreeMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
    let grant = fields.get("grant_type").map(String::as_str);
    let Some(assertion) = fields.get("assertion") else { return problem(400, "no assertion") };
    if grant != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return problem(400, "unsupported_grant_type");
    }
    let mut shared = service.shared.lock().unwrap();
    shared.assertions.push(assertion.clone());
    let Some((header, claims)) = service.key.try_verify(assertion) else {
        return problem(400, "invalid_grant");
    };
    let (now, number) = (Timestamp::now().as_second(), |name: &str| claims[name].as_i64());
    let life = number("exp").zip(number("iat")).map(|(exp, iat)| exp - iat);
    let is_right = header["alg"] == "RS256"
        && header["kid"] == "key-7"
        && claims["iss"] == GOOGLE_BROKER
        && claims["aud"] == "https://oauth2.googleapis.com/token"
        && claims["scope"].as_str().is_some_and(|scope| scope.starts_with(SCOPES))
        && number("exp").is_some_and(|exp| exp > now)
        && life.is_some_and(|life| (1..=3600).contains(&life));
    if !is_right {
        return problem(400, "invalid_grant");
    }
    let login = if shared.lie == Some(GoogleLie::Echo) {
        assertion.clone()
    } else {
        format!("ya29.canary-login-{}-{}", shared.logins.len(), ulid::Ulid::generate())
    };
    shared.logins.push(login.clone());
    let answer = json!({ "access_token": login, "expires_in": 3599, "token_type": "Bearer" });
    axum::Json(answer).into_response()
}

/// The security token service (RFC 8693), for a workload identity pool.
async fn exchange_identity(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields: BTreeMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let kind = |name: &str| field(name).strip_prefix("urn:ietf:params:oauth:").unwrap_or_default();
    if kind("grant_type") != "grant-type:token-exchange"
        || kind("requested_token_type") != "token-type:access_token"
        || kind("subject_token_type") != "token-type:jwt"
        || headers.contains_key("authorization")
    {
        return problem(400, "invalid_request");
    }
    let scope = field("scope");
    if !scope.starts_with(SCOPES) {
        return problem(400, "invalid_scope");
    }
    let trust = service.shared.lock().unwrap().trust.clone();
    let Some(trust) = trust.filter(|trust| trust.audience == field("audience")) else {
        return problem(400, "invalid_target: the pool provider does not exist");
    };
    let subject_token = field("subject_token");
    service.shared.lock().unwrap().assertions.push(subject_token.to_owned());
    let claims = match trust.verify(subject_token).await {
        Ok(claims) => claims,
        Err(Mistrust::Subject) => {
            return problem(400, "unauthorized_client: rejected by the attribute condition");
        }
        Err(mistrust) => return problem(400, &format!("invalid_grant: {mistrust:?}")),
    };
    let subject = claims["sub"].as_str().unwrap_or_default();
    if subject.len() > 127 {
        return problem(400, "invalid_grant: the size of google.subject exceeds 127 bytes");
    }
    let mut shared = service.shared.lock().unwrap();
    let token = format!("ya29.d.canary-federated-{}", ulid::Ulid::generate());
    shared.federated.insert(token.clone(), subject.to_owned());
    if scope.ends_with("/iam") {
        shared.logins.push(token.clone());
    }
    axum::Json(json!({
        "access_token": token, "expires_in": 3599, "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }))
    .into_response()
}

async fn generate(
    State(service): State<Service>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = service.shared.lock().unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    shared.asked.push((name.clone(), asked.clone()));
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let login = authorization.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
    let subject = shared.federated.get(login);
    if subject.is_none() && !shared.logins.iter().any(|known| known == login) {
        return refusal(401, "UNAUTHENTICATED");
    }
    let account = name.strip_suffix(":generateAccessToken").unwrap_or_default();
    if account == GOOGLE_GONE {
        return refusal(404, "Not found; Gaia id not found for email");
    }
    // The accounts let in the workload identities of their action.
    let action = if account.starts_with("pusher@") { ":actions:push" } else { ":actions:pull" };
    let is_let_in = subject.is_none_or(|subject| subject.ends_with(action));
    if !ACCOUNTS.contains(&account) || !is_let_in {
        return refusal(403, "Permission 'iam.serviceAccounts.getAccessToken' denied");
    }
    let seconds = asked["lifetime"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
    let seconds: i64 = seconds.unwrap_or(3600);
    if asked["scope"].as_array().is_none_or(Vec::is_empty) || !(1..=3600).contains(&seconds) {
        return refusal(400, "INVALID_ARGUMENT");
    }
    let seconds = if shared.lie == Some(GoogleLie::Later) { 43_200 } else { seconds };
    let token = if shared.lie == Some(GoogleLie::OwnLogin) {
        login.to_owned()
    } else {
        format!("ya29.token-{}", ulid::Ulid::generate())
    };
    let other = shared.lie == Some(GoogleLie::OtherAccount);
    let owner = if other { "admin@acme.iam.gserviceaccount.com" } else { account };
    shared.tokens.insert(token.clone(), owner.to_owned());
    let ends = Timestamp::now() + SignedDuration::from_secs(seconds);
    let ends = Timestamp::from_second(ends.as_second()).unwrap();
    axum::Json(json!({ "accessToken": token, "expireTime": ends.to_string() })).into_response()
}
