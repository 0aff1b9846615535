//! Has a setting that is a secret by its name, and that its schema does not mark. It is rejected,
//! so that a guest cannot read a secret.

use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

struct SecretLooking;

rise_provider::export_provider!(SecretLooking);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
    #[expect(dead_code, reason = "wanted, never to be had")]
    token: String,
}

impl Provider for SecretLooking {
    type Settings = Settings;

    const NAME: &'static str = "secret-looking";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Would like to see a secret";

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
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
