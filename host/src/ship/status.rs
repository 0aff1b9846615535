//! How far a target is, for metrics and `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::REASONS;
use super::cursor::Cursor;
use crate::audit::Durable;

pub struct TargetStatus {
    target: &'static str,
    durable: watch::Receiver<Durable>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cursor: Option<Cursor>,
    /// Records that arrived since the start.
    shipped: u64,
    failures: BTreeMap<&'static str, u64>,
    /// The time of the oldest record that is durable here and not there, as far as is known.
    behind_since: Option<Timestamp>,
    problem: Option<String>,
    /// The number of the oldest segment of the log, as far as is known.
    oldest: u64,
}

/// One target in numbers.
#[derive(Clone, Debug)]
pub struct TargetFigures {
    pub target: &'static str,
    pub lag: Duration,
    pub lag_records: u64,
    pub shipped: u64,
    pub failures: BTreeMap<&'static str, u64>,
    /// Why it gets nothing now.
    pub problem: Option<String>,
}

impl TargetStatus {
    pub(super) fn new(target: &'static str, durable: watch::Receiver<Durable>) -> Self {
        let failures = REASONS.into_iter().map(|reason| (reason, 0)).collect();
        let state = Mutex::new(State { failures, ..State::default() });
        Self { target, durable, state }
    }

    pub(super) fn figures(&self, now: Timestamp) -> TargetFigures {
        let durable = *self.durable.borrow();
        self.with(|state| {
            let had = state.cursor.as_ref().filter(|cursor| cursor.chain == durable.chain);
            let lag = state.behind_since.map(|since| now.duration_since(since));
            TargetFigures {
                target: self.target,
                lag: lag.and_then(|lag| Duration::try_from(lag).ok()).unwrap_or_default(),
                lag_records: durable.seq.saturating_sub(had.map_or(0, |cursor| cursor.seq)),
                shipped: state.shipped,
                failures: state.failures.clone(),
                problem: state.problem.clone(),
            }
        })
    }

    pub(super) fn is_at(&self, cursor: Option<Cursor>) {
        self.with(|state| state.cursor = cursor);
    }

    /// All records arrived.
    pub(super) fn has_all(&self) {
        self.with(|state| state.behind_since = None);
    }

    /// A record did not arrive, and nobody has read it yet. If the target was behind before, it is
    /// so since then.
    pub(super) fn is_behind(&self, now: Timestamp) {
        self.with(|state| _ = state.behind_since.get_or_insert(now));
    }

    /// The oldest record that did not arrive is of this time.
    pub(super) fn is_behind_since(&self, oldest: Timestamp) {
        self.with(|state| state.behind_since = Some(oldest));
    }

    /// So many records arrived. Those that did not are not older than the last of them, which is of
    /// this time.
    pub(super) fn arrived(&self, records: usize, last: Timestamp, cursor: Cursor) {
        self.with(|state| {
            state.shipped = state.shipped.saturating_add(records as u64);
            state.behind_since = Some(last);
            state.cursor = Some(cursor);
            state.problem = None;
        });
    }

    /// So many records will never be there.
    pub(super) fn refused(&self, records: usize) {
        if records > 0 {
            self.with(|state| *state.failures.entry("refused").or_default() += 1);
        }
    }

    /// Returns whether it worked before.
    pub(super) fn failed(&self, reason: &'static str, problem: String) -> bool {
        self.with(|state| {
            *state.failures.entry(reason).or_default() += 1;
            state.problem.replace(problem).is_none()
        })
    }

    /// Segments before this one are gone.
    pub(super) fn begins_at(&self, oldest: u64) {
        self.with(|state| state.oldest = oldest);
    }

    pub(super) fn oldest(&self) -> u64 {
        self.with(|state| state.oldest)
    }

    /// The first segment that the target still needs, of those from `oldest` on: it has those
    /// before, and a checkpoint behind each of their records.
    pub(super) fn needs_from(&self, oldest: u64) -> Option<u64> {
        let lacking = self.lacks_from(oldest).unwrap_or(u64::MAX);
        self.with(|state| {
            let cursor = state.cursor.as_ref()?;
            Some(cursor.segment.min(cursor.checkpoint_segment).min(lacking))
        })
    }

    /// The first segment, of those from `oldest` on, with a record that the target will never have.
    pub(super) fn lacks_from(&self, oldest: u64) -> Option<u64> {
        self.with(|state| state.cursor.as_ref()?.lacking.range(oldest..).next().copied())
    }

    pub(super) fn target(&self) -> &'static str {
        self.target
    }

    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn cursor(segment: u64, checkpoint_segment: u64, lacking: &[u64]) -> Cursor {
        let (chain, lacking) = (Ulid::from_parts(1, 2), lacking.iter().copied().collect());
        Cursor { chain, seq: 7, segment, bytes: 512, checkpoint_segment, lacking }
    }

    #[test]
    fn a_segment_that_the_target_lacks_is_needed_as_long_as_it_is_there() {
        let status = TargetStatus::new("otlp", watch::channel(Durable::default()).1);
        assert_eq!(status.needs_from(1), None);
        for (at, oldest, needed) in [
            (cursor(9, 8, &[]), 1, 8),
            (cursor(8, 9, &[]), 1, 8),
            (cursor(9, 8, &[3, 5]), 1, 3),
            (cursor(9, 8, &[3, 5]), 3, 3),
            (cursor(9, 8, &[3, 5]), 4, 5),
            (cursor(9, 8, &[3, 5]), 6, 8),
        ] {
            status.is_at(Some(at.clone()));
            assert_eq!(status.needs_from(oldest), Some(needed), "{at:?} {oldest}");
        }
    }

    #[test]
    fn the_lag_grows_until_records_arrive_however_often_it_is_tried() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let status = TargetStatus::new("postgres", watch::channel(Durable::default()).1);
        let lag = |second| status.figures(at(second)).lag.as_secs();
        for second in [0, 10, 20] {
            status.is_behind(at(second));
            assert_eq!(lag(second), u64::try_from(second).unwrap());
        }
        // What was read is older than the time at which it was noticed.
        status.is_behind_since(at(-5));
        assert_eq!(lag(20), 25);
        status.arrived(3, at(15), cursor(2, 1, &[]));
        status.is_behind(at(21));
        assert_eq!(lag(30), 15);
        status.has_all();
        assert_eq!(lag(30), 0);
    }
}
