//! Tries once what the settings need outside this machine: issuers, AWS roles, ECR's login, and the
//! store of `[shared]`.
//!
//! `repository` tries the permissions on a project's repository, if one is named; `registry` asks
//! the registries that only callers connect to.
//!
//! Keys and passwords are dropped where they arrive. No audit record is written, because nothing is
//! issued and only the server writes the log. In `CloudTrail` the sessions are named
//! `rise-check-…`.

mod aws;
mod registry;
mod repositories;
mod repository;
mod signing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::{Outcome, print, texts, warn};
use super::advice;
use crate::config::Config;
use crate::config::node::{Node, Problem};
use crate::domain::{Project, RegistryName};
use crate::generation::Generation;
use crate::identity::jwks::{Discovery, FETCH_DEADLINE, FetchError, KeySource, PATIENCE};
use crate::identity::{DiscoverySettings, IdentitySettings, IssuerSettings, KeyOrigin};
use crate::registries::Registry;
use crate::shared::Shared;

/// For all calls of one registry. A call takes at most four seconds with its retries, and there are
/// usually four.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(20);

/// The project whose repository is tried too.
#[derive(Clone)]
pub(super) struct WantedProject {
    pub(super) project: Project,
    /// By default every registry on AWS.
    pub(super) registry: Option<RegistryName>,
}

impl WantedProject {
    pub(super) fn is_in(&self, registry: &Registry) -> bool {
        self.registry.as_ref().is_none_or(|name| *name == registry.name)
    }
}

/// An issuer whose keys are fetched over the network.
pub(super) struct RemoteIssuer {
    /// Its place among `[[auth.issuers]]`.
    index: usize,
    name: String,
    settings: DiscoverySettings,
}

pub(super) fn issuers(settings: &IdentitySettings) -> Vec<RemoteIssuer> {
    let remote = |(index, issuer): (usize, &IssuerSettings)| match &issuer.keys {
        KeyOrigin::Discovery(settings) => {
            Some(RemoteIssuer { index, name: issuer.name.clone(), settings: settings.clone() })
        }
        KeyOrigin::JwksFile { .. } | KeyOrigin::Local { .. } => None,
    };
    settings.issuers.iter().enumerate().filter_map(remote).collect()
}

/// The tables of what the broker connects to and a check does not: it would write there.
pub(super) fn untried(config: &Config) -> Vec<&'static str> {
    let ship = &config.ship;
    let tables = [
        ("[audit.ship.postgres]", ship.postgres.is_some()),
        ("[audit.ship.s3]", ship.s3.is_some()),
        ("[audit.ship.https]", ship.https.is_some()),
        ("[audit.ship.otlp]", ship.otlp.is_some()),
        ("[traces]", config.traces.is_some()),
    ];
    tables.into_iter().filter_map(|(table, is_there)| is_there.then_some(table)).collect()
}

/// Tries everything at once, and reports in the order of the settings.
pub(super) async fn run(
    issuers: Vec<RemoteIssuer>,
    (generation, shared): (&Generation, Option<&Shared>),
    wanted: Option<WantedProject>,
    config: &Config,
) -> Outcome {
    let registries = &generation.registries;
    let mut running = JoinSet::new();
    let count = issuers.len();
    let mut places = Vec::new();
    for (order, issuer) in issuers.into_iter().enumerate() {
        let problem = config.written.problem(&format!("/auth/issuers/{}", issuer.index), "");
        places.push(Place { problem, table: None });
        running.spawn(async move { (order, keys(&issuer).await) });
    }
    for (order, registry) in registries.iter().map(Arc::clone).enumerate() {
        places.push(Place::of(config, &registry.name));
        let project = wanted.as_ref().filter(|wanted| wanted.is_in(&registry));
        let project = project.map(|wanted| wanted.project.clone());
        running.spawn(async move { (count + order, aws::attempt(&registry, project).await) });
    }
    if let Some(signing) = generation.signing.clone() {
        let order = places.len();
        let problem = config.written.problem("/signing/issuer", "");
        places.push(Place { problem, table: None });
        let fetching = signing::fetching(registries);
        running.spawn(async move { (order, signing::issuer(&signing, &fetching).await) });
    }
    let mut reports = running.join_all().await;
    if let Some(shared) = shared {
        reports.push((places.len(), store(shared).await));
        places.push(Place { problem: config.written.problem("/shared/url", ""), table: None });
    }
    reports.sort_by_key(|(order, _)| *order);
    let mut problems = Vec::new();
    for ((_, report), place) in reports.into_iter().zip(places) {
        report.done.iter().for_each(print);
        for warned in report.warned {
            warn(format_args!("warning: {}", place.problem(LiveFailure::at("", warned))));
        }
        problems.extend(report.failed.into_iter().map(|failed| place.problem(failed)));
    }
    if problems.is_empty() { Ok(()) } else { Err(texts(problems)) }
}

