//! The `aws` port on the official SDK.
//!
//! There is one retry layer, in `retry`; the SDK's own is off. Timeouts are explicit, so that a
//! call ends before its deadline when AWS hangs. Keys come from the SDK's default chain or from the
//! registry's settings; `controller` keeps the identity that assumes roles.

mod controller;
mod failure;
mod login;
mod repositories;
mod repository;
mod retry;
mod role_policies;

pub use retry::RetryBudget;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as Keys;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::operation::assume_role::builders::AssumeRoleFluentBuilder;
use aws_sdk_sts::types::Tag;

use self::controller::Controller;
use self::failure::{failure, own_token};
use self::retry::retrying;
use super::denials::PolicyCall;
use super::elsewhere::elsewhere;
use super::repository::{RepositoryAnswer, RepositoryCall, RepositoryPage, RepositoryPlace};
use super::settings::{AwsSettings, account_of};
use super::{AssumeRole, Aws, AwsError, AwsIdentity, EcrLogin, RepositoryTry, http_client};
use crate::config::environment;
use crate::domain::Secret;

/// The shortest session that STS accepts. An ECR token outlives its session, so a longer session
/// would not help.
const SESSION_SECONDS: i32 = 900;
const CONNECT: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// AWS for one registry.
pub struct SdkAws {
    controller: Controller,
    budget: Arc<RetryBudget>,
    /// The registry's account; empty if its settings do not name one.
    account_id: String,
    /// The account of `push_role_arn`, whose login opens what the repository policies of
    /// `account_id` allow it.
    session_account: Option<String>,
}

impl SdkAws {
    /// `budget`: the retries of this account and region.
    pub async fn connect(
        settings: &AwsSettings,
        keys: Option<(&Secret, &Secret)>,
        budget: Arc<RetryBudget>,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .http_client(http_client::shared())
            .timeout_config(timeouts);
        if let Ok(name) = AppName::new("rise-broker") {
            loader = loader.app_name(name);
        }
        // The SDK rejects both together.
        if settings.fips && elsewhere(settings, &environment()).is_empty() {
            loader = loader.use_fips(true);
        }
        if settings.web_identity {
            // No key of this machine is ever used for it.
            loader = loader.no_credentials();
        } else if let Some((id, secret)) = keys {
            loader = loader.credentials_provider(Keys::new(
                id.expose(),
                secret.expose(),
                None,
                None,
                "settings",
            ));
        }
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        // After the load, so that the providers of the base identity keep their own retries.
        let base = loader.load().await.into_builder().retry_config(RetryConfig::disabled()).build();
        let role_arn = settings.role_arn.clone();
        let controller = Controller::new(base, role_arn, keys.is_some(), Arc::clone(&budget));
        let session_account = settings.push_role_arn.as_deref().and_then(account_of);
        let session_account = session_account.map(str::to_owned);
        Self { controller, budget, account_id: settings.account_id.clone(), session_account }
    }

    /// Makes attempts with this identity until one works or no more may help.
    async fn retrying<T, F>(
        &self,
        config: SdkConfig,
        attempt: impl Fn(SdkConfig) -> F,
    ) -> Result<T, AwsError>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        retrying(&self.budget, || attempt(config.clone())).await
    }

    /// Makes the call with the keys of this identity.
    async fn act_as<T, F>(
        &self,
        identity: &AwsIdentity,
        attempt: impl Fn(SdkConfig) -> F,
    ) -> Result<T, AwsError>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        match identity {
            AwsIdentity::Unscoped => {
                self.controller.act(|config| self.retrying(config, &attempt)).await
            }
            AwsIdentity::Session(keys) => {
                let config = with_keys(&self.controller.base(), keys.clone());
                self.retrying(config, attempt).await
            }
        }
    }

    /// The accounts whose login this identity may have. A session is narrowed to repositories of
    /// `account_id` wherever its role is. The broker's own identity is not: in another account it
    /// would open what nobody was granted.
    fn login_accounts(&self, identity: &AwsIdentity) -> Vec<&str> {
        let of_session = match identity {
            AwsIdentity::Session(_) => self.session_account.as_deref(),
            AwsIdentity::Unscoped => None,
        };
        [self.account_id.as_str()].into_iter().chain(of_session).collect()
    }
}

