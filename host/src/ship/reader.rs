//! Reads the durable records of the log, from a place on.
//!
//! **Invariant:** what is not durable is not read: a record that a caller was never told of may be
//! written once more, under the same number.
//! **Invariant:** a read that fails moves nothing: the next one begins at the same place.

use std::io::{self, BufRead, ErrorKind, Read};

use super::cursor::Cursor;
use super::record::ShippedRecord;
use super::{Batch, BatchLimits};
use crate::audit::verify::extents;
use crate::audit::{Disk, Durable, segment_name, segment_number};

/// Longer than any record.
const LONGEST_LINE: u64 = 64 << 10;

pub(super) struct Reader {
    disk: Box<dyn Disk>,
    place: Place,
    /// The segment at that place. `None`: it must be opened.
    open: Option<Box<dyn BufRead + Send>>,
    listed: Listed,
}

/// How far the log was read.
#[derive(Clone, Copy, Default)]
struct Place {
    /// 0: before the first segment.
    segment: u64,
    /// How many of its bytes were read.
    bytes: u64,
    /// How many of its bytes are known to be durable.
    durable: u64,
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
    pub(super) fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, place: Place::default(), open: None, listed: Listed::default() }
    }

    /// The number of the segment that is read.
    pub(super) fn segment(&self) -> u64 {
        self.place.segment
    }

    /// How many bytes of it were read.
    pub(super) fn bytes(&self) -> u64 {
        self.place.bytes
    }

    /// Goes to the place behind a cursor. Returns `false` if the log has no such place: then it
    /// goes to the beginning of the segment, or of the log.
    pub(super) fn seek(&mut self, cursor: &Cursor) -> io::Result<bool> {
        let name = segment_name(cursor.segment);
        let mut reader = match self.disk.open(&name) {
            Ok(reader) => reader,
            // It was deleted, as shipped segments may be; or the log is another one.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let newest = self.disk.segments()?.pop().and_then(|name| segment_number(&name));
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
            (self.place.bytes, self.open) = (bytes, Some(reader));
        }
        Ok(is_there)
    }

    /// The next records, none if all durable ones were read. They are of one segment.
    pub(super) fn read(&mut self, durable: Durable, limits: BatchLimits) -> io::Result<Batch> {
        let before = self.place;
        let read = self.read_on(durable, limits);
        if read.is_err() {
            // The open file may be in the middle of a line.
            (self.place, self.open) = (before, None);
        }
        read
    }

    fn read_on(&mut self, durable: Durable, limits: BatchLimits) -> io::Result<Batch> {
        let mut batch = Batch::default();
        if durable.segment == 0 {
            return Ok(batch);
        }
        loop {
            let is_written = self.place.segment == durable.segment;
            if is_written {
                self.place.durable = durable.bytes;
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
        (self.place, self.open) = (Place { segment, ..Place::default() }, None);
    }

    /// Where the segment ends, which is not written any more, and the one behind it.
    fn seal(&mut self, durable: Durable) -> io::Result<Sealed> {
        if self.listed.at != durable.segment {
            let found = extents(&*self.disk)?.into_iter().filter_map(|extent| {
                let number = segment_number(&extent.segment)?;
                Some((number, extent.bytes().unwrap_or(u64::MAX)))
            });
            self.listed = Listed { at: durable.segment, extents: found.collect() };
        }
        let mut listed = self.listed.extents.iter();
        let end =
            listed.clone().find(|(number, _)| *number == self.place.segment).map(|(_, end)| *end);
        let is_next = |number: u64| number > self.place.segment && number <= durable.segment;
        let next = listed.find(|(number, _)| is_next(*number)).map(|(number, _)| *number);
        // A segment that somebody took away may have ended with what never became durable.
        Ok(Sealed { end: end.unwrap_or(self.place.durable), next })
    }

    fn fill(&mut self, batch: &mut Batch, end: u64, limits: BatchLimits) -> io::Result<()> {
        let place = &mut self.place;
        if place.bytes >= end {
            return Ok(());
        }
        let reader = match &mut self.open {
            Some(reader) => reader,
            none => match open_at(&*self.disk, *place) {
                Ok(reader) => none.insert(reader),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let mut line = Vec::new();
        while place.bytes < end
            && batch.records.len() < limits.records
            && batch.bytes < limits.bytes
        {
            line.clear();
            let room = (end - place.bytes).min(LONGEST_LINE);
            let read = reader.by_ref().take(room).read_until(b'\n', &mut line);
            let length = match read {
                Ok(0) => break,
                Ok(length) => length,
                // The records before it can be sent; the next read begins with this line.
                Err(_) if !batch.records.is_empty() => {
                    self.open = None;
                    break;
                }
                Err(error) => return Err(error),
            };
            place.bytes += length as u64;
            let Some(record) = line.strip_suffix(b"\n").and_then(ShippedRecord::parse) else {
                batch.unreadable += 1;
                batch.unreadable_in.get_or_insert(place.segment);
                continue;
            };
            batch.bytes += length;
            batch.records.push(record);
        }
        Ok(())
    }
}

/// Opens the segment of a place, and goes there.
fn open_at(disk: &dyn Disk, place: Place) -> io::Result<Box<dyn BufRead + Send>> {
    let mut reader = disk.open(&segment_name(place.segment))?;
    io::copy(&mut reader.by_ref().take(place.bytes), &mut io::sink())?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use ulid::Ulid;

    use super::*;
    use crate::audit::{Folder, Segment, Space};

    /// A folder whose files cannot be read beyond so many bytes. 0: they can.
    struct BadSectors {
        folder: Folder,
        readable: Arc<AtomicU64>,
    }

    struct Bad;

    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("a bad sector"))
        }
    }

    impl Disk for BadSectors {
        fn segments(&self) -> io::Result<Vec<String>> {
            self.folder.segments()
        }

        fn open(&self, segment: &str) -> io::Result<Box<dyn BufRead + Send>> {
            let reader = self.folder.open(segment)?;
            Ok(match self.readable.load(Ordering::Relaxed) {
                0 => reader,
                bytes => Box::new(io::BufReader::new(reader.take(bytes).chain(Bad))),
            })
        }

        fn create(&self, segment: &str) -> io::Result<Box<dyn Segment>> {
            self.folder.create(segment)
        }

        fn cut(&self, segment: &str, bytes: u64) -> io::Result<()> {
            self.folder.cut(segment, bytes)
        }

        fn remove(&self, segment: &str) -> io::Result<()> {
            self.folder.remove(segment)
        }

        fn space(&self) -> io::Result<Space> {
            self.folder.space()
        }

        fn lock(&self) -> io::Result<Box<dyn Send>> {
            self.folder.lock()
        }
    }

    fn line(chain: Ulid, seq: u64) -> String {
        format!(
            "{{\"v\":1,\"chain\":\"{chain}\",\"seq\":{seq},\"time\":\"2026-11-21T10:00:00Z\",\
             \"event\":\"service.start\"}}\n"
        )
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.seq).collect()
    }

    #[test]
    fn a_read_that_fails_loses_no_record_and_none_beyond_the_durable_end_is_read() {
        let (log, chain) = (tempfile::tempdir().unwrap(), Ulid::from_parts(1, 2));
        let lines: Vec<String> = (1..=6).map(|seq| line(chain, seq)).collect();
        std::fs::write(log.path().join(segment_name(1)), lines.concat()).unwrap();
        let length = |records: usize| lines.iter().take(records).map(String::len).sum::<usize>();
        let readable = Arc::new(AtomicU64::new(0));
        let folder = Folder::new(PathBuf::from(log.path()));
        let disk = BadSectors { folder, readable: Arc::clone(&readable) };
        let mut reader = Reader::new(Box::new(disk));
        let until = |records: usize| Durable {
            chain,
            seq: records as u64,
            segment: 1,
            bytes: length(records) as u64,
        };
        let limits = BatchLimits { records: 100, bytes: 1 << 20, gather: Duration::ZERO };
        assert_eq!(numbers(&reader.read(until(1), limits).unwrap()), [1]);
        for (good, durable) in [(1, 3), (3, 5)] {
            // In the middle of the line after the next one.
            readable.store((length(good + 1) + 10) as u64, Ordering::Relaxed);
            reader.open = None;
            let batch = reader.read(until(durable), limits).unwrap();
            assert_eq!(numbers(&batch), [good as u64 + 1]);
            for _ in 0..2 {
                assert!(reader.read(until(durable), limits).is_err());
                assert_eq!(reader.bytes(), length(good + 1) as u64);
            }
            readable.store(0, Ordering::Relaxed);
            let batch = reader.read(until(durable), limits).unwrap();
            assert_eq!((numbers(&batch), batch.unreadable), (vec![durable as u64], 0));
            assert_eq!(reader.bytes(), length(durable) as u64);
        }
    }
}
