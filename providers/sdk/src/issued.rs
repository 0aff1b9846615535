//! What a provider hands back.

use crate::Secret;

/// Credentials, and when they end.
#[derive(Debug)]
pub struct Issued {
    /// What the caller presents to the registry.
    pub credential: Credential,
    /// Seconds since the Unix epoch; `None` where the registry sets no end. Never a guess: the host hands it on.
    pub expires_at: Option<u64>,
}

/// What the caller presents to the registry.
#[derive(Debug)]
pub enum Credential {
    /// The caller already has credentials of its own for this registry.
    ClientAuth,
    /// A user name and password for `docker login`: what every client takes.
    Basic(Login),
    /// A bearer token for the registry itself (`registrytoken`): few clients take one.
    Bearer(Secret),
    /// A refresh token for the registry's token service (`identitytoken`).
    Refresh(Secret),
}

/// A user name and password.
#[derive(Debug)]
pub struct Login {
    /// Shown in logs; at most what one HTTP header carries.
    pub username: String,
    /// A handle: the provider cannot read it.
    pub password: Secret,
}
