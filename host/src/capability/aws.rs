//! `aws`: temporary AWS access, requested by providers and held by the host.
//!
//! A provider names a role and statements and gets an opaque session. Keys never leave the host. A
//! provider can make no AWS call that is not here, and [`ceiling`] writes each request from values
//! that it has checked.

pub mod ceiling;
pub mod denials;
pub(crate) mod elsewhere;
mod error;
mod http_client;
pub mod repository;
pub mod sdk;
pub mod settings;
pub mod web_identity;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use aws_credential_types::Credentials as Keys;
use wasmtime::component::{Linker, Resource};

use super::secrets::{SecretHandle, SecretOrigin};
use super::state::{HasState, Purpose};
use super::{CallState, withheld_text};
use crate::capability::wit::rise::registry::aws::{self, RegistryLogin, Statement};
use crate::capability::wit::rise::registry::types::Error;
use crate::domain::{AwsAccount, AwsSession, Secret};
use crate::rules::{Grant, GrantView};
use crate::signing::IdentityClaims;
use crate::telemetry::{Metrics, traces};
use ceiling::AwsCeiling;
use denials::{PolicyCall, RoleDenials};
pub use error::AwsError;
pub use repository::{RepositoryAction, RepositoryTry};
use repository::{RepositoryAnswer, RepositoryCall, RepositoryPage, RepositoryPlace};
use web_identity::{Proof, WebIdentity};

/// The AWS calls behind this capability, for one registry. `SdkAws` in production.
#[async_trait]
pub trait Aws: Send + Sync {
    /// STS `AssumeRole`.
    async fn assume_role(&self, request: AssumeRole) -> Result<Keys, AwsError>;
    /// STS `AssumeRoleWithWebIdentity`, with a token that this broker has signed.
    async fn assume_role_with_web_identity(
        &self,
        request: AssumeRole,
        token: Arc<Secret>,
    ) -> Result<Keys, AwsError>;
    /// ECR `GetAuthorizationToken`.
    async fn registry_login(
        &self,
        identity: &AwsIdentity,
        region: &str,
    ) -> Result<EcrLogin, AwsError>;
    /// `GetAuthorizationToken` of ECR Public.
    async fn public_login(&self, identity: &AwsIdentity) -> Result<EcrLogin, AwsError>;
    /// The ARN by which AWS knows this process, before `role_arn` is assumed. It needs no
    /// permission.
    async fn caller_identity(&self) -> Result<String, AwsError>;
    /// Assumes `role_arn`, if it is set and is not already the identity of this process.
    async fn own_role(&self) -> Result<(), AwsError>;
    /// Tries a permission on one repository of ECR, for `check --live`.
    async fn try_repository(
        &self,
        identity: &AwsIdentity,
        wanted: RepositoryTry,
    ) -> Result<(), AwsError>;
    /// Reads or changes one repository of ECR as the registry's own identity.
    async fn repository(
        &self,
        place: &RepositoryPlace,
        call: RepositoryCall,
    ) -> Result<RepositoryAnswer, AwsError>;
    /// Reads or changes an inline policy of a role, as the registry's own identity. Returns the
    /// policy if it is read and there is one.
    async fn role_policy(
        &self,
        role: &str,
        policy: &str,
        call: PolicyCall,
    ) -> Result<Option<String>, AwsError>;
    /// Lists the repositories of the account, whatever their names are, as the registry's own
    /// identity. `place` is without a repository; `token` is that of the page before.
    async fn repositories(
        &self,
        place: &RepositoryPlace,
        token: Option<String>,
    ) -> Result<RepositoryPage, AwsError>;
}

/// Everything that the host sends with an `AssumeRole`, checked and composed. It has no
/// `PolicyArns`: session policies add up, so a second one would widen the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    pub role_arn: String,
    pub session_name: String,
    pub policy: String,
    pub source_identity: Option<String>,
    pub tags: Vec<(String, String)>,
}

/// The identity with which a request is signed.
#[derive(Clone)]
pub enum AwsIdentity {
    /// The keys that `AssumeRole` returned.
    Session(Keys),
    /// The registry's own identity: `role_arn`, or the base identity without it. The client renews
    /// it, so it has no keys here.
    Unscoped,
}

/// How an error begins if AWS's login is for another registry.
pub(crate) const OTHER_REGISTRY: &str = "the login is for another registry";

/// Where a provider wants to log in.
#[derive(Clone, Copy)]
enum LoginService<'a> {
    Ecr { region: &'a str },
    EcrPublic,
}

/// The call that returns a login, as metrics name it.
const LOGIN: &str = "GetAuthorizationToken";

/// The answer of `GetAuthorizationToken`, decoded.
pub struct EcrLogin {
    pub endpoint: String,
    pub username: String,
    pub password: Secret,
    pub expires_at: u64,
}

