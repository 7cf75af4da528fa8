//! The Merkle tree of wire-format §2: pairs of neighbours, an odd last one moves up unchanged.

use crate::domain::{Kind, keccak};
use crate::ids::Digest;
use alloc::vec::Vec;

/// Root over hashed leaves; 32 zero bytes for none.
pub fn root(leaves: &[Digest]) -> Digest {
    if leaves.is_empty() {
        return Digest::ZERO;
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(pair).collect();
    }
    level[0]
}

/// The siblings on the way from leaf `index` to the root, bottom up; levels where the node has none are left out.
pub fn proof(leaves: &[Digest], mut index: usize) -> Vec<Digest> {
    let mut level = leaves.to_vec();
    let mut out = Vec::new();
    while level.len() > 1 {
        if let Some(sibling) = level.get(index ^ 1) {
            out.push(*sibling);
        }
        level = level.chunks(2).map(pair).collect();
        index /= 2;
    }
    out
}

/// Whether `leaf` stands at `index` of the `count` leaves under `root`.
pub fn verify(
    root: &Digest,
    leaf: Digest,
    mut index: usize,
    mut count: usize,
    proof: &[Digest],
) -> bool {
    if index >= count {
        return false;
    }
    let mut node = leaf;
    let mut siblings = proof.iter();
    while count > 1 {
        if index ^ 1 < count {
            let Some(s) = siblings.next() else {
                return false;
            };
            node = if index.is_multiple_of(2) {
                pair(&[node, *s])
            } else {
                pair(&[*s, node])
            };
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    siblings.next().is_none() && node == *root
}

fn pair(nodes: &[Digest]) -> Digest {
    match nodes {
        [l, r] => keccak(Kind::MerkleNode).raw(l.0).raw(r.0).finish(),
        [only] => *only,
        _ => unreachable!("chunks of two"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_size_has_a_proof_and_no_other_place() {
        for n in 1..20usize {
            let leaves: Vec<_> = (0..n).map(|i| Digest([i as u8; 32])).collect();
            let r = root(&leaves);
            for i in 0..n {
                let p = proof(&leaves, i);
                assert!(verify(&r, leaves[i], i, n, &p));
                for j in (0..n).filter(|j| *j != i) {
                    assert!(!verify(&r, leaves[i], j, n, &p), "{i} passed as {j} of {n}");
                }
            }
        }
    }
}
