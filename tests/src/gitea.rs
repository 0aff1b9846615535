//! A double of Gitea and Forgejo: access tokens of a bot user, which never expire. `py-gitea` and
//! `pyforgejo` drive it first (`gitea.rs` of the tests).

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use serde_json::{Value, json};

use crate::minting::{MintedCredential, MintedCredentials, MintingKind, login, refusal};
use crate::registry::registry;

/// The bot user, and its password.
pub const GITEA_BOT: (&str, &str) = ("rise-bot", "canary-gitea-bot-6d20");
/// What the bot user may open: packages of its own, and of its organizations.
const OWNERS: &[&str] = &["rise-bot", "team", "other-team"];
const SCOPES: [&str; 4] = ["read:package", "write:package", "read:user", "all"];
/// The most that a list has.
const LIMIT: usize = 50;

pub const GITEA: MintingKind = MintingKind {
    provider: "gitea",
    secret: GITEA_BOT.1,
    repository: "team/my-app",
    member: Some("sha1"),
    routes: || {
        Router::new()
            .route("/api/v1/users/{user}/tokens", get(list).post(create))
            .route("/api/v1/users/{user}/tokens/{token}", delete(remove))
    },
    table: |url| {
        registry("gitea")
            .with("base_url", url)
            .with("owner", "team")
            .with("username", GITEA_BOT.0)
            .with("password", GITEA_BOT.1)
            .with("accept_scope", "namespace")
            .with("trust_provider", true)
            .ceiling("private = true")
    },
};

/// An access token cannot make or delete one: only the password can.
fn refuses(
    tokens: &MintedCredentials,
    headers: &HeaderMap,
    user: &str,
    request: &str,
) -> Option<Response> {
    let (name, password) = login(headers).unwrap_or_default();
    tokens.refuses((name.as_str(), password.as_str()) == GITEA_BOT, request.to_owned()).or_else(
        || {
            let is_self = user.eq_ignore_ascii_case(GITEA_BOT.0);
            (!is_self).then(|| refusal(403, "only admins may see tokens of others"))
        },
    )
}

fn shown(id: u64, token: &MintedCredential) -> Value {
    let last = &token.secret[token.secret.len() - 8..];
    json!({
        "id": id, "name": token.name, "sha1": "", "token_last_eight": last, "scopes": token.scopes,
    })
}

async fn create(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path(user): Path<String>,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, &user, "POST tokens") {
        return refused;
    }
    let scopes = asked["scopes"].as_array().cloned().unwrap_or_default();
    let scopes: Vec<String> = scopes.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    if scopes.is_empty() || !scopes.iter().all(|scope| SCOPES.contains(&scope.as_str())) {
        return refusal(400, "invalid access token scope provided");
    }
    let Some(name) = asked["name"].as_str() else { return refusal(422, "[Name]: Required") };
    if tokens.lock().id_of(name).is_some() {
        return refusal(400, "access token name has been used already");
    }
    let token = |_, ending: &str| MintedCredential {
        username: GITEA_BOT.0.to_owned(),
        scopes,
        ..MintedCredential::new(format!("{name}{ending}"), OWNERS)
    };
    tokens.mint(token, shown).await
}

async fn list(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path(user): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, &user, "GET tokens") {
        return refused;
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (page, limit) = (number("page").unwrap_or(1), number("limit").unwrap_or(30).min(LIMIT));
    let tokens = tokens.lock();
    let found = tokens.alive.iter().rev().skip((page - 1) * limit).take(limit);
    let body: Vec<Value> = found.map(|(id, token)| shown(*id, token)).collect();
    ([("x-total-count", tokens.alive.len().to_string())], axum::Json(body)).into_response()
}

/// Text that is no number is a name.
async fn remove(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path((user, token)): Path<(String, String)>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, &user, &format!("DELETE tokens/{token}")) {
        return refused;
    }
    let found = token.parse().ok().or_else(|| tokens.lock().id_of(&token));
    match found {
        Some(id) => tokens.delete(id).await,
        None => refusal(404, "not found"),
    }
}
