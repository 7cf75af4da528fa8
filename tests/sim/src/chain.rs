//! The contract as the nodes see it: what it accepts, what it records, and the events that it emits. It follows
//! `contracts/src/IMainContract.sol` and `ICells.sol`; signatures are those of [`crate::crypto`].

use crate::crypto::{Aggregate, Mode, verify};
use diversity_engine::api::{CellWriter, ChainEvent, Evidence, Resolution, Settlement, Submission};
use diversity_proto::domain::keccak_raw;
use diversity_proto::round::{
    Blinding, Commit, Computed, Entry, Outcome, OutputKind, Reveal, Subject, reading_of, seal_of,
};
use diversity_proto::terms::config;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, Signature};
use std::collections::{BTreeMap, BTreeSet};

/// Why a transaction reverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revert {
    /// What comes before it is missing: it may be mined later.
    NotYet,
    /// Something else came first, and it can never be mined any more.
    Overtaken,
    /// All users have ended the agreement before this t.
    BeyondEnd,
    /// The rest: an honest node never sends such a thing.
    Refused(&'static str),
}

/// What a transaction changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mined {
    /// The first readings of t from `first` on are final, with what each says, in the epoch that is now in force.
    Covered {
        /// First t.
        first: u64,
        /// What each t from `first` says.
        says: Vec<Entry>,
        /// In force from now on.
        epoch: u32,
        /// The last t is a hole by certificate.
        door: bool,
    },
    /// The users settled t in band.
    Resolved {
        /// Which.
        t: u64,
        /// What counts.
        says: Entry,
    },
    /// A cell was written.
    Cell {
        /// Which.
        t: u64,
        /// What counts.
        says: Entry,
        /// By a second reading.
        by_nodes: bool,
    },
    /// A node's misbehaviour is on record.
    Blamed(NodeId),
}

/// Something on the chain that nodes are told, in its order.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum News {
    /// An agreement stands.
    Agreement(usize),
    /// The rest.
    Event(ChainEvent),
}

/// The contract, for one agreement.
pub struct Contract {
    mode: Mode,
    deployment: Deployment,
    nodes: Vec<NodeId>,
    /// First t that is not final.
    pub next_t: u64,
    /// The epoch in force.
    pub epoch: u32,
    /// First t that never settles.
    pub end: u64,
    /// Which t have a second word.
    pub cells: BTreeMap<u64, Entry>,
    /// How often another epoch was begun by what was said of a t.
    pub words: u32,
    disputes: BTreeSet<[u8; 32]>,
    /// What the transaction that is being run emits.
    emitted: Vec<ChainEvent>,
    transactions: u64,
    /// A broken contract that verifies and orders nothing; only the sabotages of the oracles switch it on.
    pub gullible: bool,
}

impl Contract {
    /// The contract of an agreement among these nodes.
    pub fn new(mode: Mode, deployment: Deployment, nodes: Vec<NodeId>) -> Self {
        Self {
            mode,
            deployment,
            nodes,
            next_t: 0,
            epoch: 0,
            end: u64::MAX,
            cells: BTreeMap::new(),
            words: 0,
            disputes: BTreeSet::new(),
            emitted: Vec::new(),
            transactions: 0,
            gullible: false,
        }
    }

    /// Runs one transaction and gives what it changed and emitted.
    ///
    /// # Errors
    /// Why it reverts; nothing has changed then.
    pub fn apply(
        &mut self,
        a: &Aggregate,
        submission: &Submission,
    ) -> Result<(Mined, Vec<ChainEvent>), Revert> {
        self.transactions += 1;
        let mined = match submission {
            Submission::Settle { settlement, .. } => self.settle(a, settlement),
            Submission::Hole {
                epoch,
                t,
                commits,
                reveals,
                ..
            } => self.hole(a, *epoch, *t, commits, reveals),
            Submission::Reading { outcome, signature } => self.reading(a, outcome, signature),
            Submission::Misbehaviour {
                epoch, t, evidence, ..
            } => self.misbehaviour(a, *epoch, *t, evidence),
            Submission::Contradiction { .. } => Err(Revert::Refused("not of an agreement")),
        }?;
        Ok((mined, std::mem::take(&mut self.emitted)))
    }

    /// All users end the agreement: `after` more t may settle.
    pub fn close(&mut self, a: &Aggregate, after: u64) -> ChainEvent {
        let last_t = self.next_t + after;
        self.end = last_t + 1;
        ChainEvent::Closed {
            agreement: a.id,
            last_t,
        }
    }

