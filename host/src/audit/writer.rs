//! The one thread that writes: it gathers records, commits them together, and answers all who wait.
//!
//! A thread and not a task: `fdatasync` blocks, and a hand-over to a pool of threads for every record would cost more
//! than the record.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::failures::Failures;
use super::record::{Event, Record, SummaryFields};
use super::recover::StartError;
use super::segments::{Entry, Segments};
use super::{AuditError, Settings};
use crate::domain::Clock;

/// A twentieth of a large disk is room for years: shares count only below these many bytes.
const ENOUGH_FREE: u64 = 128 << 20;
const PLENTY_FREE: u64 = 4 << 30;
/// Records that wait at most; more are refused at once.
pub(super) const QUEUE: usize = 1024;
/// Records in one commit at most.
const BATCH: usize = 64;
/// How long a commit waits for company, where the last one was of so many records: fewer commits leave more time for requests.
const GATHER: Duration = Duration::from_millis(2);
const CROWD: usize = 16;
const TICK: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

pub(super) type Reply = oneshot::Sender<Result<(), AuditError>>;

pub(super) enum Message {
    Start { accept_broken: bool, reply: oneshot::Sender<Result<(), StartError>> },
    Record { body: Vec<u8>, reply: Option<Reply> },
    Stop { reply: oneshot::Sender<()> },
}

/// Whether records can be written, as the rest of the program sees it.
#[derive(Default)]
pub(super) struct Health {
    state: Mutex<State>,
    /// The writer has not answered in time.
    stalled: AtomicBool,
    /// Records that found no room, or no working disk.
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    failed: Option<String>,
    full: Option<String>,
}

