//! What the settings lean on outside this machine, tried once: issuers, AWS roles, ECR's login.
//!
//! Nothing that is got here leaves: keys and passwords are dropped where they arrive. No audit record is written, because
//! nobody gets anything and the record is the server's alone; in `CloudTrail` the sessions are named `rise-check-…`.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use ulid::Ulid;

use super::super::{Outcome, print};
use super::advice::{self, LiveStep};
use crate::capability::aws::ceiling::AwsSettings;
use crate::capability::aws::{AssumeRole, AwsAccess, AwsError, AwsIdentity};
use crate::domain::Project;
use crate::identity::jwks::{Discovery, KeySource};
use crate::identity::{DiscoverySettings, IdentitySettings, IssuerSettings, KeyOrigin};
use crate::registries::{Registries, Registry};

/// For both requests of one issuer.
const ISSUER_DEADLINE: Duration = Duration::from_secs(5);
/// For all calls of one registry: a call has four seconds, retries included, and there are mostly four.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(20);
/// A project nobody has: no session of a check opens anything real.
const PROBE: &str = "rise-broker-probe-1";

/// An issuer whose keys come over the network.
pub(super) struct Remote {
    name: String,
    settings: DiscoverySettings,
}

pub(super) fn issuers(settings: &IdentitySettings) -> Vec<Remote> {
    let remote = |it: &IssuerSettings| match &it.keys {
        KeyOrigin::Discovery(settings) => {
            Some(Remote { name: it.name.clone(), settings: settings.clone() })
        }
        KeyOrigin::JwksFile { .. } | KeyOrigin::Local { .. } => None,
    };
    settings.issuers.iter().filter_map(remote).collect()
}

/// Everything at once, told in the order of the settings.
pub(super) async fn run(issuers: Vec<Remote>, registries: &Registries) -> Outcome {
    let mut running = JoinSet::new();
    let count = issuers.len();
    for (order, issuer) in issuers.into_iter().enumerate() {
        running.spawn(async move { (order, keys(&issuer).await) });
    }
    for (order, registry) in registries.iter().map(Arc::clone).enumerate() {
        running.spawn(async move { (count + order, aws(&registry).await) });
    }
    let mut told = running.join_all().await;
    told.sort_by_key(|(order, _)| *order);
    let mut problems = Vec::new();
    for (_, report) in told {
        report.done.iter().for_each(print);
        problems.extend(report.failed);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What worked, and what did not with what to do about it.
#[derive(Default)]
struct LiveReport {
    done: Vec<String>,
    failed: Vec<String>,
}

async fn keys(remote: &Remote) -> LiveReport {
    let Remote { name, settings } = remote;
    let fetched = async {
        let discovery = Discovery::new(name, settings).map_err(|error| error.to_string())?;
        let fetched = timeout(ISSUER_DEADLINE, discovery.fetch()).await;
        fetched.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())
    };
    let mut report = LiveReport::default();
    match fetched.await {
        Ok(_) => report.done.push(format!("issuer {name}: its keys are at hand")),
        Err(error) => report.failed.push(advice::issuer(name, &settings.issuer, &error)),
    }
    report
}

async fn aws(registry: &Registry) -> LiveReport {
    let mut report = LiveReport::default();
    let Some(access) = &registry.capabilities.aws else { return report };
    let settings: AwsSettings = serde_json::from_str(&registry.settings).unwrap_or_default();
    let mut attempt =
        Attempt { name: registry.name.as_str(), access, settings, report: &mut report };
    if timeout(REGISTRY_DEADLINE, attempt.all()).await.is_err() {
        attempt.failed("AWS took longer than 20 seconds in all; see that STS and ECR of this region can be reached");
    }
    report
}

struct Attempt<'a> {
    name: &'a str,
    access: &'a AwsAccess,
    settings: AwsSettings,
    report: &'a mut LiveReport,
}

impl Attempt<'_> {
    /// In the order of a request. What comes behind a failure would fail for the same reason.
    async fn all(&mut self) {
        let base = self.access.client.caller_identity().await;
        let Some(mut own) = self.step(&LiveStep::Identity, base) else { return };
        self.done(&format!("AWS knows this process as {own}"));
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
        let Ok(project) = PROBE.parse::<Project>() else { return };
        let session = format!("rise-check-{}", Ulid::generate());
        match self.access.ceiling.probes(&project, &session) {
            Ok(probes) => {
                for probe in probes {
                    self.narrowed(&own, probe).await;
                }
            }
            Err(beyond) => self
                .failed(&format!("its ceiling makes no session policy that can be sent: {beyond}")),
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

    /// What is missing beyond `sts:AssumeRole`, if that alone is not what was denied.
    async fn missing_extras(&self, probe: AssumeRole) -> Vec<&'static str> {
        let AssumeRole { tags, source_identity, .. } = probe.clone();
        let plain = AssumeRole { tags: Vec::new(), source_identity: None, ..probe };
        if !self.may(&plain).await {
            return Vec::new();
        }
        let mut missing = Vec::new();
        if !tags.is_empty() && !self.may(&AssumeRole { tags, ..plain.clone() }).await {
            missing.push("sts:TagSession");
        }
        if source_identity.is_some() && !self.may(&AssumeRole { source_identity, ..plain }).await {
            missing.push("sts:SetSourceIdentity");
        }
        missing
    }

    async fn may(&self, request: &AssumeRole) -> bool {
        self.access.client.assume_role(request.clone()).await.is_ok()
    }

    async fn login(&mut self, role: String, identity: AwsIdentity) {
        let region = &self.access.ceiling.region;
        let answer = self.access.client.registry_login(&identity, region).await;
        if self.step(&LiveStep::Login { role }, answer).is_some() {
            self.done("gets logins from ECR");
        }
    }

    fn step<T>(&mut self, step: &LiveStep, answer: Result<T, AwsError>) -> Option<T> {
        answer.map_err(|error| self.failed(&advice::aws(step, &error, &self.settings))).ok()
    }

    fn done(&mut self, what: &str) {
        self.report.done.push(format!("{}: {what}", self.name));
    }

    fn failed(&mut self, what: &str) {
        self.report.failed.push(format!("registries.{}: {what}", self.name));
    }
}
