//! The settings of one owner of packages in Gitea: their checks, and the addresses that follow.

use rise_provider::{Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `gitea`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of Gitea or Forgejo, such as `https://gitea.example.com`, without a path.
    pub base_url: String,
    /// Organization or user that has the images. They are `HOST/OWNER/NAME`.
    pub owner: String,
    /// Bot user whose access tokens callers get. A token opens all packages that this user may
    /// open, so it should be in one team of one organization.
    pub username: String,
    /// Password of that user: an access token cannot make access tokens.
    pub password: SecretName,
    /// Host of the images, if it is another one than that of `base_url`.
    pub registry_url: Option<String>,
}

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.image_host().err());
        let is_segment = !self.owner.contains('/') && Location::is_repository(&self.owner);
        if !is_segment {
            let message = "expected the name of an organization or a user in lower case, as it is \
                           in the names of images";
            problems.push(Problem::new("/owner", message));
        }
        if !is_user(&self.username) {
            let message = "expected the name of a user of Gitea, such as `rise-bot`";
            problems.push(Problem::new("/username", message));
        }
        problems
    }

    /// The host of the images.
    pub(crate) fn image_host(&self) -> Result<String, Problem> {
        let Some(("https" | "http", host)) = self.origin().split_once("://") else {
            return Err(wrong_base_url());
        };
        if !Location::is_host(host) {
            return Err(wrong_base_url());
        }
        let Some(registry) = &self.registry_url else { return Ok(host.to_owned()) };
        let registry = registry.strip_prefix("https://").unwrap_or(registry);
        if Location::is_host(registry) {
            return Ok(registry.to_owned());
        }
        Err(Problem::new("/registry_url", "expected a host, such as `gitea.example.com:8443`"))
    }

    /// The access tokens of the bot user.
    pub(crate) fn tokens(&self) -> String {
        format!("{}/api/v1/users/{}/tokens", self.origin(), self.username)
    }

    fn origin(&self) -> &str {
        self.base_url.trim_end_matches('/')
    }
}

fn wrong_base_url() -> Problem {
    let message =
        "expected the URL of Gitea or Forgejo without a path, such as `https://gitea.example.com`";
    Problem::new("/base_url", message)
}

/// Gitea's grammar of user names, as far as it matters in a URL and in a login.
fn is_user(name: &str) -> bool {
    let is_edge = |letter: char| letter.is_ascii_alphanumeric();
    name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
