//! The cached list of the broker's registries, by which a helper recognizes their hosts without a
//! request. It contains no secrets.

use serde::{Deserialize, Serialize};

use super::{Cache, CacheKey, VERSION};
use crate::broker::ListedRegistry;
use crate::files;

const LONGEST: u64 = 1024 * 1024;
/// Seconds for which the list is used. Registries are added a few times a year.
const FRESH: u64 = 600;

#[derive(Deserialize, Serialize)]
struct RegistriesEntry {
    version: u8,
    obtained_at: u64,
    registries: Vec<ListedRegistry>,
}

impl Cache {
    /// Returns `None` if there is no list or if it is too old.
    pub(crate) fn registries(&self, key: &CacheKey, now: u64) -> Option<Vec<ListedRegistry>> {
        let entry = self.registries_entry(key)?;
        let fresh = entry.obtained_at <= now && now < entry.obtained_at.saturating_add(FRESH);
        fresh.then_some(entry.registries)
    }

    /// The last list, however old it is. A host on it was the broker's once.
    pub(crate) fn last_registries(&self, key: &CacheKey) -> Option<Vec<ListedRegistry>> {
        self.registries_entry(key).map(|entry| entry.registries)
    }

    fn registries_entry(&self, key: &CacheKey) -> Option<RegistriesEntry> {
        let text = files::read_private(&self.path(key, "list")?, LONGEST).ok()??;
        let entry: RegistriesEntry = serde_json::from_str(&text).ok()?;
        (entry.version == VERSION).then_some(entry)
    }

    /// Errors are ignored: the next run asks again, and storing the credential itself reports an
    /// unusable cache.
    pub(crate) fn store_registries(&self, key: &CacheKey, registries: &[ListedRegistry], now: u64) {
        let entry =
            RegistriesEntry { version: VERSION, obtained_at: now, registries: registries.to_vec() };
        if let Some(directory) = self.directory()
            && files::private_directory(directory).is_ok()
            && let Some(path) = self.path(key, "list")
        {
            let _ = files::write_private(&path, &serde_json::to_string(&entry).unwrap_or_default());
        }
    }
}
