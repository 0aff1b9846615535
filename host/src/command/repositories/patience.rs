//! Retries for a command that may take minutes: a server would rather tell its caller.

use std::time::Duration;

use tokio::time::sleep;

/// Between the attempts of one request.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// Makes attempts until one works, fails for good, or was the last.
pub(super) async fn patiently<T, E, F>(
    attempt: impl Fn() -> F,
    is_passing: impl Fn(&E) -> bool,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    for pause in PAUSES {
        match attempt().await {
            Err(error) if is_passing(&error) => sleep(pause).await,
            result => return result,
        }
    }
    attempt().await
}
