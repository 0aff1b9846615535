//! The segments of the log: records are sealed, appended and synced; segments are rotated, and
//! abandoned when they fail.
//!
//! **Invariant:** [`Segments::commit`] returns `Ok` only after one `fdatasync` that covers all of
//! its entries.
//! **Invariant:** a file whose write or sync failed is never written or synced again: the kernel
//! may have dropped the data and reports success from then on ("fsyncgate" of 2018). Everything
//! that nobody was told is durable goes into a new file.
//! **Invariant:** an entry is durable in a file that its readers can find. A segment that was
//! removed or moved away is noticed with the next entry, which goes into a new segment.

use std::io;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::AuditSettings;
use super::chain::Position;
use super::disk::{Disk, Displaced, Segment, Space, segment_name};
use super::durable::{Durable, Publisher};
use super::head::Head;
use super::keys::CheckpointSigner;
use super::record::{CheckpointFields, Event, Record, Resumes};
use super::recover::{Recovered, StartError, recover};
use crate::domain::Clock;

pub(super) struct Segments {
    disk: Box<dyn Disk>,
    signer: CheckpointSigner,
    settings: AuditSettings,
    clock: Clock,
    /// The last durable record.
    tail: Position,
    /// The end of the valid part of the log.
    end: Resumes,
    next: u64,
    current: Option<OpenSegment>,
    /// The first event of the next segment, if that must say where it resumes.
    resume: Option<Event>,
    bytes_cut: u64,
    dropped: u64,
    checkpoint: Checkpoint,
    /// Keeps other writers away.
    lock: Option<Box<dyn Send>>,
    durable: Publisher,
}

struct OpenSegment {
    name: String,
    segment: Box<dyn Segment>,
    bytes: u64,
    opened: Instant,
}

/// The last checkpoint.
struct Checkpoint {
    /// Records since then.
    records: u64,
    at: Instant,
}

/// One thing to write. A checkpoint is made when its place in the chain is known.
pub(super) enum Entry {
    Record(Vec<u8>),
    Checkpoint,
}

/// Lines that are part of the chain and not durable yet.
struct Sealed {
    lines: Vec<u8>,
    tail: Position,
    records: u64,
    checkpoint: Option<(Position, CheckpointFields)>,
}

impl Segments {
    pub(super) fn new(
        disk: Box<dyn Disk>,
        signer: CheckpointSigner,
        settings: AuditSettings,
        clock: Clock,
    ) -> Self {
        Self {
            disk,
            signer,
            settings,
            clock,
            tail: Position::beginning(ulid::Ulid::nil()),
            end: Resumes { segment: String::new(), bytes: 0 },
            next: 1,
            current: None,
            resume: None,
            bytes_cut: 0,
            dropped: 0,
            checkpoint: Checkpoint { records: 0, at: Instant::now() },
            lock: None,
            durable: Publisher::default(),
        }
    }

    /// The end of what is durable, from now on.
    pub(super) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Locks the folder and finds the end of its chain.
    pub(super) fn start(&mut self, accept_broken: bool) -> Result<(), StartError> {
        let lock = self.disk.lock()?;
        let head = Head::load(&self.settings.state, &*self.disk);
        let recovered = recover(&*self.disk, head.as_ref(), accept_broken)?;
        self.warn(&recovered);
        let Recovered { tail, end, next, bytes_cut, accepted, all_gone, unsigned, .. } = recovered;
        self.checkpoint.records = unsigned;
        (self.tail, self.end, self.next, self.bytes_cut) = (tail, end, next, bytes_cut);
        self.resume = match (accepted, all_gone) {
            (true, _) => Some(Event::BrokenAccepted),
            (false, true) => Some(Event::Displaced),
            (false, false) => None,
        };
        self.lock = Some(lock);
        Ok(())
    }

    /// What an operator must know of the log before the broker goes on with it.
    fn warn(&self, recovered: &Recovered) {
        let (directory, state) = (self.settings.directory.display(), self.settings.state.display());
        if recovered.all_gone {
            let newest = &recovered.end.segment;
            tracing::warn!(
                "{directory}: all segments of the audit log up to {newest} are gone, and a new \
                 chain begins; `audit verify` reports the gap. Stop the broker and restore them, \
                 unless you moved them away"
            );
        }
        let (own, last) = (self.signer.public(), recovered.signed_by.as_deref());
        if let Some(last) = last.filter(|last| *last != own) {
            tracing::warn!(
                "{directory}: the last checkpoint of the audit log is signed with the key {last}, \
                 and {state}/audit-signing.pem is {own}; restore the keys that belong to this log \
                 (audit-signing.pem, audit-fingerprint.key), or name the old key in `audit verify \
                 --trust-key {last}`"
            );
        }
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    /// Counts records that were lost while nothing could be written. The next checkpoint or the
    /// next segment says how many.
    pub(super) fn count_lost(&mut self, count: u64) {
        self.dropped = self.dropped.saturating_add(count);
    }

    pub(super) fn is_checkpoint_due(&self) -> bool {
        let Checkpoint { records, at } = &self.checkpoint;
        *records >= self.settings.checkpoint_records
            || (*records > 0 && at.elapsed() >= self.settings.checkpoint_after)
    }

    /// Makes all entries durable, or none. A segment that fails is abandoned, and a new one is
    /// tried once.
    pub(super) fn commit(&mut self, entries: &[Entry]) -> io::Result<()> {
        let is_due = |current: &OpenSegment| {
            current.bytes >= self.settings.rotate_bytes
                || current.opened.elapsed() >= self.settings.rotate_after
        };
        if self.current.as_ref().is_some_and(is_due) {
            self.current = None;
        }
        let Err(error) = self.write(entries) else { return Ok(()) };
        let segment = &self.end.segment;
        tracing::error!(%error, segment, "an audit segment failed; a new segment replaces it");
        self.abandon(&error);
        self.write(entries).inspect_err(|error| self.abandon(error))
    }

    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut current = self.current.take().map_or_else(|| self.open(), Ok)?;
        let sealed = self.seal(entries, current.bytes == 0);
        let written = sealed.and_then(|sealed| {
            let bytes = u64::try_from(sealed.lines.len()).unwrap_or(u64::MAX);
            current.segment.reserve(bytes)?;
            current.segment.append(&sealed.lines)?;
            current.segment.sync()?;
            current.bytes = current.bytes.saturating_add(bytes);
            Ok(sealed)
        });
        let sealed = match written {
            Ok(sealed) => sealed,
            Err(error) => {
                self.current = Some(current);
                return Err(error);
            }
        };
        if self.end.segment != current.name {
            self.remember(&current.name);
        }
        self.end = Resumes { segment: current.name.clone(), bytes: current.bytes };
        self.current = Some(current);
        self.advance(sealed);
        self.durable.publish(&self.tail, &self.end);
        Ok(())
    }

