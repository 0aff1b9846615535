//! One HTTP exchange: https, or plain http to this machine, with a deadline and a bounded answer.
//!
//! **Invariant:** a secret is sent only to the configured URL. Redirects are never followed.

mod error;
mod proxy;
mod trust;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request, StatusCode};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use zeroize::Zeroizing;

pub(crate) use self::error::TransportError;

use crate::deadline::{Deadline, now};
use crate::environment::Environment;
use crate::failure::{Failure, shown};
use crate::patience::Repeat;
use crate::settings::{BrokerUrl, Settings};
use rise_secret::Secret;

/// Bytes. Larger than any answer of a broker: an ECR password has about two thousand characters.
const LONGEST_BODY: u64 = 256 * 1024;
const LONGEST_HEADERS: usize = 32 * 1024;
/// Seconds. A longer `Retry-After` counts as this.
const LONGEST_PAUSE: u64 = 86_400;

/// An HTTP client for one server.
pub(crate) struct Transport {
    agent: Agent,
    /// Whether requests go through the proxy of `HTTPS_PROXY`.
    is_proxied: bool,
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
    /// Seconds of the `Retry-After` header.
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

    /// How to repeat a request whose failure may pass.
    pub(crate) fn repeat(&self) -> Repeat {
        let pause = |seconds| Repeat::After(Duration::from_secs(seconds));
        self.retry_after.map_or(Repeat::Soon, pause)
    }

    /// Whether a service cannot answer now, whatever the request is.
    pub(crate) fn is_passing(&self) -> bool {
        self.status.as_u16() == 429 || self.status.is_server_error()
    }

    /// What the service says about its status, as `: …`. Pages for browsers and texts that contain
    /// the secret are left out.
    pub(crate) fn words(&self, secret: &Secret) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let json: Map<String, Value> = serde_json::from_str(&body).unwrap_or_default();
        let members = ["message", "error_description", "detail", "error"];
        let text = match members.iter().find_map(|name| json.get(*name)?.as_str()) {
            Some(text) => text,
            None if self.content_type.starts_with("text/plain") => &body,
            None => "",
        };
        if text.trim().is_empty() || secret.is_in(text) {
            return String::new();
        }
        format!(": {}", shown(text))
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
        let is_proxied = proxy.is_some();
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
        Ok(Self { agent: config.build().new_agent(), is_proxied })
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
            // Without a length, gateways wait for a body, or reject the request.
            None if exchange.method == Method::PUT => {
                let request = builder.header("content-length", "0").body("");
                let request =
                    self.agent.configure_request(request.map_err(|_| TransportError::BadToken)?);
                self.agent.run(request.timeout_global(Some(remaining)).build())
            }
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
        .map_err(|error| TransportError::of(&error).through_proxy(self.is_proxied))?;
        let body = response.body_mut().with_config().limit(LONGEST_BODY).read_to_vec();
        let body = Zeroizing::new(body.map_err(|error| TransportError::of(&error))?);
        let headers = response.headers();
        let date = header(headers, "date").and_then(seconds_since_1970);
        Ok(Reply {
            status: response.status(),
            content_type: header(headers, "content-type").unwrap_or_default().to_owned(),
            retry_after: header(headers, "retry-after").and_then(|text| pause(text, date)),
            date,
            challenge: header(headers, "www-authenticate").unwrap_or_default().to_owned(),
            body,
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn seconds_since_1970(http_date: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(http_date).ok()?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

/// The seconds of `Retry-After`, which is a number or a date (RFC 9110). A date is compared with
/// the server's own clock where the answer contains it.
fn pause(retry_after: &str, server_time: Option<u64>) -> Option<u64> {
    let text = retry_after.trim();
    let seconds = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for `u64` is a long pause too.
        text.parse().unwrap_or(LONGEST_PAUSE)
    } else {
        seconds_since_1970(text)?.saturating_sub(server_time.unwrap_or_else(now))
    };
    (!text.is_empty()).then_some(seconds.min(LONGEST_PAUSE))
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
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date_and_has_a_limit() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = seconds_since_1970(date).unwrap();
        for (text, server_time, expected) in [
            ("3", None, Some(3)),
            (" 120 ", None, Some(120)),
            ("99999999999999999999999", None, Some(LONGEST_PAUSE)),
            (date, Some(at - 30), Some(30)),
            (date, Some(at + 30), Some(0)),
            (date, None, Some(0)),
            ("", None, None),
            ("-1", None, None),
            ("soon", None, None),
        ] {
            assert_eq!(pause(text, server_time), expected, "{text}");
        }
    }

    #[test]
    fn an_audience_cannot_add_parameters() {
        assert_eq!(percent_encoded("https://r.io/a&b=c d"), "https%3A%2F%2Fr.io%2Fa%26b%3Dc%20d");
    }
}
