//! The part of WASI that the standard library of a Rust guest links whether it is used or not. All of it is empty: no
//! arguments, no variables, closed input, output that goes nowhere. No files, no sockets, no `wasi:http`.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiCtx, WasiView};
use wasmtime_wasi_io::bindings::wasi::io;

use super::CallState;

/// The interfaces that are linked, without their versions.
pub const LINKED: [&str; 16] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
];

/// More than a panic says. What a guest writes beyond it is refused, or ends the call.
const STDERR: usize = 64 << 10;

pub(super) fn context() -> (WasiCtx, MemoryOutputPipe) {
    let stderr = MemoryOutputPipe::new(STDERR);
    (WasiCtx::builder().stderr(stderr.clone()).build(), stderr)
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasi::cli::environment::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::exit::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::stdin::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::stdout::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::stderr::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_input::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_output::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stdin::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stdout::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stderr::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    wasi::clocks::monotonic_clock::add_to_linker::<CallState, WasiClocks>(
        linker,
        CallState::clocks,
    )?;
    wasi::clocks::wall_clock::add_to_linker::<CallState, WasiClocks>(linker, CallState::clocks)?;
    wasi::random::insecure_seed::add_to_linker::<CallState, WasiRandom>(linker, |state| {
        state.ctx().ctx.random()
    })?;
    io::error::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    io::poll::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    Ok(())
}
