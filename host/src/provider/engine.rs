//! The WebAssembly engine: which features guests may use, the clock that stops a guest that never
//! ends, and how many instances are alive at once.
//!
//! **Invariant:** the epochs and the thread that advances them come from one function. In an engine
//! without its ticker a looping guest would run for ever.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::turn::GuestThreads;
use crate::capability::memory::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::config::CallLimits;
use crate::telemetry::Metrics;

/// The time between two checks of a running guest. A guest's CPU budget is counted in ticks.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Instances alive at once. Each reserves 4 GiB of address space, and no memory.
const CONCURRENT_CALLS: u32 = 256;
/// Room for the program, a compilation (4 GiB) or one call.
const LEAST_ADDRESS_SPACE: u64 = 8 << 30;
/// Instances of one provider alive at once. It is half of all, so that no provider can use up every
/// instance. It is twice what one registry may have by default (`[limits.registry] in_flight`), so
/// that a registry that hangs leaves instances to other registries of the same provider.
pub(super) const CALLS_PER_PROVIDER: usize = 128;
/// A guest that fills its stack traps. A host function runs on the rest of the stack, which is
/// `ASYNC_STACK - WASM_STACK`; to exhaust that would end the process. Change both together.
const WASM_STACK: usize = 512 << 10;
const ASYNC_STACK: usize = 2 << 20;
const DENSE_IMAGE: u64 = 32 << 20;
const KEPT_STACK: usize = 64 << 10;
const KEPT_TABLE: usize = 16 << 10;

#[derive(Clone)]
pub struct Engine {
    pub wasmtime: wasmtime::Engine,
    /// One permit for each instance that may be alive.
    pub permits: Arc<Semaphore>,
    pub(super) threads: Arc<GuestThreads>,
    pub metrics: Metrics,
}

impl Engine {
    /// Starts an engine in which a provider with the `widest` limits fits.
    pub fn new(widest: &CallLimits, metrics: Metrics) -> wasmtime::Result<Self> {
        check_address_space()?;
        let mut config = config();
        config.allocation_strategy(pooling(widest));
        let engine = wasmtime::Engine::new(&config).or_else(|error| {
            tracing::warn!(
                %error,
                "cannot pool instances, perhaps for lack of address space: each call allocates"
            );
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            wasmtime::Engine::new(&config)
        })?;
        start_ticker(&engine)?;
        let permits = Arc::new(Semaphore::new(CONCURRENT_CALLS as usize));
        let threads = Arc::new(GuestThreads::start()?);
        Ok(Self { wasmtime: engine, permits, threads, metrics })
    }

    /// The number of instances that are alive, and the most that may be.
    pub fn instances(&self) -> (usize, usize) {
        let most = CONCURRENT_CALLS as usize;
        (most.saturating_sub(self.permits.available_permits()), most)
    }
}

/// Without this check, each provider would seem to fail for lack of memory.
fn check_address_space() -> wasmtime::Result<()> {
    let own = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    if own >= LEAST_ADDRESS_SPACE {
        return Ok(());
    }
    wasmtime::bail!(
        "this process may use {} MiB of address space, and each call of a provider reserves 4 GiB \
         of it, of which it uses little; remove the limit (`ulimit -v`, `LimitAS`), or raise it to \
         at least {} MiB",
        own >> 20,
        LEAST_ADDRESS_SPACE >> 20
    )
}

/// An engine that compiles code for [`Engine`] and runs nothing. It has no pool, because a compiler
/// may not have that much address space, and no ticker. Compiled code does not depend on how
/// instances are allocated.
pub(super) fn compiling() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config())
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // WASI 0.3 brings async machinery that is not needed here and that most advisories of 2026 are
    // about.
    config.concurrency_support(false);
    config.wasm_memory64(false);
    config.wasm_relaxed_simd(false);
    config.wasm_wide_arithmetic(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK);
    config.async_stack_size(ASYNC_STACK);
    // Stacks are reused, and host functions have secrets on them.
    config.async_stack_zeroing(true);
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(20));
    // The heap of Python or JavaScript is a dense image of 12 MiB. It is mapped copy-on-write;
    // otherwise each call would copy it.
    config.memory_guaranteed_dense_image_size(DENSE_IMAGE);
    config.native_unwind_info(false);
    config.cranelift_opt_level(OptLevel::Speed);
    config
}

fn pooling(widest: &CallLimits) -> PoolingAllocationConfig {
    let calls = CONCURRENT_CALLS;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(CORE_INSTANCES * calls)
        .total_memories(MEMORIES * calls)
        .total_tables(TABLES * calls)
        .total_stacks(calls)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(2)
        .max_tables_per_module(2)
        .max_component_instance_size(2 << 20)
        .max_core_instance_size(2 << 20)
        .table_elements(widest.table_elements)
        .max_memory_size(widest.memory)
        .max_unused_warm_slots(16)
        // Everything that a call leaves behind is wiped at once. Memories give their pages back.
        // Little of stacks and tables is ever used, so they are overwritten: that spares the next
        // call a dozen page faults.
        .linear_memory_keep_resident(0)
        .async_stack_keep_resident(KEPT_STACK)
        .table_keep_resident(KEPT_TABLE)
        // The scan misses pages that were swapped out, which the next instance could read.
        .pagemap_scan(Enabled::No);
    pool
}

/// Starts an OS thread and not a task: it has to run when every worker is busy with a guest.
fn start_ticker(engine: &wasmtime::Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    };
    std::thread::Builder::new().name("epochs".to_owned()).spawn(tick)?;
    Ok(())
}
