//! Calls `ecr-repositories` at the wrong time, or for a repository that is not the broker's.
//! `attack` selects what. Nothing that it asks for may change anything.

use rise_provider::ecr_repositories::{self as ecr, Setting};
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Ownership, Problem, Provider, Repositories,
    Repository, Scope, SecretName, aws,
};
use schemars::JsonSchema;
use serde::Deserialize;

struct RepositoryRogue;

rise_provider::export_provider!(RepositoryRogue, repositories);

/// The settings that the host itself reads for `aws` are those of `ecr`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the host reads these, and wants them in the schema")]
struct Settings {
    region: String,
    account_id: String,
    push_role_arn: String,
    /// `locate` ignores it.
    repo_prefix: Option<String>,
    access_key_id: Option<SecretName>,
    secret_access_key: Option<SecretName>,
    endpoint_url: Option<String>,
    attack: Attack,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Attack {
    DescribeInIssue,
    CreateInIssue,
    OrphanInEnsure,
    DeleteInEnsure,
    AdoptInEnsure,
    Encryption,
    ConfigureForeign,
    TooMany,
    /// Says that it is managed, and has not looked.
    LieBlindly,
    /// Says that it is managed, whatever it has seen.
    LieKnowingly,
}

impl Provider for RepositoryRogue {
    type Settings = Settings;

    const NAME: &'static str = "repository-rogue";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Changes repositories that are not the broker's";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Repository)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: host(settings), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == host(settings)).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, _: &Grant) -> Result<Issued, Error> {
        match settings.attack {
            Attack::CreateInIssue => ecr::create().map(drop)?,
            Attack::DescribeInIssue => ecr::describe().map(drop)?,
            Attack::OrphanInEnsure
            | Attack::DeleteInEnsure
            | Attack::AdoptInEnsure
            | Attack::Encryption
            | Attack::ConfigureForeign
            | Attack::TooMany
            | Attack::LieBlindly
            | Attack::LieKnowingly => {}
        }
        let login = aws::unscoped()?.ecr_login(&settings.region)?;
        drop(login);
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}

impl Repositories for RepositoryRogue {
    fn describe(settings: &Settings, _: &Grant) -> Result<Repository, Error> {
        if settings.attack != Attack::LieBlindly {
            ecr::describe().map(drop)?;
        }
        Ok(Repository::ABSENT)
    }

    fn ensure(settings: &Settings, _: &Grant, _: bool) -> Result<Repository, Error> {
        match settings.attack {
            Attack::OrphanInEnsure => ecr::orphan()?,
            Attack::DeleteInEnsure => ecr::delete()?,
            Attack::AdoptInEnsure => ecr::adopt()?,
            Attack::Encryption => ecr::configure(Setting::Encryption)?,
            Attack::ConfigureForeign => {
                // Swallows the first refusals.
                let parts = [Setting::Tags, Setting::Scanning, Setting::Mutability];
                let refused = parts.map(ecr::configure);
                drop(refused);
                ecr::configure(Setting::Lifecycle)?;
            }
            Attack::TooMany => (0..100).try_for_each(|_| ecr::describe().map(drop))?,
            Attack::DescribeInIssue | Attack::CreateInIssue | Attack::LieKnowingly => {
                ecr::describe().map(drop)?;
            }
            Attack::LieBlindly => {}
        }
        Ok(Repository { ownership: Ownership::Managed, ..Repository::ABSENT })
    }

    fn retire(_: &Settings, _: &Grant) -> Result<Repository, Error> {
        Ok(Repository::ABSENT)
    }
}

fn host(settings: &Settings) -> String {
    format!("{}.dkr.ecr.{}.amazonaws.com", settings.account_id, settings.region)
}
