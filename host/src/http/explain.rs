//! `POST /api/v1/explain`: how the broker sees the caller, and what the caller may do.
//!
//! **Invariant:** the answer never says why a rule does not match, or whether a project exists.
//! That is for the command `rise-broker explain` and the operator's log.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem::Failure;
use super::request_context::RequestContext;
use super::{body, possible_problems};
use crate::broker::Broker;
use crate::domain::{Claims, Project, Rights, Subject};
use crate::rules::Holding;

const MEMBERS: &[body::Member] = &[("project", "a text")];

/// A JSON object, which may be empty.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExplainParameters)]
pub(super) struct ExplainParameters {
    #[schema(
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$",
        max_length = 128
    )]
    project: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Explained {
    /// The issuer's name in the broker's settings.
    issuer: String,
    sub: String,
    #[schema(value_type = Object)]
    claims: Claims,
    grants: Vec<GrantFields>,
    request_id: String,
}

#[derive(Serialize, ToSchema)]
struct GrantFields {
    registry: String,
    /// A name, `team/*`, `team-*`, `team/**` or `*`.
    projects: String,
    /// Of `pull`, `push`, `create` and `delete`.
    #[schema(value_type = Vec<String>)]
    actions: Rights,
}

/// How the broker sees the caller, and what the caller may do.
#[utoipa::path(
    post,
    path = "/api/v1/explain",
    request_body = ExplainParameters,
    responses(
        (status = 200, description = "The caller's own claims and grants", body = Explained),
        possible_problems::Explain
    ),
    security(("token" = []))
)]
pub(super) async fn explain(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    request: Request,
) -> Result<Json<Explained>, Failure> {
    let parameters: ExplainParameters =
        body::json(request, broker.process.edge.timeouts.body, MEMBERS).await?;
    let project = parameters.project.map(|name| name.parse::<Project>()).transpose();
    let project =
        project.map_err(|error| Failure::InvalidRequest(format!("`project`: {error}.")))?;
    let (subject, holdings) = look_up(&broker, subject, project).await?;
    let grants = holdings.into_iter().map(|it| GrantFields {
        registry: it.registry.to_string(),
        projects: it.projects,
        actions: it.actions,
    });
    Ok(Json(Explained {
        grants: grants.collect(),
        issuer: subject.issuer,
        sub: subject.sub,
        claims: subject.claims,
        request_id: context.id.to_string(),
    }))
}

/// Thousands of rules take tenths of a second, so they are walked on a thread for blocking work.
async fn look_up(
    broker: &Broker,
    subject: Subject,
    project: Option<Project>,
) -> Result<(Subject, Vec<Holding>), Failure> {
    let ended = |error: &dyn std::fmt::Display| Failure::Internal(format!("explain: {error}"));
    let _turn = broker.process.explaining.acquire().await.map_err(|error| ended(&error))?;
    let generation = Arc::clone(&broker.generation);
    let walk = move || {
        let holdings = generation.rules.holdings(&subject, project.as_ref());
        (subject, holdings)
    };
    tokio::task::spawn_blocking(walk).await.map_err(|error| ended(&error))
}