/// The configuration without the shared cache of identities: the cache would keep these keys, and
/// it keeps at most 64 sessions.
fn with_keys(base: &SdkConfig, keys: Keys) -> SdkConfig {
    base.to_builder()
        .identity_cache(IdentityCache::no_cache())
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .build()
}

fn sts(config: &SdkConfig) -> aws_sdk_sts::Client {
    aws_sdk_sts::Client::new(config)
}

async fn caller_arn(config: SdkConfig) -> Result<String, AwsError> {
    let answer = sts(&config).get_caller_identity().send().await;
    let arn = answer.map_err(|error| failure(&error))?.arn;
    arn.ok_or_else(|| AwsError::Nonsense("GetCallerIdentity without an ARN".to_owned()))
}

/// One attempt to assume a role for a grant.
async fn assume(config: SdkConfig, request: AssumeRole) -> Result<Keys, AwsError> {
    let AssumeRole { role_arn, session_name, policy, source_identity, tags } = request;
    let tags = tags
        .into_iter()
        .filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok())
        .collect::<Vec<_>>();
    let request = sts(&config)
        .assume_role()
        .role_arn(role_arn)
        .role_session_name(session_name)
        .duration_seconds(SESSION_SECONDS)
        .policy(policy)
        .set_source_identity(source_identity)
        .set_tags(Some(tags).filter(|tags| !tags.is_empty()));
    session(request).await
}

/// One attempt to assume a role for a grant by a token. STS needs no signature of the request.
async fn assume_by_token(
    config: SdkConfig,
    request: AssumeRole,
    token: Arc<Secret>,
) -> Result<Keys, AwsError> {
    let AssumeRole { role_arn, session_name, policy, source_identity: _, tags: _ } = request;
    let request = sts(&config)
        .assume_role_with_web_identity()
        .role_arn(role_arn)
        .role_session_name(session_name)
        .duration_seconds(SESSION_SECONDS)
        .policy(policy)
        .web_identity_token(token.expose());
    let answer = request.send().await.map_err(|error| own_token(failure(&error)))?;
    keys_of(answer.credentials, "AssumeRoleWithWebIdentity")
}

#[async_trait]
impl Aws for SdkAws {
    async fn assume_role(&self, request: AssumeRole) -> Result<Keys, AwsError> {
        let attempt = |config: SdkConfig| assume(config, request.clone());
        self.controller.act(|config| self.retrying(config, attempt)).await
    }

    async fn assume_role_with_web_identity(
        &self,
        request: AssumeRole,
        token: Arc<Secret>,
    ) -> Result<Keys, AwsError> {
        let attempt =
            |config: SdkConfig| assume_by_token(config, request.clone(), Arc::clone(&token));
        self.retrying(self.controller.base(), attempt).await
    }

    async fn registry_login(
        &self,
        identity: &AwsIdentity,
        region: &str,
    ) -> Result<EcrLogin, AwsError> {
        let attempt = |config: SdkConfig| login::ask(config, region.to_owned());
        let answer = self.act_as(identity, attempt).await?;
        login::decode(answer, region, &self.login_accounts(identity))
    }

    async fn public_login(&self, identity: &AwsIdentity) -> Result<EcrLogin, AwsError> {
        login::decode_public(self.act_as(identity, login::ask_public).await?)
    }

    async fn caller_identity(&self) -> Result<String, AwsError> {
        self.retrying(self.controller.base(), caller_arn).await
    }

    async fn own_role(&self) -> Result<(), AwsError> {
        self.controller.identity().await.map(drop)
    }

    async fn try_repository(
        &self,
        identity: &AwsIdentity,
        wanted: RepositoryTry,
    ) -> Result<(), AwsError> {
        self.act_as(identity, |config| repository::attempt(config, wanted.clone())).await
    }

    async fn repository(
        &self,
        place: &RepositoryPlace,
        call: RepositoryCall,
    ) -> Result<RepositoryAnswer, AwsError> {
        let attempt = |config| repositories::attempt(config, place.clone(), call.clone());
        self.act_as(&AwsIdentity::Unscoped, attempt).await
    }

    async fn role_policy(
        &self,
        role: &str,
        policy: &str,
        call: PolicyCall,
    ) -> Result<Option<String>, AwsError> {
        let names = (role.to_owned(), policy.to_owned());
        let attempt = |config| role_policies::attempt(config, names.clone(), call.clone());
        self.act_as(&AwsIdentity::Unscoped, attempt).await
    }

