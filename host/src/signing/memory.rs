//! Opens the file of the signing keys for each generation.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::Signing;
use crate::config::SigningConfig;
use crate::keys::{KeyFileError, KeySet};

/// Lives as long as the process: a file that it has opened must not be made anew, because
/// registries and clouds would reject what new keys sign.
#[derive(Default)]
pub struct SigningMemory {
    opened: Mutex<BTreeSet<PathBuf>>,
    only_reads: bool,
}

impl SigningMemory {
    /// With `only_reads`, missing keys are not created.
    pub fn new(only_reads: bool) -> Self {
        Self { only_reads, ..Self::default() }
    }

    pub(crate) fn open(
        &self,
        config: &SigningConfig,
        now: Timestamp,
    ) -> Result<Signing, KeyFileError> {
        let path = &config.key_file;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = if self.only_reads {
            let Some(keys) = KeySet::open(path)? else {
                let keys = KeySet::pretend(path, config.kind, now)?;
                return Ok(Signing::pretended(config, keys));
            };
            keys
        } else if opened.contains(path) {
            KeySet::open(path)?.ok_or_else(|| KeyFileError::Gone { path: path.clone() })?
        } else {
            KeySet::open_or_create(path, config.kind, now)?
        };
        opened.insert(path.clone());
        Ok(Signing::new(config, keys))
    }
}
