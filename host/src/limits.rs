//! Limits on what callers get: rates, requests at once, and calls of one registry.
//!
//! | Limit | Per | Counts | Refuses with |
//! |---|---|---|---|
//! | [`Limits::enter`] | the process | requests at once | 503 at once, or after [`LONGEST_ENTRY`] |
//! | [`Limits::read_form`] | the process, and /32 or /56 | forms that are read at once | 503, 429 |
//! | [`Limits::address`] | /32 or /56 | failed authentications only | 429 |
//! | [`Limits::subject`] | issuer and `sub` | requests | 429 |
//! | [`Limits::admit`] | project | granted requests | 429 |
//! | [`RegistryLimit::take_turn`] | registry, or account and region of AWS | calls started | 503 |
//! | [`CallTurn::place`] | registry | calls at once | 503 |
//!
//! To add one: a field, a method that takes the result of the step before it, a row above, a
//! setting.
//!
//! **Invariant:** nothing is issued without an [`Admitted`], which only [`Limits::admit`] makes,
//! and no provider is called to issue without a [`Place`], which only [`CallTurn::place`] makes.
//! **Invariant:** counts by a text that callers choose lie in a map of bounded size (`keyed`).

mod counted;
mod keyed;
mod pace;
mod registry;
mod settings;
mod shared_pace;
mod shares;

pub use keyed::KeyedLimit;
pub use registry::{CallTurn, LONGEST_PLACE, LONGEST_TURN, Place, RegistryLimit};
pub use settings::{LimitSettings, Rate, RegistryLimits};
pub use shares::Share;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use ulid::Ulid;

use crate::domain::{
    AwsAccount, ClientAddress, ClientNetwork, Clock, ProblemType, Project, RegistryName, Subject,
};
use crate::rules::Grant;
use crate::shared::Shared;
use crate::survivors::Survivors;
use counted::{Counted, LimitKey};
use registry::RegistryPace;
use settings::PaceOf;
use shares::{Full, Shares};

/// How often [`Limits::sweep`] must be called.
pub const SWEEP: Duration = Duration::from_secs(10);

/// How long a request waits for one of those before it to end. A crowd that comes at once is
/// through by then. If it is not, waiting longer would only delay everybody.
pub const LONGEST_ENTRY: Duration = Duration::from_secs(1);
/// When a network that has its share of the forms may send the next: most take less.
const FORMS_AGAIN: Duration = Duration::from_secs(1);
/// Requests that are served or wait for it, for each that may be served.
const ENTERED: usize = 2;

/// The limits of one generation. Their counts are those of [`Counts`].
pub struct Limits {
    in_flight: Arc<InFlightLimit>,
    addresses: Arc<Counted<ClientNetwork>>,
    subjects: Arc<Counted<(String, String)>>,
    projects: Arc<Counted<Project>>,
    registries: BTreeMap<RegistryName, Arc<RegistryLimit>>,
}

/// Why a request is not served now. Texts are for the operator.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The caller asks too often, and may ask again after this time.
    #[error("over the limit `{limit}`")]
    TooOften { limit: &'static str, wait: Duration },
    /// All callers together ask too much.
    #[error("over the limit `{limit}`")]
    Overloaded { limit: &'static str },
    /// The pace of the registry is used up: the call that the request waits for starts after this
    /// time.
    #[error("the pace of the registry is used up for {} ms", wait.as_millis())]
    Queued { wait: Duration },
}

impl Refused {
    pub fn problem_type(&self) -> ProblemType {
        match self {
            Self::TooOften { .. } => ProblemType::RateLimited,
            Self::Overloaded { .. } | Self::Queued { .. } => ProblemType::Overloaded,
        }
    }

    /// The limit's name in metrics.
    pub fn limit(&self) -> &'static str {
        match self {
            Self::TooOften { limit, .. } | Self::Overloaded { limit } => limit,
            Self::Queued { .. } => "registry-pace",
        }
    }
}

/// Requests at once. Those that wait are served in the order in which they came: a client that is
/// turned away loses its place in the line of a registry.
struct InFlightLimit {
    /// How many may be served or wait.
    most: usize,
    /// A place to wait in or to be served from.
    line: Arc<Semaphore>,
    served: Arc<Semaphore>,
    /// Forms of strangers that are read, before they get a place.
    forms: Arc<Shares>,
}

/// One of the requests that are served at once, until dropped.
pub struct InFlight(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

/// A grant that its project's limit has let through.
pub struct Admitted {
    grant: Arc<Grant>,
}

impl Admitted {
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }
}

/// What limits have counted so far. A reload that leaves a limit as it is leaves its count too: it
/// sets nobody free and starts no second set of calls.
#[derive(Default)]
pub struct Counts {
    in_flight: Survivors<usize, InFlightLimit>,
    addresses: Survivors<KeyedSettings, Counted<ClientNetwork>>,
    subjects: Survivors<KeyedSettings, Counted<(String, String)>>,
    projects: Survivors<KeyedSettings, Counted<Project>>,
    registries: Survivors<(RegistryName, RegistryLimits, PaceOf), RegistryLimit>,
    paces: Survivors<(PaceOf, Rate), RegistryPace>,
    /// Where addresses, subjects, projects and the pace of registries are counted for several
    /// brokers.
    shared: OnceLock<Arc<Shared>>,
}

