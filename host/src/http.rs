//! The HTTP API: every route, and what every answer has in common.
//!
//! To add an endpoint: a file here named by what it does, a line in [`router`] or [`admin_router`], and an arm in
//! `problem.rs` if it can fail in a new way.
//!
//! **Invariant:** an unauthenticated caller sees 401 before anything about its request is judged.

pub(crate) mod bearer;
mod body;
mod caller;
mod client;
mod explain;
mod health;
mod issue_credentials;
mod list_providers;
mod list_registries;
pub mod listen;
mod metrics;
mod observe;
mod openapi;
pub mod problem;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tracing::Instrument;
use ulid::Ulid;

use crate::app::App;
use crate::domain::Deadline;
use observe::Observed;
use problem::Failure;

/// Long enough for every parameter that there is.
const MAX_URI: usize = 2 << 10;

/// What callers reach.
pub fn router(app: Arc<App>) -> Router {
    // A HEAD would issue credentials and throw them away.
    let credentials = get(issue_credentials::by_query)
        .head(|| async { Failure::MethodNotAllowed })
        .post(issue_credentials::by_body);
    let description = openapi::text();
    let description = async move || openapi::openapi(description.clone());
    Router::new()
        .route("/registry/credentials", credentials.clone())
        .route("/api/v1/registry/credentials", credentials)
        .route("/api/v1/registries", get(list_registries::list_registries))
        .route("/api/v1/explain", post(explain::explain))
        .route("/api/v1/openapi.json", get(description))
        .fallback(|| async { Failure::NotFound })
        .method_not_allowed_fallback(|| async { Failure::MethodNotAllowed })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), bound))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), answer))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count_failed_authentication))
        .with_state(app)
}

/// What operators and orchestrators reach, on a listener of its own.
pub fn admin_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/providers", get(list_providers::list_providers))
        .fallback(|| async { Failure::NotFound })
        .method_not_allowed_fallback(|| async { Failure::MethodNotAllowed })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), answer))
        .with_state(app)
}

/// The id of a request: in its answer, its log lines, its audit records, and what it does in AWS.
#[derive(Clone, Copy)]
pub struct RequestId(pub Ulid);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts
            .extensions
            .get()
            .copied()
            .ok_or_else(|| Failure::Internal("a request without an id".to_owned()))
    }
}

/// Takes no more requests than can be served, and gives each its deadline. Not for the admin listener: health is never shed.
async fn bound(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let _in_flight = match app.limits.enter() {
        Ok(in_flight) => in_flight,
        Err(refused) => return Failure::Limited(refused).into_response(),
    };
    let deadline = Deadline::after(app.edge.timeouts.request);
    request.extensions_mut().insert(deadline);
    let answer = tokio::time::timeout_at(deadline.instant().into(), next.run(request)).await;
    answer.unwrap_or_else(|_| Failure::TimedOut.into_response())
}

impl<S: Sync> FromRequestParts<S> for Deadline {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let deadline = parts.extensions.get().copied();
        deadline.ok_or_else(|| Failure::Internal("a request without a deadline".to_owned()))
    }
}

/// Finds out whom a request is from. Tokens that are missing or wrong are recorded too: counted, since anybody can send them.
async fn count_failed_authentication(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = client::address(&request, &app.edge.trusted_proxies);
    request.extensions_mut().insert(client);
    let response = next.run(request).await;
    if let Some(failure) = response.extensions().get::<Arc<Failure>>()
        && let Some(reason) = failure.authentication()
    {
        app.audit.authentication_failed(Some(client.ip()), &reason);
    }
    response
}

/// Gives each request its id and each answer its headers, and writes the body of a failure.
async fn answer(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = Ulid::generate();
    request.extensions_mut().insert(RequestId(id));
    let mut observed = Observed::new(&app.metrics, &request);
    let span = observed.span(id);
    let is_long = request.uri().path_and_query().is_some_and(|it| it.as_str().len() > MAX_URI);
    let mut response = if is_long {
        Failure::UriTooLong.into_response()
    } else {
        next.run(request).instrument(span.clone()).await
    };
    observed.outcome = if response.status().is_server_error() { "failed" } else { "ok" };
    if let Some(failure) = response.extensions().get::<Arc<Failure>>().cloned() {
        observed.outcome = failure.slug();
        if let Failure::Limited(refused) = &*failure {
            app.metrics.limit_refused(refused.limit());
        }
        span.in_scope(|| failure.log());
        let allow = response.headers().get(header::ALLOW).cloned();
        response = failure.respond(id);
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
        response.extensions_mut().insert(failure);
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}
