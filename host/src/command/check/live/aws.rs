//! Tries what a registry on AWS needs, in the order of a request: the identity of the process, the
//! roles with a session policy, ECR's login.

use aws_credential_types::Credentials as Keys;
use tokio::time::timeout;
use ulid::Ulid;

use super::super::advice::{self, LiveStep, SentToken};
use super::{LiveReport, REGISTRY_DEADLINE};
use crate::capability::aws::settings::AwsSettings;
use crate::capability::aws::{AssumeRole, AwsAccess, AwsError, AwsIdentity};
use crate::domain::{Actions, Clock, Project};
use crate::registries::Registry;
use crate::signing::IdentityClaims;

/// A project that nobody has: the sessions of a check open nothing real.
const PROBE: &str = "rise-broker-probe-1";

pub(super) async fn attempt(registry: &Registry, project: Option<Project>) -> LiveReport {
    let mut report = LiveReport::default();
    let Some(access) = &registry.capabilities.aws else {
        if registry.capabilities.http.is_none() {
            return super::registry::attempt(registry).await;
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

pub(super) struct Attempt<'a> {
    pub(super) registry: &'a Registry,
    pub(super) access: &'a AwsAccess,
    pub(super) settings: AwsSettings,
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
        if let Some(web_identity) = &self.access.web_identity {
            let own = web_identity.signing.issuer().to_owned();
            return self.push_roles(&own).await;
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
        self.push_roles(&own).await;
    }

    async fn push_roles(&mut self, own: &str) {
        let Some(project) = self.project.clone().or_else(|| PROBE.parse().ok()) else { return };
        let session = format!("rise-check-{}", Ulid::generate());
        match self.access.ceiling.probes(&project, &session) {
            Ok(probes) => {
                for probe in probes {
                    self.narrowed(own, &project, probe).await;
                }
            }
            Err(beyond) => {
                self.failed(&format!("its ceiling allows no valid session policy: {beyond}"));
            }
        }
    }

    async fn narrowed(&mut self, own: &str, project: &Project, probe: AssumeRole) {
        let role = probe.role_arn.clone();
        let answer = self.assume(project, probe.clone()).await;
        if let Some(web_identity) = &self.access.web_identity {
            let sent = SentToken {
                issuer: own.to_owned(),
                subject: self.stated(project).subject(),
                audience: web_identity.audience.clone(),
            };
            let step = LiveStep::WebIdentity { role: role.clone(), sent };
            return self.assumed(&step, role, answer).await;
        }
        let missing = match &answer {
            Err(AwsError::Denied(_)) => self.missing_extras(project, probe).await,
            Ok(_) | Err(_) => Vec::new(),
        };
        let step = LiveStep::PushRole { own: own.to_owned(), role: role.clone(), missing };
        self.assumed(&step, role, answer).await;
    }

    async fn assumed(&mut self, step: &LiveStep, role: String, answer: Result<Keys, AwsError>) {
        if let Some(keys) = self.step(step, answer) {
            let how =
                self.access.web_identity.as_ref().map_or("", |_| " by a token of this broker");
            self.done(&format!("assumes {role}{how}, narrowed to one repository"));
            self.login(role, AwsIdentity::Session(keys)).await;
        }
    }

    /// Sends the request, with a token of this broker if the registry has no keys.
    async fn assume(&self, project: &Project, request: AssumeRole) -> Result<Keys, AwsError> {
        let proof = match &self.access.web_identity {
            Some(web_identity) => {
                let (id, now) = (Ulid::generate(), Clock::system().now());
                let proof = web_identity.prove(self.stated(project), &request, id, now);
                Some(proof.map_err(|error| AwsError::Nonsense(error.to_string()))?)
            }
            None => None,
        };
        self.access.assume_role(request, proof.as_ref()).await
    }

    /// The widest grant to the project.
    fn stated<'p>(&'p self, project: &'p Project) -> IdentityClaims<'p> {
        let registry = &self.registry.name;
        IdentityClaims { project, registry, actions: Actions::PULL_AND_PUSH }
    }

    /// The permissions that are missing beyond `sts:AssumeRole`, unless that one was denied.
    async fn missing_extras(&self, project: &Project, probe: AssumeRole) -> Vec<&'static str> {
        let AssumeRole { tags, source_identity, .. } = probe.clone();
        let plain = AssumeRole { tags: Vec::new(), source_identity: None, ..probe };
        if !self.can_assume(project, &plain).await {
            return Vec::new();
        }
        let mut missing = Vec::new();
        let tagged = AssumeRole { tags, ..plain.clone() };
        if !tagged.tags.is_empty() && !self.can_assume(project, &tagged).await {
            missing.push("sts:TagSession");
        }
        if source_identity.is_some()
            && !self.can_assume(project, &AssumeRole { source_identity, ..plain }).await
        {
            missing.push("sts:SetSourceIdentity");
        }
        missing
    }

    async fn can_assume(&self, project: &Project, request: &AssumeRole) -> bool {
        self.assume(project, request.clone()).await.is_ok()
    }

    async fn login(&mut self, role: String, identity: AwsIdentity) {
        let AwsAccess { ceiling, client, .. } = self.access;
        let (service, answer) = if ceiling.is_public() {
            ("ECR Public", client.public_login(&identity).await)
        } else {
            ("ECR", client.registry_login(&identity, &ceiling.region).await)
        };
        let step = LiveStep::Login { role: role.clone(), actions: ceiling.login_actions() };
        if self.step(&step, answer).is_none() {
            return;
        }
        self.done(&format!("gets logins from {service}"));
        if let Some(project) = self.project.clone() {
            self.repository(&role, &identity, &project).await;
        }
    }

    pub(super) fn step<T>(&mut self, step: &LiveStep, answer: Result<T, AwsError>) -> Option<T> {
        answer.map_err(|error| self.failed(&advice::aws(step, &error, &self.settings))).ok()
    }

    pub(super) fn done(&mut self, what: &str) {
        self.report.done.push(format!("{}: {what}", self.registry.name));
    }

    fn failed(&mut self, what: &str) {
        self.report.fail("", what);
    }
}
