//! GitLab. Every grant gets a deploy token of its own, for one GitLab project and the granted
//! actions. GitLab ends deploy tokens at midnight UTC only, so the broker deletes each when its
//! grant is over.

mod settings;
mod token;

use rise_provider::{
    Error, Grant, Issued, Leftover, Leftovers, Location, Needs, Problem, Provider, Revocation,
    Scope, export_provider,
};

pub use crate::settings::Settings;

/// The provider of type `gitlab`.
pub struct Gitlab;

export_provider!(Gitlab, revocation, leftovers);

impl Provider for Gitlab {
    type Settings = Settings;

    const NAME: &'static str = "gitlab";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "GitLab: a deploy token for each grant, which the broker \
                                       deletes when the grant is over";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if problems.is_empty() { Ok(Scope::Namespace) } else { Err(problems) }
    }

    fn needs(settings: &Settings) -> Needs {
        let Ok(host) = settings.image_host() else { return Needs::default() };
        let tokens = settings.needed_tokens();
        Needs::requests(["POST", "GET", "DELETE"].map(|method| format!("{method} {tokens}")))
            .image_host(host)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.image_host()?;
        Ok(Location { host, repository: format!("{}{project}", settings.prefix()) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.image_host().ok().filter(|host| *host == location.host)?;
        location.repository.strip_prefix(&settings.prefix()).map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        token::create(settings, grant)
    }
}

impl Revocation for Gitlab {
    fn revoke(settings: &Settings, grant: &Grant, remembered: Option<&str>) -> Result<(), Error> {
        let tokens = settings.tokens(&grant.project());
        token::delete(settings, &tokens, &grant.id(), remembered)
    }
}

impl Leftovers for Gitlab {
    fn find(settings: &Settings) -> Result<Vec<Leftover>, Error> {
        token::list(settings, &settings.tokens_of_all()?)
    }

    fn end(settings: &Settings, leftover: &Leftover) -> Result<(), Error> {
        let tokens = settings.tokens_of_all()?;
        token::delete(settings, &tokens, &leftover.id, Some(&leftover.note))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings(more: &Value) -> Settings {
        let mut all = json!({
            "base_url": "https://gitlab.example.com", "project": "group/app",
            "private_token": "private_token", "registry_url": "registry.gitlab.example.com",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_deploy_token_opens_a_project_of_gitlab() {
        for (project, tokens) in [
            ("group/app", "group%2Fapp"),
            ("group/sub-group/app", "group%2Fsub-group%2Fapp"),
            ("group/{project}", "group%2F{project}"),
        ] {
            let settings = settings(&json!({ "project": project }));
            assert_eq!(Gitlab::check(&settings), Ok(Scope::Namespace));
            let url = format!("https://gitlab.example.com/api/v4/projects/{tokens}/deploy_tokens");
            let needs = ["POST", "GET", "DELETE"].map(|method| format!("{method} {url}"));
            assert_eq!(
                Gitlab::needs(&settings),
                Needs::requests(needs).image_host("registry.gitlab.example.com")
            );
        }
    }

    #[test]
    fn wrong_settings_are_told_with_their_place() {
        for (more, path) in [
            (json!({ "base_url": "gitlab.example.com" }), "/base_url"),
            (json!({ "base_url": "https://gitlab.example.com/gitlab" }), "/base_url"),
            (json!({ "base_url": "https://gitlab.example.com?x" }), "/base_url"),
            (json!({ "base_url": "ftp://gitlab.example.com" }), "/base_url"),
            (json!({ "project": "app" }), "/project"),
            (json!({ "project": "42" }), "/project"),
            (json!({ "project": "Group/app" }), "/project"),
            (json!({ "project": "group//app" }), "/project"),
            (json!({ "project": "/group/app" }), "/project"),
            (json!({ "project": "{project}" }), "/project"),
            (json!({ "project": "group/{project}/images" }), "/project"),
            (json!({ "project": "group/x-{project}" }), "/project"),
            (json!({ "project": "{project}/{project}" }), "/project"),
            (json!({ "registry_url": "registry.gitlab.example.com/group" }), "/registry_url"),
            (json!({ "registry_url": "" }), "/registry_url"),
        ] {
            let problems = Gitlab::check(&settings(&more)).unwrap_err();
            assert_eq!(problems.first().map(|it| it.path.as_str()), Some(path), "{more}");
        }
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        let registry = "registry.gitlab.example.com";
        for (more, host, repository) in [
            (json!({}), registry, "group/app/my-app"),
            (json!({ "project": "group/{project}" }), registry, "group/my-app"),
            (
                json!({ "registry_url": "https://gitlab.example.com:5050" }),
                "gitlab.example.com:5050",
                "group/app/my-app",
            ),
        ] {
            let settings = settings(&more);
            let place = Location { host: host.to_owned(), repository: repository.to_owned() };
            assert_eq!(Gitlab::locate(&settings, "my-app"), Ok(place.clone()));
            assert_eq!(Gitlab::resolve(&settings, &place).as_deref(), Some("my-app"));
            for (host, repository) in [("x.io", repository), (host, "groups/my-app")] {
                let other = Location { host: host.to_owned(), repository: repository.to_owned() };
                assert_eq!(Gitlab::resolve(&settings, &other), None);
            }
        }
    }

    #[test]
    fn the_token_is_marked_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Gitlab>();
        assert_eq!(schema["properties"]["private_token"]["writeOnly"], true);
        assert_eq!(schema["additionalProperties"], false);
    }
}
