//! `log`: lines for the operator. It is the only capability that works outside `issue`.

use wasmtime::component::Linker;

use super::state::HasState;
use super::{CallState, printable};
use crate::capability::wit::rise::registry::log::{self, Level};

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
        let reveals = self.capabilities.reveals_secret(&message);
        let message = if reveals { "(withheld: holds a configured secret)" } else { &message };
        match level {
            Level::Debug => tracing::debug!(target: "provider", %registry, %digest, "{message}"),
            Level::Info => tracing::info!(target: "provider", %registry, %digest, "{message}"),
            Level::Warn => tracing::warn!(target: "provider", %registry, %digest, "{message}"),
            Level::Error => tracing::error!(target: "provider", %registry, %digest, "{message}"),
        }
        Ok(())
    }
}
