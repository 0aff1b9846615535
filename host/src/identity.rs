//! A token becomes a [`Subject`], or is refused.
//!
//! Not here: what a subject may do (`rules`), replay, how many tokens may be tried (`limits`).
//!
//! To trust another kind of issuer: a variant of [`Source`] and an adapter of [`jwks::Keys`].
//!
//! **Invariant:** a token's `iss` is looked up in a map and never fetched; its header never brings a key.
//! **Invariant:** only asymmetric algorithms exist here ([`Algorithm`] has no others), so that a public key is never taken
//! for a shared secret.
//! **Invariant:** building an [`Identity`] needs no network. An issuer that is down makes its own callers wait, nobody else.

mod claims;
pub(crate) mod json;
pub mod jwks;
pub mod jwt;
pub mod local;
mod settings;
#[cfg(test)]
mod testing;

pub use json::InvalidJson;
pub use jwt::Reason;
pub use local::{KeyFileError, LocalIssuer, MintError, TokenRequest};
pub use settings::{Algorithm, IssuerSettings, Settings, SetupError, Source, UnknownAlgorithm};

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Clock, Secret, Subject};
use claims::Expected;
use jwks::{Keys, NoKey};
use jwt::Unverified;

/// Everything that can verify a token.
pub struct Identity {
    audience: String,
    /// By the exact text of `iss`.
    issuers: HashMap<String, Issuer>,
    clock: Clock,
}

struct Issuer {
    name: String,
    algorithms: Vec<Algorithm>,
    keys: Arc<dyn Keys>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The caller needs another token. `reason` is for the operator; before `signature_valid` it says nothing about any
    /// issuer's own doing, since anybody can write such a token.
    #[error("token refused: {reason}")]
    Invalid { reason: Reason, issuer: Option<String>, signature_valid: bool },
    /// The caller may try again: the issuer's keys could not be fetched.
    #[error("the keys of issuer `{issuer}` are not available")]
    IssuerUnavailable { issuer: String },
}

impl Identity {
    /// Checks the settings and reads key files; reports the problems of all issuers at once. Issuers that are discovered
    /// are asked later: by [`Identity::prefetch`] or by the first token.
    pub fn build(settings: Settings, clock: Clock) -> Result<Self, Vec<SetupError>> {
        let issuers = settings::issuers(&settings, &clock)?;
        Ok(Self { audience: settings.audience, issuers, clock })
    }

    /// Starts to fetch the keys of every issuer that has none yet and is due for an attempt. Returns at once; call it from
    /// within a runtime, at start and whenever readiness is asked for.
    pub fn prefetch(&self) {
        self.issuers.values().for_each(|issuer| issuer.keys.prefetch());
    }

    /// Each issuer's name, and whether its tokens can be verified now.
    pub fn readiness(&self) -> impl Iterator<Item = (&str, bool)> {
        self.issuers.values().map(|issuer| (issuer.name.as_str(), issuer.keys.is_ready()))
    }

    /// The order matters: what is cheap comes first, and a key is looked for only on behalf of a token that would be good
    /// if its signature were, so that nonsense cannot make us ask an issuer for keys.
    pub async fn verify(&self, token: &Secret) -> Result<Subject, IdentityError> {
        let unknown =
            |reason| IdentityError::Invalid { reason, issuer: None, signature_valid: false };
        let token = Unverified::parse(token.expose()).map_err(unknown)?;
        let iss = token.issuer().map_err(unknown)?;
        let (iss, issuer) =
            self.issuers.get_key_value(iss).ok_or_else(|| unknown(Reason::UnknownIssuer))?;
        let expected =
            Expected { issuer: iss, audience: &self.audience, now: self.clock.now().as_second() };

        let refuse = |reason, signature_valid| {
            let issuer = Some(issuer.name.clone());
            IdentityError::Invalid { reason, issuer, signature_valid }
        };
        claims::precheck(&token.payload, &expected).map_err(|reason| refuse(reason, false))?;
        let algorithm = token.algorithm.filter(|algorithm| issuer.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or_else(|| refuse(Reason::Algorithm, false))?;
        let key =
            issuer.keys.find(token.kid.as_deref()).await.map_err(|problem| match problem {
                NoKey::Unknown => refuse(Reason::UnknownKey, false),
                NoKey::Unnamed => refuse(Reason::UnnamedKey, false),
                NoKey::Unavailable => {
                    IdentityError::IssuerUnavailable { issuer: issuer.name.clone() }
                }
            })?;
        if !key.fits(algorithm) {
            return Err(refuse(Reason::KeyMismatch, false));
        }
        if !key.verifies(algorithm, token.signed, token.signature) {
            return Err(refuse(Reason::Signature, false));
        }
        // Fetching keys takes time: what was not expired before may be now.
        let expected = Expected { now: self.clock.now().as_second(), ..expected };
        let sub =
            claims::check(&token.payload, &expected).map_err(|reason| refuse(reason, true))?;
        Ok(Subject { issuer: issuer.name.clone(), sub, claims: token.payload })
    }
}

#[cfg(test)]
mod tests;
