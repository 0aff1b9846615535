//! Sonatype Nexus Repository 3. Every grant gets a local user of its own, with the role of the
//! settings for the granted actions. A user of Nexus never expires, so the broker deletes each when
//! its grant is over.

mod settings;
mod user;

use rise_provider::{
    Error, Grant, Issued, Leftover, Leftovers, Location, Needs, Problem, Provider, Revocation,
    Scope, export_provider,
};

pub use crate::settings::Settings;

/// The provider of type `nexus`.
pub struct Nexus;

export_provider!(Nexus, revocation, leftovers);

impl Provider for Nexus {
    type Settings = Settings;

    const NAME: &'static str = "nexus";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Sonatype Nexus Repository 3: a local user for each grant, \
                                       which the broker deletes when the grant is over";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        // A role opens a whole Docker repository of Nexus, whatever the project.
        if problems.is_empty() { Ok(Scope::Namespace) } else { Err(problems) }
    }

    fn needs(settings: &Settings) -> Needs {
        let Some(host) = settings.image_host() else { return Needs::default() };
        let users = settings.users();
        Needs::requests(["POST", "GET", "DELETE"].map(|method| format!("{method} {users}")))
            .image_host(host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        // `check` has reported the same to the operator, with the setting.
        let wrong = || Error::InvalidSettings("`base_url` has no host".to_owned());
        let host = settings.image_host().ok_or_else(wrong)?.to_owned();
        Ok(Location { host, repository: format!("{}{project}", settings.repo_prefix) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.image_host().filter(|host| *host == location.host)?;
        location.repository.strip_prefix(&settings.repo_prefix).map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        user::create(settings, grant)
    }
}

impl Revocation for Nexus {
    fn revoke(settings: &Settings, grant: &Grant, remembered: Option<&str>) -> Result<(), Error> {
        user::delete(settings, &grant.id(), remembered)
    }
}

impl Leftovers for Nexus {
    fn find(settings: &Settings) -> Result<Vec<Leftover>, Error> {
        user::list(settings)
    }

    fn end(settings: &Settings, leftover: &Leftover) -> Result<(), Error> {
        user::delete(settings, &leftover.id, Some(&leftover.note))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use super::*;

    /// Settings as the host passes them, with names in place of secrets, and with these changes.
    pub(crate) fn settings(more: &Value) -> Settings {
        serde_json::from_value(changed(more)).unwrap()
    }

    fn changed(more: &Value) -> Value {
        let mut all = json!({
            "base_url": "https://nexus.example.com", "username": "rise-admin",
            "password": "password", "pull_role": "rise-pull", "push_role": "rise-push",
            "image_host": "docker.example.com",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    #[test]
    fn wrong_settings_are_all_told_at_once_with_their_place() {
        let check = |more: &Value| testing::check::<Nexus>(&changed(more));
        for right in [
            json!({}),
            json!({ "image_host": null, "repo_prefix": "docker-hosted/" }),
            json!({ "base_url": "http://10.0.0.7:8081/nexus" }),
            json!({ "image_host": "docker.example.com:5000", "repo_prefix": "a/b/" }),
        ] {
            assert_eq!(check(&right), Ok(Scope::Namespace), "{right}");
        }
        for (wrong, expected) in [
            (json!({ "base_url": "nexus.example.com" }), "/base_url"),
            (json!({ "base_url": "https://nexus.example.com/a//b" }), "/base_url"),
            (json!({ "base_url": "https://nexus.example.com/a/../b" }), "/base_url"),
            (json!({ "base_url": "https://nexus.example.com?a=b" }), "/base_url"),
            (json!({ "base_url": "https://me@nexus.example.com" }), "/base_url"),
            (json!({ "username": "" }), "/username"),
            (json!({ "username": "a:b" }), "/username"),
            (json!({ "pull_role": "" }), "/pull_role"),
            (json!({ "pull_role": "nx-admin" }), "/pull_role"),
            (json!({ "push_role": " rise-push" }), "/push_role"),
            (json!({ "push_role": "rise-pull" }), "/push_role"),
            (json!({ "image_host": "https://docker.example.com" }), "/image_host"),
            (json!({ "image_host": "docker.example.com/team" }), "/image_host"),
            (json!({ "repo_prefix": "team" }), "/repo_prefix"),
            (json!({ "repo_prefix": "Team/" }), "/repo_prefix"),
            (json!({ "repo_prefix": "/" }), "/repo_prefix"),
        ] {
            let problems = check(&wrong).unwrap_err();
            let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
            assert_eq!(paths, [expected], "{wrong}");
        }
        let all = json!({
            "base_url": "", "username": "", "pull_role": "", "push_role": "", "image_host": "",
            "repo_prefix": "x",
        });
        assert_eq!(check(&all).unwrap_err().len(), 6);
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for (more, host, prefix) in [
            (json!({}), "docker.example.com", ""),
            (json!({ "repo_prefix": "team/" }), "docker.example.com", "team/"),
            (
                json!({ "image_host": null, "repo_prefix": "docker-hosted/" }),
                "nexus.example.com",
                "docker-hosted/",
            ),
            (
                json!({ "image_host": null, "base_url": "https://example.com/nexus/" }),
                "example.com",
                "",
            ),
        ] {
            let settings = settings(&more);
            for project in ["my-app", "team/my_app.x"] {
                let repository = format!("{prefix}{project}");
                let place = Location { host: host.to_owned(), repository };
                assert_eq!(Nexus::locate(&settings, project), Ok(place.clone()));
                assert_eq!(Nexus::resolve(&settings, &place).as_deref(), Some(project));
                let other = Location { host: "other.example.com".to_owned(), ..place };
                assert_eq!(Nexus::resolve(&settings, &other), None);
            }
        }
    }

    #[test]
    fn it_needs_the_users_of_nexus_and_nothing_else() {
        let needs = Nexus::needs(&settings(&json!({ "base_url": "https://example.com/nexus" })));
        let users = "https://example.com/nexus/service/rest/v1/security/users";
        let expected = ["POST", "GET", "DELETE"].map(|method| format!("{method} {users}"));
        assert_eq!(needs, Needs::requests(expected).image_host("docker.example.com"));
    }

    #[test]
    fn the_password_is_marked_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Nexus>();
        assert_eq!(schema["properties"]["password"]["writeOnly"], true);
        assert_eq!(schema["additionalProperties"], false);
    }
}
