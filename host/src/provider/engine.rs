//! The WebAssembly engine: what guests may be made of, the clock that ends a runaway one, and how many run at once.
//!
//! **Invariant:** the epochs and the thread that advances them come from one function. An engine without its ticker
//! would let a looping guest run for ever.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::turn::GuestThreads;
use crate::capability::memory::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::config::CallLimits;
use crate::telemetry::Metrics;

/// How often a running guest is looked at. A guest's CPU budget is counted in these.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Instances alive at once. Each reserves 4 GiB of address space and no memory.
const CONCURRENT_CALLS: u32 = 256;
/// Of one provider: half, so that none can take all, and twice what one registry may have by default (`[limits.registry]
/// in_flight`), so that one that hangs leaves some to others of its kind.
pub(super) const CALLS_PER_PROVIDER: usize = 128;
/// A full stack is a trap; a host function on it has `ASYNC_STACK - WASM_STACK` to itself, and running out of that would
/// end the process. Change them together.
const WASM_STACK: usize = 512 << 10;
const ASYNC_STACK: usize = 2 << 20;
const DENSE_IMAGE: u64 = 32 << 20;
const KEPT_STACK: usize = 64 << 10;
const KEPT_TABLE: usize = 16 << 10;

#[derive(Clone)]
pub struct Engine {
    pub wasmtime: wasmtime::Engine,
    /// A permit for each instance that may be alive.
    pub permits: Arc<Semaphore>,
    pub(super) threads: Arc<GuestThreads>,
    pub metrics: Metrics,
}

impl Engine {
    /// Sized so that a provider with the `widest` limits fits.
    pub fn new(widest: &CallLimits, metrics: Metrics) -> wasmtime::Result<Self> {
        let mut config = config();
        config.allocation_strategy(pooling(widest));
        let engine = wasmtime::Engine::new(&config).or_else(|error| {
            tracing::warn!(%error, "cannot pool instances (too little address space?), each call allocates its own");
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            wasmtime::Engine::new(&config)
        })?;
        start_ticker(&engine)?;
        let permits = Arc::new(Semaphore::new(CONCURRENT_CALLS as usize));
        let threads = Arc::new(GuestThreads::start()?);
        Ok(Self { wasmtime: engine, permits, threads, metrics })
    }

    /// How many instances there are now, and how many there may be.
    pub fn instances(&self) -> (usize, usize) {
        let most = CONCURRENT_CALLS as usize;
        (most.saturating_sub(self.permits.available_permits()), most)
    }
}

/// One that compiles for [`Engine`] and runs nothing: without a pool, whose address space a compiler may not have, and
/// without a ticker. How instances are allocated makes no difference to the code.
pub(super) fn compiling() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config())
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // WASI 0.3 brings an async machinery that we do not need and that most of this year's advisories were about.
    config.concurrency_support(false);
    config.wasm_memory64(false);
    config.wasm_relaxed_simd(false);
    config.wasm_wide_arithmetic(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK);
    config.async_stack_size(ASYNC_STACK);
    // Stacks are reused, and host functions handle secrets on them.
    config.async_stack_zeroing(true);
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(20));
    // A Python or JavaScript heap is a dense image of 12 MiB: mapped copy-on-write, or each call would copy it.
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
        // What a call leaves behind is wiped at once: memories by giving their pages back, stacks and tables, of which
        // little is ever used, by overwriting them, which spares the next call a dozen page faults.
        .linear_memory_keep_resident(0)
        .async_stack_keep_resident(KEPT_STACK)
        .table_keep_resident(KEPT_TABLE)
        // The scan misses pages that were swapped out: the next instance could read them.
        .pagemap_scan(Enabled::No);
    pool
}

/// An OS thread, not a task: it has to run when every worker is busy with a guest.
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
