//! Verifies tokens: a token becomes a [`Subject`], or it is rejected.
//!
//! What a subject may do is decided in `rules`, how many tokens it may try in `limits`.
//!
//! `settings`, `policy`, `preset` and `algorithm` are plain values that `config` fills in;
//! `issuers` checks them. `jwt` parses a token, `checks` and `claims` say what it must contain,
//! `jwks` finds the key, `replay` keeps single-use tokens from being used again. `explain` reports
//! every check.
//!
//! To trust another kind of issuer, add a variant of [`KeyOrigin`] and an adapter of
//! [`jwks::Keys`]. To support another service by name, add a [`Preset`]. To add a check, see
//! `checks.rs`.
//!
//! **Invariant:** `iss` is looked up in a map and never fetched, and the token's header never
//! supplies a key.
//! **Invariant:** [`Algorithm`] has only asymmetric algorithms, so that a public key can never be
//! used as a shared secret.
//! **Invariant:** building an [`Identity`] needs no network. An issuer that is down delays its own
//! callers only.

mod algorithm;
mod bounds;
mod checks;
mod claims;
mod doubts;
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
mod rejection;
mod replay;
mod settings;
#[cfg(test)]
mod testing;

pub use algorithm::Algorithm;
pub(crate) use explain::{Explanation, KeyAccess, TokenFinding, Verdict};
pub(crate) use issuers::SetupError;
pub use json::InvalidJson;
pub use local::LocalIssuer;
pub use memory::IssuerMemory;
pub(crate) use policy::{Replay, TokenPolicy};
pub(crate) use preset::Preset;
pub use reason::Reason;
pub use rejection::Rejection;
pub(crate) use rejection::shown;
pub use replay::{Replayed, Reservation};
pub use settings::IdentitySettings;
pub(crate) use settings::{DiscoverySettings, IssuerSettings, KeyOrigin};

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Clock, Secret, Subject};
use checks::{AFTER_SIGNATURE, BEFORE_SIGNATURE, Check, Facts};
use issuers::Issuer;
use jwks::{Fetches, IssuerKey, NoKey};
use jwt::Unverified;

/// Verifies tokens of every configured issuer.
pub struct Identity {
    /// By the exact text of `iss`.
    issuers: HashMap<String, Issuer>,
    clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The caller needs another token.
    #[error("token rejected: {0}")]
    Invalid(Box<Rejection>),
    /// The issuer's keys could not be fetched. The caller may try again.
    #[error("the keys of issuer `{issuer}` are not available")]
    IssuerUnavailable { issuer: String },
}

impl Identity {
    /// Checks the settings and reads key files. All problems of all issuers are reported together.
    /// Keys that come over the network are fetched later, by [`Identity::prefetch`] or on behalf of
    /// the first token. `memory` provides the fetched keys and used tokens of earlier generations.
    pub(crate) fn build(
        settings: &IdentitySettings,
        memory: &IssuerMemory,
        clock: Clock,
    ) -> Result<Self, Vec<SetupError>> {
        let issuers = issuers::build(settings, memory, &clock)?;
        Ok(Self { issuers, clock })
    }

    /// Starts to fetch the keys of every issuer that has none and may be asked again. Returns at
    /// once. Call it within a Tokio runtime.
    pub(crate) fn prefetch(&self) {
        self.issuers.values().for_each(|issuer| issuer.keys.prefetch());
    }

    /// The name of each issuer, and whether its tokens can be verified now.
    pub(crate) fn readiness(&self) -> impl Iterator<Item = (&str, bool)> {
        self.issuers.values().map(|issuer| (issuer.name.as_str(), issuer.keys.is_ready()))
    }

    /// The name of each issuer whose keys are fetched, and how the fetches went.
    pub(crate) fn fetched(&self) -> impl Iterator<Item = (&str, Fetches)> {
        self.issuers
            .values()
            .filter_map(|issuer| Some((issuer.name.as_str(), issuer.keys.fetched()?)))
    }

    /// Verifies a token. Cheap checks run first, and a key is looked up only for a token that
    /// passes them: an invalid token cannot cause a request to its issuer.
    pub(crate) async fn verify(&self, token: &Secret) -> Result<Subject, IdentityError> {
        let invalid = |rejection| IdentityError::Invalid(Box::new(rejection));
        let text = token.expose();
        let token = Unverified::parse(text)
            .map_err(|reason| invalid(Rejection::unreadable(reason, text.len())))?;
        let (iss, issuer) = self.issuer_of(&token).map_err(|reason| {
            invalid(Rejection::of(reason, &token).comparing(self.known_issuers(&token)))
        })?;
        let refuse = |reason| invalid(Rejection::of(reason, &token).of_issuer(&issuer.name));
        let walk = |checks: &[Check], signature_valid| {
            let facts = self.facts(&token, iss, issuer);
            checks.iter().try_for_each(|check| {
                (check.holds)(&facts).map_err(|reason| {
                    let rejection = Rejection::of(reason, &token).of_issuer(&issuer.name);
                    let rejection = rejection.comparing((check.shows)(&facts));
                    invalid(Rejection { signature_valid, ..rejection })
                })
            })
        };
        walk(&BEFORE_SIGNATURE, false)?;
        let key = issuer.key(&token).await.map_err(|problem| match problem {
            Some(reason) => refuse(reason),
            None => IdentityError::IssuerUnavailable { issuer: issuer.name.clone() },
        })?;
        token.jws.verify(&issuer.policy.algorithms, &key).map_err(refuse)?;
        walk(&AFTER_SIGNATURE, true)?;
        let sub = claims::subject(&token.claims).map_err(refuse)?.to_owned();
        Ok(Subject { issuer: issuer.name.clone(), sub, claims: token.claims })
    }

    /// Reserves the subject's token, if tokens of its issuer can be used only once: nobody else can
    /// use it meanwhile. Call it when everything is granted. Unless it is committed, the token can
    /// be used again.
    pub(crate) async fn reserve(&self, subject: &Subject) -> Result<Reservation, Replayed> {
        let issuer = self.issuers.values().find(|issuer| issuer.name == subject.issuer);
        match issuer.and_then(|issuer| issuer.used.as_ref()) {
            Some(used) => used.reserve(&subject.claims, &self.clock).await,
            None => Ok(Reservation::unlimited()),
        }
    }

    fn issuer_of(&self, token: &Unverified<'_>) -> Result<(&str, &Issuer), Reason> {
        let found = self.issuers.get_key_value(token.issuer()?).ok_or(Reason::UnknownIssuer)?;
        Ok((found.0, found.1))
    }

    /// The `iss` of every issuer, and that of the token.
    fn known_issuers(&self, token: &Unverified<'_>) -> (String, String) {
        let mut known: Vec<&str> = self.issuers.keys().map(String::as_str).collect();
        known.sort_unstable();
        let found = token.claims.get("iss").map_or("none".to_owned(), ToString::to_string);
        (known.join(" or "), found)
    }

    /// What the checks look at, as of now.
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
            audience: &issuer.audience,
            now: self.clock.now().as_second(),
        }
    }
}

impl Issuer {
    /// The key of the token, or why it is rejected. `Err(None)`: the keys are not available now.
    async fn key(&self, token: &Unverified<'_>) -> Result<Arc<IssuerKey>, Option<Reason>> {
        self.keys.find(token.jws.header.kid.as_deref()).await.map_err(|problem| match problem {
            NoKey::Unknown => Some(Reason::UnknownKey),
            NoKey::Unnamed => Some(Reason::UnnamedKey),
            NoKey::Unavailable => None,
        })
    }
}

#[cfg(test)]
mod tests;
