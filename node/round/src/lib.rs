//! One round of the fast protocol for one (a, t): commit, seal, reveal, certificate (design §3; paper §3, Fig. 2B).
//!
//! [`Round::step`] is given what its node computed and what others sent, **every signature already verified**, and returns
//! what to do. It has no clock: the pacemaker above it says who leads ([`Input::Lead`]) and when to try again.
//!
//! Any node that holds all n commits seals, and any node that holds all n reveals certifies: leadership only says where to
//! send. Both depend on the collected messages alone, so two leaders at once are harmless. Rules cited are those of `docs/protocol.md`.
#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use diversity_proto::round::{Commit, Computed, OutputKind, Reveal, Subject, opening_hash, seal};
use diversity_proto::{Digest, NodeId};

/// What a round is told.
#[derive(Clone, Debug)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Input {
    /// This node's own commit is durable.
    OwnCommit(Commit),
    /// This node's own reveal under the seal is durable.
    OwnReveal(Reveal),
    /// A node's commit.
    Commit { from: usize, commit: Commit },
    /// n commits in node-index order.
    Seal { commits: Vec<Commit> },
    /// A node's reveal under the named seal.
    Reveal {
        from: usize,
        seal: Digest,
        reveal: Reveal,
    },
    /// n commits and n reveals in node-index order.
    Certificate {
        commits: Vec<Commit>,
        reveals: Vec<Reveal>,
    },
    /// This node leads now; send it what it may lack.
    Lead(usize),
}

/// What a round wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Output {
    /// Send the own commit to this node.
    SendCommit { to: usize },
    /// Send the seal to this node, or to all others.
    SendSeal { to: Option<usize> },
    /// Make and persist the own reveal under this seal as soon as the status of t-1 is known. Asked for once.
    MakeReveal { seal: Digest },
    /// Send the own reveal to this node.
    SendReveal { to: usize },
    /// Send the certificate to all others (this node collected it).
    SendCertificate,
    /// The status of t is fixed.
    Decided(Decision),
    /// Somebody misbehaved.
    Fault(Fault),
}

/// The status of t, fixed by its n reveals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All equal: one outcome.
    Outcome,
    /// Unequal reveals, or nobody vouches for an output: a hole.
    Hole {
        /// Whether state' is equal in all reveals, so that t+1 goes on.
        state_agreed: bool,
        /// Whether every node abstained (R8): then nothing is in dispute.
        all_abstained: bool,
    },
}

/// A peer's misbehaviour is a value. Only the variants with two signed statements are evidence (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Fault {
    /// Two commits of one node for one (a, t, config).
    Equivocation {
        node: usize,
        first: Commit,
        second: Commit,
    },
    /// A reveal whose secret and salt are the committed ones and whose fields do not open the commitment.
    FalseOpening {
        node: usize,
        commit: Commit,
        reveal: Reveal,
        seal: Digest,
    },
    /// Secret or salt are not the committed ones: treated like silence.
    WrongSecret { node: usize },
    /// A reveal that speaks from another t, or of other holes, than the statuses below t say: treated like silence.
    WrongRange { node: usize },
    /// The others hold a commit or reveal of this node that it does not know: its store is older than what it has signed (R2).
    StaleStore,
}

/// The machine of one (a, t).
#[derive(Clone, Debug)]
pub struct Round {
    subject: Subject,
    nodes: Vec<NodeId>,
    me: usize,
    leader: usize,
    own: Option<Commit>,
    commits: Vec<Option<Commit>>,
    sealed: Option<Digest>,
    announced: bool,
    waiting: Option<Vec<Commit>>,
    own_reveal: Option<Reveal>,
    reveals: Vec<Option<Reveal>>,
    decision: Option<Decision>,
}

impl Round {
    /// A round among `nodes` (node-index order), seen by node `me`.
    pub fn new(subject: Subject, nodes: Vec<NodeId>, me: usize, leader: usize) -> Self {
        let n = nodes.len();
        Self {
            subject,
            nodes,
            me,
            leader,
            own: None,
            commits: alloc::vec![None; n],
            sealed: None,
            announced: false,
            waiting: None,
            own_reveal: None,
            reveals: alloc::vec![None; n],
            decision: None,
        }
    }

