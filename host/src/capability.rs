//! What a provider can reach: the list of capabilities, and the state of one call.
//!
//! To add one: `wit/<name>.wit` and its import in `wit/world.wit`, a module here with the port, the glue and the
//! ceiling, a line in [`IMPLEMENTED`] and one in [`add_to_linker`], and a wrapper in the SDK.
//!
//! **Invariant:** every function that acts, but for `log.write`, asks [`CallState::issuing`] first, so that outside `issue` a
//! provider can do nothing at all.

pub mod aws;
mod grant;
pub mod http;
mod log;
pub mod probe;
pub mod secrets;
mod wasi;

pub use wasi::{LINKED as WASI, STUBBED as STUBBED_WASI};

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::config::Limits;
use crate::domain::{AwsSession, Secret};
use crate::provider::Memory;
use crate::rules::Grant;
use crate::telemetry::Metrics;
use crate::wit::rise::registry::types::Error;
pub use grant::GrantHandle;

/// No registry's credential is longer.
pub const MAX_SECRET: usize = 16 << 10;

/// Ends a call from within a capability. The name is for the log.
#[derive(Debug, thiserror::Error)]
#[error("limit of {0}")]
pub struct LimitExceeded(pub &'static str);

/// The capabilities of this host, in the words of `wit/world.wit`. `types` is the language they are written in.
pub const IMPLEMENTED: [&str; 4] = ["log", "secrets", "aws", "http"];
/// Those of them that end within this process.
pub const LOCAL: [&str; 2] = ["log", "secrets"];
/// Those of the contract that this host does not have yet.
pub const PLANNED: [&str; 2] = ["tokens", "assertions"];

/// What a capability lets a provider do, for the operator who is asked to allow it.
pub fn in_words(capability: &str) -> &'static str {
    match capability {
        "log" => "write to the broker's log",
        "secrets" => "hand on its registry's secrets, without reading them",
        "aws" => "assume AWS roles and get ECR logins, within its registry's ceiling",
        "http" => "send requests to its registry's own addresses",
        "tokens" => "have the broker sign registry tokens for what was granted",
        "assertions" => "have the broker sign assertions with its registry's keys",
        _ => "use a capability that this broker does not know",
    }
}

/// Links everything that this host has. A component gets what it imports; `catalog` has looked at that before.
pub fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker)?;
    grant::add_to_linker(linker)?;
    log::add_to_linker(linker)?;
    secrets::add_to_linker(linker)?;
    aws::add_to_linker(linker)?;
    http::add_to_linker(linker)
}

/// As [`add_to_linker`], and all of WASI, empty: for components whose provider has `wasi = "stubbed"`.
pub fn add_stubbed_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    add_to_linker(linker)?;
    wasi::stubs_to_linker(linker)
}

/// What a registry lets its provider use.
pub struct Capabilities {
    /// For the log.
    pub registry: String,
    /// The registry's own secrets by name.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    pub aws: Option<aws::Access>,
    pub http: Option<http::Access>,
    pub probe: Option<Arc<probe::Probe>>,
}

impl Capabilities {
    /// For calls that belong to no registry: `describe`.
    pub fn none() -> Self {
        Self {
            registry: String::new(),
            secrets: BTreeMap::new(),
            aws: None,
            http: None,
            probe: None,
        }
    }

    /// The same, to be changed and handed to somebody else.
    #[must_use]
    pub fn again(&self) -> Self {
        let (aws, http) = (self.aws.as_ref(), self.http.as_ref());
        Self {
            registry: self.registry.clone(),
            secrets: self.secrets.clone(),
            aws: aws.map(|it| aws::Access {
                ceiling: it.ceiling.clone(),
                client: Arc::clone(&it.client),
            }),
            http: http.map(|it| http::Access {
                ceiling: it.ceiling.clone(),
                client: Arc::clone(&it.client),
            }),
            probe: self.probe.clone(),
        }
    }

    /// Whether `text` holds a configured secret, which must not leave in a user name, a log line or an error.
    pub fn reveals_secret(&self, text: &str) -> bool {
        self.secrets.values().any(|secret| secret.is_in(text))
    }
}

