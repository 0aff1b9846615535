//! What this process keeps to itself.
//!
//! Limits and the file mask stay as they are: `exec` hands them on to other people's programs. Files say their own mode.

use std::panic::{self, PanicHookInfo};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::terminal;

/// Closes memory to other processes of the same user, forbids core dumps, and lets panics say where, never what.
pub fn harden() {
    panic::set_hook(Box::new(report));
    // A sandbox that forbids this is no reason to fail: the caller's own machine is what it protects.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn report(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    terminal::error_line(&format!("error: panicked at {location}, please report it"));
}
