//! Protects the memory of this process: no core dump, no access by other processes of the same
//! user, no file that others can read, and no panic message with a payload. Also returns freed
//! memory.
//!
//! **Invariant:** [`harden`] runs before the first secret is read and before the first thread
//! starts.
//!
//! It does not help against root, and memory may be written to swap. `docs/operator-guide.md` says
//! so.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::thread;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::set_no_new_privs;

#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {cause}; if a sandbox forbids it, let `prctl` and `setrlimit` through")]
pub struct NotHardened {
    what: &'static str,
    cause: std::io::Error,
}

/// Protects this process and everything that it starts. Nothing can undo it.
pub fn harden() -> Result<(), NotHardened> {
    panic::set_hook(Box::new(report));
    let step = |what| move |error: rustix::io::Errno| NotHardened { what, cause: error.into() };
    // Both are needed: the limit alone does not stop a core dump that is piped to a program.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(step("forbid core dumps"))?;
    // Closes /proc/PID/mem and ptrace to other processes of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("close its memory to other processes"))?;
    set_no_new_privs(true).map_err(step("renounce new privileges"))?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

thread_local! {
    static IS_SURVIVED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of others that panics on some input. Returns `None` if it did, and nothing is
/// reported: the input is at fault, and the caller says so. `work` must leave nothing half done.
pub(crate) fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = IS_SURVIVED.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_SURVIVED.set(before);
    done.ok()
}

/// Makes the C library return freed blocks of 256 KiB and more to the system at once. By default it
/// keeps blocks of a size that was freed once, such as those that providers make it copy. Must run
/// before the first thread starts.
pub(crate) fn keep_no_megabytes() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "no crate has it; it takes no pointer")]
    // SAFETY: no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
    }
}

/// Returns freed memory to the system. The C library would keep the memory of a flood of
/// connections for the next one.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "no crate has it; it takes no pointer and locks what it walks")]
    // SAFETY: may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Reports where a panic happened and never its payload, which may hold a secret.
fn report(panic: &PanicHookInfo<'_>) {
    if IS_SURVIVED.get() {
        return;
    }
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or_default();
    // Function names and places, if RUST_BACKTRACE is set.
    let backtrace = std::backtrace::Backtrace::capture();
    if tracing::dispatcher::has_been_set() {
        tracing::error!(location, thread, %backtrace, "panicked, please report it");
    } else {
        print(&format!("error: panicked at {location}, please report it\n{backtrace}"));
    }
}

#[expect(clippy::print_stderr, reason = "the log has not been started yet")]
fn print(text: &str) {
    eprintln!("{text}");
}
