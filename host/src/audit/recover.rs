//! Finds the end of the log at start: the last segment is checked, and a torn last line is cut off.
//! Nothing else is changed.

use std::io;

use ulid::Ulid;

use super::chain::{Line, Position};
use super::disk::{Disk, any_segment_number};
use super::head::{Head, missing, packed_before};
use super::record::{Event, Resumes};
use super::verify::{self, Break, Walked};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read or write the audit log: {source}; {}", crate::state::advice(source))]
    Io {
        #[from]
        source: io::Error,
    },
    #[error(
        "the audit log is broken at {0}; find out who changed it, then restore it from a backup, \
         or start once with --accept-broken-chain to begin a new chain behind it"
    )]
    Broken(Break),
    #[error("the thread that writes the audit log has ended")]
    Ended,
    #[error("the disk of the audit log did not answer within {0} seconds")]
    TimedOut(u64),
}

/// The end of the log, where the next segment resumes.
pub(super) struct Recovered {
    pub tail: Position,
    /// The end of the valid part.
    pub end: Resumes,
    /// The number of the next segment.
    pub next: u64,
    pub bytes_cut: u64,
    /// The operator accepted a broken chain, and a new one begins.
    pub accepted: bool,
    /// All segments are gone, although the broker wrote some.
    pub all_gone: bool,
    /// The key that signed the last checkpoint in the last segment.
    pub signed_by: Option<String>,
    /// How many records come after the last checkpoint.
    pub unsigned: u64,
}

impl Recovered {
    /// An empty log, whose next segment has a number that no segment had before.
    fn nothing(disk: &dyn Disk, head: Option<&Head>) -> io::Result<Self> {
        let (names, packed) = (disk.segments()?, disk.packed()?);
        let numbers = names.iter().chain(&packed).filter_map(|name| any_segment_number(name));
        let newest = numbers.chain(head.map(|head| head.segment)).max().unwrap_or(0);
        Ok(Self {
            tail: Position::beginning(Ulid::generate()),
            end: Resumes { segment: String::new(), bytes: 0 },
            next: newest.saturating_add(1),
            bytes_cut: 0,
            accepted: false,
            all_gone: false,
            signed_by: None,
            unsigned: 0,
        })
    }
}

/// `head` is the newest segment that this broker wrote, if that is known.
pub(super) fn recover(
    disk: &dyn Disk,
    head: Option<&Head>,
    accept_broken: bool,
) -> Result<Recovered, StartError> {
    let mut recovered = Recovered::nothing(disk, head)?;
    let mut extents = verify::extents(disk)?;
    if let Some(broken) = missing(disk, head)? {
        recovered.end.segment.clone_from(&broken.segment);
        if extents.is_empty() && disk.packed()?.is_empty() {
            // Nothing is left that a new chain could contradict, and nothing to begin it behind.
            recovered.all_gone = true;
            return Ok(recovered);
        }
        if !accept_broken {
            return Err(StartError::Broken(broken));
        }
        recovered.accepted = true;
        return Ok(recovered);
    }
    while let Some(extent) = extents.pop() {
        let mut position =
            extents.last().map_or(Ok(None), |before| verify::end_of(disk, before))?;
        let begins_anew = position.is_none();
        let Walked { records, bytes, torn, broken } =
            walk(disk, &extent, &mut position, !begins_anew, &mut recovered)?;
        let packed = match extents.last() {
            Some(before) => packed_before(disk, &before.segment, &extent.segment)?,
            None => None,
        };
        if let Some(broken) = packed.or(broken) {
            if !accept_broken {
                return Err(StartError::Broken(broken));
            }
            recovered.accepted = true;
            recovered.end = Resumes { segment: extent.segment, bytes };
            return Ok(recovered);
        }
        // This also syncs a segment without a torn line: what a killed broker wrote last may be in
        // the kernel's memory only, and the chain builds on it.
        disk.cut(&extent.segment, bytes)?;
        recovered.bytes_cut = recovered.bytes_cut.saturating_add(torn);
        if let (Some(tail), true) = (position, records > 0) {
            recovered.tail = tail;
            recovered.end = Resumes { segment: extent.segment, bytes };
            if recovered.signed_by.is_none() {
                recovered.unsigned = recovered.unsigned.saturating_add(unsigned(disk, extents));
            }
            return Ok(recovered);
        }
    }
    Ok(recovered)
}

/// How many records at the end of these segments no checkpoint signs. A broker that is killed
/// again and again writes none for its time, so that the number must count.
fn unsigned(disk: &dyn Disk, mut extents: Vec<verify::Extent>) -> u64 {
    let (mut records, mut is_signed) = (0_u64, false);
    while let Some(extent) = extents.pop().filter(|_| !is_signed) {
        let mut here = 0;
        let read = verify::each_line(disk, &extent, |line| {
            let has_checkpoint = Line::read(line).map(|(line, _)| line.checkpoint.is_some());
            is_signed |= has_checkpoint == Ok(true);
            here = if has_checkpoint == Ok(true) { 0 } else { here + 1 };
        });
        records = records.saturating_add(here);
        // Whether a start can do without this segment was decided before.
        if read.is_err() {
            break;
        }
    }
    records
}

/// A chain that began anew because the operator accepted a break is not broken at that place, and
/// neither is one whose segment before was taken away: `audit verify` reports that for ever, and a
/// start does not depend on it.
fn walk(
    disk: &dyn Disk,
    extent: &verify::Extent,
    position: &mut Option<Position>,
    follows: bool,
    recovered: &mut Recovered,
) -> io::Result<Walked> {
    let begins_with = |event| verify::begins_with(disk, &extent.segment, event);
    if follows && (begins_with(Event::BrokenAccepted)? || begins_with(Event::Displaced)?) {
        *position = None;
    }
    verify::walk(disk, extent, position, |line, _| {
        recovered.unsigned = recovered.unsigned.saturating_add(1);
        if let Some(checkpoint) = &line.checkpoint {
            recovered.signed_by = Some(checkpoint.key.clone());
            recovered.unsigned = 0;
        }
        None
    })
}
