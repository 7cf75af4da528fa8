//! Windows encoded by hand (wire-format §4 and §5), independently of `proto` and of the guest SDK, and small modules.
#![allow(dead_code, missing_docs)]

/// A message: time and the bytes of its values.
pub type Event<'a> = (u64, &'a [u8]);

pub fn varint(mut v: u64) -> Vec<u8> {
    let mut out = vec![];
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

pub fn leaf(sensor: u8, first_q: u64, width: u8, events: &[Event<'_>]) -> Vec<u8> {
    let mut body = vec![];
    let mut previous = 0i64;
    for (time, values) in events {
        assert_eq!(values.len(), usize::from(width));
        let delta = *time as i64 - previous;
        previous = *time as i64;
        body.extend(varint((delta << 1 ^ delta >> 63) as u64));
        body.extend(*values);
    }
    let mut out = vec![sensor; 20];
    out.extend(first_q.to_be_bytes());
    out.extend((events.len() as u32).to_be_bytes());
    out.extend([0, width]);
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

pub fn input(carry: &[u8], t: u64, leaves: &[Vec<u8>]) -> Vec<u8> {
    let mut out = (carry.len() as u32).to_be_bytes().to_vec();
    out.extend(carry);
    out.push(1);
    out.extend([t, 0, 0].map(u64::to_be_bytes).concat());
    out.extend((leaves.len() as u32).to_be_bytes());
    out.extend(leaves.concat());
    out
}

/// An input of no carry and no sensors.
pub fn empty() -> Vec<u8> {
    input(&[], 0, &[])
}

/// A module that keeps to the interface; `run` has this body, and `more` stands beside it.
pub fn module(run: &str, more: &str) -> Vec<u8> {
    module_with_memory("(memory (export \"memory\") 2 4)", run, more)
}

pub fn module_with_memory(memory: &str, run: &str, more: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module {memory} {more}
            (func (export "diversity_abi_1"))
            (func (export "alloc") (param i32) (result i32) i32.const 65536)
            (func (export "run") (param i32 i32) (result i64) {run}))"#
    ))
    .unwrap()
}

/// `ptr << 32 | len` as text.
pub fn at(ptr: u64, len: u64) -> String {
    format!("i64.const {}", (ptr << 32 | len) as i64)
}

/// A data segment at address 0.
pub fn data(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|b| format!("\\{b:02x}")).collect();
    format!("(data (i32.const 0) \"{text}\")")
}

/// Output bytes of a value without detail.
pub fn value(result: &[u8]) -> Vec<u8> {
    let mut out = vec![1, 1];
    out.extend((result.len() as u32).to_be_bytes());
    out.extend(result);
    out.extend([0; 8]);
    out.extend([7; 32]);
    out
}
