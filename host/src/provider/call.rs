//! One call of a provider: a fresh instance, one deadline, every limit.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::engine::{CALLS_PER_PROVIDER, Engine, TICK};
use super::turn::Turns;
use crate::capability::{self, CallState, Capabilities, LimitExceeded, printable};
use crate::config::Limits;
use crate::config::schema::Schema;
use crate::domain::{Clock, Deadline, Location, Project};
use crate::rules::Grant;
use crate::telemetry::metrics::ProviderCall;
use crate::wit;
use crate::wit::exports::rise::registry::registry::{Manifest, Problem, Scope};
use crate::wit::rise::registry::types::{Error, Issued, Location as WitLocation};

/// How long a call waits for its turn.
const QUEUE: Duration = Duration::from_millis(500);

/// A loaded provider.
pub struct Provider {
    pub manifest: Manifest,
    pub schema: Schema,
    pub file: PathBuf,
    /// SHA-256 of the file, in hex.
    pub digest: Arc<str>,
    /// The capabilities it imports.
    pub imports: Vec<&'static str>,
    /// What it imports of WASI beyond what every provider may; empty stubs.
    pub wasi: Vec<String>,
    pub guest: Guest,
}

/// What it takes to call a component. `describe` needs no more, so this exists before a [`Provider`] does.
#[derive(Clone)]
pub struct Guest {
    pub engine: Engine,
    pub component: wit::ProviderPre<CallState>,
    /// Empty until the provider has said it.
    pub name: Arc<str>,
    pub digest: Arc<str>,
    pub limits: Limits,
    pub clock: Clock,
    /// How many instances of this one may be alive.
    pub permits: Arc<Semaphore>,
    /// How many of them may compute for long at the same time.
    pub turns: Turns,
}

/// What a call gave, and the state it left: what it asked beyond its ceiling, whether AWS was slow.
pub struct Finished<T> {
    pub value: T,
    pub state: CallState,
}

/// Why a call gave nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A bug in the provider, or worse.
    #[error("provider trapped: {0}")]
    Trapped(String),
    #[error("provider exceeded its limit of {0}")]
    Limit(&'static str),
    /// The deadline hit while an upstream was waited for.
    #[error("the upstream did not answer before the call's deadline")]
    UpstreamTimedOut,
    /// Every instance is taken.
    #[error("too many provider calls at once")]
    Overloaded,
    /// Ours.
    #[error("the host failed while a provider called it: {0}")]
    Host(String),
}

impl CallError {
    /// As metrics name it: the outcome, and the limit that was exceeded.
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

type Answer<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

impl Provider {
    /// Whether a call may leave something behind elsewhere: a session in AWS, a token at a registry.
    pub fn reaches_outside(&self) -> bool {
        self.imports.iter().any(|it| !capability::LOCAL.contains(it))
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.manifest.name).chain(&self.manifest.aliases).map(String::as_str)
    }

    pub async fn check(
        &self,
        capabilities: &Arc<Capabilities>,
        settings: &Arc<str>,
    ) -> Result<Finished<Result<Scope, Vec<Problem>>>, CallError> {
        let settings = Arc::clone(settings);
        self.guest
            .run("check", capabilities, move |guest, store| {
                Box::pin(async move {
                    guest.rise_registry_registry().call_check(store, &settings).await
                })
            })
            .await
    }

    pub async fn locate(
        &self,
        capabilities: &Arc<Capabilities>,
        settings: &Arc<str>,
        project: &Project,
    ) -> Result<Finished<Result<WitLocation, Error>>, CallError> {
        let (settings, project) = (Arc::clone(settings), project.clone());
        self.guest
            .run("locate", capabilities, move |guest, store| {
                Box::pin(async move {
                    guest
                        .rise_registry_registry()
                        .call_locate(store, &settings, project.as_str())
                        .await
                })
            })
            .await
    }

    pub async fn resolve(
        &self,
        capabilities: &Arc<Capabilities>,
        settings: &Arc<str>,
        location: &Location,
    ) -> Result<Finished<Option<String>>, CallError> {
        let settings = Arc::clone(settings);
        let location = WitLocation {
            host: location.host.to_string(),
            repository: location.repository.clone(),
        };
        self.guest
            .run("resolve", capabilities, move |guest, store| {
                Box::pin(async move {
                    guest.rise_registry_registry().call_resolve(store, &settings, &location).await
                })
            })
            .await
    }

