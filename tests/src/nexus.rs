//! A double of Sonatype Nexus Repository 3: local users with roles, which never expire. The client
//! of Sonatype's community drives it first (`nexus.rs` of the tests).

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use serde_json::{Value, json};

use crate::minting::{MintedCredential, MintedCredentials, MintingKind, login, refusal};
use crate::registry::registry;

/// The user that makes users, and the password.
pub const NEXUS_ADMIN: (&str, &str) = ("rise-admin", "canary-nexus-admin-83ab");
/// The roles, which open one Docker repository with all images in it.
const ROLES: [&str; 2] = ["rise-pull", "rise-push"];

pub const NEXUS: MintingKind = MintingKind {
    provider: "nexus",
    secret: NEXUS_ADMIN.1,
    repository: "rise/my-app",
    member: None,
    routes: || {
        Router::new()
            .route("/service/rest/v1/security/users", get(list).post(create))
            .route("/service/rest/v1/security/users/{id}", delete(remove))
    },
    table: |url| {
        registry("nexus")
            .with("base_url", url)
            .with("username", NEXUS_ADMIN.0)
            .with("password", NEXUS_ADMIN.1)
            .with("pull_role", ROLES[0])
            .with("push_role", ROLES[1])
            .with("repo_prefix", "rise/")
            .with("accept_scope", "namespace")
            .with("trust_provider", true)
            .ceiling("private = true")
    },
};

fn refuses(users: &MintedCredentials, headers: &HeaderMap, request: &str) -> Option<Response> {
    let (user, password) = login(headers).unwrap_or_default();
    users.refuses((user.as_str(), password.as_str()) == NEXUS_ADMIN, request.to_owned())
}

/// The double keeps no names: those of the broker's users follow from the id.
fn shown(user: &MintedCredential) -> Value {
    let grant = user.name.strip_prefix("rise-").unwrap_or_default().to_uppercase();
    json!({
        "userId": user.name, "firstName": "rise-broker", "lastName": grant,
        "emailAddress": "rise@example.invalid", "source": "default", "status": "active",
        "readOnly": false, "roles": user.scopes, "externalRoles": [],
    })
}

async fn create(
    State(users): State<MintedCredentials>,
    headers: HeaderMap,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    if let Some(refused) = refuses(&users, &headers, "POST users") {
        return refused;
    }
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let required = ["userId", "firstName", "lastName", "emailAddress", "password"];
    if let Some(missing) = required.iter().find(|name| text(name).is_empty()) {
        return refusal(400, &format!("{missing} may not be empty"));
    }
    let id = text("userId");
    if users.lock().id_of(&id).is_some() {
        return refusal(400, &format!("User '{id}' already exists."));
    }
    let roles = asked["roles"].as_array().cloned().unwrap_or_default();
    let roles: Vec<String> = roles.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    if let Some(unknown) = roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
        return refusal(400, &format!("Role '{unknown}' does not exist."));
    }
    let user = |_, ending: &str| MintedCredential {
        username: id.clone(),
        secret: text("password"),
        scopes: roles,
        ..MintedCredential::new(format!("{id}{ending}"), &["rise"])
    };
    let mut response = users.mint(user, |_, user| shown(user)).await;
    if response.status() == StatusCode::CREATED {
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// Those whose ids begin with this text.
async fn list(
    State(users): State<MintedCredentials>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let start = query.get("userId").cloned().unwrap_or_default();
    if let Some(refused) = refuses(&users, &headers, &format!("GET users?userId={start}")) {
        return refused;
    }
    if query.get("source").is_some_and(|source| source != "default") {
        return axum::Json(json!([])).into_response();
    }
    let users = users.lock();
    let found = users.alive.values().filter(|user| user.name.starts_with(&start));
    axum::Json(found.map(shown).collect::<Vec<_>>()).into_response()
}

async fn remove(
    State(users): State<MintedCredentials>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if let Some(refused) = refuses(&users, &headers, &format!("DELETE users/{id}")) {
        return refused;
    }
    let found = users.lock().id_of(&id);
    match found {
        Some(number) => users.delete(number).await,
        None => refusal(404, &format!("User '{id}' not found.")),
    }
}
