//! A token becomes a [`Subject`], or is refused.
//!
//! Not here: what a subject may do (`rules`), how many tokens may be tried (`limits`).
//!
//! To trust another kind of issuer: a variant of [`KeyOrigin`] and an adapter of [`jwks::Keys`]. To know another service's
//! tokens by name: a [`Preset`]. To check something else: `checks.rs`.
//!
//! **Invariant:** a token's `iss` is looked up in a map and never fetched; its header never brings a key.
//! **Invariant:** only asymmetric algorithms exist here ([`Algorithm`] has no others), so that a public key is never taken
//! for a shared secret.
//! **Invariant:** building an [`Identity`] needs no network. An issuer that is down makes its own callers wait, nobody else.

mod algorithm;
mod bounds;
mod checks;
mod claims;
mod explain;
mod issuers;
pub(crate) mod json;
pub mod jwks;
pub mod jwt;
pub mod local;
mod memory;
mod policy;
mod preset;
mod reason;
mod replay;
mod settings;
#[cfg(test)]
mod testing;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use explain::{Explanation, Finding, KeyAccess, Verdict, shown};
pub use issuers::SetupError;
pub use json::InvalidJson;
pub use local::{LocalIssuer, MintError, TokenRequest};
pub use memory::IssuerMemory;
pub use policy::{Replay, TokenPolicy};
pub use preset::Preset;
pub use reason::Reason;
pub use replay::{Replayed, Reservation};
pub use settings::{DiscoverySettings, IdentitySettings, IssuerSettings, KeyOrigin};

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Clock, Secret, Subject};
use checks::{AFTER_SIGNATURE, BEFORE_SIGNATURE, Check, Facts};
use issuers::Issuer;
use jwks::{Fetches, Key, NoKey};
use jwt::Unverified;

/// Everything that can verify a token.
pub struct Identity {
    audience: String,
    /// By the exact text of `iss`.
    issuers: HashMap<String, Issuer>,
    clock: Clock,
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
    /// are asked later: by [`Identity::prefetch`] or by the first token. Keys and used tokens that `memory` has of the
    /// same issuers are taken over.
    pub fn build(
        settings: IdentitySettings,
        memory: &IssuerMemory,
        clock: Clock,
    ) -> Result<Self, Vec<SetupError>> {
        let issuers = issuers::build(&settings, memory, &clock)?;
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

    /// Each issuer whose keys are fetched, and how that has gone.
    pub fn fetched(&self) -> impl Iterator<Item = (&str, Fetches)> {
        self.issuers
            .values()
            .filter_map(|issuer| Some((issuer.name.as_str(), issuer.keys.fetched()?)))
    }

    /// The order matters: what is cheap comes first, and a key is looked for only on behalf of a token that would be good
    /// if its signature were, so that nonsense cannot make us ask an issuer for keys.
    pub async fn verify(&self, token: &Secret) -> Result<Subject, IdentityError> {
        let unknown =
            |reason| IdentityError::Invalid { reason, issuer: None, signature_valid: false };
        let token = Unverified::parse(token.expose()).map_err(unknown)?;
        let (iss, issuer) = self.issuer_of(&token).map_err(unknown)?;
        let refuse = |reason, signature_valid| {
            let issuer = Some(issuer.name.clone());
            IdentityError::Invalid { reason, issuer, signature_valid }
        };
        let walk = |checks: &[Check]| {
            let facts = self.facts(&token, iss, issuer);
            checks.iter().try_for_each(|check| (check.holds)(&facts))
        };
        walk(&BEFORE_SIGNATURE).map_err(|reason| refuse(reason, false))?;
        let key = issuer.key(&token).await.map_err(|problem| match problem {
            Some(reason) => refuse(reason, false),
            None => IdentityError::IssuerUnavailable { issuer: issuer.name.clone() },
        })?;
        token
            .jws
            .verify(&issuer.policy.algorithms, &key)
            .map_err(|reason| refuse(reason, false))?;
        walk(&AFTER_SIGNATURE).map_err(|reason| refuse(reason, true))?;
        let sub = claims::subject(&token.claims).map_err(|reason| refuse(reason, true))?.to_owned();
        Ok(Subject { issuer: issuer.name.clone(), sub, claims: token.claims })
    }

    /// Sees that the token has not been used, if its issuer's may be used once only, and keeps anybody else from using it.
    /// To be called when all is granted; what is reserved is free again unless it is committed.
    pub fn reserve(&self, subject: &Subject) -> Result<Reservation, Replayed> {
        let issuer = self.issuers.values().find(|issuer| issuer.name == subject.issuer);
        match issuer.and_then(|issuer| issuer.used.as_ref()) {
            Some(used) => used.reserve(&subject.claims, self.clock.now()),
            None => Ok(Reservation::free()),
        }
    }

    fn issuer_of(&self, token: &Unverified<'_>) -> Result<(&str, &Issuer), Reason> {
        let found = self.issuers.get_key_value(token.issuer()?).ok_or(Reason::UnknownIssuer)?;
        Ok((found.0, found.1))
    }

    /// With the time of now.
    fn facts<'a>(
        &'a self,
        token: &'a Unverified<'_>,
        iss: &'a str,
        issuer: &'a Issuer,
    ) -> Facts<'a> {
        Facts {
            header: &token.jws.header,
            claims: &token.claims,
            policy: &issuer.policy,
            issuer: iss,
            audience: &self.audience,
            now: self.clock.now().as_second(),
        }
    }
}

impl Issuer {
    /// `None`: it cannot be known now.
    async fn key(&self, token: &Unverified<'_>) -> Result<Arc<Key>, Option<Reason>> {
        self.keys.find(token.jws.header.kid.as_deref()).await.map_err(|problem| match problem {
            NoKey::Unknown => Some(Reason::UnknownKey),
            NoKey::Unnamed => Some(Reason::UnnamedKey),
            NoKey::Unavailable => None,
        })
    }
}

#[cfg(test)]
mod tests;
