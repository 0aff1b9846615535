//! Records what a provider asks of its host, and makes one call to a capability fail.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::contract::log::Level;
use crate::contract::types::Error;
use rise_broker::capability::{CallUsage, Observer, printable};

/// The most calls and lines that are kept. No provider needs as many within its limits, and one
/// that ignores refusals must not fill the memory.
const MOST: usize = 1024;
const MOST_TEXTS: usize = 16;

#[derive(Default)]
pub(crate) struct Probe {
    seen: Mutex<Seen>,
    fault: Option<Fault>,
}

/// Which call to an import fails, counted from 0, and with which error.
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) with: Error,
}

/// The events that a probe has seen.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// The imports that were called, in order; at most [`MOST`].
    pub asked: Vec<Asked>,
    pub asked_in_all: usize,
    /// The lines that were logged, before any was cut or withheld; at most [`MOST`].
    pub lines: Vec<Line>,
    pub lines_in_all: usize,
    /// The first thing that was asked for beyond the ceiling.
    pub refused: Option<String>,
    /// Texts that the provider has made secrets of; at most [`MOST_TEXTS`].
    pub made_secrets: Vec<String>,
    /// What it wrote to its standard output.
    pub printed: String,
    /// The most memory that one call used, in bytes.
    pub memory: usize,
    /// The most CPU time that one call used.
    pub cpu_ticks: u64,
}

#[derive(Clone)]
pub(crate) struct Asked {
    pub import: &'static str,
    pub at: Instant,
}

#[derive(Clone)]
pub(crate) struct Line {
    pub level: Level,
    pub text: String,
    /// Whether the host withheld it, because it holds a secret.
    pub withheld: bool,
}

impl Probe {
    pub(crate) fn failing(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Probe {
    fn called(&self, import: &'static str) -> Result<(), Error> {
        let mut seen = self.lock();
        let index = seen.asked_in_all;
        seen.asked_in_all += 1;
        if seen.asked.len() < MOST {
            seen.asked.push(Asked { import, at: Instant::now() });
        }
        match &self.fault {
            Some(fault) if fault.at == index => Err(fault.with.clone()),
            Some(_) | None => Ok(()),
        }
    }

    fn logged(&self, level: Level, text: &str) {
        let mut seen = self.lock();
        seen.lines_in_all += 1;
        if seen.lines.len() < MOST {
            let text = printable(text, 16 << 10);
            seen.lines.push(Line { level, text, withheld: false });
        }
    }

    fn withheld(&self, line: usize) {
        if let Some(line) = self.lock().lines.get_mut(line) {
            line.withheld = true;
        }
    }

    fn made_secret(&self, text: &str) {
        let mut seen = self.lock();
        if seen.made_secrets.len() < MOST_TEXTS {
            seen.made_secrets.push(text.to_owned());
        }
    }

    fn printed(&self, text: &str) {
        let mut seen = self.lock();
        seen.printed = printable(text, 1024);
    }

    fn refused(&self, asked: &str) {
        self.lock().refused.get_or_insert_with(|| asked.to_owned());
    }

    fn ended(&self, used: CallUsage) {
        let mut seen = self.lock();
        seen.memory = seen.memory.max(used.memory);
        seen.cpu_ticks = seen.cpu_ticks.max(used.cpu_ticks);
    }
}
