//! The functions that a provider exports, each with its arguments.
//!
//! To add one: a type here that implements [`Export`]. [`Provider::call`](super::Provider::call)
//! does the rest: a fresh instance, every limit, the metrics.

use std::sync::Arc;

use wasmtime::Store;

use super::call::Guest;
use crate::capability::CallState;
use crate::capability::ecr_repositories::{Adoption, RepositoryTask, RepositoryWork};
use crate::capability::wit::endpoints::exports::rise::registry::endpoints::Needed;
use crate::capability::wit::exports::rise::registry::registry::{Manifest, Problem, Scope};
use crate::capability::wit::leftovers::exports::rise::registry::leftovers::Leftover;
use crate::capability::wit::repositories::exports::rise::registry::repositories::Repository;
use crate::capability::wit::rise::registry::types::{Error, Issued, Location as WitLocation};
use crate::domain::{Location, Project};
use crate::rules::{Grant, GrantView};

/// One function of a provider.
pub trait Export: Send + 'static {
    /// The function's name in `wit/`, which is its name in metrics.
    const NAME: &'static str;
    type Returns: Send + 'static;

    /// Calls it in a fresh instance of `guest`.
    fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> impl Future<Output = wasmtime::Result<Self::Returns>> + Send;
}

pub(super) struct DescribeCall;

impl Export for DescribeCall {
    const NAME: &'static str = "describe";
    type Returns = Manifest;

    async fn call(self, guest: &Guest, store: &mut Store<CallState>) -> wasmtime::Result<Manifest> {
        let instance = guest.component.instantiate_async(&mut *store).await?;
        instance.rise_registry_registry().call_describe(store).await
    }
}

/// Its warnings concern the settings, and are kept to be reported with them.
pub struct CheckCall {
    pub settings: Arc<str>,
}

impl Export for CheckCall {
    const NAME: &'static str = "check";
    type Returns = Result<Scope, Vec<Problem>>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let instance = guest.component.instantiate_async(&mut *store).await?;
        store.data_mut().keep_warnings();
        instance.rise_registry_registry().call_check(store, &self.settings).await
    }
}

pub struct LocateCall {
    pub settings: Arc<str>,
    pub project: Project,
}

impl Export for LocateCall {
    const NAME: &'static str = "locate";
    type Returns = Result<WitLocation, Error>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let Self { settings, project } = self;
        let instance = guest.component.instantiate_async(&mut *store).await?;
        instance.rise_registry_registry().call_locate(store, &settings, project.as_str()).await
    }
}

pub struct ResolveCall {
    pub settings: Arc<str>,
    pub location: Location,
}

impl Export for ResolveCall {
    const NAME: &'static str = "resolve";
    type Returns = Option<String>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let location = WitLocation {
            host: self.location.host.to_string(),
            repository: self.location.repository,
        };
        let instance = guest.component.instantiate_async(&mut *store).await?;
        instance.rise_registry_registry().call_resolve(store, &self.settings, &location).await
    }
}

/// The optional export `endpoints`. A provider without it needs nothing.
pub struct NeedsCall {
    pub settings: Arc<str>,
}

impl Export for NeedsCall {
    const NAME: &'static str = "needs";
    type Returns = Option<Needed>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let Some(component) = &guest.endpoints else { return Ok(None) };
        let instance = component.instantiate_async(&mut *store).await?;
        instance.rise_registry_endpoints().call_needs(store, &self.settings).await.map(Some)
    }
}

/// The function of every provider in which capabilities act.
pub struct IssueCall {
    pub settings: Arc<str>,
    pub grant: Arc<Grant>,
}

impl Export for IssueCall {
    const NAME: &'static str = "issue";
    type Returns = Result<Issued, Error>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let instance = guest.component.instantiate_async(&mut *store).await?;
        let grant = store.data_mut().open(self.grant)?;
        instance.rise_registry_registry().call_issue(store, &self.settings, grant).await
    }
}

/// The optional export `revocation`.
pub struct RevokeCall {
    pub settings: Arc<str>,
    pub grant: GrantView,
    /// What `issue` remembered, if the broker knows.
    pub note: Option<String>,
}

impl Export for RevokeCall {
    const NAME: &'static str = "revoke";
    type Returns = Result<(), Error>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let Self { settings, grant, note } = self;
        let Some(component) = &guest.revocation else {
            return Ok(Err(Error::Unsupported("its provider ends no credentials".to_owned())));
        };
        let instance = component.instantiate_async(&mut *store).await?;
        let grant = store.data_mut().open_revocation(grant)?;
        let exported = instance.rise_registry_revocation();
        exported.call_revoke(store, &settings, grant, note.as_deref()).await
    }
}

/// The optional export `leftovers`: looks for credentials by their names.
pub struct FindLeftoversCall {
    pub settings: Arc<str>,
}

impl Export for FindLeftoversCall {
    const NAME: &'static str = "find-leftovers";
    type Returns = Result<Vec<Leftover>, Error>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let Some(component) = &guest.leftovers else {
            return Ok(Err(Error::Unsupported("its provider finds no leftovers".to_owned())));
        };
        let instance = component.instantiate_async(&mut *store).await?;
        store.data_mut().open_leftovers(false);
        instance.rise_registry_leftovers().call_find(store, &self.settings).await
    }
}

/// The optional export `leftovers`: ends one of them.
pub struct EndLeftoverCall {
    pub settings: Arc<str>,
    pub leftover: Leftover,
}

impl Export for EndLeftoverCall {
    const NAME: &'static str = "end-leftover";
    type Returns = Result<(), Error>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let Some(component) = &guest.leftovers else {
            return Ok(Err(Error::Unsupported("its provider ends no leftovers".to_owned())));
        };
        let instance = component.instantiate_async(&mut *store).await?;
        store.data_mut().open_leftovers(true);
        instance.rise_registry_leftovers().call_end(store, &self.settings, &self.leftover).await
    }
}

/// The optional export `repositories`: the function for the task of `work`.
pub struct RepositoriesCall {
    pub settings: Arc<str>,
    pub work: Arc<RepositoryWork>,
}

impl Export for RepositoriesCall {
    const NAME: &'static str = "repositories";
    type Returns = Result<Repository, Error>;

    async fn call(
        self,
        guest: &Guest,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<Self::Returns> {
        let Self { settings, work } = self;
        let Some(component) = &guest.repositories else {
            return Ok(Err(Error::Unsupported("its provider manages no repositories".to_owned())));
        };
        let instance = component.instantiate_async(&mut *store).await?;
        let task = work.task;
        let grant = store.data_mut().open_repository(work)?;
        let exported = instance.rise_registry_repositories();
        match task {
            RepositoryTask::Describe => exported.call_describe(store, &settings, grant).await,
            RepositoryTask::Ensure { adopt } => {
                let adopts = adopt != Adoption::Nothing;
                exported.call_ensure(store, &settings, grant, adopts).await
            }
            RepositoryTask::Retire | RepositoryTask::Orphan | RepositoryTask::Delete => {
                exported.call_retire(store, &settings, grant).await
            }
        }
    }
}
