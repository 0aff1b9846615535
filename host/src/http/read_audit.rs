//! `GET /api/v1/audit`: an operator reads the newest records of the audit log.
//!
//! **Invariant:** who reads is on record before anything is read.

mod parse;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::json;
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::caller::Caller;
use super::possible_problems;
use super::problem::Failure;
use super::request_context::RequestContext;
use crate::audit::{AuditReadFacts, Newest, SearchBounds, newest};
use crate::broker::Broker;
use crate::domain::Deadline;
use crate::issue::IssueError;
use crate::rules::OperatorRight;
use parse::AuditRequest;

/// A log of any size is searched so long. The answer says how far that went.
const PATIENCE: Duration = Duration::from_secs(5);
/// To write the answer.
const RESERVE: Duration = Duration::from_millis(500);

/// `records` are as the log has them.
#[derive(ToSchema)]
#[schema(as = AuditRecords, description = "The newest records that match, oldest first.")]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) struct AuditAnswer {
    /// The members of a record depend on its event.
    records: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Ask again with this as `until` for older records. `null`: no older record matches.
    #[schema(required, format = DateTime)]
    next_until: Option<String>,
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

/// The newest records of the audit log that match every parameter. Needs an operator who may read
/// it. Each reading is recorded too.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    params(parse::AuditParameters),
    responses(
        (status = 200, description = "The records", body = AuditAnswer),
        possible_problems::ReadAudit
    ),
    security(("token" = []))
)]
pub(super) async fn read_audit(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Failure> {
    let audit = &broker.process.audit;
    let operators = broker.generation.rules.operators();
    let by = (context.id, context.client, &subject);
    let Some(operator) = operators.find(&subject, OperatorRight::Audit) else {
        audit.denied_operation(by, "audit").await;
        return Err(Failure::Denied);
    };
    let now = broker.process.foundation.clock.now();
    let asked = parse::query(query.as_deref().unwrap_or_default(), now)?;
    let facts = AuditReadFacts {
        operator,
        project: asked.filter.project.as_deref(),
        registry: asked.filter.registry.as_deref(),
    };
    audit.read(by, &facts).await.map_err(IssueError::from)?;
    let found = search(&broker, asked, context.deadline.less(RESERVE).within(PATIENCE)).await?;
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, body(&found, &context.id.to_string())))
}

/// One search goes on at a time: it keeps a processor and a disk busy.
async fn search(
    broker: &Broker,
    asked: AuditRequest,
    deadline: Deadline,
) -> Result<Newest, Failure> {
    let turn = Arc::clone(&broker.process.searches).acquire_owned();
    let turn = timeout_at(deadline.instant().into(), turn).await;
    let Ok(Ok(turn)) = turn else { return Err(Failure::TimedOut) };
    let folder = broker.process.audit.folder();
    let durable = Some(*broker.process.audit.durable().borrow()).filter(|durable| durable.seq > 0);
    let bounds = SearchBounds { most: asked.limit, deadline, durable };
    let searching = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        newest(&folder, &asked.filter, bounds)
    });
    let found = searching.await.map_err(|error| Failure::Internal(error.to_string()))?;
    let found = found.map_err(|error| Failure::Internal(format!("the audit log: {error}")))?;
    found.ok_or(Failure::TimedOut)
}

/// The records go out as the log has them, byte for byte.
fn body(found: &Newest, request_id: &str) -> String {
    let (records, next_until) = (found.lines.join(","), found.before.map(|at| at.to_string()));
    let (next_until, request_id) = (json!(next_until), json!(request_id));
    format!(r#"{{"records":[{records}],"next_until":{next_until},"request_id":{request_id}}}"#)
}
