//! Deletes old segments that every target has.
//!
//! **Invariant:** a segment is deleted only if every target has its records and a checkpoint of a
//! later segment, it is the oldest, and all its records are older than the settings state.
//! **Invariant:** the segment that is written and the one before it stay: a start reads them.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::record::ShippedRecord;
use super::status::TargetStatus;
use crate::audit::{Disk, Folder, segment_number};
use crate::domain::Clock;

const PAUSE: Duration = Duration::from_mins(1);
const STAY: usize = 2;
const LONGEST_LINE: u64 = 64 << 10;

pub(super) async fn run(
    folder: Folder,
    statuses: Vec<Arc<TargetStatus>>,
    clock: Clock,
    age: Duration,
) {
    let mut folder = Some(folder);
    loop {
        tokio::time::sleep(PAUSE).await;
        let needed = statuses.iter().map(|status| status.needs_from()).min().flatten();
        let before = clock.now().checked_sub(age).ok();
        let (Some(needed), Some(before), Some(taken)) = (needed, before, folder.take()) else {
            continue;
        };
        let done = tokio::task::spawn_blocking(move || {
            let deleted = delete(&taken, needed, before);
            (taken, deleted)
        });
        match done.await {
            Ok((taken, deleted)) => {
                folder = Some(taken);
                match deleted {
                    Ok(0) => {}
                    Ok(segments) => tracing::info!(segments, "shipped audit segments were deleted"),
                    Err(error) => {
                        tracing::warn!(%error, "a shipped audit segment cannot be deleted");
                    }
                }
            }
            Err(_) => return,
        }
    }
}

/// Deletes segments before `needed` whose records are from before this time, oldest first.
fn delete(folder: &Folder, needed: u64, before: Timestamp) -> io::Result<u64> {
    let names = folder.segments()?;
    let mut deleted = 0;
    for pair in names.windows(STAY) {
        let [oldest, next] = pair else { break };
        let is_shipped = segment_number(next).is_some_and(|next| next <= needed);
        // All records of a segment are older than the first one of the next.
        let is_old = begin(folder, next)?.is_some_and(|begin| begin < before);
        if !is_shipped || !is_old || next == names.last().unwrap_or(next) {
            break;
        }
        folder.remove(oldest)?;
        deleted += 1;
    }
    Ok(deleted)
}

/// The time of the first record.
fn begin(folder: &Folder, segment: &str) -> io::Result<Option<Timestamp>> {
    let mut line = Vec::new();
    folder.open(segment)?.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(line.strip_suffix(b"\n").and_then(ShippedRecord::parse).map(|record| record.time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::segment_name;

    /// A segment for each of these hours of a day.
    fn log(hours: &[u8]) -> (tempfile::TempDir, Folder) {
        let log = tempfile::tempdir().unwrap();
        for (index, hour) in (1..).zip(hours) {
            let line = format!(
                r#"{{"v":1,"chain":"01M7XYNW8K6XBGT75WF4PVR3VR","seq":{index},"time":"2026-11-21T{hour:02}:00:00Z","event":"service.start"}}"#
            );
            std::fs::write(log.path().join(segment_name(index)), line + "\n").unwrap();
        }
        let folder = Folder::new(log.path().to_owned());
        (log, folder)
    }

    #[test]
    fn only_what_is_shipped_and_old_is_deleted_and_the_oldest_first() {
        let noon = "2026-11-21T12:00:00Z".parse().unwrap();
        for (hours, needed, left) in [
            // All is shipped and old: the newest two stay.
            (&[1, 2, 3, 4][..], 4, &[3, 4][..]),
            (&[1, 2, 3, 4], 3, &[3, 4]),
            (&[1, 2, 3, 4], 2, &[2, 3, 4]),
            (&[1, 2, 3, 4], 1, &[1, 2, 3, 4]),
            // The second has records until the third begins, at two o'clock.
            (&[1, 2, 14, 15, 16], 5, &[2, 3, 4, 5]),
            (&[13, 14, 15], 3, &[1, 2, 3]),
            (&[1, 2], 2, &[1, 2]),
            (&[1], 1, &[1]),
            (&[], 1, &[]),
        ] {
            let (_log, folder) = log(hours);
            let deleted = delete(&folder, needed, noon).unwrap();
            let names: Vec<String> = left.iter().map(|number| segment_name(*number)).collect();
            assert_eq!(folder.segments().unwrap(), names, "{hours:?} {needed}");
            assert_eq!(deleted, (hours.len() - left.len()) as u64);
        }
    }
}
