//! Waiting for a condition with a deadline: no test sleeps for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How long a test waits for something that normally takes a second at most.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Waits until `is_so` holds.
///
/// # Panics
/// If it does not hold within [`PATIENCE`]. The message contains `what`.
pub async fn eventually(what: &str, is_so: impl AsyncFnMut() -> bool) {
    assert!(within(PATIENCE, is_so).await, "not within {PATIENCE:?}: {what}");
}

/// Waits until `is_so` holds, for `patience` at most. Returns whether it holds.
pub async fn within(patience: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so().await {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// The same as [`eventually`] in a test without a runtime.
///
/// # Panics
/// As [`eventually`].
pub fn eventually_blocking(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(POLL);
    }
}
