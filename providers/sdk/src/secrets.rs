//! Secrets: text that a provider can pass on and cannot read.
//!
//! The registry's own secrets stay in the host. A secret setting goes only where the operator
//! allows it: to the registry's origins, and to a caller only if the operator accepts credentials
//! that wide.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, assertions, host};

/// Returns the secret setting `name`, which is the dotted path of its property.
///
/// Settings with a [`SecretName`] rarely need this: [`SecretName::get`] does the same.
///
/// # Errors
///
/// [`Error::InvalidSettings`] if there is no such secret, [`Error::Refused`] in a function without
/// a grant.
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

/// Text that a provider can pass on and cannot read.
///
/// It is a handle: the text stays in the host. The host knows where the text comes from, and
/// decides by that where it may go.
pub struct Secret(pub(crate) host::Secret);

impl Secret {
    /// Makes a secret of text that the provider already has. For a password that the provider
    /// chooses, use [`random::password`](crate::random::password).
    pub fn new(text: &str) -> Self {
        Self(host::Secret::new(text))
    }

    /// The expiry in seconds since the Unix epoch, if the host knows it: the `exp` of a JWT.
    pub fn expires_at(&self) -> Option<u64> {
        self.0.expires_at()
    }

    /// A claim of a JWT that came over [`http`](crate::http), such as the user name in `sub`. The
    /// host verifies no signature. Returns `None` for every other secret, for a claim that is not a
    /// string, and for one of more than 1 KiB.
    ///
    /// ```
    /// use rise_provider::Error;
    /// use rise_provider::http::Request;
    /// use rise_provider::testing::{Answer, Host, jwt};
    /// use serde_json::json;
    ///
    /// let body = json!({ "token": jwt(&json!({ "sub": "robot" })) }).to_string();
    /// let host = Host::new().http(move |_| Ok(Answer::new(200).body(&body)));
    /// let (name, _) = host.run(|| {
    ///     let answer = Request::get("https://registry.example.com/token").send()?;
    ///     Ok::<_, Error>(answer.take_secret("/token").and_then(|token| token.claim("sub")))
    /// });
    /// assert_eq!(name, Ok(Some("robot".to_owned())));
    /// ```
    pub fn claim(&self, name: &str) -> Option<String> {
        self.0.claim(name)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// A setting that is a secret.
///
/// In the configuration the setting is text. Its schema has `writeOnly`, so the host keeps the
/// value, and the provider gets a name in its place.
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
/// let host = testing::Host::new().secret("password");
/// let (secret, _) = host.run(|| settings.password.map(|name| name.get()));
/// assert!(secret.is_some_and(|secret| secret.is_ok()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SecretName(String);

impl SecretName {
    /// Returns the secret of this setting. It fails like [`get`].
    pub fn get(&self) -> Result<Secret, Error> {
        get(&self.0)
    }
}

impl JsonSchema for SecretName {
    /// The host searches the property itself for `writeOnly`, so it must not be behind a `$ref`.
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

/// A setting that is a private key: PEM, or the JSON file of a Google service account.
///
/// It is a secret like [`SecretName`], and the host checks at start that the value is such a key.
///
/// ```
/// use rise_provider::{PrivateKeyName, testing};
/// use serde_json::json;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     private_key: PrivateKeyName,
/// }
///
/// let settings: Settings = serde_json::from_str(r#"{"private_key": "private_key"}"#)?;
/// let (signed, _) = testing::Host::new().secret("private_key").run(|| {
///     settings.private_key.sign(&json!({"alg": "RS256"}), &json!({"exp": 1_800_000_000}))
/// });
/// assert!(signed.is_ok());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PrivateKeyName(String);

impl PrivateKeyName {
    /// Signs an assertion with this key, as [`assertions::sign`] does.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<Secret, Error> {
        assertions::sign(&get(&self.0)?, header, claims)
    }
}

impl JsonSchema for PrivateKeyName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PrivateKeyName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true, "format": "private-key" })
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
            /// A description of the setting.
            token: Option<SecretName>,
        }

        let schema = schemars::schema_for!(Settings).to_value();
        assert_eq!(
            schema["properties"]["password"],
            json!({ "type": "string", "writeOnly": true })
        );
        let token = json!({
            "description": "A description of the setting.",
            "type": ["string", "null"],
            "writeOnly": true
        });
        assert_eq!(schema["properties"]["token"], token);
    }
}
