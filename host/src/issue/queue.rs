//! The mints that wait for their turn, so that each caller can be told how long that takes.
//!
//! Its lock also makes starting a mint one step: its holder finds a flight or starts one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::key::MintKey;

/// The moment of each mint. Bounded by the flights that there are.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Mutex<Moments>>);

/// By the broker's clock; `None` until the mint has taken its turn.
type Moments = HashMap<MintKey, watch::Receiver<Option<Duration>>>;

pub(super) struct LockedQueue<'a>(MutexGuard<'a, Moments>);

/// One mint that waits, until dropped.
pub(super) struct Queued {
    queue: Queue,
    key: MintKey,
    moment: watch::Sender<Option<Duration>>,
}

impl Queue {
    pub(super) fn lock(&self) -> LockedQueue<'_> {
        LockedQueue(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LockedQueue<'_> {
    pub(super) fn moment(&self, key: &MintKey) -> Option<watch::Receiver<Option<Duration>>> {
        self.0.get(key).cloned()
    }

    pub(super) fn enter(&mut self, queue: &Queue, key: MintKey) -> Queued {
        let (moment, waits) = watch::channel(None);
        self.0.insert(key.clone(), waits);
        Queued { queue: queue.clone(), key, moment }
    }
}

impl Queued {
    /// The mint has taken its turn.
    pub(super) fn until(&self, moment: Duration) {
        self.moment.send_replace(Some(moment));
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queue.lock().0.remove(&self.key);
    }
}
