//! Any Distribution registry. Callers use credentials of their own, or share the user name and
//! password of the settings. A plain registry offers nothing narrower, and `check` returns that
//! scope.

mod settings;

use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, export_provider,
};

pub use crate::settings::Settings;

/// The provider of type `oci`.
pub struct Oci;

export_provider!(Oci);

impl Provider for Oci {
    type Settings = Settings;

    const NAME: &'static str = "oci";
    const ALIASES: &'static [&'static str] = &["docker", "oci-client-auth"];
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Any OCI registry: callers log in themselves, or share one account";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(if settings.password.is_some() { Scope::Registry } else { Scope::None })
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host =
            settings.host().map_err(|expected| Error::InvalidSettings(expected.to_owned()))?;
        let repository = format!("{}{project}", settings.prefix(&host));
        Ok(Location { host, repository })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let host = settings.host().ok().filter(|host| *host == location.host)?;
        location.repository.strip_prefix(&settings.prefix(&host)).map(str::to_owned)
    }

    fn issue(settings: &Settings, _: &Grant) -> Result<Issued, Error> {
        let credential = match (&settings.username, &settings.password) {
            (Some(username), Some(password)) => {
                Credential::Basic(Login { username: username.clone(), password: password.get()? })
            }
            (None, None) => Credential::ClientAuth,
            // `check` reports more to the operator. Here, half an account must not count as none.
            (Some(_), None) | (None, Some(_)) => {
                return Err(Error::InvalidSettings(
                    "`username` and `password` need each other".to_owned(),
                ));
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

    fn settings(json: Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn without_an_account_callers_use_their_own() {
        let settings =
            settings(json!({ "registry_url": "localhost:5000", "namespace": "rise-apps" }));
        let (issued, calls) =
            Host::new().run(|| Oci::issue(&settings, &testing::grant("my-app").build()));

        let issued = issued.unwrap();
        assert!(matches!(issued.credential, Credential::ClientAuth));
        assert_eq!((issued.expires_at, calls), (None, vec![]));
    }

    #[test]
    fn the_shared_password_is_handed_on_unread() {
        let account =
            json!({ "registry_url": "r.example.com", "username": "ci", "password": "password" });
        let (settings, grant) = (settings(account), testing::grant("my-app").build());
        assert_eq!(Oci::check(&settings), Ok(Scope::Registry));

        let (issued, calls) = Host::new().secret("password").run(|| Oci::issue(&settings, &grant));
        let Credential::Basic(login) = issued.unwrap().credential else {
            panic!("expected a login")
        };
        assert_eq!(login.username, "ci");
        assert_eq!(testing::origin(&login.password), &Origin::Configured("password".to_owned()));
        assert_eq!(calls, [Call::Secret { name: "password".to_owned() }]);

        let host = Host::new().fail(|_| Some(Error::Refused("no".to_owned())));
        assert_eq!(
            host.run(|| Oci::issue(&settings, &grant)).0.unwrap_err(),
            Error::Refused("no".to_owned())
        );
    }

    #[test]
    fn half_an_account_is_none() {
        for half in [json!({ "username": "ci" }), json!({ "password": "password" })] {
            let mut all = json!({ "registry_url": "r.example.com" });
            all.as_object_mut().unwrap().extend(half.as_object().unwrap().clone());
            let issued =
                Host::new().run(|| Oci::issue(&settings(all), &testing::grant("my-app").build())).0;
            assert!(matches!(issued, Err(Error::InvalidSettings(_))));
        }
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (registry_url, namespace, host, repository) in [
            ("localhost:5000", "rise-apps", "localhost:5000", "rise-apps/my-app"),
            ("localhost:5000", "", "localhost:5000", "my-app"),
            ("docker.io", "myorg", "docker.io", "myorg/my-app"),
            ("docker.io", "", "docker.io", "library/my-app"),
            ("https://index.docker.io/", "", "docker.io", "library/my-app"),
            ("harbor.company.com", "a/b", "harbor.company.com", "a/b/my-app"),
        ] {
            let settings =
                settings(json!({ "registry_url": registry_url, "namespace": namespace }));
            let place = Location { host: host.to_owned(), repository: repository.to_owned() };
            assert_eq!(Oci::locate(&settings, "my-app"), Ok(place.clone()));
            assert_eq!(Oci::resolve(&settings, &place).as_deref(), Some("my-app"));

            let deep = Location { repository: format!("{repository}/web"), ..place.clone() };
            assert_eq!(Oci::locate(&settings, "my-app/web"), Ok(deep.clone()));
            assert_eq!(Oci::resolve(&settings, &deep).as_deref(), Some("my-app/web"));
            assert_eq!(
                Oci::resolve(&settings, &Location { host: "x.io".to_owned(), ..place }),
                None
            );
        }
    }

    #[test]
    fn the_password_is_a_secret_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Oci>();
        assert_eq!(schema["properties"]["password"]["writeOnly"], true);
        assert_eq!(schema["properties"]["password"]["type"], json!(["string", "null"]));
        assert_eq!(schema["additionalProperties"], false);
    }
}
