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
pub const SWEEP: Duration = Duration::from_secs(10);

pub struct Limits {
    in_flight: Arc<Semaphore>,
    addresses: Arc<KeyedLimit<ClientNetwork>>,
    subjects: Arc<KeyedLimit<(String, String)>>,
    projects: Arc<KeyedLimit<Project>>,
    registries: BTreeMap<RegistryName, Arc<RegistryLimit>>,
    settings: Settings,
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
        Self::build(settings, registries, clock, None)
    }

    /// For the next generation. Where a limit is the same, so is its count: a reload sets nobody free and starts no second
    /// set of calls.
    #[must_use]
    pub fn next<'a>(
        &self,
        settings: &Settings,
        registries: impl Iterator<Item = (&'a RegistryName, bool)>,
        clock: &Clock,
    ) -> Self {
        Self::build(settings, registries, clock, Some(self))
    }

    fn build<'a>(
        settings: &Settings,
        registries: impl Iterator<Item = (&'a RegistryName, bool)>,
        clock: &Clock,
        before: Option<&Self>,
    ) -> Self {
        let registry = |(name, uses_aws): (&'a RegistryName, bool)| {
            let limits = settings.registry(name, uses_aws);
            let same =
                before.and_then(|it| it.registries.get(name)).filter(|it| *it.limits() == limits);
            let limit =
                same.cloned().unwrap_or_else(|| Arc::new(RegistryLimit::new(&limits, clock)));
            (name.clone(), limit)
        };
        let same = |of: fn(&Settings) -> (Rate, usize)| {
            before.filter(|it| of(&it.settings) == of(settings))
        };
        let in_flight = before.filter(|it| it.settings.in_flight == settings.in_flight);
        Self {
            in_flight: in_flight.map_or_else(
                || Arc::new(Semaphore::new(settings.in_flight)),
                |it| Arc::clone(&it.in_flight),
            ),
            addresses: same(|it| (it.address, it.keys)).map_or_else(
                || Arc::new(KeyedLimit::new("address", settings.address, settings.keys, clock)),
                |it| Arc::clone(&it.addresses),
            ),
            subjects: same(|it| (it.subject, it.keys)).map_or_else(
                || Arc::new(KeyedLimit::new("subject", settings.subject, settings.keys, clock)),
                |it| Arc::clone(&it.subjects),
            ),
            projects: same(|it| (it.project, it.keys)).map_or_else(
                || Arc::new(KeyedLimit::new("project", settings.project, settings.keys, clock)),
                |it| Arc::clone(&it.projects),
            ),
            registries: registries.map(registry).collect(),
            settings: settings.clone(),
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

    /// Forgets who has recovered. Whoever serves calls it every [`SWEEP`].
    pub fn sweep(&self) {
        self.addresses.sweep();
        self.subjects.sweep();
        self.projects.sweep();
    }

    /// How many addresses, subjects and projects are remembered.
    pub fn remembered(&self) -> [usize; 3] {
        [self.addresses.len(), self.subjects.len(), self.projects.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(burst: u32) -> Rate {
        Rate { per_second: 1.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    #[tokio::test]
    async fn a_reload_forgets_no_count_of_a_limit_that_stays() {
        let registry = RegistryLimits { in_flight: 1, pace: None };
        let settings = Settings {
            in_flight: 10,
            keys: 100,
            address: rate(5),
            subject: rate(1),
            project: rate(5),
            registry,
            aws_pace: rate(5),
            registries: BTreeMap::new(),
        };
        let names: [RegistryName; 2] = ["prod", "other"].map(|name| name.parse().unwrap());
        let clock = Clock::system();
        let subject =
            Subject { issuer: "ci".into(), sub: "s".into(), claims: crate::domain::Claims::new() };
        let before = Limits::new(&settings, names.iter().map(|it| (it, false)), &clock);
        before.subject(&subject).unwrap();
        let soon = || Deadline::after(Duration::from_millis(1));
        let _held = before.registries[&names[0]].enter(soon()).await.unwrap();

        let after = before.next(&settings, names[..1].iter().map(|it| (it, false)), &clock);
        assert!(after.subject(&subject).is_err(), "has asked before");
        assert!(
            after.registries[&names[0]].enter(soon()).await.is_err(),
            "its only place is taken"
        );
        assert_eq!(after.registries.len(), 1);

        let wider = Settings {
            subject: rate(2),
            registry: RegistryLimits { in_flight: 2, pace: None },
            ..settings
        };
        let after = after.next(&wider, names.iter().map(|it| (it, false)), &clock);
        assert!(after.subject(&subject).is_ok(), "another limit counts anew");
        assert!(after.registries[&names[0]].enter(soon()).await.is_ok());
    }
}