/// A call in flight. It is counted when it is dropped, because the deadline of the provider call
/// may end it first.
struct UpstreamCall {
    metrics: Metrics,
    capabilities: Arc<super::Capabilities>,
    operation: &'static str,
    outcome: &'static str,
    started: Instant,
}

impl UpstreamCall {
    fn new(state: &CallState, operation: &'static str) -> Self {
        let (metrics, capabilities) = (state.metrics.clone(), Arc::clone(&state.capabilities));
        Self { metrics, capabilities, operation, outcome: "timed-out", started: Instant::now() }
    }
}

impl Drop for UpstreamCall {
    fn drop(&mut self) {
        let registry = &self.capabilities.registry;
        self.metrics.upstream_call(registry, self.operation, self.outcome, self.started.elapsed());
        let facts = [("rise.registry", &**registry), ("rise.outcome", self.outcome)];
        traces::called(self.operation, self.started, &facts);
    }
}

/// The ceiling of one registry in AWS, and the client that calls AWS.
#[derive(Clone)]
pub struct AwsAccess {
    pub ceiling: AwsCeiling,
    pub client: Arc<dyn Aws>,
    /// What proves the broker to STS in place of keys.
    pub web_identity: Option<WebIdentity>,
    /// `None`: nobody ends its sessions before their time.
    pub denials: Option<RoleDenials>,
    /// Whose calls AWS counts.
    pub account: AwsAccount,
}

impl AwsAccess {
    /// The calls of each mint, as metrics name them.
    pub(crate) fn operations(&self) -> [&'static str; 2] {
        [self.assumes_by(), LOGIN]
    }

    /// The subject of the token that proves the broker to STS, if it has no keys.
    pub(crate) fn subject(&self, grant: &Grant) -> Option<String> {
        self.web_identity.as_ref().map(|_| IdentityClaims::of(grant).subject())
    }

    fn assumes_by(&self) -> &'static str {
        match self.web_identity {
            Some(_) => "AssumeRoleWithWebIdentity",
            None => "AssumeRole",
        }
    }

    /// Assumes the role: with the registry's keys, or by a token of this broker.
    pub(crate) async fn assume_role(
        &self,
        request: AssumeRole,
        proof: Option<&Proof>,
    ) -> Result<Keys, AwsError> {
        match proof {
            None => self.client.assume_role(request).await,
            Some(proof) => {
                let token = Arc::clone(&proof.token);
                self.client.assume_role_with_web_identity(request, token).await
            }
        }
    }
}

