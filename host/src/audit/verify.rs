//! Reads the chain back, for `audit verify` and for a start.
//!
//! A segment that was abandoned may hold anything after its last durable record. The next segment
//! says where that is (`resumes`). What lies behind it is void, because nobody was told that it is
//! durable.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};
use std::ops::RangeInclusive;

use ulid::Ulid;

use super::chain::{Line, Position};
use super::disk::{Disk, any_segment_number, segment_number};
use super::head;
use super::kept::{Kept, KeptHashes};
use super::record::Event;

const DISPLACED: &str = "the segment before this one was removed or moved away; its records are \
                         missing here";
/// Longer than any record can be.
pub(super) const LONGEST_LINE: u64 = 64 << 10;

/// The first place where the log is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{segment}, line {line} (byte {byte}): {why}")]
pub struct Break {
    pub segment: String,
    pub line: u64,
    pub byte: u64,
    pub why: String,
}

/// The contents of the log, in numbers.
#[derive(Debug, Default)]
pub struct LogReport {
    pub segments: usize,
    pub records: u64,
    /// The last chain, and the numbers of its first and last record.
    pub range: Option<(Ulid, u64, u64)>,
    pub checkpoints: u64,
    /// The number of the last checkpoint.
    pub last_checkpoint: Option<u64>,
    /// The public keys that signed them.
    pub keys: BTreeSet<String>,
    /// Bytes of an incomplete line at the very end.
    pub torn: u64,
    pub broken: Option<Break>,
    /// Checkpoints that were kept elsewhere and are here with the same hash.
    pub confirmed: u64,
    /// Files before the first segment that were packed or renamed, and were not checked.
    pub packed: Vec<String>,
}

impl LogReport {
    /// The records behind the last checkpoint.
    pub fn unsigned(&self) -> Option<RangeInclusive<u64>> {
        let (_, first, last) = self.range?;
        unsigned(first, last, self.last_checkpoint)
    }
}

/// Records that no checkpoint signs: they could be rewritten without the signing key.
pub(super) fn unsigned(
    first: u64,
    last: u64,
    checkpoint: Option<u64>,
) -> Option<RangeInclusive<u64>> {
    let first = checkpoint.map_or(first, |checkpoint| checkpoint.saturating_add(1));
    (first <= last).then_some(first..=last)
}

/// The valid part of a segment.
pub struct Extent {
    pub segment: String,
    /// `None`: all of it.
    bytes: Option<u64>,
}

impl Extent {
    /// How many bytes are valid. `None`: all of them.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Opens the valid part for reading.
    pub fn open(&self, disk: &dyn Disk) -> io::Result<impl BufRead + use<>> {
        Ok(disk.open(&self.segment)?.take(self.bytes.unwrap_or(u64::MAX)))
    }
}

/// The contents of one extent.
#[derive(Default)]
pub(super) struct Walked {
    pub records: u64,
    /// Up to the end of the last whole line.
    pub bytes: u64,
    pub torn: u64,
    pub broken: Option<Break>,
}

/// Checks everything in the folder. `kept` are checkpoints that were kept elsewhere: each of them
/// must be in the log.
pub fn verify(disk: &dyn Disk, kept: &[Kept]) -> io::Result<LogReport> {
    let mut kept = KeptHashes::new(kept);
    let mut report = LogReport::default();
    let extents = extents(disk)?;
    let mut position = None;
    let mut packed = disk.packed()?.into_iter().peekable();
    for (index, extent) in extents.iter().enumerate() {
        let is_before = |name: &String| any_segment_number(name) < segment_number(&extent.segment);
        while let Some(name) = packed.next_if(is_before) {
            if index > 0 {
                report.broken = Some(head::packed(&name));
                return Ok(report);
            }
            report.packed.push(name);
        }
        let is_last = index + 1 == extents.len();
        let (mut wrong, is_first) = (None, index == 0);
        let walked = walk(disk, extent, &mut position, |line, at| {
            if is_first && line.event == Event::Displaced {
                // The segment before is not here, so no record shows that something is missing.
                return Some(DISPLACED);
            }
            let first = report.range.map_or(at.seq, |(_, first, _)| first);
            report.range = Some((at.chain, first, at.seq));
            if let Some(checkpoint) = &line.checkpoint {
                report.checkpoints += 1;
                report.last_checkpoint = Some(at.seq);
                report.keys.insert(checkpoint.key.clone());
            }
            match kept.confirm(at) {
                Some(false) => {
                    wrong.get_or_insert(
                        "a checkpoint that was kept elsewhere has another hash for this record: \
                         the log was rewritten",
                    );
                }
                Some(true) => report.confirmed += 1,
                None => {}
            }
            wrong
        })?;
        report.segments += 1;
        report.records += walked.records;
        report.broken = walked.broken.clone().or_else(|| unfinished(extent, &walked, is_last));
        if report.broken.is_some() {
            return Ok(report);
        }
        report.torn = walked.torn;
    }
    report.broken = missing(&report, kept.unseen(), extents.last());
    Ok(report)
}

fn unfinished(extent: &Extent, walked: &Walked, is_last: bool) -> Option<Break> {
    (walked.torn > 0 && !is_last).then(|| Break {
        segment: extent.segment.clone(),
        line: walked.records + 1,
        byte: walked.bytes,
        why: "the line is incomplete, and another segment follows".to_owned(),
    })
}

