//! Functions without an end: the host stops each of them, or limits its effect.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use rise_provider::{Credential, Error, Issued, Secret, log};

/// Never returns.
pub(crate) fn time() -> Result<Issued, Error> {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Calls itself until the engine's stack is full. It uses no memory, so no other limit comes first.
pub(crate) fn stack() -> Result<Issued, Error> {
    Err(Error::Failed(format!("{} frames", deeper())))
}

fn deeper() -> u64 {
    static DEPTH: AtomicU64 = AtomicU64::new(0);
    let depth = DEPTH.fetch_add(1, Ordering::Relaxed);
    // The work after the call prevents that the compiler makes a loop of it.
    if depth == u64::MAX { depth } else { deeper().rotate_left(1) ^ depth }
}

/// Calls itself until its own stack, at the bottom of its memory, is full.
pub(crate) fn stack_in_memory() -> Result<Issued, Error> {
    Err(Error::Failed(format!("{} frames", wider(1))))
}

fn wider(depth: u64) -> u64 {
    let frame = black_box([depth; 512]);
    if black_box(true) { wider(depth + 1) + black_box(frame).iter().sum::<u64>() } else { depth }
}

/// Allocates and touches memory until there is no more.
pub(crate) fn memory() -> Result<Issued, Error> {
    let mut chunks = Vec::new();
    loop {
        chunks.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Makes secrets and keeps them all.
pub(crate) fn handles() -> Result<Issued, Error> {
    let mut secrets = Vec::new();
    loop {
        secrets.push(black_box(Secret::new("x")));
    }
}

/// 64 MiB in one call to the host.
pub(crate) fn host_call() -> Result<Issued, Error> {
    log::info(&"x".repeat(64 << 20));
    nothing()
}

/// 4 MiB in one call to the host: little memory, and more than a call may have.
pub(crate) fn host_call_bytes() -> Result<Issued, Error> {
    log::info(&"x".repeat(4 << 20));
    nothing()
}

/// Logs one very long line.
pub(crate) fn log_line() -> Result<Issued, Error> {
    log::info(&"0123456789".repeat(20_000));
    nothing()
}

/// Logs very many lines.
pub(crate) fn log_lines() -> Result<Issued, Error> {
    for line in 0..10_000 {
        log::info(&format!("line {line}"));
    }
    nothing()
}

/// Makes the host keep more than the guest itself may have.
pub(crate) fn secrets() -> Result<Issued, Error> {
    let text = "s".repeat(32 << 10);
    let kept: Vec<_> = (0..100_000).map(|_| Secret::new(&text)).collect();
    Err(Error::Failed(format!("{} secrets kept", kept.len())))
}

/// Makes small secrets and drops each at once: the host has to know them until the call ends.
pub(crate) fn many_secrets() -> Result<Issued, Error> {
    for _ in 0..100_000 {
        drop(black_box(Secret::new("0123456789abcdef")));
    }
    nothing()
}

/// A bug.
pub(crate) fn trap() -> Result<Issued, Error> {
    #[allow(clippy::panic, reason = "this guest is here to crash")]
    {
        panic!("misbehaves was told to panic");
    }
}

fn nothing() -> Result<Issued, Error> {
    Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
}
