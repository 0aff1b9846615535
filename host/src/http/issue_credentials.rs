//! `GET` and `POST /api/v1/registry/credentials`: a token in, credentials for one repository out.

mod parse;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::{Instrument, Span};
use ulid::Ulid;
use utoipa::ToSchema;

use super::caller::Caller;
use super::client::Client;
use super::problem::Failure;
use super::{RequestId, observe, openapi};
use crate::app::App;
use crate::domain::{
    Action, Actions, ClientAddress, Credential, Credentials, Deadline, EnforcedBy, IssueRequest,
    Scope, Subject, Target,
};
use crate::limits::Admitted;
use crate::rules::{AccessRequest, Grant};
use crate::telemetry::Step;

/// Credentials for one repository, asked for by query.
#[utoipa::path(
    get,
    path = "/api/v1/registry/credentials",
    params(parse::Parameters),
    responses((status = 200, description = "The credentials", body = Answer), openapi::ByQuery),
    security(("token" = []))
)]
pub(super) async fn by_query(
    State(app): State<Arc<App>>,
    RequestId(id): RequestId,
    deadline: Deadline,
    Client(client): Client,
    Caller(subject): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer>, Failure> {
    let request = parse::query(query.as_deref().unwrap_or_default())?;
    issue_credentials(app, (id, client, deadline), subject, request).await
}

/// Credentials for one repository, asked for by a JSON body.
#[utoipa::path(
    post,
    path = "/api/v1/registry/credentials",
    request_body = parse::Parameters,
    responses((status = 200, description = "The credentials", body = Answer), openapi::ByBody),
    security(("token" = []))
)]
pub(super) async fn by_body(
    State(app): State<Arc<App>>,
    RequestId(id): RequestId,
    deadline: Deadline,
    Client(client): Client,
    Caller(subject): Caller,
    request: Request,
) -> Result<Json<Answer>, Failure> {
    let request = parse::body(request, app.edge.timeouts.body).await?;
    issue_credentials(app, (id, client, deadline), subject, request).await
}

async fn issue_credentials(
    app: Arc<App>,
    (id, client, deadline): (Ulid, ClientAddress, Deadline),
    subject: Subject,
    request: IssueRequest,
) -> Result<Json<Answer>, Failure> {
    let asked = name(request.actions);
    let refused = |registry: &str, failure: &Failure| {
        app.metrics.credentials(registry, asked, failure.slug());
    };
    let access =
        Step::Target.measure_now(&app.metrics, || access_request(&app, (id, client), request));
    let Some(access) = access.inspect_err(|failure| refused("", failure))? else {
        app.record_denial(app.audit.denied_unknown(id, client, &subject)).await;
        refused("", &Failure::Denied);
        return Err(Failure::Denied);
    };
    observe::target(&access);
    // Only names of the settings become labels.
    let registry = app.registries.find(&access.registry).map(|it| it.name.to_string());
    let refused = |failure: &Failure| refused(registry.as_deref().unwrap_or_default(), failure);
    let grant = authorize(&app, subject, access).await.inspect_err(refused)?;
    let admitted = app.limits.admit(grant, deadline).await.map_err(Failure::Limited);
    let admitted = admitted.inspect_err(refused)?;
    // A task of its own: what was begun is finished and recorded, also for a caller that has gone away.
    let (clock, task) = (app.clock.clone(), issue_and_count(app, admitted));
    let (answer, answered) = oneshot::channel();
    let task = async move {
        // With nobody left to answer it is said here what went wrong.
        if let Err(Err(failure)) = answer.send(task.await) {
            failure.log();
        }
    };
    tokio::spawn(task.in_current_span());
    let ended = |_| Err(Failure::Internal("the task of this request ended early".to_owned()));
    let credentials = answered.await.unwrap_or_else(ended)?;
    Ok(Json(Answer::new(&credentials, id, clock.now())))
}

async fn issue_and_count(app: Arc<App>, admitted: Admitted) -> Result<Credentials, Failure> {
    let issued = issue(&app, &admitted).await;
    let grant = admitted.grant();
    let outcome = issued.as_ref().err().map_or("ok", Failure::slug);
    app.metrics.credentials(grant.registry().as_str(), name(Some(grant.actions())), outcome);
    issued
}

/// As metrics name them.
fn name(actions: Option<Actions>) -> &'static str {
    let Some(actions) = actions else { return "any" };
    match (actions.contains(Action::Pull), actions.contains(Action::Push)) {
        (true, true) => "pull,push",
        (true, false) => "pull",
        (false, true) => "push",
        (false, false) => "none",
    }
}

