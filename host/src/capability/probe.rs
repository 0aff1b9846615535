//! Watches what a provider asks its host for, and makes one answer fail: for the commands of a provider's author.
//!
//! **Invariant:** a broker that serves has none: `registries` builds [`Capabilities`](super::Capabilities) without, and only
//! `trial` puts one in.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::wit::rise::registry::log::Level;
use crate::wit::rise::registry::types::Error;

/// More than any provider asks within its limits; bounds what one that ignores refusals makes us keep.
const MOST: usize = 1024;

#[derive(Default)]
pub struct Probe {
    notes: Mutex<Notes>,
    fault: Option<Fault>,
}

/// Which call to an import fails, counted from 0, and how.
pub struct Fault {
    pub at: usize,
    pub with: Error,
}

#[derive(Clone, Default)]
pub struct Notes {
    /// The imports that were called, in order.
    pub asked: Vec<Asked>,
    pub asked_in_all: usize,
    /// What was logged, before anything of it is cut or withheld.
    pub lines: Vec<Line>,
    pub lines_in_all: usize,
    /// What was first asked beyond the ceiling.
    pub refused: Option<String>,
    /// The largest of all calls.
    pub memory: usize,
    pub cpu_ticks: u64,
}

#[derive(Clone)]
pub struct Asked {
    pub import: &'static str,
    pub at: Instant,
}

#[derive(Clone)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

impl Probe {
    pub fn failing(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    pub fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that an import was called, and says whether it is to fail.
    pub(super) fn ask(&self, import: &'static str) -> Result<(), Error> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let index = notes.asked_in_all;
        notes.asked_in_all += 1;
        if notes.asked.len() < MOST {
            notes.asked.push(Asked { import, at: Instant::now() });
        }
        match &self.fault {
            Some(fault) if fault.at == index => Err(fault.with.clone()),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn log(&self, level: Level, text: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.lines_in_all += 1;
        if notes.lines.len() < MOST {
            notes.lines.push(Line { level, text: super::printable(text, 4096) });
        }
    }

    pub(super) fn refused(&self, what: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.refused.get_or_insert_with(|| what.to_owned());
    }

    pub(super) fn used(&self, memory: usize, cpu_ticks: u64) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.memory = notes.memory.max(memory);
        notes.cpu_ticks = notes.cpu_ticks.max(cpu_ticks);
    }
}
