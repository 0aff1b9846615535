//! Marks in the shared store for credentials that end before their time: no broker hands out a copy
//! of one that has a mark, whatever the mark says.
//!
//! **Invariant:** the mark is written before the credential ends (`shared_outstanding`). It stays
//! for as long as somebody could have a copy.
//! **Invariant:** a mark is a digest of the credential and of what it says, with a key that the
//! store does not have. Only a mark that a broker has written lets another one forget a credential.

use std::sync::Arc;

use jiff::Timestamp;
use redis::Value;
use ulid::Ulid;

use crate::shared::{Script, Shared, StoreUnavailable, Use};

/// How long a mark outlives its credential, in milliseconds: the clocks of brokers differ.
const CLOCKS: i64 = 300_000;
/// The longest that a mark stays, in milliseconds. Redis has a largest number.
const LONGEST: i64 = 366 * 24 * 3_600_000;

/// Keys: the names of the mark under each key. Returns the marks.
const MARKS: &str = "
local found = {}
for _, key in ipairs(KEYS) do found[#found + 1] = redis.call('GET', key) or nil end
return found";

pub(super) struct EndedMarks {
    shared: Arc<Shared>,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndMark {
    /// A broker is about to end it, or tries.
    Ending,
    Ended,
}

impl EndedMarks {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// The names of the mark of one credential, for scripts. The first is the one to write.
    pub(super) fn names(&self, minted_by: Ulid) -> Vec<String> {
        self.shared.names("ended", &[&minted_by.to_bytes()])
    }

    /// The mark to write.
    pub(super) fn value(&self, minted_by: Ulid, mark: EndMark) -> String {
        self.values(minted_by, mark).into_iter().next().unwrap_or_default()
    }

    /// What the marks say that were found for this credential. One that no broker has written for
    /// it says nothing, and is counted.
    pub(super) fn read<'a>(
        &self,
        minted_by: Ulid,
        found: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<EndMark> {
        let [ended, ending] = [EndMark::Ended, EndMark::Ending].map(|mark| {
            let values = self.values(minted_by, mark);
            move |found: &[u8]| values.iter().any(|value| value.as_bytes() == found)
        });
        let mut says = None;
        for found in found {
            if ended(found) {
                return Some(EndMark::Ended);
            } else if ending(found) {
                says = Some(EndMark::Ending);
            } else {
                self.shared.count_unreadable(Use::Outstanding);
            }
        }
        says
    }

    /// For how long the mark of a credential that ends then must stay, in milliseconds.
    pub(super) fn stays(&self, ends: Timestamp) -> i64 {
        let now = self.shared.clock().now().as_millisecond();
        let left = ends.as_millisecond().saturating_sub(now).max(0);
        left.saturating_add(CLOCKS).min(LONGEST)
    }

    /// What the mark of the credential says that was minted for this request, if it has one.
    pub(super) async fn find(&self, minted_by: Ulid) -> Result<Option<EndMark>, StoreUnavailable> {
        let keys = self.names(minted_by);
        let script = Script { text: MARKS, keys: &keys, arguments: &[] };
        let nonsense = || self.shared.nonsense(Use::Outstanding);
        let Value::Array(found) = self.shared.run(Use::Outstanding, script).await? else {
            return Err(nonsense());
        };
        let bytes = |value| if let Value::BulkString(bytes) = value { Some(bytes) } else { None };
        let found: Option<Vec<_>> = found.into_iter().map(bytes).collect();
        let found = found.ok_or_else(nonsense)?;
        Ok(self.read(minted_by, found.iter().map(Vec::as_slice)))
    }

    fn values(&self, minted_by: Ulid, mark: EndMark) -> Vec<String> {
        let word: &[u8] = match mark {
            EndMark::Ending => b"ending",
            EndMark::Ended => b"ended",
        };
        self.shared.digests("mark", &[&minted_by.to_bytes(), word])
    }
}
