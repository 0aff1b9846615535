//! What a server answers to `GET /v2/`, and what that says about it.

use std::error::Error;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::{RegistryFinding, wrong};
use crate::capability::printable;

const LARGEST_BODY: usize = 64 << 10;
const SHOWN: usize = 256;

pub(super) struct ApiAnswer {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// A server that speaks the API.
pub(super) enum Judged {
    Open,
    Asks(Challenge),
}

/// How a registry wants a login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// With a token of this service.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl ApiAnswer {
    /// What does not fit is left out: no part that matters is so large.
    pub(super) async fn read(mut answer: Response) -> reqwest::Result<Self> {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_BODY {
                break;
            }
        }
        Ok(Self { status, headers, body })
    }

    pub(super) fn judge(&self, api: &Url) -> Result<Judged, RegistryFinding> {
        let shown = api.as_str();
        let no_registry = |what: String| {
            wrong(
                "registry_url",
                format!("{shown} {what}; name the host that images are pushed to"),
            )
        };
        match self.status {
            200..=299 if self.is_page() => {
                Err(no_registry("answers with a page (HTML), so no registry is there".to_owned()))
            }
            200..=299 => Ok(Judged::Open),
            401 => self.challenge().map(Judged::Asks).ok_or_else(|| {
                no_registry("answers 401 and does not ask for a login (Basic or Bearer)".to_owned())
            }),
            300..=399 => {
                let to = printable(&self.text(LOCATION), SHOWN);
                Err(no_registry(format!("redirects to `{to}`, where clients do not follow")))
            }
            404 | 405 | 410 => {
                Err(no_registry(format!("answers {}, so no registry is there", self.status)))
            }
            status => Err(RegistryFinding::Unknown(format!("{shown} answers {status}"))),
        }
    }

    /// The token of a token service.
    pub(super) fn token(&self) -> Option<Zeroizing<String>> {
        let answer: TokenAnswer = serde_json::from_slice(&self.body).ok()?;
        let token = Zeroizing::new(answer.token.or(answer.access_token)?);
        (!token.is_empty()).then_some(token)
    }

    fn is_page(&self) -> bool {
        let is_html = self.text(CONTENT_TYPE).to_ascii_lowercase().starts_with("text/html");
        is_html || self.body.trim_ascii_start().starts_with(b"<")
    }

    fn challenge(&self) -> Option<Challenge> {
        let all = self.headers.get_all(WWW_AUTHENTICATE).iter();
        let mut all = all.filter_map(|value| Challenge::parse(value.to_str().ok()?));
        let first = all.next()?;
        // A registry that offers both takes tokens from Docker.
        all.find(|other| *other != Challenge::Basic).or(Some(first))
    }

    fn text(&self, name: HeaderName) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }
}

impl Challenge {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let realm = parameter(parameters, "realm")?;
        Some(Self::Bearer { realm, service: parameter(parameters, "service") })
    }
}

/// The value of a parameter. A comma in quotes does not end it.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut is_quoted = false;
    let at_comma = |char: char| {
        is_quoted ^= char == '"';
        char == ',' && !is_quoted
    };
    parameters.split(at_comma).find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        let is_wanted = name.trim().eq_ignore_ascii_case(wanted);
        is_wanted.then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The causes of a failure, without its URL.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(source) = cause {
        causes.push(source.to_string());
        cause = source.source();
    }
    printable(&causes.join(": "), 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_docker_reads_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            let service = service.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service })
        };
        for (header, expected) in [
            ("Basic realm=\"Registry Realm\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer service=\"x\"", None),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\"",
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                "bearer Realm=https://a/t, scope=\"repository:x:pull,push\", service=\"a,b\"",
                bearer("https://a/t", Some("a,b")),
            ),
            ("Bearer realm=\"https://ghcr.io/token\"", bearer("https://ghcr.io/token", None)),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }
}
