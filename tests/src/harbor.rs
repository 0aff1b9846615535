//! A double of Harbor: robot accounts of the API v2.0, which live for a day at least. `harborapi`
//! drives it first (`harbor.rs` of the tests).

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::minting::{MintedCredential, MintedCredentials, MintingKind, login, refusal};
use crate::registry::registry;

/// The user that makes robots, and the password.
pub const HARBOR_ADMIN: (&str, &str) = ("robot$rise", "canary-harbor-admin-51c7");
/// The one project.
const PROJECT: (&str, u64) = ("team", 3);
const DAY: i64 = 86_400;

pub const HARBOR: MintingKind = MintingKind {
    provider: "harbor",
    secret: HARBOR_ADMIN.1,
    repository: "team/my-app",
    member: Some("secret"),
    routes: || {
        Router::new()
            .route("/api/v2.0/robots", get(list).post(create))
            .route("/api/v2.0/robots/{id}", get(read).delete(delete))
            .route("/api/v2.0/projects/{name}", get(project))
    },
    table: |url| {
        registry("harbor")
            .with("base_url", url)
            .with("project", PROJECT.0)
            .with("username", HARBOR_ADMIN.0)
            .with("password", HARBOR_ADMIN.1)
            .with("accept_scope", "namespace")
            .with("trust_provider", true)
            .ceiling("private = true")
    },
};

fn refuses(robots: &MintedCredentials, headers: &HeaderMap, request: &str) -> Option<Response> {
    let (user, password) = login(headers).unwrap_or_default();
    robots.refuses((user.as_str(), password.as_str()) == HARBOR_ADMIN, request.to_owned())
}

fn shown(id: u64, robot: &MintedCredential) -> Value {
    json!({
        "id": id, "name": robot.name, "level": "project", "duration": 1, "disable": false,
        "expires_at": robot.expires_at, "creation_time": "2026-11-26T00:00:00.000Z",
    })
}

async fn create(
    State(robots): State<MintedCredentials>,
    headers: HeaderMap,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    if let Some(refused) = refuses(&robots, &headers, "POST robots") {
        return refused;
    }
    let permissions = asked["permissions"].as_array().cloned().unwrap_or_default();
    let [permission] = permissions.as_slice() else {
        return refusal(400, "a robot of a project has one permission");
    };
    let days = asked["duration"].as_i64().unwrap_or(0);
    if asked["level"] != "project" || permission["kind"] != "project" || (days < 1 && days != -1) {
        return refusal(400, "bad level, kind or duration");
    }
    if permission["namespace"] != PROJECT.0 {
        return refusal(403, "forbidden");
    }
    let name = format!("robot${}+{}", PROJECT.0, asked["name"].as_str().unwrap_or_default());
    if robots.lock().id_of(&name).is_some() {
        return refusal(409, "the robot exists");
    }
    let access = permission["access"].as_array().cloned().unwrap_or_default();
    let actions = access.iter().filter_map(|one| Some(one["action"].as_str()?.to_owned()));
    let robot = |_, ending: &str| MintedCredential {
        scopes: actions.collect(),
        expires_at: Some(jiff::Timestamp::now().as_second() + days * DAY),
        ..MintedCredential::new(format!("{name}{ending}"), &["team"])
    };
    robots.mint(robot, shown).await
}

async fn list(
    State(robots): State<MintedCredentials>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let q = query.get("q").cloned().unwrap_or_default();
    if let Some(refused) = refuses(&robots, &headers, &format!("GET robots?q={q}")) {
        return refused;
    }
    let mut conditions: BTreeMap<&str, &str> =
        q.split(',').filter_map(|one| one.split_once('=')).collect();
    let part = conditions.remove("name").unwrap_or_default().trim_start_matches('~');
    if !conditions.is_empty() && conditions.get("ProjectID") != Some(&"3") {
        return refusal(403, "forbidden");
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (page, size) = (number("page").unwrap_or(1), number("page_size").unwrap_or(10).min(100));
    let robots = robots.lock();
    // The order of ids is that of creation.
    let found = robots.alive.iter().filter(|(_, robot)| robot.name.contains(part));
    let mut found: Vec<Value> = found.map(|(id, robot)| shown(*id, robot)).collect();
    if query.get("sort").is_some_and(|sort| sort.starts_with('-')) {
        found.reverse();
    }
    let body: Vec<Value> = found.into_iter().skip((page - 1) * size).take(size).collect();
    axum::Json(body).into_response()
}

async fn read(
    State(robots): State<MintedCredentials>,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Response {
    if let Some(refused) = refuses(&robots, &headers, &format!("GET robots/{id}")) {
        return refused;
    }
    match robots.lock().alive.get(&id) {
        Some(robot) => axum::Json(shown(id, robot)).into_response(),
        None => refusal(404, "not found"),
    }
}

async fn delete(
    State(robots): State<MintedCredentials>,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Response {
    match refuses(&robots, &headers, &format!("DELETE robots/{id}")) {
        Some(refused) => refused,
        None => robots.delete(id).await,
    }
}

async fn project(
    State(robots): State<MintedCredentials>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    if let Some(refused) = refuses(&robots, &headers, &format!("GET projects/{name}")) {
        return refused;
    }
    if name == PROJECT.0 {
        axum::Json(json!({ "project_id": PROJECT.1, "name": name })).into_response()
    } else {
        refusal(404, "not found")
    }
}
