//! `GET` and `POST /api/v1/registry/credentials`: a token in, credentials for one repository out.

mod answer;
mod order;
mod parse;

use axum::Json;
use axum::extract::{Request, State};

use super::caller::Caller;
use super::problem::Failure;
use super::request_context::RequestContext;
use super::{body, possible_problems};
use crate::broker::Broker;
use crate::domain::{IssueRequest, Subject};
use answer::CredentialsAnswer;
use order::order;

/// Credentials for one repository, asked for by query.
#[utoipa::path(
    get,
    path = "/api/v1/registry/credentials",
    params(parse::CredentialParameters),
    responses(
        (status = 200, description = "The credentials", body = CredentialsAnswer),
        possible_problems::ByQuery
    ),
    security(("token" = []))
)]
pub(super) async fn by_query(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    mut request: Request,
) -> Result<Json<CredentialsAnswer>, Failure> {
    body::must_be_empty(&mut request, broker.process.edge.timeouts.body).await?;
    let request = parse::query(request.uri().query().unwrap_or_default())?;
    issue_credentials(&broker, context, subject, request).await
}

/// Credentials for one repository, asked for by a JSON body.
#[utoipa::path(
    post,
    path = "/api/v1/registry/credentials",
    request_body = parse::CredentialParameters,
    responses(
        (status = 200, description = "The credentials", body = CredentialsAnswer),
        possible_problems::ByBody
    ),
    security(("token" = []))
)]
pub(super) async fn by_body(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    request: Request,
) -> Result<Json<CredentialsAnswer>, Failure> {
    let request = parse::body(request, broker.process.edge.timeouts.body).await?;
    issue_credentials(&broker, context, subject, request).await
}

async fn issue_credentials(
    broker: &Broker,
    context: RequestContext,
    subject: Subject,
    request: IssueRequest,
) -> Result<Json<CredentialsAnswer>, Failure> {
    let order = order(broker, context, subject, request).await?;
    let issued = broker.process.issuing.issue(order).await?;
    let now = broker.process.foundation.clock.now();
    Ok(Json(CredentialsAnswer::new(&issued, context.id, now)))
}
