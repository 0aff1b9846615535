//! `GET /api/v1/openapi.json`: the requests that callers can send and the answers that they get,
//! for programs.
//!
//! Operations and bodies are described where they are written, by utoipa, and their problems in
//! `possible_problems`. Here is what every answer has. An endpoint needs a line in [`Api`].
//!
//! **Invariant:** an answer that is not described here is a bug. `tests/tests/behaviour/openapi.rs`
//! searches for one.

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::possible_problems::Describe;
use super::{
    end_credential, end_credentials, explain, issue_credentials, jwks, list_registries,
    manage_repository, openid_configuration, read_audit, token,
};
use crate::domain::ProblemType;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rise-broker",
        description = "Short-lived container-registry credentials for one repository at a time."
    ),
    paths(
        issue_credentials::by_query,
        issue_credentials::by_body,
        end_credential::end_credential,
        end_credentials::end_credentials,
        list_registries::list_registries,
        manage_repository::describe,
        manage_repository::create,
        manage_repository::retire,
        explain::explain,
        read_audit::read_audit,
        token::by_query,
        token::by_form,
        openid_configuration::openid_configuration,
        jwks::jwks,
        openapi,
    ),
    components(schemas(super::problem::ProblemBody))
)]
struct Api;

/// This description.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Describe)
)]
pub(super) fn openapi(text: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// The description as text. It is public and the same for everybody, so it is made once.
pub(super) fn text() -> Bytes {
    document().to_string().into()
}

/// The whole description, including what every operation has in common.
fn document() -> Value {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    if let Some(schemes) = object(&mut document, "/components") {
        let scheme = json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" });
        let login = json!({ "type": "http", "scheme": "basic" });
        let both = json!({ "token": scheme, "login": login });
        schemes.insert("securitySchemes".to_owned(), both);
    }
    let types = ProblemType::ALL.map(ProblemType::urn);
    if let Some(kind) = object(&mut document, "/components/schemas/Problem/properties/type") {
        kind.insert("enum".to_owned(), json!(types));
    }
    if let Some(paths) = object(&mut document, "/paths") {
        for (path, operations) in &mut *paths {
            let operations = operations.as_object_mut().into_iter().flat_map(Map::values_mut);
            operations.for_each(|operation| complete(path, operation));
        }
        if let Some(credentials) = paths.get("/api/v1/registry/credentials") {
            let mut alias = credentials.clone();
            for operation in alias.as_object_mut().into_iter().flat_map(Map::values_mut) {
                let id = operation.get("operationId").and_then(Value::as_str).map(str::to_owned);
                operation["operationId"] = json!(id.map(|id| format!("{id}_short")));
            }
            paths.insert("/registry/credentials".to_owned(), alias);
        }
    }
    document
}

fn object<'a>(document: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    document.pointer_mut(pointer).and_then(Value::as_object_mut)
}

/// Adds the headers of each answer, and the answers that the HTTP library gives before any handler.
fn complete(path: &str, operation: &mut Value) {
    let Some(responses) = object(operation, "/responses") else { return };
    for (status, response) in &mut *responses {
        if let Some(response) = response.as_object_mut() {
            response.insert("headers".to_owned(), headers(path, status));
        }
    }
    let too_large = json!({ "description": "Headers over 16 KiB or 64 fields. Without a body." });
    responses.insert("431".to_owned(), too_large);
}

fn headers(path: &str, status: &str) -> Value {
    let header = |schema: Value| json!({ "required": true, "schema": schema });
    let mut headers = Map::new();
    let is_cacheable = status == "200" && path.starts_with("/.well-known/");
    let caching = if is_cacheable { jwks::CACHEABLE.1 } else { "no-store" };
    let id = json!({ "type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{26}$" });
    for (name, schema) in [
        ("X-Request-Id", id),
        ("Cache-Control", json!({ "type": "string", "const": caching })),
        ("X-Content-Type-Options", json!({ "type": "string", "const": "nosniff" })),
    ] {
        headers.insert(name.to_owned(), header(schema));
    }
    match status {
        "401" => {
            headers.insert("WWW-Authenticate".to_owned(), header(json!({ "type": "string" })));
        }
        "405" => {
            headers.insert("Allow".to_owned(), header(json!({ "type": "string" })));
        }
        "429" | "503" | "504" => {
            let seconds = json!({ "type": "integer", "minimum": 1, "maximum": 300 });
            headers.insert("Retry-After".to_owned(), header(seconds));
        }
        _ => {}
    }
    Value::Object(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_complete() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 12);
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let place = format!("{method} {path}");
                let is_key = path.starts_with("/.well-known/");
                let is_open = path == "/api/v1/openapi.json" || is_key;
                let is_token = path == "/token";
                // A form has the login in itself.
                let has_none = is_open || (is_token && method == "post");
                assert_eq!(operation["security"].is_null(), has_none, "{place}");
                let responses = operation["responses"].as_object().unwrap();
                let statuses: Vec<u16> =
                    responses.keys().map(|status| status.parse().unwrap()).collect();
                let is_repository = path.contains("repositories");
                let expected: &[u16] = match (path.contains("credentials"), method.as_str()) {
                    (_, "delete") if path.ends_with("/{request_id}") => {
                        &[200, 202, 400, 401, 404, 405, 409, 414, 429, 431, 500, 503, 504]
                    }
                    (_, "post") if path.ends_with("/revocations") => {
                        &[200, 202, 400, 401, 403, 405, 408, 413, 414, 415, 429, 431, 500, 503, 504]
                    }
                    (_, "get") if path.ends_with("/audit") => {
                        &[200, 400, 401, 403, 405, 414, 429, 431, 500, 503, 504]
                    }
                    (_, "get" | "put" | "delete") if is_repository => {
                        &[200, 400, 401, 403, 405, 409, 414, 429, 431, 500, 502, 503, 504]
                    }
                    (true, "get") => {
                        &[200, 400, 401, 403, 405, 409, 414, 429, 431, 500, 502, 503, 504]
                    }
                    (true, _) => &[
                        200, 400, 401, 403, 405, 408, 409, 413, 414, 415, 429, 431, 500, 502, 503,
                        504,
                    ],
                    (_, "get") if is_token => {
                        &[200, 400, 401, 404, 405, 414, 429, 431, 500, 503, 504]
                    }
                    (_, _) if is_token => {
                        &[200, 400, 401, 404, 405, 408, 413, 414, 415, 429, 431, 500, 503, 504]
                    }
                    (false, _) if is_key => &[200, 404, 405, 414, 431, 500, 503, 504],
                    (false, _) if is_open => &[200, 405, 414, 431, 500, 503, 504],
                    (false, "get") => &[200, 400, 401, 405, 414, 429, 431, 500, 503, 504],
                    (false, _) => {
                        &[200, 400, 401, 405, 408, 413, 414, 415, 429, 431, 500, 503, 504]
                    }
                };
                assert_eq!(statuses, expected, "{place}");
                for (status, response) in responses.iter().filter(|(status, _)| *status != "431") {
                    assert!(response["headers"]["X-Request-Id"].is_object(), "{place} {status}");
                    assert!(response["content"].is_object(), "{place} {status}");
                }
            }
        }
    }
}