    /// All users say what counts at t: in band if it is not final yet, else in its cell.
    pub fn resolve(
        &mut self,
        a: &Aggregate,
        t: u64,
        resolution: Resolution,
    ) -> Result<(Mined, Vec<ChainEvent>), Revert> {
        self.transactions += 1;
        let says = match resolution.kind {
            OutputKind::Value => Entry::Value(resolution.result.clone()),
            OutputKind::Null => Entry::Null,
            OutputKind::Trap => Entry::Trap,
            OutputKind::Abstain => return Err(Revert::Refused("KindNotSettled")),
        };
        let (agreement, tx) = (a.id, self.tx(a));
        if t == self.next_t && t < self.end {
            self.next_t = t + 1;
            self.epoch += 2;
            self.words += 1;
            let event = ChainEvent::Resolved {
                agreement,
                t,
                epoch: self.epoch,
                resolution,
                tx,
            };
            return Ok((Mined::Resolved { t, says }, vec![event]));
        }
        if t >= self.next_t || self.cells.contains_key(&t) {
            return Err(Revert::Overtaken);
        }
        self.cells.insert(t, says.clone());
        self.words += 1;
        let event = ChainEvent::Cell {
            agreement,
            t,
            writer: CellWriter::Users,
            resolution,
            context: Digest::ZERO,
            tx,
        };
        let by_nodes = false;
        Ok((Mined::Cell { t, says, by_nodes }, vec![event]))
    }

    fn tx(&self, a: &Aggregate) -> Digest {
        Digest(keccak_raw(
            &[&a.id.0[..], &self.transactions.to_be_bytes()].concat(),
        ))
    }

    /// The one switch: from <= nextT <= t, before the end, in the epoch in force or the next.
    fn door(&self, epoch: u32, from: u64, t: u64) -> Result<(), Revert> {
        if self.gullible {
            return Ok(());
        }
        if reading_of(epoch) > 0 {
            return Err(Revert::Refused("EpochIsMarked"));
        }
        if t < self.next_t || epoch < self.epoch {
            return Err(Revert::Overtaken);
        }
        if from > self.next_t || epoch > self.epoch + 1 {
            return Err(Revert::NotYet);
        }
        if t >= self.end {
            return Err(Revert::BeyondEnd);
        }
        Ok(())
    }

    /// Everything up to t is final; gives what counts of what is said of each t from `from` on.
    fn cover(&mut self, epoch: u32, from: u64, says: Vec<Entry>, door: bool) -> Mined {
        let first = if self.gullible { from } else { self.next_t };
        self.next_t = from + says.len() as u64;
        self.epoch = epoch;
        let says = says.into_iter().skip((first - from) as usize).collect();
        Mined::Covered {
            first,
            says,
            epoch,
            door,
        }
    }

    fn settle(&mut self, a: &Aggregate, s: &Settlement) -> Result<Mined, Revert> {
        let d = &self.deployment;
        let (epoch, from, says) = match s {
            Settlement::Single { outcome, signature } => {
                self.unanimous(a.verify(&outcome.digest(d), signature))?;
                (outcome.epoch, outcome.from, single(a, outcome, &[])?)
            }
            Settlement::Batch { batch, signature } => {
                self.unanimous(a.verify(&batch.digest(d), signature))?;
                if batch.agreement != a.id {
                    return Err(Revert::Refused("another agreement"));
                }
                let says = batch.entries.iter().map(|e| e.0.clone()).collect();
                (batch.epoch, batch.from, says)
            }
            Settlement::Reveals {
                outcome,
                holes,
                signatures,
            } => {
                let digest = reveal_digest(d, outcome, holes);
                let all = signatures.len() == a.members.len()
                    && a.members
                        .iter()
                        .zip(signatures)
                        .all(|(k, s)| verify(self.mode, k, &digest, s));
                self.unanimous(all)?;
                (outcome.epoch, outcome.from, single(a, outcome, holes)?)
            }
        };
        let t = from + says.len() as u64 - 1;
        self.door(epoch, from, t)?;
        let tx = self.tx(a);
        self.emitted.push(ChainEvent::Settled {
            agreement: a.id,
            from,
            t,
            epoch,
            tx,
            gas_used: 30_000,
            outcomes: says.len() as u32,
        });
        Ok(self.cover(epoch, from, says, false))
    }

    fn unanimous(&self, ok: bool) -> Result<(), Revert> {
        self.proven(ok, "NotUnanimous")
    }

    fn subject(&self, a: &AgreementId, epoch: u32, t: u64) -> Subject {
        Subject {
            deployment: self.deployment,
            config: config(&self.deployment, a, epoch),
            t,
        }
    }

