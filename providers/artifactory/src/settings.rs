//! The settings of one Artifactory repository: their checks, and the addresses that follow.

use rise_provider::{Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `artifactory`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of Artifactory, such as `https://company.jfrog.io`.
    pub base_url: String,
    /// Key of the Docker repository, such as `docker-local`.
    pub repository: String,
    /// The Docker access method of Artifactory: `repository-path` (`host/docker-local/my-app`) or
    /// `subdomain` (`docker-local.host/my-app`).
    #[serde(default)]
    pub docker_access: DockerAccess,
    /// Host of the images, if it is another one than follows from `base_url`.
    pub registry_url: Option<String>,
    /// Access token of an administrator or project administrator, which makes a token for each
    /// grant.
    pub access_token: Option<SecretName>,
    /// User that the tokens are for. Without one, each has a user of its own, `rise-` and the
    /// grant's id. With `password` instead of `access_token`: the account that every caller gets.
    pub username: Option<String>,
    /// Password of the account that every caller gets.
    pub password: Option<SecretName>,
    /// Callers have credentials of their own.
    #[serde(default)]
    pub use_credential_helper: bool,
    /// Allows a push to replace a tag that exists. Artifactory needs its permission to delete for
    /// that, so the token can also delete images of the repository.
    #[serde(default)]
    pub allow_overwrite: bool,
    /// Whether a project owns everything below its repository.
    #[serde(default)]
    pub child_repositories: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum DockerAccess {
    #[default]
    RepositoryPath,
    Subdomain,
}

/// How callers get access.
pub(crate) enum Access<'a> {
    /// They have credentials of their own.
    Helper,
    /// They share one account.
    Account(&'a str, &'a SecretName),
    /// Each gets a token, which this token makes.
    Token(&'a SecretName),
}

/// Where requests go and images are.
pub(crate) struct Place {
    /// The URL that makes tokens.
    pub tokens: String,
    pub host: String,
    /// What stands before the project in a repository's name.
    pub prefix: String,
}

/// The end of the host of every instance of the vendor's cloud.
const CLOUD: &str = ".jfrog.io";

impl Settings {
    pub(crate) fn is_token(&self) -> bool {
        self.access_token.is_some()
    }

    /// A token for `a` opens everything below it, so `a/b` is a project only if `a` owns it.
    pub(crate) fn has_project(&self, project: &str) -> bool {
        !self.is_token() || self.child_repositories || !project.contains('/')
    }

    pub(crate) fn access(&self) -> Result<Access<'_>, Problem> {
        let problem = |path: &str, message: &str| Err(Problem::new(path, message));
        match (&self.access_token, &self.username, &self.password, self.use_credential_helper) {
            (Some(token), _, None, false) => Ok(Access::Token(token)),
            (None, Some(username), Some(password), false) => {
                Ok(Access::Account(username, password))
            }
            (None, None, None, true) => Ok(Access::Helper),
            (Some(_), _, Some(_), _) => problem(
                "/password",
                "remove it: `access_token` makes a token for each grant, and callers get no \
                 password",
            ),
            (Some(_), _, None, true) => problem(
                "/use_credential_helper",
                "remove it or `access_token`: with the helper, callers have credentials of their \
                 own",
            ),
            (None, _, _, true) => problem(
                "/use_credential_helper",
                "remove it, or `username` and `password`: with the helper, callers have \
                 credentials of their own",
            ),
            (None, Some(_), None, false) => {
                problem("/password", "missing: `username` needs it, or `access_token`")
            }
            (None, None, Some(_), false) => problem("/username", "missing: `password` needs it"),
            (None, None, None, false) => problem(
                "",
                "expected `access_token` (a token for each grant), `username` and `password` (one \
                 account for all callers) or `use_credential_helper = true` (callers' own logins)",
            ),
        }
    }

    pub(crate) fn place(&self) -> Result<Place, Problem> {
        let (origin, own) = self.origin()?;
        let key = &self.repository;
        let host = match (&self.registry_url, self.docker_access) {
            (Some(url), _) => host_of(url, "/registry_url")?,
            (None, DockerAccess::RepositoryPath) => own.to_owned(),
            (None, DockerAccess::Subdomain) => match own.strip_suffix(CLOUD) {
                Some(server) => format!("{server}-{key}{CLOUD}"),
                None => format!("{key}.{own}"),
            },
        };
        let prefix = match self.docker_access {
            DockerAccess::RepositoryPath => format!("{key}/"),
            DockerAccess::Subdomain => String::new(),
        };
        Ok(Place { tokens: format!("{origin}/access/api/v1/tokens"), host, prefix })
    }

    /// The origin of `base_url`, and its host with the port. Artifactory's own URL often ends in
    /// `/artifactory`, and the tokens are beside it.
    fn origin(&self) -> Result<(&str, &str), Problem> {
        let url = self.base_url.trim_end_matches('/');
        let origin = url.strip_suffix("/artifactory").unwrap_or(url);
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        host.filter(|host| is_host(host)).map(|host| (origin, host)).ok_or_else(|| {
            Problem::new("/base_url", "expected a URL such as `https://company.jfrog.io`")
        })
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let is_key = Location::is_repository(&self.repository) && !self.repository.contains('/');
        let key = (!is_key).then(|| {
            Problem::new(
                "/repository",
                "expected the key of a repository in lower case, such as `docker-local`: it is a \
                 part of image names",
            )
        });
        let place = self.place().err();
        let username = self.username.as_ref().filter(|name| !is_username(name)).map(|_| {
            Problem::new("/username", "expected a user name of Artifactory, in lower case")
        });
        let username = username.filter(|_| self.is_token());
        [key, place, username, self.access().err()].into_iter().flatten().collect()
    }
}

