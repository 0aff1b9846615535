//! The epoch of a registry: a digest of everything that decides what its provider would issue.
//!
//! **Invariant:** a credential is never reused in another epoch than the one it was issued in. A
//! setting of a registry that changes what a credential opens must be added to [`Epoch::of`].

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::secrets::Secrets;
use crate::provider::Provider;
use crate::signing::Signing;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 32]);

impl Epoch {
    /// `keys` are the host's keys of the registry as JSON, with the ceiling, and `settings` have
    /// names in place of secrets. The values of the secrets count too: a registry with another
    /// account is another registry.
    pub(super) fn of(
        provider: &Provider,
        settings: &str,
        secrets: &Secrets,
        keys: &str,
        trust_provider: bool,
    ) -> Self {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        add(provider.digest.as_bytes());
        add(settings.as_bytes());
        add(keys.as_bytes());
        add(&[u8::from(trust_provider)]);
        for (name, secret) in secrets {
            add(name.as_bytes());
            add(secret.expose().as_bytes());
        }
        Self(digest.finalize().into())
    }

    /// The epoch of a registry whose provider has tokens signed: what a key has signed is worth
    /// nothing once verifiers have forgotten the key.
    pub(super) fn signed_by(self, signing: Option<&Arc<Signing>>) -> Self {
        let Some(signing) = signing else { return self };
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(signing.kid());
        digest.update(signing.issuer());
        Self(digest.finalize().into())
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The same on each broker with the same settings. Secrets are in it: it must not be stored or
    /// logged, because who has it can try out what they are.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of_test(number: u8) -> Self {
        Self([number; 32])
    }
}
