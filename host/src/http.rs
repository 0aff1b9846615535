//! The HTTP API: every route, and what every answer has in common.
//!
//! To add an endpoint: a file here named by what it does, a line in [`router`] or [`admin_router`],
//! and an arm in `problem.rs` if it can fail in a new way.
//!
//! **Invariant:** a caller without a valid token gets 401 before its request is judged.

pub(crate) mod bearer;
mod body;
mod caller;
mod end_credential;
pub(crate) mod end_credentials;
mod explain;
mod health;
mod issue_credentials;
mod jwks;
mod list_providers;
mod list_registries;
pub mod listen;
mod manage_repository;
mod metrics;
mod observe;
mod openapi;
mod openid_configuration;
mod order;
mod possible_problems;
pub mod problem;
mod read_audit;
mod request_context;
pub(crate) mod token;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tower::ServiceBuilder;

use crate::broker::Broker;
use observe::Observed;
use problem::Failure;
use request_context::{RequestContext, give_context};

/// Long enough for every parameter that there is.
const MAX_URI: usize = 2 << 10;

/// What callers reach.
pub fn router(broker: Broker) -> Router {
    // A HEAD would issue credentials and throw them away.
    let credentials = get(issue_credentials::by_query)
        .head(other_method_for_credentials)
        .post(issue_credentials::by_body)
        .fallback(other_method_for_credentials);
    let tokens = get(token::by_query)
        .head(other_method_for_credentials)
        .post(token::by_form)
        .fallback(other_method_for_credentials);
    // A HEAD would use up a token that is good for one request.
    let repository = get(manage_repository::describe)
        .head(other_method_for_repositories)
        .put(manage_repository::create)
        .delete(manage_repository::retire)
        .fallback(other_method_for_repositories);
    let credential = delete(end_credential::end_credential);
    let description = openapi::text();
    let description = async move || openapi::openapi(description.clone());
    // The first one sees a request first and its answer last.
    let middleware = ServiceBuilder::new()
        .layer(from_fn_with_state(broker.clone(), give_context))
        .layer(from_fn_with_state(broker.clone(), trace::begin))
        .layer(from_fn_with_state(broker.clone(), answer))
        .layer(from_fn(refuse_long_uri))
        .layer(from_fn_with_state(broker.clone(), count_failed_authentication))
        .layer(from_fn_with_state(broker.clone(), token::read_form))
        .layer(from_fn_with_state(broker.clone(), bound));
    Router::new()
        .route("/registry/credentials", credentials.clone())
        .route("/api/v1/registry/credentials", credentials)
        .route("/api/v1/registry/credentials/{request_id}", credential)
        .route("/api/v1/registry/revocations", post(end_credentials::end_credentials))
        .route("/api/v1/registries", get(list_registries::list_registries))
        .route("/api/v1/repositories/{*project}", repository)
        .route("/api/v1/audit", get(read_audit::read_audit))
        .route("/api/v1/explain", post(explain::explain))
        .route("/api/v1/openapi.json", get(description))
        .route("/.well-known/openid-configuration", get(openid_configuration::openid_configuration))
        .route("/.well-known/jwks.json", get(jwks::jwks))
        .route("/token", tokens)
        .fallback(|| async { Failure::NotFound })
        .method_not_allowed_fallback(|| async { Failure::MethodNotAllowed })
        .layer(middleware)
        .with_state(broker)
}

/// The header is written here because axum adds `HEAD` wherever `GET` is.
async fn other_method_for_credentials() -> impl IntoResponse {
    ([(header::ALLOW, "GET,POST")], Failure::MethodNotAllowed)
}

async fn other_method_for_repositories() -> impl IntoResponse {
    ([(header::ALLOW, "GET,PUT,DELETE")], Failure::MethodNotAllowed)
}

/// What operators and orchestrators reach, on a listener of its own. Health is never shed, so
/// requests are not [`bound`] here.
pub fn admin_router(broker: Broker) -> Router {
    let middleware = ServiceBuilder::new()
        .layer(from_fn_with_state(broker.clone(), give_context))
        .layer(from_fn_with_state(broker.clone(), answer))
        .layer(from_fn(refuse_long_uri));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/providers", get(list_providers::list_providers))
        .fallback(|| async { Failure::NotFound })
        .method_not_allowed_fallback(|| async { Failure::MethodNotAllowed })
        .layer(middleware)
        .with_state(broker)
}

/// Gives each request its span and its place in the metrics, and each answer its headers. Writes
/// the body of a failure.
async fn answer(State(broker): State<Broker>, request: Request, next: Next) -> Response {
    let metrics = &broker.process.metrics;
    let RequestContext { id, client, .. } = match RequestContext::of(&request) {
        Ok(context) => context,
        Err(failure) => return failure.into_response(),
    };
    let mut observed = Observed::new(metrics, id, &request);
    let span = observed.span(client);
    let mut response = observed.follow(span.clone(), next.run(request)).await;
    observed.outcome = if response.status().is_server_error() { "failed" } else { "ok" };
    if let Some(failure) = response.extensions().get::<Arc<Failure>>().cloned() {
        observed.outcome = failure.problem_type().slug();
        if let Some(refused) = failure.limit() {
            metrics.limit_refused(refused.limit());
        }
        let is_summed = failure.is_refusal();
        if !is_summed || broker.process.refusals.has_line(client, observed.outcome) {
            span.in_scope(|| failure.log());
        }
        let allow = response.headers().get(header::ALLOW).cloned();
        response = failure.respond(id);
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
    }
    observed.status = Some(response.status().as_u16());
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

async fn refuse_long_uri(request: Request, next: Next) -> Response {
    let uri = request.uri().path_and_query();
    if uri.is_some_and(|uri| uri.as_str().len() > MAX_URI) {
        return Failure::UriTooLong.into_response();
    }
    next.run(request).await
}

/// Counts tokens that are missing or wrong for the audit log. They are counted before they are
/// written, because anybody can send them.
async fn count_failed_authentication(
    State(broker): State<Broker>,
    request: Request,
    next: Next,
) -> Response {
    let client = RequestContext::of(&request).map(|context| context.client.ip());
    let response = next.run(request).await;
    if let Some(failure) = response.extensions().get::<Arc<Failure>>()
        && let Some(reason) = failure.authentication()
    {
        broker.process.audit.authentication_failed(client.ok(), &reason);
    }
    response
}

/// Accepts no more requests than can be served at once, and ends each at its deadline.
async fn bound(State(broker): State<Broker>, request: Request, next: Next) -> Response {
    let deadline = match RequestContext::of(&request) {
        Ok(context) => context.deadline,
        Err(failure) => return failure.into_response(),
    };
    let served = async {
        match broker.generation.limits.enter().await {
            Ok(_in_flight) => next.run(request).await,
            Err(refused) => Failure::Limited(refused).into_response(),
        }
    };
    let answer = tokio::time::timeout_at(deadline.instant().into(), served).await;
    answer.unwrap_or_else(|_| Failure::TimedOut.into_response())
}
