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
    /// Name of the OIDC integration in Artifactory that trusts this broker, in place of
    /// `access_token`: its identity mappings make the tokens, and none of Artifactory is stored.
    pub provider_name: Option<String>,
    /// Audience of that integration.
    pub audience: Option<String>,
    /// The scope that the identity mappings give, such as
    /// `applied-permissions/groups:docker-{project}-{actions}`. `{actions}` is `pull` or `push`.
    /// The default is what a token of `access_token` has.
    pub token_scope: Option<String>,
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
    /// Each gets a token, which an identity token of this broker is exchanged for.
    Federated(Integration<'a>),
}

/// An OIDC integration of Artifactory.
pub(crate) struct Integration<'a> {
    pub name: &'a str,
    pub audience: &'a str,
}

/// Where requests go and images are.
pub(crate) struct Place {
    /// The URL that makes tokens.
    pub tokens: String,
    /// The URL that exchanges identity tokens.
    pub exchange: String,
    pub host: String,
    /// What stands before the project in a repository's name.
    pub prefix: String,
}

/// The end of the host of every instance of the vendor's cloud.
const CLOUD: &str = ".jfrog.io";

impl Settings {
    pub(crate) fn is_token(&self) -> bool {
        self.access_token.is_some() || self.is_federated()
    }

    fn is_federated(&self) -> bool {
        self.provider_name.is_some() || self.audience.is_some() || self.token_scope.is_some()
    }

    /// A token for `a` opens everything below it, so `a/b` is a project only if `a` owns it.
    pub(crate) fn has_project(&self, project: &str) -> bool {
        !self.is_token() || self.child_repositories || !project.contains('/')
    }

    pub(crate) fn access(&self) -> Result<Access<'_>, Problem> {
        let problem = |path: &str, message: &str| Err(Problem::new(path, message));
        if self.is_federated() {
            return self.integration().map(Access::Federated);
        }
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
                "expected `access_token` (a token for each grant), `provider_name` and `audience` \
                 (the same without a stored secret), `username` and `password` (one account for \
                 all callers) or `use_credential_helper = true` (callers' own logins)",
            ),
        }
    }

    fn integration(&self) -> Result<Integration<'_>, Problem> {
        let others = [
            ("/access_token", self.access_token.is_some()),
            ("/username", self.username.is_some()),
            ("/password", self.password.is_some()),
            ("/use_credential_helper", self.use_credential_helper),
        ];
        if let Some((path, _)) = others.iter().find(|(_, is_stated)| *is_stated) {
            let text = "remove it, or `provider_name` and `audience`: the identity mappings of \
                        Artifactory decide what callers get";
            return Err(Problem::new(*path, text));
        }
        let stated = |path: &str, value: &Option<String>, expected: &str| match value {
            Some(text) if is_name(text) => Ok(()),
            Some(text) => Err(Problem::new(path, format!("`{text}` is not {expected}"))),
            None => Err(Problem::new(path, format!("missing; expected {expected}"))),
        };
        let name = "the name of the OIDC integration in Artifactory, such as `rise-broker`";
        stated("/provider_name", &self.provider_name, name)?;
        let audience = "the audience of the OIDC integration, such as `https://company.jfrog.io`";
        stated("/audience", &self.audience, audience)?;
        let (Some(name), Some(audience)) = (&self.provider_name, &self.audience) else {
            return Err(Problem::new("/provider_name", "missing"));
        };
        Ok(Integration { name, audience })
    }

    /// Whether the scope of tokens names the project: Artifactory could not give two projects the
    /// same one.
    pub(crate) fn has_scope_of_project(&self) -> bool {
        self.token_scope.as_ref().is_none_or(|scope| scope.contains("{project}"))
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
        let tokens = format!("{origin}/access/api/v1/tokens");
        let exchange = format!("{origin}/access/api/v1/oidc/token");
        Ok(Place { tokens, exchange, host, prefix })
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
        let username = username.filter(|_| self.access_token.is_some());
        let scope = self.token_scope.as_ref().filter(|scope| !is_scope(scope)).map(|scope| {
            let expected = "expected scopes of Artifactory such as \
                `applied-permissions/groups:docker-{project}-{actions}`, with `{actions}`, \
                without which those who may pull could push, and with no other `{`";
            Problem::new("/token_scope", format!("`{scope}` is not a scope; {expected}"))
        });
        [key, place, username, scope, self.access().err()].into_iter().flatten().collect()
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

/// A text that is compared as it is.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_scope(text: &str) -> bool {
    let filled = text.replace("{project}", "").replace("{actions}", "");
    let is_possible = filled.starts_with("applied-permissions/") || filled.starts_with("artifact:");
    let is_plain = filled.len() <= 500 && !filled.contains(['{', '}']) && text.is_ascii();
    is_possible && is_plain && text.contains("{actions}")
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

    fn federated(changes: &Value) -> Value {
        let mut all = json!({
            "access_token": null, "provider_name": "rise-broker", "audience": "https://jfrog.example",
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all
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
            federated(&json!({})),
            federated(&json!({ "token_scope": "applied-permissions/groups:{project}-{actions}" })),
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
            (federated(&json!({ "audience": null })), "/audience"),
            (federated(&json!({ "audience": "a b" })), "/audience"),
            (federated(&json!({ "provider_name": null })), "/provider_name"),
            (federated(&json!({ "provider_name": "" })), "/provider_name"),
            (federated(&json!({ "access_token": "access_token" })), "/access_token"),
            (federated(&json!({ "username": "rise" })), "/username"),
            (federated(&json!({ "use_credential_helper": true })), "/use_credential_helper"),
            (federated(&json!({ "token_scope": "groups:{project}-{actions}" })), "/token_scope"),
            (
                federated(&json!({ "token_scope": "applied-permissions/groups:{project}" })),
                "/token_scope",
            ),
            (
                federated(
                    &json!({ "token_scope": "applied-permissions/groups:{registry}-{actions}" }),
                ),
                "/token_scope",
            ),
            (json!({ "token_scope": "applied-permissions/groups:{actions}" }), "/access_token"),
            (json!({ "token": "x" }), ""),
        ] {
            assert_eq!(problems(&changes), [path], "{changes}");
        }
    }
}
