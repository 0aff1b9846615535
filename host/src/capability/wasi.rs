//! WASI without access to anything: no arguments, no variables, closed input, output that only an
//! author sees, no files, no sockets. Clocks and random numbers are real. There is no `wasi:http`.
//!
//! Every provider gets the interfaces that the standard library of a Rust guest always links, and
//! random numbers: a host that froze them at build would make guessable names and passwords. The
//! other interfaces are for components with `wasi = "stubbed"`: interpreters that link all of WASI.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiView};
use wasmtime_wasi_io::bindings::wasi::io;

use super::CallState;

/// The interfaces that every provider may import, without versions.
pub(crate) const LINKED: [&str; 18] = [
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
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The interfaces that `wasi = "stubbed"` adds.
pub(crate) const STUBBED: [&str; 9] = [
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Random bytes that one request may return: enough for a seed, too few to keep the host busy.
const RANDOM: u64 = 64 << 10;
/// Bytes of standard error and of standard output, more than the text of a panic needs. Writing
/// more fails or ends the call.
const OUTPUT: usize = 64 << 10;

/// The WASI of one call.
pub(super) struct CallWasi {
    pub(super) context: WasiCtx,
    stderr: MemoryOutputPipe,
    stdout: MemoryOutputPipe,
}

impl CallWasi {
    pub(super) fn new() -> Self {
        let [stderr, stdout] = [(); 2].map(|()| MemoryOutputPipe::new(OUTPUT));
        let mut context = WasiCtx::builder();
        // Without these a guest could open sockets that it cannot use, and take file descriptors
        // from the process.
        context.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        context.max_random_size(RANDOM).stderr(stderr.clone()).stdout(stdout.clone());
        Self { context: context.build(), stderr, stdout }
    }

    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }

    pub(super) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.contents()).into_owned()
    }
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
    wasi::random::insecure::add_to_linker::<CallState, WasiRandom>(linker, random)?;
    wasi::random::insecure_seed::add_to_linker::<CallState, WasiRandom>(linker, random)?;
    wasi::random::random::add_to_linker::<CallState, WasiRandom>(linker, random)?;
    io::error::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    io::poll::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    Ok(())
}

fn random(state: &mut CallState) -> &mut WasiRandomCtx {
    state.ctx().ctx.random()
}

/// Links the stubs, in addition to [`add_to_linker`].
pub(super) fn stubs_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    use wasi::{filesystem, sockets};

    filesystem::types::add_to_linker::<CallState, WasiFilesystem>(linker, CallState::filesystem)?;
    filesystem::preopens::add_to_linker::<CallState, WasiFilesystem>(
        linker,
        CallState::filesystem,
    )?;
    let stable = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<CallState, WasiSockets>(linker, &stable, CallState::sockets)?;
    sockets::instance_network::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::tcp::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<CallState, WasiSockets>(
        linker,
        CallState::sockets,
    )?;
    sockets::udp::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::udp_create_socket::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)
}
