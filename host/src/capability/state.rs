//! The state of one call of one provider.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::ecr_repositories::{RepositoryWork, SeenRepository};
use super::issued::IssuedSecrets;
use super::log::Line;
use super::memory::Memory;
use super::wasi::CallWasi;
use super::{CallUsage, Capabilities, GrantHandle, printable, secrets};
use crate::capability::wit::rise::registry::types::Error;
use crate::config::CallLimits;
use crate::rules::{Grant, GrantView};
use crate::telemetry::Metrics;

/// Bytes of standard error that a message shows: what fits behind the trap itself.
const STDERR_SHOWN: usize = 768;

/// The purpose of a call. It decides what the capabilities do.
pub(super) enum Purpose {
    /// `describe`, `check`, `locate` and `resolve`: every capability but `log` is closed.
    Nothing,
    /// `issue`: capabilities act for this grant.
    Issue(GrantView),
    /// A function of `repositories`: capabilities act for this grant's repository.
    Repository(Arc<RepositoryWork>),
    /// `revoke`: capabilities act for the grant whose credential ends.
    Revoke(GrantView),
    /// A function of `leftovers`: there is no grant, and only `secrets` and `http` are open. A call
    /// that may not change anything only reads over `http`.
    Leftovers { may_change: bool },
}

/// What `secrets` and `http` act for.
pub(super) enum Errand {
    For(GrantView),
    /// To find leftovers, and to change nothing.
    Look,
    /// To end a leftover.
    End,
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
    /// The lines that the provider has logged. They are written when the call ends.
    pub(super) lines: Vec<Line>,
    /// The warnings among them, if the caller of the provider reports those itself.
    pub(super) warnings: Option<Vec<String>>,
    pub(crate) issued: IssuedSecrets,
    pub(super) aws_calls: usize,
    pub(super) repository_calls: usize,
    /// The repository of the call, as the host last saw it.
    pub(crate) repository: Option<SeenRepository>,
    pub(super) http_calls: usize,
    pub(super) signatures: usize,
    /// Whether what the call keeps is for grants like its own alone.
    pub(super) keeps_apart: bool,
    /// `true` while the call waits for an upstream. It stays `true` when an upstream did not answer
    /// in time.
    pub(crate) upstream_slow: bool,
    /// The first thing that the provider asked for beyond its ceiling.
    pub(crate) refused: Option<String>,
    /// The last note of the provider about what it issued.
    pub(crate) note: Option<String>,
    pub(super) purpose: Purpose,
    pub(super) now: u64,
    pub(super) started: Instant,
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
            lines: Vec::new(),
            warnings: None,
            issued: IssuedSecrets::default(),
            started: Instant::now(),
            aws_calls: 0,
            repository_calls: 0,
            repository: None,
            http_calls: 0,
            signatures: 0,
            keeps_apart: false,
            upstream_slow: false,
            refused: None,
            note: None,
            purpose: Purpose::Nothing,
            now,
            metrics,
            table,
            wasi: None,
        }
    }

    /// Opens the capabilities for `grant` and returns the handle that the provider gets.
    pub(crate) fn open(&mut self, grant: Arc<Grant>) -> wasmtime::Result<Resource<GrantHandle>> {
        let grant = GrantView::from(grant);
        self.purpose = Purpose::Issue(grant.clone());
        Ok(self.table.push(GrantHandle { grant, now: self.now })?)
    }

    /// Opens the capabilities to end what was issued for `grant`, and returns its handle.
    pub(crate) fn open_revocation(
        &mut self,
        grant: GrantView,
    ) -> wasmtime::Result<Resource<GrantHandle>> {
        self.purpose = Purpose::Revoke(grant.clone());
        Ok(self.table.push(GrantHandle { grant, now: self.now })?)
    }

    /// Opens `secrets` and `http` for a call without a grant.
    pub(crate) fn open_leftovers(&mut self, may_change: bool) {
        self.purpose = Purpose::Leftovers { may_change };
    }

    /// Keeps warnings for [`CallState::warnings`], in place of the log.
    pub(crate) fn keep_warnings(&mut self) {
        self.warnings = Some(Vec::new());
    }

    /// The warnings that the call logged.
    pub(crate) fn warnings(&self) -> &[String] {
        self.warnings.as_deref().unwrap_or_default()
    }

    /// Begins a function of a capability: returns the grant to act for, or the error that the
    /// provider gets instead of an answer.
    pub(super) fn begin(&self, import: &'static str) -> Result<GrantView, Error> {
        self.capabilities.observer.called(import)?;
        self.granted()
    }

    /// The same for the capabilities that also act without a grant.
    pub(super) fn begin_for_registry(&self, import: &'static str) -> Result<Errand, Error> {
        self.capabilities.observer.called(import)?;
        match self.purpose {
            Purpose::Leftovers { may_change: true } => Ok(Errand::End),
            Purpose::Leftovers { may_change: false } => Ok(Errand::Look),
            Purpose::Nothing | Purpose::Issue(_) | Purpose::Repository(_) | Purpose::Revoke(_) => {
                self.granted().map(Errand::For)
            }
        }
    }

    /// The security check of every capability: outside `issue`, `repositories` and `revoke` there
    /// is no grant to act for.
    fn granted(&self) -> Result<GrantView, Error> {
        match &self.purpose {
            Purpose::Issue(grant) | Purpose::Revoke(grant) => Ok(grant.clone()),
            Purpose::Repository(work) => Ok(Arc::clone(&work.grant).into()),
            Purpose::Leftovers { .. } => Err(Error::Refused(
                "`leftovers` has no grant: only `log`, `secrets` and `http` are for it".to_owned(),
            )),
            Purpose::Nothing => Err(Error::Refused("capabilities are for `issue` only".to_owned())),
        }
    }

    /// Writes the provider's log lines, and tells the observer that the call ended.
    pub(crate) fn end(&mut self) {
        self.write_lines();
        let printed = self.wasi.as_ref().map(CallWasi::stdout).unwrap_or_default();
        if !printed.is_empty() {
            self.capabilities.observer.printed(&printed);
        }
        let memory = self.limits.memory.saturating_sub(self.memory.left());
        self.capabilities.observer.ended(CallUsage { memory, cpu_ticks: self.cpu_ticks });
    }

    /// Records what was asked for beyond the ceiling and returns the refusal. Only the first one of
    /// a call is logged: a provider must not fill the log.
    pub(super) fn refuse(&mut self, asked: String) -> Error {
        let asked = match self.withheld(&asked) {
            Some(secret) => format!("what holds {secret}"),
            None => asked,
        };
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

    /// The kind of secret that `text` holds. Such a text must not leave in a log line or an error.
    pub(crate) fn withheld(&self, text: &str) -> Option<&'static str> {
        if self.capabilities.reveals_secret(text) {
            Some("a configured secret")
        } else if self.issued.are_in(text) {
            Some("an issued secret")
        } else {
            None
        }
    }

    /// Removes a secret that the provider returned from the state of this call.
    pub(crate) fn release_secret(
        &mut self,
        handle: Resource<secrets::SecretHandle>,
    ) -> wasmtime::Result<secrets::SecretHandle> {
        Ok(self.table.delete(handle)?)
    }

    /// The end of the text that the guest wrote to its standard error: usually of a panic or of an
    /// exception, whose own text stands last.
    pub(crate) fn stderr(&self) -> String {
        let text = self.wasi.as_ref().map(CallWasi::stderr).unwrap_or_default();
        let mut from = text.len().saturating_sub(STDERR_SHOWN);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let end = text.get(from..).unwrap_or_default().trim_start();
        self.withheld(&text).map_or_else(|| printable(end, STDERR_SHOWN), withheld_text)
    }
}

/// What takes the place of a text that holds `secret`.
pub(crate) fn withheld_text(secret: &str) -> String {
    format!("(withheld: holds {secret})")
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
