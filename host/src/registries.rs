//! The configured registries, each checked with its provider before the port opens.
//!
//! **Invariant:** a registry that is here hands out nothing wider than its settings accept, lies where its settings allow,
//! and shares no repository with another.

mod aws;
mod build;
mod clients;
mod http;
mod location;
mod secrets;

pub use clients::{Clients, ConnectAws, Sdk};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::ProviderFacts;
use crate::capability::Capabilities;
use crate::config::node::Problem;
use crate::domain::location::LocationPattern;
use crate::domain::{ImageReference, Location, Project, RegistryName, Scope};
use crate::provider::Provider;

/// One configured target.
#[derive(Clone)]
pub struct Registry {
    pub name: RegistryName,
    pub provider: Arc<Provider>,
    /// What the provider gets: its settings as JSON, with names in place of secrets.
    pub settings: Arc<str>,
    pub capabilities: Arc<Capabilities>,
    /// How narrow the provider says that its credentials are.
    pub scope: Scope,
    /// How wide a credential the operator accepts.
    pub accepted: Scope,
    pub trust_provider: bool,
    /// Seconds.
    pub max_lifetime: u32,
    /// `locate`, as far as it can differ between projects.
    pub pattern: LocationPattern,
    /// Whether everything below a project's repository is the project's too.
    pub children: bool,
}

impl Registry {
    /// What audit records say of its provider.
    pub fn provider_facts(&self) -> ProviderFacts<'_> {
        ProviderFacts {
            name: &self.provider.manifest.name,
            digest: &self.provider.digest,
            reaches_outside: self.provider.reaches_outside(),
        }
    }

    pub fn locate(&self, project: &Project) -> Location {
        self.pattern.fill(project)
    }
}

pub struct Registries(BTreeMap<RegistryName, Arc<Registry>>);

/// What building gave beside the registries: settings that are allowed and probably not meant.
pub struct BuiltRegistries {
    pub registries: Registries,
    pub warnings: Vec<Problem>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("several registries are configured and none is named `default`")]
pub struct Ambiguous;

/// `default`, else the only one.
pub fn default_name<T>(all: &BTreeMap<RegistryName, T>) -> Result<&RegistryName, Ambiguous> {
    let mut names = all.keys();
    match (all.keys().find(|name| name.as_str() == "default"), names.next(), names.next()) {
        (Some(default), _, _) => Ok(default),
        (None, Some(only), None) => Ok(only),
        (None, _, _) => Err(Ambiguous),
    }
}

impl Registries {
    pub fn find(&self, name: &RegistryName) -> Option<&Arc<Registry>> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.0.values()
    }

    /// The registry that a request means if it names none.
    pub fn default_name(&self) -> Result<&RegistryName, Ambiguous> {
        default_name(&self.0)
    }

    /// Whose image this is: at most one registry can say, since no two share a repository. No provider is asked: where
    /// projects live was settled at start, when `resolve` was seen to be the inverse of `locate`.
    pub fn owner(
        &self,
        image: &ImageReference,
        named: Option<&RegistryName>,
    ) -> Option<(RegistryName, Project)> {
        let mut asked = self.iter().filter(|it| named.is_none_or(|name| *name == it.name));
        asked.find_map(|it| {
            Some((it.name.clone(), it.pattern.project_of(image.location(), it.children)?))
        })
    }
}
