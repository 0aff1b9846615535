//! The state of one call of one provider.

use std::sync::Arc;

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::memory::Memory;
use super::wasi::CallWasi;
use super::{CallUsage, Capabilities, GrantHandle, printable, secrets};
use crate::capability::wit::rise::registry::types::Error;
use crate::config::CallLimits;
use crate::domain::AwsSession;
use crate::rules::Grant;
use crate::telemetry::Metrics;

/// The purpose of a call. It decides what the capabilities do.
pub(super) enum Purpose {
    /// `describe`, `check`, `locate` and `resolve`: every capability but `log` is closed.
    Nothing,
    /// `issue`: capabilities act for this grant.
    Issue(Arc<Grant>),
}

/// Everything that belongs to one call. It is dropped with the call.
pub struct CallState {
    pub(crate) capabilities: Arc<Capabilities>,
    /// The provider's digest, for the log.
    pub(super) digest: Arc<str>,
    pub(super) limits: CallLimits,
    pub(crate) memory: Memory,
    pub(crate) cpu_ticks: u64,
    pub(super) log_lines: usize,
    pub(super) aws_calls: usize,
    pub(super) http_calls: usize,
    /// `true` while the call waits for an upstream. It stays `true` when an upstream did not answer
    /// in time.
    pub(crate) upstream_slow: bool,
    /// The first thing that the provider asked for beyond its ceiling.
    pub(crate) refused: Option<String>,
    /// The last AWS session of the call, for the audit record.
    pub(crate) session: Option<AwsSession>,
    pub(super) purpose: Purpose,
    pub(super) now: u64,
    pub(super) metrics: Metrics,
    pub(super) table: ResourceTable,
    /// Made when the guest first uses WASI, which most calls do not.
    wasi: Option<CallWasi>,
}

impl CallState {
    pub(crate) fn new(
        capabilities: Arc<Capabilities>,
        digest: Arc<str>,
        limits: CallLimits,
        now: u64,
        metrics: Metrics,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
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
            purpose: Purpose::Nothing,
            now,
            metrics,
            table,
            wasi: None,
        }
    }

    /// Opens the capabilities for `grant` and returns the handle that the provider gets.
    pub(crate) fn open(&mut self, grant: Arc<Grant>) -> wasmtime::Result<Resource<GrantHandle>> {
        self.purpose = Purpose::Issue(Arc::clone(&grant));
        Ok(self.table.push(GrantHandle { grant, now: self.now })?)
    }

    /// Begins a function of a capability: returns the grant to act for, or the error that the
    /// provider gets instead of an answer.
    pub(super) fn begin(&self, import: &'static str) -> Result<Arc<Grant>, Error> {
        self.capabilities.observer.called(import)?;
        self.granted()
    }

    /// The security check of every capability: outside `issue` there is no grant to act for.
    fn granted(&self) -> Result<Arc<Grant>, Error> {
        match &self.purpose {
            Purpose::Issue(grant) => Ok(Arc::clone(grant)),
            Purpose::Nothing => Err(Error::Refused("capabilities are for `issue` only".to_owned())),
        }
    }

    /// Tells the observer that the call ended.
    pub(crate) fn end(&self) {
        let memory = self.limits.memory.saturating_sub(self.memory.left());
        self.capabilities.observer.ended(CallUsage { memory, cpu_ticks: self.cpu_ticks });
    }

    /// Records what was asked for beyond the ceiling and returns the refusal. Only the first one of
    /// a call is logged: a provider must not fill the log.
    pub(super) fn refuse(&mut self, asked: String) -> Error {
        let reveals = self.capabilities.reveals_secret(&asked);
        let asked = if reveals { "what holds a configured secret".to_owned() } else { asked };
        self.capabilities.observer.refused(&asked);
        if self.refused.is_none() {
            tracing::warn!(
                registry = %self.capabilities.registry,
                digest = %self.digest,
                asked = %asked,
                "a provider asked for more than its registry allows, and was refused: if that is \
                 intended, widen the `ceiling` of the registry; else report it to the provider's \
                 author"
            );
            self.refused = Some(asked.clone());
        }
        Error::Refused(asked)
    }

    /// Removes a secret that the provider returned from the state of this call.
    pub(crate) fn release_secret(
        &mut self,
        handle: Resource<secrets::SecretHandle>,
    ) -> wasmtime::Result<secrets::SecretHandle> {
        Ok(self.table.delete(handle)?)
    }

    /// The text that the guest wrote to its standard error, usually of a panic.
    pub(crate) fn stderr(&self) -> String {
        let text = self.wasi.as_ref().map(CallWasi::stderr).unwrap_or_default();
        if self.capabilities.reveals_secret(&text) {
            "(withheld: holds a configured secret)".to_owned()
        } else {
            printable(&text, 1024)
        }
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(CallWasi::new);
        WasiCtxView { ctx: &mut wasi.context, table: &mut self.table }
    }
}

/// Tells wasmtime that every capability works on the whole [`CallState`].
pub(super) struct HasState;

impl HasData for HasState {
    type Data<'a> = &'a mut CallState;
}
