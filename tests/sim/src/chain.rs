//! The contract as the nodes see it: what it accepts, what it records, and the events that it emits. It follows
//! `contracts/src/IMainContract.sol`; signatures are those of [`crate::crypto`].

use crate::crypto::{Aggregate, Mode, verify};
use diversity_engine::api::{ChainEvent, Evidence, Settlement, Submission};
use diversity_proto::domain::keccak_raw;
use diversity_proto::round::{
    Commit, Computed, Entry, Outcome, OutputKind, Reveal, Subject, opening_hash,
};
use diversity_proto::terms::config;
use diversity_proto::{Deployment, Digest, NodeId, PublicKey, Signature};
use std::collections::BTreeSet;

/// Why a transaction reverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revert {
    /// Another settlement came first, or one before it is missing: no fault of the sender.
    FromIsNotNext,
    /// The dispute is on record: no fault of the sender.
    AlreadyRecorded,
    /// All users have ended the agreement before this t.
    BeyondEnd,
    /// The rest: an honest node never sends such a thing.
    Refused(&'static str),
}

/// What a transaction changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mined {
    /// `from..=t` are final, with what each says.
    Settled {
        /// First t.
        from: u64,
        /// What each t from `from` says.
        says: Vec<Entry>,
    },
    /// A dispute is on record, with whom it blames.
    Dispute {
        /// Which execution; for a sensor its q.
        t: u64,
        /// Who, if anybody.
        blamed: Option<NodeId>,
        /// Unequal reveals that open the n commits: t is a hole. (The contract is not shown the commits. Evidence that does
        /// not open them is a liar's second reveal, and no honest node goes by it.)
        hole: bool,
    },
}