impl Counts {
    /// From now on limits are counted for several brokers.
    pub(crate) fn share(&self, shared: &Arc<Shared>) {
        // The first one stays: `[shared]` is read at start only.
        let _ = self.shared.set(Arc::clone(shared));
    }
}

/// A rate and how many keys it is counted for.
type KeyedSettings = (Rate, usize);

impl Limits {
    /// `registries`: each one's name, and the account of AWS that it calls.
    pub fn new<'a>(
        settings: &LimitSettings,
        registries: impl Iterator<Item = (&'a RegistryName, Option<AwsAccount>)>,
        counts: &Counts,
        clock: &Clock,
    ) -> Self {
        let (keys, shared) = (settings.keys, counts.shared.get());
        let registry = |(name, account): (&'a RegistryName, Option<AwsAccount>)| {
            let (limits, of) = settings.registry(name, account);
            let pace = limits.pace.map(|rate| {
                let make =
                    |(of, rate): &(PaceOf, Rate)| RegistryPace::new(of, *rate, shared, clock);
                counts.paces.find_or_make((of.clone(), rate), make)
            });
            let made_from = (name.clone(), limits, of);
            let make = |_: &_| RegistryLimit::new(limits.in_flight, pace, clock);
            (name.clone(), counts.registries.find_or_make(made_from, make))
        };
        Self {
            in_flight: counts
                .in_flight
                .find_or_make(settings.in_flight, |requests| InFlightLimit::new(*requests)),
            addresses: keyed(
                "address",
                (settings.address, keys),
                (&counts.addresses, shared),
                clock,
            ),
            subjects: keyed("subject", (settings.subject, keys), (&counts.subjects, shared), clock),
            projects: keyed("project", (settings.project, keys), (&counts.projects, shared), clock),
            registries: registries.map(registry).collect(),
        }
    }

    /// Takes one of the requests that may be served at once, or waits a moment for it. As many
    /// may wait as are served.
    pub async fn enter(&self) -> Result<InFlight, Refused> {
        let full = || Refused::Overloaded { limit: "in-flight" };
        let InFlightLimit { line, served, .. } = &*self.in_flight;
        let line = Arc::clone(line).try_acquire_owned().map_err(|_| full())?;
        let served = timeout(LONGEST_ENTRY, Arc::clone(served).acquire_owned()).await;
        let served = served.ok().and_then(Result::ok).ok_or_else(full)?;
        Ok(InFlight([line, served]))
    }

    /// How many requests are served now, or wait to be.
    pub fn in_flight(&self) -> usize {
        self.in_flight.most.saturating_sub(self.in_flight.line.available_permits())
    }

    /// Takes one of the forms that may be read at once, until the result is dropped. They hold no
    /// place of [`Self::enter`]. One network has a share of them only.
    pub fn read_form(&self, client: ClientAddress) -> Result<Share, Refused> {
        self.in_flight.forms.claim(client.network()).map_err(|full| match full {
            Full::All => Refused::Overloaded { limit: "forms" },
            Full::Share => Refused::TooOften { limit: "forms-per-address", wait: FORMS_AGAIN },
        })
    }

    /// Whether this client has not failed too often. Counts nothing. For a request whose token was
    /// not read yet.
    pub async fn address(&self, client: ClientAddress) -> Result<(), Refused> {
        self.addresses.check(&client.network()).await
    }

    /// Counts a failed authentication. Successful ones count nothing for their address, so that the
    /// callers behind one gateway do not block each other.
    pub async fn failed_authentication(&self, client: ClientAddress) {
        let _ = self.addresses.count(&client.network()).await;
    }

    /// Counts one request of this subject.
    pub async fn subject(&self, subject: &Subject) -> Result<(), Refused> {
        self.subjects.count(&(subject.issuer.clone(), subject.sub.clone())).await
    }

    /// Counts one request by a credential that this broker issued, as one of a subject of its own.
    pub async fn password(&self, granted_to: Ulid) -> Result<(), Refused> {
        // No issuer has an empty name.
        self.subjects.count(&(String::new(), granted_to.to_string())).await
    }

    /// Counts one request for the project of `grant`, before any credential is looked for.
    pub async fn admit(&self, grant: Arc<Grant>) -> Result<Admitted, Refused> {
        self.project(grant.project()).await?;
        Ok(Admitted { grant })
    }

    /// Counts one request for a project that was granted before.
    pub async fn project(&self, project: &Project) -> Result<(), Refused> {
        self.projects.count(project).await
    }

    /// The limit on calls of this registry.
    pub fn registry(&self, name: &RegistryName) -> Option<&Arc<RegistryLimit>> {
        self.registries.get(name)
    }

