//! Whose turn it is to compute. Calls that compute for longer than a tick take turns among those of their provider, so that
//! one provider keeps half of the processors busy at most, and others' calls find the rest free.
//!
//! **Invariant:** nobody waits for an upstream while it is their turn: [`Turn::give_back`] comes before each import that waits, and
//! before no other, of which there may be any number.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one provider.
#[derive(Clone)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }
}

impl Turns {
    /// For one call, which has no place yet.
    pub(super) fn turn(&self) -> Turn {
        Turn { places: Arc::clone(&self.0), held: Arc::default() }
    }
}

/// The place of one call, while it has one.
#[derive(Clone)]
pub struct Turn {
    places: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Turn {
    pub fn give_back(&self) {
        self.hold(None);
    }

    /// Behind everybody who waits already.
    pub(super) async fn take(self) {
        self.give_back();
        // tokio's own way to yield: it looks at sockets and timers before it comes back.
        tokio::task::yield_now().await;
        let place = Arc::clone(&self.places).acquire_owned().await;
        self.hold(place.ok());
    }

    fn hold(&self, place: Option<OwnedSemaphorePermit>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_an_upstream_leaves_the_place_to_the_next() {
        let turns = Turns(Arc::new(Semaphore::new(1)));
        let (first, second) = (turns.turn(), turns.turn());
        first.clone().take().await;
        let mut waiting = std::pin::pin!(second.clone().take());
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, &mut waiting).await.is_err(), "there is one place");
        first.give_back();
        waiting.await;
        assert_eq!(turns.0.available_permits(), 0);
        drop(second);
        assert_eq!(turns.0.available_permits(), 1, "a call that ends leaves its place");
    }
}