    pub async fn issue(
        &self,
        capabilities: &Arc<Capabilities>,
        settings: &Arc<str>,
        grant: &Arc<Grant>,
        deadline: Deadline,
    ) -> Result<Finished<Result<Issued, Error>>, CallError> {
        let (settings, grant) = (Arc::clone(settings), Arc::clone(grant));
        self.guest
            .run_until("issue", Some(deadline), capabilities, move |guest, store| {
                Box::pin(async move {
                    let grant = store.data_mut().issue(grant)?;
                    guest.rise_registry_registry().call_issue(store, &settings, grant).await
                })
            })
            .await
    }
}

impl Guest {
    pub async fn describe(&self) -> Result<Manifest, CallError> {
        let capabilities = Arc::new(Capabilities::none());
        let described = self.run("describe", &capabilities, |guest, store| {
            Box::pin(async move { guest.rise_registry_registry().call_describe(store).await })
        });
        Ok(described.await?.value)
    }

    async fn run<T, F>(
        &self,
        function: &'static str,
        capabilities: &Arc<Capabilities>,
        call: F,
    ) -> Result<Finished<T>, CallError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a wit::Provider, &'a mut Store<CallState>) -> Answer<'a, T>
            + Send
            + 'static,
    {
        self.run_until(function, None, capabilities, call).await
    }

    /// Not for longer than the request has that it is for.
    async fn run_until<T, F>(
        &self,
        function: &'static str,
        request: Option<Deadline>,
        capabilities: &Arc<Capabilities>,
        call: F,
    ) -> Result<Finished<T>, CallError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a wit::Provider, &'a mut Store<CallState>) -> Answer<'a, T>
            + Send
            + 'static,
    {
        let started = Instant::now();
        let finished = self.run_unmeasured(request, capabilities, call).await;
        let (outcome, limit) = finished.as_ref().err().map_or(("ok", None), CallError::counted);
        self.engine.metrics.provider_call(&ProviderCall {
            provider: &self.name,
            digest: &self.digest,
            function,
            outcome,
            limit,
            elapsed: started.elapsed(),
        });
        finished
    }

    /// Makes an instance and calls it, within every limit.
    async fn run_unmeasured<T, F>(
        &self,
        request: Option<Deadline>,
        capabilities: &Arc<Capabilities>,
        call: F,
    ) -> Result<Finished<T>, CallError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a wit::Provider, &'a mut Store<CallState>) -> Answer<'a, T>
            + Send
            + 'static,
    {
        let left = request.map(Deadline::remaining);
        let queue = left.map_or(QUEUE, |left| QUEUE.min(left));
        let permits = timeout(queue, self.permits()).await;
        let permits = permits.ok().and_then(Result::ok).ok_or(CallError::Overloaded)?;
        let (guest, capabilities) = (self.clone(), Arc::clone(capabilities));
        let work = async move {
            let own = Instant::now() + guest.limits.wall;
            let deadline = request.map_or(own, |it| own.min(it.instant().into()));
            let mut store = guest.store(capabilities);
            let answer = timeout_at(deadline, async {
                let instance = guest.component.instantiate_async(&mut store).await?;
                call(&instance, &mut store).await
            });
            let answer = answer.await;
            store.data().finish();
            let failed = match answer {
                Ok(Ok(value)) => return Ok(Finished { value, state: store.into_data() }),
                Ok(Err(error)) => failure(&error, store.data()),
                Err(_) if store.data().upstream_slow || deadline < own => {
                    CallError::UpstreamTimedOut
                }
                Err(_) => CallError::Limit("time"),
            };
            // The instance goes before its permit: whoever gets that next finds room in the pool.
            drop(store);
            drop(permits);
            Err(failed)
        };
        // The lines of a task of its own are the request's all the same.
        let alive = CALLS_PER_PROVIDER.saturating_sub(self.permits.available_permits());
        let ended = self.engine.threads.run(self.turns.clone(), alive, work.in_current_span());
        ended.await.unwrap_or_else(|error| Err(CallError::Host(error.to_string())))
    }

    /// Its own share first, so that one provider that waits for its upstream leaves room for the others.
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
            // One tick each time that guest code is found running: time spent waiting in the host counts once.
            state.cpu_ticks += 1;
            if u128::from(state.cpu_ticks) > budget {
                return Err(LimitExceeded("CPU time").into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }
}

/// Says which limit was hit, or what the trap was, in words for the operator's log.
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
    // These two have no type of their own in wasmtime 48.
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
