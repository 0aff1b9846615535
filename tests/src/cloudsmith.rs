//! A double of Cloudsmith: service accounts that trust an issuer, the exchange of an identity token
//! for a token of an account, and a registry behind it, which real clients use. The vendor's own
//! client drives it first (`cloudsmith.rs` of the tests). It also lies on demand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::federation::{Trust, own_jwt};
use crate::gateway::{Asked, Gateway, basic};

/// The own API key of every service account, which never ends.
pub const CLOUDSMITH_API_KEY: &str = "canary-cloudsmith-api-key-77e1";
/// The organization and its repository.
const PLACE: (&str, &str) = ("acme", "images");
/// Seconds that a token lives: Cloudsmith's documentation says around 90 minutes.
const LIFE: i64 = 5400;

/// What it answers in place of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudsmithLie {
    /// The API key of the account.
    ApiKey,
    /// The identity token.
    Echo,
    /// A token that lives for two days.
    Later,
}

struct Account {
    trust: Trust,
    may_push: bool,
}

#[derive(Default)]
struct Shared {
    accounts: BTreeMap<String, Account>,
    /// The account of each token.
    tokens: BTreeMap<String, String>,
    /// The account and the identity token of each exchange.
    exchanges: Vec<(String, String)>,
    lie: Option<CloudsmithLie>,
}

#[derive(Clone)]
struct Service {
    gateway: Arc<Gateway>,
    shared: Arc<Mutex<Shared>>,
}

/// It runs on the test's runtime.
pub struct Cloudsmith {
    host: String,
    service: Service,
    server: JoinHandle<()>,
}

impl Cloudsmith {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let service = Service { gateway: Arc::new(Gateway::start().await), shared: Arc::default() };
        let router = Router::new()
            .route("/openid/{organization}/", post(exchange))
            .fallback(registry)
            .with_state(service.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { host, service, server }
    }

    /// `127.0.0.1:PORT`, the value for `registry_url`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The value for `endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// Makes a service account that reads the repository, or writes it too.
    pub fn account(&self, slug: &str, trust: Trust, may_push: bool) {
        let account = Account { trust, may_push };
        self.service.shared.lock().unwrap().accounts.insert(slug.to_owned(), account);
    }

    /// From now on answers like this.
    pub fn lie(&self, lie: Option<CloudsmithLie>) {
        self.service.shared.lock().unwrap().lie = lie;
    }

    /// The account and the identity token of each exchange, oldest first.
    pub fn exchanges(&self) -> Vec<(String, String)> {
        self.service.shared.lock().unwrap().exchanges.clone()
    }
}

impl Drop for Cloudsmith {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn refusal(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({ "detail": text }))).into_response()
}

async fn exchange(
    State(service): State<Service>,
    Path(organization): Path<String>,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let (slug, identity) = (text("service_slug"), text("oidc_token"));
    if organization != PLACE.0 || slug.is_empty() || identity.is_empty() {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "Missing or invalid parameters");
    }
    let trust = {
        let mut shared = service.shared.lock().unwrap();
        shared.exchanges.push((slug.clone(), identity.clone()));
        shared.accounts.get(&slug).map(|account| account.trust.clone())
    };
    let Some(trust) = trust else {
        return refusal(StatusCode::BAD_REQUEST, "The JWT cannot be created.");
    };
    if let Err(mistrust) = trust.verify(&identity).await {
        let text = format!("OIDC token cannot be authenticated: {mistrust:?}");
        return refusal(StatusCode::UNAUTHORIZED, &text);
    }
    let mut shared = service.shared.lock().unwrap();
    let seconds = if shared.lie == Some(CloudsmithLie::Later) { 2 * 86_400 } else { LIFE };
    let exp = jiff::Timestamp::now().as_second() + seconds;
    let token = match shared.lie {
        Some(CloudsmithLie::ApiKey) => CLOUDSMITH_API_KEY.to_owned(),
        Some(CloudsmithLie::Echo) => identity,
        Some(CloudsmithLie::Later) | None => own_jwt(&json!({ "sub": slug, "exp": exp })),
    };
    shared.tokens.insert(token.clone(), slug);
    (StatusCode::CREATED, axum::Json(json!({ "token": token }))).into_response()
}

async fn registry(State(service): State<Service>, request: Request) -> Response {
    let is_open = {
        let shared = service.shared.lock().unwrap();
        let login = basic(request.headers()).filter(|(user, _)| user == "token");
        let account = login.and_then(|(_, token)| shared.tokens.get(&token));
        let account = account.and_then(|slug| shared.accounts.get(slug));
        let place = format!("{}/{}/", PLACE.0, PLACE.1);
        let may = |account: &Account, asked: &Asked| {
            asked.repository.starts_with(&place) && (account.may_push || asked.action == "pull")
        };
        let asked = Asked::of(request.method(), request.uri().path());
        account.is_some_and(|account| asked.is_none_or(|asked| may(account, &asked)))
    };
    if is_open {
        return service.gateway.forward(request).await;
    }
    let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"Cloudsmith\"")];
    (StatusCode::UNAUTHORIZED, challenge, "unauthorized").into_response()
}
