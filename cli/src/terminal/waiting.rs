//! A word to whoever waits in front of a terminal. Gone without a trace when the wait is over.

use std::io::{self, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Nobody wonders about less.
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
            // At once: the line must be clear before the next one is written.
            let _ = thread.join();
        }
    }
}
