//! `GET /api/v1/openapi.json`: what callers can ask and what they are answered, for programs.
//!
//! Operations and bodies are described where they are written, by utoipa; here is which problems each operation can answer,
//! and what every answer has. An endpoint needs a line in [`Api`] and its problems below.
//!
//! **Invariant:** an answer that is not described here is a bug: `tests/tests/behaviour/openapi.rs` looks for one.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, RefOr, Schema};
use utoipa::{IntoResponses, OpenApi};

use super::{explain, issue_credentials, list_registries};

/// Every problem and its status, as `problem.rs` answers them; a test compares.
pub(super) const PROBLEMS: [(&str, u16); 21] = [
    ("invalid-request", 400),
    ("missing-token", 401),
    ("invalid-token", 401),
    ("token-replayed", 401),
    ("access-denied", 403),
    ("not-found", 404),
    ("method-not-allowed", 405),
    ("request-timeout", 408),
    ("payload-too-large", 413),
    ("uri-too-long", 414),
    ("unsupported-media-type", 415),
    ("rate-limited", 429),
    ("internal", 500),
    ("provider-failed", 502),
    ("upstream-denied", 502),
    ("issuer-unavailable", 503),
    ("upstream-unavailable", 503),
    ("overloaded", 503),
    ("audit-unavailable", 503),
    ("replay-store-unavailable", 503),
    ("upstream-timeout", 504),
];
/// Whatever is asked. `method-not-allowed` is what other methods of a path are answered.
const ALWAYS: &[&str] =
    &["method-not-allowed", "uri-too-long", "internal", "overloaded", "upstream-timeout"];
const WITH_TOKEN: &[&str] =
    &["missing-token", "invalid-token", "rate-limited", "issuer-unavailable"];
const WITH_BODY: &[&str] = &["request-timeout", "payload-too-large", "unsupported-media-type"];
const OF_ISSUING: &[&str] = &[
    "invalid-request",
    "access-denied",
    "provider-failed",
    "upstream-denied",
    "upstream-unavailable",
    "audit-unavailable",
    "token-replayed",
    "replay-store-unavailable",
];

/// What the operations can answer beside their success.
pub(super) struct ByQuery;
pub(super) struct ByBody;
pub(super) struct ListRegistries;
pub(super) struct Explain;
pub(super) struct Describe;

impl IntoResponses for ByQuery {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ALWAYS, WITH_TOKEN, OF_ISSUING])
    }
}

impl IntoResponses for ByBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ALWAYS, WITH_TOKEN, WITH_BODY, OF_ISSUING])
    }
}

impl IntoResponses for ListRegistries {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ALWAYS, WITH_TOKEN])
    }
}

impl IntoResponses for Explain {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ALWAYS, WITH_TOKEN, WITH_BODY, &["invalid-request"]])
    }
}

impl IntoResponses for Describe {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[ALWAYS])
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rise-broker",
        description = "Short-lived container-registry credentials for one repository at a time."
    ),
    paths(
        issue_credentials::by_query,
        issue_credentials::by_body,
        list_registries::list_registries,
        explain::explain,
        openapi,
    ),
    components(schemas(super::problem::Body))
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

/// The description as text. It is the same for everybody and open to all, so it is made once.
pub(super) fn text() -> Bytes {
    document().to_string().into()
}

