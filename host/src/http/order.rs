//! From a request whose project is known to an order that may be carried out. Each step takes what
//! the one before it made.

use std::sync::Arc;

use tracing::Span;

use super::problem::Failure;
use super::request_context::RequestContext;
use crate::broker::Broker;
use crate::domain::{Project, RegistryName, Rights, Subject};
use crate::issue::Order;
use crate::registries::Registries;
use crate::rules::{Denied, Grant};
use crate::telemetry::traces;

/// Returns the registry of a request for `project`: the named one, else the default, else the only
/// one in which the caller's rights are enough.
pub(super) fn registry_of(
    broker: &Broker,
    (subject, project): (&Subject, &Project),
    named: Option<RegistryName>,
    is_enough: impl Fn(Rights) -> bool,
) -> Result<RegistryName, Failure> {
    let (registries, rules) = (&broker.generation.registries, &broker.generation.rules);
    let registry = match (named, registries.default_name()) {
        (Some(named), _) => named,
        (None, Ok(default)) => default.clone(),
        (None, Err(error)) => rules
            .only_registry(subject, project, is_enough)
            .ok_or_else(|| Failure::InvalidRequest(format!("{error}: name one as `registry`.")))?,
    };
    within_depth(registries, project)?;
    Ok(registry)
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

/// Records a denial. Counts a grant for the project's limit, and reserves a token that is good for
/// once.
pub(super) async fn order(
    broker: &Broker,
    context: RequestContext,
    decided: Result<Grant, Box<Denied>>,
) -> Result<Order, Failure> {
    let Broker { process, generation } = broker;
    let grant = match decided {
        Ok(grant) => Arc::new(grant),
        Err(denied) => return Err(refuse(broker, &denied).await),
    };
    let registry = generation.registries.find(grant.registry()).ok_or(Failure::Denied)?;
    let calls = generation.limits.registry(grant.registry()).ok_or(Failure::Denied)?;
    let admitted = generation.limits.admit(Arc::clone(&grant)).await.map_err(Failure::Limited)?;
    let token = match generation.identity.reserve(grant.subject()).await {
        Ok(token) => token,
        Err(replayed) => {
            return Err(process.issuing.reject_replay(&grant, registry, replayed).await.into());
        }
    };
    let (registry, calls) = (Arc::clone(registry), Arc::clone(calls));
    Ok(Order { admitted, registry, calls, token, deadline: context.deadline })
}

async fn refuse(broker: &Broker, denied: &Denied) -> Failure {
    for rule in &denied.trial {
        tracing::info!(rule, "a rule in audit mode matches: it grants nothing");
    }
    let because =
        denied.refusals.iter().map(|refusal| format!("{}: {}", refusal.rule, refusal.because));
    let because = because.collect::<Vec<_>>().join("; ");
    traces::refused(&because);
    Span::current().record("because", because);
    broker.process.audit.denied(denied).await;
    Failure::Denied
}
