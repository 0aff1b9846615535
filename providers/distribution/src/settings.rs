//! The settings of one Distribution registry: their checks, and the names that follow from them.

use rise_provider::{Location, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest name of a service that the host accepts.
const LONGEST_SERVICE: usize = 255;

/// One registry of type `distribution`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Host name, with a port if needed: `registry.example.com`, `localhost:5000`.
    pub registry_url: String,
    /// Prefix of the project in every repository name, such as `team` or `team/apps`.
    #[serde(default)]
    pub namespace: String,
    /// The registry's `auth.token.service`, if it is not the host of `registry_url`.
    pub service: Option<String>,
    /// Whether a project owns everything below its repository too.
    #[serde(default)]
    pub child_repositories: bool,
}

impl Settings {
    /// The host of an image reference, or the expected form of `registry_url`.
    pub(crate) fn host(&self) -> Result<String, &'static str> {
        let url = self.registry_url.as_str();
        let url =
            url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
        let host = url.strip_suffix('/').unwrap_or(url).to_ascii_lowercase();
        // Clients treat the first segment of a reference as a host only if it has a dot or a port
        // (distribution/reference).
        let is_named = host == "localhost" || host.contains(['.', ':']);
        if is_named && Location::is_host(&host) {
            return Ok(host);
        }
        Err("expected a host with a dot or a port, such as `registry.example.com` or \
             `localhost:5000`, without a path")
    }

    /// The prefix of the project.
    pub(crate) fn prefix(&self) -> String {
        match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!("{namespace}/"),
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
        let service = self.service.as_deref().filter(|service| {
            service.is_empty()
                || service.len() > LONGEST_SERVICE
                || service.chars().any(char::is_control)
        });
        let service = service.map(|_| {
            Problem::new("/service", "expected the text of the registry's `auth.token.service`")
        });
        [url, namespace, service].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::json;

    use crate::Distribution;

    #[test]
    fn each_wrong_setting_is_named() {
        let right = json!({ "registry_url": "r.example.com" });
        for (key, value, expected) in [
            ("registry_url", json!("registry"), "/registry_url"),
            ("registry_url", json!("r.example.com/path"), "/registry_url"),
            ("registry_url", json!("user@r.example.com"), "/registry_url"),
            ("registry_url", json!("r.example.com:0"), "/registry_url"),
            ("registry_url", json!(""), "/registry_url"),
            ("namespace", json!("/team"), "/namespace"),
            ("namespace", json!("Team"), "/namespace"),
            ("service", json!(""), "/service"),
            ("service", json!("a\nb"), "/service"),
            ("service", json!("x".repeat(256)), "/service"),
        ] {
            let mut settings = right.clone();
            settings[key] = value;
            let problems = testing::check::<Distribution>(&settings).unwrap_err();
            assert_eq!(problems.len(), 1, "{settings}");
            assert_eq!(problems[0].path, expected, "{settings}");
        }
        assert!(testing::check::<Distribution>(&right).is_ok());
    }
}
