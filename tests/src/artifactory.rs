//! A double of Artifactory: `/access/api/v1/tokens` makes and revokes access tokens,
//! `/access/api/v1/oidc/token` exchanges tokens of an issuer that it trusts for them, and
//! `/artifactory/` stores files and enforces the scopes of the tokens. A client that others wrote
//! drives it first (`artifactory.rs` of the tests). It also lies on demand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use crate::federation::{Mistrust, Trust};

/// The token of an administrator.
pub const ARTIFACTORY_ADMIN: &str = "canary-artifactory-admin-3a90";

/// What it answers in place of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactoryLie {
    /// A token for everything, and it says so.
    Wider,
    /// A token for everything, and the answer says what was asked for.
    SecretlyWider,
    /// A token of another project.
    OtherProject,
    /// A token that lives for ten hours.
    Later,
    /// A token that never ends.
    Endless,
    /// The administrator's own token.
    OwnLogin,
    /// A token of another user.
    OtherUser,
    Refreshable,
}

#[derive(Debug, Default)]
struct Shared {
    tokens: BTreeMap<String, Made>,
    files: BTreeMap<String, Vec<u8>>,
    /// The bodies of requests for tokens, as JSON.
    asked: Vec<Value>,
    lie: Option<ArtifactoryLie>,
    /// The issuer that its OIDC integration trusts.
    trust: Option<Trust>,
    /// The user and the scope that an identity mapping gives, by its subject.
    mappings: BTreeMap<String, (String, String)>,
    /// The identity tokens that it received.
    identities: Vec<String>,
}

/// A token.
#[derive(Clone, Debug)]
struct Made {
    user: String,
    scope: String,
    expires_at: i64,
}

type Store = Arc<Mutex<Shared>>;

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Artifactory {
    host: String,
    shared: Store,
    server: JoinHandle<()>,
}

impl Artifactory {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Store::default();
        let router = Router::new()
            .route("/access/api/v1/tokens", post(make_token))
            .route("/access/api/v1/oidc/token", post(exchange))
            .route("/access/api/v1/tokens/revoke", delete(revoke))
            .route("/artifactory/api/storage/{*path}", get(information))
            .route("/artifactory/{*path}", get(read).put(write))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
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

    /// Adds the OIDC integration `rise-broker`, with an identity mapping for each subject of
    /// `trust`.
    pub fn trust(&self, trust: Trust, user: &str, scope: impl Fn(&str) -> String) {
        let mut shared = self.shared.lock().unwrap();
        let mapping = |subject: &String| (subject.clone(), (user.to_owned(), scope(subject)));
        shared.mappings = trust.subjects.iter().map(mapping).collect();
        shared.trust = Some(trust);
    }

    /// The identity tokens that it received.
    pub fn identities(&self) -> Vec<String> {
        self.shared.lock().unwrap().identities.clone()
    }

    /// From now on answers like this.
    pub fn lie(&self, lie: ArtifactoryLie) {
        self.shared.lock().unwrap().lie = Some(lie);
    }

    /// What it was asked to make tokens of, oldest first.
    pub fn asked(&self) -> Vec<Value> {
        self.shared.lock().unwrap().asked.clone()
    }

    /// Every token that it made.
    pub fn tokens(&self) -> Vec<String> {
        self.shared.lock().unwrap().tokens.keys().cloned().collect()
    }
}

