//! Reads the chain back: what `audit verify` says, and what a start builds on.
//!
//! A segment that was given up may hold anything behind its last durable record. The next segment says where that is
//! (`resumes`); what lies behind it was never acknowledged to anybody and is void.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read};

use ulid::Ulid;

use super::chain::{Line, Position};
use super::disk::Disk;
use super::record::{CheckpointFields, Event};

/// Longer than any record can be.
const LONGEST_LINE: u64 = 64 << 10;

/// The first place that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{segment}, line {line} (byte {byte}): {why}")]
pub struct Break {
    pub segment: String,
    pub line: u64,
    pub byte: u64,
    pub why: String,
}

/// What is in the log.
#[derive(Debug, Default)]
pub struct Report {
    pub segments: usize,
    pub records: u64,
    /// Chain, and number of the first and last record.
    pub range: Option<(Ulid, u64, u64)>,
    pub checkpoints: u64,
    /// The public keys that signed them.
    pub keys: BTreeSet<String>,
    /// Bytes of an incomplete line at the very end.
    pub torn: u64,
    pub broken: Option<Break>,
    /// Checkpoints from elsewhere that were found here with the same hash.
    pub confirmed: u64,
}

/// A checkpoint that was kept away from the log.
#[derive(Clone, Debug)]
pub struct Kept {
    pub chain: Ulid,
    pub checkpoint: CheckpointFields,
}

/// The part of a segment that counts.
pub struct Extent {
    pub segment: String,
    /// `None`: all of it.
    bytes: Option<u64>,
}

impl Extent {
    /// Reads what counts.
    pub fn open(&self, disk: &dyn Disk) -> io::Result<impl BufRead + use<>> {
        Ok(disk.open(&self.segment)?.take(self.bytes.unwrap_or(u64::MAX)))
    }
}

/// What one extent holds.
#[derive(Default)]
pub(super) struct Walked {
    pub records: u64,
    /// Up to the end of the last whole line.
    pub bytes: u64,
    pub torn: u64,
    pub broken: Option<Break>,
}

/// Checks everything in the folder. `kept` are checkpoints from elsewhere: each must be found again.
pub fn verify(disk: &dyn Disk, kept: &[Kept]) -> io::Result<Report> {
    let mut kept: BTreeMap<(Ulid, u64), &Kept> =
        kept.iter().map(|it| ((it.chain, it.checkpoint.seq), it)).collect();
    let mut report = Report::default();
    let extents = extents(disk)?;
    let mut position = None;
    for (index, extent) in extents.iter().enumerate() {
        let is_last = index + 1 == extents.len();
        let mut wrong = None;
        let walked = walk(disk, extent, &mut position, |line, at| {
            let first = report.range.map_or(at.seq, |(_, first, _)| first);
            report.range = Some((at.chain, first, at.seq));
            if let Some(checkpoint) = &line.checkpoint {
                report.checkpoints += 1;
                report.keys.insert(checkpoint.key.clone());
            }
            match kept.remove(&(at.chain, at.seq)) {
                Some(kept) if kept.checkpoint.hash != hex::encode(at.hash) => {
                    wrong.get_or_insert("a checkpoint that was kept elsewhere has another hash for it: the log was rewritten");
                }
                Some(_) => report.confirmed += 1,
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
    report.broken = missing(&report, kept.into_values(), extents.last());
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

/// A checkpoint beyond the end of the log: its tail was cut off.
fn missing<'a>(
    report: &Report,
    kept: impl Iterator<Item = &'a Kept>,
    last: Option<&Extent>,
) -> Option<Break> {
    let (chain, first, end) = report.range.unwrap_or_default();
    // What is numbered before the first record here has been archived with it.
    let is_due = |it: &&Kept| it.chain != chain || it.checkpoint.seq >= first;
    let signed = kept.filter(is_due).max_by_key(|it| it.checkpoint.seq)?;
    let why = format!(
        "the log ends at record {end} of chain {chain}, but record {} of chain {} was signed: records were cut off",
        signed.checkpoint.seq, signed.chain
    );
    let segment = last.map_or_else(|| "(no segment)".to_owned(), |it| it.segment.clone());
    Some(Break { segment, line: report.records + 1, byte: 0, why })
}

/// Which parts count, in order.
pub fn extents(disk: &dyn Disk) -> io::Result<Vec<Extent>> {
    let names = disk.segments()?;
    let (mut extents, mut bytes, mut end) = (Vec::new(), None, names.len());
    while let Some((segment, before)) = names.get(..end).and_then(<[String]>::split_last) {
        extents.push(Extent { segment: segment.clone(), bytes: bytes.take() });
        end = before.len();
        let resumes = first_line(disk, segment)?
            .filter(|line| line.event == Event::Poisoned)
            .and_then(|line| line.resumes);
        if let Some(resumes) = resumes {
            end = before.iter().position(|it| *it == resumes.segment).map_or(0, |at| at + 1);
            bytes = Some(resumes.bytes);
        }
    }
    extents.reverse();
    Ok(extents)
}

fn first_line(disk: &dyn Disk, segment: &str) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    disk.open(segment)?.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(line.strip_suffix(b"\n").and_then(|line| Line::read(line).ok()).map(|(line, _)| line))
}

/// Whether a segment's first record is of this kind.
pub(super) fn begins_with(disk: &dyn Disk, segment: &str, event: Event) -> io::Result<bool> {
    Ok(first_line(disk, segment)?.is_some_and(|line| line.event == event))
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

/// Checks one extent. `position` is where the chain stands before it, `None` if what came before is not here (kept
/// elsewhere, or removed by its retention), and where it stands after it. `look` may find more that is wrong.
pub(super) fn walk(
    disk: &dyn Disk,
    extent: &Extent,
    position: &mut Option<Position>,
    mut look: impl FnMut(&Line, &Position) -> Option<&'static str>,
) -> io::Result<Walked> {
    let mut reader = extent.open(disk)?;
    let (mut walked, mut bytes) = (Walked::default(), Vec::new());
    loop {
        bytes.clear();
        let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let Some(line) = bytes.strip_suffix(b"\n").filter(|line| !line.iter().all(|it| *it == 0))
        else {
            if length == LONGEST_LINE {
                walked.broken = Some(broken(extent, &walked, "the line is too long for a record"));
            } else if extent.bytes.is_some_and(|bytes| bytes > walked.bytes) {
                walked.broken = Some(broken(
                    extent,
                    &walked,
                    "the segment ends here, before the place that the next segment goes on from",
                ));
            }
            walked.torn = length;
            return Ok(walked);
        };
        let judged = judge(line, position.as_ref())
            .and_then(|(line, at)| look(&line, &at).map_or(Ok(at), Err));
        match judged {
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

fn judge(line: &[u8], before: Option<&Position>) -> Result<(Line, Position), &'static str> {
    let (line, at) = Line::read(line)?;
    if let Some(before) = before {
        if line.event == Event::BrokenAccepted {
            return Err(
                "a new chain begins here: the one before was broken, and started over with --accept-broken-chain",
            );
        }
        line.follows(before)?;
    }
    if let Some(checkpoint) = &line.checkpoint {
        if checkpoint.seq.wrapping_add(1) != line.seq || checkpoint.hash != line.prev {
            return Err("its checkpoint is of another place than the record before it");
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
