//! Log lines about TLS handshakes that failed. Anybody can make them fail, so their number is
//! bounded.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one line in this time.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Handshakes(Mutex<Window>);

#[derive(Default)]
struct Window {
    last: Option<Instant>,
    /// Failures since the last line.
    silent: u64,
}

impl Handshakes {
    /// Logs the failure, or counts it for the next line.
    pub(super) fn failed(&self, client: IpAddr, error: &impl Display) {
        let Some(silent) = self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(PAUSE) else {
            return;
        };
        // A port scan or a health check over TCP ends like this, too.
        tracing::warn!(
            %client,
            cause = %error,
            more_since_the_last_line = silent,
            "a TLS handshake failed: the client may not trust the certificate, or may not speak TLS"
        );
    }
}

impl Window {
    /// How many failures had no line of their own, if this one gets one.
    fn turn(&mut self, pause: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            self.silent += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_have_one_line_and_are_counted() {
        let mut window = Window::default();
        assert_eq!(window.turn(PAUSE), Some(0));
        assert_eq!((window.turn(PAUSE), window.turn(PAUSE)), (None, None));
        assert_eq!(window.turn(Duration::ZERO), Some(2));
    }
}
