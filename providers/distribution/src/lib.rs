//! A registry of the Distribution project that lets the broker decide who may do what (`auth:
//! token`). The host signs a token for exactly the grant, so there is no account on the registry
//! and no secret in the settings.
//!
//! The token is the password of a login: the registry sends its clients to the broker, which gives
//! them a short token for it. A long push asks for several.

mod settings;

use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, export_provider,
    tokens,
};

pub use crate::settings::Settings;

/// The user name of every login. The registry reads the token and not the name.
const USERNAME: &str = "rise";

/// The provider of type `distribution`.
pub struct Distribution;

export_provider!(Distribution);

impl Provider for Distribution {
    type Settings = Settings;

    const NAME: &'static str = "distribution";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Distribution registries that trust the broker's tokens: one repository, no account";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if problems.is_empty() { Ok(Scope::Repository) } else { Err(problems) }
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host =
            settings.host().map_err(|expected| Error::InvalidSettings(expected.to_owned()))?;
        Ok(Location { host, repository: format!("{}{project}", settings.prefix()) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.host().ok().filter(|host| *host == location.host)?;
        location.repository.strip_prefix(&settings.prefix()).map(str::to_owned)
    }

    fn issue(settings: &Settings, _: &Grant) -> Result<Issued, Error> {
        let host =
            settings.host().map_err(|expected| Error::InvalidSettings(expected.to_owned()))?;
        let service = settings.service.as_deref().unwrap_or(&host);
        let password = tokens::registry_token(service)?;
        let expires_at = password.expires_at();
        let login = Login { username: USERNAME.to_owned(), password };
        Ok(Issued { credential: Credential::Basic(login), expires_at })
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Call, Host, Origin};
    use serde_json::{Value, json};

    use super::*;

    fn settings(json: Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_password_is_a_token_that_the_host_signs() {
        for (more, service) in
            [(json!({}), "localhost:5000"), (json!({ "service": "Our registry" }), "Our registry")]
        {
            let mut all = json!({ "registry_url": "http://LOCALHOST:5000/" });
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (settings, grant) = (settings(all), testing::grant("my-app").build());
            assert_eq!(Distribution::check(&settings), Ok(Scope::Repository));
            let (issued, calls) = Host::new().run(|| Distribution::issue(&settings, &grant));
            let issued = issued.unwrap();
            let Credential::Basic(login) = issued.credential else { panic!("expected a login") };
            assert_eq!(login.username, "rise");
            let origin = Origin::RegistryToken(service.to_owned());
            assert_eq!(testing::origin(&login.password), &origin);
            assert_eq!(issued.expires_at, login.password.expires_at());
            assert!(issued.expires_at.is_some());
            assert_eq!(calls, [Call::RegistryToken { service: service.to_owned() }]);
        }
    }

    #[test]
    fn a_refusal_of_the_host_is_passed_on() {
        let settings = settings(json!({ "registry_url": "r.example.com" }));
        let host = Host::new().fail(|_| Some(Error::Refused("no".to_owned())));
        let issued =
            host.run(|| Distribution::issue(&settings, &testing::grant("my-app").build())).0;
        assert_eq!(issued.unwrap_err(), Error::Refused("no".to_owned()));
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (namespace, prefix) in [("", ""), ("team", "team/"), ("team/apps", "team/apps/")] {
            let settings =
                settings(json!({ "registry_url": "r.example.com", "namespace": namespace }));
            for project in ["my-app", "my-app/web"] {
                let place = Location {
                    host: "r.example.com".to_owned(),
                    repository: format!("{prefix}{project}"),
                };
                assert_eq!(Distribution::locate(&settings, project), Ok(place.clone()));
                assert_eq!(Distribution::resolve(&settings, &place).as_deref(), Some(project));
                let elsewhere = Location { host: "x.io".to_owned(), ..place };
                assert_eq!(Distribution::resolve(&settings, &elsewhere), None);
            }
        }
    }

    #[test]
    fn there_is_no_secret_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Distribution>();
        assert_eq!(schema["additionalProperties"], false);
        assert!(!schema.to_string().contains("writeOnly"));
    }
}
