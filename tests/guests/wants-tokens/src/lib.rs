//! Behaves, but imports `tokens`, which this host does not have yet. It is not loaded.

use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope, tokens};
use schemars::JsonSchema;
use serde::Deserialize;

struct WantsTokens;

rise_provider::export_provider!(WantsTokens);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
}

impl Provider for WantsTokens {
    type Settings = Settings;

    const NAME: &'static str = "wants-tokens";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Imports a capability that nobody has";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::None)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.registry_url).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, _: &Grant) -> Result<Issued, Error> {
        let token = tokens::registry_token(&settings.registry_url)?;
        Ok(Issued { credential: Credential::Bearer(token), expires_at: None })
    }
}
