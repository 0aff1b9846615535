//! When each registry is asked for leftovers, and how many it had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::config::LeftoverPolicy;
use crate::domain::RegistryName;
use crate::registries::{Registries, Registry};

/// Between two searches. A leftover is hours old when it counts as one.
const PAUSE: SignedDuration = SignedDuration::from_hours(4);
/// After a search that failed or left something that should end. It is longer than a search.
const SHORT_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// One entry for each registry of the settings that is searched.
#[derive(Default)]
pub(in crate::issue) struct LeftoverSearches(Mutex<BTreeMap<RegistryName, Search>>);

#[derive(Default)]
struct Search {
    next: Timestamp,
    /// `None`: nobody knows.
    found: Option<usize>,
}

impl LeftoverSearches {
    /// The registries whose turn it is. If nothing comes of it, their next turn is soon.
    pub(super) fn start_due(&self, registries: &Registries, now: Timestamp) -> Vec<Arc<Registry>> {
        let is_searched = |registry: &&Arc<Registry>| {
            registry.finds_leftovers() && registry.leftovers != LeftoverPolicy::Off
        };
        let mut searches = self.lock();
        searches.retain(|name, _| registries.find(name).as_ref().is_some_and(is_searched));
        let mut due = Vec::new();
        for registry in registries.iter().filter(is_searched) {
            let search = searches.entry(registry.name.clone()).or_default();
            if search.next <= now {
                search.next = later(now, SHORT_PAUSE);
                due.push(Arc::clone(registry));
            }
        }
        due
    }

    /// The registry has so many leftovers now.
    pub(super) fn has(&self, registry: &Registry, found: Option<usize>, now: Timestamp) {
        let mut searches = self.lock();
        // A command may search a registry that is `off`, which has no entry.
        let Some(search) = searches.get_mut(&registry.name) else { return };
        let is_done = registry.leftovers != LeftoverPolicy::End || found.unwrap_or_default() == 0;
        search.found = found;
        search.next = later(now, if is_done { PAUSE } else { SHORT_PAUSE });
    }

    pub(super) fn found(&self, name: &RegistryName) -> Option<usize> {
        self.lock().get(name)?.found
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RegistryName, Search>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(now)
}
