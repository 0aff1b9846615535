//! JWTs that are signed with a private key of the operator. A provider uses them to log in to a
//! cloud (RFC 7523).
//!
//! An assertion may go to the registry's origins, and never to a caller.

use serde_json::Value;

use crate::{Error, Secret, host};

/// Signs `claims` with `key`, which is a secret setting with a private key in PEM, or with the JSON
/// file of a Google service account. [`PrivateKeyName`](crate::PrivateKeyName) is the type of such
/// a setting.
///
/// `header` has the algorithm (`RS256`, `PS256` or `ES256`), which must fit the key, and besides
/// only `typ`, `kid`, `x5t`, `x5t#S256` and `x5c`. `claims` have `exp`, at most an hour ahead. From
/// the file of a service account the host adds `kid` and `iss` where they are missing. A call may
/// sign eight times.
///
/// # Errors
///
/// [`Error::Refused`] for any other header or algorithm, for claims that are valid for longer, and
/// for more signatures; [`Error::InvalidSettings`] if the setting is not a private key, or one that
/// does not fit the algorithm.
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
