//! GitHub Container Registry. GitHub makes no token for one repository that its registry accepts
//! and that ends soon, outside a job of GitHub Actions. So a grant gets a stored token of a user
//! (`check` says `registry`), or where none is stored for its actions, the caller uses its own
//! login: a job of GitHub Actions has one, `GITHUB_TOKEN`.

mod settings;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope,
    export_provider, log,
};

pub use crate::settings::Settings;

/// The provider of type `ghcr`.
pub struct Ghcr;

export_provider!(Ghcr);

impl Provider for Ghcr {
    type Settings = Settings;

    const NAME: &'static str = "ghcr";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "GitHub Container Registry: a stored token of a user, or the caller's own login";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        if settings.password.is_some() && settings.pull_password.is_none() {
            log::warn(
                "`password` has no `pull_password` beside it, so each grant to pull gets a token \
                 that can push; set it to a token with `read:packages` alone",
            );
        }
        let has_token = settings.password.is_some() || settings.pull_password.is_some();
        Ok(if has_token { Scope::Registry } else { Scope::None })
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.host()?;
        Ok(Location { host, repository: format!("{}/{project}", settings.namespace) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.host().ok().filter(|host| *host == location.host)?;
        let project = location.repository.strip_prefix(settings.namespace.as_str())?;
        project.strip_prefix('/').map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let is_push = grant.actions().contains(Actions::PUSH);
        let pull_password = settings.pull_password.as_ref().filter(|_| !is_push);
        let credential = match (pull_password.or(settings.password.as_ref()), &settings.username) {
            (None, _) => Credential::ClientAuth,
            (Some(password), Some(username)) => {
                Credential::Basic(Login { username: username.clone(), password: password.get()? })
            }
            // `check` reports the same to the operator.
            (Some(_), None) => {
                return Err(Error::InvalidSettings("a token needs its `username`".to_owned()));
            }
        };
        Ok(Issued { credential, expires_at: None })
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Call, Host, Origin};
    use serde_json::{Value, json};

    use super::*;

    fn settings(more: &Value) -> Settings {
        let mut all = json!({ "registry_url": "ghcr.io", "namespace": "acme" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_grant_gets_the_token_for_its_actions_or_the_callers_own_login() {
        let (push, pull) = (Actions::PULL | Actions::PUSH, Actions::PULL);
        let both =
            json!({ "username": "bot", "password": "password", "pull_password": "pull_password" });
        let reads = json!({ "username": "bot", "pull_password": "pull_password" });
        let one = json!({ "username": "bot", "password": "password" });
        for (more, actions, scope, secret) in [
            (&both, push, Scope::Registry, Some("password")),
            (&both, Actions::PUSH, Scope::Registry, Some("password")),
            (&both, pull, Scope::Registry, Some("pull_password")),
            (&reads, push, Scope::Registry, None),
            (&reads, pull, Scope::Registry, Some("pull_password")),
            (&one, push, Scope::Registry, Some("password")),
            (&one, pull, Scope::Registry, Some("password")),
            (&json!({}), push, Scope::None, None),
            (&json!({}), pull, Scope::None, None),
        ] {
            let settings = settings(more);
            assert_eq!(Ghcr::check(&settings), Ok(scope), "{more}");
            let grant = testing::grant("my-app").actions(actions).build();
            let host = Host::new().secret("password").secret("pull_password");
            let (issued, calls) = host.run(|| Ghcr::issue(&settings, &grant));
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, None);
            match (issued.credential, secret) {
                (Credential::Basic(login), Some(name)) => {
                    assert_eq!(login.username, "bot");
                    let origin = Origin::Configured(name.to_owned());
                    assert_eq!(testing::origin(&login.password), &origin);
                    assert_eq!(calls, [Call::Secret { name: name.to_owned() }]);
                }
                (Credential::ClientAuth, None) => assert_eq!(calls, []),
                (credential, _) => panic!("{more}: {credential:?}"),
            }
        }
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (url, host, project) in [
            ("ghcr.io", "ghcr.io", "my-app"),
            ("https://ghcr.io", "ghcr.io", "my-app/web"),
            ("containers.acme.ghe.com", "containers.acme.ghe.com", "my.app"),
        ] {
            let settings = settings(&json!({ "registry_url": url }));
            let repository = format!("acme/{project}");
            let place = Location { host: host.to_owned(), repository };
            assert_eq!(Ghcr::locate(&settings, project), Ok(place.clone()));
            assert_eq!(Ghcr::resolve(&settings, &place).as_deref(), Some(project));
            let other = Location { repository: "acme2/my-app".to_owned(), ..place.clone() };
            assert_eq!(Ghcr::resolve(&settings, &other), None);
            let elsewhere = Location { host: "x.io".to_owned(), ..place };
            assert_eq!(Ghcr::resolve(&settings, &elsewhere), None);
        }
    }

    #[test]
    fn the_tokens_are_secrets_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Ghcr>();
        for name in ["password", "pull_password"] {
            assert_eq!(schema["properties"][name]["writeOnly"], true, "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
