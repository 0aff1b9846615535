//! The thread that writes the log: it gathers records, commits them together, and answers everybody
//! who waits for one.
//!
//! It is a thread and not a task, because `fdatasync` blocks, and passing every record to a pool of
//! threads would cost more than the record.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::disk::Space;
use super::failures::Failures;
use super::record::{Event, Record, SummaryFields};
use super::recover::StartError;
use super::segments::{Entry, Segments};
use super::{AuditError, AuditSettings};
use crate::domain::Clock;

/// A twentieth of a large disk is room for years, so percentages count only below this many bytes.
const ENOUGH_FREE: u64 = 128 << 20;
const PLENTY_FREE: u64 = 4 << 30;
/// The most records that wait. Any more are rejected at once.
pub(super) const QUEUE: usize = 1024;
/// The most records in one commit.
const BATCH: usize = 64;
/// How long a commit waits for more records if the last one had at least [`CROWD`]: fewer commits
/// leave more time for requests. The thread sleeps meanwhile: if it waited for each record, each
/// would wake it.
const GATHER: Duration = Duration::from_millis(1);
const CROWD: usize = 16;
const TICK: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

pub(super) type Reply = oneshot::Sender<Result<(), AuditError>>;

pub(super) enum WriterMessage {
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
    /// Records that found no room in the queue, or no working disk.
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

    /// Why no credential may be issued, although records can perhaps be written.
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

pub(super) struct RecordWriter {
    pub receiver: Receiver<WriterMessage>,
    pub segments: Segments,
    pub settings: AuditSettings,
    pub clock: Clock,
    pub health: Arc<Health>,
    pub failures: Arc<Failures>,
}

/// The state of the thread between commits.
struct Turn {
    started: bool,
    /// Records in the last commit.
    batch: usize,
    /// The message that ended a batch. It is handled next.
    next: Option<WriterMessage>,
    tick: Instant,
    summary: Instant,
    warned: bool,
    retry: Option<(Instant, Duration)>,
}

impl RecordWriter {
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
                Ok(message) => self.handle(message, &mut turn),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, message: WriterMessage, turn: &mut Turn) {
        match message {
            WriterMessage::Start { accept_broken, reply } => {
                let _ = reply.send(self.start(accept_broken, turn));
            }
            WriterMessage::Record { body, reply } => self.records(body, reply, turn),
            WriterMessage::Stop { reply } => {
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
        // A batch has the records that came during the last commit. If those were few, waiting for
        // more would only delay these.
        if turn.batch >= CROWD {
            std::thread::sleep(GATHER);
        }
        while entries.len() < BATCH {
            match self.receiver.try_recv() {
                Ok(WriterMessage::Record { body, reply }) => {
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

    /// Writes everything but the start of the service. After a failure only a retry writes, so that
    /// not every caller waits for a broken disk.
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
            tracing::warn!("the audit log works again");
        }
        Ok(())
    }

    /// A broker that records no `service.start`, as in tests, opens the log with its first record.
    fn ensure_started(&mut self, turn: &mut Turn) -> Result<(), StartError> {
        if !turn.started {
            self.segments.start(false)?;
            turn.started = true;
        }
        Ok(())
    }

    fn fail(&mut self, reason: String, entries: &[Entry], turn: &mut Turn) -> String {
        let records = entries.iter().filter(|entry| matches!(entry, Entry::Record(_))).count();
        self.segments.count_lost(u64::try_from(records).unwrap_or(0));
        let now = Instant::now();
        if turn.retry.is_none_or(|(at, _)| at <= now) {
            let pause = turn.retry.map_or(FIRST_RETRY, |(_, pause)| (pause * 2).min(LAST_RETRY));
            if turn.retry.is_none() {
                tracing::error!(
                    reason,
                    "the audit log cannot be written: no credential is issued until it can"
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
            // Retries by writing where the chain resumes, so that no caller has to be the first to
            // try.
            let _ = self.commit(&[], turn);
        }
        if turn.tick <= now {
            turn.tick = now + TICK;
            self.health.stalled.store(false, Ordering::Relaxed);
            self.segments.count_lost(self.health.dropped.swap(0, Ordering::Relaxed));
            self.check_space(turn);
        }
        if now.duration_since(turn.summary) >= self.settings.summary_after {
            turn.summary = now;
            self.summarize(turn);
        }
        if turn.started && turn.retry.is_none() && self.segments.is_checkpoint_due() {
            let _ = self.commit(&[Entry::Checkpoint], turn);
        }
    }

    fn check_space(&mut self, turn: &mut Turn) {
        let Fullness { free, is_low, refusal } =
            match fullness(&self.settings, self.segments.space()) {
                Ok(fullness) => fullness,
                Err(reason) => {
                    self.health.change(|state| state.full = Some(reason));
                    return;
                }
            };
        let (is_full, was_full) = (refusal.is_some(), self.health.refusal().is_some());
        self.health.change(|state| state.full = refusal);
        // The command `check` opens the log too, and must not log about the disk.
        if !turn.started {
            return;
        }
        if is_full && !was_full {
            tracing::error!(
                free_percent = free,
                "the disk of the audit log is nearly full: no credential is issued"
            );
        } else if is_low && !turn.warned {
            tracing::warn!(free_percent = free, "the disk of the audit log is filling up");
        }
        turn.warned = is_low;
    }

    fn summarize(&mut self, turn: &mut Turn) {
        let time = self.clock.now();
        let mut entries = Vec::new();
        for ((client, reason), count) in self.failures.drain() {
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
            tracing::error!(error, "the audit log did not record the end of the service");
        }
    }
}

/// How full the disk is, by the settings.
pub(super) struct Fullness {
    /// Percent.
    free: u64,
    is_low: bool,
    /// Why nothing is issued.
    pub refusal: Option<String>,
}

pub(super) fn fullness(
    settings: &AuditSettings,
    space: io::Result<Space>,
) -> Result<Fullness, String> {
    let space = space.map_err(|error| {
        let directory = settings.directory.display();
        format!("cannot find out how full the disk of {directory} is: {error}")
    })?;
    let free = space.free_percent();
    let is_full = free < settings.refuse_free_percent && space.free < ENOUGH_FREE;
    let is_low = free < settings.warn_free_percent && space.free < PLENTY_FREE;
    let refusal = is_full
        .then(|| format!("the disk has {free} % left, less than `audit.refuse_free_percent`"));
    Ok(Fullness { free, is_low, refusal })
}

fn pause(turn: &Turn) -> Duration {
    let next = turn.retry.map_or(turn.tick, |(at, _)| at.min(turn.tick));
    next.saturating_duration_since(Instant::now())
}
