//! Errors of an exchange, in words that a person can act upon.

use std::io;

use rustls::CertificateError;

use crate::failure::{Failure, shown};
use crate::patience::{Repeat, Setback};

/// An exchange without an answer. [`TransportError::towards`] adds the name of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransportError {
    /// No program listens at the server's address. The request was not sent.
    Refused,
    /// The server closed the connection. It may have received the request.
    Closed,
    /// There is no connection to the server for another reason.
    Unreachable(String),
    /// The deadline passed.
    Late,
    /// The server's certificate is not trusted. The text names the remedy.
    Certificate(String),
    /// The answer is not HTTP, or it is too long.
    NotHttp(String),
    /// The token contains characters that a header cannot carry.
    BadToken,
    /// The server was asked through a proxy, which may be what failed.
    ThroughProxy(Box<TransportError>),
}

impl TransportError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an open list of other crates' errors: the rest is printed as it is"
    )]
    pub(super) fn of(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Late,
            ureq::Error::HostNotFound => Self::Unreachable("its name does not resolve".to_owned()),
            ureq::Error::Io(error) => of_io(error),
            ureq::Error::Rustls(error) => of_tls(error),
            ureq::Error::ConnectProxyFailed(_) => {
                Self::Unreachable("the proxy rejects the connection".to_owned())
            }
            ureq::Error::BodyExceedsLimit(_) => Self::NotHttp("its answer is too long".to_owned()),
            ureq::Error::LargeResponseHeader(..) => {
                Self::NotHttp("its headers are too long".to_owned())
            }
            ureq::Error::Http(_) => Self::BadToken,
            ureq::Error::ConnectionFailed => Self::Unreachable("no connection".to_owned()),
            // Protocol errors, and errors of features that this program does not use.
            _ => Self::NotHttp("its answer is not HTTP".to_owned()),
        }
    }

    /// Names the proxy if there was one and no answer came through it.
    pub(super) fn through_proxy(self, is_proxied: bool) -> Self {
        let is_without_answer =
            matches!(self, Self::Refused | Self::Closed | Self::Unreachable(_) | Self::Late);
        if is_proxied && is_without_answer { Self::ThroughProxy(Box::new(self)) } else { self }
    }

    /// Whether the server has certainly not received the request.
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Refused => true,
            Self::ThroughProxy(error) => error.is_unsent(),
            Self::Closed
            | Self::Unreachable(_)
            | Self::Late
            | Self::Certificate(_)
            | Self::NotHttp(_)
            | Self::BadToken => false,
        }
    }

    /// The failure, which is repeated if the reason may pass: a server that is being restarted
    /// refuses connections or closes them.
    pub(crate) fn setback(self, whom: &str, setting: &str) -> Setback {
        let repeat = self.repeat();
        Setback { failure: self.towards(whom, setting), repeat }
    }

    fn repeat(&self) -> Repeat {
        match self {
            Self::Refused | Self::Closed => Repeat::Soon,
            Self::ThroughProxy(error) => error.repeat(),
            Self::Unreachable(_)
            | Self::Late
            | Self::Certificate(_)
            | Self::NotHttp(_)
            | Self::BadToken => Repeat::Never,
        }
    }

    /// `whom` names the server, as in `the broker at https://…`, and `setting` its setting.
    pub(crate) fn towards(self, whom: &str, setting: &str) -> Failure {
        let unreachable = |why: &str| {
            Failure::Unavailable(format!(
                "{whom} cannot be reached ({why}): check {setting}, the network, and that it runs"
            ))
        };
        match self {
            Self::Refused => unreachable("connection refused"),
            Self::Closed => unreachable("connection closed"),
            Self::Unreachable(why) => unreachable(&why),
            Self::Late => Failure::Unavailable(format!(
                "{whom} did not answer in time: try again, or check {setting} and the network"
            )),
            Self::Certificate(why) => Failure::Untrusted(format!("{whom} is not trusted: {why}")),
            Self::NotHttp(why) => Failure::Untrusted(format!(
                "{whom} did not answer as expected ({why}): check {setting}"
            )),
            Self::ThroughProxy(error) => error.towards(
                &format!("{whom}, through the proxy of HTTPS_PROXY,"),
                &format!("HTTPS_PROXY, NO_PROXY, {setting}"),
            ),
            Self::BadToken => Failure::Token(
                "the token contains characters that no token has: check its source".to_owned(),
            ),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of other crates' errors: the rest is printed as it is"
)]
fn of_io(error: &io::Error) -> TransportError {
    if let Some(tls) = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()) {
        return of_tls(tls);
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TransportError::Late,
        io::ErrorKind::ConnectionRefused => TransportError::Refused,
        io::ErrorKind::InvalidData => TransportError::NotHttp("its answer is not HTTP".to_owned()),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => TransportError::Closed,
        _ => TransportError::Unreachable(shown(&error.to_string())),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of other crates' errors: the rest is printed as it is"
)]
fn of_tls(error: &rustls::Error) -> TransportError {
    if matches!(error, rustls::Error::InvalidMessage(_)) {
        return TransportError::NotHttp(
            "it does not answer with TLS; a server that speaks plain http has the scheme http:// in \
             its URL, which is allowed on this machine only"
                .to_owned(),
        );
    }
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return TransportError::NotHttp(format!("TLS: {}", shown(&error.to_string())));
    };
    TransportError::Certificate(match certificate {
        // The signature is bad if another CA has the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate has an unknown issuer; set RISE_CA_FILE to its CA's certificate, and \
             if that is set, ask the operator whether the server sends its whole chain"
                .to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "its certificate is expired or not yet valid; ask its operator to renew it, or set \
             this machine's clock"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name; check RISE_URL".to_owned()
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is that of a CA, which no server may use; ask its operator for one \
             without `CA:TRUE` (openssl req -x509 -addext basicConstraints=critical,CA:FALSE)"
                .to_owned()
        }
        other => format!(
            "its certificate is invalid ({}); set RISE_CA_FILE, or ask its operator",
            shown(&other.to_string())
        ),
    })
}
