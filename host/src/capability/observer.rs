//! A hook that sees what a provider asks of its host. The tools for provider authors use it to show
//! the calls and to make one of them fail; a broker that serves has none.

use crate::capability::wit::rise::registry::log::Level;
use crate::capability::wit::rise::registry::types::Error;

/// The resources that one call used.
#[derive(Clone, Copy, Debug)]
pub struct CallUsage {
    /// Bytes of memory.
    pub memory: usize,
    pub cpu_ticks: u64,
}

/// Sees the calls of a provider to its host. Every function does nothing unless it is overridden.
pub trait Observer: Send + Sync {
    /// A function of a capability was called. An error takes the place of the function's answer.
    fn called(&self, _import: &'static str) -> Result<(), Error> {
        Ok(())
    }

    /// The provider logged a line. The text has not been cut or checked for secrets.
    fn logged(&self, _level: Level, _text: &str) {}

    /// The host refused something beyond the ceiling.
    fn refused(&self, _asked: &str) {}

    /// The host withheld the line with this number, counted from 0: it holds a secret.
    fn withheld(&self, _line: usize) {}

    /// The provider made a secret of text that it has.
    fn made_secret(&self, _text: &str) {}

    /// The provider wrote to its standard output, which no log has.
    fn printed(&self, _text: &str) {}

    /// The call ended, with an answer or without one.
    fn ended(&self, _used: CallUsage) {}
}

/// No observer.
pub struct Unobserved;

impl Observer for Unobserved {}