/// A kept checkpoint beyond the end of the log shows that records were cut off.
fn missing(
    report: &LogReport,
    unseen: impl Iterator<Item = (Ulid, u64)>,
    last: Option<&Extent>,
) -> Option<Break> {
    let (chain, first, end) = report.range.unwrap_or_default();
    // Checkpoints before the first record here were archived together with their records.
    let is_due = |(of, seq): &(Ulid, u64)| *of != chain || *seq >= first;
    let (signed_chain, signed) = unseen.filter(is_due).max_by_key(|(_, seq)| *seq)?;
    let why = format!(
        "the log ends at record {end} of chain {chain}, but record {signed} of chain \
         {signed_chain} was signed: records were cut off"
    );
    let segment = last.map_or_else(|| "(no segment)".to_owned(), |extent| extent.segment.clone());
    Some(Break { segment, line: report.records + 1, byte: 0, why })
}

/// The valid parts of all segments, in order.
pub fn extents(disk: &dyn Disk) -> io::Result<Vec<Extent>> {
    let names = disk.segments()?;
    let (mut extents, mut bytes, mut end) = (Vec::new(), None, names.len());
    while let Some((segment, before)) = names.get(..end).and_then(<[String]>::split_last) {
        extents.push(Extent { segment: segment.clone(), bytes: bytes.take() });
        end = before.len();
        let resumes = first_record(disk, segment)?
            .filter(|line| matches!(line.event, Event::Poisoned | Event::Displaced));
        let Some((event, resumes)) = resumes.and_then(|line| Some((line.event, line.resumes?)))
        else {
            continue;
        };
        let found = before.iter().position(|name| *name == resumes.segment);
        if event == Event::Displaced && found.is_none() {
            // Those before the segment that was taken away are still valid.
            continue;
        }
        end = found.map_or(0, |at| at + 1);
        bytes = Some(resumes.bytes);
    }
    extents.reverse();
    Ok(extents)
}

/// Calls `each` with every line of an extent, in order. A line that is longer than a record comes
/// in pieces, so that a damaged segment cannot fill the memory.
pub(super) fn each_line(
    disk: &dyn Disk,
    extent: &Extent,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let (mut reader, mut line) = (extent.open(disk)?, Vec::new());
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        each(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
    Ok(())
}

fn first_record(disk: &dyn Disk, segment: &str) -> io::Result<Option<Line>> {
    let line = first_line(disk, segment)?;
    Ok(Line::read(&line).ok().map(|(line, _)| line))
}

/// The first line of a segment, without its end; empty if it is incomplete.
pub(super) fn first_line(disk: &dyn Disk, segment: &str) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    disk.open(segment)?.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(if line.pop() == Some(b'\n') { line } else { Vec::new() })
}

/// Whether the first record of a segment is of this event.
pub(super) fn begins_with(disk: &dyn Disk, segment: &str, event: Event) -> io::Result<bool> {
    Ok(first_record(disk, segment)?.is_some_and(|line| line.event == event))
}

/// The last whole line of an extent, if it is a record.
pub(super) fn end_of(disk: &dyn Disk, extent: &Extent) -> io::Result<Option<Position>> {
    let mut reader = extent.open(disk)?;
    let (mut last, mut line) = (Vec::new(), Vec::new());
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        if line.pop() == Some(b'\n') {
            std::mem::swap(&mut last, &mut line);
        }
        line.clear();
    }
    Ok(Line::read(&last).ok().map(|(_, position)| position))
}

/// Checks one extent. `position` is the last record before it, and afterwards the last record in
/// it. `None`: the records before it are not here, because they were archived or deleted. `inspect`
/// sees each record and may find more that is wrong.
pub(super) fn walk(
    disk: &dyn Disk,
    extent: &Extent,
    position: &mut Option<Position>,
    mut inspect: impl FnMut(&Line, &Position) -> Option<&'static str>,
) -> io::Result<Walked> {
    let mut reader = extent.open(disk)?;
    let (mut walked, mut bytes) = (Walked::default(), Vec::new());
    loop {
        bytes.clear();
        let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let Some(line) =
            bytes.strip_suffix(b"\n").filter(|line| !line.iter().all(|byte| *byte == 0))
        else {
            if length == LONGEST_LINE {
                walked.broken = Some(broken(extent, &walked, "the line is too long for a record"));
            } else if extent.bytes.is_some_and(|bytes| bytes > walked.bytes) {
                walked.broken = Some(broken(
                    extent,
                    &walked,
                    "the segment ends here, before the place where the next segment resumes",
                ));
            }
            walked.torn = length;
            return Ok(walked);
        };
        let checked = check(line, position.as_ref())
            .and_then(|(line, at)| inspect(&line, &at).map_or(Ok(at), Err));
        match checked {
            Ok(at) => *position = Some(at),
            Err(why) => {
                walked.broken = Some(broken(extent, &walked, why));
                return Ok(walked);
            }
        }
        walked.records += 1;
        walked.bytes += length;
    }
}

pub(super) fn check(
    line: &[u8],
    before: Option<&Position>,
) -> Result<(Line, Position), &'static str> {
    let (line, at) = Line::read(line)?;
    if let Some(before) = before {
        if line.event == Event::BrokenAccepted {
            return Err(
                "a new chain begins here: the chain before it was broken, and the broker was \
                 started with --accept-broken-chain",
            );
        }
        let follows = line.follows(before);
        // The segment before may have come back.
        follows.map_err(|why| if line.event == Event::Displaced { DISPLACED } else { why })?;
    }
    if let Some(checkpoint) = &line.checkpoint {
        if checkpoint.seq.wrapping_add(1) != line.seq || checkpoint.hash != line.prev {
            return Err("its checkpoint is for another record than the one before it");
        }
        if !checkpoint.is_signed(line.chain) {
            return Err("its checkpoint's signature is wrong");
        }
    }
    Ok((line, at))
}

fn broken(extent: &Extent, walked: &Walked, why: &str) -> Break {
    Break {
        segment: extent.segment.clone(),
        line: walked.records + 1,
        byte: walked.bytes,
        why: why.to_owned(),
    }
}
