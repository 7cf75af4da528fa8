//! What a module must be before any node runs it (wire-format §5, R8: limits are checked at registration).

use crate::engine::{PAGE, text};
use crate::{Limits, ModuleId};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, ExternType, Module, ValType};

/// What a module is, once it has been found fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// SHA-256 of the bytes.
    pub sha256: ModuleId,
    /// Number of bytes.
    pub bytes: usize,
    /// Memory at the start of each execution, in bytes.
    pub memory_bytes_min: u64,
    /// Declared maximum of the memory, in bytes.
    pub memory_bytes_max: u64,
}

/// Why a module is refused. Each text is one sentence on what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Longer than [`Limits::module_bytes_max`].
    #[error(
        "the module has {bytes} bytes and the limit is {max}: build it with optimisation, link-time optimisation and without symbols"
    )]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not a WebAssembly binary at all.
    #[error(
        "these bytes are no WebAssembly module: give the .wasm file that the compiler wrote (text and components are not accepted)"
    )]
    NotWasm,
    /// Invalid, or it uses a feature that is switched off.
    #[error(
        "the module is invalid or uses what nodes do not allow ({0}): build it for wasm32-unknown-unknown without threads, SIMD, tail calls, exceptions or several memories"
    )]
    Invalid(String),
    /// An import of any kind.
    #[error(
        "the module imports \"{module}\" \"{name}\", but off-chain code may import nothing: {}",
        advice(module, name)
    )]
    Import {
        /// Module name of the import.
        module: String,
        /// Name in it.
        name: String,
    },
    /// A start function, which would run before the marker of the interface could be seen.
    #[error(
        "the module has a start function, which is not allowed: do its work at the beginning of `run` (AssemblyScript makes one of statements and of globals that need code: set those in `run`)"
    )]
    Start,
    /// A function that expects to be called before all others. Nodes call `alloc` and `run` alone, so the module would run
    /// uninitialised: wrongly, or into a trap.
    #[error(
        "the module exports \"{name}\", which wants to be called before anything else, and nodes call nothing but alloc and run: build it without (C and C++: no constructors, no -mexec-model=reactor; AssemblyScript: no --exportStart, and set globals in `run`), or call it in `alloc` under a name of your own"
    )]
    Initializer {
        /// Its name.
        name: &'static str,
    },
    /// A needed export is missing.
    #[error(
        "the module does not export {0}: use the guest SDK's `export!`, or export memory, diversity_abi_1, alloc and run as docs/wire-format.md, section 5, says"
    )]
    ExportMissing(&'static str),
    /// A needed export has another type.
    #[error("the export {name} must be {expected}, not {found}")]
    ExportType {
        /// Its name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// No declared maximum of memory.
    #[error(
        "the memory has no declared maximum: link with --max-memory=BYTES (at most {max}; AssemblyScript: --maximumMemory, in pages of 65536)"
    )]
    MemoryUnbounded {
        /// The limit in bytes.
        max: u64,
    },
    /// More memory than a node lends.
    #[error(
        "the memory may grow to {bytes} bytes and the limit is {max}: link with --max-memory={max} or less (AssemblyScript: --maximumMemory, in pages of 65536)"
    )]
    MemoryTooLarge {
        /// Declared maximum in bytes.
        bytes: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// More than one memory or table.
    #[error("the module has {count} {what}, but at most one is allowed")]
    TooMany {
        /// "memories" or "tables".
        what: &'static str,
        /// How many there are.
        count: u32,
    },
    /// A table that may grow without end or beyond the limit.
    #[error(
        "the table must declare a maximum of at most {max} elements: link without --growable-table"
    )]
    TableUnbounded {
        /// The limit in elements.
        max: u32,
    },
    /// Instantiating it traps, so that it could never answer.
    #[error(
        "the module cannot be started ({0}): its data or element segments do not fit its memory or table"
    )]
    Unstartable(String),
    /// The engine itself failed.
    #[error(
        "the WebAssembly engine could not check the module ({0}): free some memory and try again"
    )]
    Engine(String),
}

