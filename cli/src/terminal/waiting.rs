//! A line on the terminal that says what the run waits for. It is cleared when the wait ends.

use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Shorter waits are not shown.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Waiting {
    running: Option<(Sender<String>, JoinHandle<()>)>,
}

impl Waiting {
    pub(super) fn start(wanted: bool, what: &str) -> Self {
        if !wanted {
            return Self { running: None };
        }
        let (texts, changes) = channel();
        let what = what.to_owned();
        Self { running: Some((texts, thread::spawn(move || show(what, &changes)))) }
    }

    /// Replaces the text.
    pub(crate) fn show(&self, text: String) {
        if let Some((texts, _)) = &self.running {
            let _ = texts.send(text);
        }
    }
}

/// Ends when the sender is dropped.
fn show(mut text: String, changes: &Receiver<String>) {
    let start = Instant::now() + PATIENCE;
    loop {
        match changes.recv_timeout(start.saturating_duration_since(Instant::now())) {
            Ok(next) => text = next,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
    let mut stderr = io::stderr();
    loop {
        let _ = write!(stderr, "\r\u{1b}[K{text}…").and_then(|()| stderr.flush());
        match changes.recv() {
            Ok(next) => text = next,
            Err(_) => break,
        }
    }
    let _ = write!(stderr, "\r\u{1b}[K").and_then(|()| stderr.flush());
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((texts, thread)) = self.running.take() {
            drop(texts);
            // Waits for the thread: the line must be cleared before another one is written.
            let _ = thread.join();
        }
    }
}
