//! Docker Hub. A grant gets the stored token of the settings, a bearer token of five minutes for
//! one repository, or an organization access token for one repository that the broker deletes when
//! the grant is over (`issues`).

mod bearer;
mod organization;
mod settings;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider,
    Revocation, Scope, export_provider, log,
};

use crate::settings::Kind;
pub use crate::settings::Settings;

/// The provider of type `dockerhub`.
pub struct DockerHub;

export_provider!(DockerHub, revocation);

/// The host of every image, whatever Docker Hub is called in the settings.
const HOST: &str = "docker.io";

impl Provider for DockerHub {
    type Settings = Settings;

    const NAME: &'static str = "dockerhub";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Docker Hub: a stored token, a bearer token of minutes, or \
                                       an organization access token for each grant";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        if settings.issues == Kind::Stored {
            if settings.pull_password.is_none() {
                log::warn(
                    "`password` has no `pull_password` beside it, so each grant to pull gets a \
                     token that can push; set it to a token that may only read",
                );
            }
            return Ok(Scope::Registry);
        }
        Ok(Scope::Repository)
    }

    fn needs(settings: &Settings) -> Needs {
        let tokens = settings.tokens();
        let requests = match settings.issues {
            Kind::Stored => vec![],
            Kind::Bearer => vec![format!("GET {}", settings.realm())],
            Kind::OrganizationToken => vec![
                format!("POST {}", settings.login()),
                format!("POST {tokens}"),
                format!("GET {tokens}"),
                format!("DELETE {tokens}"),
            ],
        };
        Needs::requests(requests).image_host(HOST)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        if project.contains('/') {
            let text = "Docker Hub has no repositories below `namespace/name`; set \
                        `project_depth = 1`";
            return Err(Error::Unsupported(text.to_owned()));
        }
        Ok(Location { host: HOST.to_owned(), repository: settings.repository(project) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let project = location.repository.strip_prefix(settings.namespace.as_str())?;
        let project = project.strip_prefix('/')?;
        (location.host == HOST && !project.contains('/')).then(|| project.to_owned())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        match settings.issues {
            Kind::Stored => {
                let is_push = grant.actions().contains(Actions::PUSH);
                let pull_password = settings.pull_password.as_ref().filter(|_| !is_push);
                let password = pull_password.unwrap_or(&settings.password).get()?;
                let login = Login { username: settings.username.clone(), password };
                Ok(Issued { credential: Credential::Basic(login), expires_at: None })
            }
            Kind::Bearer => bearer::issue(settings, grant),
            Kind::OrganizationToken => organization::create(settings, grant),
        }
    }
}

impl Revocation for DockerHub {
    fn revoke(settings: &Settings, grant: &Grant, remembered: Option<&str>) -> Result<(), Error> {
        match (settings.issues, remembered) {
            (Kind::OrganizationToken, _) => organization::delete(settings, grant, remembered),
            (Kind::Stored | Kind::Bearer, Some(note)) => Err(Error::InvalidSettings(format!(
                "`{note}` was made with other settings; restore `issues = \"organization-token\"` \
                 until it has ended, or delete it by hand"
            ))),
            // Nothing was made that could be deleted.
            (Kind::Stored | Kind::Bearer, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Call, Host, Origin};
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings(more: &Value) -> Settings {
        let mut all = json!({
            "registry_url": "docker.io", "namespace": "acme", "username": "bot",
            "password": "password",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_documented_settings_are_right() {
        for (more, scope, requests) in [
            (json!({}), Scope::Registry, &[][..]),
            (
                json!({ "issues": "bearer" }),
                Scope::Repository,
                &["GET https://auth.docker.io/token"][..],
            ),
            (
                json!({ "issues": "organization-token" }),
                Scope::Repository,
                &[
                    "POST https://hub.docker.com/v2/auth/token",
                    "POST https://hub.docker.com/v2/orgs/acme/access-tokens",
                    "GET https://hub.docker.com/v2/orgs/acme/access-tokens",
                    "DELETE https://hub.docker.com/v2/orgs/acme/access-tokens",
                ],
            ),
        ] {
            let settings = settings(&more);
            assert_eq!(DockerHub::check(&settings), Ok(scope), "{more}");
            let needs = Needs::requests(requests.iter().copied()).image_host("docker.io");
            assert_eq!(DockerHub::needs(&settings), needs, "{more}");
        }
    }

    #[test]
    fn the_stored_token_for_the_actions_is_handed_on_unread() {
        let reads = json!({ "pull_password": "pull_password" });
        for (more, actions, name) in [
            (&json!({}), Actions::PULL, "password"),
            (&reads, Actions::PULL, "pull_password"),
            (&reads, Actions::PUSH, "password"),
            (&reads, Actions::PULL | Actions::PUSH, "password"),
        ] {
            let grant = testing::grant("my-app").actions(actions).build();
            let host = Host::new().secret("password").secret("pull_password");
            let (issued, calls) = host.run(|| DockerHub::issue(&settings(more), &grant));
            let Credential::Basic(login) = issued.unwrap().credential else { panic!("no login") };
            assert_eq!(login.username, "bot");
            assert_eq!(testing::origin(&login.password), &Origin::Configured(name.to_owned()));
            assert_eq!(calls, [Call::Secret { name: name.to_owned() }]);
        }
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for url in ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            let settings = settings(&json!({ "registry_url": url }));
            let place =
                Location { host: "docker.io".to_owned(), repository: "acme/my-app".to_owned() };
            assert_eq!(DockerHub::locate(&settings, "my-app"), Ok(place.clone()), "{url}");
            assert_eq!(DockerHub::resolve(&settings, &place).as_deref(), Some("my-app"));
            for other in ["acme/my-app/web", "acme2/my-app", "my-app"] {
                let repository = other.to_owned();
                let place = Location { repository, ..place.clone() };
                assert_eq!(DockerHub::resolve(&settings, &place), None, "{other}");
            }
        }
        let deep = DockerHub::locate(&settings(&json!({})), "team/my-app");
        assert!(matches!(deep, Err(Error::Unsupported(_))));
    }

    #[test]
    fn the_tokens_are_secrets_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<DockerHub>();
        for name in ["password", "pull_password"] {
            assert_eq!(schema["properties"][name]["writeOnly"], true, "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
