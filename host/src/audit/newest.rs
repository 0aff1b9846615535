//! The newest records that match, for a reader who waits: within a time, a number and a size.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use jiff::Timestamp;

use super::Durable;
use super::disk::{Disk, segment_number};
use super::filter::Filter;
use super::past::begin;
use super::time_of;
use super::verify::{LONGEST_LINE, extents};
use crate::domain::Deadline;

/// Bytes of all records that are returned at once.
const MOST_BYTES: usize = 4 << 20;

/// Records as the log has them, oldest first.
#[derive(Debug, Default)]
pub struct Newest {
    pub lines: Vec<String>,
    /// Older records that match may be before this time. `None`: there are none.
    pub before: Option<Timestamp>,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub struct SearchBounds {
    pub most: usize,
    pub deadline: Deadline,
    /// What lies behind it may never become durable. `None`: nobody writes.
    pub durable: Option<Durable>,
}

/// The end of one segment, as far as it matches.
#[derive(Default)]
struct Window {
    lines: VecDeque<(Option<Timestamp>, String)>,
    bytes: usize,
    /// Whether older ones had to leave.
    is_full: bool,
}

/// Reads the segments backwards, each of them forwards. `None`: not even the newest segment could
/// be read in time.
pub fn newest(
    disk: &dyn Disk,
    filter: &Filter,
    bounds: SearchBounds,
) -> io::Result<Option<Newest>> {
    let SearchBounds { most, deadline, durable } = bounds;
    let mut found: VecDeque<(Option<Timestamp>, String)> = VecDeque::new();
    let (mut bytes, mut before, mut is_first) = (0, None, true);
    for extent in extents(disk)?.iter().rev() {
        let number = segment_number(&extent.segment);
        let written = durable.filter(|durable| number >= Some(durable.segment));
        if written.is_some_and(|durable| number > Some(durable.segment)) {
            continue;
        }
        let begins = begin(disk, extent)?;
        if filter.until.is_some_and(|until| begins.is_some_and(|begins| begins >= until)) {
            continue;
        }
        let room = (most.saturating_sub(found.len()), MOST_BYTES.saturating_sub(bytes));
        let reader = extent.open(disk)?.take(written.map_or(u64::MAX, |durable| durable.bytes));
        let Some(window) = end_of(reader, filter, room, deadline)? else {
            if is_first {
                return Ok(None);
            }
            return Ok(Some(Newest::of(found, before)));
        };
        (before, is_first) = (begins, false);
        bytes += window.bytes;
        let is_full = window.is_full;
        window.lines.into_iter().rev().for_each(|line| found.push_front(line));
        if is_full {
            let oldest = found.front().and_then(|(time, _)| *time);
            return Ok(Some(Newest::of(found, oldest)));
        }
        if filter.since.is_some_and(|since| begins.is_some_and(|begins| begins < since)) {
            break;
        }
    }
    Ok(Some(Newest::of(found, None)))
}

/// The last matching lines of one extent; `None` if the time is over.
fn end_of(
    mut reader: impl BufRead,
    filter: &Filter,
    (most, most_bytes): (usize, usize),
    deadline: Deadline,
) -> io::Result<Option<Window>> {
    let (mut line, mut window) = (Vec::new(), Window::default());
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        if deadline.remaining().is_zero() {
            return Ok(None);
        }
        // The last line may be half written.
        if let Some(whole) = line.strip_suffix(b"\n")
            && let Some(record) = filter.find(whole)
        {
            let text = String::from_utf8_lossy(whole).into_owned();
            window.push((time_of(&record), text), (most, most_bytes));
        }
        line.clear();
    }
    Ok(Some(window))
}

impl Window {
    fn push(&mut self, line: (Option<Timestamp>, String), (most, most_bytes): (usize, usize)) {
        self.bytes += line.1.len();
        self.lines.push_back(line);
        while self.lines.len() > most || self.bytes > most_bytes {
            let Some((_, text)) = self.lines.pop_front() else { return };
            self.bytes -= text.len();
            self.is_full = true;
        }
    }
}

