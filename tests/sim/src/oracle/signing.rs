//! N3: at most one message is ever signed per (node, a, t, config, phase).

use diversity_proto::round::{Body, Commit, PublicNonce, Reveal, Session, Subject, seal_of};
use diversity_proto::terms::config;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// What a signature is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Commit,
    /// The outcome and, through its context, the seal: one reveal under one seal, ever (P-SEAL-3).
    Reveal,
    /// Which sensors were open: one list for each reading.
    Held,
    /// One nonce of each node, so one partial. (Attempts are counted anew after a restart; the nonces are fresh all the same.)
    Partial {
        nonce_set: Digest,
    },
}

/// Every digest that honest nodes signed, across their crashes.
pub struct Signing {
    deployment: Deployment,
    nodes: Vec<NodeId>,
    /// Who is in an agreement, in node-index order.
    members: BTreeMap<AgreementId, Vec<usize>>,
    honest: Vec<bool>,
    signed: BTreeMap<(usize, Digest, u64, Phase), Digest>,
    /// Public nonces that an honest node has used up.
    nonces: BTreeMap<(usize, Vec<u8>), Digest>,
    /// What a node signed with MuSig2 for a range.
    aggregates: BTreeMap<(usize, AgreementId, u64, u64), BTreeSet<Digest>>,
}

impl Signing {
    /// Nothing is signed yet.
    pub fn new(
        deployment: Deployment,
        nodes: Vec<NodeId>,
        members: BTreeMap<AgreementId, Vec<usize>>,
        honest: Vec<bool>,
    ) -> Self {
        Self {
            deployment,
            nodes,
            members,
            honest,
            signed: BTreeMap::new(),
            nonces: BTreeMap::new(),
            aggregates: BTreeMap::new(),
        }
    }

    fn record(
        &mut self,
        node: usize,
        config: Digest,
        t: u64,
        phase: Phase,
        digest: Digest,
    ) -> Result<(), String> {
        if !self.honest[node] {
            return Ok(());
        }
        match self.signed.insert((node, config, t, phase.clone()), digest) {
            Some(before) if before != digest => Err(format!(
                "node {node} signed {digest} for t {t}, phase {phase:?}, and {before} before"
            )),
            _ => Ok(()),
        }
    }

    fn index(&self, a: &AgreementId, node: usize) -> Option<usize> {
        self.members.get(a)?.iter().position(|m| *m == node)
    }

    /// A commit of a node is on its disk, or leaves.
    pub fn committed(
        &mut self,
        node: usize,
        subject: &Subject,
        digest: Digest,
    ) -> Result<(), String> {
        self.record(node, subject.config, subject.t, Phase::Commit, digest)
    }

    /// A node signs with a secret nonce. `words` says how often what was said of a t has begun another epoch: the outcomes of one
    /// range may be others then.
    pub fn musig(
        &mut self,
        node: usize,
        s: &Session,
        nonce: &PublicNonce,
        digest: Digest,
        words: u32,
    ) -> Result<(), String> {
        if !self.honest[node] {
            return Ok(());
        }
        if self.nonces.insert((node, nonce.to_vec()), digest).is_some() {
            return Err(format!(
                "node {node} signed twice with one secret nonce (t {}, attempt {})",
                s.t, s.attempt
            ));
        }
        let range = (node, s.agreement, s.from, s.t);
        let digests = self.aggregates.entry(range).or_default();
        digests.insert(digest);
        if digests.len() > 1 + words as usize {
            return Err(format!(
                "node {node} signed {} aggregates of {}..={}",
                digests.len(),
                s.from,
                s.t
            ));
        }
        Ok(())
    }

    /// A part leaves a node: whatever of its own it carries is signed.
    pub fn leaves(&mut self, node: usize, part: &Part) -> Result<(), String> {
        let d = self.deployment;
        match part {
            Part::Round {
                agreement,
                epoch,
                t,
                body,
            } => {
                let s = Subject {
                    deployment: d,
                    config: config(&d, agreement, *epoch),
                    t: *t,
                };
                let at = (*agreement, *epoch, *t);
                self.body_leaves(node, &s, at, body)
            }
            Part::Held {
                agreement,
                epoch,
                t,
                held,
            } => {
                let s = Subject {
                    deployment: d,
                    config: config(&d, agreement, *epoch),
                    t: *t,
                };
                let digest = held.digest(&s, &self.nodes[node]);
                self.record(node, s.config, *t, Phase::Held, digest)
            }
            Part::Partial {
                session,
                nonce_set,
                partial,
                ..
            } => {
                let c = config(&d, &session.agreement, 0);
                let phase = Phase::Partial {
                    nonce_set: *nonce_set,
                };
                self.record(node, c, session.t, phase, Digest(*partial))
            }
            _ => Ok(()),
        }
    }

    fn body_leaves(
        &mut self,
        node: usize,
        s: &Subject,
        (a, epoch, t): (AgreementId, u32, u64),
        body: &Body,
    ) -> Result<(), String> {
        let me = self.index(&a, node);
        let own = |commits: &[Commit]| me.and_then(|i| commits.get(i)).copied();
        match body {
            Body::Commit { commit } => self.committed(node, s, commit.digest(s, &self.nodes[node])),
            Body::Seal { commits } => match own(commits) {
                Some(c) => self.committed(node, s, c.digest(s, &self.nodes[node])),
                None => Ok(()),
            },
            Body::Reveal { seal, reveal } => self.revealed(node, s, (a, epoch, t), seal, reveal),
            Body::Certificate { commits, reveals } => {
                let Some(reveal) = me.and_then(|i| reveals.get(i)) else {
                    return Ok(());
                };
                let nodes: Vec<_> = self.members[&a].iter().map(|n| self.nodes[*n]).collect();
                let seal = seal_of(s, &nodes, commits);
                if let Some(c) = own(commits) {
                    self.committed(node, s, c.digest(s, &self.nodes[node]))?;
                }
                self.revealed(node, s, (a, epoch, t), &seal, reveal)
            }
        }
    }

    fn revealed(
        &mut self,
        node: usize,
        s: &Subject,
        (a, epoch, t): (AgreementId, u32, u64),
        seal: &Digest,
        reveal: &Reveal,
    ) -> Result<(), String> {
        let digest = reveal.digest(&self.deployment, &reveal.outcome(a, epoch, t, seal));
        self.record(node, s.config, t, Phase::Reveal, digest)
    }

    /// This node's operator put back an old copy of its disk: it may sign twice (R2).
    pub fn excuse(&mut self, node: usize) {
        self.honest[node] = false;
    }
}
