//! The settings of one owner in GitHub Container Registry, and their checks.

use rise_provider::{Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `ghcr`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Host of the images: `ghcr.io`, or that of an enterprise, such as `containers.acme.ghe.com`.
    pub registry_url: String,
    /// The user or organization that owns the images, in lower case.
    pub namespace: String,
    /// The user whose tokens these are: one who may use the packages of the owner, and nothing
    /// else.
    pub username: Option<String>,
    /// Personal access token (classic) with `write:packages`, which each grant to push gets.
    /// Without one, callers push with their own login, such as `GITHUB_TOKEN`.
    pub password: Option<SecretName>,
    /// Personal access token (classic) with `read:packages`, which each other grant gets. Without
    /// one they get `password`.
    pub pull_password: Option<SecretName>,
}

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.host().err().into_iter().collect();
        if self.namespace.contains('/') || !Location::is_repository(&self.namespace) {
            let message = "expected the user or organization that owns the images, in lower case";
            problems.push(Problem::new("/namespace", message));
        }
        let has_token = self.password.is_some() || self.pull_password.is_some();
        let username = match self.username.as_deref() {
            None if has_token => Some("missing: a token needs the name of its user"),
            Some(_) if !has_token => Some("has no `password` and no `pull_password`"),
            Some(name) if name.is_empty() || name.contains(':') => {
                Some("expected the name of a user")
            }
            None | Some(_) => None,
        };
        problems.extend(username.map(|message| Problem::new("/username", message)));
        problems
    }

    /// The host of the images.
    pub(crate) fn host(&self) -> Result<String, Problem> {
        let url = self.registry_url.strip_prefix("https://").unwrap_or(&self.registry_url);
        let host = url.strip_suffix('/').unwrap_or(url);
        if Location::is_host(host) && host.contains('.') {
            return Ok(host.to_ascii_lowercase());
        }
        Err(Problem::new("/registry_url", "expected a host, such as `ghcr.io`"))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::json;

    use crate::Ghcr;

    #[test]
    fn each_wrong_setting_is_named() {
        for (changes, path) in [
            (json!({ "registry_url": "ghcr" }), "/registry_url"),
            (json!({ "registry_url": "ghcr.io/acme" }), "/registry_url"),
            (json!({ "namespace": "Acme" }), "/namespace"),
            (json!({ "namespace": "acme/team" }), "/namespace"),
            (json!({ "namespace": "" }), "/namespace"),
            (json!({ "username": "bot" }), "/username"),
            (json!({ "password": "password" }), "/username"),
            (json!({ "pull_password": "pull_password" }), "/username"),
            (json!({ "username": "", "password": "password" }), "/username"),
            (json!({ "username": "a:b", "password": "password" }), "/username"),
            (json!({ "token": "x" }), ""),
        ] {
            let mut all = json!({ "registry_url": "ghcr.io", "namespace": "acme" });
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let problems = testing::check::<Ghcr>(&all).unwrap_err();
            let paths: Vec<_> = problems.into_iter().map(|problem| problem.path).collect();
            assert_eq!(paths, [path], "{changes}");
        }
    }
}
