//! Tokens that the broker signs.
//!
//! The host sets the key, the issuer, the subject, the access, the times and the id. A provider
//! chooses only the arguments of these functions: the settings `service` and `audience` of its
//! registry, or what `ceiling.tokens` allows.

use crate::{Actions, Error, Grant, Secret, host};

/// Returns a Distribution registry token for exactly the grant. `service` is the service that the
/// registry names in `WWW-Authenticate`.
///
/// It is a bearer token. If the realm of the registry is this broker, it is a password as well.
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

/// Returns an OIDC token that names the project, for workload federation. It may go to the
/// registry's origins, and never to a caller.
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

/// Returns the `sub` of this grant's identity token with `NAME` in place of the registry's name,
/// which only the host knows. It is no secret: put it into the message when a cloud denies the
/// token, because the operator compares it with what the cloud trusts.
///
/// ```
/// use rise_provider::{Actions, testing, tokens};
///
/// let grant = testing::grant("my-app").actions(Actions::PULL).build();
/// assert_eq!(tokens::subject(&grant), "project:my-app:registry:NAME:actions:pull");
/// ```
pub fn subject(grant: &Grant) -> String {
    let actions = if grant.actions().contains(Actions::PUSH) { "push" } else { "pull" };
    format!("project:{}:registry:NAME:actions:{actions}", grant.project())
}
