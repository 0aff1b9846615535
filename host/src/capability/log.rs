//! `log`: lines for the operator. It is the only capability that works outside `issue`.
//!
//! **Invariant:** a line is written when its call ends, and not before: only then does the host
//! know every secret that the call has come upon, and the line must not hold one.

use std::time::Duration;

use wasmtime::component::Linker;

use super::state::HasState;
use super::{CallState, printable, withheld_text};
use crate::capability::wit::rise::registry::log::{self, Level};

/// A line that is not written yet.
pub(super) struct Line {
    level: Level,
    message: String,
    /// The time since the call began.
    after: Duration,
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    log::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl log::Host for CallState {
    /// Cuts a long line, and drops the lines beyond the limit of a call with one warning: a
    /// provider must not fill the log.
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.log_lines += 1;
        self.capabilities.observer.logged(level, &message);
        let (registry, digest) = (&self.capabilities.registry, &self.digest);
        if self.log_lines > self.limits.log_lines {
            if self.log_lines == self.limits.log_lines + 1 {
                tracing::warn!(
                    %registry,
                    %digest,
                    limit = self.limits.log_lines,
                    "a provider logs too much; the rest of this call is dropped"
                );
            }
            return Ok(());
        }
        // The line is cut before it is searched: the time of a search tells something about a
        // secret, and more so on a long text.
        let message = printable(&message, self.limits.log_line);
        self.lines.push(Line { level, message, after: self.started.elapsed() });
        Ok(())
    }
}

impl CallState {
    pub(super) fn write_lines(&mut self) {
        for (index, line) in std::mem::take(&mut self.lines).into_iter().enumerate() {
            let Line { level, message, after } = line;
            let message = self.withheld(&message).map_or(message, |secret| {
                self.capabilities.observer.withheld(index);
                withheld_text(secret)
            });
            if let (Level::Warn | Level::Error, Some(kept)) = (level, &mut self.warnings) {
                kept.push(message);
                continue;
            }
            let (registry, digest) = (&self.capabilities.registry, &self.digest);
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            match level {
                Level::Debug => {
                    tracing::debug!(target: "provider", %registry, %digest, after_ms, "{message}");
                }
                Level::Info => {
                    tracing::info!(target: "provider", %registry, %digest, after_ms, "{message}");
                }
                Level::Warn => {
                    tracing::warn!(target: "provider", %registry, %digest, after_ms, "{message}");
                }
                Level::Error => {
                    tracing::error!(target: "provider", %registry, %digest, after_ms, "{message}");
                }
            }
        }
    }
}
