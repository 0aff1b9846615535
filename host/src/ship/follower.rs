//! Delivers the log to one target, batch by batch, until it is stopped.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::cursor::{Cursor, CursorFile};
use super::reader::Reader;
use super::status::TargetStatus;
use super::{Batch, ShipError, Target};
use crate::audit::{Durable, Folder};
use crate::domain::Clock;

/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// The cursor is written at most this often: its sync must not delay those of the log.
const STORE: Duration = Duration::from_secs(1);
/// Segments of which a cursor notes that the target lacks records. The first of them holds up the
/// deletion of all that follow.
const MOST_LACKING: usize = 100;

/// They may come back, and later ones come.
const TAKEN_AWAY: &str = "records that were written are not in the newest segment: it was \
                          shortened, changed or removed";

pub(super) struct Follower {
    target: Box<dyn Target>,
    file: CursorFile,
    status: Arc<TargetStatus>,
    clock: Clock,
    /// `None` while it reads, on another thread.
    reader: Option<Reader>,
    cursor: Option<Cursor>,
    /// As in the cursor.
    lacking: BTreeSet<u64>,
    stored: Instant,
    /// Whether the cursor differs from its file.
    is_changed: bool,
    /// Since when nothing arrives.
    failing: Option<Instant>,
}

/// What woke a follower.
#[derive(PartialEq, Eq)]
enum Woken {
    Records,
    Time,
    Stop,
}

impl Follower {
    pub(super) fn new(
        target: Box<dyn Target>,
        folder: Folder,
        file: CursorFile,
        status: Arc<TargetStatus>,
        clock: Clock,
    ) -> Self {
        Self {
            target,
            file,
            status,
            clock,
            reader: Some(Reader::new(Box::new(folder))),
            cursor: None,
            lacking: BTreeSet::new(),
            stored: Instant::now(),
            is_changed: false,
            failing: None,
        }
    }

    /// Ends after everything durable arrived, once `stop` is true.
    pub(super) async fn run(
        mut self,
        mut durable: watch::Receiver<Durable>,
        mut stop: watch::Receiver<bool>,
    ) {
        self.begin(&mut stop).await;
        let limits = self.target.limits();
        let mut has_more = false;
        loop {
            let is_stopping = *stop.borrow();
            if !has_more && !is_stopping {
                if self.has_all(*durable.borrow_and_update()) {
                    self.status.has_all();
                    let woken = wait(&mut durable, &mut stop, self.is_changed).await;
                    if woken == Woken::Time {
                        self.store();
                    }
                    continue;
                }
                self.status.is_behind(self.clock.now());
                pause(limits.gather, &mut stop).await;
            }
            let end = *durable.borrow_and_update();
            match self.read(end).await {
                Ok(batch) if batch.records.is_empty() => {
                    has_more = false;
                    if is_stopping {
                        break;
                    }
                    if !self.has_all(end) {
                        self.fails(&ShipError::new("unreadable", TAKEN_AWAY));
                        pause(LAST_RETRY, &mut stop).await;
                    }
                }
                Ok(batch) => {
                    self.deliver(&batch).await;
                    let is_full = batch.records.len() >= limits.records
                        || batch.bytes >= limits.bytes
                        || self.cursor.as_ref().is_some_and(|it| it.segment < end.segment);
                    has_more = is_full;
                }
                Err(error) => {
                    self.fails(&ShipError::new("unreadable", error.to_string()));
                    has_more = false;
                    pause(LAST_RETRY, &mut stop).await;
                }
            }
        }
        self.is_changed = true;
        self.store();
    }

    /// Goes to where the target is.
    async fn begin(&mut self, stop: &mut watch::Receiver<bool>) {
        let Some(cursor) = self.file.load() else { return };
        self.status.is_behind(self.clock.now());
        let target = self.target.name();
        let sought = loop {
            let place = cursor.clone();
            match self.with_reader(move |reader| reader.seek(&place)).await {
                Err(error) if !*stop.borrow() => {
                    self.fails(&ShipError::new("unreadable", error.to_string()));
                    pause(LAST_RETRY, stop).await;
                }
                sought => break sought,
            }
        };
        match sought {
            Ok(true) => self.cursor = Some(cursor.clone()),
            Ok(false) => tracing::warn!(
                shipped_to = target,
                chain = %cursor.chain,
                seq = cursor.seq,
                "the audit log does not have the record that was shipped last, so older ones are \
                 shipped again; was it restored from a backup?"
            ),
            Err(_) => {}
        }
        self.lacking = cursor.lacking;
        self.status.is_at(self.cursor.clone());
    }

    /// The target will never have a record of this segment.
    fn lacks(&mut self, segment: u64) {
        // What the operator has moved away holds up nothing.
        self.lacking = self.lacking.split_off(&self.status.oldest());
        if self.lacking.len() >= MOST_LACKING || !self.lacking.insert(segment) {
            return;
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.lacking.clone_from(&self.lacking);
            self.is_changed = true;
            self.status.is_at(self.cursor.clone());
        }
    }

