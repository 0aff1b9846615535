//! How much of the broker anybody gets: rates, requests at once, and calls of one registry.
//!
//! | Limit | Per | Counts | Refuses with |
//! |---|---|---|---|
//! | [`Limits::enter`] | the process | requests at once | 503 at once |
//! | [`Limits::address`] | /32 or /56 | failed authentications only | 429 |
//! | [`Limits::subject`] | issuer and `sub` | requests | 429 |
//! | [`Limits::admit`] | project | granted requests | 429 |
//! | [`Limits::admit`] | registry | calls at once, calls started | 503 |
//!
//! To add one: a field, a method that takes what the step before made, a line above, a setting.
//!
//! **Invariant:** nothing is issued without an [`Admitted`], and only [`Limits::admit`] makes one.
//! **Invariant:** what is counted by a caller's own text lies in a map of bounded size (`keyed`).

mod keyed;
mod registry;
mod settings;

pub use keyed::KeyedLimit;
pub use registry::RegistryLimit;
pub use settings::{Rate, RegistryLimits, Settings};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{
    ClientAddress, ClientNetwork, Clock, Deadline, Project, RegistryName, Subject,
};
use crate::rules::Grant;

/// How often what has recovered is forgotten.
const SWEEP: Duration = Duration::from_secs(10);

pub struct Limits {
    in_flight: Arc<Semaphore>,
    addresses: KeyedLimit<ClientNetwork>,
    subjects: KeyedLimit<(String, String)>,
    projects: KeyedLimit<Project>,
    registries: BTreeMap<RegistryName, RegistryLimit>,
}

/// Why a request is not served now. Texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody asks too often, and may ask again after this time.
    #[error("over the limit `{limit}`")]
    TooOften { limit: &'static str, wait: Duration },
    /// Everybody together asks too much.
    #[error("over the limit `{limit}`")]
    Overloaded { limit: &'static str },
}

impl Refused {
    /// As metrics name it.
    pub fn limit(&self) -> &'static str {
        match self {
            Self::TooOften { limit, .. } | Self::Overloaded { limit } => limit,
        }
    }
}

/// One of the requests that are served at once, until dropped.
pub struct InFlight(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// A grant whose turn it is: it has a place among the calls of its registry until dropped.
pub struct Admitted {
    grant: Arc<Grant>,
    deadline: Deadline,
    #[expect(dead_code, reason = "held, not read")]
    place: OwnedSemaphorePermit,
}

impl Admitted {
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

impl Limits {
    /// `registries`: each one's name, and whether it calls AWS, which throttles whole accounts.
    pub fn new<'a>(
        settings: &Settings,
        registries: impl Iterator<Item = (&'a RegistryName, bool)>,
        clock: &Clock,
    ) -> Self {
        let registry = |(name, uses_aws): (&'a RegistryName, bool)| {
            let limits = settings.registry(name, uses_aws);
            (name.clone(), RegistryLimit::new(&limits, clock))
        };
        Self {
            in_flight: Arc::new(Semaphore::new(settings.in_flight)),
            addresses: KeyedLimit::new("address", settings.address, settings.keys, clock),
            subjects: KeyedLimit::new("subject", settings.subject, settings.keys, clock),
            projects: KeyedLimit::new("project", settings.project, settings.keys, clock),
            registries: registries.map(registry).collect(),
        }
    }

    /// Never waits: a queue in front of everything would only make everybody late.
    pub fn enter(&self) -> Result<InFlight, Refused> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned();
        permit.map(InFlight).map_err(|_| Refused::Overloaded { limit: "in-flight" })
    }

    /// Before a token is looked at: whether this client has failed too often. Counts nothing.
    pub fn address(&self, client: ClientAddress) -> Result<(), Refused> {
        self.addresses.look(&client.network())
    }

    /// Counts a failed authentication. Those that succeed cost their address nothing, so that the callers behind one
    /// gateway do not get in each other's way.
    pub fn failed_authentication(&self, client: ClientAddress) {
        let _ = self.addresses.take(&client.network());
    }

    pub fn subject(&self, subject: &Subject) -> Result<(), Refused> {
        self.subjects.take(&(subject.issuer.clone(), subject.sub.clone()))
    }

    /// The last limits, of the project and of the registry, before anything outside is done for `grant`.
    pub async fn admit(&self, grant: Arc<Grant>, deadline: Deadline) -> Result<Admitted, Refused> {
        self.projects.take(grant.project())?;
        let registry = self.registries.get(grant.registry());
        let registry = registry.ok_or(Refused::Overloaded { limit: "registry" })?;
        let place = registry.enter(deadline).await?;
        Ok(Admitted { grant, deadline, place })
    }

    /// Forgets who has recovered. Whoever builds an [`crate::app::App`] that lasts calls [`Limits::keep_small`].
    pub fn sweep(&self) {
        self.addresses.sweep();
        self.subjects.sweep();
        self.projects.sweep();
    }

    pub async fn keep_small(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sweep();
        }
    }

    /// How many addresses, subjects and projects are remembered.
    pub fn remembered(&self) -> [usize; 3] {
        [self.addresses.len(), self.subjects.len(), self.projects.len()]
    }
}
