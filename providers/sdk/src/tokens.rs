//! Tokens that the broker signs.
//!
//! The key, the issuer, the subject, the access, the times and the id are the host's; a provider chooses only what is
//! named here.

use crate::{Error, Secret, host};

/// A Distribution registry token for what the grant covers, no more. `service` is what the registry's
/// `WWW-Authenticate` calls itself.
///
/// It is a bearer token and, where the registry's realm is this broker, a password.
///
/// # Errors
///
/// [`Error::Refused`] for a service outside the registry's ceiling.
///
/// ```
/// use rise_provider::{testing, tokens};
///
/// let (token, _) = testing::Host::new().run(|| tokens::registry_token("registry.example.com"));
/// assert!(token?.expires_at().is_some());
/// # Ok::<(), rise_provider::Error>(())
/// ```
pub fn registry_token(service: &str) -> Result<Secret, Error> {
    host::registry_token(service).map(Secret)
}

/// An OIDC token that says which project this is, for workload federation. It goes to the registry's origins, never to
/// a caller.
///
/// # Errors
///
/// [`Error::Refused`] for an audience outside the registry's ceiling.
///
/// ```
/// use rise_provider::{testing, tokens};
///
/// let (token, _) = testing::Host::new().run(|| tokens::identity_token("https://quay.io"));
/// assert!(token.is_ok());
/// ```
pub fn identity_token(audience: &str) -> Result<Secret, Error> {
    host::identity_token(audience).map(Secret)
}
