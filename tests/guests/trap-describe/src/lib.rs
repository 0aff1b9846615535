//! Panics in `describe`. It is not loaded, and nothing else is affected.

use std::borrow::Cow;

use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

struct TrapDescribe;

rise_provider::export_provider!(TrapDescribe);

#[derive(Deserialize)]
struct Settings {
    registry_url: String,
}

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }

    /// The only part of `describe` that a provider computes.
    #[allow(clippy::panic, reason = "this guest is here to crash")]
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        panic!("trap-describe was asked what it is");
    }
}

impl Provider for TrapDescribe {
    type Settings = Settings;

    const NAME: &'static str = "trap-describe";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Crashes when asked what it is";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::None)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(_: &Settings, location: &Location) -> Option<String> {
        Some(location.repository.clone())
    }

    fn issue(_: &Settings, _: &Grant) -> Result<Issued, Error> {
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