    /// Forgets keys that may ask as often as new ones. Must be called every [`SWEEP`].
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

impl InFlightLimit {
    fn new(requests: usize) -> Self {
        let (most, places) = (requests * ENTERED, |number| Arc::new(Semaphore::new(number)));
        let forms = Arc::new(Shares::new(most));
        Self { most, line: places(most), served: places(requests), forms }
    }
}

/// The limit with these settings that counts already, or a new one.
fn keyed<K: LimitKey>(
    name: &'static str,
    settings: KeyedSettings,
    (counts, shared): (&Survivors<KeyedSettings, Counted<K>>, Option<&Arc<Shared>>),
    clock: &Clock,
) -> Arc<Counted<K>> {
    counts.find_or_make(settings, |settings| Counted::new(name, *settings, shared, clock))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn rate(burst: u32) -> Rate {
        Rate { per_second: 1.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    fn settings(in_flight: usize) -> LimitSettings {
        LimitSettings {
            in_flight,
            keys: 100,
            address: rate(5),
            subject: rate(1),
            project: rate(5),
            registry: RegistryLimits { in_flight: 1, pace: None },
            aws_pace: rate(5),
            registries: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn as_many_wait_as_are_served_in_order_and_not_for_long() {
        let limits =
            Limits::new(&settings(2), [].into_iter(), &Counts::default(), &Clock::system());
        let limits = Arc::new(limits);
        let served = [limits.enter().await.unwrap(), limits.enter().await.unwrap()];
        let [mut third, mut fourth] = [(); 2].map(|()| Box::pin(limits.enter()));
        for waiting in [&mut third, &mut fourth] {
            assert!(timeout(Duration::from_millis(1), waiting).await.is_err(), "it waits");
        }
        let started = Instant::now();
        assert!(limits.enter().await.is_err(), "the line is full");
        assert!(started.elapsed() < LONGEST_ENTRY, "and says so at once");
        drop(served);
        let _third = third.await.unwrap();
        let _fourth = fourth.await.unwrap();
        let started = Instant::now();
        assert!(limits.enter().await.is_err(), "nobody ends");
        assert!(started.elapsed() >= LONGEST_ENTRY);
    }

    #[tokio::test]
    async fn a_reload_forgets_no_count_of_a_limit_that_stays() {
        let settings = settings(10);
        let names: [RegistryName; 2] = ["prod", "other"].map(|name| name.parse().unwrap());
        let clock = Clock::system();
        let subject =
            Subject { issuer: "ci".into(), sub: "s".into(), claims: crate::domain::Claims::new() };
        let counts = Counts::default();
        let limits = |settings: &LimitSettings, names: &[RegistryName]| {
            Limits::new(settings, names.iter().map(|name| (name, None)), &counts, &clock)
        };
        let before = limits(&settings, &names);
        before.subject(&subject).await.unwrap();
        let place = async |limits: &Limits| {
            let place = limits.registries[&names[0]].take_turn().await.unwrap().place();
            tokio::time::timeout(Duration::from_millis(1), place).await
        };
        let _held = place(&before).await.unwrap().unwrap();

        let after = limits(&settings, &names[..1]);
        assert!(after.subject(&subject).await.is_err(), "has asked before");
        assert!(place(&after).await.is_err(), "its only place is taken");
        assert_eq!(after.registries.len(), 1);

        let wider = LimitSettings {
            subject: rate(2),
            registry: RegistryLimits { in_flight: 2, pace: None },
            ..settings
        };
        let after = limits(&wider, &names);
        assert!(after.subject(&subject).await.is_ok(), "another limit counts anew");
        assert!(place(&after).await.is_ok());
    }

    #[tokio::test]
    async fn registries_of_one_account_and_region_have_one_pace() {
        let names: [RegistryName; 6] =
            ["prod", "dev", "far", "other", "public", "own"].map(|name| name.parse().unwrap());
        let account = |name: &str| AwsAccount {
            service: if name == "public" { "ecr-public" } else { "ecr" },
            account: if name == "other" { "2" } else { "1" }.to_owned(),
            region: if name == "far" { "eu-west-1" } else { "us-east-1" }.to_owned(),
        };
        let clock = Clock::from_fn(|| jiff::Timestamp::UNIX_EPOCH);
        let limits = |settings: &LimitSettings| {
            let all = names.iter().map(|name| (name, Some(account(name.as_str()))));
            Limits::new(settings, all, &Counts::default(), &clock)
        };
        let waits = async |limits: &Limits, name: usize| {
            let turn = limits.registries[&names[name]].take_turn().await.unwrap();
            let waits = !turn.moment.is_zero();
            std::mem::forget(turn);
            waits
        };
        let one = LimitSettings { aws_pace: rate(1), ..settings(10) };
        let stated = RegistryLimits { in_flight: 1, pace: Some(rate(1)) };
        let own = BTreeMap::from([(names[5].clone(), stated)]);
        let all = LimitSettings { registry: stated, aws_pace: rate(9), ..one.clone() };
        for settings in [&one, &all] {
            let settings = LimitSettings { registries: own.clone(), ..settings.clone() };
            let limits = limits(&settings);
            assert!(!waits(&limits, 0).await);
            for (index, name) in names.iter().enumerate().skip(1) {
                assert_eq!(waits(&limits, index).await, name.as_str() == "dev", "{name}");
            }
        }
    }
}