fn host_of(url: &str, path: &str) -> Result<String, Problem> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
    let host = host.strip_suffix('/').unwrap_or(host);
    if is_host(host) {
        Ok(host.to_owned())
    } else {
        Err(Problem::new(path, "expected a host with an optional port, and no path"))
    }
}

/// A name in lower case with an optional port. The host checks the rest.
fn is_host(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty() && text.bytes().all(|byte| is_letter(byte) || b"-.:".contains(&byte))
}

/// Artifactory makes user names lower-case.
fn is_username(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| is_letter(byte) || b"-._@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use crate::Artifactory;

    fn problems(changes: &Value) -> Vec<String> {
        let mut settings = json!({
            "base_url": "https://company.jfrog.io",
            "repository": "docker-local",
            "access_token": "access_token"
        });
        for (key, value) in changes.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let problems = testing::check::<Artifactory>(&settings).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn each_fault_is_found_where_it_is() {
        let none = Vec::<String>::new();
        for right in [
            json!({}),
            json!({ "username": "rise" }),
            json!({ "base_url": "http://localhost:8082/artifactory/" }),
            json!({ "docker_access": "subdomain", "allow_overwrite": true }),
            json!({ "child_repositories": true }),
        ] {
            assert_eq!(problems(&right), none, "{right}");
        }
        for (changes, path) in [
            (json!({ "base_url": "company.jfrog.io" }), "/base_url"),
            (json!({ "base_url": "https://Company.jfrog.io" }), "/base_url"),
            (json!({ "base_url": "https://company.jfrog.io/ui/login" }), "/base_url"),
            (json!({ "base_url": "https://user@company.jfrog.io" }), "/base_url"),
            (json!({ "base_url": "https://" }), "/base_url"),
            (json!({ "repository": "Docker-Local" }), "/repository"),
            (json!({ "repository": "docker/local" }), "/repository"),
            (json!({ "repository": "docker:local" }), "/repository"),
            (json!({ "repository": "" }), "/repository"),
            (json!({ "registry_url": "https://x.io/path" }), "/registry_url"),
            (json!({ "username": "Rise Broker" }), "/username"),
            (json!({ "username": "" }), "/username"),
            (json!({ "password": "password" }), "/password"),
            (json!({ "use_credential_helper": true }), "/use_credential_helper"),
            (json!({ "access_token": null }), ""),
            (json!({ "access_token": null, "username": "u" }), "/password"),
            (json!({ "access_token": null, "password": "p" }), "/username"),
            (
                json!({ "access_token": null, "username": "u", "use_credential_helper": true }),
                "/use_credential_helper",
            ),
            (json!({ "docker_access": "port" }), ""),
            (json!({ "token": "x" }), ""),
        ] {
            assert_eq!(problems(&changes), [path], "{changes}");
        }
    }
}
