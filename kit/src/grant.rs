//! A grant for an author who tries a provider with settings of their own. A rule makes it, as it
//! makes every grant.

use std::sync::Arc;

use serde_json::json;
use ulid::Ulid;

use rise_broker::domain::{Actions, Claims, Lifetime, Project, RegistryName, Subject};
use rise_broker::rules::{AccessRequest, Grant, Known, RuleFile, Rules};

const AUTHOR: &str = "author";

/// Makes a grant. `None` for `actions` means pull and push.
pub(crate) fn grant(
    registry: &RegistryName,
    project: &Project,
    actions: Option<Actions>,
) -> Result<Arc<Grant>, String> {
    let rule = json!({
        "name": AUTHOR,
        "issuer": AUTHOR,
        "claims": { "repository": "{project}" },
        "projects": ["*"],
        "registries": [registry.as_str()], "allow": ["pull", "push"],
    });
    let rule: RuleFile = serde_json::from_value(rule).map_err(|error| error.to_string())?;
    let rules = Rules::parse(vec![rule], &Known::new([AUTHOR], [registry.clone()]));
    let rules = rules.map_err(|problems| {
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
    })?;
    let claims = Claims::from_iter([("repository".to_owned(), json!(project.as_str()))]);
    let subject = Subject { issuer: AUTHOR.to_owned(), sub: AUTHOR.to_owned(), claims };
    let request = AccessRequest {
        id: Ulid::generate(),
        registry: registry.clone(),
        project: project.clone(),
        actions,
        lifetime: Lifetime::default(),
        client: None,
    };
    rules.authorize(subject, request).map(Arc::new).map_err(|denied| denied.to_string())
}