    /// n commits, one seal, n reveals that open them, with equal `from` and holes, unequal or all abstaining.
    fn hole(
        &mut self,
        a: &Aggregate,
        epoch: u32,
        t: u64,
        commits: &[Commit],
        reveals: &[Reveal],
    ) -> Result<Mined, Revert> {
        let n = a.members.len();
        self.proven(commits.len() == n && reveals.len() == n, "TooFew")?;
        let (from, holes) = (reveals[0].from, &reveals[0].holes);
        self.proven(from <= t, "FromBehindT")?;
        let s = self.subject(&a.id, epoch, t);
        let seal = seal_of(&s, &self.nodes, commits);
        for (i, (commit, reveal)) in commits.iter().zip(reveals).enumerate() {
            let (node, key) = (&self.nodes[i], &a.members[i]);
            let signed = self.signed_commit(&s, node, key, commit)
                && self.signed_reveal(a, epoch, t, key, reveal, &seal);
            self.proven(signed, "BadSignature")?;
            self.proven(opens(&s, node, commit, reveal), "RevealDoesNotOpen")?;
            let equal = (reveal.from, &reveal.holes) == (from, holes);
            self.proven(equal, "UnequalRange")?;
        }
        self.proven(makes_a_hole(reveals), "RevealsEqual")?;
        self.door(epoch, from, t)?;
        let mut says = before(from, t, holes)?;
        says.push(Entry::Hole);
        let tx = self.tx(a);
        self.emitted.push(ChainEvent::Hole {
            agreement: a.id,
            t,
            epoch,
            dispute: tx,
            tx,
        });
        Ok(self.cover(epoch, from, says, true))
    }

    fn reading(&mut self, a: &Aggregate, o: &Outcome, s: &Signature) -> Result<Mined, Revert> {
        self.unanimous(a.verify(&o.digest(&self.deployment), s))?;
        if reading_of(o.epoch) == 0 || o.from != o.t {
            return Err(Revert::Refused("no second reading"));
        }
        let says = single(a, o, &[])?.remove(0);
        if o.t >= self.next_t {
            return Err(Revert::NotYet);
        }
        if self.cells.contains_key(&o.t) {
            return Err(Revert::Overtaken);
        }
        self.cells.insert(o.t, says.clone());
        self.words += 1;
        let tx = self.tx(a);
        self.emitted.push(ChainEvent::Cell {
            agreement: a.id,
            t: o.t,
            writer: CellWriter::Reading,
            resolution: Resolution {
                kind: OutputKind::from_code(o.kind).map_err(|_| Revert::Refused("kind"))?,
                result: o.result.clone(),
                state: Digest::ZERO,
                carry: Vec::new(),
                q_next: Vec::new(),
            },
            context: o.context,
            tx,
        });
        Ok(Mined::Cell {
            t: o.t,
            says,
            by_nodes: true,
        })
    }

    fn misbehaviour(
        &mut self,
        a: &Aggregate,
        epoch: u32,
        t: u64,
        e: &Evidence,
    ) -> Result<Mined, Revert> {
        let s = self.subject(&a.id, epoch, t);
        let (kind, node) = match e {
            Evidence::Equivocation {
                node,
                first,
                second,
            } => {
                let key = self.key(a, node)?;
                let differ =
                    (first.commitment, first.opening) != (second.commitment, second.opening);
                self.proven(differ, "SameCommit")?;
                for c in [first, second] {
                    self.proven(self.signed_commit(&s, node, &key, c), "BadSignature")?;
                }
                (0u8, *node)
            }
            Evidence::FalseOpening {
                node,
                commit,
                reveal,
                seal,
            } => {
                let key = self.key(a, node)?;
                let signed = self.signed_commit(&s, node, &key, commit)
                    && self.signed_reveal(a, epoch, t, &key, reveal, seal);
                self.proven(signed, "BadSignature")?;
                let opening = reveal.blinding.opening_hash() == commit.opening;
                self.proven(opening, "OpeningHashDiffers")?;
                self.proven(!opens(&s, node, commit, reveal), "RevealOpensCommit")?;
                (1, *node)
            }
        };
        let mut id = vec![kind];
        id.extend_from_slice(&epoch.to_be_bytes());
        id.extend_from_slice(&t.to_be_bytes());
        id.extend_from_slice(&node.0);
        if !self.disputes.insert(keccak_raw(&id)) {
            return Err(Revert::Overtaken);
        }
        Ok(Mined::Blamed(node))
    }