/// Something on the chain that nodes are told, in its order.
#[derive(Clone, Debug)]
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
    /// First t that is not settled.
    pub next_t: u64,
    /// First t that never settles.
    pub end: u64,
    disputes: BTreeSet<[u8; 32]>,
    /// What the transaction that is being run emits.
    emitted: Vec<ChainEvent>,
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
            end: u64::MAX,
            disputes: BTreeSet::new(),
            emitted: Vec::new(),
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
        let mined = match submission {
            Submission::Settle {
                from,
                t,
                settlement,
            } => self.settle(a, *from, *t, settlement),
            Submission::Dispute { epoch, t, evidence } => self.dispute(a, *epoch, *t, evidence),
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

    fn settle(
        &mut self,
        a: &Aggregate,
        from: u64,
        t: u64,
        s: &Settlement,
    ) -> Result<Mined, Revert> {
        let says = match s {
            Settlement::Single { outcome, signature } => {
                let digest = outcome.digest(&self.deployment);
                self.unanimous(a.verify(&digest, signature))?;
                self.single(a, outcome, from, t, &[])?
            }
            Settlement::Batch { batch, signature } => {
                let digest = batch.digest(&self.deployment);
                self.unanimous(a.verify(&digest, signature))?;
                if batch.agreement != a.id
                    || (batch.from, batch.last()) != (from, t)
                    || batch.epoch != 0
                {
                    return Err(Revert::Refused("the batch is not what was submitted"));
                }
                batch.entries.iter().map(|e| e.0.clone()).collect()
            }
            Settlement::Reveals {
                outcome,
                holes,
                signatures,
            } => {
                let digest = reveal_digest(&self.deployment, outcome, holes);
                let all = signatures.len() == a.members.len()
                    && a.members
                        .iter()
                        .zip(signatures)
                        .all(|(k, s)| verify(self.mode, k, &digest, s));
                self.unanimous(all)?;
                self.single(a, outcome, from, t, holes)?
            }
        };
        if !self.gullible && from != self.next_t {
            return Err(Revert::FromIsNotNext);
        }
        if t >= self.end {
            return Err(Revert::BeyondEnd);
        }
        self.next_t = t + 1;
        let tx = Digest(keccak_raw(
            &[&a.id.0[..], &from.to_be_bytes(), &t.to_be_bytes()].concat(),
        ));
        let outcomes = says.len() as u32;
        self.emitted.push(ChainEvent::Settled {
            agreement: a.id,
            from,
            t,
            tx,
            gas_used: 30_000,
            outcomes,
        });
        Ok(Mined::Settled { from, says })
    }

    fn unanimous(&self, ok: bool) -> Result<(), Revert> {
        if ok || self.gullible {
            Ok(())
        } else {
            Err(Revert::Refused("NotUnanimous"))
        }
    }

    fn single(
        &self,
        a: &Aggregate,
        o: &Outcome,
        from: u64,
        t: u64,
        holes: &[u64],
    ) -> Result<Vec<Entry>, Revert> {
        if o.agreement != a.id || (o.from, o.t) != (from, t) || o.epoch != 0 || from > t {
            return Err(Revert::Refused("the outcome is not what was submitted"));
        }
        if !holes.is_sorted_by(|a, b| a < b) || holes.iter().any(|h| !(from..t).contains(h)) {
            return Err(Revert::Refused("HolesNotAscendingInRange"));
        }
        let last = match o.kind {
            k if k == OutputKind::Value as u8 => Entry::Value(o.result.clone()),
            k if k == OutputKind::Trap as u8 && o.result.is_empty() => Entry::Trap,
            _ => return Err(Revert::Refused("KindNotSettled")),
        };
        let before = (from..t).map(|t| {
            if holes.contains(&t) {
                Entry::Hole
            } else {
                Entry::Null
            }
        });
        Ok(before.chain([last]).collect())
    }

    fn dispute(
        &mut self,
        a: &Aggregate,
        epoch: u32,
        t: u64,
        e: &Evidence,
    ) -> Result<Mined, Revert> {
        let subject = Subject {
            deployment: self.deployment,
            config: config(&self.deployment, &a.id, epoch),
            t,
        };
        let (kind, blamed) = match e {
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
                    self.proven(self.signed_commit(&subject, node, &key, c), "BadSignature")?;
                }
                (0u8, Some(*node))
            }
            Evidence::FalseOpening {
                node,
                commit,
                reveal,
                seal,
            } => {
                let key = self.key(a, node)?;
                self.proven(
                    self.signed_commit(&subject, node, &key, commit),
                    "BadSignature",
                )?;
                self.proven(
                    self.signed_reveal(a, epoch, t, &key, reveal, seal),
                    "BadSignature",
                )?;
                self.proven(
                    opening_hash(&reveal.secret, &reveal.salt) == commit.opening,
                    "OpeningHashDiffers",
                )?;
                let opens =
                    reveal
                        .computed
                        .commitment(&subject, node, &reveal.secret, &reveal.salt);
                self.proven(opens != commit.commitment, "RevealOpensCommit")?;
                (1, Some(*node))
            }
            Evidence::UnequalReveals { reveals, seal, .. } => {
                self.proven(reveals.len() == a.members.len(), "TooFewReveals")?;
                for (key, r) in a.members.iter().zip(reveals) {
                    self.proven(
                        self.signed_reveal(a, epoch, t, key, r, seal),
                        "BadSignature",
                    )?;
                }
                let digests: Vec<_> = reveals
                    .iter()
                    .map(|r| self.reveal_of(a, epoch, t, r, seal))
                    .collect();
                // Equal reveals are a hole only where every node abstained: nobody vouches for an output.
                let abstained = reveals
                    .iter()
                    .all(|r| r.computed.kind == OutputKind::Abstain);
                let differ = digests.iter().any(|d| *d != digests[0]);
                self.proven(differ || abstained, "RevealsEqual")?;
                (2, None)
            }
            Evidence::SensorContradiction { .. } => {
                return Err(Revert::Refused(
                    "no sensor of the simulator contradicts itself",
                ));
            }
        };
        let mut id = vec![kind];
        id.extend_from_slice(&epoch.to_be_bytes());
        id.extend_from_slice(&t.to_be_bytes());
        blamed
            .iter()
            .for_each(|b: &NodeId| id.extend_from_slice(&b.0));
        let id = keccak_raw(&id);
        if !self.disputes.insert(id) {
            return Err(Revert::AlreadyRecorded);
        }
        self.emitted.push(ChainEvent::Hole {
            agreement: a.id,
            t,
            dispute: Digest(id),
            tx: Digest(id),
        });
        Ok(Mined::Dispute {
            t,
            blamed,
            hole: self.genuine_hole(&subject, e),
        })
    }

    fn genuine_hole(&self, s: &Subject, e: &Evidence) -> bool {
        match e {
            Evidence::UnequalReveals {
                commits, reveals, ..
            } => self.make_a_hole(s, commits, reveals),
            _ => false,
        }
    }

    /// Whether the reveals open the n commits and make a hole.
    pub fn make_a_hole(&self, s: &Subject, commits: &[Commit], reveals: &[Reveal]) -> bool {
        let opens = |((c, r), n): ((&Commit, &Reveal), &NodeId)| {
            r.computed.commitment(s, n, &r.secret, &r.salt) == c.commitment
        };
        let abstained = reveals
            .iter()
            .all(|r| r.computed.kind == OutputKind::Abstain);
        let differ = reveals.iter().any(|r| r.computed != reveals[0].computed);
        (differ || abstained) && commits.iter().zip(reveals).zip(&self.nodes).all(opens)
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
    fn reveal_of(&self, a: &Aggregate, epoch: u32, t: u64, r: &Reveal, seal: &Digest) -> Digest {
        r.digest(&self.deployment, &r.outcome(a.id, epoch, t, seal))
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
        verify(
            self.mode,
            key,
            &self.reveal_of(a, epoch, t, r, seal),
            &r.signature,
        )
    }
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
        secret: [0; 32],
        salt: [0; 32],
        from: outcome.from,
        holes: holes.to_vec(),
        signature: Signature([0; 64]),
    };
    carrier.digest(d, outcome)
}
