//! Logins of ECR and of ECR Public, decoded.
//!
//! **Invariant:** a login is in a `Secret` as soon as it is here. The SDK's own types would print
//! it.

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput;
use aws_sdk_ecrpublic::operation::get_authorization_token as public;
use aws_sdk_sts::primitives::DateTime;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::failure::failure;
use crate::capability::aws::settings::PUBLIC_HOST;
use crate::capability::aws::{AwsError, EcrLogin, OTHER_REGISTRY};
use crate::capability::printable;
use crate::domain::Secret;

/// The only region that answers for ECR Public.
pub(super) const PUBLIC_REGION: Region = Region::from_static("us-east-1");

/// One attempt to get a login of ECR in `region`.
pub(super) async fn ask(
    config: SdkConfig,
    region: String,
) -> Result<GetAuthorizationTokenOutput, AwsError> {
    let config = config.into_builder().region(Region::new(region)).build();
    let request = aws_sdk_ecr::Client::new(&config).get_authorization_token();
    request.send().await.map_err(|error| failure(&error))
}

/// One attempt to get a login of ECR Public.
pub(super) async fn ask_public(
    config: SdkConfig,
) -> Result<public::GetAuthorizationTokenOutput, AwsError> {
    let config = config.into_builder().region(PUBLIC_REGION).build();
    let request = aws_sdk_ecrpublic::Client::new(&config).get_authorization_token();
    request.send().await.map_err(|error| failure(&error))
}

/// The login in an answer of ECR, which must be for one of these accounts in `region`. The first is
/// the registry's.
pub(super) fn decode(
    answer: GetAuthorizationTokenOutput,
    region: &str,
    accounts: &[&str],
) -> Result<EcrLogin, AwsError> {
    let mut data = answer.authorization_data.unwrap_or_default().into_iter();
    let data = data.next().ok_or_else(|| nonsense("without data"))?;
    let token = data.authorization_token.map(Secret::new);
    let endpoint = data.proxy_endpoint.unwrap_or_default();
    let login = login(token, data.expires_at, endpoint)?;
    if accounts.iter().any(|account| is_of(&login.endpoint, account, region)) {
        return Ok(login);
    }
    let own = accounts.first().copied().unwrap_or_default();
    Err(AwsError::Nonsense(other_registry(&login.endpoint, own, region)))
}

/// The login in an answer of ECR Public, which does not say whose it is.
pub(super) fn decode_public(
    answer: public::GetAuthorizationTokenOutput,
) -> Result<EcrLogin, AwsError> {
    let data = answer.authorization_data.ok_or_else(|| nonsense("without data"))?;
    let token = data.authorization_token.map(Secret::new);
    login(token, data.expires_at, format!("https://{PUBLIC_HOST}"))
}

fn login(
    token: Option<Secret>,
    expires_at: Option<DateTime>,
    endpoint: String,
) -> Result<EcrLogin, AwsError> {
    let token = token.ok_or_else(|| nonsense("without a token"))?;
    let decoded = BASE64_STANDARD
        .decode(token.expose())
        .map_err(|_| nonsense("with a token that is not base64"))?;
    let decoded = Secret::new(
        String::from_utf8(decoded).map_err(|_| nonsense("with a token that is not text"))?,
    );
    let (username, password) =
        decoded.expose().split_once(':').ok_or_else(|| nonsense("with a token without `:`"))?;
    let expires_at = expires_at
        .and_then(|time| u64::try_from(time.secs()).ok())
        .ok_or_else(|| nonsense("without an expiry"))?;
    let (username, password) = (username.to_owned(), Secret::new(password.to_owned()));
    Ok(EcrLogin { endpoint, username, password, expires_at })
}

fn nonsense(what: &str) -> AwsError {
    AwsError::Nonsense(format!("GetAuthorizationToken {what}"))
}

/// Whether the endpoint belongs to this account and region.
fn is_of(endpoint: &str, account_id: &str, region: &str) -> bool {
    let Some(host) = endpoint.strip_prefix("https://") else { return false };
    let mut labels = host.split('.');
    let is_account = labels.next() == Some(account_id) || account_id.is_empty();
    is_account && labels.any(|label| label == region)
}

/// Says for which registry a login is, and for which one it should be.
fn other_registry(endpoint: &str, account_id: &str, region: &str) -> String {
    let host = endpoint.strip_prefix("https://").unwrap_or(endpoint);
    let labels: Vec<&str> = host.split('.').collect();
    let found = match labels.as_slice() {
        [account, "dkr", "ecr", region, ..] => format!("account {account} in {region}"),
        _ => format!("`{}`", printable(host, 128)),
    };
    format!(
        "{OTHER_REGISTRY}: it is for {found}, and this registry is account {account_id} in \
         {region}"
    )
}
