//! Protection of this process against leaks of its secrets.
//!
//! Resource limits and the umask stay as they are, because the command of `exec` inherits them.
//! Files are created with explicit modes instead.

use std::panic::{self, PanicHookInfo};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::terminal;

/// Closes memory to other processes of the same user, disables core dumps, and reduces the report
/// of a panic to its location.
pub fn harden() {
    panic::set_hook(Box::new(report));
    // Where a sandbox forbids this, the run goes on: the protection is for the caller's own
    // machine.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn report(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    terminal::error_line(&format!("error: panicked at {location}; please report this bug"));
}
