//! What lives as long as the process. A reload never replaces any of it; see [`crate::generation`]
//! for what it does replace.
//!
//! To let something else survive a reload: a field here.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use crate::audit::{Audit, Disk};
use crate::config::node::Problem;
use crate::config::{CacheConfig, Edge, ProvidersConfig, Written};
use crate::domain::Clock;
use crate::findings::Findings;
use crate::identity::IssuerMemory;
use crate::issue::Issuing;
use crate::limits::Counts;
use crate::provider::compile::Compiler;
use crate::provider::{Engine, Loader};
use crate::registries::{Clients, ConnectAws, Sdk};
use crate::shared::{Shared, SharedSettings, SharedSetupError};
use crate::ship::Shipping;
use crate::signing::SigningMemory;
use crate::state;
use crate::telemetry::{ClockSteps, LostLines, Metrics, Refusals, Traces};

/// More at once would take processors from requests for credentials.
const EXPLAINING: usize = 2;

/// State that every generation shares.
pub struct Process {
    pub foundation: Foundation,
    pub metrics: Metrics,
    pub audit: Audit,
    pub issuing: Issuing,
    /// What the last reload found wrong.
    pub findings: Findings,
    pub clock_steps: ClockSteps,
    /// Set once the log has a thread of its own.
    pub lost_lines: OnceLock<LostLines>,
    /// Set once the log is shipped somewhere.
    pub shipping: OnceLock<Shipping>,
    /// Set once traces are sent somewhere.
    pub traces: OnceLock<Traces>,
    /// Which refused requests are logged one by one.
    pub refusals: Refusals,
    /// Answers that list all rules of a caller, which takes long with many rules.
    pub explaining: Semaphore,
    /// Searches of the audit log over HTTP.
    pub searches: Arc<Semaphore>,
    /// `[server]` is read at start only.
    pub edge: Edge,
    draining: AtomicBool,
}

/// What a generation is built on. It exists before the audit log is opened, because nothing is
/// written there while the settings have problems.
pub struct Foundation {
    pub clock: Clock,
    pub engine: Engine,
    pub loader: Loader,
    /// Outbound clients with their connections and cached keys.
    pub clients: Clients,
    /// What limits have counted.
    pub counts: Counts,
    /// Fetched keys and used tokens.
    pub issuers: IssuerMemory,
    /// The files of signing keys that were opened.
    pub signing: SigningMemory,
    /// `None`: this broker shares nothing with others.
    pub shared: Option<Arc<Shared>>,
}

/// The world outside, as [`Surroundings::real`] or as the doubles of a test.
pub struct Surroundings {
    pub clock: Clock,
    pub aws: Arc<dyn ConnectAws>,
    pub compiler: Compiler,
    /// Where audit records go. `None`: into the folder that the settings name.
    pub disk: Option<Box<dyn Disk>>,
    /// Whether folders and keys that are missing stay so.
    pub only_reads: bool,
}

impl Surroundings {
    pub fn real() -> Self {
        Self {
            clock: Clock::system(),
            aws: Arc::new(Sdk::default()),
            compiler: Compiler::ThisProgram,
            disk: None,
            only_reads: false,
        }
    }

    /// The real world, in which nothing is created.
    pub fn reading() -> Self {
        Self { only_reads: true, ..Self::real() }
    }
}

impl Foundation {
    /// Opens the state directory, or only looks at it, and starts the WebAssembly engine.
    pub fn open(
        providers: &ProvidersConfig,
        state_directory: &Path,
        written: &Written,
        outside: &Surroundings,
    ) -> Result<Self, Vec<Problem>> {
        let cache = if outside.only_reads {
            state::examine(state_directory, &providers.directory)
        } else {
            state::open(state_directory, &providers.directory).map(Some)
        };
        let cache =
            cache.map_err(|message| vec![written.problem("/server/state_directory", message)])?;
        Self::with_cache(providers, cache, outside)
    }

    /// Starts the WebAssembly engine. `cache` is the folder for compiled code.
    pub fn with_cache(
        providers: &ProvidersConfig,
        cache: Option<PathBuf>,
        outside: &Surroundings,
    ) -> Result<Self, Vec<Problem>> {
        let bug = |what: &str, error: wasmtime::Error| {
            vec![Problem::new("this program", "", format!("cannot {what}: {error}"))]
        };
        let engine = Engine::new(&providers.widest(), Metrics::new())
            .map_err(|error| bug("start its WebAssembly engine", error))?;
        let loader = Loader::new(&engine, cache, &outside.clock, outside.compiler.clone())
            .map_err(|error| bug("link its own capabilities, please report it", error))?;
        Ok(Self {
            clock: outside.clock.clone(),
            engine,
            loader,
            clients: Clients::new(Arc::clone(&outside.aws)),
            counts: Counts::default(),
            issuers: IssuerMemory::new(outside.only_reads),
            signing: SigningMemory::new(outside.only_reads),
            shared: None,
        })
    }

    /// Opens what `[shared]` names. Connects to nothing yet.
    pub fn share(
        &mut self,
        settings: &SharedSettings,
        written: &Written,
        only_looks: bool,
    ) -> Result<(), Problem> {
        let opened = Shared::open(settings, &self.clock, &self.engine.metrics, only_looks);
        let shared = opened.map_err(|error| match error {
            SharedSetupError::Key(error) => written.problem("/shared/key_files", error.to_string()),
            SharedSetupError::Authorities(message) => written.problem("/shared/ca_file", message),
        })?;
        self.issuers.share(&shared);
        self.counts.share(&shared);
        self.shared = Some(shared);
        Ok(())
    }
}

impl Process {
    pub(crate) fn new(
        foundation: Foundation,
        audit: Audit,
        edge: Edge,
        cache: CacheConfig,
    ) -> Self {
        let (clock, metrics) = (foundation.clock.clone(), foundation.engine.metrics.clone());
        let shared = foundation.shared.as_ref();
        let issuing = Issuing::new((clock.clone(), metrics.clone()), audit.clone(), cache, shared);
        Self {
            foundation,
            clock_steps: ClockSteps::new(clock.clone()),
            lost_lines: OnceLock::new(),
            shipping: OnceLock::new(),
            traces: OnceLock::new(),
            refusals: Refusals::new(clock),
            explaining: Semaphore::new(EXPLAINING),
            searches: Arc::new(Semaphore::new(1)),
            issuing,
            metrics,
            audit,
            findings: Findings::default(),
            edge,
            draining: AtomicBool::new(false),
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on the broker is not ready, so that load balancers send callers elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
