//! Inline policies of a role on the official SDK.

use aws_config::SdkConfig;
use aws_sdk_iam::Client;
use aws_sdk_iam::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::failure::failure;
use crate::capability::aws::AwsError;
use crate::capability::aws::denials::PolicyCall;

/// One attempt. Returns the policy if it is read and there is one.
pub(super) async fn attempt(
    config: SdkConfig,
    (role, name): (String, String),
    call: PolicyCall,
) -> Result<Option<String>, AwsError> {
    let client = Client::new(&config);
    match call {
        PolicyCall::Read => {
            let request = client.get_role_policy().role_name(role).policy_name(name);
            match request.send().await {
                Ok(found) => Ok(Some(decoded(&found.policy_document))),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) => Err(failure(&error)),
            }
        }
        PolicyCall::Put(document) => {
            let request = client.put_role_policy().role_name(role).policy_name(name);
            let answer = request.policy_document(document).send().await;
            answer.map_or_else(|error| Err(failure(&error)), |_| Ok(None))
        }
        PolicyCall::Delete => {
            let request = client.delete_role_policy().role_name(role).policy_name(name);
            match request.send().await {
                Err(error) if !is_missing(&error) => Err(failure(&error)),
                Ok(_) | Err(_) => Ok(None),
            }
        }
    }
}

/// IAM encodes policies as URLs do. Ours have none of the characters that forms write otherwise.
fn decoded(text: &str) -> String {
    let decoded = url::form_urlencoded::parse(text.as_bytes()).next();
    decoded.map(|(text, _)| text.into_owned()).unwrap_or_default()
}

/// The policy is missing, or the role, which the next call to change it tells.
fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code == Some("NoSuchEntity")
}
