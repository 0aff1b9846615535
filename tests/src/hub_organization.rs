//! A double of the organization access tokens of Docker Hub's API, as its reference describes them.
//! The registry itself is `dockerhub.rs`.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::DOCKERHUB_TOKENS;
use crate::gateway::bearer;
use crate::minting::{MintedCredential, MintedCredentials, MintingKind, refusal};
use crate::registry::registry;

/// What the API gives an owner of the organization for a token of the owner.
pub const HUB_LOGIN: &str = "canary-login-of-the-hub-4c2f";
const OWNER: &str = "acme-owner";

pub const HUB_ORGANIZATION: MintingKind = MintingKind {
    provider: "dockerhub",
    secret: DOCKERHUB_TOKENS.0,
    repository: "acme/my-app",
    member: Some("token"),
    routes: || {
        let tokens = "/v2/orgs/acme/access-tokens";
        Router::new()
            .route("/v2/auth/token", post(log_in))
            .route(tokens, get(list).post(create))
            .route(&format!("{tokens}/{{id}}"), get(read).delete(delete))
    },
    table: |url| {
        registry("dockerhub")
            .with("registry_url", "docker.io")
            .with("namespace", "acme")
            .with("username", OWNER)
            .with("password", DOCKERHUB_TOKENS.0)
            .with("issues", "organization-token")
            .with("endpoint_url", url)
            .with("trust_provider", true)
            .ceiling("private = true")
    },
};

async fn log_in(
    State(tokens): State<MintedCredentials>,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    let is_owner = asked == json!({ "identifier": OWNER, "secret": DOCKERHUB_TOKENS.0 });
    match tokens.refuses(is_owner, "POST auth/token".to_owned()) {
        Some(refused) => refused,
        None => axum::Json(json!({ "access_token": HUB_LOGIN })).into_response(),
    }
}

fn refuses(tokens: &MintedCredentials, headers: &HeaderMap, request: &str) -> Option<Response> {
    tokens.refuses(bearer(headers) == Some(HUB_LOGIN), request.to_owned())
}

fn shown(id: u64, token: &MintedCredential) -> Value {
    let ends = token.expires_at.map(|ends| Timestamp::from_second(ends).unwrap().to_string());
    json!({
        "id": format!("a7a5ef25-{id}"), "label": token.name, "created_by": OWNER,
        "is_active": true, "expires_at": ends, "last_used_at": null,
    })
}

/// With what a list does not have.
fn shown_whole(id: u64, token: &MintedCredential) -> Value {
    let mut whole = shown(id, token);
    whole["resources"] =
        json!([{ "type": "TYPE_REPO", "path": token.opens[0], "scopes": token.scopes }]);
    whole
}

fn id_of(text: &str) -> u64 {
    text.strip_prefix("a7a5ef25-").and_then(|id| id.parse().ok()).unwrap_or_default()
}

async fn create(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, "POST access-tokens") {
        return refused;
    }
    let Some([resource]) = asked["resources"].as_array().map(Vec::as_slice) else {
        return refusal(400, "resources are required");
    };
    let scopes = resource["scopes"].as_array().cloned().unwrap_or_default();
    let scopes: Vec<String> = scopes.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    let is_scope = |scope: &String| scope == "scope-image-pull" || scope == "scope-image-push";
    let is_right = resource["type"] == "TYPE_REPO" && scopes.iter().all(is_scope);
    let opens: &[&str] = match resource["path"].as_str() {
        Some("acme/my-app") => &["acme/my-app"],
        _ => return refusal(404, "no such repository"),
    };
    let ends = asked["expires_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let (Some(label), Some(ends), true) = (asked["label"].as_str(), ends, is_right) else {
        return refusal(400, "label, expires_at or resources are wrong");
    };
    let token = |_, ending: &str| MintedCredential {
        username: "acme".to_owned(),
        scopes,
        expires_at: Some(ends.as_second()),
        ..MintedCredential::new(format!("{label}{ending}"), opens)
    };
    tokens.mint(token, shown_whole).await
}

async fn list(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, "GET access-tokens") {
        return refused;
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (page, size) = (number("page").unwrap_or(1), number("page_size").unwrap_or(10));
    let tokens = tokens.lock();
    let found = tokens.alive.iter().skip((page - 1) * size).take(size);
    let results: Vec<Value> = found.map(|(id, token)| shown(*id, token)).collect();
    let has_more = tokens.alive.len() > page * size;
    let next = has_more.then(|| format!("/v2/orgs/acme/access-tokens?page={}", page + 1));
    let total = tokens.alive.len();
    axum::Json(json!({ "total": total, "next": next, "previous": null, "results": results }))
        .into_response()
}

async fn read(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, &format!("GET access-tokens/{id}")) {
        return refused;
    }
    let id = id_of(&id);
    match tokens.lock().alive.get(&id) {
        Some(token) => axum::Json(shown_whole(id, token)).into_response(),
        None => refusal(404, "not found"),
    }
}

async fn delete(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    match refuses(&tokens, &headers, &format!("DELETE access-tokens/{id}")) {
        Some(refused) => refused,
        None => tokens.delete(id_of(&id)).await,
    }
}
