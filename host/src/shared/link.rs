//! Keeps one connection to the store open.
//!
//! While there is none, every question fails at once: no request waits for a store that is away. A
//! task of its own tries again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{Cmd, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::{Connected, Connector};
use super::episode::Episodes;
use super::failure::ConnectFailure;
use super::{Reason, StoreUnavailable, Use};
use crate::domain::Clock;
use crate::telemetry::Metrics;

/// A connection is given up when so many answers in a row are late: it may be dead.
const MOST_LATE: u32 = 5;
/// How long one attempt to connect may take, with all its questions.
const CONNECT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the connection is tried when nobody uses it.
const BEAT: Duration = Duration::from_secs(2);

const NO_CONNECTION: &str = "there is no connection";

pub(super) struct Link {
    state: Arc<LinkState>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct LinkState {
    connector: Connector,
    connected: ArcSwapOption<Connected>,
    /// Late answers in a row.
    late: AtomicU32,
    /// Told when the connection is given up.
    lost: Notify,
    episodes: Episodes,
}

impl Link {
    pub(super) fn new(connector: Connector, metrics: Metrics, clock: Clock) -> Self {
        let state = LinkState {
            connector,
            connected: ArcSwapOption::empty(),
            late: AtomicU32::new(0),
            lost: Notify::new(),
            episodes: Episodes::new(clock, metrics),
        };
        Self { state: Arc::new(state), keeper: Mutex::default() }
    }

    /// Connects, and keeps the connection until this is dropped.
    pub(super) async fn start(&self) {
        self.state.connect().await;
        let state = Arc::clone(&self.state);
        let keeper = tokio::spawn(async move { state.keep().await });
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
    }

    /// Connects, and keeps nothing.
    pub(super) async fn try_out(&self) -> Result<(), String> {
        let connected = self.state.open().await;
        connected.map(drop).map_err(|ConnectFailure { reason, text }| {
            format!("the store is {}: {text}", reason.as_str())
        })
    }

    pub(super) async fn ask(
        &self,
        purpose: Use,
        budget: Duration,
        command: &Cmd,
    ) -> Result<Value, StoreUnavailable> {
        self.state.ask(purpose, budget, command).await
    }

    pub(super) fn nonsense(&self, purpose: Use) -> StoreUnavailable {
        let connected = self.state.connected.load_full();
        let text = "an answer to a script is none";
        self.state.give_up(connected.as_ref(), purpose, Reason::Nonsense, text)
    }

    /// A stored value that no broker with these keys has stored. The connection is as good as
    /// before.
    pub(super) fn unreadable(&self, purpose: Use) {
        let text = "a stored value was edited, moved, or sealed with another key";
        self.state.failed(purpose, Reason::Nonsense, text);
    }

    /// Counts a failure of a store that answers.
    pub(super) fn count(&self, purpose: Use, reason: Reason) {
        self.state.episodes.count(purpose, reason);
    }

    pub(super) fn connected(&self, purpose: Use) -> Result<Arc<Connected>, StoreUnavailable> {
        let connected = self.state.connected.load_full();
        connected.ok_or_else(|| self.state.failed(purpose, Reason::Away, NO_CONNECTION))
    }

    /// Whether the store may forget a key before its time, which is counted as a failure.
    pub(super) fn evicts(&self, purpose: Use) -> bool {
        let connected = self.state.connected.load_full();
        let evicts = connected.is_some_and(|connected| connected.evicts.load(Ordering::Relaxed));
        if evicts {
            self.count(purpose, Reason::Forgetful);
        }
        evicts
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.connected.load().is_some() && self.state.episodes.is_calm()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.take() {
            keeper.abort();
        }
    }
}

impl LinkState {
    async fn ask(
        &self,
        purpose: Use,
        budget: Duration,
        command: &Cmd,
    ) -> Result<Value, StoreUnavailable> {
        let Some(connected) = self.connected.load_full() else {
            return Err(self.failed(purpose, Reason::Away, NO_CONNECTION));
        };
        let mut connection = connected.connection.clone();
        let answer = timeout(budget, connection.send_packed_command(command)).await;
        let Ok(answer) = answer else {
            let text = format!("no answer within {} ms", budget.as_millis());
            // A crowd of limits is late within one busy moment, and that says nothing of the
            // connection.
            let counts = match purpose {
                Use::Limits | Use::Connection => 0,
                Use::Tokens | Use::Credentials | Use::Outstanding | Use::Registries => 1,
            };
            if self.late.fetch_add(counts, Ordering::Relaxed) + counts >= MOST_LATE {
                return Err(self.give_up(Some(&connected), purpose, Reason::Slow, &text));
            }
            return Err(self.failed(purpose, Reason::Slow, &text));
        };
        match answer.and_then(Value::extract_error) {
            Ok(value) => {
                self.late.store(0, Ordering::Relaxed);
                connected.received.answered();
                self.episodes.answered();
                Ok(value)
            }
            Err(error) => {
                let (reason, text) = (Reason::of(&error), error.to_string());
                Err(self.give_up(Some(&connected), purpose, reason, &text))
            }
        }
    }

