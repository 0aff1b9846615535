//! The signals that stop the broker and that make it read its files again.

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) struct Signals {
    pub stop: Stop,
    pub hangup: Signal,
    /// The same signal, for the certificate.
    pub certificate: Signal,
}

/// SIGTERM or an interrupt from the keyboard.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        let stop = Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        let (hangup, certificate) = (signal(SignalKind::hangup())?, signal(SignalKind::hangup())?);
        Ok(Self { stop, hangup, certificate })
    }
}

impl Stop {
    /// Returns whether the sender can wait for the drain: SIGTERM can, a person at a keyboard
    /// cannot.
    pub(super) async fn wait(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}
