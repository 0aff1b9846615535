//! Well behaved, but imports `http`: refused at load where the registry's settings do not cover it.

use rise_provider::http::Request;
use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

struct WantsHttp;

rise_provider::export_provider!(WantsHttp);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
}

impl Provider for WantsHttp {
    type Settings = Settings;

    const NAME: &'static str = "wants-http";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Imports a capability that nobody allowed";

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
        Request::get(&format!("https://{}/v2/", settings.registry_url)).send()?.success()?;
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
