//! The one configuration of wasmtime. Everything that could make two nodes differ is settled here.

use crate::Limits;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmFeatures,
};

/// One page of WebAssembly memory, in bytes.
pub(crate) const PAGE: usize = 64 << 10;

/// What modules may use: the standard as compilers emit it today, less everything that is not deterministic (threads,
/// relaxed SIMD) or that no guest needs and that would widen what an attacker can reach (SIMD, tail calls, several
/// memories, 64-bit memory, exceptions, garbage collection, components). Listed by what is on, so that a new version of
/// the engine turns nothing on by itself.
const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST);

/// Makes the engine for these limits.
pub(crate) fn engine(limits: &Limits) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(limits.executions_max)
        .total_memories(limits.executions_max)
        .total_tables(limits.executions_max)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .max_memory_size(limits.memory_bytes_max / PAGE * PAGE)
        .table_elements(limits.table_elements_max as usize)
        // What an execution touched first is cleared by writing zeros, which is quicker than giving it back.
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(4 << 10)
        // Its cost differs from kernel to kernel, and what it saves is small.
        .pagemap_scan(Enabled::No);
    let mut config = Config::new();
    config
        .wasm_features(WasmFeatures::all().difference(FEATURES), false)
        .wasm_features(FEATURES, true)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack_bytes)
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// An error of the engine with its causes, on one line.
pub(crate) fn text(error: &wasmtime::Error) -> String {
    let mut text = format!("{error:#}").replace('\n', " ");
    // Texts of the engine may quote names from the module: whoever wrote it must not fill a log with them.
    if let Some((cut, _)) = text.char_indices().nth(300) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}
