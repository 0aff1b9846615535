//! Tries once what the settings need outside this machine: issuers, AWS roles, ECR's login.
//!
//! `repository` tries the permissions on a project's repository, if one is named; `registry` asks
//! the registries that only callers connect to.
//!
//! Keys and passwords are dropped where they arrive. No audit record is written, because nothing is
//! issued and only the server writes the log. In `CloudTrail` the sessions are named
//! `rise-check-…`.

mod registry;
mod repository;
mod signing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;
use ulid::Ulid;

use super::super::{Outcome, print, texts};
use super::advice::{self, LiveStep};
use crate::capability::aws::settings::AwsSettings;
use crate::capability::aws::{AssumeRole, AwsAccess, AwsError, AwsIdentity};
use crate::config::Config;
use crate::config::node::{Node, Problem};
use crate::domain::{Project, RegistryName};
use crate::generation::Generation;
use crate::identity::jwks::{Discovery, FETCH_DEADLINE, FetchError, KeySource, PATIENCE};
use crate::identity::{DiscoverySettings, IdentitySettings, IssuerSettings, KeyOrigin};
use crate::registries::Registry;

/// For all calls of one registry. A call takes at most four seconds with its retries, and there are
/// usually four.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(20);
/// A project that nobody has: the sessions of a check open nothing real.
const PROBE: &str = "rise-broker-probe-1";

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

/// Tries everything at once, and reports in the order of the settings.
pub(super) async fn run(
    issuers: Vec<RemoteIssuer>,
    generation: &Generation,
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
        running.spawn(async move { (count + order, aws(&registry, project).await) });
    }
    if let Some(signing) = generation.signing.clone() {
        let order = places.len();
        let problem = config.written.problem("/signing/issuer", "");
        places.push(Place { problem, table: None });
        running.spawn(async move { (order, signing::issuer(&signing).await) });
    }
    let mut reports = running.join_all().await;
    reports.sort_by_key(|(order, _)| *order);
    let mut problems = Vec::new();
    for ((_, report), place) in reports.into_iter().zip(places) {
        report.done.iter().for_each(print);
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
    failed: Vec<LiveFailure>,
}

struct LiveFailure {
    /// The setting of the registry that is wrong; empty if it is not one.
    setting: &'static str,
    message: String,
}

impl LiveReport {
    fn fail(&mut self, setting: &'static str, message: impl Into<String>) {
        self.failed.push(LiveFailure { setting, message: message.into() });
    }
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

async fn aws(registry: &Registry, project: Option<Project>) -> LiveReport {
    let mut report = LiveReport::default();
    let Some(access) = &registry.capabilities.aws else {
        if registry.capabilities.http.is_none() {
            return registry::attempt(registry).await;
        }
        let reason = "only a request of a caller shows what its provider sends";
        report.done.push(format!("{}: was not tried: {reason}", registry.name));
        return report;
    };
    let settings: AwsSettings = serde_json::from_str(&registry.settings).unwrap_or_default();
    let mut attempt = Attempt { registry, access, settings, project, report: &mut report };
    if timeout(REGISTRY_DEADLINE, attempt.all()).await.is_err() {
        attempt.failed(
            "the calls of AWS took longer than 20 seconds together; check that this machine \
             reaches STS and ECR of the region",
        );
    }
    report
}

struct Attempt<'a> {
    registry: &'a Registry,
    access: &'a AwsAccess,
    settings: AwsSettings,
    /// The project whose repository is tried too.
    project: Option<Project>,
    report: &'a mut LiveReport,
}

impl Attempt<'_> {
    /// In the order of a request. After a failure the next calls would fail for the same reason.
    async fn all(&mut self) {
        let shape = self.registry.shape;
        if let Some(project) = self.project.as_ref().filter(|project| !shape.admits(project)) {
            let message = format!("--project: it has projects {shape}, and `{project}` is none");
            return self.failed(&message);
        }
        let base = self.access.client.caller_identity().await;
        let Some(mut own) = self.step(&LiveStep::Identity, base) else { return };
        self.done(&format!("AWS identifies this process as {own}"));
        if let Some(role) = self.settings.role_arn.clone() {
            let step = LiveStep::OwnRole { base: own, role: role.clone() };
            let assumed = self.access.client.own_role().await;
            if self.step(&step, assumed).is_none() {
                return;
            }
            self.done(&format!("acts as {role}"));
            own = role;
        }
        if self.settings.push_role_arn.is_none() {
            return self.login(own, AwsIdentity::Unscoped).await;
        }
        let Some(project) = self.project.clone().or_else(|| PROBE.parse().ok()) else { return };
        let session = format!("rise-check-{}", Ulid::generate());
        match self.access.ceiling.probes(&project, &session) {
            Ok(probes) => {
                for probe in probes {
                    self.narrowed(&own, probe).await;
                }
            }
            Err(beyond) => {
                self.failed(&format!("its ceiling allows no valid session policy: {beyond}"));
            }
        }
    }

    async fn narrowed(&mut self, own: &str, probe: AssumeRole) {
        let role = probe.role_arn.clone();
        let answer = self.access.client.assume_role(probe.clone()).await;
        let missing = match &answer {
            Err(AwsError::Denied(_)) => self.missing_extras(probe).await,
            Ok(_) | Err(_) => Vec::new(),
        };
        let step = LiveStep::PushRole { own: own.to_owned(), role: role.clone(), missing };
        if let Some(keys) = self.step(&step, answer) {
            self.done(&format!("assumes {role}, narrowed to one repository"));
            self.login(role, AwsIdentity::Session(keys)).await;
        }
    }

    /// The permissions that are missing beyond `sts:AssumeRole`, unless that one was denied.
    async fn missing_extras(&self, probe: AssumeRole) -> Vec<&'static str> {
        let AssumeRole { tags, source_identity, .. } = probe.clone();
        let plain = AssumeRole { tags: Vec::new(), source_identity: None, ..probe };
        if !self.can_assume(&plain).await {
            return Vec::new();
        }
        let mut missing = Vec::new();
        if !tags.is_empty() && !self.can_assume(&AssumeRole { tags, ..plain.clone() }).await {
            missing.push("sts:TagSession");
        }
        if source_identity.is_some()
            && !self.can_assume(&AssumeRole { source_identity, ..plain }).await
        {
            missing.push("sts:SetSourceIdentity");
        }
        missing
    }

    async fn can_assume(&self, request: &AssumeRole) -> bool {
        self.access.client.assume_role(request.clone()).await.is_ok()
    }

    async fn login(&mut self, role: String, identity: AwsIdentity) {
        let region = &self.access.ceiling.region;
        let answer = self.access.client.registry_login(&identity, region).await;
        if self.step(&LiveStep::Login { role: role.clone() }, answer).is_none() {
            return;
        }
        self.done("gets logins from ECR");
        if let Some(project) = self.project.clone() {
            self.repository(&role, &identity, &project).await;
        }
    }

    fn step<T>(&mut self, step: &LiveStep, answer: Result<T, AwsError>) -> Option<T> {
        answer.map_err(|error| self.failed(&advice::aws(step, &error, &self.settings))).ok()
    }

    fn done(&mut self, what: &str) {
        self.report.done.push(format!("{}: {what}", self.registry.name));
    }

    fn failed(&mut self, what: &str) {
        self.report.fail("", what);
    }
}
