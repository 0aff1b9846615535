//! A provider that behaves: asks a registry whether it accepts the account of the settings, and
//! then issues that account. The real docker-registry has no API for more.

use rise_provider::http::Request;
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, SecretName,
};
use schemars::JsonSchema;
use serde::Deserialize;

struct HtpasswdPing;

rise_provider::export_provider!(HtpasswdPing);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    base_url: String,
    username: String,
    password: SecretName,
}

impl Provider for HtpasswdPing {
    type Settings = Settings;

    const NAME: &'static str = "htpasswd-ping";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Tries a shared account before it hands it out";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Registry)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.base_url.trim_start_matches("http://").to_owned();
        Ok(Location { host, repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.base_url.ends_with(&location.host).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, _: &Grant) -> Result<Issued, Error> {
        let password = settings.password.get()?;
        let ping = Request::get(&format!("{}/v2/", settings.base_url));
        let response = ping.basic(&settings.username, &password).send()?;
        response.success()?;
        let version = response.header("Docker-Distribution-Api-Version");
        if version.as_deref() != Some("registry/2.0") {
            return Err(Error::Failed("this is no registry".to_owned()));
        }
        let credential = Credential::Basic(Login { username: settings.username.clone(), password });
        Ok(Issued { credential, expires_at: None })
    }
}
