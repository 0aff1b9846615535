//! The `aws` port on the official SDK.
//!
//! There is one retry layer, the SDK's own. Timeouts are explicit, so that a call ends before its
//! deadline when AWS hangs. Keys come from the SDK's default chain or from the registry's settings.

mod failure;

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
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Mutex;

use self::failure::{failure, own_role};
use super::ceiling::AwsSettings;
use super::{AssumeRole, Aws, AwsError, AwsIdentity, EcrLogin, http_client};
use crate::domain::Secret;

/// The shortest session that STS accepts. An ECR token outlives its session, so a longer session
/// would not help.
const SESSION_SECONDS: i32 = 900;
const CONNECT: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_millis(1_500);
const OPERATION: Duration = Duration::from_secs(4);
const ATTEMPTS: u32 = 3;
/// Longer than a request lasts and than clocks may differ: AWS rejects signatures of clocks that
/// differ more.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// AWS for one registry.
pub struct SdkAws {
    /// Configured with the base identity: the one of the default chain, or the keys of the
    /// settings.
    base: SdkConfig,
    role_arn: Option<String>,
    /// The registry's account; empty if its settings do not name one.
    account_id: String,
    /// The identity that assumes roles. It is found on first use and kept until it expires.
    controller: Mutex<Option<Controller>>,
}

struct Controller {
    config: SdkConfig,
    /// `None`: the SDK renews it, or it never expires.
    ends: Option<SystemTime>,
}

impl SdkAws {
    pub async fn connect(settings: &AwsSettings, keys: Option<(&Secret, &Secret)>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(OPERATION)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .http_client(http_client::shared())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        if let Ok(name) = AppName::new("rise-broker") {
            loader = loader.app_name(name);
        }
        if let Some((id, secret)) = keys {
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
        Self {
            base: loader.load().await,
            role_arn: settings.role_arn.clone(),
            account_id: settings.account_id.clone(),
            controller: Mutex::default(),
        }
    }

    /// Returns the identity that assumes roles. Calls that come while it is being found wait for
    /// it.
    async fn controller(&self) -> Result<SdkConfig, AwsError> {
        let mut controller = self.controller.lock().await;
        if let Some(controller) = controller.as_ref().filter(|known| !self.ends_soon(known)) {
            return Ok(controller.config.clone());
        }
        let found = self.find_controller().await?;
        Ok(controller.insert(found).config.clone())
    }

    /// Assumes `role_arn` from the base identity, unless that is already the role.
    ///
    /// A credentials provider inside the SDK would have to finish with all its retries within one
    /// attempt of the request that needs it, so every failure would become a timeout.
    async fn find_controller(&self) -> Result<Controller, AwsError> {
        let base = Controller { config: self.base.clone(), ends: None };
        let Some(role_arn) = &self.role_arn else { return Ok(base) };
        let client = aws_sdk_sts::Client::new(&self.base);
        let ambient = client.get_caller_identity().send().await.map_err(|error| failure(&error))?;
        if ambient.arn().is_some_and(|arn| is_session_of(arn, role_arn)) {
            return Ok(base);
        }
        let request = client.assume_role().role_arn(role_arn).role_session_name("rise-broker");
        let keys = session(request).await.map_err(own_role)?;
        Ok(Controller { ends: keys.expiry(), config: self.with_keys(keys) })
    }

    fn ends_soon(&self, controller: &Controller) -> bool {
        let now = self.base.time_source().map(|source| source.now());
        controller.ends.zip(now).is_some_and(|(ends, now)| ends < now + RENEW_BEFORE)
    }

    /// The configuration without the shared cache of identities: the cache would keep these keys,
    /// and it keeps at most 64 sessions.
    fn with_keys(&self, keys: Keys) -> SdkConfig {
        self.base
            .to_builder()
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build()
    }
}

#[async_trait]
impl Aws for SdkAws {
    async fn assume_role(&self, request: AssumeRole) -> Result<Keys, AwsError> {
        let client = aws_sdk_sts::Client::new(&self.controller().await?);
        let AssumeRole { role_arn, session_name, policy, source_identity, tags } = request;
        let tags = tags
            .into_iter()
            .filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok())
            .collect::<Vec<_>>();
        let request = client
            .assume_role()
            .role_arn(role_arn)
            .role_session_name(session_name)
            .duration_seconds(SESSION_SECONDS)
            .policy(policy)
            .set_source_identity(source_identity)
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()));
        session(request).await
    }

    async fn registry_login(
        &self,
        identity: &AwsIdentity,
        region: &str,
    ) -> Result<EcrLogin, AwsError> {
        let config = match identity {
            AwsIdentity::Unscoped => self.controller().await?,
            AwsIdentity::Session(keys) => self.with_keys(keys.clone()),
        };
        let config = config.into_builder().region(Region::new(region.to_owned())).build();
        let answer = aws_sdk_ecr::Client::new(&config)
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| failure(&error))?;
        let nonsense = |what: &str| AwsError::Nonsense(format!("GetAuthorizationToken {what}"));
        let mut data = answer.authorization_data.unwrap_or_default().into_iter();
        // From here on the token is in a `Secret`. The SDK's own type would print it.
        let data = data.next().ok_or_else(|| nonsense("without data"))?;
        let token =
            Secret::new(data.authorization_token.ok_or_else(|| nonsense("without a token"))?);
        let decoded = BASE64_STANDARD
            .decode(token.expose())
            .map_err(|_| nonsense("with a token that is not base64"))?;
        let decoded = Secret::new(
            String::from_utf8(decoded).map_err(|_| nonsense("with a token that is not text"))?,
        );
        let (username, password) =
            decoded.expose().split_once(':').ok_or_else(|| nonsense("with a token without `:`"))?;
        let expires_at = data
            .expires_at
            .and_then(|time| u64::try_from(time.secs()).ok())
            .ok_or_else(|| nonsense("without an expiry"))?;
        let endpoint = data.proxy_endpoint.unwrap_or_default();
        if !is_of(&endpoint, &self.account_id, region) {
            return Err(nonsense("with a login for another registry than this one's"));
        }
        Ok(EcrLogin {
            endpoint,
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
            expires_at,
        })
    }

    async fn caller_identity(&self) -> Result<String, AwsError> {
        let client = aws_sdk_sts::Client::new(&self.base);
        let answer = client.get_caller_identity().send().await.map_err(|error| failure(&error))?;
        answer.arn.ok_or_else(|| AwsError::Nonsense("GetCallerIdentity without an ARN".to_owned()))
    }

    async fn own_role(&self) -> Result<(), AwsError> {
        self.controller().await.map(drop)
    }
}

/// Whether the endpoint belongs to this account and region. A login for another registry would open
/// repositories that nobody was granted.
fn is_of(endpoint: &str, account_id: &str, region: &str) -> bool {
    let Some(host) = endpoint.strip_prefix("https://") else { return false };
    let mut labels = host.split('.');
    let is_account = labels.next() == Some(account_id) || account_id.is_empty();
    is_account && labels.any(|label| label == region)
}

/// Sends the request and returns the keys of the answer.
async fn session(request: AssumeRoleFluentBuilder) -> Result<Keys, AwsError> {
    let answer = request.send().await.map_err(|error| failure(&error))?;
    let keys = answer
        .credentials
        .ok_or_else(|| AwsError::Nonsense("AssumeRole without credentials".to_owned()))?;
    let ends = SystemTime::try_from(keys.expiration)
        .map_err(|_| AwsError::Nonsense("AssumeRole with an expiry that is no time".to_owned()))?;
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
    use super::*;

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
