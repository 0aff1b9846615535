//! The mints that wait for their turn, so that each caller can be told how long that takes.
//!
//! Its lock also makes starting a mint one step: its holder finds a flight or starts one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::key::MintKey;

/// The moment of each mint, by the broker's clock. Bounded by the flights that there are.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Mutex<HashMap<MintKey, Duration>>>);

pub(super) struct LockedQueue<'a>(MutexGuard<'a, HashMap<MintKey, Duration>>);

/// One mint that waits, until dropped.
pub(super) struct Queued {
    queue: Queue,
    key: MintKey,
}

impl Queue {
    pub(super) fn lock(&self) -> LockedQueue<'_> {
        LockedQueue(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LockedQueue<'_> {
    pub(super) fn moment(&self, key: &MintKey) -> Option<Duration> {
        self.0.get(key).copied()
    }

    pub(super) fn enter(&mut self, queue: &Queue, key: MintKey, moment: Duration) -> Queued {
        self.0.insert(key.clone(), moment);
        Queued { queue: queue.clone(), key }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queue.lock().0.remove(&self.key);
    }
}
