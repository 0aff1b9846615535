//! Amazon ECR: assumes a role with a session policy for one repository, and issues the registry
//! password of that session.
//!
//! Without `push_role_arn` there is no role to narrow. The password then opens everything that the
//! broker's own identity may do, and `check` returns that scope.
//!
//! With `public_alias` the registry is one of ECR Public. Everybody may pull from there, so only a
//! grant to push gets a login.

mod policy;
mod repositories;
mod settings;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope,
};
use rise_provider::{aws, export_provider, log};

pub use crate::settings::{Partition, Settings};

/// The provider of type `ecr`.
pub struct Ecr;

export_provider!(Ecr, repositories);

impl Provider for Ecr {
    type Settings = Settings;

    const NAME: &'static str = "ecr";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Amazon ECR, narrowed to one repository by an STS session policy";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        if !settings.has_known_region() {
            log::warn(&format!(
                "`region` is `{}`, and no region of AWS is known to be named so; correct it, \
                 unless it is new",
                settings.region
            ));
        }
        Ok(if settings.push_role_arn.is_some() { Scope::Repository } else { Scope::Registry })
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.host(), repository: format!("{}{project}", settings.path()) })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        if location.host != settings.host() {
            return None;
        }
        location.repository.strip_prefix(&settings.path()).map(str::to_owned)
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let (actions, is_public) = (grant.actions(), settings.is_public());
        if is_public && actions == Actions::PULL {
            return Ok(Issued { credential: Credential::ClientAuth, expires_at: None });
        }
        let arns = settings.repository_arns(&grant.project());
        let statements = policy::statements(&arns, actions, is_public)?;
        let session = match &settings.push_role_arn {
            Some(role_arn) => aws::assume_role(role_arn, statements)?,
            None => aws::unscoped()?,
        };
        let aws::RegistryLogin { username, password, expires_at, .. } = if is_public {
            session.ecr_public_login()?
        } else {
            session.ecr_login(&settings.region)?
        };

        let credential = Credential::Basic(Login { username, password });
        Ok(Issued { credential, expires_at: Some(expires_at) })
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::SecretName;
    use rise_provider::testing::{self, Call, Host, Origin};
    use serde_json::{Value, json};

    use super::*;

    fn settings(more: Value) -> Settings {
        let mut all =
            json!({ "region": "us-east-1", "account_id": "123456789012", "repo_prefix": "rise/" });
        let Value::Object(more) = more else { panic!("expected an object") };
        all.as_object_mut().unwrap().extend(more);
        serde_json::from_value(all).unwrap()
    }

    fn scoped() -> Settings {
        settings(json!({ "push_role_arn": "arn:aws:iam::123456789012:role/push" }))
    }

    fn place(repository: &str) -> Location {
        Location {
            host: "123456789012.dkr.ecr.us-east-1.amazonaws.com".to_owned(),
            repository: repository.to_owned(),
        }
    }

    #[test]
    fn a_push_role_is_assumed_for_exactly_one_repository() {
        let grant = testing::grant("my-app").build();
        let host = Host::new().login_expires_at(testing::NOW + 7);
        let (issued, calls) = host.run(|| Ecr::issue(&scoped(), &grant));

        let issued = issued.unwrap();
        assert_eq!(issued.expires_at, Some(testing::NOW + 7));
        let Credential::Basic(login) = issued.credential else { panic!("expected a login") };
        assert_eq!(
            (login.username.as_str(), testing::origin(&login.password)),
            ("AWS", &Origin::Aws)
        );

        let [Call::AssumeRole { role_arn, statements }, Call::EcrLogin { region }] =
            calls.as_slice()
        else {
            panic!("unexpected calls: {calls:?}")
        };
        assert_eq!(role_arn, "arn:aws:iam::123456789012:role/push");
        assert_eq!(region, "us-east-1");
        assert_eq!(
            statements[1].resources,
            ["arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app"]
        );
    }

    fn public() -> Settings {
        let role = "arn:aws:iam::123456789012:role/push";
        settings(json!({ "public_alias": "acme", "push_role_arn": role }))
    }

    #[test]
    fn a_push_to_ecr_public_has_a_login_of_that_service() {
        for actions in [Actions::PUSH, Actions::PULL | Actions::PUSH] {
            let grant = testing::grant("my-app").actions(actions).build();
            let (issued, calls) = Host::new().run(|| Ecr::issue(&public(), &grant));
            let Credential::Basic(login) = issued.unwrap().credential else {
                panic!("expected a login")
            };
            assert_eq!(testing::origin(&login.password), &Origin::Aws);
            let [Call::AssumeRole { statements, .. }, Call::EcrPublicLogin] = calls.as_slice()
            else {
                panic!("unexpected calls: {calls:?}")
            };
            let arn = "arn:aws:ecr-public::123456789012:repository/rise/my-app";
            assert_eq!(statements[1].resources, [arn]);
        }
    }

    #[test]
    fn a_pull_from_ecr_public_needs_nothing() {
        let grant = testing::grant("my-app").actions(Actions::PULL).build();
        let (issued, calls) = Host::new().run(|| Ecr::issue(&public(), &grant));
        assert!(matches!(issued.unwrap().credential, Credential::ClientAuth));
        assert_eq!(calls, []);
    }

    #[test]
    fn public_images_lie_below_the_alias() {
        let location = |repository: &str| Location {
            host: "public.ecr.aws".to_owned(),
            repository: repository.to_owned(),
        };
        let own = location("acme/rise/team/my-app");
        assert_eq!(Ecr::locate(&public(), "team/my-app"), Ok(own.clone()));
        assert_eq!(Ecr::resolve(&public(), &own).as_deref(), Some("team/my-app"));
        for others in ["other/rise/my-app", "acme/my-app", "rise/my-app"] {
            assert_eq!(Ecr::resolve(&public(), &location(others)), None, "{others}");
        }
    }

    #[test]
    fn without_a_push_role_the_identity_is_the_brokers_own() {
        let grant = testing::grant("my-app").build();
        let (issued, calls) = Host::new().run(|| Ecr::issue(&settings(json!({})), &grant));

        assert!(issued.is_ok());
        assert_eq!(calls, [Call::Unscoped, Call::EcrLogin { region: "us-east-1".to_owned() }]);
    }

    #[test]
    fn what_cannot_be_granted_reaches_nobody() {
        for (actions, settings) in [
            (Actions::DELETE, scoped()),
            (Actions::PULL | Actions::DELETE, settings(json!({}))),
            (Actions::NONE, scoped()),
            (Actions::NONE, settings(json!({}))),
            (Actions::DELETE, public()),
            (Actions::PULL | Actions::DELETE, public()),
            (Actions::NONE, public()),
        ] {
            let grant = testing::grant("my-app").actions(actions).build();
            let (issued, calls) = Host::new().run(|| Ecr::issue(&settings, &grant));
            assert!(issued.is_err());
            assert_eq!(calls, []);
        }
    }

    #[test]
    fn errors_of_aws_are_handed_on() {
        let grant = testing::grant("my-app").build();
        let no = Error::Denied("not authorized to perform: sts:AssumeRole".to_owned());
        let busy = Error::Throttled(Some(3));

        let (no_, busy_) = (no.clone(), busy.clone());
        let host = Host::new().fail(move |_| Some(no_.clone()));
        assert_eq!(host.run(|| Ecr::issue(&scoped(), &grant)).0.unwrap_err(), no);
        let host = Host::new()
            .fail(move |call| matches!(call, Call::EcrLogin { .. }).then(|| busy_.clone()));
        assert_eq!(host.run(|| Ecr::issue(&scoped(), &grant)).0.unwrap_err(), busy);
    }

    #[test]
    fn resolve_is_the_inverse_of_locate() {
        for settings in [scoped(), settings(json!({ "child_repositories": true }))] {
            for project in ["my-app", "my.app_x", "team/my-app", "a/b/c"] {
                let location = place(&format!("rise/{project}"));
                assert_eq!(Ecr::locate(&settings, project), Ok(location.clone()));
                assert_eq!(Ecr::resolve(&settings, &location).as_deref(), Some(project));
            }
            for nobodys in ["my-app", "rise", "other/my-app"] {
                assert_eq!(Ecr::resolve(&settings, &place(nobodys)), None, "{nobodys}");
            }
        }
        let elsewhere = Location { host: "docker.io".to_owned(), ..place("rise/my-app") };
        assert_eq!(Ecr::resolve(&scoped(), &elsewhere), None);
    }

    #[test]
    fn check_says_how_narrow() {
        assert_eq!(Ecr::check(&scoped()), Ok(Scope::Repository));
        assert_eq!(Ecr::check(&settings(json!({ "auto_remove": true }))), Ok(Scope::Registry));
    }

    #[test]
    fn keys_are_secrets_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Ecr>();
        for key in ["access_key_id", "secret_access_key"] {
            assert_eq!(schema["properties"][key]["writeOnly"], true, "{key}");
        }
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!(["region", "account_id"]));

        let settings = settings(json!({ "access_key_id": "access_key_id" }));
        let name: SecretName = serde_json::from_value(json!("access_key_id")).unwrap();
        assert_eq!(settings.access_key_id, Some(name));
    }
}
