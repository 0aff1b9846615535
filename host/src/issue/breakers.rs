//! The breaker of each registry that serves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::breaker::Breaker;
use crate::domain::{Clock, RegistryName};
use crate::registries::{Epoch, Registries, Registry};
use crate::shared::Shared;

type BreakerKey = (RegistryName, Epoch);

/// A registry whose settings change starts with a closed breaker: they may have been the cause.
pub(super) struct Breakers {
    all: Mutex<HashMap<BreakerKey, Arc<Breaker>>>,
    /// Where brokers share what they find out.
    shared: Option<Arc<Shared>>,
}

impl Breakers {
    pub(super) fn new(shared: Option<&Arc<Shared>>) -> Self {
        Self { all: Mutex::default(), shared: shared.cloned() }
    }

    pub(super) fn of(&self, registry: &Registry, clock: &Clock) -> Arc<Breaker> {
        let make = || Arc::new(Breaker::new(registry, self.shared.as_ref(), clock.clone()));
        Arc::clone(self.all().entry(key(registry)).or_insert_with(make))
    }

    pub(super) fn find(&self, registry: &Registry) -> Option<Arc<Breaker>> {
        self.all().get(&key(registry)).cloned()
    }

    pub(super) fn keep_only(&self, registries: &Registries) {
        let serves = |key: &BreakerKey| {
            registries.find(&key.0).is_some_and(|registry| registry.epoch == key.1)
        };
        self.all().retain(|key, _| serves(key));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<BreakerKey, Arc<Breaker>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(registry: &Registry) -> BreakerKey {
    (registry.name.clone(), registry.epoch)
}
