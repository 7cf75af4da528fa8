//! What a node lends to a module.

use std::time::Duration;

/// Limits of one node. They protect it from modules and never become part of a result (R8), but nodes of one agreement
/// should have the same ones: where a lower limit makes one node abstain, the execution becomes a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest module, in bytes. It bounds how long a hostile one can keep a core busy with compiling: measured up to
    /// 20 seconds for a MiB of tiny functions, a few for the default of 256 KiB.
    pub module_bytes_max: usize,
    /// Largest maximum of memory that a module may declare, in bytes; rounded down to pages of 64 KiB.
    pub memory_bytes_max: usize,
    /// Largest maximum of its table that a module may declare, in elements.
    pub table_elements_max: u32,
    /// Instructions of one execution, about one unit each. Above it the node abstains.
    pub fuel: u64,
    /// Native stack of one execution, in bytes. The calling thread needs this and 256 KiB more.
    pub stack_bytes: usize,
    /// Wall clock of one execution. A last resort: `fuel` should always bind first.
    pub time: Duration,
    /// Executions at the same time; another one waits.
    pub executions_max: u32,
    /// Compiled modules that are kept. Beyond it the one unused for longest is forgotten and has to be added again.
    pub modules_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            module_bytes_max: 256 << 10,
            memory_bytes_max: 64 << 20,
            table_elements_max: 10_000,
            fuel: 4_000_000_000,
            stack_bytes: 512 << 10,
            time: Duration::from_secs(30),
            executions_max: 8,
            modules_max: 256,
        }
    }
}
