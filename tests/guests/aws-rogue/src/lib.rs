//! Calls `aws` like the `ecr` provider, and asks for something that its grant does not cover.
//! `attack` selects what.
//!
//! Nothing that it asks for may succeed, except the second half of `swallow`, and the attacks that
//! mislead about the session of the credential.

use rise_provider::aws::{self, Session, Statement};
use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope,
    SecretName,
};
use schemars::JsonSchema;
use serde::Deserialize;

struct AwsRogue;

rise_provider::export_provider!(AwsRogue);

/// The settings that the host itself reads for `aws` are those of `ecr`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the host reads these, and wants them in the schema")]
struct Settings {
    region: String,
    account_id: String,
    role_arn: Option<String>,
    push_role_arn: String,
    public_alias: Option<String>,
    access_key_id: Option<SecretName>,
    secret_access_key: Option<SecretName>,
    endpoint_url: Option<String>,
    attack: Attack,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Attack {
    /// Another project's repository.
    OtherProject,
    /// `my-app*`, which is `my-app-2` too.
    Sibling,
    /// A role that is not the registry's.
    OtherRole,
    /// `PutImage` on every repository.
    Wildcard,
    /// An action that no grant has.
    DeleteRepository,
    /// Every action.
    EcrStar,
    /// Push, whatever was granted.
    PushForPull,
    /// A session of the broker's own identity.
    Unscoped,
    /// A policy of more than 2048 characters.
    HugePolicy,
    /// So many statements that comparing all of them would take seconds.
    GiantPolicy,
    /// One session after the other.
    TooMany,
    /// A configured secret, which no real provider knows, in a place that the log shows.
    SecretInRole,
    /// A login in a region that is not the registry's.
    OtherRegion,
    /// A login of ECR Public, for a registry that is not there.
    PublicLogin,
    /// Asks for another project, ignores the refusal, and then behaves.
    Swallow,
    /// The login of its first session, after it has opened another one.
    FirstSession,
    /// The login of the registry's own identity, after it has opened a session.
    UnscopedAfterSession,
    /// No attack, for comparison.
    None,
}

const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
const PUSH: [&str; 2] = ["ecr:InitiateLayerUpload", "ecr:PutImage"];

impl Provider for AwsRogue {
    type Settings = Settings;

    const NAME: &'static str = "aws-rogue";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Asks AWS for more than was granted";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Repository)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: host(settings), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == host(settings)).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let session = session(settings, grant)?;
        let region = match settings.attack {
            Attack::OtherRegion => "ap-southeast-2",
            Attack::OtherProject
            | Attack::Sibling
            | Attack::OtherRole
            | Attack::Wildcard
            | Attack::DeleteRepository
            | Attack::EcrStar
            | Attack::PushForPull
            | Attack::Unscoped
            | Attack::HugePolicy
            | Attack::GiantPolicy
            | Attack::TooMany
            | Attack::SecretInRole
            | Attack::PublicLogin
            | Attack::Swallow
            | Attack::FirstSession
            | Attack::UnscopedAfterSession
            | Attack::None => settings.region.as_str(),
        };
        let aws::RegistryLogin { username, password, expires_at, .. } =
            if matches!(settings.attack, Attack::PublicLogin) {
                session.ecr_public_login()?
            } else {
                session.ecr_login(region)?
            };
        if matches!(settings.attack, Attack::FirstSession) {
            drop(own_session(settings, grant)?.ecr_login(region)?);
        }
        let credential = Credential::Basic(Login { username, password });
        Ok(Issued { credential, expires_at: Some(expires_at) })
    }
}

fn session(settings: &Settings, grant: &Grant) -> Result<Session, Error> {
    let project = grant.project();
    let own = [arn(settings, &project)];
    let other = [arn(settings, "someone-elses")];
    let granted = actions(grant);
    let assume = |statements| aws::assume_role(&settings.push_role_arn, statements);

    match settings.attack {
        Attack::OtherProject => assume(policy(&granted, &other)),
        Attack::Sibling => assume(policy(&granted, &[arn(settings, &format!("{project}*"))])),
        Attack::OtherRole => {
            let role_arn = format!("arn:aws:iam::{}:role/administrator", settings.account_id);
            aws::assume_role(&role_arn, policy(&granted, &own))
        }
        Attack::Wildcard => assume(policy(&["ecr:PutImage"], &["*".to_owned()])),
        Attack::DeleteRepository => assume(policy(&["ecr:DeleteRepository"], &own)),
        Attack::EcrStar => assume(policy(&["ecr:*"], &own)),
        Attack::PushForPull => assume(policy(&PUSH, &own)),
        Attack::Unscoped => aws::unscoped(),
        Attack::HugePolicy => assume(policy(&granted, &own).into_iter().cycle().take(64).collect()),
        Attack::GiantPolicy => {
            let actions = vec!["ecr:GetAuthorizationToken"; 15_000];
            assume(policy(&actions, &vec!["*".to_owned(); 15_000]))
        }
        Attack::TooMany => {
            (0..8).try_for_each(|_| assume(policy(&granted, &own)).map(drop))?;
            assume(policy(&granted, &own))
        }
        Attack::SecretInRole => {
            let role_arn = "arn:aws:iam::123456789012:role/rogue-secret-access-key";
            aws::assume_role(role_arn, policy(&granted, &own))
        }
        Attack::Swallow => {
            let refused = assume(policy(&granted, &other));
            drop(refused);
            assume(policy(&granted, &own))
        }
        Attack::UnscopedAfterSession => {
            let _other = assume(policy(&granted, &own))?;
            aws::unscoped()
        }
        Attack::OtherRegion | Attack::PublicLogin | Attack::FirstSession | Attack::None => {
            own_session(settings, grant)
        }
    }
}

/// A session for what was granted.
fn own_session(settings: &Settings, grant: &Grant) -> Result<Session, Error> {
    let own = [arn(settings, &grant.project())];
    aws::assume_role(&settings.push_role_arn, policy(&actions(grant), &own))
}

fn actions(grant: &Grant) -> Vec<&'static str> {
    if grant.actions().contains(Actions::PUSH) { [PULL, PUSH].concat() } else { PULL.to_vec() }
}

fn policy(actions: &[&str], resources: &[String]) -> Vec<Statement> {
    let statement = |actions: &[&str], resources: &[String]| Statement {
        actions: actions.iter().map(ToString::to_string).collect(),
        resources: resources.to_vec(),
    };
    vec![
        statement(&["ecr:GetAuthorizationToken"], &["*".to_owned()]),
        statement(actions, resources),
    ]
}

fn arn(settings: &Settings, repository: &str) -> String {
    format!("arn:aws:ecr:{}:{}:repository/{repository}", settings.region, settings.account_id)
}

fn host(settings: &Settings) -> String {
    format!("{}.dkr.ecr.{}.amazonaws.com", settings.account_id, settings.region)
}