impl Newest {
    fn of(lines: VecDeque<(Option<Timestamp>, String)>, before: Option<Timestamp>) -> Self {
        Self { lines: lines.into_iter().map(|(_, text)| text).collect(), before }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::audit::Folder;

    /// Three segments of ten records, a second apart.
    fn log() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        for segment in 0..3 {
            let lines: String = (0..10).map(|line| record(segment * 10 + line) + "\n").collect();
            let name = format!("audit-{:08}.jsonl", segment + 1);
            // The last line is being written.
            let torn = if segment == 2 { "{\"time\":" } else { "" };
            fs::write(directory.path().join(name), lines + torn).unwrap();
        }
        let folder = Folder::new(directory.path().to_owned());
        (directory, folder)
    }

    fn record(number: i64) -> String {
        let project = if number % 2 == 0 { "even" } else { "odd" };
        format!(r#"{{"time":"{}","project":"{project}","seq":{number}}}"#, at(number))
    }

    fn at(number: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + number).unwrap()
    }

    fn soon(most: usize) -> SearchBounds {
        let deadline = Deadline::after(Duration::from_mins(1));
        SearchBounds { most, deadline, durable: None }
    }

    fn numbers(newest: &Newest) -> Vec<i64> {
        let number = |line: &String| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_i64().unwrap()
        };
        newest.lines.iter().map(number).collect()
    }

    #[test]
    fn pages_join_without_gaps_and_repeats() {
        let (_directory, folder) = log();
        for (project, expected) in
            [(None, (0..30).collect::<Vec<_>>()), (Some("odd"), (1..30).step_by(2).collect())]
        {
            for most in [1, 4, 10, 15, 30, 1000] {
                let mut filter =
                    Filter { project: project.map(str::to_owned), ..Filter::default() };
                let mut all: Vec<i64> = Vec::new();
                loop {
                    let page = newest(&folder, &filter, soon(most)).unwrap().unwrap();
                    assert!(page.lines.len() <= most);
                    all.splice(0..0, numbers(&page));
                    let Some(before) = page.before else { break };
                    filter.until = Some(before);
                }
                assert_eq!(all, expected, "{project:?} {most}");
            }
        }
    }

    #[test]
    fn times_bound_what_is_read() {
        let (_directory, folder) = log();
        let within = |since, until| {
            let filter =
                Filter { since: Some(at(since)), until: Some(at(until)), ..Filter::default() };
            let found = newest(&folder, &filter, soon(100)).unwrap().unwrap();
            assert_eq!(found.before, None);
            numbers(&found)
        };
        assert_eq!(within(8, 12), [8, 9, 10, 11]);
        assert_eq!(within(10, 11), [10]);
        assert_eq!(within(40, 50), [0_i64; 0]);
        // No time at all.
        let over = SearchBounds { deadline: Deadline::after(Duration::ZERO), ..soon(100) };
        assert!(newest(&folder, &Filter::default(), over).unwrap().is_none());
    }

    /// Nobody hears of a record before it is durable: it may be void.
    #[test]
    fn what_is_not_durable_is_not_read() {
        let (_directory, folder) = log();
        for (segment, lines) in [(2, 3), (1, 10), (3, 9)] {
            let first = (segment - 1) * 10;
            let last = first + lines - 1;
            let bytes: usize = (first..=last).map(|number| record(number).len() + 1).sum();
            let (segment, bytes) = (segment.unsigned_abs(), u64::try_from(bytes).unwrap());
            let durable = Durable { segment, bytes, ..Durable::default() };
            let bounds = SearchBounds { durable: Some(durable), ..soon(5) };
            let found = newest(&folder, &Filter::default(), bounds).unwrap().unwrap();
            assert_eq!(numbers(&found), (last - 4..=last).collect::<Vec<_>>(), "{durable:?}");
        }
    }

    #[test]
    fn records_of_any_size_fit_into_the_answer() {
        let directory = tempfile::tempdir().unwrap();
        let long = "x".repeat(60_000);
        let line = |number: i64| format!("{{\"time\":\"{}\",\"sub\":\"{long}\"}}\n", at(number));
        let lines: String = (0..100).map(line).collect();
        fs::write(directory.path().join("audit-00000001.jsonl"), lines).unwrap();
        let folder = Folder::new(directory.path().to_owned());
        let found = newest(&folder, &Filter::default(), soon(1000)).unwrap().unwrap();
        let bytes: usize = found.lines.iter().map(String::len).sum();
        assert!(bytes <= MOST_BYTES && bytes > MOST_BYTES - 61_000, "{bytes}");
        assert_eq!(found.before, Some(at(100 - i64::try_from(found.lines.len()).unwrap())));
    }
}
