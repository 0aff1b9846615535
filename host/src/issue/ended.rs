//! Marks in the shared store for credentials that end before their time: no broker hands out a copy
//! of one that has a mark.
//!
//! `1`: a broker is about to end it, or tries. `2`: it has ended.
//!
//! **Invariant:** the mark is written before the credential ends (`shared_outstanding`). It stays
//! for as long as somebody could have a copy.

use std::sync::Arc;

use jiff::Timestamp;
use redis::Value;
use ulid::Ulid;

use crate::shared::{Script, Shared, StoreUnavailable, Use};

/// How long a mark outlives its credential, in milliseconds: the clocks of brokers differ.
const CLOCKS: i64 = 300_000;
/// The longest that a mark stays, in milliseconds. Redis has a largest number.
const LONGEST: i64 = 366 * 24 * 3_600_000;

/// Keys: the names of the mark under each key.
const IS_MARKED: &str = "return redis.call('EXISTS', unpack(KEYS))";

pub(super) struct EndedMarks {
    shared: Arc<Shared>,
}

impl EndedMarks {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// The names of the mark of one credential, for scripts. The first is the one to write.
    pub(super) fn names(&self, minted_by: Ulid) -> Vec<String> {
        self.shared.names("ended", &[&minted_by.to_bytes()])
    }

    /// For how long the mark of a credential that ends then must stay, in milliseconds.
    pub(super) fn stays(&self, ends: Timestamp) -> i64 {
        let now = self.shared.clock().now().as_millisecond();
        let left = ends.as_millisecond().saturating_sub(now).max(0);
        left.saturating_add(CLOCKS).min(LONGEST)
    }

    /// Whether the credential that was minted for this request ends or has ended.
    pub(super) async fn has(&self, minted_by: Ulid) -> Result<bool, StoreUnavailable> {
        let keys = self.names(minted_by);
        let script = Script { text: IS_MARKED, keys: &keys, arguments: &[] };
        let Value::Int(marks @ 0..) = self.shared.run(Use::Outstanding, script).await? else {
            return Err(self.shared.nonsense(Use::Outstanding));
        };
        Ok(marks > 0)
    }
}