    /// Notes the newest segment outside the folder, so that the next start misses it. A failure
    /// costs this help, and no record.
    fn remember(&self, segment: &str) {
        let Some(head) = Head::new(&*self.disk, segment) else { return };
        if let Err(error) = head.store(&self.settings) {
            tracing::warn!(%error, "the newest audit segment cannot be noted in the state folder");
        }
    }

    /// Locks the folder that is in place now, if it may be another one.
    fn lock(&mut self) -> io::Result<()> {
        if self.lock.is_none() {
            self.lock = Some(self.disk.lock()?);
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<OpenSegment> {
        self.lock()?;
        let name = segment_name(self.next);
        // The number is used up even if this fails: a file of that name may exist now.
        self.next = self.next.saturating_add(1);
        let segment = self.disk.create(&name)?;
        Ok(OpenSegment { name, segment, bytes: 0, opened: Instant::now() })
    }

    fn seal(&self, entries: &[Entry], is_first: bool) -> io::Result<Sealed> {
        let mut sealed = Sealed {
            lines: Vec::with_capacity(entries.len().saturating_mul(1024)),
            tail: self.tail.clone(),
            records: 0,
            checkpoint: None,
        };
        let now = self.clock.now();
        if is_first {
            for head in self.heads(now)? {
                sealed.tail.seal(&head, &mut sealed.lines);
                sealed.records += 1;
            }
        }
        for entry in entries {
            match entry {
                Entry::Record(body) => {
                    sealed.tail.seal(body, &mut sealed.lines);
                    sealed.records += 1;
                }
                Entry::Checkpoint => {
                    let at = sealed.tail.clone();
                    let checkpoint = self.signer.checkpoint(&at)?;
                    let record = Record {
                        checkpoint: Some(checkpoint.clone()),
                        dropped: Some(self.dropped).filter(|lost| *lost > 0),
                        ..Record::blank(now, Event::Checkpoint)
                    };
                    sealed.tail.seal(&record.body()?, &mut sealed.lines);
                    sealed.records = 0;
                    sealed.checkpoint = Some((at, checkpoint));
                }
            }
        }
        Ok(sealed)
    }

    /// The first records of a new segment.
    fn heads(&self, now: Timestamp) -> io::Result<Vec<Vec<u8>>> {
        let mut heads = Vec::new();
        if let Some(event) = self.resume {
            let record = Record {
                resumes: Some(self.end.clone()),
                dropped: Some(self.dropped).filter(|lost| *lost > 0),
                ..Record::blank(now, event)
            };
            heads.push(record.body()?);
        }
        if self.bytes_cut > 0 {
            let record =
                Record { bytes_cut: Some(self.bytes_cut), ..Record::blank(now, Event::Recovered) };
            heads.push(record.body()?);
        }
        Ok(heads)
    }

    /// Moves the end of the chain behind `sealed`, which is durable.
    fn advance(&mut self, sealed: Sealed) {
        self.tail = sealed.tail;
        // The first records of a segment and a checkpoint have said how many were lost.
        if self.resume.take().is_some() || sealed.checkpoint.is_some() {
            self.dropped = 0;
        }
        self.bytes_cut = 0;
        let Some((at, checkpoint)) = sealed.checkpoint else {
            self.checkpoint.records = self.checkpoint.records.saturating_add(sealed.records);
            return;
        };
        self.checkpoint = Checkpoint { records: sealed.records, at: Instant::now() };
        // The broker's log is kept elsewhere: its reader can tell if records here were rewritten or
        // cut.
        let CheckpointFields { seq, hash, key, signature } = checkpoint;
        tracing::info!(chain = %at.chain, seq, hash, key, signature, "audit checkpoint");
    }

    fn abandon(&mut self, error: &io::Error) {
        if is_displaced(error) {
            // The lock may lie in the folder of before.
            (self.resume, self.lock) = (Some(Event::Displaced), None);
        } else {
            self.resume.get_or_insert(Event::Poisoned);
        }
        if let Some(current) = self.current.take()
            && current.bytes == 0
        {
            // Nobody was told that anything in it is durable. If it cannot be removed, the next
            // segment declares it void.
            drop(current.segment);
            let _ = self.disk.remove(&current.name);
        }
    }
}

fn is_displaced(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Displaced>)
}