    async fn repositories(
        &self,
        place: &RepositoryPlace,
        token: Option<String>,
    ) -> Result<RepositoryPage, AwsError> {
        let attempt = |config| repositories::page(config, place.clone(), token.clone());
        self.act_as(&AwsIdentity::Unscoped, attempt).await
    }
}

/// Sends the request and returns the keys of the answer.
async fn session(request: AssumeRoleFluentBuilder) -> Result<Keys, AwsError> {
    let answer = request.send().await.map_err(|error| failure(&error))?;
    keys_of(answer.credentials, "AssumeRole")
}

/// The keys of an answer to `operation`.
fn keys_of(
    credentials: Option<aws_sdk_sts::types::Credentials>,
    operation: &str,
) -> Result<Keys, AwsError> {
    let nonsense = |what: &str| AwsError::Nonsense(format!("{operation} {what}"));
    let keys = credentials.ok_or_else(|| nonsense("without credentials"))?;
    // It is recorded, and whatever answers in AWS's place may put something else there.
    let is_capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if keys.access_key_id.len() > 128 || !keys.access_key_id.bytes().all(is_capital) {
        return Err(nonsense("with an access key id that is none"));
    }
    let ends = SystemTime::try_from(keys.expiration)
        .map_err(|_| nonsense("with an expiry that is no time"))?;
    Ok(Keys::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        Some(ends),
        "assumed role",
    ))
}

/// Whether `identity` (`arn:aws:sts::123456789012:assumed-role/name/session`) is a session of the
/// role at `role_arn` (`arn:aws:iam::123456789012:role/path/name`).
fn is_session_of(identity: &str, role_arn: &str) -> bool {
    let (Some(identity), Some(role)) = (Arn::parse(identity), Arn::parse(role_arn)) else {
        return false;
    };
    let session =
        identity.resource.strip_prefix("assumed-role/").and_then(|name| name.split('/').next());
    let name = role.resource.strip_prefix("role/").and_then(|name| name.rsplit('/').next());
    (identity.service, role.service) == ("sts", "iam")
        && (identity.partition, identity.account) == (role.partition, role.account)
        && session.is_some()
        && session == name
}

/// The parts of `arn:partition:service:region:account:resource` that tell identities apart.
struct Arn<'a> {
    partition: &'a str,
    service: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':').skip(1);
        let (partition, service) = (parts.next()?, parts.next()?);
        let (account, resource) = (parts.nth(1)?, parts.next()?);
        Some(Self { partition, service, account, resource })
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sts::primitives::DateTime;
    use aws_sdk_sts::types::Credentials;

    use super::*;

    /// It is in the record of each issue.
    #[test]
    fn an_access_key_id_is_short_and_has_no_token_in_it() {
        for (id, is_one) in [
            ("ASIAEXAMPLEEXAMPLE12".to_owned(), true),
            ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned(), false),
            ("A".repeat(129), false),
        ] {
            let keys = Credentials::builder()
                .access_key_id(&id)
                .secret_access_key("secret")
                .session_token("token")
                .expiration(DateTime::from_secs(4_000_000_000));
            let keys = keys_of(Some(keys.build().unwrap()), "AssumeRole");
            assert_eq!(keys.is_ok(), is_one, "{id}");
        }
    }

    #[test]
    fn a_session_is_known_by_account_and_role_name() {
        let session = "arn:aws:sts::123456789012:assumed-role/rise-backend/i-0abc";
        for (role, same) in [
            ("arn:aws:iam::123456789012:role/rise-backend", true),
            ("arn:aws:iam::123456789012:role/path/rise-backend", true),
            ("arn:aws:iam::123456789012:role/rise-backend-ecr-push", false),
            ("arn:aws:iam::999999999999:role/rise-backend", false),
            ("arn:aws-cn:iam::123456789012:role/rise-backend", false),
            ("arn:aws:iam::123456789012:user/rise-backend", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_session_of(session, role), same, "{role}");
        }
        assert!(!is_session_of(
            "arn:aws:iam::123456789012:user/rise-backend",
            "arn:aws:iam::123456789012:role/rise-backend"
        ));
    }
}