    fn proven(&self, ok: bool, why: &'static str) -> Result<(), Revert> {
        if ok || self.gullible {
            Ok(())
        } else {
            Err(Revert::Refused(why))
        }
    }
    fn key(&self, a: &Aggregate, node: &NodeId) -> Result<PublicKey, Revert> {
        let i = self.nodes.iter().position(|n| n == node);
        i.map(|i| a.members[i])
            .ok_or(Revert::Refused("NodeIndexOutOfRange"))
    }
    fn signed_commit(&self, s: &Subject, node: &NodeId, key: &PublicKey, c: &Commit) -> bool {
        verify(self.mode, key, &c.digest(s, node), &c.signature)
    }
    fn signed_reveal(
        &self,
        a: &Aggregate,
        epoch: u32,
        t: u64,
        key: &PublicKey,
        r: &Reveal,
        seal: &Digest,
    ) -> bool {
        let digest = r.digest(&self.deployment, &r.outcome(a.id, epoch, t, seal));
        verify(self.mode, key, &digest, &r.signature)
    }
    /// Whether the reveals open the n commits and make a hole.
    pub fn makes_a_hole(&self, s: &Subject, commits: &[Commit], reveals: &[Reveal]) -> bool {
        let mut all = commits.iter().zip(reveals).zip(&self.nodes);
        makes_a_hole(reveals) && all.all(|((c, r), n)| opens(s, n, c, r))
    }
}

fn opens(s: &Subject, node: &NodeId, c: &Commit, r: &Reveal) -> bool {
    r.computed.commitment(s, node, &r.blinding) == c.commitment
        && r.blinding.opening_hash() == c.opening
}

fn makes_a_hole(reveals: &[Reveal]) -> bool {
    let abstains = |r: &Reveal| r.computed.kind == OutputKind::Abstain;
    let differ = reveals.iter().any(|r| r.computed != reveals[0].computed);
    differ || reveals.iter().all(abstains)
}

/// What an outcome says of the t before its own.
fn before(from: u64, t: u64, holes: &[u64]) -> Result<Vec<Entry>, Revert> {
    if !holes.is_sorted_by(|a, b| a < b) || holes.iter().any(|h| !(from..t).contains(h)) {
        return Err(Revert::Refused("HolesNotAscendingInRange"));
    }
    let says = |t: u64| {
        if holes.contains(&t) {
            Entry::Hole
        } else {
            Entry::Null
        }
    };
    Ok((from..t).map(says).collect())
}

fn single(a: &Aggregate, o: &Outcome, holes: &[u64]) -> Result<Vec<Entry>, Revert> {
    if o.agreement != a.id || o.from > o.t {
        return Err(Revert::Refused("the outcome is not of this agreement"));
    }
    let mut says = before(o.from, o.t, holes)?;
    says.push(match o.kind {
        k if k == OutputKind::Value as u8 => Entry::Value(o.result.clone()),
        k if k == OutputKind::Trap as u8 && o.result.is_empty() => Entry::Trap,
        k if k == OutputKind::Null as u8 && reading_of(o.epoch) > 0 => Entry::Null,
        _ => return Err(Revert::Refused("KindNotSettled")),
    });
    Ok(says)
}

/// The reveal digest of an outcome, as the contract works it out without the rest of the reveal.
fn reveal_digest(d: &Deployment, outcome: &Outcome, holes: &[u64]) -> Digest {
    let carrier = Reveal {
        computed: Computed {
            kind: OutputKind::Null,
            result: Vec::new(),
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
    carrier.digest(d, outcome)
}

/// What the chain knows against sensors.
#[derive(Default)]
pub struct Voids(BTreeMap<SensorId, u64>);

impl Voids {
    /// Whether anything is on record against the sensor.
    pub fn knows(&self, sensor: &SensorId) -> bool {
        self.0.contains_key(sensor)
    }
    /// A contradiction, whose frames are signed by the sensor or not.
    ///
    /// # Errors
    /// Why it is not recorded.
    pub fn record(
        &mut self,
        sensor: &SensorId,
        c: &diversity_proto::frame::Contradiction,
        signed: bool,
    ) -> Result<(), Revert> {
        let again = diversity_proto::frame::Contradiction::of(&c.first, &c.second);
        if !signed || again.as_ref() != Some(c) {
            return Err(Revert::Refused("no contradiction"));
        }
        if self.0.get(sensor).is_some_and(|q| *q <= c.q) {
            return Err(Revert::Overtaken);
        }
        self.0.insert(*sensor, c.q);
        Ok(())
    }
}