/// A session of a provider: a handle on an identity whose keys stay here.
pub struct Session {
    identity: AwsIdentity,
    /// `None`: the registry's own identity, which no policy narrows.
    narrowed: Option<AwsSession>,
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    aws::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl CallState {
    /// Waits for AWS, and counts and logs the call.
    pub(super) async fn upstream<T: Send>(
        &mut self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, AwsError>> + Send,
    ) -> Result<T, Error> {
        self.upstream_slow = true;
        let mut call = UpstreamCall::new(self, operation);
        let answer = answer.await;
        call.outcome = answer.as_ref().err().map_or("ok", AwsError::as_str);
        drop(call);
        self.upstream_slow = matches!(answer, Err(AwsError::TimedOut(_)));
        answer.map_err(|error| {
            // Whatever answers in AWS's place may repeat what it got.
            let error = match self.withheld(&error.to_string()) {
                Some(secret) => AwsError::Nonsense(withheld_text(secret)),
                None => error,
            };
            let (registry, web_identity) = (&self.capabilities.registry, self.subject());
            tracing::warn!(%registry, web_identity, %error, "an AWS call failed");
            error.into()
        })
    }

    /// The subject of the tokens that prove this call to STS.
    fn subject(&self) -> Option<String> {
        let Purpose::Issue(grant) = &self.purpose else { return None };
        self.capabilities.aws.as_ref()?.subject(grant)
    }

    /// Begins a function: returns the grant and the capabilities to act with, or the refusal.
    fn aws(
        &mut self,
        import: &'static str,
    ) -> Result<(GrantView, Arc<super::Capabilities>), Error> {
        let grant = self.begin(import)?;
        // Counted before anything is checked: comparing with the ceiling costs time too.
        self.aws_calls += 1;
        if self.aws_calls > self.limits.aws_calls {
            return Err(self.refuse(format!("more than {} AWS calls", self.limits.aws_calls)));
        }
        if self.capabilities.aws.is_none() {
            return Err(self.refuse("AWS, which this registry's settings do not allow".to_owned()));
        }
        Ok((grant, Arc::clone(&self.capabilities)))
    }

    async fn open_session(
        &mut self,
        role_arn: &str,
        statements: &[Statement],
    ) -> Result<Session, Error> {
        let (grant, capabilities) = self.aws("aws.assume-role")?;
        let Some(access) = &capabilities.aws else { return Err(Error::Refused(String::new())) };
        let request = access
            .ceiling
            .assume_role(role_arn, statements, &grant)
            .map_err(|beyond| self.refuse(beyond.to_string()))?;
        let proof = self.proof(access, &request, &grant)?;
        let (role_arn, session_name) = (request.role_arn.clone(), request.session_name.clone());
        let answer = access.assume_role(request, proof.as_ref());
        let keys = self.upstream(access.assumes_by(), answer).await?;
        let access_key_id = keys.access_key_id().to_owned();
        let web_identity = proof.map(|proof| proof.subject);
        let session = AwsSession { session_name, role_arn, access_key_id, web_identity };
        Ok(Session { identity: AwsIdentity::Session(keys), narrowed: Some(session) })
    }

    /// Signs the token of this call, if the registry has no keys. No output may repeat it.
    fn proof(
        &mut self,
        access: &AwsAccess,
        request: &AssumeRole,
        grant: &Grant,
    ) -> Result<Option<Proof>, Error> {
        let Some(web_identity) = &access.web_identity else { return Ok(None) };
        let stated = IdentityClaims::of(grant);
        let proof = web_identity.prove(stated, request, grant.id(), self.time());
        let proof = proof.map_err(|error| Error::Failed(error.to_string()))?;
        self.issued.add_private(&proof.token, "an identity token");
        Ok(Some(proof))
    }

    fn open_unscoped(&mut self) -> Result<Session, Error> {
        let (_, capabilities) = self.aws("aws.unscoped")?;
        let Some(access) = &capabilities.aws else { return Err(Error::Refused(String::new())) };
        if !access.ceiling.allows_unscoped() {
            return Err(self.refuse(
                "an AWS session that is not narrowed, without `accept_scope = \"registry\"`"
                    .to_owned(),
            ));
        }
        Ok(Session { identity: AwsIdentity::Unscoped, narrowed: None })
    }

    /// The login of a session, to ECR in a region or to ECR Public.
    async fn login(
        &mut self,
        session: &Resource<Session>,
        service: LoginService<'_>,
    ) -> wasmtime::Result<Result<RegistryLogin, Error>> {
        let Session { identity, narrowed } = self.table.get(session)?;
        let (identity, narrowed) = (identity.clone(), narrowed.clone());
        let login = match self.ask_for_login(&identity, service).await {
            Ok(login) => login,
            Err(error) => return Ok(Err(error)),
        };
        let EcrLogin { endpoint, username, password, expires_at } = login;
        let handle = SecretHandle {
            secret: Arc::new(password),
            origin: SecretOrigin::Aws(narrowed),
            name: "aws".into(),
            expires_at: Some(expires_at),
        };
        let password = self.give(handle)?;
        Ok(Ok(RegistryLogin { endpoint, username, password, expires_at }))
    }

    async fn ask_for_login(
        &mut self,
        identity: &AwsIdentity,
        service: LoginService<'_>,
    ) -> Result<EcrLogin, Error> {
        let (_, capabilities) = self.aws(match service {
            LoginService::Ecr { .. } => "aws.ecr-login",
            LoginService::EcrPublic => "aws.ecr-public-login",
        })?;
        let Some(access) = &capabilities.aws else { return Err(Error::Refused(String::new())) };
        let (ceiling, client) = (&access.ceiling, &access.client);
        match service {
            LoginService::Ecr { region } if ceiling.is_public() || region != ceiling.region => {
                Err(self.refuse(format!("a login in region `{}`", super::printable(region, 64))))
            }
            LoginService::EcrPublic if !ceiling.is_public() => Err(self.refuse(
                "a login of ECR Public, and the settings have no `public_alias`".to_owned(),
            )),
            LoginService::Ecr { region } => {
                self.upstream(LOGIN, client.registry_login(identity, region)).await
            }
            LoginService::EcrPublic => self.upstream(LOGIN, client.public_login(identity)).await,
        }
    }
}

impl aws::Host for CallState {
    async fn assume_role(
        &mut self,
        role_arn: String,
        statements: Vec<Statement>,
    ) -> wasmtime::Result<Result<Resource<Session>, Error>> {
        match self.open_session(&role_arn, &statements).await {
            Ok(session) => Ok(Ok(self.table.push(session)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn unscoped(&mut self) -> wasmtime::Result<Result<Resource<Session>, Error>> {
        match self.open_unscoped() {
            Ok(session) => Ok(Ok(self.table.push(session)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl aws::HostSession for CallState {
    async fn ecr_login(
        &mut self,
        session: Resource<Session>,
        region: String,
    ) -> wasmtime::Result<Result<RegistryLogin, Error>> {
        self.login(&session, LoginService::Ecr { region: &region }).await
    }

    async fn ecr_public_login(
        &mut self,
        session: Resource<Session>,
    ) -> wasmtime::Result<Result<RegistryLogin, Error>> {
        self.login(&session, LoginService::EcrPublic).await
    }

    async fn drop(&mut self, session: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}
