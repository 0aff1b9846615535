//! Converts between the exported functions, which get settings as JSON, and the trait, which gets a
//! type.

use schemars::Schema;
use schemars::generate::SchemaSettings;

use crate::{Error, Problem, Provider, Scope};

/// The schema of the settings, without `$ref`: the host searches the properties for `writeOnly`.
pub(crate) fn schema<P: Provider>() -> Schema {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<P::Settings>()
}

pub(crate) fn parse<P: Provider>(settings: &str) -> Result<P::Settings, Error> {
    serde_json::from_str(settings).map_err(|error| Error::InvalidSettings(error.to_string()))
}

pub(crate) fn check<P: Provider>(settings: &str) -> Result<Scope, Vec<Problem>> {
    let settings =
        parse::<P>(settings).map_err(|error| vec![Problem::new("", error.to_string())])?;
    P::check(&settings)
}
