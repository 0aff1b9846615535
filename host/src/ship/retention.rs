//! Deletes old segments that every target has.
//!
//! **Invariant:** a segment is deleted only if every target has its records and a checkpoint of a
//! later segment, it is the oldest, and all its records are older than the settings state.
//! **Invariant:** the segment that is written and the one before it stay: a start reads them.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Keep;
use super::record::ShippedRecord;
use super::status::TargetStatus;
use crate::audit::{Disk, Folder, segment_name, segment_number};
use crate::domain::Clock;

const PAUSE: Duration = Duration::from_mins(1);
const STAY: usize = 2;
const LONGEST_LINE: u64 = 64 << 10;

/// How old all records of a segment are before it is deleted.
pub(super) struct Age {
    /// Of the settings, or longer.
    age: Duration,
    keep: Keep,
}

impl Age {
    pub(super) fn new(age: Duration, keep: Keep) -> Self {
        Self { age: age.max(keep()), keep }
    }

    /// It never becomes less: what was issued before a reload lives as long as it was told.
    fn now(&mut self) -> Duration {
        self.age = self.age.max((self.keep)());
        self.age
    }
}

pub(super) async fn run(
    folder: Folder,
    statuses: Vec<Arc<TargetStatus>>,
    clock: Clock,
    mut age: Age,
) {
    let mut retention = Retention { folder, statuses, problems: Vec::new() };
    loop {
        tokio::time::sleep(PAUSE).await;
        let Ok(before) = clock.now().checked_sub(age.now()) else { continue };
        let turn = tokio::task::spawn_blocking(move || {
            retention.turn(before);
            retention
        });
        match turn.await {
            Ok(after) => retention = after,
            Err(_) => return,
        }
    }
}

struct Retention {
    folder: Folder,
    statuses: Vec<Arc<TargetStatus>>,
    /// What was wrong in the last turn, and is logged.
    problems: Vec<String>,
}