/// Where the table of an issuer or a registry is written.
struct Place<'a> {
    problem: Problem,
    /// The settings of a registry.
    table: Option<&'a Node>,
}

impl<'a> Place<'a> {
    fn of(config: &'a Config, name: &RegistryName) -> Self {
        let table = config.registries.get(name).map(|registry| &registry.written);
        let problem = match table {
            Some(table) => Problem::at(&table.origin, format!("registries.{name}"), ""),
            None => config.written.problem("/registries", ""),
        };
        Self { problem, table }
    }

    fn problem(&self, LiveFailure { setting, message }: LiveFailure) -> Problem {
        let Problem { key, .. } = &self.problem;
        match self.table.and_then(|table| table.get(setting)) {
            Some(written) => Problem::at(&written.origin, format!("{key}.{setting}"), message),
            None => Problem { message, ..self.problem.clone() },
        }
    }
}

/// What worked, and what failed with what to do about it.
#[derive(Default)]
struct LiveReport {
    done: Vec<String>,
    /// Could not be tried, and may be right.
    warned: Vec<String>,
    failed: Vec<LiveFailure>,
}

struct LiveFailure {
    /// The setting of the registry that is wrong; empty if it is not one.
    setting: &'static str,
    message: String,
}

impl LiveFailure {
    fn at(setting: &'static str, message: impl Into<String>) -> Self {
        Self { setting, message: message.into() }
    }
}

impl LiveReport {
    fn fail(&mut self, setting: &'static str, message: impl Into<String>) {
        self.failed.push(LiveFailure::at(setting, message));
    }
}

/// The store that brokers share.
async fn store(shared: &Shared) -> LiveReport {
    let mut report = LiveReport::default();
    match shared.try_out().await {
        Ok(()) => report.done.push("[shared]: the store answers, and takes the keys".to_owned()),
        Err(text) => report.fail("", text),
    }
    report
}

async fn keys(remote: &RemoteIssuer) -> LiveReport {
    let RemoteIssuer { name, settings, .. } = remote;
    let fetched = async {
        let discovery = Discovery::new(settings).map_err(|error| error.to_string())?;
        let fetched = timeout(FETCH_DEADLINE, discovery.fetch()).await;
        fetched
            .unwrap_or(Err(FetchError::Deadline))
            .map_err(|error| advice::fetch(settings, &error))
    };
    let mut report = LiveReport::default();
    let started = Instant::now();
    let fetched = fetched.await;
    let taken = started.elapsed();
    match fetched {
        Ok(set) => {
            report.done.push(format!("issuer {name}: its keys were fetched"));
            report.done.extend(set.left_out().map(|key| format!("issuer {name}: not used: {key}")));
            if taken > PATIENCE {
                report.done.push(format!(
                    "issuer {name}: it took {} s; after a start the first callers are told to try \
                     again until its keys are there",
                    taken.as_secs()
                ));
            }
        }
        Err(error) => {
            report.fail("", format!("issuer `{name}`: its keys cannot be fetched: {error}"));
        }
    }
    report
}
