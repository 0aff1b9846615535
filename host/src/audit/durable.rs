//! The end of what is durable, for those who read the log while it is written.

use tokio::sync::watch;
use ulid::Ulid;

use super::chain::Position;
use super::disk::segment_number;
use super::record::Resumes;

/// The last durable record, and the place behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    pub chain: Ulid,
    /// 0: this process has written nothing yet.
    pub seq: u64,
    /// The number of the segment that is written.
    pub segment: u64,
    /// What lies behind this many bytes of it may never become durable.
    pub bytes: u64,
}

/// Tells readers how far the log is durable.
pub(super) struct Publisher(watch::Sender<Durable>);

impl Default for Publisher {
    fn default() -> Self {
        Self(watch::Sender::new(Durable::default()))
    }
}

impl Publisher {
    pub(super) fn subscribe(&self) -> watch::Receiver<Durable> {
        self.0.subscribe()
    }

    pub(super) fn publish(&self, tail: &Position, end: &Resumes) {
        let segment = segment_number(&end.segment).unwrap_or(0);
        let durable = Durable { chain: tail.chain, seq: tail.seq, segment, bytes: end.bytes };
        self.0.send_replace(durable);
    }
}