    /// The seal that this node goes by.
    pub fn sealed(&self) -> Option<Digest> {
        self.sealed
    }
    /// Whether this node's own commit is known.
    pub fn committed(&self) -> bool {
        self.own.is_some()
    }
    /// Whether this node's own reveal is known.
    pub fn revealed(&self) -> bool {
        self.own_reveal.is_some()
    }
    /// The own commit.
    pub fn own_commit(&self) -> Option<&Commit> {
        self.own.as_ref()
    }
    /// The own reveal.
    pub fn own_reveal(&self) -> Option<&Reveal> {
        self.own_reveal.as_ref()
    }
    /// The status of t, once fixed.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }
    /// The verified commit of a node, if it is here.
    pub fn commit_of(&self, node: usize) -> Option<&Commit> {
        self.commits.get(node)?.as_ref()
    }
    /// The verified reveal of a node, if it is here.
    pub fn reveal_of(&self, node: usize) -> Option<&Reveal> {
        self.reveals.get(node)?.as_ref()
    }
    /// All commits, once all are here.
    pub fn all_commits(&self) -> Option<Vec<Commit>> {
        self.commits.iter().copied().collect()
    }
    /// All reveals, once all are here.
    pub fn all_reveals(&self) -> Option<Vec<Reveal>> {
        self.reveals.iter().cloned().collect()
    }
    /// Nodes whose next message this round waits for, for people.
    pub fn missing(&self) -> Vec<NodeId> {
        let lacks = |i: usize| {
            if self.sealed.is_some() {
                self.reveals[i].is_none()
            } else {
                self.commits[i].is_none()
            }
        };
        (0..self.nodes.len())
            .filter(|i| lacks(*i))
            .map(|i| self.nodes[i])
            .collect()
    }

