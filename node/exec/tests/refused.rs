//! Modules that no node takes: each is refused before it runs, and the text says what to do.

mod common;

use common::{at, data, module, module_with_memory, value};
use diversity_exec::{Executor, Limits, ModuleError};

fn executor() -> Executor {
    Executor::new(Limits::default()).unwrap()
}

/// The error of a module given as text.
fn refused(wat: &str) -> ModuleError {
    let executor = executor();
    let bytes = wat::parse_str(wat).unwrap();
    let error = executor.add(&bytes).unwrap_err();
    assert_eq!(
        executor.check(&bytes).unwrap_err(),
        error,
        "check and add agree"
    );
    let text = error.to_string();
    assert!(
        text.len() < 600 && !text.contains('\n'),
        "one sentence: {text}"
    );
    error
}

/// The error of a module that is right but for `more` beside its functions.
fn refused_with(more: &str) -> ModuleError {
    refused(&format!(
        r#"(module {more} (memory (export "memory") 1 1) (func (export "diversity_abi_1"))
           (func (export "alloc") (param i32) (result i32) i32.const 0)
           (func (export "run") (param i32 i32) (result i64) i64.const 0))"#
    ))
}

#[test]
fn the_module_that_the_others_are_made_from_is_taken() {
    let bytes = module(&at(0, 74), &data(&value(b"")));
    let info = executor().check(&bytes).unwrap();
    assert_eq!(
        (info.bytes, info.memory_bytes_min, info.memory_bytes_max),
        (bytes.len(), 131_072, 262_144)
    );
}

#[test]
fn imports_of_every_kind() {
    for import in [
        r#"(import "env" "now" (func (result i64)))"#,
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
        r#"(import "env" "g" (global i32))"#,
        r#"(import "env" "t" (table 1 1 funcref))"#,
    ] {
        assert!(
            matches!(refused_with(import), ModuleError::Import { .. }),
            "{import}"
        );
    }
    let memory = r#"(module (import "env" "memory" (memory 1 1)) (export "memory" (memory 0)))"#;
    assert_eq!(
        refused(memory),
        ModuleError::Import {
            module: "env".into(),
            name: "memory".into()
        }
    );
    let long = format!("(import \"{}\" \"x\" (func))", "y".repeat(5_000));
    assert!(
        matches!(refused_with(&long), ModuleError::Import { module, .. } if module.len() < 100)
    );
}

