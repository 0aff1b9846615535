//! JWTs signed with a private key of the operator's, by which a provider logs in to a cloud (RFC 7523).
//!
//! They go to the registry's origins, never to a caller.

use serde_json::Value;

use crate::{Error, Secret, host};

/// Signs `claims` with `key`, a secret setting that holds a private key in PEM.
///
/// `header` names the algorithm (`RS256`, `PS256` or `ES256`) and what the receiver wants besides, such as `kid`. Both
/// are JSON objects.
///
/// # Errors
///
/// [`Error::Refused`] for claims that live longer than an hour, [`Error::InvalidSettings`] for a key that is none.
///
/// ```
/// use rise_provider::{assertions, secrets, testing};
/// use serde_json::json;
///
/// let (assertion, _) = testing::Host::new().secret("private_key").run(|| {
///     let key = secrets::get("private_key")?;
///     assertions::sign(&key, &json!({"alg": "RS256"}), &json!({"iss": "me@example.com", "exp": 1_800_000_000}))
/// });
/// assert!(assertion.is_ok());
/// ```
pub fn sign(key: &Secret, header: &Value, claims: &Value) -> Result<Secret, Error> {
    host::sign(&key.0, &header.to_string(), &claims.to_string()).map(Secret)
}
