//! The settings of one namespace of Docker Hub: their checks, and the addresses that follow.

use rise_provider::{Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `dockerhub`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Docker Hub, by any of its names: `docker.io`, `index.docker.io`, `registry-1.docker.io`,
    /// `https://index.docker.io/v1/`.
    pub registry_url: String,
    /// The organization or user that has the repositories.
    pub namespace: String,
    /// The user whose token `password` is. For an organization access token: the organization.
    pub username: String,
    /// A personal or organization access token.
    pub password: SecretName,
    /// A token of the same user that may only read. Grants that pull get it in place of `password`.
    pub pull_password: Option<SecretName>,
    /// What a grant gets.
    #[serde(default)]
    pub issues: Kind,
    /// Another address for Docker Hub's token server and API, for tests.
    pub endpoint_url: Option<String>,
}

/// What a grant gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Kind {
    /// The token of the settings, which every client takes.
    #[default]
    Stored,
    /// A bearer token of five minutes for one repository, which few clients take.
    Bearer,
    /// An organization access token for one repository, which the broker deletes.
    OrganizationToken,
}

/// The names of Docker Hub's registry.
const NAMES: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
const REALM: &str = "https://auth.docker.io";
const API: &str = "https://hub.docker.com";

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.is_hub() {
            let message = "expected a name of Docker Hub: `docker.io`, `index.docker.io`, \
                           `registry-1.docker.io` or `https://index.docker.io/v1/`";
            problems.push(Problem::new("/registry_url", message));
        }
        if self.namespace.contains('/') || !Location::is_repository(&self.namespace) {
            let message = "expected the organization or user that has the repositories";
            problems.push(Problem::new("/namespace", message));
        }
        if self.username.is_empty() || self.username.contains(':') {
            let message = "expected the user whose token `password` is";
            problems.push(Problem::new("/username", message));
        }
        if self.pull_password.is_some() && self.issues != Kind::Stored {
            let message = "is for stored tokens: with `issues` each grant gets a token of its \
                           own, for its actions; remove this";
            problems.push(Problem::new("/pull_password", message));
        }
        problems
    }

    /// The full name of a project's repository.
    pub(crate) fn repository(&self, project: &str) -> String {
        format!("{}/{project}", self.namespace)
    }

    /// The token server of the registry.
    pub(crate) fn realm(&self) -> String {
        format!("{}/token", self.address(REALM))
    }

    /// Where the API lets a user log in.
    pub(crate) fn login(&self) -> String {
        format!("{}/v2/auth/token", self.address(API))
    }

    /// Where the organization's access tokens are.
    pub(crate) fn tokens(&self) -> String {
        format!("{}/v2/orgs/{}/access-tokens", self.address(API), self.namespace)
    }

    fn address<'a>(&'a self, own: &'a str) -> &'a str {
        self.endpoint_url.as_deref().unwrap_or(own).trim_end_matches('/')
    }

    fn is_hub(&self) -> bool {
        let url = self.registry_url.strip_prefix("https://").unwrap_or(&self.registry_url);
        let (host, path) = url.split_once('/').unwrap_or((url, ""));
        NAMES.iter().any(|name| host.eq_ignore_ascii_case(name))
            && matches!(path.trim_end_matches('/'), "" | "v1" | "v2")
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use crate::DockerHub;

    fn paths(changes: &Value) -> Vec<String> {
        let mut all = json!({
            "registry_url": "docker.io", "namespace": "acme", "username": "bot",
            "password": "password",
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let problems = testing::check::<DockerHub>(&all).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn each_wrong_setting_is_named() {
        for (changes, path) in [
            (json!({ "registry_url": "hub.example.com" }), "/registry_url"),
            (json!({ "registry_url": "docker.io.example.com" }), "/registry_url"),
            (json!({ "registry_url": "docker.io/acme" }), "/registry_url"),
            (json!({ "namespace": "Acme" }), "/namespace"),
            (json!({ "namespace": "acme/team" }), "/namespace"),
            (json!({ "namespace": "" }), "/namespace"),
            (json!({ "username": "" }), "/username"),
            (json!({ "username": "a:b" }), "/username"),
            (json!({ "issues": "bearer", "pull_password": "p" }), "/pull_password"),
            (json!({ "issues": "token" }), ""),
            (json!({ "password": null }), ""),
            (json!({ "token": "x" }), ""),
        ] {
            assert_eq!(paths(&changes), [path], "{changes}");
        }
    }

    #[test]
    fn every_name_of_docker_hub_is_docker_hub() {
        for url in [
            "docker.io",
            "Docker.IO",
            "index.docker.io",
            "registry-1.docker.io",
            "registry.hub.docker.com",
            "https://index.docker.io/v1/",
            "https://registry-1.docker.io/v2/",
            "https://docker.io",
        ] {
            assert_eq!(paths(&json!({ "registry_url": url })), [""; 0], "{url}");
        }
    }
}
