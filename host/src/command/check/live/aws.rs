//! Tries what a registry on AWS needs, in the order of a request: the identity of the process, the
//! roles with a session policy, ECR's login.

use aws_credential_types::Credentials as Keys;
use tokio::time::timeout;
use ulid::Ulid;

use super::super::advice::{self, LiveStep, SentToken};
use super::super::sent_token::needed_actions;
use super::{LiveReport, REGISTRY_DEADLINE};
use crate::capability::aws::settings::AwsSettings;
use crate::capability::aws::{AssumeRole, AwsAccess, AwsError, AwsIdentity};
use crate::domain::{Actions, Clock, Project};
use crate::keys::SigningError;
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
            if !web_identity.signing.is_kept() {
                let message = "was not tried: there is no signing key yet; start the broker once, \
                               which creates it, and try again";
                return self.report.fail("web_identity", message);
            }
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
        if let Some(probe) = self.project.clone().or_else(|| PROBE.parse().ok()) {
            self.managed_repositories(&own, &probe).await;
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
        if self.access.web_identity.is_some() {
            return self.by_token(project, probe).await;
        }
        let role = probe.role_arn.clone();
        let answer = self.access.assume_role(probe.clone(), None).await;
        let missing = match &answer {
            Err(AwsError::Denied(_)) => self.missing_extras(probe).await,
            Ok(_) | Err(_) => Vec::new(),
        };
        let step = LiveStep::PushRole { own: own.to_owned(), role: role.clone(), missing };
        let Some(keys) = self.step(&step, answer) else { return };
        self.done(&format!("assumes {role}, narrowed to one repository"));
        self.login(role, AwsIdentity::Session(keys)).await;
    }

    /// By the token of a grant to pull and push, and by that of one to pull alone: a trust policy
    /// may list the subject of one of them only.
    async fn by_token(&mut self, project: &Project, probe: AssumeRole) {
        let role = probe.role_arn.clone();
        let mut session = None;
        for actions in [Actions::PULL_AND_PUSH, Actions::PULL] {
            let (sent, answer) = match self.assume_by_token(project, actions, &probe).await {
                Ok(assumed) => assumed,
                Err(error) => return self.failed(&error.to_string()),
            };
            let step = LiveStep::WebIdentity { role: role.clone(), sent };
            let Some(keys) = self.step(&step, answer) else { return };
            session.get_or_insert(keys);
        }
        let Some(keys) = session else { return };
        self.done(&format!("assumes {role} by a token of this broker, narrowed to one repository"));
        self.login(role, AwsIdentity::Session(keys)).await;
    }

    async fn assume_by_token(
        &self,
        project: &Project,
        actions: Actions,
        request: &AssumeRole,
    ) -> Result<(SentToken, Result<Keys, AwsError>), SigningError> {
        let Some(web_identity) = &self.access.web_identity else { return Err(SigningError) };
        let stated = IdentityClaims { project, registry: &self.registry.name, actions };
        let (id, now) = (Ulid::generate(), Clock::system().now());
        let proof = web_identity.prove(stated, request, id, now)?;
        let (has_tags, has_source) = (!request.tags.is_empty(), request.source_identity.is_some());
        let sent = SentToken {
            issuer: web_identity.signing.issuer().to_owned(),
            subject: stated.subject(),
            audience: web_identity.audience.clone(),
            actions: needed_actions(has_tags, has_source),
            is_named: self.project.is_some(),
        };
        Ok((sent, self.access.assume_role(request.clone(), Some(&proof)).await))
    }

    /// The permissions that are missing beyond `sts:AssumeRole`, unless that one was denied.
    async fn missing_extras(&self, probe: AssumeRole) -> Vec<&'static str> {
        let AssumeRole { tags, source_identity, .. } = probe.clone();
        let plain = AssumeRole { tags: Vec::new(), source_identity: None, ..probe };
        if !self.can_assume(&plain).await {
            return Vec::new();
        }
        let mut missing = Vec::new();
        let tagged = AssumeRole { tags, ..plain.clone() };
        if !tagged.tags.is_empty() && !self.can_assume(&tagged).await {
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
        self.access.assume_role(request.clone(), None).await.is_ok()
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

    pub(super) fn failed(&mut self, what: &str) {
        self.report.fail("", what);
    }
}
