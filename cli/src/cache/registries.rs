//! Which registries the broker has, so that a helper knows at once whose a host is. No secrets here.

use serde::{Deserialize, Serialize};

use super::{Cache, CacheKey, VERSION};
use crate::broker::Registry;
use crate::files;

const LONGEST: u64 = 1024 * 1024;
/// Seconds. Registries are added a few times a year.
const FRESH: u64 = 600;

#[derive(Deserialize, Serialize)]
struct RegistriesEntry {
    version: u8,
    obtained_at: u64,
    registries: Vec<Registry>,
}

impl Cache {
    /// `None`: nothing is known, or not for sure any more.
    pub(crate) fn registries(&self, key: &CacheKey, now: u64) -> Option<Vec<Registry>> {
        let text = files::read_private(&self.path(key, "list")?, LONGEST).ok()??;
        let entry: RegistriesEntry = serde_json::from_str(&text).ok()?;
        let fresh = entry.obtained_at <= now && now < entry.obtained_at.saturating_add(FRESH);
        (entry.version == VERSION && fresh).then_some(entry.registries)
    }

    /// If it cannot be kept, the next run asks again: what that would be said of is the credential's own complaint.
    pub(crate) fn store_registries(&self, key: &CacheKey, registries: &[Registry], now: u64) {
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
