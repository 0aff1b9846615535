//! A provider for a registry whose API makes a token for one repository.
//!
//! ```text
//! POST {base_url}/api/tokens                     Authorization: Bearer {admin_token}
//! {"repository": "rise/my-app", "actions": ["pull", "push"], "lifetime": 3600}
//!
//! 200 {"username": "token-7", "token": "…", "expires_at": 1795255200}
//! ```
//!
//! This code never has a secret. `admin_token` stays in the host, which writes it into the request.
//! The token of the answer becomes a handle before the rest of the answer is read.

use rise_provider::http::Request;
use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope,
    SecretName, export_provider, log,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// The provider with `type = "imaginary"`.
pub struct Imaginary;

export_provider!(Imaginary);

/// The settings in `[registries.NAME]`. Operators see these comments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of the registry, such as `https://registry.example.com`.
    base_url: String,
    /// Token of an account that may make tokens.
    admin_token: SecretName,
    /// Prefix of each project's name, such as `rise/`.
    #[serde(default)]
    repo_prefix: String,
}

/// The answer of the registry, without its `token`.
#[derive(Deserialize)]
struct Token {
    username: String,
    expires_at: u64,
}

impl Provider for Imaginary {
    type Settings = Settings;

    const NAME: &'static str = "imaginary";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Makes a token for one repository at a time";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let mut problems = Vec::new();
        if settings.host().is_none() {
            let expected = "expected a URL without a path, such as `https://registry.example.com`";
            problems.push(Problem::new("/base_url", expected));
        }
        if !settings.repo_prefix.is_empty() && !settings.repo_prefix.ends_with('/') {
            let expected = "expected a `/` at the end, so that prefix and project stay apart";
            problems.push(Problem::new("/repo_prefix", expected));
        }
        // The registry itself keeps each of its tokens inside one repository.
        if problems.is_empty() { Ok(Scope::Repository) } else { Err(problems) }
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.host();
        let host = host.ok_or_else(|| Error::InvalidSettings("`base_url` has no host".into()))?;
        let repository = format!("{}{project}", settings.repo_prefix);
        Ok(Location { host: host.into(), repository })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let project = location.repository.strip_prefix(&settings.repo_prefix)?;
        (settings.host() == Some(&location.host)).then(|| project.to_owned())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let response = Request::post(&format!("{}/api/tokens", settings.base_url))
            .bearer(&settings.admin_token.get()?)
            .json(&json!({
                "repository": Self::locate(settings, &grant.project())?.repository,
                "actions": actions(grant.actions()),
                "lifetime": grant.lifetime(),
            }))
            .send()?;
        // 403 becomes `denied`, 429 `throttled`, and 503 `unavailable`.
        response.success()?;
        let password = response
            .take_secret("/token")
            .ok_or_else(|| Error::Failed("the registry answered without a token".into()))?;
        let Token { username, expires_at } = response.json()?;
        log::info(&format!("the registry made a token for {username}"));
        let credential = Credential::Basic(Login { username, password });
        Ok(Issued { credential, expires_at: Some(expires_at) })
    }
}

impl Settings {
    /// Host and port, as in an image reference.
    fn host(&self) -> Option<&str> {
        let url = &self.base_url;
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
        (!host.is_empty() && !host.contains('/')).then_some(host)
    }
}

/// The actions in the words of the registry.
fn actions(granted: Actions) -> Vec<&'static str> {
    [(Actions::PULL, "pull"), (Actions::PUSH, "push")]
        .into_iter()
        .filter(|(action, _)| granted.contains(*action))
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use rise_provider::http::Method;
    use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, Origin};
    use serde_json::Value;

    use super::*;

    /// Settings as the host passes them: with names in place of secrets.
    fn settings(more: &Value) -> Settings {
        let mut all = json!({ "base_url": "https://r.example.com", "admin_token": "admin_token" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn host(status: u16, body: &'static str) -> Host {
        Host::new().secret("admin_token").http(move |_| Ok(Answer::new(status).body(body)))
    }

    const ASKED: &str = "POST r.example.com/api/tokens";
    const TOKEN: &str = r#"{"username":"token-7","token":"t0p","expires_at":1795255200}"#;

    #[test]
    fn a_token_is_made_for_what_was_granted() {
        let settings = settings(&json!({ "repo_prefix": "rise/" }));
        let grant = testing::grant("my-app").actions(Actions::PULL).lifetime(600).build();
        let (issued, calls) = host(200, TOKEN).run(|| Imaginary::issue(&settings, &grant));

        let issued = issued.unwrap();
        assert_eq!(issued.expires_at, Some(1_795_255_200));
        let Credential::Basic(login) = issued.credential else { panic!("expected a login") };
        assert_eq!(login.username, "token-7");
        assert_eq!(testing::origin(&login.password), &Origin::Http("/token".to_owned()));

        let sent = calls.iter().find_map(|call| match call {
            Call::Send(sent) => Some(sent),
            _ => None,
        });
        let sent = sent.unwrap();
        assert_eq!(
            (sent.method, sent.url.as_str()),
            (Method::Post, "https://r.example.com/api/tokens")
        );
        let admin = Origin::Configured("admin_token".to_owned());
        assert_eq!(sent.authorization, Some(Authorization::Bearer(admin)));
        let body = json!({ "repository": "rise/my-app", "actions": ["pull"], "lifetime": 600 });
        assert_eq!(sent.body, Body::Json(body));
    }

    #[test]
    fn what_the_registry_says_is_handed_on() {
        let grant = || testing::grant("my-app").build();
        for (status, body, expected) in [
            (403, "", Error::Denied(format!("{ASKED} answered 403"))),
            (429, "", Error::Throttled(None)),
            (500, "", Error::Unavailable(format!("{ASKED} answered 500"))),
            (200, "{}", Error::Failed("the registry answered without a token".to_owned())),
        ] {
            let issued =
                host(status, body).run(|| Imaginary::issue(&settings(&json!({})), &grant()));
            assert_eq!(issued.0.unwrap_err(), expected);
        }
    }

    #[test]
    fn wrong_settings_are_all_told_at_once() {
        assert_eq!(Imaginary::check(&settings(&json!({}))), Ok(Scope::Repository));
        let wrong = settings(&json!({ "base_url": "r.example.com", "repo_prefix": "rise" }));
        let problems = Imaginary::check(&wrong).unwrap_err();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["/base_url", "/repo_prefix"]);
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for prefix in ["", "rise/", "a/b/"] {
            let settings = settings(&json!({ "repo_prefix": prefix }));
            let locate = |project| Imaginary::locate(&settings, project).unwrap();
            for project in ["my-app", "team/my_app.x"] {
                let location = locate(project);
                assert_eq!(location.repository, format!("{prefix}{project}"));
                assert_eq!(Imaginary::resolve(&settings, &location).as_deref(), Some(project));
            }
            let location = locate("my-app");
            let other = Location { host: "s.example.com".to_owned(), ..location };
            assert_eq!(Imaginary::resolve(&settings, &other), None);
        }
    }

    #[test]
    fn the_admin_token_is_a_secret() {
        let schema = testing::schema::<Imaginary>();
        assert_eq!(schema["properties"]["admin_token"]["writeOnly"], true);
    }
}
