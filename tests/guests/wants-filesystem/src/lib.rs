//! Reads a file, so it imports `wasi:filesystem`: refused at load, whatever the settings say.

use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

struct WantsFilesystem;

rise_provider::export_provider!(WantsFilesystem);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
}

impl Provider for WantsFilesystem {
    type Settings = Settings;

    const NAME: &'static str = "wants-filesystem";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Imports what no provider may have";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::None)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.registry_url).then(|| location.repository.clone())
    }

    fn issue(_: &Settings, _: &Grant) -> Result<Issued, Error> {
        std::fs::read("/etc/passwd").map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