    /// Takes one input and returns what to do, in order.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            // P-COMMIT-1: a commit leaves once it is durable.
            Input::OwnCommit(c) => self.own_commit_durable(c, &mut out),
            // P-COMMIT-2: commits are collected by whoever gets them.
            Input::Commit { from, commit } => self.on_commit(from, commit, &mut out),
            // P-SEAL-1..3
            Input::Seal { commits } => self.on_seal(commits, &mut out),
            // P-REVEAL-1: a reveal leaves once it is durable.
            Input::OwnReveal(r) => self.own_reveal_durable(r, &mut out),
            // P-REVEAL-2
            Input::Reveal { from, seal, reveal } => self.on_reveal(from, seal, reveal, &mut out),
            // P-CERT-1
            Input::Certificate { commits, reveals } => {
                self.on_certificate(commits, reveals, &mut out)
            }
            // P-LEAD-1: a new leader gets everything again; what was sent stays valid.
            Input::Lead(leader) => self.lead(leader, &mut out),
        }
        out
    }

    fn own_commit_durable(&mut self, c: Commit, out: &mut Vec<Output>) {
        if self.own.is_some() {
            return;
        }
        self.own = Some(c);
        // R2: our own commit came back from the network before we knew it again, and it is another one.
        if self.commits[self.me]
            .is_some_and(|k| (k.commitment, k.opening) != (c.commitment, c.opening))
        {
            out.push(Output::Fault(Fault::StaleStore));
            return;
        }
        self.commits[self.me] = Some(c);
        if self.leader != self.me {
            out.push(Output::SendCommit { to: self.leader });
        }
        if let Some(commits) = self.waiting.take() {
            self.on_seal(commits, out);
        }
        self.try_seal(out);
    }

    fn on_commit(&mut self, from: usize, commit: Commit, out: &mut Vec<Output>) {
        if from == self.me {
            return;
        }
        match self.commits[from] {
            Some(known) if same(&known, &commit) => {
                // A repeat: the sender may have missed the seal.
                if self.sealed.is_some() && self.decision.is_none() {
                    out.push(Output::SendSeal { to: Some(from) });
                }
            }
            Some(known) => out.push(Output::Fault(Fault::Equivocation {
                node: from,
                first: known,
                second: commit,
            })),
            None => {
                self.commits[from] = Some(commit);
                self.try_seal(out);
            }
        }
    }

    // P-SEAL-1: whoever holds all n commits, its own among them, seals.
    fn try_seal(&mut self, out: &mut Vec<Output>) {
        if self.announced || self.own.is_none() || self.decision.is_some() {
            return;
        }
        let Some(commits) = self.all_commits() else {
            return;
        };
        match self.sealed {
            None => self.accept_seal(out),
            // After a restart: the reveal was given under a seal whose commits come together again only now.
            Some(seal) if self.seal_of(&commits) != seal => return,
            Some(_) => {}
        }
        self.announced = true;
        out.push(Output::SendSeal { to: None });
    }

    /// Takes up an own reveal of an earlier run, and with it the one seal that this node goes by (P-SEAL-3).
    pub fn restore_reveal(&mut self, seal: Digest, reveal: Reveal) {
        self.sealed = Some(seal);
        self.reveals[self.me] = Some(reveal.clone());
        self.own_reveal = Some(reveal);
    }

    fn accept_seal(&mut self, out: &mut Vec<Output>) {
        let commits = self.all_commits().expect("all n commits are here");
        let seal = self.seal_of(&commits);
        self.sealed = Some(seal);
        if self.own_reveal.is_none() {
            out.push(Output::MakeReveal { seal });
        }
    }

    /// The seal over these commits.
    pub fn seal_of(&self, commits: &[Commit]) -> Digest {
        let digests: Vec<_> = commits
            .iter()
            .zip(&self.nodes)
            .map(|(c, n)| c.digest(&self.subject, n))
            .collect();
        seal(&self.subject, &digests)
    }

    // P-SEAL-2: go on only if the own commit is in it. P-SEAL-3: reveal under one seal per (a, t), ever.
    fn on_seal(&mut self, commits: Vec<Commit>, out: &mut Vec<Output>) {
        if commits.len() != self.nodes.len() {
            return;
        }
        let Some(own) = self.own else {
            self.waiting = Some(commits);
            return;
        };
        if !same(&own, &commits[self.me]) {
            out.push(Output::Fault(Fault::StaleStore));
            return;
        }
        let seal = self.seal_of(&commits);
        let mut differs = self.sealed.is_some_and(|s| s != seal);
        for (i, c) in commits.iter().enumerate() {
            match self.commits[i] {
                Some(k) if !same(&k, c) => {
                    differs = true;
                    out.push(Output::Fault(Fault::Equivocation {
                        node: i,
                        first: k,
                        second: *c,
                    }));
                }
                Some(_) => {}
                // Under another seal than ours nothing is taken over: it would hide who signed twice.
                None if differs => {}
                None => self.commits[i] = Some(*c),
            }
        }
        if !differs && self.sealed.is_none() && self.commits.iter().all(Option::is_some) {
            self.accept_seal(out);
        }
    }

    fn own_reveal_durable(&mut self, r: Reveal, out: &mut Vec<Output>) {
        if self.own_reveal.is_some() {
            return;
        }
        self.reveals[self.me] = Some(r.clone());
        self.own_reveal = Some(r);
        if self.leader != self.me {
            out.push(Output::SendReveal { to: self.leader });
        }
        self.try_decide(true, out);
    }

    fn on_reveal(&mut self, from: usize, seal: Digest, reveal: Reveal, out: &mut Vec<Output>) {
        if from == self.me || self.sealed != Some(seal) || self.reveals[from].is_some() {
            return;
        }
        if self.opens(from, seal, &reveal, out) {
            self.reveals[from] = Some(reveal);
            self.try_decide(true, out);
        }
    }

    // P-REVEAL-2: a reveal counts only if it opens the commit.
    fn opens(&self, node: usize, seal: Digest, r: &Reveal, out: &mut Vec<Output>) -> bool {
        let Some(commit) = self.commits[node] else {
            return false;
        };
        if opening_hash(&r.secret, &r.salt) != commit.opening {
            out.push(Output::Fault(Fault::WrongSecret { node }));
            return false;
        }
        if r.computed
            .commitment(&self.subject, &self.nodes[node], &r.secret, &r.salt)
            != commit.commitment
        {
            out.push(Output::Fault(Fault::FalseOpening {
                node,
                commit,
                reveal: r.clone(),
                seal,
            }));
            return false;
        }
        true
    }

    fn on_certificate(
        &mut self,
        commits: Vec<Commit>,
        reveals: Vec<Reveal>,
        out: &mut Vec<Output>,
    ) {
        if self.decision.is_some()
            || commits.len() != self.nodes.len()
            || reveals.len() != self.nodes.len()
        {
            return;
        }
        let seal = self.seal_of(&commits);
        // Also after a restart, when the seal is known and the commits under it are not.
        self.on_seal(commits, out);
        if self.sealed != Some(seal) {
            return;
        }
        for (i, r) in reveals.into_iter().enumerate() {
            if i == self.me {
                // R2: nobody else can have made it. A store that has lost it must not make another.
                match &self.own_reveal {
                    Some(own) if *own == r => {}
                    Some(_) => {
                        out.push(Output::Fault(Fault::StaleStore));
                        return;
                    }
                    None => {
                        self.own_reveal = Some(r.clone());
                        self.reveals[i] = Some(r);
                    }
                }
            } else if self.reveals[i].is_none() && self.opens(i, seal, &r, out) {
                self.reveals[i] = Some(r);
            }
        }
        self.try_decide(false, out);
    }

    // P-REVEAL-3: `from` and `holes` follow from the statuses below t, which whoever has made its own reveal knows. What another
    // node signs there beside the truth counts as silence, so the status of t is a function of the seal alone.
    fn drop_wrong_ranges(&mut self, out: &mut Vec<Output>) {
        let Some(own) = &self.own_reveal else { return };
        let (from, holes) = (own.from, own.holes.clone());
        for (node, slot) in self.reveals.iter_mut().enumerate() {
            if slot
                .as_ref()
                .is_some_and(|r| r.from != from || r.holes != holes)
            {
                *slot = None;
                out.push(Output::Fault(Fault::WrongRange { node }));
            }
        }
    }

    // P-CERT-1: all equal → outcome; unequal → hole.
    fn try_decide(&mut self, collected: bool, out: &mut Vec<Output>) {
        if self.decision.is_some() || self.own_reveal.is_none() {
            return;
        }
        self.drop_wrong_ranges(out);
        if self.reveals.iter().any(Option::is_none) {
            return;
        }
        let decision = decide(self.reveals.iter().flatten());
        self.decision = Some(decision.clone());
        if collected {
            out.push(Output::SendCertificate);
        }
        out.push(Output::Decided(decision));
    }

    fn lead(&mut self, leader: usize, out: &mut Vec<Output>) {
        self.leader = leader;
        if self.decision.is_some() {
            return;
        }
        if leader == self.me {
            if self.sealed.is_some() {
                out.push(Output::SendSeal { to: None });
            }
            return;
        }
        if self.own.is_some() {
            out.push(Output::SendCommit { to: leader });
        }
        if self.own_reveal.is_some() {
            // The new leader may not have the seal either: it is made of commits that it can check itself.
            out.push(Output::SendSeal { to: Some(leader) });
            out.push(Output::SendReveal { to: leader });
        }
    }
}

fn same(a: &Commit, b: &Commit) -> bool {
    (a.commitment, a.opening) == (b.commitment, b.opening)
}

/// The status that n reveals fix.
pub fn decide<'a>(reveals: impl Iterator<Item = &'a Reveal> + Clone) -> Decision {
    let key = |r: &'a Reveal| -> (&'a Computed, u64, &'a [u64]) { (&r.computed, r.from, &r.holes) };
    let mut all = reveals.clone().map(key);
    let first = all.next().expect("n is at least two");
    let equal = all.all(|k| k == first);
    if equal && first.0.kind != OutputKind::Abstain {
        return Decision::Outcome;
    }
    let mut states = reveals.clone().map(|r| r.computed.state);
    let state = states.next().expect("n is at least two");
    Decision::Hole {
        state_agreed: states.all(|s| s == state),
        all_abstained: reveals
            .clone()
            .all(|r| r.computed.kind == OutputKind::Abstain),
    }
}
