//! `GET`, `PUT` and `DELETE /api/v1/repositories/{project}`: a caller looks at the repository of a
//! project, creates it, or retires it.
//!
//! The project is the rest of the path. Its `/` may be `%2F` or plain, because some proxies decode
//! one to the other; no path continues behind a project.

mod answer;
mod parse;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};

use super::caller::Caller;
use super::problem::Failure;
use super::request_context::RequestContext;
use super::{body, observe, order, possible_problems};
use crate::broker::Broker;
use crate::domain::{Lifetime, RepositoryOperation, Subject};
use crate::rules::AccessRequest;
use crate::telemetry::Step;
use answer::RepositoryAnswer;
use parse::RepositoryRequest;

type PathOfProject = Result<Path<String>, PathRejection>;
type Answer = Result<Json<RepositoryAnswer>, Failure>;

/// The repository of a project, for a caller who may do anything with the project.
#[utoipa::path(
    get,
    path = "/api/v1/repositories/{project}",
    params(parse::ProjectParameter, parse::RegistryParameter),
    responses(
        (status = 200, description = "What there is", body = RepositoryAnswer),
        possible_problems::Repository
    ),
    security(("token" = []))
)]
pub(super) async fn describe(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    path: PathOfProject,
    request: Request,
) -> Answer {
    manage(&broker, context, subject, (path, request, RepositoryOperation::Describe)).await
}

/// Creates the repository if there is none, and makes it what the settings say if it is managed.
/// Repeating it changes nothing.
#[utoipa::path(
    put,
    path = "/api/v1/repositories/{project}",
    params(parse::ProjectParameter, parse::RegistryParameter, parse::AdoptParameter),
    responses(
        (status = 200, description = "The managed repository", body = RepositoryAnswer),
        possible_problems::Repository
    ),
    security(("token" = []))
)]
pub(super) async fn create(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    path: PathOfProject,
    request: Request,
) -> Answer {
    manage(&broker, context, subject, (path, request, RepositoryOperation::Create)).await
}

/// Retires the repository: it becomes an orphan. An orphan is deleted if its registry has
/// `auto_remove` and its grace is over, and never by the request that made it one.
#[utoipa::path(
    delete,
    path = "/api/v1/repositories/{project}",
    params(parse::ProjectParameter, parse::RegistryParameter),
    responses(
        (status = 200, description = "What is left", body = RepositoryAnswer),
        possible_problems::Repository
    ),
    security(("token" = []))
)]
pub(super) async fn retire(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    path: PathOfProject,
    request: Request,
) -> Answer {
    manage(&broker, context, subject, (path, request, RepositoryOperation::Delete)).await
}

async fn manage(
    broker: &Broker,
    context: RequestContext,
    subject: Subject,
    (path, mut request, operation): (PathOfProject, Request, RepositoryOperation),
) -> Answer {
    let Broker { process, generation } = broker;
    body::must_be_empty(&mut request, process.edge.timeouts.body).await?;
    let RepositoryRequest { project, registry, adopt } = parse::request(path, &request, operation)?;
    let is_enough = |rights| operation.is_within(rights);
    let registry = order::registry_of(broker, (&subject, &project), registry, is_enough)?;
    let access = AccessRequest {
        id: context.id,
        registry,
        project,
        actions: None,
        lifetime: Lifetime::default(),
        client: Some(context.client),
    };
    observe::target(&access);
    let decide = || generation.rules.authorize_repository(subject, access, operation);
    let decided = Step::Rules.measure_now(&process.metrics, decide);
    let order = order::order(broker, context, decided).await?;
    let (grant, registry) = (order.admitted.grant().clone(), order.registry.clone());
    let state = process.issuing.repository(order, adopt).await?;
    tracing::info!(
        operation = operation.as_str(),
        ownership = state.ownership.as_str(),
        "answered a request about a repository"
    );
    Ok(Json(RepositoryAnswer::new(&registry, grant.project(), state, context.id)))
}
