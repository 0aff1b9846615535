//! From what went wrong to what the caller is told: RFC 9457 `application/problem+json`.
//!
//! No other module picks a status. Both matches are exhaustive on purpose: a new failure does not
//! compile until someone decides its answer here. The caller is told what to do next. The reason
//! goes to the operator's log and nowhere else.
//!
//! The file is long because it is a table: every failure with its status, title and advice.

mod repository;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;
use utoipa::ToSchema;

use crate::domain::ProblemType;
use crate::identity::{IdentityError, Rejection, Replayed};
use crate::issue::IssueError;
use crate::limits::Refused;
use crate::signing::InvalidPassword;

/// Everything that can end a request without credentials.
#[derive(Debug)]
pub enum Failure {
    /// What is wrong with the header `Authorization`.
    MissingToken(&'static str),
    /// What is wrong with the user name and password of a request for a registry token.
    MissingLogin(&'static str),
    InvalidPassword(InvalidPassword),
    Identity(IdentityError),
    /// A text for the caller, whose token is verified by then.
    InvalidRequest(String),
    Denied,
    Limited(Refused),
    Issue(IssueError),
    NotFound,
    /// The caller got nothing by the request that it names.
    NoSuchCredential,
    /// Nobody can end the credential before it ends by itself, then or never.
    NotRevocable(Option<Timestamp>),
    MethodNotAllowed,
    UnsupportedMediaType,
    /// The body of a request for a registry token is something else.
    NotAForm,
    PayloadTooLarge {
        /// In bytes.
        most: usize,
    },
    UriTooLong,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The request's deadline passed, whatever it was waiting for.
    TimedOut,
    /// A bug in the broker.
    Internal(String),
}

#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    /// What to do next.
    detail: &'a str,
    /// For the operator, whose log holds the reason.
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

/// What the caller reads, and when it may try again.
struct Advice {
    title: &'static str,
    detail: String,
    /// In seconds.
    retry_after: Option<u32>,
}

const PAUSE: u32 = 5;
const SHORT_PAUSE: u32 = 2;
const LONG_PAUSE: u32 = 300;
const WAIT: &str = "Wait for the number of seconds in `Retry-After`, then try again.";

/// The status of each problem.
pub(super) fn status(problem: ProblemType) -> StatusCode {
    match problem {
        ProblemType::InvalidRequest => StatusCode::BAD_REQUEST,
        ProblemType::MissingToken | ProblemType::InvalidToken | ProblemType::TokenReplayed => {
            StatusCode::UNAUTHORIZED
        }
        ProblemType::AccessDenied => StatusCode::FORBIDDEN,
        ProblemType::NotFound | ProblemType::CredentialNotFound => StatusCode::NOT_FOUND,
        ProblemType::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ProblemType::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ProblemType::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ProblemType::UriTooLong => StatusCode::URI_TOO_LONG,
        ProblemType::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ProblemType::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ProblemType::RepositoryConflict | ProblemType::RevocationUnsupported => {
            StatusCode::CONFLICT
        }
        ProblemType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ProblemType::ProviderFailed | ProblemType::UpstreamDenied => StatusCode::BAD_GATEWAY,
        ProblemType::IssuerUnavailable
        | ProblemType::UpstreamUnavailable
        | ProblemType::Overloaded
        | ProblemType::AuditUnavailable
        | ProblemType::ReplayStoreUnavailable
        | ProblemType::SharedStoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ProblemType::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

impl Failure {
    pub fn problem_type(&self) -> ProblemType {
        match self {
            Self::MissingToken(_) | Self::MissingLogin(_) => ProblemType::MissingToken,
            Self::Identity(IdentityError::Invalid(_)) | Self::InvalidPassword(_) => {
                ProblemType::InvalidToken
            }
            Self::Identity(IdentityError::IssuerUnavailable { .. }) => {
                ProblemType::IssuerUnavailable
            }
            Self::InvalidRequest(_) => ProblemType::InvalidRequest,
            Self::Denied => ProblemType::AccessDenied,
            Self::Limited(refused) => refused.problem_type(),
            Self::Issue(error) => error.problem_type(),
            Self::NotFound => ProblemType::NotFound,
            Self::NoSuchCredential => ProblemType::CredentialNotFound,
            Self::NotRevocable(_) => ProblemType::RevocationUnsupported,
            Self::MethodNotAllowed => ProblemType::MethodNotAllowed,
            Self::UnsupportedMediaType | Self::NotAForm => ProblemType::UnsupportedMediaType,
            Self::PayloadTooLarge { .. } => ProblemType::PayloadTooLarge,
            Self::UriTooLong => ProblemType::UriTooLong,
            Self::RequestTimeout => ProblemType::RequestTimeout,
            Self::TimedOut => ProblemType::UpstreamTimeout,
            Self::Internal(_) => ProblemType::Internal,
        }
    }

    /// The limit of the broker's own that refused the request.
    pub fn limit(&self) -> Option<&Refused> {
        match self {
            Self::Limited(refused) | Self::Issue(IssueError::Limited(refused)) => Some(refused),
            Self::MissingToken(_)
            | Self::MissingLogin(_)
            | Self::InvalidPassword(_)
            | Self::Identity(_)
            | Self::InvalidRequest(_)
            | Self::Denied
            | Self::Issue(_)
            | Self::NotFound
            | Self::NoSuchCredential
            | Self::NotRevocable(_)
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::NotAForm
            | Self::PayloadTooLarge { .. }
            | Self::UriTooLong
            | Self::RequestTimeout
            | Self::TimedOut
            | Self::Internal(_) => None,
        }
    }

    fn advice(&self) -> Advice {
        match self {
            Self::MissingToken(_) => Advice::now(
                "The request has no token",
                "Send exactly one OIDC token in the header `Authorization: Bearer <token>`.",
            ),
            Self::MissingLogin(_) => missing_login(),
            Self::InvalidPassword(_) => wrong_password(),
            Self::Identity(IdentityError::Invalid(rejection)) => Advice::now(
                "The token was rejected",
                &rejection.for_caller().unwrap_or_else(|| {
                    "Get a fresh token for this broker's audience and try again. If that does not \
                     help, give the request id to the operator: the broker's log says why."
                        .to_owned()
                }),
            ),
            Self::Identity(IdentityError::IssuerUnavailable { .. }) => Advice::later(
                "The token's issuer cannot be reached",
                "The broker could not fetch the keys that verify your token. Wait for the number \
                 of \
                 seconds in `Retry-After`, then try again.",
                PAUSE,
            ),
            Self::InvalidRequest(detail) => Advice::now("The request is invalid", detail),
            Self::Denied => Advice::now(
                "Access denied",
                "No rule allows you this, or the project or registry does not exist. Check both \
                 names. To get access, ask the operator for a rule and give the request id.",
            ),
            Self::Limited(refused) => limited(refused),
            Self::Issue(error) => not_issued(error),
            Self::NotFound => Advice::now(
                "There is no such path",
                "Get credentials at /api/v1/registry/credentials. \
                 /api/v1/openapi.json lists every path.",
            ),
            Self::NoSuchCredential => no_such_credential(),
            Self::NotRevocable(until) => not_revocable(*until),
            Self::MethodNotAllowed => Advice::now(
                "The method is not allowed",
                "Use one of the methods in the header `Allow`.",
            ),
            Self::UnsupportedMediaType => Advice::now(
                "The body is not JSON",
                "Send the body with `Content-Type: application/json` and without a \
                 `Content-Encoding`.",
            ),
            Self::NotAForm => not_a_form(),
            Self::PayloadTooLarge { most } => too_large(*most),
            Self::UriTooLong => Advice::now(
                "The URI is too long",
                "Keep path and query together within 2 KiB, or send the parameters as a JSON body.",
            ),
            Self::RequestTimeout => {
                Advice::now("The body did not arrive in time", "Send the whole body at once.")
            }
            Self::TimedOut => {
                Advice::later("The request could not be answered in time", WAIT, PAUSE)
            }
            Self::Internal(_) => internal(),
        }
    }

    fn is_of_login(&self) -> bool {
        matches!(self, Self::MissingLogin(_) | Self::InvalidPassword(_))
    }

    fn rejection(&self) -> Option<&Rejection> {
        let Self::Identity(IdentityError::Invalid(rejection)) = self else { return None };
        Some(rejection)
    }

    /// Why the caller could not be identified, if that is what happened.
    pub fn authentication(&self) -> Option<String> {
        if matches!(self, Self::MissingToken(_) | Self::MissingLogin(_)) {
            return Some("there is no token".to_owned());
        }
        if let Self::InvalidPassword(invalid) = self {
            return Some(invalid.to_string());
        }
        self.rejection().map(|rejection| rejection.reason.to_string())
    }

    /// The reason, for the operator. `None` where the problem's type is all there is to know.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Identity(error) => Some(error.to_string()),
            Self::Issue(error) => Some(error.to_string()),
            Self::Limited(refused) => Some(refused.to_string()),
            Self::Internal(cause) | Self::InvalidRequest(cause) => Some(cause.clone()),
            Self::MissingToken(cause) | Self::MissingLogin(cause) => Some((*cause).to_owned()),
            Self::InvalidPassword(invalid) => Some(invalid.to_string()),
            Self::Denied
            | Self::NotFound
            | Self::NoSuchCredential
            | Self::NotRevocable(_)
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::NotAForm
            | Self::PayloadTooLarge { .. }
            | Self::UriTooLong
            | Self::RequestTimeout
            | Self::TimedOut => None,
        }
    }

    /// The reason, for an operator at the broker's machine: nothing is hidden from it.
    pub(crate) fn for_operator(&self) -> String {
        self.cause().unwrap_or_else(|| self.advice().detail)
    }

    /// Whether the broker refused without any work. Repeated refusals of one client are summed in
    /// the log; each failure of something else has a cause of its own.
    pub fn is_refusal(&self) -> bool {
        !status(self.problem_type()).is_server_error()
            || self.limit().is_some()
            || matches!(self, Self::Issue(IssueError::LeftAlone { .. }))
    }

    /// Logs the failure, once. The request's span says who asked for what.
    pub fn log(&self) {
        let problem = self.problem_type();
        let (status, problem, cause) = (status(problem).as_u16(), problem.slug(), self.cause());
        if status >= 500 {
            tracing::error!(status, problem, cause, "request failed");
        } else {
            // Anybody may have written them.
            let iss = self.rejection().and_then(|rejection| rejection.iss.as_deref());
            let aud = self.rejection().and_then(|rejection| rejection.aud.as_deref());
            tracing::info!(status, problem, cause, iss, aud, "request refused");
        }
    }

    /// Writes the answer.
    pub fn respond(&self, id: Ulid) -> Response {
        let (problem, Advice { title, detail, retry_after }) = (self.problem_type(), self.advice());
        let status = status(problem);
        let body = ProblemBody {
            r#type: problem.urn(),
            title,
            status: status.as_u16(),
            detail: &detail,
            request_id: id.to_string(),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let is_missing = problem == ProblemType::MissingToken;
            let challenge = if self.is_of_login() {
                "Basic realm=\"rise-broker\""
            } else if is_missing {
                "Bearer"
            } else {
                "Bearer error=\"invalid_token\""
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = retry_after {
            // Those who queue come back one by one as it is.
            let is_crowd =
                self.limit().is_some_and(|refused| !matches!(refused, Refused::Queued { .. }));
            let seconds = if is_crowd { spread(seconds, id) } else { seconds };
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl Advice {
    /// Trying again unchanged does not help.
    fn now(title: &'static str, detail: &str) -> Self {
        Self { title, detail: detail.to_owned(), retry_after: None }
    }

    fn later(title: &'static str, detail: &str, seconds: u32) -> Self {
        Self { title, detail: detail.to_owned(), retry_after: Some(seconds) }
    }
}

fn missing_login() -> Advice {
    Advice::now(
        "The request has no usable login",
        "Log in with any user name and your OIDC token as the password, or with the credentials \
         that this broker issued.",
    )
}

fn wrong_password() -> Advice {
    Advice::now(
        "The password was rejected",
        "It has expired, is for another registry, or is none of this broker's. Get new \
         credentials, log in with them and try again. If that does not help, give the request id \
         to the operator: the broker's log says why.",
    )
}

/// The same whether somebody else got it or nobody did.
fn no_such_credential() -> Advice {
    Advice::now(
        "There is no such credential of yours",
        "Use the `request_id` of an answer with credentials, and a token of the same subject. A \
         request that is older than the broker's audit log is not known any more.",
    )
}

fn not_revocable(until: Option<Timestamp>) -> Advice {
    let until = match until {
        Some(end) => format!("It works until {end}."),
        None => "It does not expire.".to_owned(),
    };
    Advice::now(
        "The credential cannot be ended early",
        &format!("Its registry or provider lets no caller end it: `unsupported`. {until}"),
    )
}

/// `most` is in bytes.
fn too_large(most: usize) -> Advice {
    Advice::now("The body is too large", &format!("Send a body of at most {} KiB.", most >> 10))
}

fn not_a_form() -> Advice {
    Advice::now(
        "The body is not a form",
        "Send the parameters with `Content-Type: application/x-www-form-urlencoded` and without \
         a `Content-Encoding`, or with GET.",
    )
}

fn limited(refused: &Refused) -> Advice {
    match refused {
        Refused::TooOften { limit, wait } => {
            let counted = match *limit {
                "subject" => "the requests of your token's subject (`sub`)",
                "project" => "the requests for this project",
                "forms-per-address" => "the forms that your address sends at the same time",
                _ => "failed authentications from your address",
            };
            let detail = format!(
                "The limit `{limit}` counts {counted}. {WAIT} If this happens often, ask the \
                 operator for a higher limit and give the request id."
            );
            Advice::later("You send too many requests", &detail, pause_of(*wait))
        }
        Refused::Overloaded { .. } => Advice::later("The broker is overloaded", WAIT, SHORT_PAUSE),
        Refused::Queued { wait } => Advice::later(
            "The registry takes no more requests a second",
            "The broker makes your credential as soon as it is your turn. Wait for the number of \
             seconds in `Retry-After`, then try again: it is there by then.",
            pause_of(*wait),
        ),
    }
}

/// In whole seconds, and never too early.
fn pause_of(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(LONG_PAUSE).saturating_add(1).min(LONG_PAUSE)
}

fn not_issued(error: &IssueError) -> Advice {
    match error {
        IssueError::ProviderFailed(_) => Advice::now(
            "The registry's provider failed",
            "Trying again is unlikely to help. Give the request id to the operator: the broker's \
             log says why.",
        ),
        IssueError::UpstreamDenied(_) => Advice::now(
            "The registry or cloud refused the broker",
            "The registry or cloud rejects the broker's login, or what it may do, or there is no \
             such repository. Give the request id to the operator: the broker's log says why.",
        ),
        IssueError::UpstreamThrottled(pause) => Advice::later(
            "The registry or cloud asks for a pause",
            WAIT,
            // The provider chose this number, or passed it on.
            pause.unwrap_or(PAUSE).clamp(1, LONG_PAUSE),
        ),
        IssueError::UpstreamUnavailable(_) => {
            Advice::later("The registry or cloud cannot be reached", WAIT, PAUSE)
        }
        IssueError::UpstreamTimedOut(_) => {
            Advice::later("The registry or cloud did not answer in time", WAIT, PAUSE)
        }
        IssueError::LeftAlone { wait } => Advice::later(
            "The registry or cloud cannot be reached",
            "It did not answer a while ago, or asked for a pause, so the broker leaves it alone. \
             Wait for the number of seconds in `Retry-After`, then try again.",
            pause_of(*wait),
        ),
        IssueError::Overloaded => Advice::later("The broker is overloaded", WAIT, 1),
        IssueError::ListUnavailable(_) => Advice::later(
            "The broker cannot ask the others",
            "The store in which the brokers list what is out does not answer, so that credentials \
             of other brokers have not ended. Wait for the number of seconds in `Retry-After`, \
             then try again. If this continues, tell the operator.",
            PAUSE,
        ),
        IssueError::OutstandingFull => Advice::later(
            "Too many credentials are out",
            "The broker has to end each credential of this registry, and keeps a list of as many \
             as it can. Wait for the number of seconds in `Retry-After`, then try again.",
            LONG_PAUSE.min(60),
        ),
        IssueError::Limited(refused) => limited(refused),
        IssueError::Replayed(replayed) => not_reserved(*replayed),
        IssueError::Audit(_) => Advice::later(
            "The request cannot be recorded",
            "The broker hands out no credential without a durable audit record. Wait for the \
             number \
             of seconds in `Retry-After`, then try again. If this continues, tell the operator.",
            PAUSE,
        ),
        IssueError::RepositoryConflict(conflict) => repository::conflict(*conflict),
        IssueError::Internal(_) => internal(),
    }
}

/// A token that is valid for one credential only.
fn not_reserved(replayed: Replayed) -> Advice {
    match replayed {
        Replayed::Used | Replayed::BeforeStart => Advice::now(
            "The token is valid for one credential only",
            "It was used before, or it was issued before the broker's memory of used tokens began, \
             at its start or in the store that brokers share. Get a fresh token for each request.",
        ),
        Replayed::Early => Advice::now(
            "The token is not valid yet",
            "It was issued in the future by the broker's clock, and is valid for one credential \
             only. Check the clock of the machine that issued it.",
        ),
        Replayed::Unknown(_) => Advice::later(
            "The broker cannot tell whether the token was used",
            "Your token is valid for one credential only, and the store in which the brokers \
             remember used tokens does not answer. Wait for the number of seconds in \
             `Retry-After`, then try again with a fresh token. If this continues, tell the \
             operator.",
            PAUSE,
        ),
        Replayed::Full => Advice::later(
            "The broker remembers as many used tokens as it can",
            "Your token is valid for one credential only, and the broker has no room to remember \
             that it was used. Wait for the number of seconds in `Retry-After`, then try again.",
            PAUSE,
        ),
    }
}

fn internal() -> Advice {
    Advice::now(
        "Internal error",
        "This is a bug in the broker. Give the request id to the operator.",
    )
}

/// Adds up to half of `seconds`, by the request's id, so that callers who are refused at one moment
/// come back at different ones. Never less than `seconds`: who comes back too early is refused
/// again.
fn spread(seconds: u32, id: Ulid) -> u32 {
    let half = u128::from(seconds.div_ceil(2));
    seconds.saturating_add(u32::try_from(id.random() % (half + 1)).unwrap_or(0)).min(LONG_PAUSE)
}

/// A failure on its way out: the middleware `answer` knows the request id and calls
/// [`Failure::respond`].
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

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        Self::Issue(error)
    }
}
