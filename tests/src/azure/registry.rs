//! The registry: its token service, and its images behind the tokens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AUDIENCES, NULL_GUID, Shared, Step, TENANT};

/// The lifetimes of its tokens, in seconds.
const REFRESH_LIFETIME: i64 = 3 * 3600;
const ACCESS_LIFETIME: i64 = 75 * 60;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/oauth2/exchange", post(exchange))
        .route("/oauth2/token", post(token).get(token_by_password))
        .fallback(images)
        .with_state(shared)
}

/// A token of Entra ID becomes a refresh token, which opens everything that the role has.
async fn exchange(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    let (request, instead) = shared.receive(Step::Exchange, uri.path(), &body);
    if let Some(instead) = instead {
        return instead;
    }
    let is = |name: &str, expected: &str| request.all(name) == [expected];
    let tenant = request.all("tenant");
    if !is("grant_type", "access_token") || !is("service", &shared.registry) {
        return refused(StatusCode::BAD_REQUEST, "invalid grant_type or service");
    }
    let token = request.all("access_token").first().copied().unwrap_or_default();
    let login = shared.known(Step::Login, token);
    let has_audience = |login: &Value| AUDIENCES.iter().any(|audience| login["aud"] == *audience);
    let is_ours = tenant.is_empty() || tenant == [TENANT];
    if !login.as_ref().is_some_and(has_audience) || !is_ours {
        return refused(StatusCode::UNAUTHORIZED, "authentication required");
    }
    let claims = json!({
        "iss": "Azure Container Registry", "aud": shared.registry, "version": "1.0",
        "grant_type": "refresh_token", "tenant": TENANT, "permissions": { "actions": ["*"] },
    });
    let refresh_token = shared.make(Step::Exchange, REFRESH_LIFETIME, &claims);
    Json(json!({ "refresh_token": refresh_token })).into_response()
}

/// A refresh token becomes a token for these scopes.
async fn token(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    let (request, instead) = shared.receive(Step::Token, uri.path(), &body);
    if let Some(instead) = instead {
        return instead;
    }
    let is = |name: &str, expected: &str| request.all(name) == [expected];
    if !is("grant_type", "refresh_token") || !is("service", &shared.registry) {
        return refused(StatusCode::BAD_REQUEST, "invalid grant_type or service");
    }
    let refresh_token = request.all("refresh_token").first().copied().unwrap_or_default();
    if shared.known(Step::Exchange, refresh_token).is_none() {
        return refused(StatusCode::UNAUTHORIZED, "authentication required");
    }
    if shared.returns_refresh_token.load(Ordering::Relaxed) {
        return Json(json!({ "access_token": refresh_token })).into_response();
    }
    grant(&shared, &request.all("scope"), ACCESS_LIFETIME, |_, action| shared.allows(action))
}

/// `docker login` with one of the registry's own tokens as the password. A token for a scope gives
/// no more than that scope, and lives no longer.
async fn token_by_password(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let query = uri.query().unwrap_or_default();
    let fields: Vec<(String, String)> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let scopes: Vec<&str> =
        fields.iter().filter(|field| field.0 == "scope").map(|field| field.1.as_str()).collect();
    let password = basic(&headers).filter(|(username, _)| username == NULL_GUID);
    let Some((_, password)) = password else {
        return refused(StatusCode::UNAUTHORIZED, "authentication required");
    };
    if let Some(own) = shared.known(Step::Token, &password) {
        let left = own["exp"].as_i64().unwrap_or_default() - Timestamp::now().as_second();
        return grant(&shared, &scopes, left, |resource, action| opens(&own, resource, action));
    }
    if shared.known(Step::Exchange, &password).is_some() {
        return grant(&shared, &scopes, ACCESS_LIFETIME, |_, action| shared.allows(action));
    }
    refused(StatusCode::UNAUTHORIZED, "authentication required")
}

/// What a scope names: its type and its name.
type Resource<'a> = (&'a str, &'a str);

