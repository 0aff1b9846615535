//! The settings of one Harbor project: their checks, and the addresses that follow.

use rise_provider::{Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `harbor`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of Harbor, such as `https://harbor.example.com`, without a path.
    pub base_url: String,
    /// Name of the Harbor project that has the repositories. A robot opens all of it.
    pub project: String,
    /// User that makes the robots: a robot that may create, read, list and delete robots and holds
    /// what it hands on, such as `robot$rise`, or an administrator of the project.
    pub username: String,
    /// Password of that user.
    pub password: SecretName,
    /// Host of the images, if it is another one than that of `base_url`.
    pub registry_url: Option<String>,
}

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.host().err());
        if !is_project(&self.project) {
            problems.push(Problem::new(
                "/project",
                "expected the name of a Harbor project: `a-z` and `0-9`, with single `.`, `_` or \
                 `-` between",
            ));
        }
        if self.username.is_empty() || self.username.contains(':') {
            let message = "expected the name of a user or robot of Harbor, such as `robot$rise`";
            problems.push(Problem::new("/username", message));
        }
        problems
    }

    /// The host of the images.
    pub(crate) fn host(&self) -> Result<String, Problem> {
        let host = self.origin()?.1;
        let Some(registry) = &self.registry_url else { return Ok(host.to_owned()) };
        let registry = registry.strip_prefix("https://").unwrap_or(registry);
        if is_host(registry) {
            return Ok(registry.to_owned());
        }
        Err(Problem::new("/registry_url", "expected a host, such as `harbor.example.com:8443`"))
    }

    /// A URL of the API.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}/api/v2.0/{path}", self.base_url.trim_end_matches('/'))
    }

    /// Scheme and host of `base_url`.
    fn origin(&self) -> Result<(&str, &str), Problem> {
        let wrong = || {
            let message = "expected the URL of Harbor without a path, such as \
                           `https://harbor.example.com`";
            Problem::new("/base_url", message)
        };
        let (scheme, host) =
            self.base_url.trim_end_matches('/').split_once("://").ok_or_else(wrong)?;
        if matches!(scheme, "https" | "http") && is_host(host) {
            Ok((scheme, host))
        } else {
            Err(wrong())
        }
    }
}

/// A host with or without a port. The broker itself checks what it resolves to.
fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "443"));
    let is_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    !name.is_empty() && name.bytes().all(is_name) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Harbor's grammar of project names.
fn is_project(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let words = name.split(['.', '_', '-']);
    (1..=255).contains(&name.len())
        && words.into_iter().all(|word| !word.is_empty() && word.bytes().all(is_word))
}
