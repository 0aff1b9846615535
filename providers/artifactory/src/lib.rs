//! Artifactory. Every grant gets an access token whose scope is the grant's repository and actions,
//! which Artifactory itself enforces: made with an admin token, or by an identity mapping for an
//! identity token of the broker. Without either, callers use credentials of their own, or share the
//! account of the settings.

mod federated;
mod settings;
mod token;

use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider, Scope,
    export_provider,
};

pub use crate::settings::Settings;
use crate::settings::{Access, Place};

/// The provider of type `artifactory`.
pub struct Artifactory;

export_provider!(Artifactory);

impl Provider for Artifactory {
    type Settings = Settings;

    const NAME: &'static str = "artifactory";
    const ALIASES: &'static [&'static str] = &["jfrog"];
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "JFrog Artifactory: an access token for one repository, or a shared account";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(match settings.access() {
            Ok(Access::Token(_)) => Scope::Repository,
            Ok(Access::Federated(_)) if settings.has_scope_of_project() => Scope::Repository,
            Ok(Access::Account(..) | Access::Federated(_)) => Scope::Registry,
            Ok(Access::Helper) | Err(_) => Scope::None,
        })
    }

    fn needs(settings: &Settings) -> Needs {
        let (Ok(access), Ok(place)) = (settings.access(), settings.place()) else {
            return Needs::default();
        };
        let url = match access {
            Access::Token(_) => Some(&place.tokens),
            Access::Federated(_) => Some(&place.exchange),
            Access::Helper | Access::Account(..) => None,
        };
        Needs::requests(url.map(|url| format!("POST {url}"))).image_host(place.host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let Place { host, prefix, .. } = settings.place()?;
        if !settings.has_project(project) {
            return Err(Error::Unsupported(
                "a token for `a` opens everything below it; set `child_repositories = true` for \
                 projects of several components"
                    .to_owned(),
            ));
        }
        Ok(Location { host, repository: format!("{prefix}{project}") })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let place = settings.place().ok().filter(|place| place.host == location.host)?;
        let project = location.repository.strip_prefix(&place.prefix)?;
        settings.has_project(project).then(|| project.to_owned())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        match settings.access()? {
            Access::Helper => Ok(Issued { credential: Credential::ClientAuth, expires_at: None }),
            Access::Account(username, password) => {
                let login = Login { username: username.to_owned(), password: password.get()? };
                Ok(Issued { credential: Credential::Basic(login), expires_at: None })
            }
            Access::Token(admin) => token::issue(settings, admin, grant),
            Access::Federated(integration) => federated::issue(settings, &integration, grant),
        }
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Call, Host, Origin};
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings(more: &Value) -> Settings {
        let mut all =
            json!({ "base_url": "https://company.jfrog.io", "repository": "docker-local" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_documented_settings_are_right() {
        for (more, scope, requests) in [
            (json!({ "username": "user", "password": "password" }), Scope::Registry, 0),
            (json!({ "use_credential_helper": true }), Scope::None, 0),
            (json!({ "access_token": "access_token" }), Scope::Repository, 1),
        ] {
            let settings = settings(&more);
            assert_eq!(Artifactory::check(&settings), Ok(scope), "{more}");
            let needs = Artifactory::needs(&settings);
            assert_eq!(needs.requests.map(|requests| requests.len()), Some(requests), "{more}");
        }
        let needs = Artifactory::needs(&settings(&json!({ "access_token": "access_token" })));
        let request = "POST https://company.jfrog.io/access/api/v1/tokens".to_owned();
        assert_eq!(needs, Needs::requests([request]).image_host("company.jfrog.io"));
    }

    #[test]
    fn the_shared_account_is_handed_on_unread() {
        let settings = settings(&json!({ "username": "user", "password": "password" }));
        let grant = testing::grant("my-app").build();
        let (issued, calls) =
            Host::new().secret("password").run(|| Artifactory::issue(&settings, &grant));
        let Credential::Basic(login) = issued.unwrap().credential else { panic!("no login") };
        assert_eq!(login.username, "user");
        assert_eq!(testing::origin(&login.password), &Origin::Configured("password".to_owned()));
        assert_eq!(calls, [Call::Secret { name: "password".to_owned() }]);
    }

    #[test]
    fn with_the_credential_helper_callers_use_their_own() {
        let settings = settings(&json!({ "use_credential_helper": true }));
        let grant = testing::grant("my-app").build();
        let (issued, calls) = Host::new().run(|| Artifactory::issue(&settings, &grant));
        assert!(matches!(issued.unwrap().credential, Credential::ClientAuth));
        assert_eq!(calls, []);
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        let helper = json!({ "use_credential_helper": true });
        let with = |more: Value| {
            let mut all = helper.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            settings(&all)
        };
        for (settings, host, repository) in [
            (with(json!({})), "company.jfrog.io", "docker-local/my-app"),
            (
                with(json!({ "docker_access": "subdomain" })),
                "company-docker-local.jfrog.io",
                "my-app",
            ),
            (
                with(json!({
                    "base_url": "https://artifacts.example.com:8443/artifactory",
                    "docker_access": "subdomain"
                })),
                "docker-local.artifacts.example.com:8443",
                "my-app",
            ),
            (
                with(json!({ "docker_access": "subdomain", "registry_url": "docker.example.com" })),
                "docker.example.com",
                "my-app",
            ),
            (
                with(json!({ "registry_url": "https://docker.example.com:5001" })),
                "docker.example.com:5001",
                "docker-local/my-app",
            ),
        ] {
            let place = Location { host: host.to_owned(), repository: repository.to_owned() };
            assert_eq!(Artifactory::locate(&settings, "my-app"), Ok(place.clone()));
            assert_eq!(Artifactory::resolve(&settings, &place).as_deref(), Some("my-app"));
            let elsewhere = Location { host: "x.io".to_owned(), ..place };
            assert_eq!(Artifactory::resolve(&settings, &elsewhere), None);
        }
    }

    #[test]
    fn a_token_is_for_projects_of_one_component_unless_children_belong_to_them() {
        let token = |children: bool| {
            let more = json!({ "access_token": "t", "child_repositories": children });
            Artifactory::locate(&settings(&more), "team/my-app")
        };
        assert!(matches!(token(false), Err(Error::Unsupported(_))));
        assert_eq!(token(true).unwrap().repository, "docker-local/team/my-app");
    }

    #[test]
    fn the_secrets_are_marked_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Artifactory>();
        for name in ["password", "access_token"] {
            assert_eq!(schema["properties"][name]["writeOnly"], true, "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
