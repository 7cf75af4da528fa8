//! Bytes that are appended to: a `Vec` on the host; in a module a block of its memory, since the crate `alloc` would
//! bring in code for errors and their texts that is larger than a whole module.

#[cfg(target_arch = "wasm32")]
mod imp {
    use crate::{OrTrap, abi};

    /// Doubles when full; the old block is left behind.
    #[derive(Debug, Default)]
    pub struct Buffer {
        block: &'static mut [u8],
        len: usize,
    }

    /// `copy_from_slice` without its panic, whose text would bring the formatting of numbers into the module.
    fn copy(to: &mut [u8], from: &[u8]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }

    impl Buffer {
        #[inline(never)]
        pub fn extend_from_slice(&mut self, bytes: &[u8]) {
            let end = self.len.checked_add(bytes.len()).or_trap("out of memory");
            if end > self.block.len() {
                let block = abi::block(end.checked_mul(2).or_trap("out of memory").max(256));
                copy(block, self.as_slice());
                self.block = block;
            }
            copy(
                self.block.get_mut(self.len..end).or_trap("made room above"),
                bytes,
            );
            self.len = end;
        }

        pub fn as_slice(&self) -> &[u8] {
            self.block
                .get(..self.len)
                .or_trap("never longer than the block")
        }

        pub fn as_mut_slice(&mut self) -> &mut [u8] {
            self.block
                .get_mut(..self.len)
                .or_trap("never longer than the block")
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    /// On the host a `Vec` is all that is needed.
    pub type Buffer = alloc::vec::Vec<u8>;
}

pub use imp::Buffer;
