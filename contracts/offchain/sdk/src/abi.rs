//! The edge of a module: raw memory, the bump allocator and the panic handler. The only unsafe code of the SDK.
//!
//! An instance lives for one execution, so nothing has to be given back: memory is handed out upwards from the end of
//! the data. The SDK itself needs no heap; the allocator is for modules that use the crate `alloc`. Only the block that
//! it handed out last can grow, shrink or go in place, which is what a `Vec` being filled does.

#![allow(unsafe_code)]

use crate::{Answer, Input, OrTrap, trap};
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

unsafe extern "C" {
    /// First byte after data and stack; set by the linker.
    static __heap_base: u8;
}

const PAGE: usize = 65_536;

/// Gives memory in ascending order. Running out of the declared maximum is a trap.
struct Bump;

/// First free byte; 0 before the first allocation. An atomic only because a static must be one: there are no threads.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Bump {
    fn next() -> usize {
        match NEXT.load(Relaxed) {
            0 => (&raw const __heap_base) as usize,
            next => next,
        }
    }

    /// Moves the end of what is in use to `end`, and grows the memory to reach it.
    fn advance(end: usize) {
        let have = core::arch::wasm32::memory_size::<0>();
        if let Some(more @ 1..) = end.div_ceil(PAGE).checked_sub(have) {
            if core::arch::wasm32::memory_grow::<0>(more) == usize::MAX {
                trap("out of memory");
            }
        }
        NEXT.store(end, Relaxed);
    }
}

// SAFETY: blocks never overlap, since `next` only moves back over a block that its owner gave up; they are aligned, lie
// inside the memory, and `alloc` never returns null (it traps instead).
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = Self::next()
            .checked_next_multiple_of(layout.align())
            .or_trap("out of memory");
        Self::advance(start.checked_add(layout.size()).or_trap("out of memory"));
        start as *mut u8
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if (ptr as usize).checked_add(layout.size()) == Some(Self::next()) {
            NEXT.store(ptr as usize, Relaxed);
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let start = ptr as usize;
        if start.checked_add(layout.size()) == Some(Self::next()) {
            Self::advance(start.checked_add(new_size).or_trap("out of memory"));
            return ptr;
        }
        if new_size <= layout.size() {
            return ptr;
        }
        // SAFETY: the new block does not overlap the old one, and is longer.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            core::ptr::copy_nonoverlapping(ptr, new, layout.size());
            new
        }
    }
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Fresh bytes, all zero, that nobody else has.
pub(crate) fn block(len: usize) -> &'static mut [u8] {
    let start = Bump::next();
    Bump::advance(start.checked_add(len).or_trap("out of memory"));
    // SAFETY: `advance` made sure that the memory is there, and gives it to nobody else: a block is never given back.
    // A byte is always initialised in WebAssembly, and has no alignment.
    unsafe { core::slice::from_raw_parts_mut(start as *mut u8, len) }
}

/// `alloc` of the interface: room for `len` bytes of input.
pub fn room(len: u32) -> u32 {
    block(len as usize).as_ptr() as u32
}

/// `run` of the interface: executes `f` over the `len` bytes at `ptr` and returns `ptr << 32 | len` of the output.
pub fn run(f: fn(&Input<'_>) -> Answer, ptr: u32, len: u32) -> u64 {
    // SAFETY: the host wrote `len` bytes at the pointer that `alloc(len)` returned, and nothing writes there again.
    let input = unsafe { core::slice::from_raw_parts(ptr as *const u8, len as usize) };
    let output = crate::execute(f, input);
    let bytes = output.as_slice();
    (bytes.as_ptr() as u64) << 32 | bytes.len() as u64
}
