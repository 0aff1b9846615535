//! The `aws` port on the official SDK.
//!
//! One retry layer, the SDK's own; explicit timeouts, so that a hanging AWS answers within a call's deadline; keys are
//! taken from the SDK's default chain, or from the registry's settings.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as Keys;
use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
};
use aws_sdk_ecr::error::SdkError;
use aws_sdk_sts::types::Tag;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::OnceCell;

use super::ceiling::AwsSettings;
use super::{AssumeRole, Aws, AwsError, Login};
use crate::capability::printable;
use crate::domain::Secret;

/// Also what an ECR token outlives: how long the session lives says nothing about the token, so the shortest that STS takes.
const SESSION_SECONDS: i32 = 900;
const CONNECT: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_millis(1_500);
const OPERATION: Duration = Duration::from_secs(4);
const ATTEMPTS: u32 = 3;

/// AWS for one registry.
pub struct SdkAws {
    /// With the base identity: the default chain's, or the settings' keys.
    base: SdkConfig,
    role_arn: Option<String>,
    /// The identity that assumes roles, found out on first use.
    controller: OnceCell<SdkConfig>,
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
            controller: OnceCell::new(),
        }
    }

    /// The controller: `role_arn`, assumed from the base identity unless that already is it.
    async fn controller(&self) -> Result<&SdkConfig, AwsError> {
        self.controller.get_or_try_init(|| self.find_controller()).await
    }

    async fn find_controller(&self) -> Result<SdkConfig, AwsError> {
        let Some(role_arn) = &self.role_arn else { return Ok(self.base.clone()) };
        let ambient = aws_sdk_sts::Client::new(&self.base)
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| failure(&error))?;
        if ambient.arn().is_some_and(|arn| is_session_of(arn, role_arn)) {
            return Ok(self.base.clone());
        }
        let provider = aws_config::sts::AssumeRoleProvider::builder(role_arn)
            .session_name("rise-broker")
            .configure(&self.base)
            .build()
            .await;
        let provider = SharedCredentialsProvider::new(provider);
        Ok(self.base.to_builder().credentials_provider(provider).build())
    }
}

#[async_trait]
impl Aws for SdkAws {
    async fn assume_role(&self, request: AssumeRole) -> Result<Keys, AwsError> {
        let client = aws_sdk_sts::Client::new(self.controller().await?);
        let AssumeRole { role_arn, session_name, policy, source_identity, tags } = request;
        let tags = tags
            .into_iter()
            .filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok())
            .collect::<Vec<_>>();
        let answer = client
            .assume_role()
            .role_arn(role_arn)
            .role_session_name(session_name)
            .duration_seconds(SESSION_SECONDS)
            .policy(policy)
            .set_source_identity(source_identity)
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()))
            .send()
            .await
            .map_err(|error| failure(&error))?;
        let keys = answer
            .credentials
            .ok_or_else(|| AwsError::Nonsense("AssumeRole without credentials".to_owned()))?;
        Ok(Keys::new(
            keys.access_key_id,
            keys.secret_access_key,
            Some(keys.session_token),
            None,
            "assumed role",
        ))
    }

    async fn unscoped(&self) -> Result<Keys, AwsError> {
        let controller = self.controller().await?;
        let provider = controller.credentials_provider().ok_or_else(|| {
            AwsError::InvalidSettings(
                "there is no AWS identity here; give this process a role, or set `access_key_id`"
                    .to_owned(),
            )
        })?;
        provider.provide_credentials().await.map_err(|error| credentials_failure(&error))
    }

    async fn registry_login(&self, keys: &Keys, region: &str) -> Result<Login, AwsError> {
        let config = self
            .base
            .to_builder()
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(keys.clone()))
            .build();
        let answer = aws_sdk_ecr::Client::new(&config)
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| failure(&error))?;
        let nonsense = |what: &str| AwsError::Nonsense(format!("GetAuthorizationToken {what}"));
        let mut data = answer.authorization_data.unwrap_or_default().into_iter();
        // From here on the token is in a `Secret`: the SDK's own type would print it.
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
            .and_then(|it| u64::try_from(it.secs()).ok())
            .ok_or_else(|| nonsense("without an expiry"))?;
        Ok(Login {
            endpoint: data.proxy_endpoint.unwrap_or_default(),
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
            expires_at,
        })
    }
}

