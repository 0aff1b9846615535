//! A line on the terminal that says what the run waits for. It is cleared when the wait ends.

use std::io::{self, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Shorter waits are not shown.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Waiting {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Waiting {
    pub(super) fn start(wanted: bool, what: &'static str) -> Self {
        if !wanted {
            return Self { running: None };
        }
        let (stop, stopped) = channel::<()>();
        let thread = thread::spawn(move || {
            if stopped.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let mut stderr = io::stderr();
            let _ = write!(stderr, "{what}…").and_then(|()| stderr.flush());
            let _ = stopped.recv();
            let _ = write!(stderr, "\r\u{1b}[K").and_then(|()| stderr.flush());
        });
        Self { running: Some((stop, thread)) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // Waits for the thread: the line must be cleared before another one is written.
            let _ = thread.join();
        }
    }
}
