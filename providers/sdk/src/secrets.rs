//! Secrets: text that a provider can pass on, and cannot read.
//!
//! The registry's own secrets stay in the host. A secret setting goes only where the operator lets it go: to the
//! registry's origins, and to a caller only if credentials that wide were accepted.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{Error, host};

/// The secret setting `name`: the dotted path of the property, for a top-level one just its name.
///
/// Settings that hold a [`SecretName`] rarely need this: [`SecretName::get`] is the same.
///
/// # Errors
///
/// [`Error::InvalidSettings`] if there is no such secret, [`Error::Refused`] outside `issue`.
///
/// ```
/// use rise_provider::{secrets, testing};
///
/// let (password, _) = testing::Host::new().secret("password").run(|| secrets::get("password"));
/// assert_eq!(testing::origin(&password?), &testing::Origin::Configured("password".to_owned()));
/// # Ok::<(), rise_provider::Error>(())
/// ```
pub fn get(name: &str) -> Result<Secret, Error> {
    host::secret(name).map(Secret)
}

/// Text that a provider can pass on, and cannot read.
///
/// A handle: the text stays in the host, which remembers where it came from, and that decides where it may go.
pub struct Secret(pub(crate) host::Secret);

impl Secret {
    /// Wraps text that the provider already has, a user name that a form wants as a secret for instance.
    pub fn new(text: &str) -> Self {
        Self(host::Secret::new(text))
    }

    /// When it ends, where it says so itself: the `exp` of a JWT. Seconds since the Unix epoch.
    pub fn expires_at(&self) -> Option<u64> {
        self.0.expires_at()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// A setting that is a secret.
///
/// In the configuration it is text; its schema says `writeOnly`, so the host keeps the value, and what a provider gets
/// in its place is a name.
///
/// ```
/// use rise_provider::{SecretName, testing};
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     password: Option<SecretName>,
/// }
///
/// let settings: Settings = serde_json::from_str(r#"{"password": "password"}"#)?;
/// let (secret, _) = testing::Host::new().secret("password").run(|| settings.password.map(|name| name.get()));
/// assert!(secret.is_some_and(|secret| secret.is_ok()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SecretName(String);

impl SecretName {
    /// The secret that this setting names. Fails as [`get`] does.
    pub fn get(&self) -> Result<Secret, Error> {
        get(&self.0)
    }
}

impl JsonSchema for SecretName {
    /// The host looks for `writeOnly` at the property itself, so it must not hide behind a `$ref`.
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SecretName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_setting_is_marked_where_it_stands() {
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "only its schema matters")]
        struct Settings {
            password: SecretName,
            /// What for.
            token: Option<SecretName>,
        }

        let schema = schemars::schema_for!(Settings).to_value();
        assert_eq!(
            schema["properties"]["password"],
            json!({ "type": "string", "writeOnly": true })
        );
        let token =
            json!({ "description": "What for.", "type": ["string", "null"], "writeOnly": true });
        assert_eq!(schema["properties"]["token"], token);
    }
}
