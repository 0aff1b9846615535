//! State that several brokers share, on one Redis or Valkey.
//!
//! [`Shared`] asks the store and says when it cannot: `connect` opens a connection, `greeting`
//! checks what it reached, `link` keeps one open, `episode` logs and counts failures, `keys` names
//! what is stored, and `seal` encrypts it. Each room that shares something keeps its own memory and
//! its own scripts: `identity/replay` for used tokens, `limits/counted` for rates,
//! `limits/shared_pace` and `issue/breaker/shared` for registries, `issue/shared` for credentials,
//! `issue/shared_outstanding` for what is out, `issue/tenure` for managed repositories.
//!
//! To share something else: a [`Use`], a script, and what holds while the store is away.
//!
//! **Invariant (I12):** a store that is away, slow or lying costs availability, never a wider
//! credential or a lost record. Every answer is bounded, and parsed strictly.
//! **Invariant:** the store learns no password, no token and no project name: names are keyed
//! digests, and values that tell something are sealed.

mod connect;
mod episode;
mod failure;
mod greeting;
mod keys;
mod link;
mod received;
mod seal;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use zeroize::Zeroizing;

use crate::domain::Clock;
use crate::keys::KeyFileError;
use crate::telemetry::Metrics;
use connect::Connector;
pub use episode::{Reason, Use};
pub(crate) use greeting::{MOST_AHEAD, UNATTENDED};
use keys::SharedKeys;
use link::Link;
pub use settings::{SharedSettings, StoreAddress};

/// The longest that a question waits. Without an answer a limit counts by itself, so it is not
/// worth a longer wait.
const LIMITS_BUDGET: Duration = Duration::from_millis(20);
const BUDGET: Duration = Duration::from_millis(100);

/// The connection to the store, for as long as the process lives.
pub struct Shared {
    link: Link,
    keys: Arc<SharedKeys>,
    prefix: String,
    clock: Clock,
    /// How many brokers share the store.
    pub(crate) replicas: u32,
}

/// The store could not be asked, or its answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store is {}", .0.as_str())]
pub struct StoreUnavailable(pub Reason);

/// A Lua script, which the store runs as a whole.
pub(crate) struct Script<'a> {
    pub(crate) text: &'static str,
    pub(crate) keys: &'a [String],
    pub(crate) arguments: &'a [&'a [u8]],
}

impl Shared {
    /// Reads the key files. Connects to nothing yet. `only_looks`: this is no broker, whose
    /// greeting keeps the memory of used tokens, and whose first key is written.
    pub(crate) fn open(
        settings: &SharedSettings,
        clock: &Clock,
        metrics: &Metrics,
        only_looks: bool,
    ) -> Result<Arc<Self>, SharedSetupError> {
        let keys = Arc::new(SharedKeys::open(&settings.key_files)?);
        let connector = Connector::new(settings, Arc::clone(&keys), clock.clone(), only_looks)
            .map_err(SharedSetupError::Authorities)?;
        Ok(Arc::new(Self {
            link: Link::new(connector, metrics.clone(), clock.clone()),
            keys,
            prefix: settings.prefix.clone(),
            clock: clock.clone(),
            replicas: settings.replicas,
        }))
    }

    /// Connects once, as a broker does. The error says what is wrong.
    pub(crate) async fn try_out(&self) -> Result<(), String> {
        self.link.try_out().await
    }

    /// Begins to keep a connection open, and waits a moment for the first one.
    pub(crate) async fn start(&self) {
        self.link.start().await;
    }

    /// Runs `script` for `purpose`.
    pub(crate) async fn run(
        &self,
        purpose: Use,
        script: Script<'_>,
    ) -> Result<Value, StoreUnavailable> {
        let mut command = redis::cmd("EVAL");
        command.arg(script.text).arg(script.keys.len()).arg(script.keys);
        for argument in script.arguments {
            command.arg(*argument);
        }
        self.ask(purpose, &command).await
    }

    async fn ask(&self, purpose: Use, command: &Cmd) -> Result<Value, StoreUnavailable> {
        let budget = if purpose == Use::Limits { LIMITS_BUDGET } else { BUDGET };
        self.link.ask(purpose, budget, command).await
    }

    /// An answer that no store gives. The connection is given up.
    pub(crate) fn nonsense(&self, purpose: Use) -> StoreUnavailable {
        self.link.nonsense(purpose)
    }

    /// The key with the facts about the store itself.
    pub(crate) fn about(&self) -> String {
        greeting::about(&self.prefix)
    }

    /// The name of something that all brokers know, whatever their first key is.
    pub(crate) fn common_name(&self, name: &str) -> String {
        greeting::key(&self.prefix, name)
    }

    /// The digests of one thing by each of the keys.
    pub(crate) fn digests(&self, kind: &str, parts: &[&[u8]]) -> Vec<String> {
        self.keys.digests(kind, parts).collect()
    }

    /// The names of one thing, under each of the keys. The first is the one to write.
    pub(crate) fn names(&self, kind: &str, parts: &[&[u8]]) -> Vec<String> {
        let name = |digest| greeting::key(&self.prefix, &format!("{kind}:{digest}"));
        self.keys.digests(kind, parts).map(name).collect()
    }

    /// The name of one thing under the first key.
    pub(crate) fn name(&self, kind: &str, parts: &[&[u8]]) -> String {
        let digest = self.keys.digests(kind, parts).next().unwrap_or_default();
        greeting::key(&self.prefix, &format!("{kind}:{digest}"))
    }

    /// Encrypts what is stored under `name`, with the first key. `None`: the text is too long.
    pub(crate) fn seal(&self, kind: &str, name: &str, text: Zeroizing<Vec<u8>>) -> Option<Vec<u8>> {
        self.keys.seal((kind, name), text)
    }

    /// The text of a value that was found under `name`. A value that does not open is as good as
    /// none, and the store fails.
    pub(crate) fn unseal(
        &self,
        purpose: Use,
        (kind, name): (&str, &str),
        value: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.keys.unseal((kind, name), value);
        if text.is_none() {
            self.link.unreadable(purpose);
        }
        text
    }

    /// The same for what was listed: a value that does not open is only counted. It may be of a key
    /// that the brokers do not have any more, and it is found again and again.
    pub(crate) fn unseal_listed(
        &self,
        purpose: Use,
        (kind, name): (&str, &str),
        value: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.keys.unseal((kind, name), value);
        if text.is_none() {
            self.count_unreadable(purpose);
        }
        text
    }

    /// Counts a value that no broker with these keys has stored, and that is as good as none.
    pub(crate) fn count_unreadable(&self, purpose: Use) {
        self.link.count(purpose, Reason::Nonsense);
    }

    /// Which memory the connected store has, for scripts that find it emptied.
    pub(crate) fn run_id(&self, purpose: Use) -> Result<Arc<str>, StoreUnavailable> {
        let connected = self.link.connected(purpose)?;
        Ok(Arc::clone(&connected.run_id))
    }

    /// Whether the store may forget a key before its time, which is counted as a failure.
    pub(crate) fn evicts(&self, purpose: Use) -> bool {
        self.link.evicts(purpose)
    }

    /// The fingerprint of the first key.
    pub(crate) fn fingerprint(&self) -> &str {
        self.keys.fingerprint()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the store answers.
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }
}

/// What is wrong with the files that `[shared]` names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SharedSetupError {
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("{0}")]
    Authorities(String),
}
