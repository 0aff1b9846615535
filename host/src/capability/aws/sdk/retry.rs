//! Retries of AWS calls: one layer, with one budget for each account and region.
//!
//! The SDK has a budget too, but it gives a permit back when its client is dropped, and there is a
//! client for each request. A throttled account was asked up to three times as often as before.
//!
//! **Invariant:** AWS gets at most [`BURST`] and [`PER_SECOND`] calls more than were wanted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::capability::aws::AwsError;

/// Of one call with all its retries.
const OPERATION: Duration = Duration::from_secs(4);
const ATTEMPTS: u32 = 3;
/// Doubled for each further retry. A random part of it is left out, so that callers do not meet.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The retries that can be made at once.
const BURST: f64 = 10.0;
const PER_SECOND: f64 = 1.0;

/// The retries that are left for one account and region.
pub struct RetryBudget(Mutex<(f64, Instant)>);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }
}

impl RetryBudget {
    /// Takes one retry, if there is one.
    fn take(&self, now: Instant) -> bool {
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, counted) = *budget;
        let left =
            (left + now.saturating_duration_since(counted).as_secs_f64() * PER_SECOND).min(BURST);
        let is_left = left >= 1.0;
        *budget = (if is_left { left - 1.0 } else { left }, now);
        is_left
    }
}

/// Makes the call, and again if that may help.
pub(super) async fn retrying<T, F>(
    budget: &RetryBudget,
    call: impl Fn() -> F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let deadline = Instant::now() + OPERATION;
    let mut attempt = 1;
    loop {
        let late = |_| Err(AwsError::TimedOut(format!("no answer within {OPERATION:?}")));
        let error = match timeout_at(deadline, call()).await.unwrap_or_else(late) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let pause = pause_before(attempt);
        let is_last = attempt == ATTEMPTS || Instant::now() + pause >= deadline;
        if !error.is_passing() || is_last || !budget.take(Instant::now()) {
            return Err(error);
        }
        sleep(pause).await;
        attempt += 1;
    }
}

fn pause_before(attempt: u32) -> Duration {
    let mut random = [0; 1];
    // Without random numbers the pause is the longest one.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let longest = FIRST_PAUSE * 2_u32.saturating_pow(attempt - 1);
    longest.mul_f64(1.0 - f64::from(random[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn an_account_gets_few_more_calls_than_were_wanted() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        let taken = |after: f64| {
            let moment = now + Duration::from_secs_f64(after);
            (0..1_000).filter(|_| budget.take(moment)).count()
        };
        assert_eq!([taken(0.0), taken(0.5), taken(1.5), taken(1.6)], [10, 0, 1, 0]);
        assert_eq!([taken(5.7), taken(3_600.0)], [4, 10]);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_not_tried_again() {
        for error in [
            AwsError::Denied(String::new()),
            AwsError::RejectedKeys(String::new()),
            AwsError::ClockDiffers(String::new()),
            AwsError::Nonsense(String::new()),
            AwsError::InvalidSettings(String::new()),
        ] {
            let asked = AtomicU32::new(0);
            let fail = || {
                asked.fetch_add(1, Ordering::SeqCst);
                std::future::ready(Err::<(), _>(error.clone()))
            };
            assert!(retrying(&RetryBudget::default(), fail).await.is_err());
            assert_eq!(asked.load(Ordering::SeqCst), 1, "{error}");
        }
    }
}
