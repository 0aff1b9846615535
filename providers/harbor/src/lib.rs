//! Harbor. Every grant gets a robot account of its own, for the Harbor project of the settings and
//! the granted actions. Harbor's robots live for a day at least, so the broker deletes each when
//! its grant is over.

mod robot;
mod settings;

use rise_provider::{
    Error, Grant, Issued, Leftover, Leftovers, Location, Needs, Problem, Provider, Revocation,
    Scope, export_provider,
};

pub use crate::settings::Settings;

/// The provider of type `harbor`.
pub struct Harbor;

export_provider!(Harbor, revocation, leftovers);

impl Provider for Harbor {
    type Settings = Settings;

    const NAME: &'static str = "harbor";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Harbor: a robot account for each grant, which the broker \
                                       deletes when the grant is over";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if problems.is_empty() { Ok(Scope::Namespace) } else { Err(problems) }
    }

    fn needs(settings: &Settings) -> Needs {
        let Ok(host) = settings.host() else { return Needs::default() };
        let robots = settings.api("robots");
        let project = settings.api(&format!("projects/{}", settings.project));
        let requests = [
            format!("POST {robots}"),
            format!("GET {robots}"),
            format!("DELETE {robots}"),
            format!("GET {project}"),
        ];
        Needs::requests(requests).image_host(host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.host()?;
        Ok(Location { host, repository: format!("{}/{project}", settings.project) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.host().ok().filter(|host| *host == location.host)?;
        let project = location.repository.strip_prefix(settings.project.as_str())?;
        project.strip_prefix('/').map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        robot::create(settings, grant)
    }
}

impl Revocation for Harbor {
    fn revoke(settings: &Settings, grant: &Grant, remembered: Option<&str>) -> Result<(), Error> {
        robot::delete(settings, &grant.id(), remembered)
    }
}

impl Leftovers for Harbor {
    fn find(settings: &Settings) -> Result<Vec<Leftover>, Error> {
        robot::list(settings)
    }

    fn end(settings: &Settings, leftover: &Leftover) -> Result<(), Error> {
        robot::delete(settings, &leftover.id, Some(&leftover.note))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings(more: &Value) -> Settings {
        let mut all = json!({
            "base_url": "https://harbor.example.com", "project": "team",
            "username": "robot$rise", "password": "password",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_robot_opens_a_project_of_harbor() {
        assert_eq!(Harbor::check(&settings(&json!({}))), Ok(Scope::Namespace));
        let needs = Harbor::needs(&settings(&json!({})));
        assert_eq!(
            needs,
            Needs::requests([
                "POST https://harbor.example.com/api/v2.0/robots",
                "GET https://harbor.example.com/api/v2.0/robots",
                "DELETE https://harbor.example.com/api/v2.0/robots",
                "GET https://harbor.example.com/api/v2.0/projects/team",
            ])
            .image_host("harbor.example.com")
        );
    }

    #[test]
    fn wrong_settings_are_told_with_their_place() {
        for (more, path) in [
            (json!({ "base_url": "harbor.example.com" }), "/base_url"),
            (json!({ "base_url": "https://harbor.example.com/harbor" }), "/base_url"),
            (json!({ "base_url": "https://harbor.example.com?x" }), "/base_url"),
            (json!({ "project": "Team" }), "/project"),
            (json!({ "project": "team/app" }), "/project"),
            (json!({ "username": "" }), "/username"),
            (json!({ "registry_url": "harbor.example.com/team" }), "/registry_url"),
        ] {
            let problems = Harbor::check(&settings(&more)).unwrap_err();
            assert_eq!(problems.first().map(|it| it.path.as_str()), Some(path), "{more}");
        }
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (more, host) in [
            (json!({}), "harbor.example.com"),
            (json!({ "base_url": "https://harbor.example.com:8443/" }), "harbor.example.com:8443"),
            (json!({ "registry_url": "images.example.com" }), "images.example.com"),
        ] {
            let settings = settings(&more);
            let place = Location { host: host.to_owned(), repository: "team/my-app".to_owned() };
            assert_eq!(Harbor::locate(&settings, "my-app"), Ok(place.clone()));
            assert_eq!(Harbor::resolve(&settings, &place).as_deref(), Some("my-app"));
            for (host, repository) in [("x.io", "team/my-app"), (host, "teams/my-app")] {
                let other = Location { host: host.to_owned(), repository: repository.to_owned() };
                assert_eq!(Harbor::resolve(&settings, &other), None);
            }
        }
    }

    #[test]
    fn the_password_is_marked_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Harbor>();
        assert_eq!(schema["properties"]["password"]["writeOnly"], true);
        assert_eq!(schema["additionalProperties"], false);
    }
}