/// Everything that belongs to one call of one provider. Dropped after it.
pub struct CallState {
    pub capabilities: Arc<Capabilities>,
    /// The provider's digest, for the log.
    pub digest: Arc<str>,
    pub limits: Limits,
    pub memory: Memory,
    pub cpu_ticks: u64,
    pub log_lines: usize,
    pub aws_calls: usize,
    pub http_calls: usize,
    /// Set while an upstream is waited for, and left set when one did not answer in time.
    pub upstream_slow: bool,
    /// What was first asked outside the ceiling, for the log and the record.
    pub refused: Option<String>,
    /// The last session that was opened, for the record.
    pub session: Option<AwsSession>,
    /// Only while issuing.
    grant: Option<Arc<Grant>>,
    now: u64,
    metrics: Metrics,
    table: ResourceTable,
    wasi: WasiCtx,
    stderr: wasmtime_wasi::p2::pipe::MemoryOutputPipe,
}

impl CallState {
    pub fn new(
        capabilities: Arc<Capabilities>,
        digest: Arc<str>,
        limits: Limits,
        now: u64,
        metrics: Metrics,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let (wasi, stderr) = wasi::context();
        Self {
            capabilities,
            digest,
            memory: Memory::new(&limits),
            limits,
            cpu_ticks: 0,
            log_lines: 0,
            aws_calls: 0,
            http_calls: 0,
            upstream_slow: false,
            refused: None,
            session: None,
            grant: None,
            now,
            metrics,
            table,
            wasi,
            stderr,
        }
    }

    /// Opens the capabilities for `grant`, and hands out the handle that the provider gets.
    pub fn issue(
        &mut self,
        grant: Arc<Grant>,
    ) -> wasmtime::Result<wasmtime::component::Resource<GrantHandle>> {
        self.grant = Some(Arc::clone(&grant));
        Ok(self.table.push(GrantHandle { grant, now: self.now })?)
    }

    /// The grant that capabilities act for, or the refusal that a call outside `issue` gets.
    fn issuing(&self, import: &'static str) -> Result<Arc<Grant>, Error> {
        self.capabilities.probe.as_ref().map_or(Ok(()), |probe| probe.ask(import))?;
        self.grant
            .clone()
            .ok_or_else(|| Error::Refused("capabilities are for `issue` only".to_owned()))
    }

    /// The call is over, well or not.
    pub fn finish(&self) {
        if let Some(probe) = &self.capabilities.probe {
            probe.used(self.limits.memory.saturating_sub(self.memory.left()), self.cpu_ticks);
        }
    }

    /// Notes what was asked for outside the ceiling and says no. Logged once: a provider must not fill the log.
    fn refuse(&mut self, what: String) -> Error {
        let reveals = self.capabilities.reveals_secret(&what);
        let what = if reveals { "what holds a configured secret".to_owned() } else { what };
        if let Some(probe) = &self.capabilities.probe {
            probe.refused(&what);
        }
        if self.refused.is_none() {
            tracing::warn!(registry = %self.capabilities.registry, digest = %self.digest, asked = %what, "refused what a provider asked for");
            self.refused = Some(what.clone());
        }
        Error::Refused(what)
    }

    /// Takes a secret that the provider handed back out of this call.
    pub fn take_secret(
        &mut self,
        handle: wasmtime::component::Resource<secrets::Handle>,
    ) -> wasmtime::Result<secrets::Handle> {
        Ok(self.table.delete(handle)?)
    }

    /// What the guest wrote to its standard error: the text of a panic, mostly.
    pub fn stderr(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr.contents()).into_owned();
        if self.capabilities.reveals_secret(&text) {
            "(withheld: holds a configured secret)".to_owned()
        } else {
            printable(&text, 1024)
        }
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The whole state is what each capability works on.
struct HasState;

impl HasData for HasState {
    type Data<'a> = &'a mut CallState;
}

/// Text from a guest as it may stand in a log: no control characters, at most `limit` bytes.
pub fn printable(text: &str, limit: usize) -> String {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let clean = |it: char| if it.is_control() { ' ' } else { it };
    text.get(..end).unwrap_or_default().chars().map(clean).collect::<String>().trim_end().to_owned()
}
