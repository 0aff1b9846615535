//! Which refused requests get a log line of their own. A client that is refused all the
//! time would otherwise fill the log: after the first lines of a minute, further ones are counted,
//! and one line says how many there were.
//!
//! The audit log has every denial, and `/metrics` every outcome.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{ClientAddress, ClientNetwork, Clock};

/// The lines of one client with one problem in one [`WINDOW`].
const LINES: u64 = 20;
const WINDOW: Duration = Duration::from_mins(1);
/// The most pairs of client and problem. All others share one entry for each problem.
const MOST: usize = 1024;

pub struct Refusals {
    clock: Clock,
    counted: Mutex<HashMap<Refused, Counted>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Refused {
    /// `None`: clients beyond [`MOST`].
    client: Option<ClientNetwork>,
    problem: &'static str,
}

struct Counted {
    since: Duration,
    requests: u64,
}

impl Refusals {
    pub fn new(clock: Clock) -> Self {
        Self { clock, counted: Mutex::default() }
    }

    /// Whether this request gets a line of its own.
    pub fn has_line(&self, client: ClientAddress, problem: &'static str) -> bool {
        let now = self.clock.elapsed();
        let mut counted = self.counted();
        let mut key = Refused { client: Some(client.network()), problem };
        if counted.len() >= MOST && !counted.contains_key(&key) {
            key.client = None;
        }
        let entry = counted.entry(key).or_insert(Counted { since: now, requests: 0 });
        if entry.is_over(now) {
            entry.report(&key);
            *entry = Counted { since: now, requests: 0 };
        }
        entry.requests = entry.requests.saturating_add(1);
        entry.requests <= LINES
    }

    /// Reports and forgets what is over. The rest follows later.
    pub fn sweep(&self) {
        let now = self.clock.elapsed();
        self.counted().retain(|key, entry| {
            let is_over = entry.is_over(now);
            if is_over {
                entry.report(key);
            }
            !is_over
        });
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<Refused, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= WINDOW
    }

    /// Logs how many requests had no line.
    fn report(&self, key: &Refused) {
        let requests = self.requests.saturating_sub(LINES);
        if requests == 0 {
            return;
        }
        let client = key.client.map_or_else(|| "others".to_owned(), |client| client.to_string());
        let problem = key.problem;
        tracing::info!(client, problem, requests, "more requests refused without a line each");
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_client_has_a_few_lines_in_a_minute_for_each_problem() {
        let seconds = Arc::new(AtomicI64::new(1_790_000_000));
        let now = Arc::clone(&seconds);
        let clock =
            Clock::from_fn(move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap());
        let refusals = Refusals::new(clock);
        let client = |number: u32| ClientAddress::new(IpAddr::from(number.to_be_bytes()));
        let lines = |number: u32, problem| {
            (0..100).filter(|_| refusals.has_line(client(number), problem)).count()
        };
        assert_eq!((lines(1, "a"), lines(1, "a"), lines(1, "b"), lines(2, "a")), (20, 0, 20, 20));
        seconds.fetch_add(60, Ordering::SeqCst);
        assert_eq!(lines(1, "a"), 20);
        refusals.sweep();
        assert_eq!(refusals.counted().len(), 1);
        // Many clients make few lines in all, and take little memory.
        let flood: usize = (0..10_000).map(|number| lines(number, "c")).sum();
        assert!(flood <= (MOST + 1) * 20, "{flood}");
        assert!(refusals.counted().len() <= MOST + 1);
    }
}
