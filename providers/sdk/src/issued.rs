//! The credentials that a provider returns.

use crate::Secret;

/// Credentials and their expiry.
#[derive(Debug)]
pub struct Issued {
    /// The credential that the caller presents to the registry.
    pub credential: Credential,
    /// The end that the registry itself has set, in seconds since the Unix epoch, or `None` if it
    /// sets none. Do not guess: the host passes it on to the caller, unless the broker ends the
    /// credential sooner ([`Grant::remember`](crate::Grant::remember)).
    pub expires_at: Option<u64>,
}

/// The credential that the caller presents to the registry.
#[derive(Debug)]
pub enum Credential {
    /// The caller already has credentials of its own for this registry.
    ClientAuth,
    /// A user name and password for `docker login`, which every client accepts.
    Basic(Login),
    /// A bearer token for the registry itself (`registrytoken`), which few clients accept.
    Bearer(Secret),
    /// A refresh token for the registry's token service (`identitytoken`).
    Refresh(Secret),
}

/// A user name and password.
#[derive(Debug)]
pub struct Login {
    /// Appears in logs. It must fit into an HTTP header.
    pub username: String,
    /// A handle, which the provider cannot read.
    pub password: Secret,
}
