//! Quay and quay.io. A robot account trusts this broker (robot federation): the broker shows an
//! identity token, and Quay returns a password of the robot that ends after an hour. So no secret
//! of Quay is stored.
//!
//! What a robot opens is up to its permissions in Quay, and the settings only name it: `check` says
//! `repository` where each project has robots of its own, one to pull and one to push.

mod exchange;
mod settings;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider, Scope,
    export_provider, log,
};

pub use crate::settings::Settings;

/// The provider of type `quay`.
pub struct Quay;

export_provider!(Quay);

impl Provider for Quay {
    type Settings = Settings;

    const NAME: &'static str = "quay";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Quay, quay.io: the password of a robot account for an hour, without a stored secret";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        if settings.push_robot.is_none() {
            log::warn(
                "`pull_robot` has no `push_robot` beside it, so a grant to push gets no \
                 credential; set it, unless this registry is for pulls alone",
            );
        }
        let is_narrow = settings.robots().all(settings::is_for_each);
        Ok(if is_narrow { Scope::Repository } else { Scope::Namespace })
    }

    fn needs(settings: &Settings) -> Needs {
        let Ok(host) = settings.host() else { return Needs::default() };
        Needs::requests([format!("GET {}", settings.exchange())]).image_host(host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.host()?;
        if !settings.has_project(project) {
            return Err(Error::Unsupported(
                "a robot for each project, and the name of a robot has no `/`; set \
                 `project_depth = 1`"
                    .to_owned(),
            ));
        }
        Ok(Location { host, repository: format!("{}/{project}", settings.organization) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.host().ok().filter(|host| *host == location.host)?;
        let project = location.repository.strip_prefix(settings.organization.as_str())?;
        let project = project.strip_prefix('/')?;
        settings.has_project(project).then(|| project.to_owned())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let is_push = grant.actions().contains(Actions::PUSH);
        let robot =
            if is_push { settings.push_robot.as_deref() } else { Some(&*settings.pull_robot) };
        let robot = robot
            .ok_or_else(|| Error::Unsupported("a push, and `push_robot` is not set".to_owned()))?;
        let username = settings.username(robot, &grant.project())?;
        let (password, expires_at) = exchange::exchange(settings, &username, grant)?;
        let credential = Credential::Basic(Login { username, password });
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
            "organization": "acme", "pull_robot": "{project}_pull", "push_robot": "{project}_push",
            "audience": "quay",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_robot_for_each_project_is_as_narrow_as_its_repository() {
        for (more, scope) in [
            (json!({}), Scope::Repository),
            (json!({ "push_robot": null }), Scope::Repository),
            (json!({ "pull_robot": "pull" }), Scope::Namespace),
            (json!({ "push_robot": "push" }), Scope::Namespace),
            (json!({ "pull_robot": "pull", "push_robot": "push" }), Scope::Namespace),
        ] {
            assert_eq!(Quay::check(&settings(&more)), Ok(scope), "{more}");
        }
        let needs = Quay::needs(&settings(&json!({})));
        let request = "GET https://quay.io/oauth2/federation/robot/token";
        assert_eq!(needs, Needs::requests([request]).image_host("quay.io"));
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        let shared = json!({ "pull_robot": "pull", "push_robot": "push" });
        for (more, host, project) in [
            (json!({}), "quay.io", "my-app"),
            (shared.clone(), "quay.io", "team/my-app"),
            (
                json!({ "base_url": "https://quay.example.com:8443/" }),
                "quay.example.com:8443",
                "a.b",
            ),
        ] {
            let settings = settings(&more);
            let repository = format!("acme/{project}");
            let place = Location { host: host.to_owned(), repository };
            assert_eq!(Quay::locate(&settings, project), Ok(place.clone()));
            assert_eq!(Quay::resolve(&settings, &place).as_deref(), Some(project));
            for other in ["acme", "acme2/my-app", "my-app"] {
                let repository = other.to_owned();
                assert_eq!(
                    Quay::resolve(&settings, &Location { repository, ..place.clone() }),
                    None
                );
            }
            let elsewhere = Location { host: "x.io".to_owned(), ..place };
            assert_eq!(Quay::resolve(&settings, &elsewhere), None);
        }
        let deep = Quay::locate(&settings(&json!({})), "team/my-app");
        assert!(matches!(deep, Err(Error::Unsupported(_))));
    }

    #[test]
    fn without_a_robot_for_pushes_there_is_no_push() {
        let settings = settings(&json!({ "push_robot": null }));
        let grant = testing::grant("my-app").build();
        let (issued, calls) = Host::new().run(|| Quay::issue(&settings, &grant));
        assert!(matches!(issued, Err(Error::Unsupported(_))));
        assert_eq!(calls, []);
    }

    #[test]
    fn there_is_no_secret_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Quay>();
        assert_eq!(schema["additionalProperties"], false);
        assert!(!schema.to_string().contains("writeOnly"));
    }
}
