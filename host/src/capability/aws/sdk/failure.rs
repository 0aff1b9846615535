//! Classifies the errors of the SDK by what happens next.

use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::SdkError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::capability::aws::AwsError;
use crate::capability::printable;

/// The SDK's own list, without the codes of other services.
const THROTTLED: [&str; 9] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "BandwidthLimitExceeded",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
];

/// The keys are not, or no longer, those of an identity. Keys that expired are found with other
/// codes by each service.
const REJECTED_KEYS: [&str; 5] = [
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "ExpiredToken",
    "ExpiredTokenException",
];
/// The time of the request is not the time of AWS.
const OTHER_CLOCK: [&str; 4] = [
    "RequestExpired",
    "RequestTimeTooSkewed",
    "RequestInTheFuture",
    "InvalidSignatureTimeException",
];
/// Codes of a wrong signature, whatever is wrong with it.
const WRONG_SIGNATURE: [&str; 2] = ["SignatureDoesNotMatch", "InvalidSignatureException"];
/// The words with which these tell a wrong time from a wrong key.
const OTHER_TIME: [&str; 4] =
    ["Signature expired", "Signature not yet current", "is now earlier than", "is now later than"];
/// Errors with a status of the client's fault that pass.
const PASSING: [&str; 4] = [
    "RequestTimeout",
    "RequestTimeoutException",
    "IDPCommunicationError",
    "PriorRequestNotComplete",
];

/// Classifies one error.
pub(super) fn failure<E>(error: &SdkError<E>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::TimeoutError(_) => AwsError::TimedOut("no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if error.is_timeout() => AwsError::TimedOut("no answer in time".to_owned()),
            Some(error) => connector_failure(error),
            None => AwsError::Unavailable(text(error)),
        },
        SdkError::ConstructionFailure(_) => construction_failure(error),
        SdkError::ResponseError(response) => {
            // An answer that broke off is lost, and one that cannot be understood is nonsense.
            let is_cut =
                find::<hyper::Error>(error).is_some() || find::<io::Error>(error).is_some();
            let status = response.raw().status().as_u16();
            if is_cut { AwsError::Unavailable(text(error)) } else { foreign(status, &text(error)) }
        }
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let message = service.err().message().unwrap_or_default();
            match service.err().code() {
                Some(code) => answered(status, code, message),
                None => foreign(status, &text(error)),
            }
        }
        _ => AwsError::Unavailable(text(error)),
    }
}

/// Classifies an error that AWS itself answered.
fn answered(status: u16, code: &str, message: &str) -> AwsError {
    let text = printable(&format!("{code} ({status}): {message}"), 512);
    match status {
        _ if THROTTLED.contains(&code) => AwsError::Throttled(text),
        429 => AwsError::Throttled(text),
        _ if OTHER_CLOCK.contains(&code) => AwsError::ClockDiffers(text),
        _ if WRONG_SIGNATURE.contains(&code)
            && OTHER_TIME.iter().any(|words| message.contains(words)) =>
        {
            AwsError::ClockDiffers(text)
        }
        _ if REJECTED_KEYS.contains(&code) => AwsError::RejectedKeys(text),
        500.. => AwsError::Unavailable(text),
        _ if PASSING.contains(&code) => AwsError::Unavailable(text),
        400..500 => AwsError::Denied(text),
        _ => AwsError::Nonsense(text),
    }
}

/// Classifies an answer that is no AWS error at all, such as the HTML page of a load balancer.
fn foreign(status: u16, text: &str) -> AwsError {
    let text = format!("status {status} without an AWS error: {text}");
    match status {
        429 => AwsError::Throttled(text),
        500.. => AwsError::Unavailable(text),
        _ => AwsError::Nonsense(text),
    }
}

/// Says that the denial was about the broker's own role, and not about a role that it assumes for a
/// registry.
pub(super) fn own_role(error: AwsError) -> AwsError {
    let own = |text| format!("assuming the broker's own role: {text}");
    match error {
        AwsError::Denied(text) => AwsError::Denied(own(text)),
        AwsError::RejectedKeys(text) => AwsError::RejectedKeys(own(text)),
        AwsError::ClockDiffers(_)
        | AwsError::Throttled(_)
        | AwsError::TimedOut(_)
        | AwsError::Unavailable(_)
        | AwsError::Nonsense(_)
        | AwsError::InvalidSettings(_) => error,
    }
}

/// An error of a call by a token that was signed a moment ago: it has not expired, so the clocks
/// differ.
pub(super) fn own_token(error: AwsError) -> AwsError {
    match error {
        AwsError::RejectedKeys(text) => AwsError::ClockDiffers(text),
        AwsError::Denied(_)
        | AwsError::ClockDiffers(_)
        | AwsError::Throttled(_)
        | AwsError::TimedOut(_)
        | AwsError::Unavailable(_)
        | AwsError::Nonsense(_)
        | AwsError::InvalidSettings(_) => error,
    }
}

/// A missing identity appears as a failed dispatch of the request that needed it.
fn connector_failure(error: &ConnectorError) -> AwsError {
    match find::<CredentialsError>(error) {
        Some(credentials) => credentials_failure(credentials),
        None => AwsError::Unavailable(text(error)),
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
    // The SDK assumes the roles of a profile or a web identity itself, and its failures arrive
    // here.
    let assumed = inner_failure::<AssumeRoleError>(error)
        .or_else(|| inner_failure::<AssumeRoleWithWebIdentityError>(error));
    if let Some(failure) = assumed {
        return failure;
    }
    match error {
        CredentialsError::ProviderTimedOut(_) => AwsError::TimedOut(text(error)),
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            AwsError::InvalidSettings(format!(
                "this process has no AWS identity; give it a role, or set `access_key_id`: {}",
                text(error)
            ))
        }
        _ => AwsError::Unavailable(text(error)),
    }
}

fn inner_failure<E>(error: &CredentialsError) -> Option<AwsError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Some(own_role(failure(find::<SdkError<E>>(error)?)))
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

/// The error and all of its causes, on one line.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    printable(&text, 512)
}
