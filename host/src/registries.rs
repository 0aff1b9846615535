//! The configured registries. Each is checked with its provider before the port opens.
//!
//! **Invariant:** a registry issues nothing wider than its settings accept, is at a location that
//! its settings allow, and shares no repository with another registry.

mod aws;
mod build;
mod clients;
mod epoch;
mod http;
mod location;
mod needs;
mod repositories;
mod secrets;
mod tokens;

pub use clients::{Clients, ConnectAws, Sdk};
pub use epoch::Epoch;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;

use jiff::Timestamp;

use crate::audit::ProviderFacts;
use crate::capability::Capabilities;
use crate::capability::aws::AwsAccess;
use crate::capability::aws::denials::RoleDenials;
use crate::config::node::Problem;
use crate::config::{CreateRepositories, LeftoverPolicy, RepositoriesFile, Share};
use crate::domain::location::LocationPattern;
use crate::domain::{ImageReference, Location, Project, ProjectShape, RegistryName, Scope};
use crate::provider::Provider;
use crate::signing::Signing;

/// One configured registry.
#[derive(Clone)]
pub struct Registry {
    pub name: RegistryName,
    /// Changes with everything that decides what a credential of this registry opens.
    pub epoch: Epoch,
    /// The callers that may get a credential that was issued to another request.
    pub share: Share,
    pub provider: Arc<Provider>,
    /// The settings for the provider as JSON, with names in place of secrets.
    pub settings: Arc<str>,
    pub capabilities: Arc<Capabilities>,
    /// The scope of the credentials, as the provider states it.
    pub scope: Scope,
    /// The widest scope that the operator accepts.
    pub accepted: Scope,
    pub trust_provider: bool,
    /// Whether it may issue what a registry made without an expiry.
    pub accept_endless: bool,
    /// The longest lifetime in seconds.
    pub max_lifetime: u32,
    /// What the broker does with credentials at the registry that it has no record of.
    pub leftovers: LeftoverPolicy,
    /// The locations of the projects, derived from `locate`.
    pub pattern: LocationPattern,
    /// What the broker does with the repositories of the projects; `None`: nothing.
    pub repositories: Option<RepositoriesFile>,
    /// Which names are projects, and whether a project owns everything below its repository.
    pub shape: ProjectShape,
}

/// A credential that should have ended is recorded again this often, so that a start need not read
/// the whole audit log.
pub const RECORDED_AGAIN: SignedDuration = SignedDuration::from_hours(12);

impl Registry {
    /// Whether its provider can end credentials.
    pub fn revokes(&self) -> bool {
        self.provider.ends_credentials()
    }

    /// Whether its provider finds credentials at the registry by their names.
    pub fn finds_leftovers(&self) -> bool {
        self.provider.finds_leftovers()
    }

    /// The sessions in AWS that the broker can end, which no provider ends.
    pub fn denials(&self) -> Option<&RoleDenials> {
        self.capabilities.aws.as_ref()?.denials.as_ref()
    }

    /// Returns the facts about the provider for audit records.
    pub fn provider_facts(&self) -> ProviderFacts<'_> {
        ProviderFacts {
            name: &self.provider.manifest.name,
            digest: &self.provider.digest,
            reaches_outside: self.provider.reaches_outside(),
        }
    }

    /// The calls of AWS that a mint makes, as metrics name them.
    pub fn aws_operations(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.capabilities.aws.as_ref().map(AwsAccess::operations).into_iter().flatten()
    }

    pub fn locate(&self, project: &Project) -> Location {
        self.pattern.fill(project)
    }

    /// When a repository that was orphaned at this time may be deleted, in seconds since the Unix
    /// epoch. `None`: it is kept, or nobody knows.
    pub fn deleted_after(&self, orphaned_at: u64) -> Option<u64> {
        self.capabilities.repositories.as_ref()?.wanted.deleted_after(orphaned_at)
    }

    /// When the broker creates a repository that does not exist.
    pub fn creates(&self) -> CreateRepositories {
        self.repositories.as_ref().map(|file| file.create).unwrap_or_default()
    }
}

pub struct Registries(BTreeMap<RegistryName, Arc<Registry>>);

/// The registries, and warnings about settings that are valid but probably not intended.
pub struct BuiltRegistries {
    pub registries: Registries,
    pub warnings: Vec<Problem>,
}

/// What registries are built with, beside their settings and providers.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub clients: &'a Clients,
    /// `None`: this broker signs no tokens.
    pub signing: Option<&'a Arc<Signing>>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("several registries are configured and none is named `default`")]
pub struct Ambiguous;

/// Returns `default`, else the only registry.
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

    /// The registries whose credentials the broker can end, and for how long the audit log may be
    /// the only one that knows of them.
    pub fn that_revoke(&self) -> (Vec<RegistryName>, SignedDuration) {
        let ends = |registry: &&Arc<Registry>| registry.revokes() || registry.denials().is_some();
        let revoking = || self.iter().filter(ends);
        let longest = revoking().map(|registry| registry.max_lifetime).max().unwrap_or(0);
        let names = revoking().map(|registry| registry.name.clone()).collect();
        (names, SignedDuration::from_secs(i64::from(longest)) + RECORDED_AGAIN * 2)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.0.values()
    }

    /// Wipes the logins of providers that have expired. Must be called now and then.
    pub fn sweep(&self, now: Timestamp) {
        let now = u64::try_from(now.as_second()).unwrap_or_default();
        self.iter().for_each(|registry| registry.capabilities.kept.sweep(now));
    }

    /// Returns the most components that a project has in any registry.
    pub fn deepest(&self) -> usize {
        self.iter().map(|registry| usize::from(registry.shape.depth)).max().unwrap_or(1)
    }

    /// Returns the registry of a request that names none.
    pub fn default_name(&self) -> Result<&RegistryName, Ambiguous> {
        default_name(&self.0)
    }

    /// Returns the registries whose tokens are for this service.
    pub fn of_service(&self, service: &str) -> impl Iterator<Item = &Arc<Registry>> {
        self.iter().filter(move |registry| {
            let tokens = registry.capabilities.tokens.as_ref();
            tokens.is_some_and(|tokens| tokens.ceiling.services.iter().any(|own| own == service))
        })
    }

    /// Returns the registry and the project that own an image. There is at most one, because
    /// registries share no repository. This calls no provider: the locations of projects are known
    /// since the start, which checked that `resolve` is the inverse of `locate`.
    pub fn owner(
        &self,
        image: &ImageReference,
        named: Option<&RegistryName>,
    ) -> Option<(RegistryName, Project)> {
        let mut candidates =
            self.iter().filter(|registry| named.is_none_or(|name| *name == registry.name));
        candidates.find_map(|registry| {
            let project = registry.pattern.project_of(image.location(), registry.shape)?;
            Some((registry.name.clone(), project))
        })
    }
}
