//! The executor: compiled modules, and a fresh instance for each execution.

use crate::check::{ModuleError, ModuleInfo, check};
use crate::clock::{Clock, TICK};
use crate::engine::{engine, text};
use crate::output::{Abstain, INPUT_BYTES_MAX, Output, carry_and_sensors};
use crate::{Limits, ModuleId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wasmtime::{Engine, Instance, InstancePre, Linker, Memory, ResourceLimiter, Store, Trap};

/// Why an executor could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A limit makes no sense.
    #[error("the limit {0} must be above zero: set it, or leave it at its default")]
    Limit(&'static str),
    /// The engine refuses the configuration or the machine refuses the address space.
    #[error(
        "the WebAssembly engine could not start ({0}): lower the number of executions at a time or allow more address space (ulimit -v)"
    )]
    Engine(String),
    /// No thread for the wall-clock limit.
    #[error(
        "no thread could be started for the time limit of executions ({0}): allow more threads (ulimit -u)"
    )]
    Thread(std::io::Error),
}

/// Why there was no execution. What happens in an execution is an [`Output`], never one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The module was never added, or others have displaced it.
    #[error("module {} is not loaded: add its bytes first", hex(.0))]
    Unknown(ModuleId),
    /// The input has no carry and window header. It is encoded by the node itself, so this is a fault of the caller.
    #[error("the input is no carry and window: encode it as docs/wire-format.md, section 5, says")]
    Input,
    /// The host could not make an instance.
    #[error(
        "the WebAssembly engine could not start the module ({0}): free some memory and try again"
    )]
    Engine(String),
}

/// Executes modules. Shared between threads; an execution blocks its thread, so call it off an async runtime's workers.
pub struct Executor {
    limits: Limits,
    engine: Engine,
    clock: Clock,
    modules: Mutex<Modules>,
}

/// Compiled modules by hash.
#[derive(Default)]
struct Modules {
    by_id: BTreeMap<ModuleId, Compiled>,
    /// Grows with each use; says which module was unused for longest.
    uses: u64,
}

struct Compiled {
    pre: InstancePre<Lender>,
    info: ModuleInfo,
    used: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// Starts the engine.
    ///
    /// # Errors
    /// When a limit is zero, or the machine does not give the engine its address space or its thread.
    pub fn new(limits: Limits) -> Result<Self, ExecutorError> {
        for (zero, name) in [
            (limits.executions_max == 0, "executions_max"),
            (limits.modules_max == 0, "modules_max"),
            (limits.stack_bytes == 0, "stack_bytes"),
            (limits.fuel == 0, "fuel"),
            (limits.time.is_zero(), "time"),
        ] {
            if zero {
                return Err(ExecutorError::Limit(name));
            }
        }
        let engine = engine(&limits).map_err(|e| ExecutorError::Engine(text(&e)))?;
        let clock =
            Clock::start(engine.clone(), limits.executions_max).map_err(ExecutorError::Thread)?;
        Ok(Self {
            limits,
            engine,
            clock,
            modules: Mutex::default(),
        })
    }

    /// The limits that it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Checks a module without keeping it.
    ///
    /// # Errors
    /// [`ModuleError`] says what to do.
    pub fn check(&self, bytes: &[u8]) -> Result<ModuleInfo, ModuleError> {
        self.compile(bytes).map(|(_, info)| info)
    }

    /// Checks, compiles and keeps a module; returns its SHA-256. Adding it again costs only the hash.
    ///
    /// # Errors
    /// [`ModuleError`] says what to do.
    pub fn add(&self, bytes: &[u8]) -> Result<ModuleId, ModuleError> {
        if bytes.len() > self.limits.module_bytes_max {
            return Err(ModuleError::TooLong {
                bytes: bytes.len(),
                max: self.limits.module_bytes_max,
            });
        }
        let id = crate::check::sha256(bytes);
        if self.modules().touch(&id).is_some() {
            return Ok(id);
        }
        // Compiled outside the lock: executions of other modules go on.
        let (pre, info) = self.compile(bytes)?;
        self.modules()
            .insert(Compiled { pre, info, used: 0 }, self.limits.modules_max);
        Ok(id)
    }

