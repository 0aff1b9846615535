//! Why there is no answer, in words that a person can act upon.

use std::io;

use rustls::CertificateError;

/// Says nothing of whom: that is the caller's business, see [`TransportError::towards`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransportError {
    /// Nobody there, or not now.
    Unreachable(String),
    Late,
    /// The certificate, and what to do about it.
    Certificate(String),
    /// What came is no HTTP, or too long.
    NotHttp(String),
    /// The token cannot be sent in a header.
    BadToken,
}

use crate::failure::{Failure, shown};

impl TransportError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an open list of other crates' errors: the rest is said as it is"
    )]
    pub(super) fn of(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Late,
            ureq::Error::HostNotFound => Self::Unreachable("its name is not known".to_owned()),
            ureq::Error::Io(error) => of_io(error),
            ureq::Error::Rustls(error) => of_tls(error),
            ureq::Error::ConnectProxyFailed(_) => {
                Self::Unreachable("the proxy of HTTPS_PROXY refuses the connection".to_owned())
            }
            ureq::Error::BodyExceedsLimit(_) => Self::NotHttp("its answer is too long".to_owned()),
            ureq::Error::LargeResponseHeader(..) => {
                Self::NotHttp("its headers are too long".to_owned())
            }
            ureq::Error::Http(_) => Self::BadToken,
            ureq::Error::ConnectionFailed => Self::Unreachable("no connection".to_owned()),
            // Protocol errors, and what this program does not ask for.
            _ => Self::NotHttp("its answer is no HTTP".to_owned()),
        }
    }

    /// `whom` as in `the broker at https://…`, `setting` what names it.
    pub(crate) fn towards(self, whom: &str, setting: &str) -> Failure {
        match self {
            Self::Unreachable(why) => Failure::Unavailable(format!(
                "{whom} cannot be reached ({why}): check {setting}, the network and that it runs"
            )),
            Self::Late => Failure::Unavailable(format!(
                "{whom} did not answer in time: try again, or check {setting} and the network"
            )),
            Self::Certificate(why) => Failure::Untrusted(format!("{whom} is not trusted: {why}")),
            Self::NotHttp(why) => {
                Failure::Untrusted(format!("{whom} did not answer as one ({why}): check {setting}"))
            }
            Self::BadToken => Failure::Token(
                "the token holds characters that no token has: check where it comes from"
                    .to_owned(),
            ),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of other crates' errors: the rest is said as it is"
)]
fn of_io(error: &io::Error) -> TransportError {
    if let Some(tls) = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
        return of_tls(tls);
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TransportError::Late,
        io::ErrorKind::ConnectionRefused => {
            TransportError::Unreachable("connection refused".to_owned())
        }
        io::ErrorKind::InvalidData => TransportError::NotHttp("its answer is no HTTP".to_owned()),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => TransportError::Unreachable("it hung up".to_owned()),
        _ => TransportError::Unreachable(shown(&error.to_string())),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of other crates' errors: the rest is said as it is"
)]
fn of_tls(error: &rustls::Error) -> TransportError {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return TransportError::NotHttp(format!("TLS: {}", shown(&error.to_string())));
    };
    TransportError::Certificate(match certificate {
        // The latter: another CA of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of an unknown issuer; set RISE_CA_FILE to its CA's certificate"
                .to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "its certificate is expired or not valid yet; have it renewed, or set this machine's clock"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is made out to another name; check RISE_URL".to_owned()
        }
        other => format!("its certificate is invalid ({}); set RISE_CA_FILE, or ask the operator", shown(&other.to_string())),
    })
}
