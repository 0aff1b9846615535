//! The segments as they are written: sealed, appended, synced, rotated, and given up when they fail.
//!
//! **Invariant:** [`Segments::commit`] returns `Ok` only after one `fdatasync` that covers everything it was given.
//! **Invariant:** a file whose write or sync failed is never written or synced again: the kernel may have dropped the
//! data and reports success from then on (2018's "fsyncgate"). Everything unacknowledged goes into a new file.

use std::io;
use std::time::Instant;

use jiff::Timestamp;

use super::Settings;
use super::chain::Position;
use super::disk::{Disk, Segment, Space, segment_name};
use super::keys::Signer;
use super::record::{CheckpointFields, Event, Record, Resumes};
use super::recover::{Recovered, StartError, recover};
use crate::domain::Clock;

pub(super) struct Segments {
    disk: Box<dyn Disk>,
    signer: Signer,
    settings: Settings,
    clock: Clock,
    /// Behind the last durable record.
    tail: Position,
    /// The end of what counts on the disk.
    end: Resumes,
    next: u64,
    current: Option<Current>,
    /// Why the next segment must say where it resumes.
    resume: Option<Event>,
    bytes_cut: u64,
    dropped: u64,
    checkpoint: Checkpoint,
    /// Held until this is dropped.
    lock: Option<Box<dyn Send>>,
}

struct Current {
    name: String,
    segment: Box<dyn Segment>,
    bytes: u64,
    opened: Instant,
}

/// When the last one was.
struct Checkpoint {
    records: u64,
    at: Instant,
}

/// What goes into the chain. A checkpoint is made when its place is known.
pub(super) enum Entry {
    Record(Vec<u8>),
    Checkpoint,
}

/// What was sealed and is not durable yet.
struct Sealed {
    lines: Vec<u8>,
    tail: Position,
    records: u64,
    checkpoint: Option<(Position, CheckpointFields)>,
}

impl Segments {
    pub(super) fn new(
        disk: Box<dyn Disk>,
        signer: Signer,
        settings: Settings,
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
        }
    }

    /// Takes the folder and finds out where its chain stands.
    pub(super) fn start(&mut self, accept_broken: bool) -> Result<(), StartError> {
        let lock = self.disk.lock()?;
        let Recovered { tail, end, next, bytes_cut, accepted } =
            recover(&*self.disk, accept_broken)?;
        (self.tail, self.end, self.next, self.bytes_cut) = (tail, end, next, bytes_cut);
        self.resume = accepted.then_some(Event::BrokenAccepted);
        self.lock = Some(lock);
        Ok(())
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    /// Counts records that were refused while nothing could be written; the next chance to say so is taken.
    pub(super) fn drop_records(&mut self, count: u64) {
        self.dropped = self.dropped.saturating_add(count);
    }

    pub(super) fn is_checkpoint_due(&self) -> bool {
        let Checkpoint { records, at } = &self.checkpoint;
        *records >= self.settings.checkpoint_records
            || (*records > 0 && at.elapsed() >= self.settings.checkpoint_after)
    }

    /// Makes all of them durable, or none of them counts. A segment that fails is given up, and a new one tried once.
    pub(super) fn commit(&mut self, entries: &[Entry]) -> io::Result<()> {
        let is_due = |current: &Current| {
            current.bytes >= self.settings.rotate_bytes
                || current.opened.elapsed() >= self.settings.rotate_after
        };
        if self.current.as_ref().is_some_and(is_due) {
            self.current = None;
        }
        let Err(error) = self.write(entries) else { return Ok(()) };
        tracing::error!(%error, segment = self.end.segment, "an audit segment failed and is given up");
        self.give_up();
        self.write(entries).inspect_err(|_| self.give_up())
    }

    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.open()?,
        };
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
        self.end = Resumes { segment: current.name.clone(), bytes: current.bytes };
        self.current = Some(current);
        self.stand_behind(sealed);
        Ok(())
    }

    fn open(&mut self) -> io::Result<Current> {
        let name = segment_name(self.next);
        // Counted on also after a failure: something of that name may be there now.
        self.next = self.next.saturating_add(1);
        let segment = self.disk.create(&name)?;
        Ok(Current { name, segment, bytes: 0, opened: Instant::now() })
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
                        dropped: Some(self.dropped).filter(|it| *it > 0),
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

    /// What a new segment says first.
    fn heads(&self, now: Timestamp) -> io::Result<Vec<Vec<u8>>> {
        let mut heads = Vec::new();
        if let Some(event) = self.resume {
            let record = Record {
                resumes: Some(self.end.clone()),
                dropped: Some(self.dropped).filter(|it| *it > 0),
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

    fn stand_behind(&mut self, sealed: Sealed) {
        self.tail = sealed.tail;
        // The heads of a segment, and a checkpoint, have said these.
        if self.resume.take().is_some() || sealed.checkpoint.is_some() {
            self.dropped = 0;
        }
        self.bytes_cut = 0;
        let Some((at, checkpoint)) = sealed.checkpoint else {
            self.checkpoint.records = self.checkpoint.records.saturating_add(sealed.records);
            return;
        };
        self.checkpoint = Checkpoint { records: sealed.records, at: Instant::now() };
        // The log leaves this machine: whoever keeps it can tell that records were rewritten or cut off here.
        tracing::info!(
            chain = %at.chain, seq = checkpoint.seq, hash = checkpoint.hash, key = checkpoint.key, signature = checkpoint.signature,
            "audit checkpoint",
        );
    }

    fn give_up(&mut self) {
        self.resume.get_or_insert(Event::Poisoned);
        if let Some(current) = self.current.take()
            && current.bytes == 0
        {
            // Nothing in it was ever acknowledged. If it cannot be removed, the next segment says that it is void.
            drop(current.segment);
            let _ = self.disk.remove(&current.name);
        }
    }
}
