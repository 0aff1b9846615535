//! Returns wrong locations of projects. `how` selects the lie.

use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

struct LiarLocate;

rise_provider::export_provider!(LiarLocate);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
    how: How,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum How {
    /// A host that is not the registry's.
    OtherHost,
    /// One repository for every project.
    NoProject,
    /// `{project}/{project}`.
    ProjectTwice,
    /// `x-{project}`, which is another project's name.
    PartialSegment,
    /// A name that no repository may have.
    UpperCase,
    /// `resolve` names another project than the one that was located.
    ResolveOther,
    /// Knows labels only, like providers of the first contract: `a.b` and `a_b` become `a-b`.
    Labels,
    /// Knows labels only, and has no place for other names.
    RefusesDots,
    /// Knows projects of one component only: of `a/b` it takes `b`.
    Flat,
    /// Returns correct locations.
    None,
}

impl Provider for LiarLocate {
    type Settings = Settings;

    const NAME: &'static str = "liar-locate";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Puts projects where they are not";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::None)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = match settings.how {
            How::OtherHost => "elsewhere.example.com".to_owned(),
            How::NoProject
            | How::ProjectTwice
            | How::PartialSegment
            | How::UpperCase
            | How::ResolveOther
            | How::Labels
            | How::RefusesDots
            | How::Flat
            | How::None => settings.registry_url.clone(),
        };
        let repository = match settings.how {
            How::NoProject => "everyone".to_owned(),
            How::ProjectTwice => format!("{project}/{project}"),
            How::PartialSegment => format!("x-{project}"),
            How::UpperCase => format!("Team/{project}"),
            How::Labels => project.replace(['.', '_'], "-"),
            How::Flat => project.rsplit('/').next().unwrap_or_default().to_owned(),
            How::RefusesDots if project.contains('.') => {
                return Err(Error::Unsupported("a project is a label".to_owned()));
            }
            How::OtherHost | How::ResolveOther | How::RefusesDots | How::None => project.to_owned(),
        };
        Ok(Location { host, repository })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let repository = location.repository.as_str();
        let project = match settings.how {
            How::NoProject | How::ResolveOther => "someone-elses",
            How::ProjectTwice => repository.split_once('/')?.0,
            How::PartialSegment => repository.strip_prefix("x-")?,
            How::UpperCase => repository.strip_prefix("Team/")?,
            How::OtherHost | How::Labels | How::RefusesDots | How::Flat | How::None => repository,
        };
        Some(project.to_owned())
    }

    fn issue(_: &Settings, _: &Grant) -> Result<Issued, Error> {
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