    /// Whatever came back, the next connection is checked anew: the store may have become a
    /// replica, or there may be another one.
    fn give_up(
        &self,
        connected: Option<&Arc<Connected>>,
        purpose: Use,
        reason: Reason,
        text: &str,
    ) -> StoreUnavailable {
        if let Some(connected) = connected {
            let held = Some(Arc::clone(connected));
            let before = self.connected.compare_and_swap(&held, None);
            if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, connected)) {
                self.lost.notify_one();
            }
        }
        self.failed(purpose, reason, text)
    }

    fn failed(&self, purpose: Use, reason: Reason, text: &str) -> StoreUnavailable {
        self.episodes.failed(purpose, reason, text);
        StoreUnavailable(reason)
    }

    /// Connects whenever there is no connection, and tries the one that there is.
    async fn keep(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.connected.load().is_none() {
                tokio::time::sleep(pause).await;
                pause = if self.connect().await { FIRST_PAUSE } else { pause * 2 };
                pause = pause.min(LONGEST_PAUSE);
                continue;
            }
            if timeout(BEAT, self.lost.notified()).await.is_err() {
                self.check().await;
            }
        }
    }

    /// Asks whether the connection and the store behind it are as before.
    async fn check(&self) {
        let Some(connected) = self.connected.load_full() else { return };
        let mut connection = connected.connection.clone();
        let slow = |_| ConnectFailure {
            reason: Reason::Slow,
            text: format!("no answer within {} s", CONNECT.as_secs()),
        };
        let asked = timeout(CONNECT, self.connector.ask_facts(&mut connection)).await;
        match asked.map_err(slow).and_then(|facts| Ok(facts?)) {
            Ok(facts) if facts.run_id == connected.run_id => {
                let evicted = connected.evicts.swap(facts.evicts, Ordering::Relaxed);
                if evicted != facts.evicts {
                    log_eviction(facts.evicts);
                }
                self.late.store(0, Ordering::Relaxed);
                connected.received.answered();
                self.episodes.answered();
            }
            Ok(_) => {
                let text = "another store answers than before";
                self.give_up(Some(&connected), Use::Connection, Reason::Away, text);
            }
            Err(ConnectFailure { reason, text }) => {
                self.give_up(Some(&connected), Use::Connection, reason, &text);
            }
        }
    }

    async fn open(&self) -> Result<Connected, ConnectFailure> {
        let slow = |_| ConnectFailure {
            reason: Reason::Slow,
            text: format!("no connection within {} s", CONNECT.as_secs()),
        };
        timeout(CONNECT, self.connector.connect()).await.map_err(slow).flatten()
    }

    async fn connect(&self) -> bool {
        match self.open().await {
            Ok(mut connected) => {
                self.late.store(0, Ordering::Relaxed);
                if *connected.evicts.get_mut() {
                    log_eviction(true);
                }
                self.connected.store(Some(Arc::new(connected)));
                self.episodes.answered();
                true
            }
            Err(ConnectFailure { reason, text }) => {
                self.failed(Use::Connection, reason, &text);
                false
            }
        }
    }
}

fn log_eviction(evicts: bool) {
    if evicts {
        tracing::warn!(
            "the shared store forgets keys when it is full, and with them used tokens: single-use \
             tokens are rejected until it has `maxmemory-policy noeviction`"
        );
    } else {
        tracing::info!("the shared store keeps its keys when it is full: single-use tokens work");
    }
}
