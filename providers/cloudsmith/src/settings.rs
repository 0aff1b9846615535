//! The settings of one repository of Cloudsmith: their checks, and the addresses that follow.

use rise_provider::{Location, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `cloudsmith`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The organization (account), such as `acme`.
    pub organization: String,
    /// The repository of Cloudsmith, such as `images`: images are
    /// `docker.cloudsmith.io/acme/images/my-app`.
    pub repository: String,
    /// Slug of the service account whose tokens pull.
    pub pull_service: String,
    /// Slug of the service account whose tokens pull and push. Without one, no grant to push is
    /// issued.
    pub push_service: Option<String>,
    /// The `aud` of identity tokens, which the organization's OIDC settings require.
    pub audience: String,
    /// Host of the images, for an organization with a domain of its own.
    #[serde(default = "docker_cloudsmith_io")]
    pub registry_url: String,
    /// Another address for Cloudsmith's API, for tests.
    pub endpoint_url: Option<String>,
}

fn docker_cloudsmith_io() -> String {
    "docker.cloudsmith.io".to_owned()
}

const API: &str = "https://api.cloudsmith.io";

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.host().err().into_iter().collect();
        let push = self.push_service.iter().map(|service| ("/push_service", service));
        let slugs = [
            ("/organization", &self.organization),
            ("/repository", &self.repository),
            ("/pull_service", &self.pull_service),
        ];
        for (path, slug) in slugs.into_iter().chain(push) {
            if !is_slug(slug) {
                let message = "expected a slug, as in the address of its page in Cloudsmith: \
                               `a-z`, `0-9`, and `-` or `_` between";
                problems.push(Problem::new(path, message));
            }
        }
        if self.push_service.as_ref() == Some(&self.pull_service) {
            let message = "is `pull_service` as well, so that each grant to pull could push; name \
                           two service accounts, and give the one for pulls the privilege `Read`";
            problems.push(Problem::new("/push_service", message));
        }
        if self.audience.is_empty() || self.audience.contains(char::is_whitespace) {
            let message = "expected the `aud` that the OpenID Connect settings in Cloudsmith \
                           require";
            problems.push(Problem::new("/audience", message));
        }
        problems
    }

    /// What stands before the project in a repository's name.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/{}/", self.organization, self.repository)
    }

    /// The host of the images.
    pub(crate) fn host(&self) -> Result<String, Problem> {
        let host = self.registry_url.strip_prefix("https://").unwrap_or(&self.registry_url);
        if Location::is_host(host) {
            return Ok(host.to_owned());
        }
        Err(Problem::new("/registry_url", "expected a host, such as `docker.cloudsmith.io`"))
    }

    /// Where identity tokens are exchanged. Cloudsmith's addresses end in `/`.
    pub(crate) fn exchange(&self) -> String {
        let api = self.endpoint_url.as_deref().unwrap_or(API).trim_end_matches('/');
        format!("{api}/openid/{}/", self.organization)
    }
}

/// Cloudsmith's slugs.
fn is_slug(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut words = text.split(['_', '-']);
    text.len() <= 128 && words.all(|word| !word.is_empty() && word.bytes().all(is_word))
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::json;

    use crate::Cloudsmith;

    #[test]
    fn each_wrong_setting_is_named() {
        for (changes, path) in [
            (json!({ "organization": "Acme" }), "/organization"),
            (json!({ "organization": "acme/images" }), "/organization"),
            (json!({ "repository": "" }), "/repository"),
            (json!({ "repository": "images/" }), "/repository"),
            (json!({ "pull_service": "a b" }), "/pull_service"),
            (json!({ "push_service": "{project}" }), "/push_service"),
            (json!({ "push_service": "puller" }), "/push_service"),
            (json!({ "audience": "" }), "/audience"),
            (json!({ "registry_url": "docker.cloudsmith.io/acme" }), "/registry_url"),
            (json!({ "password": "x" }), ""),
        ] {
            let mut all = json!({
                "organization": "acme", "repository": "images", "pull_service": "puller",
                "audience": "cloudsmith",
            });
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let problems = testing::check::<Cloudsmith>(&all).unwrap_err();
            let paths: Vec<_> = problems.into_iter().map(|problem| problem.path).collect();
            assert_eq!(paths, [path], "{changes}");
        }
    }
}