impl Health {
    /// Why nothing can be written.
    pub(super) fn failure(&self) -> Option<String> {
        if self.stalled.load(Ordering::Relaxed) {
            return Some("the disk does not answer".to_owned());
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Why no credential may be made, though records can perhaps be written.
    pub(super) fn refusal(&self) -> Option<String> {
        self.failure()
            .or_else(|| self.state.lock().unwrap_or_else(PoisonError::into_inner).full.clone())
    }

    pub(super) fn stalls(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    pub(super) fn drops(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

pub(super) struct Writer {
    pub receiver: Receiver<Message>,
    pub segments: Segments,
    pub settings: Settings,
    pub clock: Clock,
    pub health: Arc<Health>,
    pub failures: Arc<Failures>,
}

/// What the thread remembers between commits.
struct Turn {
    started: bool,
    /// Records in the last commit.
    batch: usize,
    /// A message that ended a batch and comes next.
    next: Option<Message>,
    tick: Instant,
    summary: Instant,
    warned: bool,
    retry: Option<(Instant, Duration)>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let now = Instant::now();
        let mut turn = Turn {
            started: false,
            batch: 0,
            next: None,
            tick: now,
            summary: now,
            warned: false,
            retry: None,
        };
        loop {
            self.tick(&mut turn);
            let message = match turn.next.take() {
                Some(message) => Ok(message),
                None => self.receiver.recv_timeout(pause(&turn)),
            };
            match message {
                Ok(message) => self.take(message, &mut turn),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message, turn: &mut Turn) {
        match message {
            Message::Start { accept_broken, reply } => {
                let _ = reply.send(self.start(accept_broken, turn));
            }
            Message::Record { body, reply } => self.records(body, reply, turn),
            Message::Stop { reply } => {
                self.stop(turn);
                let _ = reply.send(());
            }
        }
    }

    fn start(&mut self, accept_broken: bool, turn: &mut Turn) -> Result<(), StartError> {
        if !turn.started {
            self.segments.start(accept_broken)?;
            turn.started = true;
        }
        let record = Record {
            version: Some(env!("CARGO_PKG_VERSION")),
            ..Record::blank(self.clock.now(), Event::ServiceStart)
        };
        self.segments.commit(&[Entry::Record(record.body()?)])?;
        Ok(())
    }

    fn records(&mut self, body: Vec<u8>, reply: Option<Reply>, turn: &mut Turn) {
        let (mut entries, mut replies) = (vec![Entry::Record(body)], vec![reply]);
        // Whatever came while the last commit was under way. With few about, waiting for more would only hold these up.
        let patience = if turn.batch < CROWD { Duration::ZERO } else { GATHER };
        let deadline = Instant::now() + patience;
        while entries.len() < BATCH {
            match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Message::Record { body, reply }) => {
                    entries.push(Entry::Record(body));
                    replies.push(reply);
                }
                Ok(other) => {
                    turn.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        turn.batch = entries.len();
        if let Err(error) = self.commit(&entries, turn) {
            for reply in replies.into_iter().flatten() {
                let _ = reply.send(Err(AuditError::Unavailable(error.clone())));
            }
            return;
        }
        for reply in replies.into_iter().flatten() {
            let _ = reply.send(Ok(()));
        }
    }

    /// All writing but the first. After a failure, only a retry writes: the disk is not asked by each caller.
    fn commit(&mut self, entries: &[Entry], turn: &mut Turn) -> Result<(), String> {
        if let Err(error) = self.ensure_started(turn) {
            return Err(self.fail(error.to_string(), entries, turn));
        }
        if turn.retry.is_some_and(|(at, _)| Instant::now() < at) {
            let reason = self.health.failure().unwrap_or_else(|| "the disk failed".to_owned());
            return Err(self.fail(reason, entries, turn));
        }
        if let Err(error) = self.segments.commit(entries) {
            return Err(self.fail(error.to_string(), entries, turn));
        }
        self.health.stalled.store(false, Ordering::Relaxed);
        if turn.retry.take().is_some() {
            self.health.change(|state| state.failed = None);
            tracing::warn!("audit records can be written again");
        }
        Ok(())
    }

    /// A broker without `service.start`, as tests have it, begins with its first record.
    fn ensure_started(&mut self, turn: &mut Turn) -> Result<(), StartError> {
        if !turn.started {
            self.segments.start(false)?;
            turn.started = true;
        }
        Ok(())
    }

    fn fail(&mut self, reason: String, entries: &[Entry], turn: &mut Turn) -> String {
        let records = entries.iter().filter(|it| matches!(it, Entry::Record(_))).count();
        self.segments.drop_records(u64::try_from(records).unwrap_or(0));
        let now = Instant::now();
        if turn.retry.is_none_or(|(at, _)| at <= now) {
            let pause = turn.retry.map_or(FIRST_RETRY, |(_, pause)| (pause * 2).min(LAST_RETRY));
            if turn.retry.is_none() {
                tracing::error!(
                    reason,
                    "no audit record can be written: no credential is made until one can"
                );
            }
            turn.retry = Some((now + pause, pause));
            self.health.change(|state| state.failed = Some(reason.clone()));
        }
        reason
    }

    fn tick(&mut self, turn: &mut Turn) {
        let now = Instant::now();
        if turn.retry.is_some_and(|(at, _)| at <= now) {
            // Writes where the chain resumes: the next caller need not be the one to find out.
            let _ = self.commit(&[], turn);
        }
        if turn.tick <= now {
            turn.tick = now + TICK;
            self.health.stalled.store(false, Ordering::Relaxed);
            self.segments.drop_records(self.health.dropped.swap(0, Ordering::Relaxed));
            self.look_at_space(turn);
        }
        if now.duration_since(turn.summary) >= self.settings.summary_after {
            turn.summary = now;
            self.summarize(turn);
        }
        if turn.started && turn.retry.is_none() && self.segments.is_checkpoint_due() {
            let _ = self.commit(&[Entry::Checkpoint], turn);
        }
    }

    fn look_at_space(&mut self, turn: &mut Turn) {
        let Settings { warn_free_percent, refuse_free_percent, .. } = self.settings;
        let (free, bytes) = match self.segments.space() {
            Ok(space) => (space.free_percent(), space.free),
            Err(error) => {
                let reason = format!("cannot ask how full the disk is: {error}");
                self.health.change(|state| state.full = Some(reason));
                return;
            }
        };
        let is_full = free < refuse_free_percent && bytes < ENOUGH_FREE;
        let is_low = free < warn_free_percent && bytes < PLENTY_FREE;
        let was_full = self.health.refusal().is_some();
        self.health.change(|state| {
            state.full = is_full.then(|| {
                format!("the disk has {free} % left, less than `audit.refuse_free_percent`")
            });
        });
        // `check` opens the log too, and is about settings.
        if !turn.started {
            return;
        }
        if is_full && !was_full {
            tracing::error!(
                free_percent = free,
                "the disk of the audit log is nearly full: no credential is made"
            );
        } else if is_low && !turn.warned {
            tracing::warn!(free_percent = free, "the disk of the audit log is filling up");
        }
        turn.warned = is_low;
    }

    fn summarize(&mut self, turn: &mut Turn) {
        let time = self.clock.now();
        let mut entries = Vec::new();
        for ((client, reason), count) in self.failures.take() {
            let summary = SummaryFields { client: &client, reason: &reason, count };
            let record = Record {
                summary: Some(summary),
                ..Record::blank(time, Event::AuthenticationDenied)
            };
            entries.extend(record.body().ok().map(Entry::Record));
        }
        for entries in entries.chunks(BATCH) {
            let _ = self.commit(entries, turn);
        }
    }

    fn stop(&mut self, turn: &mut Turn) {
        self.summarize(turn);
        let stop = Record::blank(self.clock.now(), Event::ServiceStop).body();
        let entries: Vec<Entry> =
            stop.into_iter().map(Entry::Record).chain([Entry::Checkpoint]).collect();
        if let Err(error) = self.commit(&entries, turn) {
            tracing::error!(error, "the end of the service could not be recorded");
        }
    }
}

fn pause(turn: &Turn) -> Duration {
    let next = turn.retry.map_or(turn.tick, |(at, _)| at.min(turn.tick));
    next.saturating_duration_since(Instant::now())
}
