//! Settings of a provider that open a ceiling by their names. `registries` reads them as the
//! operator has written them.
//!
//! **Invariant (I10):** a default in the schema opens nothing: it is the provider's word.

use serde_json::Value;

use super::Provider;

/// A setting that opens a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpeningSetting {
    pub name: &'static str,
    /// What the provider may ask for then.
    pub opens: &'static str,
    /// Whether the schema has a default for it that is not empty.
    pub has_default: bool,
}

/// The settings of this provider that open a ceiling.
pub fn opening_settings(provider: &Provider) -> Vec<OpeningSetting> {
    let asks = provider.imports.contains(&"http") && provider.guest.endpoints.is_none();
    let names = provider.tokens;
    let of_schema = |(name, opens, is_used): (&'static str, &'static str, bool)| {
        let setting = provider.schema.document().pointer(&format!("/properties/{name}"))?;
        let default = setting.get("default").and_then(Value::as_str);
        let has_default = default.is_some_and(|text| !text.is_empty());
        is_used.then_some(OpeningSetting { name, opens, has_default })
    };
    [
        ("base_url", "requests to its origin", asks),
        ("registry_url", "registry tokens for its host, without `service`", names.registry_token),
        ("service", "registry tokens for this service", names.registry_token),
        ("audience", "identity tokens for this audience", names.identity_token),
    ]
    .into_iter()
    .filter_map(of_schema)
    .collect()
}
