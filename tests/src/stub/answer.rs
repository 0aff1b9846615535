//! Answers that the stub can give.

use std::time::Duration;

use jiff::SignedDuration;

/// One way to answer one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer of AWS. Credentials of `AssumeRole` last for the requested duration, those of
    /// `GetAuthorizationToken` for twelve hours.
    Usual,
    /// The answer of AWS, with credentials that expire after this time; a negative time is in the
    /// past.
    Expires(SignedDuration),
    /// An AWS error in the protocol's own form.
    Error {
        status: u16,
        code: &'static str,
        /// Sent as `Retry-After` (seconds) and as the SDK's `x-amz-retry-after` (milliseconds).
        retry_after: Option<Duration>,
    },
    /// This status and body.
    Raw { status: u16, content_type: &'static str, body: Vec<u8> },
    /// The answer of AWS, followed by this many spaces: correct, and too long.
    Huge(usize),
    /// The answer of AWS, of which the end is missing.
    Cut,
    /// Waits before it answers. It records the request also if the client gives up.
    After(Duration, Box<Answer>),
    /// Reads the request, then closes the connection without a byte.
    Close,
}

impl Answer {
    /// 403, without a remedy.
    pub fn access_denied() -> Self {
        Self::error(403, "AccessDenied")
    }

    /// 400, as ECR answers. STS answers `Throttling`.
    pub fn throttled(retry_after: Option<Duration>) -> Self {
        Self::Error { status: 400, code: "ThrottlingException", retry_after }
    }

    pub fn error(status: u16, code: &'static str) -> Self {
        Self::Error { status, code, retry_after: None }
    }

    /// Status 200, and a body that no parser takes.
    pub fn garbage() -> Self {
        Self::Raw {
            status: 200,
            content_type: "text/html",
            body: b"<html>\x00\xff maintenance {".to_vec(),
        }
    }

    /// The page of a load balancer whose servers are away.
    pub fn html(status: u16) -> Self {
        let body = format!("<html><h1>{status} Service Unavailable</h1></html>").into_bytes();
        Self::Raw { status, content_type: "text/html", body }
    }

    /// An error of STS in its own form, with this text.
    pub fn sts_error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
             <Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>stub</RequestId></ErrorResponse>"
        );
        Self::Raw { status, content_type: "text/xml", body: body.into_bytes() }
    }

    /// The usual answer, late.
    pub fn late(delay: Duration) -> Self {
        Self::After(delay, Box::new(Self::Usual))
    }
}