/// Exports that toolchains make for a host to call first.
const INITIALIZERS: [&str; 6] = [
    "_initialize",
    "_start",
    "__wasm_call_ctors",
    "__wasm_apply_data_relocs",
    "__wasm_init_memory",
    "__post_instantiate",
];

/// What helps against an import, as far as its name tells where it comes from.
fn advice(module: &str, name: &str) -> &'static str {
    match (module, name) {
        (_, "memory") => {
            "define and export the memory (link without --import-memory; AssemblyScript: without --importMemory)"
        }
        (_, "__indirect_function_table" | "__memory_base" | "__table_base" | "__stack_pointer") => {
            "link it as a module of its own, not as a shared library (no -fPIC, --pie or --import-table)"
        }
        ("env", "abort") => {
            "it is AssemblyScript's: compile with --use abort=FILE/abort, where your function `abort` is `unreachable()`"
        }
        ("env", "seed") => {
            "it is AssemblyScript's Math.random: nodes must all compute the same, so use none"
        }
        ("env", "trace" | "console.log" | "console.error") | ("console", _) => {
            "it prints: take that out; what a module says is its output"
        }
        (m, _) if m.starts_with("wasi") => {
            "build for wasm32-unknown-unknown instead of WASI, and take out clock, randomness, files and printing"
        }
        (m, n) if m.contains("wbindgen") || n.starts_with("__wbindgen") => {
            "it is wasm-bindgen's: take that crate, and those that need it (getrandom with \"js\", chrono's clock), out"
        }
        ("env", _) => {
            "it is a function that was never defined: link what defines it, and without --allow-undefined; clock, randomness, files and printing there are none"
        }
        _ => "remove what needs it (clock, randomness, files, printing)",
    }
}

/// SHA-256 of a module's bytes.
pub(crate) fn sha256(bytes: &[u8]) -> ModuleId {
    Sha256::digest(bytes).into()
}

/// Name, type in words, parameters and results of the functions that a module exports.
const FUNCTIONS: [(&str, &str, &[Wasm], &[Wasm]); 3] = [
    (
        "diversity_abi_1",
        "a function without parameters and results",
        &[],
        &[],
    ),
    (
        "alloc",
        "a function (i32) -> i32",
        &[Wasm::I32],
        &[Wasm::I32],
    ),
    (
        "run",
        "a function (i32, i32) -> i64",
        &[Wasm::I32, Wasm::I32],
        &[Wasm::I64],
    ),
];

/// Value types of the interface.
#[derive(Clone, Copy, PartialEq)]
enum Wasm {
    I32,
    I64,
}

/// Whether types of the engine are these.
fn same(found: impl ExactSizeIterator<Item = ValType>, expected: &[Wasm]) -> bool {
    let word = |t| match t {
        ValType::I32 => Some(Wasm::I32),
        ValType::I64 => Some(Wasm::I64),
        _ => None,
    };
    found.len() == expected.len() && found.zip(expected).all(|(a, b)| word(a) == Some(*b))
}