impl Drop for Artifactory {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn problem(status: u16, text: &str) -> Response {
    let body =
        json!({ "errors": [{ "code": "ERROR", "message": text }], "error_description": text });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

fn is_admin(headers: &HeaderMap) -> bool {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    authorization == Some(&format!("Bearer {ARTIFACTORY_ADMIN}"))
}

/// The members of a request, which is JSON or a form.
fn members(headers: &HeaderMap, body: &[u8]) -> Map<String, Value> {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    let fields = form_urlencoded::parse(body).into_owned();
    fields.map(|(name, value)| (name, Value::String(value))).collect()
}

async fn make_token(State(shared): State<Store>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = members(&headers, &body);
    let mut shared = shared.lock().unwrap();
    shared.asked.push(Value::Object(asked.clone()));
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = asked
        .get("expires_in")
        .and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
    if !is_admin(&headers) {
        return problem(401, "only administrators set a scope");
    }
    let (mut user, mut scope) = (text("username").to_lowercase(), text("scope"));
    let expires_in = number.unwrap_or(3600);
    if user.is_empty() || user.len() > 255 || scope.len() > 500 || text("description").len() > 1024
    {
        return problem(400, "username, scope or description is not possible");
    }
    if !scope.split(' ').all(|one| one.starts_with("applied-permissions/") || parse(one).is_some())
    {
        return problem(400, "invalid scope");
    }
    let (asked_scope, mut life) = (scope.clone(), expires_in);
    match shared.lie {
        Some(ArtifactoryLie::Wider | ArtifactoryLie::SecretlyWider) => {
            "applied-permissions/admin".clone_into(&mut scope);
        }
        Some(ArtifactoryLie::OtherProject) => scope = scope.replace("/my-app/", "/other/"),
        Some(ArtifactoryLie::Later) => life = 36_000,
        Some(ArtifactoryLie::Endless) => life = 0,
        Some(ArtifactoryLie::OtherUser) => "admin".clone_into(&mut user),
        Some(ArtifactoryLie::OwnLogin | ArtifactoryLie::Refreshable) | None => {}
    }
    let expires_at = if life == 0 { i64::MAX } else { now() + life };
    let id = format!("token-{}", shared.tokens.len() + 1);
    let mut claims = json!({
        "sub": format!("jfac@01hq5/users/{user}"), "scp": scope, "aud": "jfrt@*",
        "iss": "jfac@01hq5", "iat": now(), "jti": id,
    });
    if life != 0 {
        claims["exp"] = json!(expires_at);
    }
    let mut token = jwt(&claims);
    let shown =
        if shared.lie == Some(ArtifactoryLie::SecretlyWider) { asked_scope } else { scope.clone() };
    if shared.lie == Some(ArtifactoryLie::OwnLogin) {
        ARTIFACTORY_ADMIN.clone_into(&mut token);
    }
    shared.tokens.insert(token.clone(), Made { user, scope, expires_at });
    let mut answer = json!({
        "token_id": id, "access_token": token, "expires_in": life, "scope": shown,
        "token_type": "Bearer",
    });
    let is_refreshable = shared.lie == Some(ArtifactoryLie::Refreshable)
        || matches!(text("refreshable").as_str(), "true" | "True");
    if is_refreshable {
        answer["refresh_token"] = json!(format!("canary-refresh-{id}"));
    }
    axum::Json(answer).into_response()
}

async fn exchange(State(shared): State<Store>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = members(&headers, &body);
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = |name: &str| text(name).strip_prefix("urn:ietf:params:oauth:").unwrap_or_default();
    if kind("grant_type") != "grant-type:token-exchange"
        || kind("subject_token_type") != "token-type:id_token"
    {
        return problem(400, "unsupported grant type or token type");
    }
    let trust = shared.lock().unwrap().trust.clone();
    let Some(trust) = trust.filter(|_| text("provider_name") == "rise-broker") else {
        return problem(404, "no such OIDC integration");
    };
    shared.lock().unwrap().identities.push(text("subject_token").to_owned());
    let claims = match trust.verify(text("subject_token")).await {
        Ok(claims) => claims,
        Err(Mistrust::Subject) => return problem(403, "no identity mapping matches"),
        Err(mistrust) => return problem(401, &format!("token verification failed: {mistrust:?}")),
    };
    let mut shared = shared.lock().unwrap();
    let subject = claims["sub"].as_str().unwrap_or_default();
    let (user, scope) = shared.mappings[subject].clone();
    let expires_at = now() + 600;
    let token = jwt(&json!({
        "sub": format!("jfac@01hq5/users/{user}"), "scp": scope, "aud": "*@*",
        "iss": "jfac@01hq5", "iat": now(), "exp": expires_at,
    }));
    let is_refreshable = shared.lie == Some(ArtifactoryLie::Refreshable);
    shared
        .tokens
        .insert(token.clone(), Made { user: user.clone(), scope: scope.clone(), expires_at });
    let mut answer = json!({
        "access_token": token, "expires_in": 600, "scope": scope, "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "username": user,
    });
    if shared.lie == Some(ArtifactoryLie::OwnLogin) {
        answer["access_token"] = json!(text("subject_token"));
    }
    if is_refreshable {
        answer["refresh_token"] = json!("canary-refresh-of-oidc");
    }
    axum::Json(answer).into_response()
}

/// A JWT without a real signature: nobody but this double verifies it.
fn jwt(claims: &Value) -> String {
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(ulid::Ulid::generate().to_string());
    format!("{}.{}.{signature}", encode(&json!({ "alg": "RS256", "typ": "JWT" })), encode(claims))
}

async fn revoke(State(shared): State<Store>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_admin(&headers) {
        return problem(403, "only administrators revoke tokens");
    }
    let asked = members(&headers, &body);
    let token = asked.get("token").and_then(Value::as_str).unwrap_or_default();
    match shared.lock().unwrap().tokens.remove(token) {
        Some(_) => StatusCode::OK.into_response(),
        None => problem(404, "no such token"),
    }
}

/// Why the request's token does not allow the action on this path.
fn refusal(shared: &Shared, headers: &HeaderMap, path: &str, action: char) -> Option<Response> {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let (user, token) = match authorization.and_then(|text| text.split_once(' ')) {
        Some(("Bearer", token)) => (None, token.to_owned()),
        Some(("Basic", pair)) => {
            let pair = BASE64_STANDARD.decode(pair).unwrap_or_default();
            let pair = String::from_utf8_lossy(&pair).into_owned();
            let (user, token) = pair.split_once(':').unwrap_or_default();
            (Some(user.to_owned()), token.to_owned())
        }
        _ => return Some(problem(401, "authentication is required")),
    };
    let made = shared.tokens.get(&token).filter(|made| made.expires_at > now());
    let made = made.filter(|made| user.is_none_or(|user| user == made.user));
    let Some(made) = made else { return Some(problem(401, "bad credentials")) };
    let mut scopes = made.scope.split(' ').filter_map(parse);
    let is_in =
        scopes.any(|(pattern, actions)| actions.contains(&action) && matches(pattern, path));
    (!is_in).then(|| problem(403, "the token's scope does not cover this"))
}

/// `artifact:docker-local/my-app/**:r,w` as a pattern and its actions.
fn parse(scope: &str) -> Option<(&str, Vec<char>)> {
    let (pattern, actions) = scope.strip_prefix("artifact:")?.rsplit_once(':')?;
    let letters: Vec<char> = actions.split(',').filter_map(|one| one.chars().next()).collect();
    let known = letters.iter().all(|letter| "rwdamxs*".contains(*letter));
    (known && !pattern.is_empty() && letters.len() == actions.split(',').count())
        .then_some((pattern, letters))
}

/// Patterns of Ant, as in permission targets: `**` stands for any folders, also for none.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix("/**") {
        Some(folder) => {
            path == folder || path.strip_prefix(folder).is_some_and(|it| it.starts_with('/'))
        }
        None => path == pattern,
    }
}

async fn information(
    State(shared): State<Store>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let shared = shared.lock().unwrap();
    if let Some(refused) = refusal(&shared, &headers, &path, 'r') {
        return refused;
    }
    let Some(file) = shared.files.get(&path) else { return problem(404, "no such file") };
    let (repository, inner) = path.split_once('/').unwrap_or((&path, ""));
    axum::Json(json!({
        "repo": repository, "path": format!("/{inner}"), "uri": path, "size": file.len(),
    }))
    .into_response()
}

async fn read(
    State(shared): State<Store>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let shared = shared.lock().unwrap();
    if let Some(refused) = refusal(&shared, &headers, &path, 'r') {
        return refused;
    }
    let file = shared.files.get(&path).cloned();
    file.map_or_else(|| problem(404, "no such file"), IntoResponse::into_response)
}

async fn write(
    State(shared): State<Store>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap();
    // Replacing a file is deleting it.
    let actions = if shared.files.contains_key(&path) { "wd" } else { "w" };
    for action in actions.chars() {
        if let Some(refused) = refusal(&shared, &headers, &path, action) {
            return refused;
        }
    }
    shared.files.insert(path, body.to_vec());
    StatusCode::CREATED.into_response()
}
