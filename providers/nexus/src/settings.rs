//! The settings of one Docker repository of Nexus: their checks, and the addresses that follow.

use rise_provider::{Actions, Error, Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `nexus`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of Nexus, such as `https://nexus.example.com`, with its context path if it has one:
    /// `https://example.com/nexus`.
    pub base_url: String,
    /// Id of the user that makes and deletes users.
    pub username: String,
    /// Password of that user.
    pub password: SecretName,
    /// Id of the role for pulls from the Docker repository, such as `rise-pull`.
    pub pull_role: String,
    /// Id of the role for pushes and pulls, such as `rise-push`.
    pub push_role: String,
    /// Host of the images, with a port if needed, if it is another one than that of `base_url`.
    pub image_host: Option<String>,
    /// Text before the project in the names of images, with a `/` at its end. With path-based
    /// routing it begins with the name of the Docker repository: `docker-hosted/`.
    #[serde(default)]
    pub repo_prefix: String,
}

const BASE_URL: &str =
    "expected the URL of Nexus without query and user, such as `https://nexus.example.com`";
const USER: &str = "expected the id of a user: 1 to 200 letters, digits, `.`, `_` and `-`";
const ROLE: &str =
    "expected the id of a role for one Docker repository, such as `rise-pull`, and not `nx-admin`";
const OTHER_ROLE: &str =
    "expected another role than `pull_role`, or else every grant to pull may push";
const IMAGE_HOST: &str =
    "expected a host without scheme and path, such as `docker.example.com:5000`";
const REPO_PREFIX: &str =
    "expected parts of an image's name in lower case with a `/` at the end: `docker-hosted/`";

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let prefix = self.repo_prefix.strip_suffix('/');
        let is_host = self.image_host.as_deref().is_none_or(Location::is_host);
        let is_other = self.push_role != self.pull_role || !is_role(&self.push_role);
        [
            ("/base_url", self.host().is_some(), BASE_URL),
            ("/username", is_user(&self.username), USER),
            ("/pull_role", is_role(&self.pull_role), ROLE),
            ("/push_role", is_role(&self.push_role), ROLE),
            ("/push_role", is_other, OTHER_ROLE),
            ("/image_host", is_host, IMAGE_HOST),
            (
                "/repo_prefix",
                self.repo_prefix.is_empty() || prefix.is_some_and(Location::is_repository),
                REPO_PREFIX,
            ),
        ]
        .into_iter()
        .filter(|(_, is_right, _)| !is_right)
        .map(|(path, _, expected)| Problem::new(path, expected))
        .collect()
    }

    /// The host of the images.
    pub(crate) fn image_host(&self) -> Option<&str> {
        self.image_host.as_deref().or_else(|| self.host())
    }

    /// Host and port of Nexus.
    fn host(&self) -> Option<&str> {
        let url = self.url();
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
        let (host, path) =
            rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        (Location::is_host(host) && path.is_none_or(is_path)).then_some(host)
    }

    /// The users of Nexus.
    pub(crate) fn users(&self) -> String {
        format!("{}/service/rest/v1/security/users", self.url())
    }

    fn url(&self) -> &str {
        self.base_url.trim_end_matches('/')
    }

    /// The role that allows what was granted and nothing else. The role to push includes pulls.
    pub(crate) fn role(&self, granted: Actions) -> Result<&str, Error> {
        if granted.intersects(Actions::DELETE) {
            Err(Error::Unsupported("no role of the settings may delete images".to_owned()))
        } else if granted.contains(Actions::PUSH) {
            Ok(&self.push_role)
        } else if granted.contains(Actions::PULL) {
            Ok(&self.pull_role)
        } else {
            Err(Error::Unsupported("a grant without pull and push".to_owned()))
        }
    }
}

fn is_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain))
}

fn is_user(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=200).contains(&text.len()) && text.bytes().all(is_letter)
}

/// Ids of roles may have other characters than those of users.
fn is_role(text: &str) -> bool {
    let is_plain = !text.is_empty() && text.len() <= 200 && text.trim() == text;
    is_plain && !text.contains(char::is_control) && text != "nx-admin"
}
