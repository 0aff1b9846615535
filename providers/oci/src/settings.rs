//! The settings of one OCI registry: their checks, and the names that follow from them.
//!
//! The schema has the keys and their types. Every grammar is checked here, with a message.

use rise_provider::{Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `oci`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Host name, with a port if needed: `localhost:5000`, `docker.io`,
    /// `https://harbor.company.com`.
    pub registry_url: String,
    /// Prefix of the project in every repository name, such as `team` or `team/apps`.
    #[serde(default)]
    pub namespace: String,
    /// Account that every caller gets. Without one, callers use credentials of their own.
    pub username: Option<String>,
    /// Password of the account.
    pub password: Option<SecretName>,
}

impl Settings {
    /// The host of an image reference, or the expected form of `registry_url`.
    pub(crate) fn host(&self) -> Result<String, &'static str> {
        let url = self.registry_url.as_str();
        let url =
            url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
        let host = url.strip_suffix('/').unwrap_or(url).to_ascii_lowercase();
        // Docker's own files call Docker Hub `https://index.docker.io/v1/`.
        if let Some((hub, "v1" | "v2")) = host.split_once('/')
            && is_docker_hub(hub)
        {
            return Ok("docker.io".to_owned());
        }

        if host.contains(['/', '?', '#', '@']) {
            return Err(
                "expected a host with an optional port, and no path, query, user name or password",
            );
        }
        if !Location::is_host(&host) {
            return Err("expected a host with an optional port, such as `localhost:5000` or \
                `harbor.company.com`");
        }
        // Clients treat the first segment of a reference as a host only if it has a dot or a port
        // (distribution/reference).
        if host != "localhost" && !host.contains(['.', ':']) {
            return Err(
                "expected a host with a dot or a port: clients treat a bare word as a namespace \
                of Docker Hub",
            );
        }
        Ok(if is_docker_hub(&host) { "docker.io".to_owned() } else { host })
    }

    /// The prefix of the project. On Docker Hub a reference without a namespace means `library`.
    pub(crate) fn prefix(&self, host: &str) -> String {
        match (self.namespace.as_str(), host) {
            ("", "docker.io") => "library/".to_owned(),
            ("", _) => String::new(),
            (namespace, _) => format!("{namespace}/"),
        }
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let url = self.host().err().map(|expected| Problem::new("/registry_url", expected));
        let is_wrong = !self.namespace.is_empty() && !Location::is_repository(&self.namespace);
        let namespace = is_wrong.then(|| {
            let expected =
                "expected lower-case path segments such as `team/apps`, without `/` at either end";
            Problem::new("/namespace", expected)
        });
        let account = match (self.username.as_deref(), &self.password) {
            (Some(""), Some(_)) => {
                Some(Problem::new("/username", "expected a user name, not an empty text"))
            }
            (Some(name), _) if name.contains(':') => Some(Problem::new(
                "/username",
                "expected a user name without `:`, at which clients divide it from the password",
            )),
            (Some(_), None) => Some(Problem::new("/password", "missing: `username` needs it")),
            (None, Some(_)) => Some(Problem::new("/username", "missing: `password` needs it")),
            (None, None) | (Some(_), Some(_)) => None,
        };
        [url, namespace, account].into_iter().flatten().collect()
    }
}

/// Clients treat `index.docker.io` as `docker.io` (distribution/reference). The other two names are
/// the API of Docker Hub: they have the same repositories and must not count as another registry.
fn is_docker_hub(host: &str) -> bool {
    matches!(
        host,
        "docker.io" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com"
    )
}

#[cfg(test)]
mod tests {
    use rise_provider::{Scope, testing};
    use serde_json::{Value, json};

    use super::*;
    use crate::Oci;

    fn host(registry_url: &str) -> Option<String> {
        let settings: Settings =
            serde_json::from_value(json!({ "registry_url": registry_url })).unwrap();
        settings.host().ok()
    }

    fn paths(settings: &Value) -> Vec<String> {
        let problems = testing::check::<Oci>(settings).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn a_registry_is_named_by_its_host() {
        for (url, expected) in [
            ("localhost:5000", "localhost:5000"),
            ("http://localhost:5000/", "localhost:5000"),
            ("localhost", "localhost"),
            ("registry:5000", "registry:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("docker.io", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("https://registry-1.docker.io", "docker.io"),
            ("registry.hub.docker.com", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
        ] {
            assert_eq!(host(url).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for url in [
            "",
            "https://",
            "registry",
            "ftp://r.example.com",
            "r.example.com/team",
            "https://index.docker.io/v3/",
            "https://r.example.com/v1/",
            "r.example.com//",
            "user@r.example.com",
            "user:pass@r.example.com",
            "r.example.com?x",
            "r.example.com#x",
            "r..example.com",
            "-r.example.com",
            "r_.example.com",
            "r.example.com:",
            "r.example.com:0",
            "r.example.com:05",
            "r.example.com:65536",
            "r.example.com:+1",
            "r.example.com:1:2",
            "[::1",
            "[::g]:1",
            "::1",
            "[::1]:5000",
            "r.example.com\r\n",
            "ä.example.com",
        ] {
            assert_eq!(host(url), None, "{url}");
        }
    }

    #[test]
    fn each_fault_is_found_where_it_is() {
        for (settings, path) in [
            (json!({ "registry_url": "registry" }), "/registry_url"),
            (json!({ "registry_url": "r.io", "namespace": "/a" }), "/namespace"),
            (json!({ "registry_url": "r.io", "namespace": "a/" }), "/namespace"),
            (json!({ "registry_url": "r.io", "namespace": "A" }), "/namespace"),
            (json!({ "registry_url": "r.io", "username": "ci" }), "/password"),
            (json!({ "registry_url": "r.io", "password": "password" }), "/username"),
            (
                json!({ "registry_url": "r.io", "username": "", "password": "password" }),
                "/username",
            ),
            (json!({ "registry_url": "r.io", "user": "ci" }), ""),
            (json!({}), ""),
        ] {
            assert_eq!(paths(&settings), [path], "{settings}");
        }
        let all = json!({ "registry_url": "registry", "namespace": "/", "username": "ci" });
        assert_eq!(paths(&all), ["/registry_url", "/namespace", "/password"]);
    }

    #[test]
    fn the_documented_settings_are_right() {
        for (registry_url, namespace) in [
            ("localhost:5000", "rise-apps"),
            ("docker.io", "myorg"),
            ("harbor.company.com", "project"),
        ] {
            let settings = json!({ "registry_url": registry_url, "namespace": namespace });
            assert_eq!(testing::check::<Oci>(&settings), Ok(Scope::None));
        }
    }
}
