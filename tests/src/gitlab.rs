//! A double of GitLab: deploy tokens of a project, which end at a midnight. `python-gitlab` drives
//! it first (`gitlab.rs` of the tests).

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::minting::{MintedCredential, MintedCredentials, MintingKind, refusal};
use crate::registry::registry;

/// The access token that makes deploy tokens.
pub const GITLAB_TOKEN: &str = "canary-gitlab-maintainer-81fe";
/// The projects in which that token may do so.
const PROJECTS: [&str; 2] = ["group/app", "group/my-app"];
const SCOPES: [&str; 3] = ["read_repository", "read_registry", "write_registry"];
/// What a list has if it is not asked for more, and the most that it can have.
const PER_PAGE: (usize, usize) = (20, 100);

pub const GITLAB: MintingKind = MintingKind {
    provider: "gitlab",
    secret: GITLAB_TOKEN,
    repository: "group/app/my-app",
    member: Some("token"),
    routes: || {
        let tokens = "/api/v4/projects/{project}/deploy_tokens";
        Router::new()
            .route(tokens, get(list).post(create))
            .route(&format!("{tokens}/{{id}}"), get(read).delete(delete))
    },
    table: |url| {
        registry("gitlab")
            .with("base_url", url)
            .with("project", "group/app")
            .with("private_token", GITLAB_TOKEN)
            .with("registry_url", url.trim_start_matches("http://"))
            .with("accept_scope", "namespace")
            .with("trust_provider", true)
            .ceiling("private = true")
    },
};

fn refuses(
    tokens: &MintedCredentials,
    headers: &HeaderMap,
    project: &str,
    request: &str,
) -> Option<Response> {
    let token = headers.get("private-token").and_then(|value| value.to_str().ok());
    let request = request.replacen(' ', &format!(" {project} "), 1);
    tokens
        .refuses(token == Some(GITLAB_TOKEN), request)
        .or_else(|| (!PROJECTS.contains(&project)).then(|| refusal(404, "404 Project Not Found")))
}

fn shown(id: u64, token: &MintedCredential) -> Value {
    let end = token.expires_at.map(|end| jiff::Timestamp::from_second(end).unwrap());
    json!({
        "id": id, "name": token.name, "username": token.username, "scopes": token.scopes,
        "expires_at": end.map(|end| end.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()),
        "revoked": false, "expired": false,
    })
}

async fn create(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path(project): Path<String>,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, &project, "POST deploy_tokens") {
        return refused;
    }
    let scopes = asked["scopes"].as_array().cloned().unwrap_or_default();
    let scopes: Vec<String> = scopes.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    if scopes.is_empty() || !scopes.iter().all(|scope| SCOPES.contains(&scope.as_str())) {
        return refusal(400, "scopes does not have a valid value");
    }
    let Some(name) = asked["name"].as_str() else { return refusal(400, "name is missing") };
    let end = asked["expires_at"].as_str().map(str::parse::<jiff::Timestamp>);
    let Ok(end) = end.transpose() else { return refusal(400, "expires_at is invalid") };
    let opens: &[&str] = if project == "group/app" { &["group/app"] } else { &["group/my-app"] };
    let token = |id, ending: &str| MintedCredential {
        username: format!("gitlab+deploy-token-{id}"),
        scopes,
        expires_at: end.map(jiff::Timestamp::as_second),
        ..MintedCredential::new(format!("{name}{ending}"), opens)
    };
    tokens.mint(token, shown).await
}

/// In pages, with the headers that say which is the next one.
async fn list(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path(project): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if let Some(refused) = refuses(&tokens, &headers, &project, "GET deploy_tokens") {
        return refused;
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (page, per_page) = (number("page").unwrap_or(1), number("per_page").unwrap_or(PER_PAGE.0));
    let per_page = per_page.min(PER_PAGE.1);
    let now = jiff::Timestamp::now().as_second();
    let tokens = tokens.lock();
    let is_listed = |token: &MintedCredential| {
        query.get("active").is_none_or(|active| active != "true")
            || token.expires_at.is_none_or(|end| end >= now)
    };
    let listed: Vec<_> = tokens.alive.iter().filter(|(_, token)| is_listed(token)).collect();
    let shown: Vec<Value> = listed
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .map(|(id, token)| shown(**id, token))
        .collect();
    let body = axum::Json(shown);
    if page * per_page >= listed.len() {
        return ([("x-next-page", "")], body).into_response();
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap();
    let project = project.replace('/', "%2F");
    let link = format!(
        "<http://{host}/api/v4/projects/{project}/deploy_tokens?per_page={per_page}&page={}>; \
         rel=\"next\"",
        page + 1
    );
    ([("x-next-page", (page + 1).to_string()), ("link", link)], body).into_response()
}

async fn read(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, u64)>,
) -> Response {
    let request = format!("GET deploy_tokens/{id}");
    if let Some(refused) = refuses(&tokens, &headers, &project, &request) {
        return refused;
    }
    match tokens.lock().alive.get(&id) {
        Some(token) => axum::Json(shown(id, token)).into_response(),
        None => refusal(404, "404 Not found"),
    }
}

async fn delete(
    State(tokens): State<MintedCredentials>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, u64)>,
) -> Response {
    let request = format!("DELETE deploy_tokens/{id}");
    match refuses(&tokens, &headers, &project, &request) {
        Some(refused) => refused,
        None => tokens.delete(id).await,
    }
}
