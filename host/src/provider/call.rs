//! One call of a provider: a fresh instance, one deadline, every limit.
//!
//! **Invariant:** an instance serves one call and is dropped with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime::{Store, Trap, UpdateDeadline};

use super::engine::{Engine, TICK};
use super::export::{DescribeCall, Export};
use super::inspect::TokenImports;
use super::turn::Turns;
use crate::capability::wit;
use crate::capability::wit::exports::rise::registry::registry::Manifest;
use crate::capability::{CallState, Capabilities, Capability, LimitExceeded, printable};
use crate::config::CallLimits;
use crate::config::schema::Schema;
use crate::domain::{Clock, Deadline};
use crate::telemetry::metrics::ProviderCall;

/// How long a call waits until it may make an instance.
const QUEUE: Duration = Duration::from_millis(500);

/// A loaded provider.
pub struct Provider {
    pub manifest: Manifest,
    pub schema: Schema,
    pub file: PathBuf,
    /// SHA-256 of the file, in hex.
    pub digest: Arc<str>,
    /// The capabilities that it imports.
    pub imports: Vec<&'static str>,
    /// What it imports of the capability `tokens`.
    pub tokens: TokenImports,
    /// The interfaces of WASI that it imports beyond those that every provider may import. Their
    /// functions are empty stubs.
    pub wasi: Vec<String>,
    pub guest: Guest,
}

/// A component that can be called. It exists before its [`Provider`] does, because the manifest
/// comes from a call of `describe`.
#[derive(Clone)]
pub struct Guest {
    pub engine: Engine,
    pub component: wit::ProviderPre<CallState>,
    /// The same component, if it exports `endpoints`.
    pub endpoints: Option<wit::endpoints::WithEndpointsPre<CallState>>,
    /// The same component, if it exports `repositories`.
    pub repositories: Option<wit::repositories::WithRepositoriesPre<CallState>>,
    /// The same component, if it exports `revocation`.
    pub revocation: Option<wit::revocation::WithRevocationPre<CallState>>,
    /// The same component, if it exports `leftovers`.
    pub leftovers: Option<wit::leftovers::WithLeftoversPre<CallState>>,
    /// The name from the manifest; empty before `describe`.
    pub name: Arc<str>,
    pub digest: Arc<str>,
    pub limits: CallLimits,
    pub clock: Clock,
    /// One permit for each instance of this provider that may be alive.
    pub permits: Arc<Semaphore>,
    /// The places in which its calls compute.
    pub turns: Turns,
}

/// The result of a call, and the state that it left: what it asked for beyond its ceiling, and
/// whether an upstream was slow.
pub struct Finished<T> {
    pub value: T,
    pub state: CallState,
}

/// Why a call returned nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A bug in the provider, or an attack.
    #[error("provider trapped: {0}")]
    Trapped(String),
    #[error("provider exceeded its limit of {0}")]
    Limit(&'static str),
    /// The deadline passed while the call waited for an upstream.
    #[error("the upstream did not answer before the call's deadline")]
    UpstreamTimedOut,
    /// No instance was free in time.
    #[error("too many provider calls at once")]
    Overloaded,
    /// A bug in the broker.
    #[error("the host failed while a provider called it: {0}")]
    Host(String),
}

impl CallError {
    /// The outcome and the exceeded limit, as metrics name them.
    fn counted(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Trapped(_) => ("trapped", None),
            Self::Limit(limit) => ("limit", Some(limit)),
            Self::UpstreamTimedOut => ("upstream-timed-out", None),
            Self::Overloaded => ("overloaded", None),
            Self::Host(_) => ("host", None),
        }
    }
}

impl Provider {
    /// Whether a call can leave something behind elsewhere: a session in AWS, a token at a
    /// registry.
    pub(crate) fn reaches_outside(&self) -> bool {
        let acts_outside = |capability: &Capability| capability.acts_outside;
        self.imports.iter().any(|name| Capability::find(name).is_none_or(acts_outside))
    }

    /// Whether it exports `revocation`: the broker has it end the credentials that it makes.
    pub fn ends_credentials(&self) -> bool {
        self.guest.revocation.is_some()
    }

    /// Whether it exports `leftovers` as well: it finds credentials at the registry by their names.
    pub fn finds_leftovers(&self) -> bool {
        self.ends_credentials() && self.guest.leftovers.is_some()
    }

    /// The provider's name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.manifest.name).chain(&self.manifest.aliases).map(String::as_str)
    }

    /// Calls a function of the provider.
    pub async fn call<E: Export>(
        &self,
        export: E,
        capabilities: &Arc<Capabilities>,
    ) -> Result<Finished<E::Returns>, CallError> {
        self.guest.call(export, capabilities, None).await
    }

    /// Calls a function of the provider for a request that ends at `deadline`.
    pub async fn call_until<E: Export>(
        &self,
        export: E,
        capabilities: &Arc<Capabilities>,
        deadline: Deadline,
    ) -> Result<Finished<E::Returns>, CallError> {
        self.guest.call(export, capabilities, Some(deadline)).await
    }
}