impl Retention {
    /// Deletes what may be deleted, and logs what is wrong for the first time.
    fn turn(&mut self, before: Timestamp) {
        let mut problems = Vec::new();
        match self.delete(before, &mut problems) {
            Ok(0) => {}
            Ok(segments) => tracing::info!(segments, "shipped audit segments were deleted"),
            Err(error) => problems.push(format!("a segment cannot be deleted: {error}")),
        }
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!(problem, "old audit segments may stay longer than they should");
        }
        self.problems = problems;
    }

    /// Deletes segments that no target needs and whose records are from before this time, oldest
    /// first.
    fn delete(&self, before: Timestamp, problems: &mut Vec<String>) -> io::Result<u64> {
        let names = self.folder.segments()?;
        let Some(oldest) = names.first().and_then(|name| segment_number(name)) else {
            return Ok(0);
        };
        self.statuses.iter().for_each(|status| status.begins_at(oldest));
        let needed = self.statuses.iter().map(|status| status.needs_from(oldest)).min().flatten();
        let Some(needed) = needed else { return Ok(0) };
        for status in &self.statuses {
            problems.extend(status.lacks_from(oldest).map(|lacking| {
                format!(
                    "{} will never have all records of {}; keep that segment elsewhere, and move \
                     it away with those before it",
                    status.target(),
                    segment_name(lacking)
                )
            }));
        }
        let mut deleted = 0;
        for (index, pair) in names.windows(STAY).enumerate() {
            let [oldest, next] = pair else { break };
            let is_shipped = segment_number(next).is_some_and(|next| next <= needed);
            if !is_shipped || next == names.last().unwrap_or(next) {
                break;
            }
            // All records of a segment are older than the first one behind it.
            let later = names.get(index + 1..).unwrap_or_default();
            let is_old = self.begin(later, problems)?.is_some_and(|begin| begin < before);
            if !is_old {
                break;
            }
            self.folder.remove(oldest)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// The time of the first record of these segments. A start that was interrupted leaves one
    /// without a record.
    fn begin(
        &self,
        segments: &[String],
        problems: &mut Vec<String>,
    ) -> io::Result<Option<Timestamp>> {
        for segment in segments {
            let mut line = Vec::new();
            self.folder.open(segment)?.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            let record = line.strip_suffix(b"\n").and_then(ShippedRecord::parse);
            if let Some(record) = record {
                return Ok(Some(record.time));
            }
            let problem = format!("{segment} does not begin with a record; run `audit verify`");
            // The newest one is being written.
            let is_wrong = !line.is_empty() && Some(segment) != segments.last();
            if is_wrong && !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::watch;
    use ulid::Ulid;

    use super::*;
    use crate::audit::Durable;
    use crate::ship::cursor::Cursor;

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

    /// A target that has everything before this segment, but for these.
    fn target(segment: u64, lacking: &[u64]) -> Vec<Arc<TargetStatus>> {
        let status = TargetStatus::new("otlp", watch::channel(Durable::default()).1);
        let (chain, lacking) = (Ulid::from_parts(1, 2), lacking.iter().copied().collect());
        let checkpoint_segment = segment;
        let cursor = Cursor { chain, seq: 7, segment, bytes: 512, checkpoint_segment, lacking };
        status.is_at(Some(cursor));
        vec![Arc::new(status)]
    }

    #[test]
    fn a_segment_that_a_target_lacks_stays_until_somebody_moves_it_away() {
        let noon = "2026-11-21T12:00:00Z".parse().unwrap();
        let (log, folder) = log(&[1, 2, 3, 4, 5, 6]);
        let statuses = target(6, &[2, 4]);
        let mut retention = Retention { folder, statuses, problems: Vec::new() };
        for (moved, left) in
            [(None, &[2, 3, 4, 5, 6][..]), (Some(2), &[4, 5, 6]), (Some(4), &[5, 6])]
        {
            if let Some(moved) = moved {
                std::fs::remove_file(log.path().join(segment_name(moved))).unwrap();
            }
            retention.turn(noon);
            let names: Vec<String> = left.iter().map(|number| segment_name(*number)).collect();
            assert_eq!(retention.folder.segments().unwrap(), names);
            let is_told = retention.problems.iter().any(|it| it.contains(&names[0]));
            assert_eq!(is_told, moved != Some(4), "{:?}", retention.problems);
        }
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
            let mut retention =
                Retention { folder, statuses: target(needed, &[]), problems: Vec::new() };
            retention.turn(noon);
            let names: Vec<String> = left.iter().map(|number| segment_name(*number)).collect();
            assert_eq!(retention.folder.segments().unwrap(), names, "{hours:?} {needed}");
            assert_eq!(retention.problems, [""; 0]);
        }
    }

    #[test]
    fn what_a_reload_must_keep_is_kept_and_stays_so() {
        let keep = Arc::new(AtomicU64::new(5));
        let asked = Arc::clone(&keep);
        let asked = move || Duration::from_hours(asked.load(Ordering::Relaxed));
        let mut age = Age::new(Duration::from_hours(10), Box::new(asked));
        for (hours, expected) in [(5, 10), (20, 20), (12, 20), (30, 30)] {
            keep.store(hours, Ordering::Relaxed);
            assert_eq!(age.now(), Duration::from_hours(expected));
        }
    }

    #[test]
    fn a_segment_without_a_record_keeps_no_other_one() {
        let noon = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, hours, left, is_told) in [
            ("", &[1, 2, 3, 4, 5][..], &[4, 5][..], false),
            ("{\n", &[1, 2, 3, 4, 5], &[4, 5], true),
            // The records of the first may be as young as the third.
            ("", &[1, 2, 13, 14, 15], &[1, 2, 3, 4, 5], false),
            ("{\n", &[1, 2, 13, 14, 15], &[1, 2, 3, 4, 5], true),
        ] {
            let (log, folder) = log(hours);
            std::fs::write(log.path().join(segment_name(2)), text).unwrap();
            let mut retention =
                Retention { folder, statuses: target(5, &[]), problems: Vec::new() };
            retention.turn(noon);
            let names: Vec<String> = left.iter().map(|number| segment_name(*number)).collect();
            assert_eq!(retention.folder.segments().unwrap(), names, "{text:?} {hours:?}");
            let told: Vec<&str> = retention.problems.iter().map(String::as_str).collect();
            let expected = "audit-00000002.jsonl does not begin with a record; run `audit verify`";
            assert_eq!(told, if is_told { vec![expected] } else { vec![] });
        }
    }
}