/// Whether `identity` (`arn:aws:sts::123456789012:assumed-role/name/session`) is a session of the role at `role_arn`
/// (`arn:aws:iam::123456789012:role/path/name`).
fn is_session_of(identity: &str, role_arn: &str) -> bool {
    let (Some(identity), Some(role)) = (Arn::parse(identity), Arn::parse(role_arn)) else {
        return false;
    };
    let session =
        identity.resource.strip_prefix("assumed-role/").and_then(|it| it.split('/').next());
    let name = role.resource.strip_prefix("role/").and_then(|it| it.rsplit('/').next());
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

const THROTTLED: [&str; 6] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
];

/// What an SDK error means for what happens next.
fn failure<E>(error: &SdkError<E>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::TimeoutError(_) => AwsError::TimedOut("no answer within its time".to_owned()),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if error.is_timeout() => {
                AwsError::TimedOut("no answer within its time".to_owned())
            }
            Some(error) => connector_failure(error, failure),
            None => AwsError::Unavailable(text(error)),
        },
        SdkError::ConstructionFailure(_) => construction_failure(error),
        SdkError::ResponseError(_) => AwsError::Nonsense(text(error)),
        SdkError::ServiceError(service) => {
            // What is no AWS error at all, such as a page of HTML, has no code.
            let Some(code) = service.err().code() else { return AwsError::Nonsense(text(error)) };
            let status = service.raw().status().as_u16();
            let message = printable(
                &format!("{code} ({status}): {}", service.err().message().unwrap_or_default()),
                512,
            );
            match status {
                _ if THROTTLED.contains(&code) => AwsError::Throttled,
                429 => AwsError::Throttled,
                500.. => AwsError::Unavailable(message),
                400..500 => AwsError::Denied(message),
                _ => AwsError::Nonsense(message),
            }
        }
        _ => AwsError::Unavailable(text(error)),
    }
}

/// An identity that cannot be had shows up in the dispatch of the request that needed it.
fn connector_failure(
    error: &ConnectorError,
    failure: &aws_smithy_runtime_api::client::result::DispatchFailure,
) -> AwsError {
    match find::<CredentialsError>(error) {
        Some(credentials) => credentials_failure(credentials),
        None => AwsError::Unavailable(printable(&format!("{failure:?}"), 512)),
    }
}

fn construction_failure(error: &(dyn std::error::Error + 'static)) -> AwsError {
    find::<CredentialsError>(error)
        .map_or_else(|| AwsError::InvalidSettings(text(error)), credentials_failure)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the SDK may add kinds; whatever they are, trying again may help"
)]
fn credentials_failure(error: &CredentialsError) -> AwsError {
    // `role_arn` is assumed inside the SDK, and its denial arrives here.
    if let Some(denied) = find::<aws_sdk_sts::operation::assume_role::AssumeRoleError>(error) {
        let code = denied.code().unwrap_or("without a code");
        if THROTTLED.contains(&code) {
            return AwsError::Throttled;
        }
        return AwsError::Denied(printable(
            &format!("assuming `role_arn`: {code}: {}", denied.message().unwrap_or_default()),
            512,
        ));
    }
    match error {
        CredentialsError::ProviderTimedOut(_) => AwsError::TimedOut(text(error)),
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            AwsError::InvalidSettings(format!(
                "there is no AWS identity here; give this process a role, or set `access_key_id`: {}",
                text(error)
            ))
        }
        _ => AwsError::Unavailable(text(error)),
    }
}

fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The whole chain of an error on one line.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    printable(&text, 512)
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
