//! JWTs that are signed with a private key of the operator. A provider uses them to log in to a
//! cloud (RFC 7523).
//!
//! An assertion may go to the registry's origins, and never to a caller.
//!
//! Not available yet: the broker rejects a component that imports this. The double works.

use serde_json::Value;

use crate::{Error, Secret, host};

/// Signs `claims` with `key`, which is a secret setting with a private key in PEM.
///
/// `header` has the algorithm (`RS256`, `PS256` or `ES256`) and whatever else the receiver needs,
/// such as `kid`. Both `header` and `claims` are JSON objects.
///
/// # Errors
///
/// [`Error::Refused`] if the claims are valid for longer than an hour, [`Error::InvalidSettings`]
/// if the setting is not a private key.
///
/// ```
/// use rise_provider::{assertions, secrets, testing};
/// use serde_json::json;
///
/// let (assertion, _) = testing::Host::new().secret("private_key").run(|| {
///     let key = secrets::get("private_key")?;
///     let claims = json!({"iss": "me@example.com", "exp": 1_800_000_000});
///     assertions::sign(&key, &json!({"alg": "RS256"}), &claims)
/// });
/// assert!(assertion.is_ok());
/// ```
pub fn sign(key: &Secret, header: &Value, claims: &Value) -> Result<Secret, Error> {
    host::sign(&key.0, &header.to_string(), &claims.to_string()).map(Secret)
}
