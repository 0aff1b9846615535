//! Credentials that have ended, of which the store was not told yet: it did not answer.
//!
//! **Invariant:** other brokers may hand out a copy until it is told, so that is tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ulid::Ulid;

use super::{EndMark, MOST, SharedOutstanding, scripts};
use crate::shared::StoreUnavailable;

/// When each of them would have ended by itself. Copies of one more than [`MOST`] may be handed out
/// until then.
#[derive(Default)]
pub(super) struct Untold(Mutex<BTreeMap<Ulid, Timestamp>>);

impl SharedOutstanding {
    /// It has ended. If the store does not answer, it is told later.
    pub(in crate::issue) async fn finish(&self, id: Ulid, ends: Timestamp) {
        if self.tell_ended(id, ends).await.is_err() {
            let mut untold = self.untold.lock();
            if untold.len() < MOST {
                untold.insert(id, ends);
            }
        }
    }

    /// Tells the store what it has missed.
    pub(in crate::issue) async fn finish_untold(&self) -> Result<(), StoreUnavailable> {
        loop {
            let next = self.untold.lock().first_key_value().map(|(id, ends)| (*id, *ends));
            let Some((id, ends)) = next else { return Ok(()) };
            self.tell_ended(id, ends).await?;
            self.untold.lock().remove(&id);
        }
    }

    /// Whether it has ended, and the store has it as before.
    pub(super) fn is_untold(&self, id: Ulid) -> bool {
        self.untold.lock().contains_key(&id)
    }

    async fn tell_ended(&self, id: Ulid, ends: Timestamp) -> Result<(), StoreUnavailable> {
        let marks = self.marks();
        let call = self.call().keys(marks.names(id)).keys(self.names(id)).number(marks.stays(ends));
        let call = call.argument(marks.value(id, EndMark::Ended));
        self.word(scripts::FINISH, call).await.map(drop)
    }
}

impl Untold {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ulid, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
