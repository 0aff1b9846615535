//! A grant for an author who tries a provider with settings of their own. A rule makes it, as it
//! makes every grant.

use std::sync::Arc;

use serde_json::json;
use ulid::Ulid;

use rise_broker::domain::{Actions, Claims, Lifetime, Project, Subject};
use rise_broker::registries::Registry;
use rise_broker::rules::{AccessRequest, Grant, Known, RuleFile, Rules};

const AUTHOR: &str = "author";

/// Makes a grant. `None` for `actions` means pull and push, and `None` for `lifetime` an hour. As
/// in a broker, it is not longer than the registry's `max_lifetime`.
pub(crate) fn grant(
    registry: &Registry,
    project: &Project,
    actions: Option<Actions>,
    lifetime: Option<Lifetime>,
) -> Result<Arc<Grant>, String> {
    let name = &registry.name;
    if !registry.shape.admits(project) {
        return Err(format!(
            "registry `{name}` has projects {}, and `{project}` is none: see `project_depth`",
            registry.shape
        ));
    }
    let rule = json!({
        "name": AUTHOR,
        "issuer": AUTHOR,
        "claims": { "repository": "{project}" },
        "projects": ["*"],
        "registries": [name.as_str()], "allow": ["pull", "push"],
    });
    let rule: RuleFile = serde_json::from_value(rule).map_err(|error| error.to_string())?;
    let known = Known::new([AUTHOR], [name.clone()]).shape(name, registry.shape);
    let rules = Rules::parse(vec![rule], &known);
    let rules = rules.map_err(|problems| {
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
    })?;
    let claims = Claims::from_iter([("repository".to_owned(), json!(project.as_str()))]);
    let subject = Subject { issuer: AUTHOR.to_owned(), sub: AUTHOR.to_owned(), claims };
    let request = AccessRequest {
        id: Ulid::generate(),
        registry: name.clone(),
        project: project.clone(),
        actions,
        lifetime: lifetime.unwrap_or_default().at_most(registry.max_lifetime),
        client: None,
    };
    rules.authorize(subject, request).map(Arc::new).map_err(|denied| denied.to_string())
}
