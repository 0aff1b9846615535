//! The URL of a server that receives tokens: https, or plain http on this machine.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use crate::failure::{Failure, shown};

/// A URL without a trailing slash, user name, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    text: String,
    host: String,
    is_https: bool,
}

impl BrokerUrl {
    pub(crate) fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            // The URL may contain a password, so it is not printed.
            Failure::Settings(format!("{origin}: {why}; write it as https://broker.example.com"))
        };
        let text = text.trim().trim_end_matches('/');
        if let Some(url) = with_scheme(text) {
            return Err(Failure::Settings(format!("{origin}: has no scheme: write it as {url}")));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("is not a URL"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("must not contain a user name or password"));
        }
        if text.contains(['?', '#']) {
            return Err(wrong("must not contain a query or fragment"));
        }
        let host = authority.host().to_ascii_lowercase();
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => {
                let why = format!(
                    "plain http would expose the token on the network on its way to {}",
                    shown(&host)
                );
                return Err(wrong(&why));
            }
            Some(_) | None => return Err(wrong("is neither https nor http")),
        };
        Ok(Self { text: text.to_owned(), host, is_https })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// Whether it is this machine, which is never reached through a proxy.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The URL that is meant by a text such as `127.0.0.1:3000`.
fn with_scheme(text: &str) -> Option<String> {
    let host = text.split('/').next().filter(|host| crate::names::is_host(host))?;
    if text.contains("://") {
        return None;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let scheme = if is_loopback(name) { "http" } else { "https" };
    Some(format!("{scheme}://{}", shown(text)))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_https_or_on_this_machine() {
        for good in [
            "https://broker.example.com",
            "https://broker.example.com:8443/registry/",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "http://localhost:3000/",
        ] {
            assert!(BrokerUrl::parse(good, "RISE_URL").is_ok(), "{good}");
        }
        for bad in [
            "",
            "broker.example.com",
            "http://broker.example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://user:pass@broker.example.com",
            "https://broker.example.com?x",
            "https://broker.example.com/#x",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
        ] {
            let failure = BrokerUrl::parse(bad, "RISE_URL").unwrap_err();
            assert!(failure.to_string().starts_with("RISE_URL: "), "{bad}: {failure}");
            assert!(!failure.to_string().contains("pass@"), "{failure}");
        }
        for (bare, expected) in [
            ("127.0.0.1:3000", "write it as http://127.0.0.1:3000"),
            ("localhost", "write it as http://localhost"),
            ("[::1]:3000/", "write it as http://[::1]:3000"),
            ("broker.example.com/x", "write it as https://broker.example.com/x"),
            ("broker.example.com:8443", "write it as https://broker.example.com:8443"),
        ] {
            let failure = BrokerUrl::parse(bare, "RISE_URL").unwrap_err().to_string();
            assert!(failure.ends_with(expected), "{failure}");
        }
    }
}
