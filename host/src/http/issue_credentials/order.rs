//! From what a caller asks for to an order that may be carried out. Each step takes what the one
//! before it made.

use std::sync::Arc;

use tracing::Span;

use crate::broker::Broker;
use crate::domain::{IssueRequest, Project, Rights, Subject, Target};
use crate::http::observe;
use crate::http::problem::Failure;
use crate::http::request_context::RequestContext;
use crate::issue::Order;
use crate::registries::Registries;
use crate::rules::{AccessRequest, Grant};
use crate::telemetry::{Step, actions_label};

/// Settles, authorizes and limits one request. Denials are recorded, refusals counted.
pub(super) async fn order(
    broker: &Broker,
    context: RequestContext,
    subject: Subject,
    request: IssueRequest,
) -> Result<Order, Failure> {
    let metrics = &broker.process.metrics;
    let actions = actions_label(request.actions);
    let count = |registry: &str, failure: &Failure| {
        metrics.credentials(registry, actions, failure.problem_type().slug());
    };
    let settled = settle(broker, context, &subject, request).await;
    let access = settled.inspect_err(|failure| count("", failure))?;
    // Only names from the settings become labels.
    let registry = broker.generation.registries.find(&access.registry);
    let label = registry.map(|registry| registry.name.to_string()).unwrap_or_default();
    let granted = grant(broker, context, subject, access).await;
    granted.inspect_err(|failure| count(&label, failure))
}

/// Decides which registry and which project a request is about.
async fn settle(
    broker: &Broker,
    context: RequestContext,
    subject: &Subject,
    request: IssueRequest,
) -> Result<AccessRequest, Failure> {
    let Broker { process, .. } = broker;
    let settled = Step::Target
        .measure_now(&process.metrics, || access_request(broker, context, subject, request));
    if let Some(access) = settled? {
        observe::target(&access);
        return Ok(access);
    }
    process.audit.denied_unknown(context.id, context.client, subject).await;
    Err(Failure::Denied)
}

/// `None`: an image that lies in no registry.
fn access_request(
    broker: &Broker,
    RequestContext { id, client, .. }: RequestContext,
    subject: &Subject,
    request: IssueRequest,
) -> Result<Option<AccessRequest>, Failure> {
    let (registries, rules) = (&broker.generation.registries, &broker.generation.rules);
    let IssueRequest { target, registry, actions, lifetime } = request;
    let (registry, project) = match target {
        Target::Image(image) => match registries.owner(&image, registry.as_ref()) {
            Some(owner) => owner,
            None => return Ok(None),
        },
        Target::Project(project) => {
            let registry = match (registry, registries.default_name()) {
                (Some(named), _) => named,
                (None, Ok(default)) => default.clone(),
                (None, Err(error)) => {
                    let is_enough = |rights: Rights| !rights.actions().is_empty();
                    rules.only_registry(subject, &project, is_enough).ok_or_else(|| {
                        Failure::InvalidRequest(format!("{error}: name one as `registry`."))
                    })?
                }
            };
            within_depth(registries, &project)?;
            (registry, project)
        }
    };
    // A provider that is asked for more than its registry may give makes what is then rejected.
    let most = registries.find(&registry).map(|registry| registry.max_lifetime);
    let lifetime = most.map_or(lifetime, |most| lifetime.at_most(most));
    Ok(Some(AccessRequest { id, registry, project, actions, lifetime, client: Some(client) }))
}

/// Says at once that no registry has such a project, which tells nothing about any one of them.
fn within_depth(registries: &Registries, project: &Project) -> Result<(), Failure> {
    let (depth, most) = (project.depth(), registries.deepest());
    if depth <= most {
        return Ok(());
    }
    Err(Failure::InvalidRequest(format!(
        "`project`: it has {depth} components, and projects of this broker have at most {most}; \
         the operator raises `project_depth` of a registry for more."
    )))
}

/// Authorizes, counts for the project's limit, and reserves a token that is good for once.
async fn grant(
    broker: &Broker,
    context: RequestContext,
    subject: Subject,
    access: AccessRequest,
) -> Result<Order, Failure> {
    let Broker { process, generation } = broker;
    let grant = Arc::new(authorize(broker, subject, access).await?);
    let registry = generation.registries.find(grant.registry()).ok_or(Failure::Denied)?;
    let calls = generation.limits.registry(grant.registry()).ok_or(Failure::Denied)?;
    let admitted = generation.limits.admit(Arc::clone(&grant)).map_err(Failure::Limited)?;
    let token = match generation.identity.reserve(grant.subject()) {
        Ok(token) => token,
        Err(replayed) => {
            return Err(process.issuing.reject_replay(&grant, registry, replayed).await.into());
        }
    };
    let (registry, calls) = (Arc::clone(registry), Arc::clone(calls));
    Ok(Order { admitted, registry, calls, token, deadline: context.deadline })
}

async fn authorize(
    broker: &Broker,
    subject: Subject,
    access: AccessRequest,
) -> Result<Grant, Failure> {
    let Broker { process, generation } = broker;
    let decided =
        Step::Rules.measure_now(&process.metrics, || generation.rules.authorize(subject, access));
    match decided {
        Ok(grant) => Ok(grant),
        Err(denied) => {
            for rule in &denied.trial {
                tracing::info!(rule, "a rule in audit mode matches: it grants nothing");
            }
            let because = denied
                .refusals
                .iter()
                .map(|refusal| format!("{}: {}", refusal.rule, refusal.because));
            Span::current().record("because", because.collect::<Vec<_>>().join("; "));
            process.audit.denied(&denied).await;
            Err(Failure::Denied)
        }
    }
}
