//! From what a caller asks for to an order for credentials.

use crate::broker::Broker;
use crate::domain::{IssueRequest, Rights, Subject, Target};
use crate::http::observe;
use crate::http::order;
use crate::http::problem::Failure;
use crate::http::request_context::RequestContext;
use crate::issue::Order;
use crate::rules::AccessRequest;
use crate::telemetry::{Step, actions_label};

/// Settles, authorizes and limits one request. Denials are recorded, refusals counted.
pub(super) async fn order(
    broker: &Broker,
    context: RequestContext,
    subject: Subject,
    request: IssueRequest,
) -> Result<Order, Failure> {
    let Broker { process, generation } = broker;
    let actions = actions_label(request.actions);
    let count = |registry: &str, failure: &Failure| {
        process.metrics.credentials(registry, actions, failure.problem_type().slug());
    };
    let settled = settle(broker, context, &subject, request).await;
    let access = settled.inspect_err(|failure| count("", failure))?;
    // Only names from the settings become labels.
    let registry = generation.registries.find(&access.registry);
    let label = registry.map(|registry| registry.name.to_string()).unwrap_or_default();
    let decide = || generation.rules.authorize(subject, access);
    let decided = Step::Rules.measure_now(&process.metrics, decide);
    let ordered = order::order(broker, context, decided).await;
    ordered.inspect_err(|failure| count(&label, failure))
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
    let registries = &broker.generation.registries;
    let IssueRequest { target, registry, actions, lifetime } = request;
    let (registry, project) = match target {
        Target::Image(image) => match registries.owner(&image, registry.as_ref()) {
            Some(owner) => owner,
            None => return Ok(None),
        },
        Target::Project(project) => {
            let is_enough = |rights: Rights| !rights.actions().is_empty();
            let registry = order::registry_of(broker, (subject, &project), registry, is_enough)?;
            (registry, project)
        }
    };
    // A provider that is asked for more than its registry may give makes what is then rejected.
    let most = registries.find(&registry).map(|registry| registry.max_lifetime);
    let lifetime = most.map_or(lifetime, |most| lifetime.at_most(most));
    Ok(Some(AccessRequest { id, registry, project, actions, lifetime, client: Some(client) }))
}
