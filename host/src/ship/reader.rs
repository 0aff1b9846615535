//! Reads the durable records of the log, from a place on.
//!
//! **Invariant:** what is not durable is not read: a record that a caller was never told of may be
//! written once more, under the same number.

use std::io::{self, BufRead, ErrorKind, Read};

use super::cursor::Cursor;
use super::record::ShippedRecord;
use super::{Batch, BatchLimits};
use crate::audit::verify::extents;
use crate::audit::{Disk, Durable, Folder, segment_name, segment_number};

/// Longer than any record.
const LONGEST_LINE: u64 = 64 << 10;

pub(super) struct Reader {
    folder: Folder,
    /// 0: before the first segment.
    segment: u64,
    /// How many of its bytes were read.
    pub(super) bytes: u64,
    open: Option<Box<dyn BufRead + Send>>,
    /// How many of its bytes are known to be durable.
    durable: u64,
    listed: Listed,
    /// Lines that were no records. `audit verify` reports them.
    pub(super) unreadable: u64,
}

/// The valid parts of all segments, as they were when this one began to be written: their numbers,
/// and where they end.
#[derive(Default)]
struct Listed {
    at: u64,
    extents: Vec<(u64, u64)>,
}

#[derive(Clone, Copy)]
struct Sealed {
    end: u64,
    next: Option<u64>,
}

impl Reader {
    pub(super) fn new(folder: Folder) -> Self {
        Self {
            folder,
            segment: 0,
            bytes: 0,
            open: None,
            durable: 0,
            listed: Listed::default(),
            unreadable: 0,
        }
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// Goes to the place behind a cursor. Returns `false` if the log has no such place: then it
    /// goes to the beginning of the segment, or of the log.
    pub(super) fn seek(&mut self, cursor: &Cursor) -> io::Result<bool> {
        let name = segment_name(cursor.segment);
        let mut reader = match self.folder.open(&name) {
            Ok(reader) => reader,
            // It was deleted, as shipped segments may be; or the log is another one.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let newest = self.folder.segments()?.pop().and_then(|name| segment_number(&name));
                let is_old = newest.is_some_and(|newest| newest > cursor.segment);
                self.enter(if is_old { cursor.segment } else { 0 });
                return Ok(is_old);
            }
            Err(error) => return Err(error),
        };
        let (mut last, mut line, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < cursor.bytes {
            line.clear();
            let room = (cursor.bytes - bytes).min(LONGEST_LINE);
            let length = reader.by_ref().take(room).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            bytes += length as u64;
            std::mem::swap(&mut last, &mut line);
        }
        let record = last.strip_suffix(b"\n").and_then(ShippedRecord::parse);
        let is_there = record.is_some_and(|it| (it.chain, it.seq) == (cursor.chain, cursor.seq));
        self.enter(cursor.segment);
        if is_there {
            (self.bytes, self.open) = (bytes, Some(reader));
        }
        Ok(is_there)
    }

    /// The next records, none if all durable ones were read. They are of one segment.
    pub(super) fn read(&mut self, durable: Durable, limits: BatchLimits) -> io::Result<Batch> {
        let mut batch = Batch::default();
        if durable.segment == 0 {
            return Ok(batch);
        }
        loop {
            let is_written = self.segment == durable.segment;
            if is_written {
                self.durable = durable.bytes;
            }
            let sealed = if is_written { None } else { Some(self.seal(durable)?) };
            let end = sealed.map_or(durable.bytes, |sealed| sealed.end);
            self.fill(&mut batch, end, limits)?;
            let next = sealed.and_then(|sealed| sealed.next);
            match next.filter(|_| !is_written && batch.records.is_empty()) {
                Some(next) => self.enter(next),
                None => return Ok(batch),
            }
        }
    }

    fn enter(&mut self, segment: u64) {
        (self.segment, self.bytes, self.durable) = (segment, 0, 0);
        self.open = None;
    }

    /// Where the segment ends, which is not written any more, and the one behind it.
    fn seal(&mut self, durable: Durable) -> io::Result<Sealed> {
        if self.listed.at != durable.segment {
            let found = extents(&self.folder)?.into_iter().filter_map(|extent| {
                let number = segment_number(&extent.segment)?;
                Some((number, extent.bytes().unwrap_or(u64::MAX)))
            });
            self.listed = Listed { at: durable.segment, extents: found.collect() };
        }
        let mut listed = self.listed.extents.iter();
        let end = listed.clone().find(|(number, _)| *number == self.segment).map(|(_, end)| *end);
        let is_next = |number: u64| number > self.segment && number <= durable.segment;
        let next = listed.find(|(number, _)| is_next(*number)).map(|(number, _)| *number);
        // A segment that somebody took away may have ended with what never became durable.
        Ok(Sealed { end: end.unwrap_or(self.durable), next })
    }

    fn fill(&mut self, batch: &mut Batch, end: u64, limits: BatchLimits) -> io::Result<()> {
        if self.bytes >= end {
            return Ok(());
        }
        if self.open.is_none() {
            let opened = self.folder.open(&segment_name(self.segment));
            match opened {
                Ok(reader) => self.open = Some(reader),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Some(reader) = self.open.as_mut() else { return Ok(()) };
        let mut line = Vec::new();
        while self.bytes < end && batch.records.len() < limits.records && batch.bytes < limits.bytes
        {
            line.clear();
            let room = (end - self.bytes).min(LONGEST_LINE);
            let length = reader.by_ref().take(room).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            self.bytes += length as u64;
            match line.strip_suffix(b"\n").and_then(ShippedRecord::parse) {
                Some(record) => {
                    batch.bytes += length;
                    batch.records.push(record);
                }
                None => self.unreadable += 1,
            }
        }
        Ok(())
    }
}
