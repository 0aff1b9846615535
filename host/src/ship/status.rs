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
    /// The time of the oldest record that is durable here and not there.
    behind_since: Option<Timestamp>,
    problem: Option<String>,
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

    pub(super) fn begins_at(&self, cursor: Option<Cursor>) {
        self.with(|state| state.cursor = cursor);
    }

    /// The oldest record that did not arrive is of this time. `None`: all did.
    pub(super) fn is_behind(&self, since: Option<Timestamp>) {
        self.with(|state| state.behind_since = since);
    }

    pub(super) fn arrived(&self, records: usize, cursor: Cursor) {
        self.with(|state| {
            state.shipped = state.shipped.saturating_add(records as u64);
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

    /// The first segment that the target still needs: it has those before, and a checkpoint behind
    /// each of their records.
    pub(super) fn needs_from(&self) -> Option<u64> {
        self.with(|state| {
            let cursor = state.cursor.as_ref()?;
            Some(cursor.segment.min(cursor.checkpoint_segment))
        })
    }

    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