impl Guest {
    pub(super) async fn describe(&self) -> Result<Manifest, CallError> {
        let capabilities = Arc::new(Capabilities::none());
        Ok(self.call(DescribeCall, &capabilities, None).await?.value)
    }

    /// Calls a function and counts the call.
    async fn call<E: Export>(
        &self,
        export: E,
        capabilities: &Arc<Capabilities>,
        request: Option<Deadline>,
    ) -> Result<Finished<E::Returns>, CallError> {
        let started = Instant::now();
        let finished = self.call_within_limits(export, capabilities, request).await;
        let (outcome, limit) = finished.as_ref().err().map_or(("ok", None), CallError::counted);
        self.engine.metrics.provider_call(&ProviderCall {
            provider: &self.name,
            digest: &self.digest,
            function: E::NAME,
            outcome,
            limit,
            elapsed: started.elapsed(),
        });
        finished
    }

    /// Makes an instance and calls it, within every limit.
    async fn call_within_limits<E: Export>(
        &self,
        export: E,
        capabilities: &Arc<Capabilities>,
        request: Option<Deadline>,
    ) -> Result<Finished<E::Returns>, CallError> {
        let left = request.map(Deadline::remaining);
        let queue = left.map_or(QUEUE, |left| QUEUE.min(left));
        let permits = timeout(queue, self.permits()).await;
        let permits = permits.ok().and_then(Result::ok).ok_or(CallError::Overloaded)?;
        let (guest, capabilities) = (self.clone(), Arc::clone(capabilities));
        let work = async move {
            let own = Instant::now() + guest.limits.wall;
            let deadline = request.map_or(own, |request| own.min(request.instant().into()));
            let mut store = guest.store(capabilities);
            let returned = timeout_at(deadline, async { export.call(&guest, &mut store).await });
            let returned = returned.await;
            store.data_mut().end();
            let failed = match returned {
                Ok(Ok(value)) => return Ok(Finished { value, state: store.into_data() }),
                Ok(Err(error)) => failure(&error, store.data()),
                Err(_) if store.data().upstream_slow || deadline < own => {
                    CallError::UpstreamTimedOut
                }
                Err(_) => CallError::Limit("time"),
            };
            // The instance goes before its permit: the next call finds room in the pool.
            drop(store);
            drop(permits);
            Err(failed)
        };
        let ended = self.engine.threads.run(&self.turns, work).await;
        ended.unwrap_or_else(|panicked| Err(CallError::Host(panicked.to_string())))
    }

    /// Waits for a permit of the provider's own share and then for one of all instances. In this
    /// order a provider that waits for its upstream leaves permits to the others.
    async fn permits(&self) -> Result<[OwnedSemaphorePermit; 2], AcquireError> {
        let own = Arc::clone(&self.permits).acquire_owned().await?;
        Ok([own, Arc::clone(&self.engine.permits).acquire_owned().await?])
    }

    fn store(&self, capabilities: Arc<Capabilities>) -> Store<CallState> {
        let state = CallState::new(
            capabilities,
            Arc::clone(&self.digest),
            self.limits.clone(),
            self.clock.unix_seconds(),
            self.engine.metrics.clone(),
        );
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.limits.host_call);
        store.set_max_component_handles(self.limits.handles);
        let budget = self.limits.cpu.as_nanos().div_ceil(TICK.as_nanos());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |mut store| {
            let state = store.data_mut();
            // The callback runs when guest code runs at a tick, so waiting in the host counts once.
            state.cpu_ticks += 1;
            if u128::from(state.cpu_ticks) > budget {
                return Err(LimitExceeded("CPU time").into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }
}

/// Finds the limit that was exceeded, or describes the trap for the operator's log.
fn failure(error: &wasmtime::Error, state: &CallState) -> CallError {
    if let Some(LimitExceeded(name)) = error.downcast_ref() {
        return CallError::Limit(name);
    }
    if let Some(exceeded) = state.memory.exceeded {
        return CallError::Limit(exceeded);
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return CallError::Overloaded;
    }
    if error.downcast_ref::<wasmtime::component::ResourceTableError>().is_some() {
        return CallError::Limit("handles");
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        return CallError::Limit("stack");
    }
    // These two errors have no type in wasmtime 48.
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        return CallError::Limit("bytes in one host call");
    }
    if text.contains("handle limit exceeded") {
        return CallError::Limit("handles");
    }
    let stderr = state.stderr();
    let text = if stderr.is_empty() { text } else { format!("{text}; {stderr}") };
    CallError::Trapped(printable(&text, 1024))
}