#[test]
fn advice_on_an_import_fits_where_it_comes_from() {
    for (import, helps) in [
        (
            r#"(import "env" "abort" (func (param i32 i32 i32 i32)))"#,
            "--use abort=",
        ),
        (r#"(import "env" "memory" (memory 1 1))"#, "--importMemory"),
        (
            r#"(import "env" "seed" (func (result f64)))"#,
            "Math.random",
        ),
        (
            r#"(import "env" "__stack_pointer" (global (mut i32)))"#,
            "-fPIC",
        ),
        (
            r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#,
            "wasm32-unknown-unknown",
        ),
        (
            r#"(import "__wbindgen_placeholder__" "__wbindgen_throw" (func (param i32 i32)))"#,
            "wasm-bindgen",
        ),
        (
            r#"(import "env" "puts" (func (param i32) (result i32)))"#,
            "--allow-undefined",
        ),
        (r#"(import "clock" "now" (func (result i64)))"#, "clock"),
    ] {
        let wat = format!("(module {import})");
        let text = refused(&wat).to_string();
        assert!(text.contains(helps), "{import}: {text}");
    }
}

#[test]
fn a_module_that_wants_to_be_initialised_is_refused() {
    for name in [
        "_initialize",
        "_start",
        "__wasm_call_ctors",
        "__wasm_apply_data_relocs",
        "__wasm_init_memory",
        "__post_instantiate",
    ] {
        let export = format!(r#"(func (export "{name}"))"#);
        // Functions come behind the memory in the text.
        let error = refused(&format!(
            r#"(module (memory (export "memory") 1 1) {export} (func (export "diversity_abi_1"))
               (func (export "alloc") (param i32) (result i32) i32.const 0)
               (func (export "run") (param i32 i32) (result i64) i64.const 0))"#
        ));
        assert_eq!(error, ModuleError::Initializer { name });
        assert!(error.to_string().contains("alloc and run"));
    }
}

#[test]
fn exports_missing_or_of_another_type() {
    let parts = [
        ("memory", r#"(memory (export "memory") 1 1)"#),
        ("diversity_abi_1", r#"(func (export "diversity_abi_1"))"#),
        (
            "alloc",
            r#"(func (export "alloc") (param i32) (result i32) i32.const 0)"#,
        ),
        (
            "run",
            r#"(func (export "run") (param i32 i32) (result i64) i64.const 0)"#,
        ),
    ];
    let without = |left_out: &str| -> String {
        parts
            .iter()
            .filter(|(name, _)| *name != left_out)
            .map(|(_, text)| *text)
            .collect()
    };
    for (name, _) in parts {
        assert_eq!(
            refused(&format!("(module {})", without(name))),
            ModuleError::ExportMissing(name)
        );
    }
    for (name, other) in [
        ("memory", r#"(global (export "memory") i32 (i32.const 0))"#),
        (
            "diversity_abi_1",
            r#"(func (export "diversity_abi_1") (param i32))"#,
        ),
        (
            "alloc",
            r#"(func (export "alloc") (param i64) (result i32) i32.const 0)"#,
        ),
        ("alloc", r#"(func (export "alloc") (param i32))"#),
        (
            "run",
            r#"(func (export "run") (param i32 i32) (result f64) f64.const 0)"#,
        ),
        (
            "run",
            r#"(func (export "run") (param i32 i32) (result i32 i32) i32.const 0 i32.const 0)"#,
        ),
        (
            "run",
            r#"(func (export "run") (param f32 i32) (result i64) i64.const 0)"#,
        ),
        ("run", r#"(global (export "run") i32 (i32.const 0))"#),
    ] {
        let error = refused(&format!("(module {}{other})", without(name)));
        assert!(
            matches!(error, ModuleError::ExportType { name: found, .. } if found == name),
            "{other}: {error}"
        );
    }
}

#[test]
fn memory() {
    let with = |memory: &str| {
        executor()
            .add(&module_with_memory(memory, "i64.const 0", ""))
            .unwrap_err()
    };
    let max = 64 << 20;
    assert_eq!(
        with(r#"(memory (export "memory") 2)"#),
        ModuleError::MemoryUnbounded { max }
    );
    assert_eq!(
        with(r#"(memory (export "memory") 2 1025)"#),
        ModuleError::MemoryTooLarge {
            bytes: max + 65_536,
            max
        }
    );
    assert!(matches!(
        with(r#"(memory (export "memory") 2 2) (memory 1 1)"#),
        ModuleError::TooMany { count: 2, .. }
    ));
    assert!(matches!(
        with(r#"(memory (export "memory") 2 2 shared)"#),
        ModuleError::Invalid(_)
    ));
    assert!(matches!(
        with(r#"(memory (export "memory") i64 2 2)"#),
        ModuleError::Invalid(_)
    ));
}

#[test]
fn tables() {
    assert_eq!(
        refused_with("(table 1 funcref)"),
        ModuleError::TableUnbounded { max: 10_000 }
    );
    assert_eq!(
        refused_with("(table 1 10001 funcref)"),
        ModuleError::TableUnbounded { max: 10_000 }
    );
    assert!(matches!(
        refused_with("(table 1 1 funcref) (table 1 1 funcref)"),
        ModuleError::TooMany { count: 2, .. }
    ));
}

#[test]
fn start_function() {
    assert_eq!(refused_with("(func $s) (start $s)"), ModuleError::Start);
}

#[test]
fn features_that_are_off() {
    for more in [
        "(func (drop (v128.const i64x2 0 0)))",
        "(func (result v128) (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0)))",
        "(func $f (return_call $f))",
        "(tag (param i32))",
        "(type (struct (field i32)))",
        "(func (param externref))",
        "(func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
    ] {
        assert!(
            matches!(refused_with(more), ModuleError::Invalid(_)),
            "{more}"
        );
    }
    let atomics = module_with_memory(
        r#"(memory (export "memory") 2 2)"#,
        "i64.const 0",
        "(func (atomic.fence))",
    );
    assert!(matches!(
        executor().add(&atomics),
        Err(ModuleError::Invalid(_))
    ));
}

#[test]
fn segments_that_do_not_fit() {
    assert!(matches!(
        refused_with(r#"(data (i32.const 65536) "x")"#),
        ModuleError::Unstartable(_)
    ));
    assert!(matches!(
        refused_with("(table 1 1 funcref) (func $f) (elem (i32.const 1) $f)"),
        ModuleError::Unstartable(_)
    ));
}

#[test]
fn bytes_that_are_no_module() {
    let executor = executor();
    let max = Limits::default().module_bytes_max;
    let component = b"\0asm\x0d\0\x01\0".as_slice();
    for bytes in [
        b"".as_slice(),
        b"\0asm",
        b"(module)",
        component,
        b"\x7fELF\x02\x01\x01\0",
    ] {
        assert_eq!(executor.add(bytes), Err(ModuleError::NotWasm));
    }
    assert_eq!(
        executor.add(&vec![0; max + 1]),
        Err(ModuleError::TooLong {
            bytes: max + 1,
            max
        })
    );
    // Without a data segment, whose section a binary may well do without.
    let whole = module("unreachable", "");
    for cut in 0..whole.len() {
        assert!(executor.check(&whole[..cut]).is_err(), "cut at {cut}");
    }
    // Any byte changed: refused or taken, but never a panic.
    for i in 0..whole.len() {
        for x in [0x01, 0x80, 0xff] {
            let mut other = whole.clone();
            other[i] ^= x;
            drop(executor.check(&other));
        }
    }
}
