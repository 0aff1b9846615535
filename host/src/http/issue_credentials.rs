//! `GET` and `POST /api/v1/registry/credentials`: a token in, credentials for one repository out.

mod parse;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use serde::Serialize;
use ulid::Ulid;

use super::RequestId;
use super::bearer::Bearer;
use super::problem::Failure;
use crate::app::App;
use crate::domain::{
    Actions, Credential, Credentials, EnforcedBy, IssueRequest, Scope, Subject, Target,
};
use crate::rules::{AccessRequest, Grant};

pub(super) async fn by_query(
    State(app): State<Arc<App>>,
    RequestId(id): RequestId,
    Bearer(token): Bearer,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer>, Failure> {
    let subject = app.identity.verify(&token).await?;
    let request = parse::query(query.as_deref().unwrap_or_default())?;
    issue_credentials(app, id, subject, request).await
}

pub(super) async fn by_body(
    State(app): State<Arc<App>>,
    RequestId(id): RequestId,
    Bearer(token): Bearer,
    request: Request,
) -> Result<Json<Answer>, Failure> {
    let subject = app.identity.verify(&token).await?;
    let request = parse::body(request).await?;
    issue_credentials(app, id, subject, request).await
}

async fn issue_credentials(
    app: Arc<App>,
    id: Ulid,
    subject: Subject,
    request: IssueRequest,
) -> Result<Json<Answer>, Failure> {
    let Some(access) = access_request(&app, id, request).await? else {
        app.record_denial(app.audit.denied_unknown(id, &subject).await);
        return Err(Failure::Denied);
    };
    let grant = authorize(&app, subject, access).await?;
    // A task of its own: what was begun is finished and recorded, also for a caller that has gone away.
    let clock = app.clock.clone();
    let credentials = tokio::spawn(async move { issue(&app, grant).await }).await;
    let credentials =
        credentials.unwrap_or_else(|error| Err(Failure::Internal(error.to_string())))?;
    Ok(Json(Answer::new(&credentials, id, clock.now())))
}

/// Settles which registry and which project a request is about. `None`: an image of nobody's.
async fn access_request(
    app: &App,
    id: Ulid,
    request: IssueRequest,
) -> Result<Option<AccessRequest>, Failure> {
    let IssueRequest { target, registry, actions, lifetime } = request;
    let (registry, project) = match target {
        Target::Image(image) => {
            match app.registries.owner(&image, registry.as_ref()).await.map_err(Failure::Lookup)? {
                Some(owner) => owner,
                None => return Ok(None),
            }
        }
        Target::Project(project) => {
            let default = || app.registries.default_name().cloned();
            let registry = registry.map_or_else(default, Ok);
            (
                registry.map_err(|error| {
                    Failure::InvalidRequest(format!("{error}: name one by `registry`."))
                })?,
                project,
            )
        }
    };
    Ok(Some(AccessRequest { id, registry, project, actions, lifetime }))
}

async fn authorize(
    app: &App,
    subject: Subject,
    access: AccessRequest,
) -> Result<Arc<Grant>, Failure> {
    match app.rules.authorize(subject, access) {
        Ok(grant) => Ok(Arc::new(grant)),
        Err(denied) => {
            for refusal in &denied.refusals {
                tracing::info!(request_id = %denied.request.id, rule = refusal.rule, because = refusal.because, "a rule does not allow it");
            }
            app.record_denial(app.audit.denied(&denied).await);
            Err(Failure::Denied)
        }
    }
}

/// Intent, call, outcome: each record is durable before the next step, the last one before the first byte of the answer.
async fn issue(app: &App, grant: Arc<Grant>) -> Result<Credentials, Failure> {
    let registry = app.registries.find(grant.registry()).ok_or(Failure::Denied)?;
    app.audit.intent(&grant, registry).await?;
    let started = Instant::now();
    match crate::issue::issue(registry, &grant, &app.clock).await {
        Ok(credentials) => {
            app.audit.completed(&grant, registry, &credentials, started.elapsed()).await?;
            tracing::info!(
                request_id = %grant.id(), issuer = grant.subject().issuer, sub = grant.subject().sub, registry = %grant.registry(),
                project = %grant.project(), actions = %grant.actions(), scope = %credentials.scope, "issued credentials",
            );
            Ok(credentials)
        }
        Err(error) => {
            tracing::warn!(request_id = %grant.id(), registry = %grant.registry(), digest = %registry.provider.digest, %error, "no credentials");
            let failure = Failure::Issue(error);
            app.audit.failed(&grant, registry, failure.slug(), started.elapsed()).await?;
            Err(failure)
        }
    }
}

/// The answer's JSON.
#[derive(Serialize)]
pub(super) struct Answer {
    credentials: CredentialFields,
    repository: String,
    image: String,
    project: String,
    registry: String,
    actions: Actions,
    scope: Scope,
    enforced_by: EnforcedBy,
    request_id: String,
}

/// Where a secret leaves. It is on its way to the caller, whose record is durable by now.
#[derive(Serialize)]
struct CredentialFields {
    registry_url: String,
    username: String,
    password: String,
    expires_in: Option<i64>,
    expires_at: Option<String>,
    kind: &'static str,
}

impl Answer {
    fn new(credentials: &Credentials, id: Ulid, now: jiff::Timestamp) -> Self {
        let username = match &credentials.credential {
            Credential::Basic { username, .. } => username.clone(),
            Credential::ClientAuth | Credential::Bearer(_) | Credential::Refresh(_) => {
                String::new()
            }
        };
        Self {
            credentials: CredentialFields {
                registry_url: credentials.location.host.to_string(),
                username,
                password: credentials
                    .credential
                    .secret()
                    .map(|it| it.expose().to_owned())
                    .unwrap_or_default(),
                expires_in: credentials.expires_at.map(|at| at.as_second() - now.as_second()),
                expires_at: credentials.expires_at.map(|at| at.to_string()),
                kind: credentials.credential.kind(),
            },
            repository: credentials.location.repository.clone(),
            image: credentials.location.to_string(),
            project: credentials.project.to_string(),
            registry: credentials.registry.to_string(),
            actions: credentials.actions,
            scope: credentials.scope,
            enforced_by: credentials.enforced_by,
            request_id: id.to_string(),
        }
    }
}
