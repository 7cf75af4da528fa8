//! The modelled contract: one switch, doors, cells.

use super::*;

/// What the modelled contract knows of one agreement.
#[derive(Default)]
pub struct Chain {
    pub next_t: u64,
    pub epoch: u32,
    pub end: Option<u64>,
    /// (from, t, by reveals) of each settlement.
    pub settled: Vec<(u64, u64, bool)>,
    pub holes: Vec<u64>,
    pub cells: BTreeSet<u64>,
    pub reverted: Vec<&'static str>,
}

impl Stage {
    /// The contract: one switch, doors, records. What it takes becomes an event for every node.
    pub fn mine(&mut self, s: &Submission) {
        match s {
            Submission::Settle {
                agreement,
                settlement,
            } => {
                let (from, t) = settlement.range();
                let (digest, epoch, signed) = match settlement {
                    Settlement::Single { outcome, signature } => {
                        (outcome.digest(&deployment()), outcome.epoch, Ok(signature))
                    }
                    Settlement::Batch { batch, signature } => {
                        (batch.digest(&deployment()), batch.epoch, Ok(signature))
                    }
                    Settlement::Reveals {
                        outcome,
                        holes,
                        signatures,
                    } => (
                        reveal_digest(outcome, holes),
                        outcome.epoch,
                        Err(signatures),
                    ),
                };
                let n = self.members[agreement];
                let good = match signed {
                    Ok(signature) => *signature == aggregate(agreement, &digest),
                    Err(all) => {
                        let each = |(j, s): (usize, &Signature)| *s == sign(&node_key(j), &digest);
                        all.len() == n && all.iter().enumerate().all(each)
                    }
                };
                assert!(good, "an honest core submits what verifies: {s:?}");
                if self.switch(agreement, epoch, from, t) {
                    let reveals = signed.is_err();
                    let chain = self.chain.entry(*agreement).or_default();
                    chain.settled.push((from, t, reveals));
                    self.all(Input::Chain(ChainEvent::Settled {
                        agreement: *agreement,
                        from,
                        t,
                        epoch,
                        tx: Digest([1; 32]),
                        gas_used: 1,
                        outcomes: (t - from + 1) as u32,
                    }));
                }
            }
            Submission::Hole {
                agreement,
                epoch,
                t,
                reveals,
                ..
            } => {
                if self.switch(agreement, *epoch, reveals[0].from, *t) {
                    self.chain.entry(*agreement).or_default().holes.push(*t);
                    self.all(Input::Chain(ChainEvent::Hole {
                        agreement: *agreement,
                        t: *t,
                        epoch: *epoch,
                        dispute: Digest([9; 32]),
                        tx: Digest([8; 32]),
                    }));
                }
            }
            Submission::Contradiction {
                sensor,
                contradiction,
            } => {
                if self.reported.insert((*sensor, contradiction.q)) {
                    self.all(Input::Chain(ChainEvent::SensorVoid {
                        sensor: *sensor,
                        contradiction: contradiction.clone(),
                    }));
                }
            }
            Submission::Reading { outcome, signature } => {
                let a = outcome.agreement;
                assert_eq!(*signature, aggregate(&a, &outcome.digest(&deployment())));
                assert!(reading_of(outcome.epoch) > 0 && outcome.from == outcome.t);
                let chain = self.chain.entry(a).or_default();
                if outcome.t < chain.next_t && chain.cells.insert(outcome.t) {
                    self.all(Input::Chain(ChainEvent::Cell {
                        agreement: a,
                        t: outcome.t,
                        writer: CellWriter::Reading,
                        resolution: Resolution {
                            kind: OutputKind::from_code(outcome.kind).expect("a kind"),
                            result: outcome.result.clone(),
                            state: Digest::ZERO,
                            carry: vec![],
                            q_next: vec![],
                        },
                        context: outcome.context,
                        tx: Digest([4; 32]),
                    }));
                }
            }
            Submission::Misbehaviour { .. } => {}
        }
    }

    fn switch(&mut self, a: &AgreementId, epoch: u32, from: u64, t: u64) -> bool {
        let chain = self.chain.entry(*a).or_default();
        let wrong = if !(from <= chain.next_t && chain.next_t <= t) {
            Some("from <= nextT <= t")
        } else if epoch != chain.epoch && epoch != chain.epoch + 1 {
            Some("epoch in force or next")
        } else if chain.end.is_some_and(|end| t >= end) {
            Some("before the end")
        } else {
            None
        };
        if let Some(why) = wrong {
            chain.reverted.push(why);
            return false;
        }
        chain.next_t = t + 1;
        chain.epoch = epoch;
        true
    }

    /// All users close the agreement behind `last_t`.
    pub fn close(&mut self, a: &AgreementId, last_t: u64) {
        self.chain.entry(*a).or_default().end = Some(last_t + 1);
        self.all(Input::Chain(ChainEvent::Closed {
            agreement: *a,
            last_t,
        }));
    }
    /// All users say what counts at t: in band, or behind the door in its cell.
    pub fn resolve(
        &mut self,
        a: &AgreementId,
        t: u64,
        result: &[u8],
        carry: &[u8],
        q_next: &[u64],
    ) {
        let resolution = Resolution {
            kind: OutputKind::Value,
            result: result.to_vec(),
            state: state(carry, q_next),
            carry: carry.to_vec(),
            q_next: q_next.to_vec(),
        };
        let chain = self.chain.entry(*a).or_default();
        let (agreement, tx) = (*a, Digest([3; 32]));
        let event = if chain.next_t <= t {
            assert_eq!(chain.next_t, t, "in band the next t only");
            chain.next_t = t + 1;
            chain.epoch += 2;
            ChainEvent::Resolved {
                agreement,
                t,
                epoch: chain.epoch,
                resolution,
                tx,
            }
        } else {
            ChainEvent::Cell {
                agreement,
                t,
                writer: CellWriter::Users,
                resolution,
                context: Digest::ZERO,
                tx,
            }
        };
        self.all(Input::Chain(event));
    }
}

fn reveal_digest(outcome: &Outcome, holes: &[u64]) -> Digest {
    let reveal = Reveal {
        computed: Computed {
            kind: OutputKind::Value,
            result: vec![],
            detail_root: Digest::ZERO,
            state: Digest::ZERO,
            trace: Digest::ZERO,
            window_hash: Digest::ZERO,
        },
        blinding: Blinding {
            secret: [0; 32],
            salt: [0; 32],
        },
        from: outcome.from,
        holes: holes.to_vec(),
        signature: Signature([0; 64]),
    };
    reveal.digest(&deployment(), outcome)
}
