//! Merkle roots, leaves, windows, state and detail (wire-format §2, §4, §5).

use crate::file::File;
use diversity_proto::frame::Message;
use diversity_proto::ids::{Digest, SensorId};
use diversity_proto::window::{Leaf, Window, WindowEnd, detail_root, state};
use diversity_proto::{domain, merkle};

/// Bytes before the first leaf: version, t, from, to, count.
const HEAD: usize = 1 + 3 * 8 + 4;

#[test]
fn window() {
    let mut f = File::open("window.json");
    let sensors = f.hexes("sensors", &[[0x31; 20], [0x32; 20], [0x33; 20]]);
    let sensors: Vec<_> = sensors
        .into_iter()
        .map(|s| SensorId(s.try_into().expect("an address")))
        .collect();
    let ends = f.numbers("ends", &[0, 1, 0]);
    let first_q = f.numbers("first_q", &[0, 17, 1 << 40]);
    let widths = f.numbers("widths", &[1, 1, 8]);
    let t0 = 1_443_657_600;
    let messages: [Vec<(u64, Vec<u8>)>; 3] = [
        (0..200)
            .map(|i| (t0 + i * 9_973, vec![u8::from(i % 2 == 0)]))
            .collect(),
        Vec::new(),
        vec![
            (t0, vec![7; 8]),
            (t0 - 1, vec![0; 8]),
            (t0 + 86_400, vec![255; 8]),
        ],
    ];
    let mut leaves = Vec::new();
    for (i, messages) in messages.into_iter().enumerate() {
        let (times, values): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let times = f.numbers(&format!("leaf_{i}_times"), &times);
        let values = f.hexes(&format!("leaf_{i}_values"), &values);
        let end = if ends[i] == 0 {
            WindowEnd::Message
        } else {
            WindowEnd::ClosingRecord
        };
        let messages = times.iter().zip(&values).map(|(time, values)| Message {
            time: *time,
            values,
        });
        let width = u8::try_from(widths[i]).expect("u8");
        let leaf = Leaf::new(sensors[i], first_q[i], end, width, messages);
        let alone = Window {
            t: 0,
            from: 0,
            to: 0,
            leaves: vec![leaf.clone()],
        };
        f.gives(&format!("leaf_{i}_body"), &leaf.body);
        f.gives(&format!("leaf_{i}_bytes"), &alone.encode()[HEAD..]);
        f.gives(&format!("leaf_{i}_hash"), leaf.hash().0);
        leaves.push(leaf);
    }
    let window = Window {
        t: f.number("t", 3),
        from: f.number("from", t0),
        to: f.number("to", t0 + 31 * 86_400),
        leaves,
    };
    let bytes = window.encode();
    assert_eq!(Window::decode(&bytes, bytes.len()).as_ref(), Ok(&window));
    let hashes: Vec<_> = window.leaves.iter().map(Leaf::hash).collect();
    for (i, leaf) in hashes.iter().enumerate() {
        let proof = merkle::proof(&hashes, i);
        assert!(merkle::verify(
            &merkle::root(&hashes),
            *leaf,
            i,
            hashes.len(),
            &proof
        ));
        f.gives_all(&format!("leaf_{i}_proof"), &digests(&proof));
    }
    f.gives("leaves_root", merkle::root(&hashes).0);
    f.gives("window_bytes", &bytes);
    f.gives("window_hash", window.hash().0);

    let carry = f.hex("carry", &[1, 2, 3, 4, 5]);
    f.gives("input", window.input(&carry));
    let q_next = f.numbers("q_next", &[200, 17, (1 << 40) + 3]);
    f.gives("state", state(&carry, &q_next).0);
    f.gives("state_of_nothing", state(&[], &[]).0);

    let detail = f.hexes("detail", &[[1; 12], [0; 12], [255; 12]]);
    f.gives("detail_root", detail_root(&sensors, &detail).0);
    f.gives("detail_root_of_nothing", detail_root(&sensors, &[]).0);
    f.finish();
}

#[test]
fn merkle_trees() {
    let mut f = File::open("merkle.json");
    let leaves: Vec<[u8; 32]> = (0..17u8).map(|i| [i; 32]).collect();
    let leaves: Vec<_> = f
        .hexes("leaves", &leaves)
        .into_iter()
        .map(|l| Digest(l.try_into().expect("32 bytes")))
        .collect();
    let roots: Vec<_> = (0..=leaves.len())
        .map(|n| merkle::root(&leaves[..n]))
        .collect();
    f.gives_all("roots_of_the_first_0_to_17", &digests(&roots));
    for (n, i) in [(1, 0), (2, 1), (5, 4), (7, 6), (13, 5), (17, 16)] {
        let proof = merkle::proof(&leaves[..n], i);
        assert!(merkle::verify(&roots[n], leaves[i], i, n, &proof));
        f.gives_all(&format!("proof_of_{i}_in_{n}"), &digests(&proof));
    }
    let kinds = [
        1u16, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21, 22, 23, 24, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42,
    ];
    use domain::Kind as K;
    let tags = [
        K::SensorFrame,
        K::SensorRegistration,
        K::NodeRegistration,
        K::NodeAcceptance,
        K::Acknowledgement,
        K::WindowLeaf,
        K::Window,
        K::State,
        K::DetailLeaf,
        K::MerkleNode,
        K::SensorLeaf,
        K::Conditions,
        K::Tweak,
        K::Config,
        K::Opening,
        K::Commitment,
        K::Commit,
        K::Seal,
        K::Context,
        K::OutcomeDomain,
        K::BatchDomain,
        K::Reveal,
        K::NonceSet,
        K::Partial,
        K::ContextLeaf,
    ];
    for (kind, tag) in kinds.iter().zip(tags) {
        assert_eq!(*kind, tag as u16);
        f.gives(&format!("tag_{kind}"), tag.tag());
    }
    f.finish();
}

fn digests(all: &[Digest]) -> Vec<[u8; 32]> {
    all.iter().map(|d| d.0).collect()
}
