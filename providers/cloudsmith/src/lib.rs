//! Cloudsmith. A service account trusts this broker (OIDC): the broker shows an identity
//! token, and Cloudsmith returns a token of the account. So no secret of Cloudsmith is stored.
//!
//! An account has privileges on whole repositories of Cloudsmith, each with many images: `check`
//! says `namespace`.

mod exchange;
mod settings;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider, Scope,
    export_provider, log,
};

pub use crate::settings::Settings;

/// The provider of type `cloudsmith`.
pub struct Cloudsmith;

export_provider!(Cloudsmith);

/// The user name that Cloudsmith takes with a token.
const USERNAME: &str = "token";

impl Provider for Cloudsmith {
    type Settings = Settings;

    const NAME: &'static str = "cloudsmith";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Cloudsmith: a short token of a service account, without a stored secret";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        if settings.push_service.is_none() {
            log::warn(
                "`pull_service` has no `push_service` beside it, so a grant to push gets no \
                 credential; set it, unless this registry is for pulls alone",
            );
        }
        Ok(Scope::Namespace)
    }

    fn needs(settings: &Settings) -> Needs {
        let Ok(host) = settings.host() else { return Needs::default() };
        Needs::requests([format!("POST {}", settings.exchange())]).image_host(host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.host()?;
        Ok(Location { host, repository: format!("{}{project}", settings.prefix()) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.host().ok().filter(|host| *host == location.host)?;
        location.repository.strip_prefix(&settings.prefix()).map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let is_push = grant.actions().contains(Actions::PUSH);
        let service =
            if is_push { settings.push_service.as_deref() } else { Some(&*settings.pull_service) };
        let service = service.ok_or_else(|| {
            Error::Unsupported("a push, and `push_service` is not set".to_owned())
        })?;
        let (password, expires_at) = exchange::exchange(settings, service, grant)?;
        let credential = Credential::Basic(Login { username: USERNAME.to_owned(), password });
        Ok(Issued { credential, expires_at: Some(expires_at) })
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Host};
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings(more: &Value) -> Settings {
        let mut all = json!({
            "organization": "acme", "repository": "images", "audience": "cloudsmith",
            "pull_service": "puller-1a2b", "push_service": "pusher-3c4d",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_documented_settings_are_right() {
        let settings = settings(&json!({}));
        assert_eq!(Cloudsmith::check(&settings), Ok(Scope::Namespace));
        let request = "POST https://api.cloudsmith.io/openid/acme/";
        let needs = Needs::requests([request]).image_host("docker.cloudsmith.io");
        assert_eq!(Cloudsmith::needs(&settings), needs);
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (more, host, project) in [
            (json!({}), "docker.cloudsmith.io", "my-app"),
            (json!({}), "docker.cloudsmith.io", "team/my-app"),
            (json!({ "registry_url": "docker.example.com" }), "docker.example.com", "my.app"),
        ] {
            let settings = settings(&more);
            let repository = format!("acme/images/{project}");
            let place = Location { host: host.to_owned(), repository };
            assert_eq!(Cloudsmith::locate(&settings, project), Ok(place.clone()));
            assert_eq!(Cloudsmith::resolve(&settings, &place).as_deref(), Some(project));
            let other = Location { repository: "acme/other/my-app".to_owned(), ..place.clone() };
            assert_eq!(Cloudsmith::resolve(&settings, &other), None);
            let elsewhere = Location { host: "x.io".to_owned(), ..place };
            assert_eq!(Cloudsmith::resolve(&settings, &elsewhere), None);
        }
    }

    #[test]
    fn without_an_account_for_pushes_there_is_no_push() {
        let settings = settings(&json!({ "push_service": null }));
        let grant = testing::grant("my-app").build();
        let (issued, calls) = Host::new().run(|| Cloudsmith::issue(&settings, &grant));
        assert!(matches!(issued, Err(Error::Unsupported(_))));
        assert_eq!(calls, []);
    }

    #[test]
    fn there_is_no_secret_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Cloudsmith>();
        assert_eq!(schema["additionalProperties"], false);
        assert!(!schema.to_string().contains("writeOnly"));
    }
}