/// Makes a token for what is allowed of these scopes. What is not allowed is left out.
fn grant(
    shared: &Shared,
    scopes: &[&str],
    seconds: i64,
    allows: impl Fn(Resource<'_>, &str) -> bool,
) -> Response {
    let mut access = Vec::new();
    for scope in scopes {
        let Some((resource, actions)) = scope.rsplit_once(':') else {
            return refused(StatusCode::BAD_REQUEST, "invalid scope");
        };
        let Some((kind, name)) = resource.split_once(':') else {
            return refused(StatusCode::BAD_REQUEST, "invalid scope");
        };
        let actions: Vec<&str> =
            actions.split(',').filter(|action| allows((kind, name), action)).collect();
        if !actions.is_empty() {
            access.push(json!({ "type": kind, "name": name, "actions": actions }));
        }
    }
    if access.is_empty() && !scopes.is_empty() {
        return refused(StatusCode::UNAUTHORIZED, "authentication required");
    }
    let claims = json!({
        "iss": "Azure Container Registry", "aud": shared.registry, "version": "1.0",
        "grant_type": "access_token", "access": access, "roles": [],
    });
    Json(json!({ "access_token": shared.make(Step::Token, seconds, &claims) })).into_response()
}

impl Shared {
    fn allows(&self, action: &str) -> bool {
        self.role.lock().unwrap().iter().any(|own| own == "*" || own == action)
    }
}

fn opens(token: &Value, (kind, name): Resource<'_>, action: &str) -> bool {
    token["access"].as_array().into_iter().flatten().any(|access| {
        let actions = access["actions"].as_array();
        access["type"] == kind
            && access["name"] == name
            && actions.into_iter().flatten().any(|own| own == action)
    })
}

/// Everything else goes to the registry behind, if the bearer token opens it.
async fn images(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // Microsoft's client writes the repository as one segment.
    let path = head.uri.path().replace("%2F", "/");
    let Some((resource, action)) = needed(&head.method, &path) else {
        return refused(StatusCode::NOT_FOUND, "not found");
    };
    let bearer = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let token = bearer.and_then(|token| shared.known(Step::Token, token));
    let is_open = |token: &Value| {
        resource.as_ref().is_none_or(|(kind, name)| opens(token, (kind, name), action))
    };
    if !token.as_ref().is_some_and(is_open) {
        return challenge(&shared, resource, action);
    }
    let target = if path == "/acr/v1/_catalog" { "/v2/_catalog" } else { &path };
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{}{target}{query}", shared.images.url());
    let mut headers = head.headers;
    headers.remove(AUTHORIZATION);
    headers.remove(HOST);
    let body = body.collect().await.unwrap().to_bytes();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let answer = client.request(head.method, url).headers(headers).body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        let own = value.to_str().unwrap_or_default().replace(&shared.images.url(), "");
        let value = if name == LOCATION { own.parse().unwrap() } else { value.clone() };
        response = response.header(name, value);
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// What a request needs: nothing but a token (`None`), or an action on a resource.
fn needed(method: &Method, path: &str) -> Option<(Option<(&'static str, String)>, &'static str)> {
    match path {
        "/v2/" => return Some((None, "")),
        "/acr/v1/_catalog" | "/v2/_catalog" => {
            return Some((Some(("registry", "catalog".to_owned())), "*"));
        }
        _ => {}
    }
    let rest = path.strip_prefix("/v2/")?;
    let ends = ["/manifests/", "/blobs/", "/tags/"];
    let end = ends.iter().filter_map(|word| rest.find(word)).min()?;
    let action = match method.as_str() {
        "GET" | "HEAD" => "pull",
        "DELETE" => "delete",
        _ => "push",
    };
    Some((Some(("repository", rest.get(..end)?.to_owned())), action))
}

fn challenge(shared: &Shared, resource: Option<(&'static str, String)>, action: &str) -> Response {
    let registry = &shared.registry;
    let actions = if action == "push" { "pull,push" } else { action };
    let scope = resource
        .map(|(kind, name)| format!(",scope=\"{kind}:{name}:{actions}\""))
        .unwrap_or_default();
    let text =
        format!("Bearer realm=\"https://{registry}/oauth2/token\",service=\"{registry}\"{scope}");
    let mut response = refused(StatusCode::UNAUTHORIZED, "authentication required");
    response.headers_mut().insert(WWW_AUTHENTICATE, text.parse().unwrap());
    response
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

fn refused(status: StatusCode, message: &str) -> Response {
    let code = if status == StatusCode::UNAUTHORIZED { "UNAUTHORIZED" } else { "INVALID" };
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    (status, Json(body)).into_response()
}
