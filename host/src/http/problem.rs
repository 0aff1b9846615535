//! From what went wrong to what the caller is told: RFC 9457 `application/problem+json`.
//!
//! No other module picks a status. The match is exhaustive on purpose: a new failure does not compile until someone decides
//! its answer here. A caller is told what to do next; why it happened goes to the log and nowhere else.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use ulid::Ulid;
use utoipa::ToSchema;

use crate::audit::AuditError;
use crate::identity::{IdentityError, Replayed};
use crate::issue::IssueError;
use crate::limits::Refused;

/// Everything that can end a request without credentials.
#[derive(Debug)]
pub enum Failure {
    MissingToken,
    Identity(IdentityError),
    Replayed(Replayed),
    /// Text for the caller, who is known by then.
    InvalidRequest(String),
    Denied,
    Issue(IssueError),
    Audit(AuditError),
    Limited(Refused),
    NotFound,
    MethodNotAllowed,
    UnsupportedMediaType,
    PayloadTooLarge,
    UriTooLong,
    RequestTimeout,
    /// The request's whole time is over, whatever it was waiting for.
    TimedOut,
    Internal(String),
}

#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    /// What to do next.
    detail: &'a str,
    /// For the operator, whose log says why.
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

/// What one kind of failure answers.
struct Answer {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<u32>,
}

const PAUSE: u32 = 5;
const OVERLOADED: u32 = 2;
const LONG_PAUSE: u32 = 300;

