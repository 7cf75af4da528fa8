//! The digest of what a module really did (design §2 and R4).

use core::cell::Cell;

/// Odd constants: the fractional parts of the square roots of 2, 3, 5 and 7, with the last bit set.
const K: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// 256 bits that every folded word moves: four lanes, each multiplied and rotated, each fed by its neighbour.
///
/// It is a mixer and no cryptographic hash, on purpose: its job is that a node which did not execute the module cannot
/// guess it before the reveal, at a few instructions a word. What binds a node is the commitment, which hashes it with
/// Keccak. Colluding nodes that share plaintext are not prevented (R4).
///
/// One step with the word `x`, all arithmetic modulo 2^64:
///
/// ```text
/// a = rotl((a ^ x) * K0, 29)      b = rotl((b + a) * K1, 31)
/// c = rotl((c ^ b) * K2, 27)      d = rotl((d + c) * K3, 37)      then a = a + d
/// ```
#[derive(Debug)]
pub struct Trace {
    lanes: Cell<[u64; 4]>,
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// The trace of nothing.
    pub const fn new() -> Self {
        Self {
            lanes: Cell::new(K),
        }
    }

    /// Folds one word. A module calls it where its own state changes (a rental ends, a threshold is crossed), so that
    /// the trace also shows what the module concluded from the messages.
    // Not inlined: its constants are most of its size, and a call costs little.
    #[inline(never)]
    pub fn fold(&self, x: u64) {
        let [a, b, c, d] = self.lanes.get();
        let a = (a ^ x).wrapping_mul(K[0]).rotate_left(29);
        let b = b.wrapping_add(a).wrapping_mul(K[1]).rotate_left(31);
        let c = (c ^ b).wrapping_mul(K[2]).rotate_left(27);
        let d = d.wrapping_add(c).wrapping_mul(K[3]).rotate_left(37);
        self.lanes.set([a.wrapping_add(d), b, c, d]);
    }

    /// Folds the length and the bytes, eight a word, the last word filled with zeros.
    pub fn fold_bytes(&self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        self.fold_fixed(bytes);
    }

    /// Folds bytes whose length is known from elsewhere.
    #[inline]
    pub(crate) fn fold_fixed(&self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = 0;
            for byte in rest.iter().rev() {
                word = word << 8 | u64::from(*byte);
            }
            self.fold(word);
        }
    }

    /// The 32 bytes, after four more steps so that the last word reaches every bit.
    pub fn finish(&self) -> [u8; 32] {
        for x in K {
            self.fold(x);
        }
        let mut out = [0; 32];
        for (place, lane) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.lanes.get()) {
            *place = lane.to_be_bytes();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[u64]) -> [u8; 32] {
        let trace = Trace::new();
        words.iter().for_each(|x| trace.fold(*x));
        trace.finish()
    }

    /// Pinned: a change of the mix changes every module, and has to be a decision.
    #[test]
    fn pinned() {
        let hex: alloc::string::String = of(&[1, 2, 3])
            .iter()
            .map(|b| alloc::format!("{b:02x}"))
            .collect();
        assert_eq!(
            hex,
            "1941078ee3ed7f1d3e566ba9bb93ac2c983b2f5477fb6608aa3c0451dd3522a2"
        );
    }

    #[test]
    fn order_and_number_count() {
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[0]), of(&[0, 0]));
        assert_ne!(of(&[]), of(&[0]));
    }

    #[test]
    fn bytes_fold_injectively_by_length() {
        let a = Trace::new();
        a.fold_bytes(&[1, 2, 3]);
        let b = Trace::new();
        b.fold_bytes(&[1, 2, 3, 0]);
        assert_ne!(a.finish(), b.finish());
    }

    /// Every bit of an early word moves about half of the bits.
    #[test]
    fn one_bit_moves_many() {
        let base = of(&[7, 0, 0]);
        for bit in 0..64 {
            let other = of(&[7 ^ 1 << bit, 0, 0]);
            let moved: u32 = base
                .iter()
                .zip(other)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert!(
                (80..=176).contains(&moved),
                "bit {bit} moved {moved} of 256"
            );
        }
    }
}
