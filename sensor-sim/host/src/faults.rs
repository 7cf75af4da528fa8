//! Faults that a test wants: what broken or hostile sensors send beside the replay, and what a node must make of it.

use diversity_client::api::codes;
use diversity_proto::frame::Frame;
use diversity_proto::ids::Signature;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Frames are sent a second time: they are acknowledged again and change nothing.
    Duplicate,
    /// The frames of a batch come in any order: all are acknowledged in the end.
    Reorder,
    /// Damaged frames come between the good ones: each is refused as malformed.
    Malform,
    /// Frames with a foreign signature come between the good ones: each is refused.
    WrongSignature,
    /// After the replay one lock says something else at its last q: refused, and the chain comes to hold it as a dispute.
    Contradict,
    /// After the replay one lock sends a message from the far future: it is stored, but closes no window.
    Future,
}

/// Every how many batches the faults of delivery come.
const EVERY: u64 = 3;

/// What was put into a batch beside its frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tampered {
    /// Positions of bad frames, and the codes of which one must refuse each.
    pub bad: Vec<(u32, &'static [&'static str])>,
}

/// The faults of a replay; the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Faults {
    kinds: Vec<Fault>,
    rng: ChaCha8Rng,
    batches: u64,
    sent: u64,
}

impl Faults {
    /// These kinds.
    pub fn new(kinds: &[Fault], seed: u64) -> Self {
        Self {
            kinds: kinds.to_vec(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            batches: 0,
            sent: 0,
        }
    }

    /// Whether this kind was asked for.
    pub fn has(&self, kind: Fault) -> bool {
        self.kinds.contains(&kind)
    }

    /// How many bad or repeated frames were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Spoils a batch of encoded frames. The good frames stay in it.
    pub fn tamper(&mut self, batch: &mut Vec<Vec<u8>>) -> Tampered {
        self.batches += 1;
        let mut out = Tampered::default();
        if batch.is_empty() || !self.batches.is_multiple_of(EVERY) {
            return out;
        }
        let good = batch.len();
        if self.has(Fault::Reorder) {
            for i in (1..good).rev() {
                batch.swap(i, self.below(i as u64 + 1) as usize);
            }
        }
        if self.has(Fault::Duplicate) {
            for _ in 0..1 + good / 4 {
                let copy = batch[self.below(good as u64) as usize].clone();
                batch.push(copy);
                self.sent += 1;
            }
        }
        for (kind, codes) in [
            (Fault::Malform, &[codes::MALFORMED][..]),
            // Busy: the true frame is on its way from another node at this moment.
            (Fault::WrongSignature, &[codes::BAD_SIGNATURE, codes::BUSY]),
        ] {
            if self.has(kind) {
                let source = batch[self.below(good as u64) as usize].clone();
                batch.push(match kind {
                    Fault::Malform => self.malform(source),
                    _ => foreign_signature(&source),
                });
                out.bad.push((batch.len() as u32 - 1, codes));
                self.sent += 1;
            }
        }
        out
    }

    /// Cut short, with bytes behind it, or of another version: no strict decoder takes any of these.
    fn malform(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        match self.below(3) {
            0 => frame.truncate(self.below(frame.len() as u64) as usize),
            1 => frame.push(0),
            _ => frame[0] = 0xff,
        }
        frame
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.rng.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

/// Well formed, and signed by nobody. It stands a little behind the frame that it was made of, since a frame that is stored already is known
/// by its digest, whatever signature comes with it.
fn foreign_signature(encoded: &[u8]) -> Vec<u8> {
    let mut frame = Frame::decode(encoded).expect("a good frame");
    frame.first_q = frame.next_q() + 40;
    let mut signature = [0; 64];
    signature[31] = 1;
    signature[63] = 1;
    frame.signature = Signature(signature);
    frame.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::SensorId;

    fn batch() -> Vec<Vec<u8>> {
        (0..20)
            .map(|q| {
                let frame = Frame {
                    sensor: SensorId([1; 20]),
                    epoch: 0,
                    first_q: q,
                    count: 1,
                    lost: 0,
                    width: 1,
                    opening: None,
                    body: vec![2, 1],
                    signature: Signature([7; 64]),
                };
                frame.encode()
            })
            .collect()
    }

    #[test]
    fn good_frames_stay_and_bad_ones_are_bad() {
        let all = [
            Fault::Duplicate,
            Fault::Reorder,
            Fault::Malform,
            Fault::WrongSignature,
        ];
        let mut faults = Faults::new(&all, 1);
        let mut tampered = 0;
        for _ in 0..90 {
            let mut spoiled = batch();
            let what = faults.tamper(&mut spoiled);
            for frame in batch() {
                assert!(spoiled.contains(&frame));
            }
            for (index, allowed) in &what.bad {
                let frame = Frame::decode(&spoiled[*index as usize]);
                assert_eq!(frame.is_err(), allowed.contains(&codes::MALFORMED));
                assert!(!batch().contains(&spoiled[*index as usize]));
                tampered += 1;
            }
        }
        assert_eq!(tampered, 60);
        let mut none = Faults::new(&[], 1);
        for _ in 0..9 {
            let mut same = batch();
            none.tamper(&mut same);
            assert_eq!(same, batch());
        }
    }
}
