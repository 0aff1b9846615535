//! Gitea and Forgejo. Every grant gets an access token of its own of a bot user, for packages and
//! the granted actions. Such a token never expires, so the broker deletes each when its grant is
//! over.

mod settings;
mod token;

use rise_provider::{
    Error, Grant, Issued, Leftover, Leftovers, Location, Needs, Problem, Provider, Revocation,
    Scope, export_provider,
};

pub use crate::settings::Settings;

/// The provider of type `gitea`.
pub struct Gitea;

export_provider!(Gitea, revocation, leftovers);

impl Provider for Gitea {
    type Settings = Settings;

    const NAME: &'static str = "gitea";
    const ALIASES: &'static [&'static str] = &["forgejo"];
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Gitea and Forgejo: an access token of a bot user for each \
                                       grant, which the broker deletes when the grant is over";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if problems.is_empty() { Ok(Scope::Namespace) } else { Err(problems) }
    }

    fn needs(settings: &Settings) -> Needs {
        let Ok(host) = settings.image_host() else { return Needs::default() };
        let tokens = settings.tokens();
        Needs::requests(["POST", "GET", "DELETE"].map(|method| format!("{method} {tokens}")))
            .image_host(host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.image_host()?;
        Ok(Location { host, repository: format!("{}/{project}", settings.owner) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.image_host().ok().filter(|host| *host == location.host)?;
        let project = location.repository.strip_prefix(settings.owner.as_str())?;
        project.strip_prefix('/').map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        token::create(settings, grant)
    }
}

impl Revocation for Gitea {
    fn revoke(settings: &Settings, grant: &Grant, remembered: Option<&str>) -> Result<(), Error> {
        token::delete(settings, &grant.id(), remembered)
    }
}

impl Leftovers for Gitea {
    fn find(settings: &Settings) -> Result<Vec<Leftover>, Error> {
        token::list(settings)
    }

    fn end(settings: &Settings, leftover: &Leftover) -> Result<(), Error> {
        token::delete(settings, &leftover.id, Some(&leftover.note))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings(more: &Value) -> Settings {
        let mut all = json!({
            "base_url": "https://gitea.example.com", "owner": "team",
            "username": "Rise-Bot", "password": "password",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_token_opens_what_belongs_to_an_owner() {
        assert_eq!(Gitea::check(&settings(&json!({}))), Ok(Scope::Namespace));
        let tokens = "https://gitea.example.com/api/v1/users/Rise-Bot/tokens";
        let needs = ["POST", "GET", "DELETE"].map(|method| format!("{method} {tokens}"));
        assert_eq!(
            Gitea::needs(&settings(&json!({}))),
            Needs::requests(needs).image_host("gitea.example.com")
        );
    }

    #[test]
    fn wrong_settings_are_told_with_their_place() {
        for (more, path) in [
            (json!({ "base_url": "gitea.example.com" }), "/base_url"),
            (json!({ "base_url": "https://example.com/gitea" }), "/base_url"),
            (json!({ "base_url": "https://gitea.example.com?x" }), "/base_url"),
            (json!({ "base_url": "ftp://gitea.example.com" }), "/base_url"),
            (json!({ "owner": "Team" }), "/owner"),
            (json!({ "owner": "team/app" }), "/owner"),
            (json!({ "owner": "" }), "/owner"),
            (json!({ "username": "" }), "/username"),
            (json!({ "username": "rise:bot" }), "/username"),
            (json!({ "username": "rise/bot" }), "/username"),
            (json!({ "username": ".." }), "/username"),
            (json!({ "registry_url": "gitea.example.com/team" }), "/registry_url"),
        ] {
            let problems = Gitea::check(&settings(&more)).unwrap_err();
            assert_eq!(problems.first().map(|it| it.path.as_str()), Some(path), "{more}");
        }
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (more, host) in [
            (json!({}), "gitea.example.com"),
            (json!({ "base_url": "https://gitea.example.com:8443/" }), "gitea.example.com:8443"),
            (json!({ "registry_url": "images.example.com" }), "images.example.com"),
        ] {
            let settings = settings(&more);
            let place = Location { host: host.to_owned(), repository: "team/my-app".to_owned() };
            assert_eq!(Gitea::locate(&settings, "my-app"), Ok(place.clone()));
            assert_eq!(Gitea::resolve(&settings, &place).as_deref(), Some("my-app"));
            for (host, repository) in [("x.io", "team/my-app"), (host, "teams/my-app")] {
                let other = Location { host: host.to_owned(), repository: repository.to_owned() };
                assert_eq!(Gitea::resolve(&settings, &other), None);
            }
        }
    }

    #[test]
    fn the_password_is_marked_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Gitea>();
        assert_eq!(schema["properties"]["password"]["writeOnly"], true);
        assert_eq!(schema["additionalProperties"], false);
    }
}