    /// What is known of a module that is loaded.
    pub fn info(&self, id: &ModuleId) -> Option<ModuleInfo> {
        self.modules()
            .by_id
            .get(id)
            .map(|compiled| compiled.info.clone())
    }

    /// Executes a module over `carry bytes | window` (wire-format §5) in a fresh instance. Blocks while as many executions
    /// run as the limits allow, and then for at most [`Limits::time`].
    ///
    /// # Errors
    /// Only when there was no execution; see [`RunError`].
    pub fn run(&self, id: &ModuleId, input: &[u8]) -> Result<Output, RunError> {
        let (carry, sensors) = carry_and_sensors(input).ok_or(RunError::Input)?;
        let pre = self
            .modules()
            .touch(id)
            .map(|compiled| compiled.pre.clone())
            .ok_or(RunError::Unknown(*id))?;
        if input.len() > INPUT_BYTES_MAX {
            return Ok(Output::trap(carry));
        }
        let _running = self.clock.enter();
        let mut store = self.store()?;
        let instance = match pre.instantiate(&mut store) {
            Ok(instance) => instance,
            // `add` has started the module once, so only the host can be the cause.
            Err(e) => return Err(RunError::Engine(text(&e))),
        };
        Ok(match execute(&mut store, &instance, input) {
            Ok((memory, ptr, len)) => memory
                .data(&store)
                .get(ptr..)
                .and_then(|bytes| bytes.get(..len))
                .and_then(|bytes| Output::parse(bytes, sensors))
                // It follows from the input alone, so it is so on every node.
                .unwrap_or_else(|| Output::trap(carry)),
            Err(Stopped::NoRoom) => Output::trap(carry),
            Err(Stopped::Abstain(reason)) => Output::abstain(reason),
            Err(Stopped::Error(error)) => match stopped_by(&error) {
                None => Output::trap(carry),
                Some(reason) => Output::abstain(reason),
            },
        })
    }

    fn modules(&self) -> MutexGuard<'_, Modules> {
        self.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, bytes: &[u8]) -> Result<(InstancePre<Lender>, ModuleInfo), ModuleError> {
        let (module, info) = check(&self.engine, &self.limits, bytes)?;
        // An empty linker: whatever the module wanted from outside, it would not get it.
        let pre = Linker::new(&self.engine)
            .instantiate_pre(&module)
            .map_err(|e| ModuleError::Invalid(text(&e)))?;
        let _running = self.clock.enter();
        let mut store = self
            .store()
            .map_err(|e| ModuleError::Engine(e.to_string()))?;
        match pre.instantiate(&mut store) {
            Ok(_) => Ok((pre, info)),
            Err(e) if e.is::<Trap>() => Err(ModuleError::Unstartable(text(&e))),
            Err(e) => Err(ModuleError::Engine(text(&e))),
        }
    }

    /// A store for one execution, with fuel and deadline set.
    fn store(&self) -> Result<Store<Lender>, RunError> {
        let mut store = Store::new(
            &self.engine,
            Lender {
                memory: self.limits.memory_bytes_max,
            },
        );
        store.limiter(|lender| lender);
        store
            .set_fuel(self.limits.fuel)
            .map_err(|e| RunError::Engine(text(&e)))?;
        store.epoch_deadline_trap();
        // One more, since the tick that is under way may end at once.
        let ticks = self.limits.time.as_millis().div_ceil(TICK.as_millis()) + 1;
        store.set_epoch_deadline(
            u64::try_from(ticks)
                .unwrap_or(u64::MAX / 2)
                .min(u64::MAX / 2),
        );
        Ok(store)
    }
}

