//! Writes log lines to standard error in a thread of its own, so that a slow reader of the log
//! delays no request.
//!
//! If more than [`MOST_WAITING`] lines wait, further lines are lost. A log line says how many as
//! soon as there is room.
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
    lost: Arc<AtomicU64>,
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
        let lines = Self { sender, lost: Arc::default() };
        let lost = Arc::clone(&lines.lost);
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

fn write(receiver: &Receiver<LogMessage>, out: impl Write, lost: &AtomicU64) {
    let mut out = io::BufWriter::new(out);
    while let Ok(first) = receiver.recv() {
        // Short lines that wait are written together.
        let mut next = Some(first);
        let mut flushed = Vec::new();
        while let Some(message) = next {
            match message {
                LogMessage::Line(line) => {
                    let _ = out.write_all(&line);
                }
                LogMessage::Flush(done) => flushed.push(done),
            }
            next = receiver.try_recv().ok();
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = format!(
                "{{\"level\":\"WARN\",\"message\":\"log lines were lost because nobody read them \
                 fast enough\",\"lines\":{lost}}}\n"
            );
            let _ = out.write_all(line.as_bytes());
        }
        let _ = out.flush();
        for done in flushed {
            let _ = done.try_send(());
        }
    }
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
            self.lost.fetch_add(1, Ordering::Relaxed);
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
