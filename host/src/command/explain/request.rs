//! What `explain` is asked about, settled as the server settles a request.

use std::collections::BTreeMap;
use std::fmt::Display;

use ulid::Ulid;

use super::ExplainArguments;
use crate::config::{Config, RegistryConfig};
use crate::domain::{Lifetime, Project, RegistryName, RepositoryOperation, Right, Rights, Subject};
use crate::registries::default_name;
use crate::rules::{AccessRequest, Grant, Rules};

/// What the command line asks for. Only the token may tell in which registry.
pub(super) struct ExplainRequest {
    project: Project,
    registry: Option<RegistryName>,
    actions: Option<Rights>,
}

/// What is asked, and where.
pub(super) struct SettledRequest {
    pub(super) registry: RegistryName,
    pub(super) project: Project,
    /// `None`: everything that the rules allow.
    pub(super) wanted: Option<Rights>,
}

/// What the rules grant, and by which rules.
pub(super) struct Granted {
    pub(super) rights: Rights,
    pub(super) rules: Vec<String>,
}

impl SettledRequest {
    /// The request as callers send it for credentials.
    pub(super) fn access(&self) -> AccessRequest {
        let actions = self.wanted.map(Rights::actions).filter(|actions| !actions.is_empty());
        let (id, lifetime) = (Ulid::nil(), Lifetime::default());
        let (registry, project) = (self.registry.clone(), self.project.clone());
        AccessRequest { id, registry, project, actions, lifetime, client: None }
    }

    /// Asks for credentials, to create and to delete, as callers do: each by a request of its own.
    /// The error is what the rules allow.
    pub(super) fn decide(&self, rules: &Rules, subject: &Subject) -> Result<Granted, Rights> {
        let is_wanted = |right| self.wanted.is_none_or(|wanted| wanted.contains(right));
        let mut decisions = Vec::new();
        if is_wanted(Right::Pull) || is_wanted(Right::Push) {
            decisions.push(rules.authorize(subject.clone(), self.access()));
        }
        for operation in [RepositoryOperation::Create, RepositoryOperation::Delete] {
            if operation.right().is_some_and(is_wanted) {
                let subject = subject.clone();
                decisions.push(rules.authorize_repository(subject, self.access(), operation));
            }
        }
        let (mut granted, mut refused) = (Granted { rights: Rights::NONE, rules: vec![] }, None);
        for decision in decisions {
            match decision {
                Ok(grant) => granted.add(&grant),
                Err(denied) => refused = Some(denied.allowed),
            }
        }
        let is_enough = self.wanted.is_none() && !granted.rights.is_empty();
        refused.filter(|_| !is_enough).map_or(Ok(granted), Err)
    }
}

impl Granted {
    fn add(&mut self, grant: &Grant) {
        self.rights = self.rights.union(grant.rights());
        let new = grant.rules().iter().filter(|name| !self.rules.contains(name));
        let new: Vec<String> = new.cloned().collect();
        self.rules.extend(new);
    }
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
        let actions = arguments.actions.as_deref().map(Rights::parse).transpose();
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
    ) -> Result<SettledRequest, Vec<String>> {
        let Self { project, registry, actions } = self;
        let registry = match (registry, default_name(registries), subject) {
            (Some(named), _, _) => Some(named),
            (None, Ok(default), _) => Some(default.clone()),
            (None, Err(_), None) => registries.keys().next().cloned(),
            (None, Err(error), Some(subject)) => {
                let only = rules.only_registry(subject, &project, |rights| !rights.is_empty());
                Some(only.ok_or_else(|| {
                    vec![format!("{error}: name one by --registry, as callers have to")]
                })?)
            }
        };
        let registry = registry.ok_or_else(|| vec!["there is no registry".to_owned()])?;
        Ok(SettledRequest { registry, project, wanted: actions })
    }
}
