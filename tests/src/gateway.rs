//! The registry behind a double that decides who may do what: a real docker-registry, so that real
//! clients push to the double and pull from it.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::{DockerRegistry, RegistryAuth};

const LARGEST_BODY: usize = 16 << 20;

/// A registry that lets everybody in, behind a front.
#[derive(Debug)]
pub(crate) struct Gateway {
    registry: DockerRegistry,
    client: reqwest::Client,
}

/// The repository that a request is about, and the action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub repository: String,
    pub action: &'static str,
}

impl Asked {
    /// `None` is the base of the API, `/v2/`.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        let ends = ["/manifests/", "/blobs/", "/tags/"].iter().filter_map(|part| rest.rfind(part));
        let repository = rest.get(..ends.min()?)?.to_owned();
        let is_pull = matches!(*method, Method::GET | Method::HEAD);
        Some(Self { repository, action: if is_pull { "pull" } else { "push" } })
    }

    /// What a client is told to ask for: nobody pushes who may not pull.
    pub(crate) fn scope(&self) -> String {
        let actions = if self.action == "push" { "pull,push" } else { self.action };
        format!("repository:{}:{actions}", self.repository)
    }
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .tls_certs_only([])
            .build();
        let registry = DockerRegistry::start(RegistryAuth::Anonymous).await;
        Self { registry, client: client.unwrap() }
    }

    /// Answers as the registry does. It writes addresses with the host of the request.
    pub(crate) async fn forward(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let url = format!("{}{}", self.registry.url(), parts.uri);
        let body = to_bytes(body, LARGEST_BODY).await.unwrap();
        let mut headers = parts.headers;
        for name in [AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        let sent = self.client.request(parts.method, url).headers(headers).body(body).send().await;
        let answer = sent.unwrap();
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if name != TRANSFER_ENCODING {
                response = response.header(name, value);
            }
        }
        response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
    }
}

/// The answer that sends a client to a token server.
pub(crate) fn challenge(realm: &str, service: &str, scope: &str) -> Response {
    let value = format!("Bearer realm=\"{realm}\",service=\"{service}\",scope=\"{scope}\"");
    let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "unauthorized" }] });
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, value)], axum::Json(body)).into_response()
}

/// The user and the password of Basic authentication.
pub(crate) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let pair = BASE64_STANDARD.decode(authorization(headers, "Basic ")?).ok()?;
    let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers, "Bearer ")
}

fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_a_repository() {
        for (method, path, repository, action) in [
            (Method::GET, "/v2/a/b/manifests/v1", "a/b", "pull"),
            (Method::HEAD, "/v2/a/blobs/sha256:00", "a", "pull"),
            (Method::PUT, "/v2/a/manifests/v1", "a", "push"),
            (Method::POST, "/v2/a/b/blobs/uploads/", "a/b", "push"),
            (Method::GET, "/v2/a/tags/list", "a", "pull"),
        ] {
            let asked = Asked { repository: repository.to_owned(), action };
            assert_eq!(Asked::of(&method, path), Some(asked), "{path}");
        }
        assert_eq!(Asked::of(&Method::GET, "/v2/"), None);
    }
}
