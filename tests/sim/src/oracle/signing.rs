//! N3: at most one message is ever signed per (node, a, t, config, phase).

use diversity_proto::round::{PublicNonce, Session, Subject};
use diversity_proto::terms::config;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId};
use std::collections::BTreeMap;

/// What a signature is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Commit,
    /// The outcome and, through its context, the seal: one reveal under one seal, ever (P-SEAL-3).
    Reveal,
    /// What all attempts of one range sign with MuSig2.
    Aggregate {
        from: u64,
    },
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

    /// A node signed a commit.
    pub fn committed(
        &mut self,
        node: usize,
        subject: &Subject,
        digest: Digest,
    ) -> Result<(), String> {
        self.record(node, subject.config, subject.t, Phase::Commit, digest)
    }

    /// A node signs with a secret nonce.
    pub fn musig(
        &mut self,
        node: usize,
        s: &Session,
        nonce: &PublicNonce,
        digest: Digest,
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
        let c = config(&self.deployment, &s.agreement, 0);
        self.record(node, c, s.t, Phase::Aggregate { from: s.from }, digest)
    }

    /// A part leaves a node: whatever of its own it carries is signed.
    pub fn leaves(&mut self, node: usize, part: &Part) -> Result<(), String> {
        let d = self.deployment;
        match part {
            Part::Commit {
                agreement,
                epoch,
                t,
                commit,
            } => {
                let s = Subject {
                    deployment: d,
                    config: config(&d, agreement, *epoch),
                    t: *t,
                };
                self.committed(node, &s, commit.digest(&s, &self.nodes[node]))
            }
            Part::Seal {
                agreement,
                epoch,
                t,
                commits,
            } => {
                let Some(own) = self.index(agreement, node).and_then(|i| commits.get(i)) else {
                    return Ok(());
                };
                let s = Subject {
                    deployment: d,
                    config: config(&d, agreement, *epoch),
                    t: *t,
                };
                self.committed(node, &s, own.digest(&s, &self.nodes[node]))
            }
            Part::Reveal {
                agreement,
                epoch,
                t,
                seal,
                reveal,
            } => {
                let digest = reveal.digest(&d, &reveal.outcome(*agreement, *epoch, *t, seal));
                self.record(
                    node,
                    config(&d, agreement, *epoch),
                    *t,
                    Phase::Reveal,
                    digest,
                )
            }
            Part::Certificate {
                agreement,
                epoch,
                t,
                commits,
                reveals,
            } => {
                let s = Subject {
                    deployment: d,
                    config: config(&d, agreement, *epoch),
                    t: *t,
                };
                let Some((i, own)) = self
                    .index(agreement, node)
                    .and_then(|i| Some((i, reveals.get(i)?)))
                else {
                    return Ok(());
                };
                let digests: Vec<_> = commits
                    .iter()
                    .zip(&self.members[agreement])
                    .map(|(c, n)| c.digest(&s, &self.nodes[*n]))
                    .collect();
                let seal = diversity_proto::round::seal(&s, &digests);
                let digest = own.digest(&d, &own.outcome(*agreement, *epoch, *t, &seal));
                if let Some(own) = digests.get(i) {
                    self.committed(node, &s, *own)?;
                }
                self.record(node, s.config, *t, Phase::Reveal, digest)
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
}
