//! Writes log lines to standard error in a thread of its own, so that a slow reader of the log
//! delays no request.
//!
//! If more than [`MOST_WAITING`] lines wait, further lines are lost, and so are lines that cannot
//! be written, as on a full disk. A log line says how many as soon as there is room, and a metric
//! counts them.
//!
//! `tracing-appender` was read and does not fit: its counter of dropped lines must be polled, and
//! nothing writes the number into the log; its guard waits 1.1 seconds for the last lines, which
//! cannot be changed, and prints its own failure to standard output, where the output of commands
//! goes. It also adds four crates.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// A line has about 500 bytes, so that waiting lines take about 8 MiB.
const MOST_WAITING: usize = 16_384;
/// How long lines wait for more to be written with them, after a write of at least [`CROWD`] lines.
/// Waking the thread and its reader for each line costs more than the line.
const GATHER: Duration = Duration::from_millis(1);
const CROWD: usize = 4;
/// More bytes are not written together.
const LARGEST_BATCH: usize = 64 << 10;
/// How long the end of the program waits for lines that nobody reads.
const PATIENCE: Duration = Duration::from_secs(2);

enum LogMessage {
    Line(Vec<u8>),
    /// Asks for an answer when everything before this is written.
    Flush(SyncSender<()>),
}

#[derive(Clone)]
pub(crate) struct Lines {
    sender: SyncSender<LogMessage>,
    lost: LostLines,
}

/// How many lines were lost since the start.
#[derive(Clone, Default)]
pub struct LostLines(Arc<AtomicU64>);

impl LostLines {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

/// Writes the remaining lines when it is dropped.
#[must_use]
pub(crate) struct Flushing(Lines);

impl Lines {
    pub(super) fn start() -> Self {
        Self::start_on(io::stderr(), MOST_WAITING)
    }

    fn start_on(out: impl Write + Send + 'static, waiting: usize) -> Self {
        let (sender, receiver) = sync_channel(waiting);
        let lines = Self { sender, lost: LostLines::default() };
        let lost = lines.lost.clone();
        // Without the thread there is no log, but the program works.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&receiver, out, &lost));
        lines
    }

    pub(super) fn flushing(self) -> Flushing {
        Flushing(self)
    }
}

impl Flushing {
    pub(crate) fn lost_lines(&self) -> LostLines {
        self.0.lost.clone()
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        let end = Instant::now() + PATIENCE;
        let mut message = LogMessage::Flush(done);
        while let Err(TrySendError::Full(unsent)) = self.0.sender.try_send(message) {
            if Instant::now() >= end {
                return;
            }
            message = unsent;
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write(receiver: &Receiver<LogMessage>, mut out: impl Write, lost: &LostLines) {
    let (mut batch, mut reported, mut is_torn) = (Batch::default(), 0, false);
    let mut is_crowd = false;
    while let Ok(first) = receiver.recv() {
        if is_crowd {
            std::thread::sleep(GATHER);
        }
        if is_torn {
            // The rest of a line was lost, and this one must not be taken for it.
            batch.bytes.push(b'\n');
        }
        // Short lines that wait are written together.
        let (mut next, mut flushed) = (Some(first), Vec::new());
        while let Some(message) = next {
            match message {
                LogMessage::Line(line) => batch.push(&line),
                LogMessage::Flush(done) => flushed.push(done),
            }
            next = if batch.bytes.len() < LARGEST_BATCH { receiver.try_recv().ok() } else { None };
        }
        let (count, is_report) = (lost.count(), lost.count() > reported);
        if is_report {
            let line = format!(
                "{{\"level\":\"WARN\",\"message\":\"log lines were lost: they could not be \
                 written, or nobody read them fast enough\",\"lines\":{}}}\n",
                count - reported
            );
            batch.push(line.as_bytes());
        }
        let written = write_most(&mut out, &batch.bytes);
        let missing = batch.ends.iter().filter(|end| **end > written).count();
        if is_report && missing == 0 {
            reported = count;
        }
        // The report is no line of the log.
        let missing = missing.saturating_sub(usize::from(is_report));
        lost.add(u64::try_from(missing).unwrap_or(0));
        is_torn = written > 0 && written < batch.bytes.len() && !batch.ends.contains(&written)
            || is_torn && written == 0;
        is_crowd = batch.ends.len() >= CROWD;
        batch.clear();
        for done in flushed {
            let _ = done.try_send(());
        }
    }
}

/// Lines that are written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Batch {
    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Writes as much as possible. Returns how many bytes were written before an error.
fn write_most(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Each call has a whole line, because the formatter writes lines at once.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(LogMessage::Line(line.to_vec())) {
            self.lost.add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Slow {
        written: Arc<Mutex<Vec<u8>>>,
        /// The test locks this while nobody reads.
        reader: Arc<Mutex<()>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _reads = self.reader.lock().unwrap();
            self.written.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_delays_nobody_and_learns_what_was_lost() {
        let slow = Slow::default();
        let unread = slow.reader.lock().unwrap();
        let lines = Lines::start_on(slow.clone(), 4);
        for _ in 0..100_000 {
            (&lines)
                .write_all(b"a line that is long enough to fill a buffer of the writer soon\n")
                .unwrap();
        }
        drop(unread);
        drop(lines.flushing());
        let text = String::from_utf8(slow.written.lock().unwrap().clone()).unwrap();
        let lost: usize = text
            .lines()
            .filter_map(|line| {
                line.split_once("\"lines\":")?.1.trim_end_matches('}').parse::<usize>().ok()
            })
            .sum();
        let written = text.lines().filter(|line| line.starts_with("a line")).count();
        assert!(lost > 0);
        assert_eq!(written + lost, 100_000);
    }

    /// A disk that is full until there is room again.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let (room, written) = &mut *disk;
            let some = bytes.len().min(*room);
            if some == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= some;
            written.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_when_there_is_room() {
        let disk = Disk::default();
        disk.0.lock().unwrap().0 = 16;
        let lines = Lines::start_on(disk.clone(), 100);
        let put = |text: &str| {
            (&lines).write_all(format!("{text}\n").as_bytes()).unwrap();
            let (done, written) = sync_channel(1);
            lines.sender.send(LogMessage::Flush(done)).unwrap();
            written.recv().unwrap();
        };
        put("first");
        (0..10).for_each(|_| put("eleven char"));
        assert_eq!(lines.lost.count(), 10);
        disk.0.lock().unwrap().0 = 1 << 20;
        put("last");
        put("more");
        assert_eq!(lines.lost.count(), 10);
        let text = String::from_utf8(disk.0.lock().unwrap().1.clone()).unwrap();
        let found: Vec<_> = text.lines().collect();
        assert_eq!((found[0], found[1], found[2]), ("first", "eleven cha", "last"), "{text}");
        assert!(found[3].ends_with("\"lines\":10}"), "{text}");
        assert_eq!(found[4..], ["more"], "{text}");
    }

    #[test]
    fn the_end_waits_for_the_remaining_lines() {
        let slow = Slow::default();
        let lines = Lines::start_on(slow.clone(), 100);
        for _ in 0..100 {
            (&lines).write_all(b"x\n").unwrap();
        }
        drop(lines.flushing());
        assert_eq!(slow.written.lock().unwrap().len(), 200);
    }
}
