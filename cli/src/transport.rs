//! One HTTP exchange: https, or plain http to this machine, with a deadline and a bounded answer.
//!
//! **Invariant:** a secret is sent only to the configured URL. Redirects are never followed.

mod error;
mod proxy;
mod trust;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request, StatusCode};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use zeroize::Zeroizing;

pub(crate) use self::error::TransportError;

use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::settings::{BrokerUrl, Settings};

/// Bytes. Larger than any answer of a broker: an ECR password has about two thousand characters.
const LONGEST_BODY: u64 = 256 * 1024;
const LONGEST_HEADERS: usize = 32 * 1024;

/// An HTTP client for one server.
pub(crate) struct Transport {
    agent: Agent,
}

/// A request.
pub(crate) struct Exchange<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) authorization: Authorization<'a>,
    /// Content type and text.
    pub(crate) body: Option<(&'static str, Zeroizing<String>)>,
    pub(crate) deadline: Deadline,
}

/// The `Authorization` header of a request.
pub(crate) enum Authorization<'a> {
    Nobody,
    Bearer(&'a Secret),
    /// User name and password for a registry.
    Basic(&'a str, &'a Secret),
}

/// An answer with any status.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<u64>,
    /// The `Date` header, in seconds since 1970.
    pub(crate) date: Option<u64>,
    /// The `WWW-Authenticate` header, empty if absent.
    pub(crate) challenge: String,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Authorization<'_> {
    fn header(&self) -> Option<Zeroizing<String>> {
        let text = match self {
            Self::Nobody => return None,
            Self::Bearer(token) => format!("Bearer {}", token.expose()),
            Self::Basic(user, password) => {
                let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
                format!("Basic {}", STANDARD.encode(pair.as_bytes()))
            }
        };
        Some(Zeroizing::new(text))
    }
}

impl Reply {
    /// Whether the server asks for this scheme, which is given in lower case.
    pub(crate) fn challenges_for(&self, scheme: &str) -> bool {
        self.challenge.to_ascii_lowercase().starts_with(scheme)
    }
}

impl Transport {
    pub(crate) fn new(
        url: &BrokerUrl,
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let proxy = if url.is_https() && !url.is_loopback() {
            proxy::of(environment, url.host())?
        } else {
            None
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(url.is_https())
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(LONGEST_HEADERS)
            .proxy(proxy)
            .user_agent(concat!("rise-registry/", env!("CARGO_PKG_VERSION")));
        // Reading the system's certificates is the slowest part of a start, so plain http skips it.
        let config = if url.is_https() {
            let roots = trust::certificates(settings)?;
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(Arc::new(
                    rustls::crypto::aws_lc_rs::default_provider(),
                ))
                .root_certs(RootCerts::new_with_certs(&roots));
            config.tls_config(tls.build())
        } else {
            config
        };
        Ok(Self { agent: config.build().new_agent() })
    }

    pub(crate) fn send(&self, exchange: &Exchange<'_>) -> Result<Reply, TransportError> {
        let mut builder = Request::builder()
            .method(exchange.method.clone())
            .uri(exchange.url)
            .header("accept", "application/json");
        if let Some(header) = exchange.authorization.header() {
            builder = builder.header("authorization", header.as_str());
        }
        let remaining = exchange.deadline.remaining();
        if remaining.is_zero() {
            return Err(TransportError::Late);
        }
        let mut response = match &exchange.body {
            None => {
                let request = builder.body(()).map_err(|_| TransportError::BadToken)?;
                let request = self.agent.configure_request(request);
                self.agent.run(request.timeout_global(Some(remaining)).build())
            }
            Some((kind, text)) => {
                let request = builder.header("content-type", *kind).body(text.as_str());
                let request =
                    self.agent.configure_request(request.map_err(|_| TransportError::BadToken)?);
                self.agent.run(request.timeout_global(Some(remaining)).build())
            }
        }
        .map_err(|error| TransportError::of(&error))?;
        let body = response.body_mut().with_config().limit(LONGEST_BODY).read_to_vec();
        let body = Zeroizing::new(body.map_err(|error| TransportError::of(&error))?);
        let headers = response.headers();
        let date = header(headers, "date").and_then(|text| httpdate::parse_http_date(text).ok());
        let since_1970 = |at: std::time::SystemTime| {
            Some(at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?.as_secs())
        };
        Ok(Reply {
            status: response.status(),
            content_type: header(headers, "content-type").unwrap_or_default().to_owned(),
            retry_after: header(headers, "retry-after").and_then(|text| text.parse().ok()),
            date: date.and_then(since_1970),
            challenge: header(headers, "www-authenticate").unwrap_or_default().to_owned(),
            body,
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Encodes a value for a query or a form.
pub(crate) fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_audience_cannot_add_parameters() {
        assert_eq!(
            super::percent_encoded("https://r.io/a&b=c d"),
            "https%3A%2F%2Fr.io%2Fa%26b%3Dc%20d"
        );
    }
}
