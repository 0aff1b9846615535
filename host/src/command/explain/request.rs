//! What `explain` is asked about, settled as the server settles a request.

use std::collections::BTreeMap;
use std::fmt::Display;

use ulid::Ulid;

use super::ExplainArguments;
use crate::config::{Config, RegistryConfig};
use crate::domain::{Actions, Lifetime, Project, RegistryName, Subject};
use crate::registries::default_name;
use crate::rules::{AccessRequest, Rules};

/// What the command line asks for. Only the token may tell in which registry.
pub(super) struct ExplainRequest {
    project: Project,
    registry: Option<RegistryName>,
    actions: Option<Actions>,
}

impl ExplainRequest {
    pub(super) fn parse(
        arguments: &ExplainArguments,
        config: &Config,
    ) -> Result<Self, Vec<String>> {
        let wrong = |name: &str, error: &dyn Display| vec![format!("--{name}: {error}")];
        let project = arguments.project.parse().map_err(|error| wrong("project", &error))?;
        let registry = arguments.registry.as_deref().map(str::parse::<RegistryName>).transpose();
        let registry = registry.map_err(|error| wrong("registry", &error))?;
        if let Some(name) = &registry
            && !config.registries.contains_key(name)
        {
            let names: Vec<&str> = config.registries.keys().map(RegistryName::as_str).collect();
            let names = names.join(", ");
            let message = format!("`{name}` is not in [registries], expected one of {names}");
            return Err(wrong("registry", &message));
        }
        let actions = arguments.actions.as_deref().map(|text| Actions::parse([text])).transpose();
        let actions = actions.map_err(|error| wrong("actions", &error))?;
        Ok(Self { project, registry, actions })
    }

    /// Names the registry as the server does. If the token cannot be read, any one will do: the
    /// answer does not depend on it.
    pub(super) fn settle(
        self,
        subject: Option<&Subject>,
        rules: &Rules,
        registries: &BTreeMap<RegistryName, RegistryConfig>,
    ) -> Result<AccessRequest, Vec<String>> {
        let Self { project, registry, actions } = self;
        let registry = match (registry, default_name(registries), subject) {
            (Some(named), _, _) => Some(named),
            (None, Ok(default), _) => Some(default.clone()),
            (None, Err(_), None) => registries.keys().next().cloned(),
            (None, Err(error), Some(subject)) => {
                let only = rules.only_registry(subject, &project);
                Some(only.ok_or_else(|| {
                    vec![format!("{error}: name one by --registry, as callers have to")]
                })?)
            }
        };
        let registry = registry.ok_or_else(|| vec!["there is no registry".to_owned()])?;
        let (id, lifetime) = (Ulid::nil(), Lifetime::default());
        Ok(AccessRequest { id, registry, project, actions, lifetime, client: None })
    }
}
