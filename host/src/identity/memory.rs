//! What identity remembers from one generation of the settings to the next: fetched keys and used
//! tokens.
//!
//! The generations own both. The memory finds them again, and forgets what no generation uses. An
//! issuer that is removed and added again starts anew: tokens that it issued before are rejected
//! (`replay.rs`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;

use super::jwks::{self, Keys};
use super::local::LocalIssuer;
use super::replay::{SharedTokens, UsedTokens};
use super::settings::DiscoverySettings;
use crate::keys::KeyFileError;
use crate::shared::Shared;
use crate::survivors::Survivors;

/// Lives as long as the process. [`super::Identity::build`] reads and fills it.
#[derive(Default)]
pub struct IssuerMemory {
    keys: Survivors<KeysId, dyn Keys>,
    used: Survivors<IssuerId, UsedTokens>,
    /// The key files of the built-in issuer that this process has opened.
    opened: Mutex<BTreeSet<PathBuf>>,
    only_reads: bool,
    /// Where used tokens are remembered for several brokers.
    shared: OnceLock<Arc<Shared>>,
}

/// Fetched keys are kept only if all of this stays the same.
#[derive(PartialEq, Eq)]
struct KeysId {
    name: String,
    settings: DiscoverySettings,
    /// The content of `ca_file`.
    authorities: Option<Vec<u8>>,
}

/// Used tokens are remembered only if all of this stays the same.
#[derive(PartialEq, Eq)]
struct IssuerId {
    name: String,
    iss: String,
}

impl IssuerMemory {
    /// With `only_reads`, a missing key of the built-in issuer is not created.
    pub fn new(only_reads: bool) -> Self {
        Self { only_reads, ..Self::default() }
    }

    /// From now on used tokens are remembered for several brokers.
    pub(crate) fn share(&self, shared: &Arc<Shared>) {
        // The first one stays: `[shared]` is read at start only.
        let _ = self.shared.set(Arc::clone(shared));
    }

    /// The keys that a living generation fetches from the same place, or else those of `make`.
    pub(super) fn keys(
        &self,
        name: &str,
        settings: &DiscoverySettings,
        make: impl FnOnce() -> Result<Arc<dyn Keys>, String>,
    ) -> Result<Arc<dyn Keys>, String> {
        let authorities = settings
            .ca_file
            .as_deref()
            .map(|path| jwks::read_authorities(path).unwrap_or_default());
        let id = KeysId { name: name.to_owned(), settings: settings.clone(), authorities };
        if let Some(keys) = self.keys.find(&id) {
            return Ok(keys);
        }
        let keys = make()?;
        self.keys.remember(id, &keys);
        Ok(keys)
    }

    /// The built-in issuer. Its key is created the first time. A key that this process has used and
    /// that is gone is an error: a new one would reject every token that was issued before.
    pub(super) fn local(&self, key_file: &Path) -> Result<LocalIssuer, KeyFileError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let issuer = if opened.contains(key_file) {
            LocalIssuer::open(key_file)?
        } else if self.only_reads {
            LocalIssuer::open_or_pretend(key_file)?
        } else {
            LocalIssuer::open_or_create(key_file)?
        };
        opened.insert(key_file.to_owned());
        Ok(issuer)
    }

    /// The used tokens of the issuer, or an empty set if no living generation keeps one.
    pub(super) fn used_tokens(&self, name: &str, iss: &str, now: Timestamp) -> Arc<UsedTokens> {
        let id = IssuerId { name: name.to_owned(), iss: iss.to_owned() };
        self.used.find_or_make(id, |id| {
            let shared = self.shared.get().map(|shared| SharedTokens::new(shared, &id.iss));
            UsedTokens::new(now, shared)
        })
    }
}
