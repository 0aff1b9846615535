//! The credentials that are kept, in memory only and bounded by number and bytes.
//!
//! **Invariant:** a credential of an epoch that does not serve any more is neither kept nor found.
//! **Invariant:** nor is one of a project whose repository was retired.
//! **Invariant:** a secret that leaves the cache is wiped with the last answer that uses it.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use ulid::Ulid;

use super::key::CredentialKey;
use super::minted::Minted;
use super::tenure::Place;
use crate::config::CacheConfig;
use crate::domain::{Project, RegistryName};
use crate::registries::Epoch;

pub(super) struct CredentialCache {
    kept: Cache<CredentialKey, Arc<Minted>>,
    /// The epochs of the registries that serve.
    serving: RwLock<HashSet<Epoch>>,
    /// Projects whose repository was retired a moment ago.
    retired: Cache<Place, ()>,
}

/// Longer than a mint takes that began before its project was retired.
const RETIRED: Duration = Duration::from_mins(5);
/// How many of them are known. One more than these costs a login that is kept too long.
const MOST_RETIRED: u64 = 10_000;

/// How full the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheUse {
    pub entries: u64,
    pub bytes: u64,
}

/// Ends entries when nobody can use them any more. Whether one may be used is decided by the
/// broker's clock each time.
struct Useful;

impl CredentialCache {
    pub(super) fn new(config: CacheConfig) -> Self {
        // Only one bound is known to the map. An entry weighs at least its share of the bytes, so
        // that there are never more entries than there may be.
        let least = config.bytes / u64::from(config.entries.max(1));
        let weigh = move |_: &CredentialKey, minted: &Arc<Minted>| {
            let bytes = u64::try_from(minted.bytes()).unwrap_or(u64::MAX);
            u32::try_from(bytes.max(least)).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Useful)
            .build();
        let retired = Cache::builder().max_capacity(MOST_RETIRED).time_to_live(RETIRED).build();
        Self { kept, serving: RwLock::default(), retired }
    }

    pub(super) fn find(&self, key: &CredentialKey) -> Option<Arc<Minted>> {
        if key.is_shared() { self.kept.get(key) } else { None }
    }

    pub(super) fn keep(&self, key: CredentialKey, minted: Arc<Minted>) {
        let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
        // The lock is held: a reload that comes now forgets what is kept here.
        let is_retired = self.retired.contains_key(&key.place());
        if key.is_shared() && serving.contains(&key.epoch()) && !is_retired {
            self.kept.insert(key, minted);
        }
    }

    /// Forgets the credential that was minted for this request, which is about to end.
    pub(super) fn forget(&self, key: &CredentialKey, minted_by: Ulid) {
        if self.kept.get(key).is_some_and(|minted| minted.by == minted_by) {
            self.kept.invalidate(key);
        }
    }

    /// Forgets the credentials of a project whose repository is not its own any more, and for a
    /// while keeps no new ones: a mint under way may have looked at the repository before.
    pub(super) fn retire(&self, registry: &RegistryName, project: &Project) {
        let place = (registry.clone(), project.clone());
        let mints = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        self.retired.insert(place.clone(), ());
        drop(mints);
        for (key, _) in &self.kept {
            if key.place() == place {
                self.kept.invalidate(&*key);
            }
        }
        self.sweep();
    }

    /// Forgets every credential of another epoch, and keeps none from now on.
    pub(super) fn keep_only(&self, epochs: HashSet<Epoch>) {
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in &self.kept {
            if !epochs.contains(&key.epoch()) {
                self.kept.invalidate(&*key);
            }
        }
        *serving = epochs;
        drop(serving);
        self.sweep();
    }

    /// Drops what has expired or was forgotten. Otherwise that happens with the next requests.
    pub(super) fn sweep(&self) {
        self.kept.run_pending_tasks();
    }

    pub(super) fn used(&self) -> CacheUse {
        let mut used = CacheUse { entries: 0, bytes: 0 };
        for (_, minted) in &self.kept {
            used.entries += 1;
            used.bytes += u64::try_from(minted.bytes()).unwrap_or(u64::MAX);
        }
        used
    }
}

impl Expiry<CredentialKey, Arc<Minted>> for Useful {
    fn expire_after_create(
        &self,
        _: &CredentialKey,
        minted: &Arc<Minted>,
        _: Instant,
    ) -> Option<Duration> {
        Some(minted.useful())
    }

    fn expire_after_update(
        &self,
        _: &CredentialKey,
        minted: &Arc<Minted>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(minted.useful())
    }
}