    fn has_all(&self, durable: Durable) -> bool {
        durable.seq == 0
            || self
                .cursor
                .as_ref()
                .is_some_and(|cursor| (cursor.chain, cursor.seq) == (durable.chain, durable.seq))
    }

    async fn read(&mut self, durable: Durable) -> io::Result<Batch> {
        let limits = self.target.limits();
        let batch = self.with_reader(move |reader| reader.read(durable, limits)).await?;
        if batch.unreadable > 0 {
            let target = self.target.name();
            tracing::warn!(
                shipped_to = target,
                lines = batch.unreadable,
                "lines of the audit log are no records and are not shipped; run `audit verify`"
            );
        }
        if let Some(segment) = batch.unreadable_in {
            self.lacks(segment);
        }
        self.note_gap(&batch);
        Ok(batch)
    }

    /// Files block, so they are read on a thread for that.
    async fn with_reader<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let lost = || io::Error::other("its reader has ended");
        let mut reader = self.reader.take().ok_or_else(lost)?;
        let (reader, result) = tokio::task::spawn_blocking(move || {
            let result = read(&mut reader);
            (reader, result)
        })
        .await
        .map_err(io::Error::other)?;
        self.reader = Some(reader);
        result
    }

    fn note_gap(&self, batch: &Batch) {
        let (Some(cursor), Some(first)) = (&self.cursor, batch.records.first()) else { return };
        if first.chain == cursor.chain && first.seq > cursor.seq.saturating_add(1) {
            tracing::error!(
                shipped_to = self.target.name(),
                chain = %first.chain,
                from = cursor.seq + 1,
                to = first.seq - 1,
                "audit records were removed before they were shipped"
            );
        }
    }

    /// Returns once the batch has arrived.
    async fn deliver(&mut self, batch: &Batch) {
        let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else {
            return;
        };
        let (segment, bytes) =
            self.reader.as_ref().map_or((0, 0), |reader| (reader.segment(), reader.bytes()));
        self.status.is_behind_since(first.time);
        let mut retry = FIRST_RETRY;
        loop {
            let sent = timeout(ATTEMPT, self.target.send(batch)).await;
            let late = || ShipError::new("timed-out", "no answer within 30 seconds");
            match sent.unwrap_or_else(|_| Err(late())) {
                Ok(refused) => {
                    self.status.refused(refused);
                    if refused > 0 {
                        self.lacks(segment);
                    }
                    break;
                }
                Err(error) => self.fails(&error),
            }
            sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
        if let Some(since) = self.failing.take() {
            let (target, seconds) = (self.target.name(), since.elapsed().as_secs());
            tracing::info!(shipped_to = target, seconds, "the audit log is shipped again");
        }
        let before = self.cursor.as_ref().map_or(0, |cursor| cursor.checkpoint_segment);
        let has_checkpoint = batch.records.iter().any(|record| record.is_checkpoint);
        let checkpoint_segment = if has_checkpoint { segment } else { before };
        let lacking = self.lacking.clone();
        let (chain, seq) = (last.chain, last.seq);
        let cursor = Cursor { chain, seq, segment, bytes, checkpoint_segment, lacking };
        self.status.arrived(batch.records.len(), last.time, cursor.clone());
        (self.cursor, self.is_changed) = (Some(cursor), true);
        if self.stored.elapsed() >= STORE {
            self.store();
        }
    }

    fn fails(&mut self, error: &ShipError) {
        let target = self.target.name();
        if self.status.failed(error.reason, error.to_string()) {
            tracing::error!(
                shipped_to = target,
                %error,
                "the audit log is not shipped; it stays here, and the broker tries again"
            );
            self.failing.get_or_insert_with(Instant::now);
        }
    }

    fn store(&mut self) {
        let Some(cursor) = self.cursor.as_ref().filter(|_| self.is_changed) else { return };
        self.stored = Instant::now();
        match self.file.store(cursor) {
            Ok(()) => self.is_changed = false,
            Err(error) => tracing::warn!(
                shipped_to = self.target.name(),
                %error,
                "the place up to which audit records were shipped cannot be stored; the next start \
                 ships them again"
            ),
        }
    }
}

/// Waits for records, for a stop, or for the time to store the cursor if that `is_due`.
async fn wait(
    durable: &mut watch::Receiver<Durable>,
    stop: &mut watch::Receiver<bool>,
    is_due: bool,
) -> Woken {
    tokio::select! {
        changed = durable.changed() => {
            if changed.is_err() {
                // The log has ended, and a stop comes.
                sleep(STORE).await;
            }
            Woken::Records
        }
        () = stopped(stop) => Woken::Stop,
        () = sleep(STORE), if is_due => Woken::Time,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|is_stopping| *is_stopping).await);
}

/// Waits, but not beyond a stop.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) {
    let _ = timeout(time, stopped(stop)).await;
}