/// One response for each status, with the problems that it can be.
fn problems(lists: &[&[&str]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<&str>>::new();
    for (slug, status) in PROBLEMS {
        if lists.iter().any(|list| list.contains(&slug)) {
            by_status.entry(status).or_default().push(slug);
        }
    }
    let response = |slugs: &[&str]| {
        let types: Vec<String> =
            slugs.iter().map(|slug| format!("urn:rise:problem:{slug}")).collect();
        let schema = json!({
            "allOf": [{ "$ref": "#/components/schemas/Problem" },
                      { "type": "object", "properties": { "type": { "type": "string", "enum": types } } }]
        });
        let content = ContentBuilder::new()
            .schema(serde_json::from_value::<RefOr<Schema>>(schema).ok())
            .build();
        let description = slugs.join(", ");
        ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build()
    };
    by_status
        .into_iter()
        .map(|(status, slugs)| (status.to_string(), response(&slugs).into()))
        .collect()
}

/// The whole description. What every operation has in common is written into it here.
fn document() -> Value {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    if let Some(schemes) = object(&mut document, "/components") {
        let scheme = json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" });
        schemes.insert("securitySchemes".to_owned(), json!({ "token": scheme }));
    }
    let types: Vec<String> =
        PROBLEMS.iter().map(|(slug, _)| format!("urn:rise:problem:{slug}")).collect();
    if let Some(kind) = object(&mut document, "/components/schemas/Problem/properties/type") {
        kind.insert("enum".to_owned(), json!(types));
    }
    if let Some(paths) = object(&mut document, "/paths") {
        for operation in paths.values_mut().filter_map(Value::as_object_mut) {
            operation.values_mut().for_each(complete);
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

/// The headers of each answer, and what the HTTP library answers before a handler is asked.
fn complete(operation: &mut Value) {
    let Some(responses) = object(operation, "/responses") else { return };
    for (status, response) in &mut *responses {
        if let Some(response) = response.as_object_mut() {
            response.insert("headers".to_owned(), headers(status));
        }
    }
    let too_large = json!({ "description": "Headers over 16 KiB or 64 fields. Without a body." });
    responses.insert("431".to_owned(), too_large);
}

fn headers(status: &str) -> Value {
    let header = |schema: Value| json!({ "required": true, "schema": schema });
    let mut headers = Map::new();
    let id = json!({ "type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{26}$" });
    for (name, schema) in [
        ("X-Request-Id", id),
        ("Cache-Control", json!({ "type": "string", "const": "no-store" })),
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
    use std::collections::BTreeSet;

    use axum::http::StatusCode;

    use super::*;

    /// Every `StatusCode::X, "slug"` of `problem.rs`.
    fn written() -> BTreeSet<(String, u16)> {
        let code = include_str!("problem.rs");
        let pairs = code.split("StatusCode::").skip(1).filter_map(|piece| {
            let (name, rest) = piece.split_once(',')?;
            let slug = rest.trim_start().strip_prefix('"')?.split('"').next()?;
            let mut statuses = (100..600).filter_map(|code| StatusCode::from_u16(code).ok());
            let status = statuses.find(|status| {
                let reason = status.canonical_reason().unwrap_or_default();
                reason.to_uppercase().replace([' ', '-'], "_") == name
            });
            Some((slug.to_owned(), status.unwrap_or_else(|| panic!("{name}")).as_u16()))
        });
        pairs.collect()
    }

    #[test]
    fn every_problem_is_described() {
        let described: BTreeSet<_> =
            PROBLEMS.iter().map(|(slug, status)| ((*slug).to_owned(), *status)).collect();
        assert_eq!(described, written());
        // What no path has is answered by none, so that no operation can describe it.
        let mut missing: BTreeSet<_> = PROBLEMS.iter().map(|(slug, _)| *slug).collect();
        let lists = [ALWAYS, WITH_TOKEN, WITH_BODY, OF_ISSUING];
        lists.iter().flat_map(|list| list.iter()).for_each(|slug| assert!(missing.remove(slug)));
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), ["not-found"]);
    }

    #[test]
    fn the_description_is_complete() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 5);
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let place = format!("{method} {path}");
                let is_open = path == "/api/v1/openapi.json";
                assert_eq!(operation["security"].is_null(), is_open, "{place}");
                let responses = operation["responses"].as_object().unwrap();
                let statuses: Vec<u16> =
                    responses.keys().map(|status| status.parse().unwrap()).collect();
                let expected: &[u16] = match (path.contains("credentials"), method.as_str()) {
                    (true, "get") => &[200, 400, 401, 403, 405, 414, 429, 431, 500, 502, 503, 504],
                    (true, _) => {
                        &[200, 400, 401, 403, 405, 408, 413, 414, 415, 429, 431, 500, 502, 503, 504]
                    }
                    (false, _) if is_open => &[200, 405, 414, 431, 500, 503, 504],
                    (false, "get") => &[200, 401, 405, 414, 429, 431, 500, 503, 504],
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