/// Settles which registry and which project a request is about. `None`: an image of nobody's.
fn access_request(
    app: &App,
    (id, client): (Ulid, ClientAddress),
    request: IssueRequest,
) -> Result<Option<AccessRequest>, Failure> {
    let IssueRequest { target, registry, actions, lifetime } = request;
    let (registry, project) = match target {
        Target::Image(image) => match app.registries.owner(&image, registry.as_ref()) {
            Some(owner) => owner,
            None => return Ok(None),
        },
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
    Ok(Some(AccessRequest { id, registry, project, actions, lifetime, client: Some(client) }))
}

async fn authorize(
    app: &App,
    subject: Subject,
    access: AccessRequest,
) -> Result<Arc<Grant>, Failure> {
    match Step::Rules.measure_now(&app.metrics, || app.rules.authorize(subject, access)) {
        Ok(grant) => Ok(Arc::new(grant)),
        Err(denied) => {
            for rule in &denied.trial {
                tracing::info!(rule, "a rule on trial matches: it grants nothing");
            }
            let because = denied.refusals.iter().map(|it| format!("{}: {}", it.rule, it.because));
            Span::current().record("because", because.collect::<Vec<_>>().join("; "));
            app.record_denial(app.audit.denied(&denied)).await;
            Err(Failure::Denied)
        }
    }
}

/// Intent, call, outcome: each record is durable before the next step, the last one before the first byte of the answer.
async fn issue(app: &App, admitted: &Admitted) -> Result<Credentials, Failure> {
    let grant = admitted.grant();
    let registry = app.registries.find(grant.registry()).ok_or(Failure::Denied)?;
    let token = match app.identity.reserve(grant.subject()) {
        Ok(token) => token,
        Err(replayed) => {
            let failure = Failure::Replayed(replayed);
            app.audit.failed(grant, registry, failure.slug(), Duration::ZERO).await?;
            return Err(failure);
        }
    };
    let (audit, provider) = (&app.audit, &registry.provider);
    let (span, actions) = (Span::current(), name(Some(grant.actions())));
    let (digest, provider) = (&*provider.digest, provider.manifest.name.as_str());
    tracing::record_all!(span, actions = actions, provider = provider, digest = digest);
    let outcome = Step::AuditOutcome;
    app.record(Step::AuditIntent, "issue.intent", audit.intent(grant, registry)).await?;
    let started = Instant::now();
    let issued = crate::issue::issue(registry, admitted, &app.clock);
    match Step::Provider.measure(&app.metrics, issued).await {
        Ok(credentials) => {
            let recording = audit.completed(grant, registry, &credentials, started.elapsed());
            app.record(outcome, "issue.completed", recording).await?;
            token.commit();
            tracing::info!(scope = %credentials.scope, "issued credentials");
            Ok(credentials)
        }
        Err(error) => {
            let failure = Failure::Issue(error);
            let recording = audit.failed(grant, registry, failure.slug(), started.elapsed());
            app.record(outcome, "issue.failed", recording).await.inspect_err(|_| failure.log())?;
            Err(failure)
        }
    }
}

/// The answer's JSON.
#[derive(Serialize, ToSchema)]
#[schema(as = Credentials, description = "What was issued, and what it is good for.")]
pub(super) struct Answer {
    credentials: CredentialFields,
    repository: String,
    /// `{registry_url}/{repository}`: with `:tag` behind it, a reference to push to.
    image: String,
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    project: String,
    registry: String,
    #[schema(value_type = Vec<String>, example = json!(["pull", "push"]))]
    actions: Actions,
    #[schema(value_type = String, pattern = "^(none|repository|namespace|registry)$")]
    scope: Scope,
    #[schema(value_type = String, pattern = "^(host|provider)$")]
    enforced_by: EnforcedBy,
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

/// Where a secret leaves. It is on its way to the caller, whose record is durable by now.
#[derive(Serialize, ToSchema)]
#[schema(as = Login, description = "For the registry's login.")]
struct CredentialFields {
    registry_url: String,
    username: String,
    password: String,
    /// Seconds; `null` where nothing ends.
    #[schema(required)]
    expires_in: Option<i64>,
    /// `null` where nothing ends.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    #[schema(pattern = "^(basic|client-auth|bearer|refresh)$")]
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