impl Modules {
    /// Finds a module and marks it as used.
    fn touch(&mut self, id: &ModuleId) -> Option<&Compiled> {
        let compiled = self.by_id.get_mut(id)?;
        self.uses += 1;
        compiled.used = self.uses;
        Some(compiled)
    }

    /// Keeps a module; at most `max` of them, the one unused for longest goes.
    fn insert(&mut self, compiled: Compiled, max: usize) {
        let id = compiled.info.sha256;
        self.by_id.insert(id, compiled);
        self.touch(&id);
        if self.by_id.len() > max {
            let oldest = self
                .by_id
                .iter()
                .min_by_key(|(_, compiled)| compiled.used)
                .map(|(id, _)| *id);
            oldest.map(|id| self.by_id.remove(&id));
        }
    }
}

/// Why there is no output: an error of the engine, or the interface was not kept.
enum Stopped {
    Error(wasmtime::Error),
    Abstain(Abstain),
    /// `alloc` gave no room for the input.
    NoRoom,
}

impl From<wasmtime::Error> for Stopped {
    fn from(error: wasmtime::Error) -> Self {
        Self::Error(error)
    }
}

/// Calls `alloc`, hands over the input, calls `run`; says where the output is, which may be anywhere.
fn execute(
    store: &mut Store<Lender>,
    instance: &Instance,
    input: &[u8],
) -> Result<(Memory, usize, usize), Stopped> {
    let len = u32::try_from(input.len()).map_err(|_| Stopped::NoRoom)?;
    let alloc = instance.get_typed_func::<u32, u32>(&mut *store, "alloc")?;
    let run = instance.get_typed_func::<(u32, u32), u64>(&mut *store, "run")?;
    let memory = instance
        .get_memory(&mut *store, "memory")
        .ok_or(Stopped::Abstain(Abstain::Engine))?;
    let ptr = alloc.call(&mut *store, len)?;
    memory
        .write(&mut *store, ptr as usize, input)
        .map_err(|_| Stopped::NoRoom)?;
    let output = run.call(&mut *store, (ptr, len))?;
    Ok((
        memory,
        (output >> 32) as usize,
        (output & 0xffff_ffff) as usize,
    ))
}

/// Why the node abstains after an error of the engine; `None` for a trap of the WebAssembly standard (R8).
fn stopped_by(error: &wasmtime::Error) -> Option<Abstain> {
    if error.is::<HostMemory>() {
        return Some(Abstain::Memory);
    }
    match error.downcast_ref::<Trap>() {
        Some(
            Trap::UnreachableCodeReached
            | Trap::MemoryOutOfBounds
            | Trap::TableOutOfBounds
            | Trap::IndirectCallToNull
            | Trap::BadSignature
            | Trap::IntegerOverflow
            | Trap::IntegerDivisionByZero
            | Trap::BadConversionToInteger,
        ) => None,
        Some(Trap::OutOfFuel) => Some(Abstain::Fuel),
        Some(Trap::StackOverflow) => Some(Abstain::Stack),
        Some(Trap::Interrupt) => Some(Abstain::Time),
        _ => Some(Abstain::Engine),
    }
}

/// Lends memory to one instance. Growing beyond the module's own maximum fails in the guest, at the same size on every
/// node; a failure of the host ends the execution, so that no guest can turn it into an answer.
struct Lender {
    memory: usize,
}

/// The host gave no memory.
#[derive(Debug, thiserror::Error)]
#[error("the host gave no memory")]
struct HostMemory;

impl ResourceLimiter for Lender {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if desired > self.memory {
            Err(HostMemory.into())
        } else {
            Ok(true)
        }
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The engine also calls this, without having asked before, when the size has no 32-bit address: that depends on
        // the module alone. All else was granted above and failed in the host.
        if error.to_string().contains("exceeds memory type's limits") {
            Ok(())
        } else {
            Err(HostMemory.into())
        }
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // `check` lets only tables through whose declared maximum is within the node's limit.
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

fn hex(id: &ModuleId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