impl Failure {
    pub fn slug(&self) -> &'static str {
        self.answer().slug
    }

    #[expect(clippy::too_many_lines, reason = "one table: every failure and its answer")]
    fn answer(&self) -> Answer {
        let answer = |status, slug, title, detail: &str| Answer {
            status,
            slug,
            title,
            detail: detail.to_owned(),
            retry_after: None,
        };
        let later = |status, slug, title, detail: &str, seconds| Answer {
            retry_after: Some(seconds),
            ..answer(status, slug, title, detail)
        };
        match self {
            Self::MissingToken => answer(
                StatusCode::UNAUTHORIZED,
                "missing-token",
                "No token",
                "Send one OIDC token as `Authorization: Bearer <token>`.",
            ),
            Self::Identity(IdentityError::IssuerUnavailable { .. }) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "issuer-unavailable",
                "The token's issuer cannot be reached",
                "The broker could not fetch the keys that your token is checked with. Try again.",
                PAUSE,
            ),
            Self::Identity(_) => answer(
                StatusCode::UNAUTHORIZED,
                "invalid-token",
                "The token was not accepted",
                "Get a fresh token that is meant for this broker (its audience) and try again. If that does not help, give the request id to the operator: the broker's log says why.",
            ),
            Self::Replayed(Replayed::Used | Replayed::BeforeStart) => answer(
                StatusCode::UNAUTHORIZED,
                "token-replayed",
                "The token is good for one credential",
                "It has been used, or was issued before the broker started. Get a fresh token for each request.",
            ),
            Self::Replayed(Replayed::Full) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "replay-store-unavailable",
                "Too many tokens at once",
                "The broker cannot remember that your token was used, so it does not take it. Try again.",
                PAUSE,
            ),
            Self::InvalidRequest(detail) => {
                answer(StatusCode::BAD_REQUEST, "invalid-request", "The request is wrong", detail)
            }
            Self::Denied => answer(
                StatusCode::FORBIDDEN,
                "access-denied",
                "Access denied",
                "No rule gives you this, or there is no such project or registry. Check the names, or ask the operator for a rule and give the request id.",
            ),
            Self::Issue(IssueError::ProviderFailed(_)) => answer(
                StatusCode::BAD_GATEWAY,
                "provider-failed",
                "The registry's provider failed",
                "Trying again is unlikely to help. Give the request id to the operator: the broker's log says why.",
            ),
            Self::Issue(IssueError::UpstreamDenied(_)) => answer(
                StatusCode::BAD_GATEWAY,
                "upstream-denied",
                "The registry or cloud refused the broker",
                "The broker's own permissions are not enough, or the repository does not exist. Give the request id to the operator.",
            ),
            Self::Issue(IssueError::UpstreamThrottled(pause)) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-unavailable",
                "The registry or cloud asks for a pause",
                "Try again after the pause that `Retry-After` names.",
                // A provider wrote this number, or passed it on.
                pause.unwrap_or(PAUSE).clamp(1, LONG_PAUSE),
            ),
            Self::Issue(IssueError::UpstreamUnavailable(_)) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-unavailable",
                "The registry or cloud cannot be reached",
                "Try again after the pause that `Retry-After` names.",
                PAUSE,
            ),
            Self::Issue(IssueError::UpstreamTimedOut(_)) => later(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The registry or cloud did not answer in time",
                "Try again after the pause that `Retry-After` names.",
                PAUSE,
            ),
            Self::Issue(IssueError::Overloaded) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many requests at once",
                "Try again after the pause that `Retry-After` names.",
                1,
            ),
            Self::Limited(Refused::TooOften { wait, .. }) => later(
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many requests",
                "Try again after the pause that `Retry-After` names. If it stays so, ask the operator for a higher limit and give the request id.",
                u32::try_from(wait.as_secs())
                    .unwrap_or(LONG_PAUSE)
                    .saturating_add(1)
                    .min(LONG_PAUSE),
            ),
            Self::Limited(Refused::Overloaded { .. }) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many requests at once",
                "Try again after the pause that `Retry-After` names.",
                OVERLOADED,
            ),
            Self::TimedOut => later(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The request could not be answered in time",
                "Try again after the pause that `Retry-After` names.",
                PAUSE,
            ),
            Self::Audit(_) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "audit-unavailable",
                "The request cannot be recorded",
                "No credential is handed out without a durable record. Try again, and tell the operator if it stays so.",
                PAUSE,
            ),
            Self::NotFound => answer(
                StatusCode::NOT_FOUND,
                "not-found",
                "No such path",
                "Credentials are at /api/v1/registry/credentials.",
            ),
            Self::MethodNotAllowed => answer(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
                "Use GET, or POST with a JSON body where a body is taken.",
            ),
            Self::UnsupportedMediaType => answer(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Unsupported media type",
                "Send the body as `Content-Type: application/json`.",
            ),
            Self::PayloadTooLarge => answer(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload-too-large",
                "Body too large",
                "Send at most 4 KiB.",
            ),
            Self::UriTooLong => answer(
                StatusCode::URI_TOO_LONG,
                "uri-too-long",
                "URI too long",
                "Keep path and query under 2 KiB.",
            ),
            Self::RequestTimeout => answer(
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The request took too long",
                "Send the whole body at once.",
            ),
            Self::Issue(IssueError::Internal(_)) | Self::Internal(_) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                "This is a fault of the broker. Give the request id to the operator.",
            ),
        }
    }

    /// Why the caller could not be told from anybody else, if that is what happened.
    pub fn authentication(&self) -> Option<String> {
        if let Self::Identity(IdentityError::Invalid { reason, .. }) = self {
            return Some(reason.to_string());
        }
        matches!(self, Self::MissingToken).then(|| "there is no token".to_owned())
    }

    /// Why, for the operator. `None` where the answer says it all.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Identity(error) => Some(error.to_string()),
            Self::Replayed(error) => Some(error.to_string()),
            Self::Issue(error) => Some(error.to_string()),
            Self::Limited(refused) => Some(refused.to_string()),
            Self::Audit(error) => Some(error.to_string()),
            Self::Internal(cause) => Some(cause.clone()),
            Self::MissingToken
            | Self::InvalidRequest(_)
            | Self::Denied
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::PayloadTooLarge
            | Self::UriTooLong
            | Self::RequestTimeout
            | Self::TimedOut => None,
        }
    }

    /// The one line about it. Who asked for what stands in the request's span.
    pub fn log(&self) {
        let Answer { status, slug, .. } = self.answer();
        let (status, cause) = (status.as_u16(), self.cause());
        if status >= 500 {
            tracing::error!(status, problem = slug, cause, "request failed");
        } else {
            tracing::info!(status, problem = slug, cause, "request refused");
        }
    }

    /// Writes the answer.
    pub fn respond(&self, id: Ulid) -> Response {
        let Answer { status, slug, title, detail, retry_after } = self.answer();
        let body = Body {
            r#type: format!("urn:rise:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: &detail,
            request_id: id.to_string(),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (
            status,
            [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))],
            body,
        )
            .into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let challenge =
                if slug == "missing-token" { "Bearer" } else { "Bearer error=\"invalid_token\"" };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        let is_ours = matches!(self, Self::Limited(_));
        if let Some(seconds) = retry_after.map(|it| if is_ours { spread(it, id) } else { it }) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Half as much again at most, by the request's id: those who are refused at one moment come back at different ones. Never
/// less, since who comes back too early is refused again.
fn spread(seconds: u32, id: Ulid) -> u32 {
    let half = u128::from(seconds.div_ceil(2));
    seconds.saturating_add(u32::try_from(id.random() % (half + 1)).unwrap_or(0)).min(LONG_PAUSE)
}

/// A failure on its way out: `http::answer` knows the request id and calls [`Failure::respond`].
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<Replayed> for Failure {
    fn from(error: Replayed) -> Self {
        Self::Replayed(error)
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        Self::Issue(error)
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::Audit(error)
    }
}