/// Compiles a module and refuses all that does not keep to the interface.
pub(crate) fn check(
    engine: &Engine,
    limits: &Limits,
    bytes: &[u8],
) -> Result<(Module, ModuleInfo), ModuleError> {
    if bytes.len() > limits.module_bytes_max {
        return Err(ModuleError::TooLong {
            bytes: bytes.len(),
            max: limits.module_bytes_max,
        });
    }
    if !bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(ModuleError::NotWasm);
    }
    // Before the engine sees it, so that the commonest mistakes have texts of their own. What this cannot read, the
    // engine refuses in the next step.
    sections(bytes, limits)?;
    Module::validate(engine, bytes).map_err(|e| ModuleError::Invalid(text(&e)))?;
    let module = Module::from_binary(engine, bytes).map_err(|e| ModuleError::Invalid(text(&e)))?;
    if let Some(import) = module.imports().next() {
        return Err(ModuleError::Import {
            module: short(import.module()),
            name: short(import.name()),
        });
    }
    if let Some(name) = INITIALIZERS
        .into_iter()
        .find(|name| module.get_export(name).is_some())
    {
        return Err(ModuleError::Initializer { name });
    }
    let (memory_bytes_min, memory_bytes_max) = memory(&module, limits)?;
    for (name, expected, params, results) in FUNCTIONS {
        match module.get_export(name) {
            None => return Err(ModuleError::ExportMissing(name)),
            Some(ExternType::Func(f)) if same(f.params(), params) && same(f.results(), results) => {
            }
            Some(ExternType::Func(f)) => {
                return Err(ModuleError::ExportType {
                    name,
                    expected,
                    found: short(&format!("{f}")),
                });
            }
            Some(_) => {
                return Err(ModuleError::ExportType {
                    name,
                    expected,
                    found: "another kind of export".into(),
                });
            }
        }
    }
    let info = ModuleInfo {
        sha256: sha256(bytes),
        bytes: bytes.len(),
        memory_bytes_min,
        memory_bytes_max,
    };
    Ok((module, info))
}

/// The exported memory's minimum and maximum in bytes.
fn memory(module: &Module, limits: &Limits) -> Result<(u64, u64), ModuleError> {
    let memory = match module.get_export("memory") {
        None => return Err(ModuleError::ExportMissing("memory")),
        Some(ExternType::Memory(memory)) => memory,
        Some(_) => {
            return Err(ModuleError::ExportType {
                name: "memory",
                expected: "a memory",
                found: "another kind of export".into(),
            });
        }
    };
    let max = (limits.memory_bytes_max / PAGE * PAGE) as u64;
    let pages = memory
        .maximum()
        .ok_or(ModuleError::MemoryUnbounded { max })?;
    let bytes = pages.saturating_mul(PAGE as u64);
    if bytes > max {
        return Err(ModuleError::MemoryTooLarge { bytes, max });
    }
    Ok((memory.minimum().saturating_mul(PAGE as u64), bytes))
}

/// Looks at what the engine's view of a compiled module does not show: the start function, and memories and tables that
/// are not exported. Stops at the first thing that it cannot read.
fn sections(bytes: &[u8], limits: &Limits) -> Result<(), ModuleError> {
    const TABLE: u8 = 4;
    const MEMORY: u8 = 5;
    const START: u8 = 8;
    let mut rest = Scanner(&bytes[8..]);
    while let Some((id, mut section)) = rest.section() {
        match id {
            START => return Err(ModuleError::Start),
            MEMORY => match section.leb() {
                Some(count) if count > 1 => {
                    return Err(ModuleError::TooMany {
                        what: "memories",
                        count,
                    });
                }
                _ => {}
            },
            TABLE => {
                let unbounded =
                    |max: Option<u32>| max.is_none_or(|n| n > limits.table_elements_max);
                match section.leb() {
                    Some(count) if count > 1 => {
                        return Err(ModuleError::TooMany {
                            what: "tables",
                            count,
                        });
                    }
                    Some(1) if section.table_maximum().is_some_and(unbounded) => {
                        return Err(ModuleError::TableUnbounded {
                            max: limits.table_elements_max,
                        });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the outline of a binary (WebAssembly core specification, chapter 5).
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// An unsigned LEB128 of 32 bits.
    fn leb(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    fn section(&mut self) -> Option<(u8, Scanner<'a>)> {
        let id = self.byte()?;
        let len = self.leb()? as usize;
        let (section, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some((id, Scanner(section)))
    }

    /// The maximum in a table's type, if it has one: reference type, flags, minimum, maximum.
    fn table_maximum(&mut self) -> Option<Option<u32>> {
        let _reference = self.byte()?;
        let flags = self.byte()?;
        let _minimum = self.leb()?;
        if flags & 1 == 0 {
            Some(None)
        } else {
            self.leb().map(Some)
        }
    }
}

/// Text from a module, cut so that it cannot fill a log.
fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.into(),
    }
}
