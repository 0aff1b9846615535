//! The list of all repositories of a host, which says the names of every project.

use ulid::Ulid;

use super::{AccessRequest, Rules};
use crate::domain::{Lifetime, RegistryName, Subject};

/// The approval to list repositories. Only [`Rules::authorize_catalog`] makes one.
#[derive(Debug)]
pub struct CatalogGrant {
    rules: Vec<String>,
}

impl CatalogGrant {
    /// The names of the rules.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }
}

impl Rules {
    /// Each of the registries that share the host must have a rule with `catalog = true`.
    pub fn authorize_catalog<'a>(
        &self,
        subject: &Subject,
        registries: impl IntoIterator<Item = &'a RegistryName>,
    ) -> Option<CatalogGrant> {
        let mut rules = Vec::new();
        for registry in registries {
            let request = AccessRequest {
                id: Ulid::nil(),
                registry: registry.clone(),
                // No such rule depends on the project: `parse` wants all of them.
                project: "any".parse().ok()?,
                actions: None,
                lifetime: Lifetime::default(),
                client: None,
            };
            let mut enforced = self.enforced(subject);
            let rule = enforced.find(|rule| rule.catalog && rule.matches(subject, &request))?;
            if !rules.iter().any(|name| name == rule.name()) {
                rules.push(rule.name().to_owned());
            }
        }
        (!rules.is_empty()).then_some(CatalogGrant { rules })
    }
}
