//! The fast protocol: commit, seal, reveal, certificate (paper §3, Fig. 2B; design §3).
//!
//! Any node that holds all n commits seals, and any node that holds all n reveals certifies: leadership only says where to
//! send. Both depend on the collected messages alone, so two leaders at once are harmless.

use crate::sabotage::{Defect, on};
use crate::{Decision, Fault, Input, Output, Place, SignatureCheck, Unverified, decide};
use alloc::vec::Vec;
use diversity_proto::Digest;
use diversity_proto::NodeId;
use diversity_proto::round::{Body, Commit, Reveal};

/// The machine of one (a, t, epoch).
#[derive(Clone, Debug)]
pub struct Round {
    place: Place,
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
    /// A round at its beginning; `leader` is a node index.
    pub fn new(place: Place, leader: usize) -> Self {
        let n = place.n();
        Self {
            place,
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

    /// Takes up an own reveal of an earlier run, and with it the one seal that this node goes by (P-SEAL-3). Before any
    /// [`Round::step`] but [`Input::OwnCommit`].
    pub fn restore_reveal(&mut self, seal: Digest, reveal: Reveal) {
        self.sealed = Some(seal);
        let me = self.me();
        self.reveals[me] = Some(reveal.clone());
        self.own_reveal = Some(reveal);
    }

    /// Which round this is.
    pub fn place(&self) -> &Place {
        &self.place
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
    /// n commits and n reveals under one seal, once t is decided.
    pub fn certificate(&self) -> Option<(Digest, Vec<Commit>, Vec<Reveal>)> {
        self.decision.as_ref()?;
        Some((self.sealed?, self.all_commits()?, self.all_reveals()?))
    }
    /// The signed commits that are known, by node index.
    pub fn commits(&self) -> &[Option<Commit>] {
        &self.commits
    }
    /// Nodes whose next message this round waits for, for people.
    pub fn missing(&self) -> Vec<NodeId> {
        let lacks = |i: usize| match self.sealed {
            Some(_) => self.reveals[i].is_none(),
            None => self.commits[i].is_none(),
        };
        (0..self.place.n())
            .filter(|i| lacks(*i))
            .map(|i| self.place.committee.nodes[i])
            .collect()
    }

    /// What a node that waits through a second timeout shows to everybody: all that it has of this round (P-LEAD-2).
    pub fn show(&self) -> Vec<Body> {
        let mut bodies = Vec::new();
        match (self.sealed, self.all_commits(), self.own) {
            (Some(_), Some(commits), _) => bodies.push(Body::Seal { commits }),
            (_, _, Some(commit)) => bodies.push(Body::Commit { commit }),
            _ => {}
        }
        if let (Some(seal), Some(reveal)) = (self.sealed, self.own_reveal.clone()) {
            bodies.push(Body::Reveal { seal, reveal });
        }
        bodies
    }

    /// Which signatures of a body must be checked before it counts; `None` if it is of no use here. The sender `from` and the
    /// lists of a body are node indices and in node-index order.
    pub fn unverified(&self, from: usize, body: Body) -> Option<Unverified> {
        let n = self.place.n();
        if from >= n || from == self.me() {
            return None;
        }
        let checks = match &body {
            Body::Commit { commit } => self.commit_checks([(from, commit)].into_iter()),
            Body::Seal { commits } if commits.len() == n => {
                self.commit_checks((0..).zip(commits.iter()))
            }
            Body::Reveal { seal, reveal } if self.reveals[from].is_none() => {
                alloc::vec![self.reveal_check(from, seal, reveal)]
            }
            Body::Certificate { commits, reveals } if commits.len() == n && reveals.len() == n => {
                let mut checks = self.commit_checks((0..).zip(commits.iter()));
                let seal = self.place.seal(commits);
                for (i, r) in reveals.iter().enumerate() {
                    if self.reveals[i].as_ref() != Some(r) || self.sealed != Some(seal) {
                        checks.push(self.reveal_check(i, &seal, r));
                    }
                }
                checks
            }
            _ => return None,
        };
        Some(Unverified { from, body, checks })
    }

    fn commit_checks<'a>(
        &self,
        commits: impl Iterator<Item = (usize, &'a Commit)>,
    ) -> Vec<SignatureCheck> {
        commits
            .filter(|(i, c)| self.commits[*i].as_ref() != Some(*c))
            .map(|(i, c)| SignatureCheck {
                key: self.place.committee.keys[i],
                digest: self.place.commit_digest(i, c),
                signature: c.signature,
            })
            .collect()
    }

    fn reveal_check(&self, i: usize, seal: &Digest, r: &Reveal) -> SignatureCheck {
        SignatureCheck {
            key: self.place.committee.keys[i],
            digest: self.place.reveal_digest(r, seal),
            signature: r.signature,
        }
    }

    /// Takes one input and returns what to do, in order: [`Input::OwnCommit`] once, [`Input::OwnReveal`] once it was asked for, bodies and
    /// leaders at any time. It has no errors: whatever misbehaviour an input shows is an [`Output::Fault`].
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            // P-COMMIT-1: a commit leaves once it is durable.
            Input::OwnCommit(c) => self.own_commit_durable(c, &mut out),
            // P-REVEAL-1: a reveal leaves once it is durable.
            Input::OwnReveal(r) => self.own_reveal_durable(r, &mut out),
            Input::Body(v) => match v.body {
                // P-COMMIT-2: commits are collected by whoever gets them.
                Body::Commit { commit } => self.on_commit(v.from, commit, &mut out),
                // P-SEAL-1..3
                Body::Seal { commits } => self.on_seal(commits, &mut out),
                // P-REVEAL-2
                Body::Reveal { seal, reveal } => self.on_reveal(v.from, seal, reveal, &mut out),
                // P-CERT-1
                Body::Certificate { commits, reveals } => {
                    self.on_certificate(v.from, commits, reveals, &mut out)
                }
            },
            // P-LEAD-1: a new leader gets everything again; what was sent stays valid.
            Input::Lead(leader) => self.lead(leader, &mut out),
        }
        out
    }

    fn me(&self) -> usize {
        self.place.committee.me
    }
    fn all_commits(&self) -> Option<Vec<Commit>> {
        self.commits.iter().copied().collect()
    }
    fn all_reveals(&self) -> Option<Vec<Reveal>> {
        self.reveals.iter().cloned().collect()
    }

    fn own_commit_durable(&mut self, c: Commit, out: &mut Vec<Output>) {
        if self.own.is_some() {
            return;
        }
        self.own = Some(c);
        let me = self.me();
        // R2: our own commit came back from the network before we knew it again, and it is another one.
        if self.commits[me].is_some_and(|k| !same(&k, &c)) {
            out.push(Output::Fault(Fault::StaleStore));
            return;
        }
        self.commits[me] = Some(c);
        if self.leader != me {
            self.send_commit(self.leader, out);
        }
        if let Some(commits) = self.waiting.take() {
            self.on_seal(commits, out);
        }
        self.try_seal(out);
    }

    fn on_commit(&mut self, from: usize, commit: Commit, out: &mut Vec<Output>) {
        match self.commits[from] {
            Some(known) if same(&known, &commit) => {
                // A repeat: the sender may have missed the seal.
                if self.sealed.is_some() && self.decision.is_none() {
                    self.send_seal(Some(from), out);
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
            None => self.accept_seal(&commits, out),
            // After a restart: the reveal was given under a seal whose commits come together again only now.
            Some(seal) if self.place.seal(&commits) != seal => return,
            Some(_) => {}
        }
        self.announced = true;
        self.send_seal(None, out);
    }

    fn accept_seal(&mut self, commits: &[Commit], out: &mut Vec<Output>) {
        let seal = self.place.seal(commits);
        self.sealed = Some(seal);
        if self.own_reveal.is_none() {
            out.push(Output::MakeReveal { seal });
        }
    }

    // P-SEAL-2: go on only if the own commit is in it. P-SEAL-3: reveal under one seal per (a, t), ever.
    fn on_seal(&mut self, commits: Vec<Commit>, out: &mut Vec<Output>) {
        let Some(own) = self.own else {
            self.waiting = Some(commits);
            return;
        };
        if !same(&own, &commits[self.me()]) {
            out.push(Output::Fault(Fault::StaleStore));
            return;
        }
        let seal = self.place.seal(&commits);
        let mut differs = self.sealed.is_some_and(|s| s != seal);
        // After a restart the seal is known from the own reveal, and a second commit may have come before those under it.
        let ours = self.sealed == Some(seal);
        for (i, c) in commits.iter().enumerate() {
            match self.commits[i] {
                Some(k) if !same(&k, c) => {
                    differs = true;
                    if ours {
                        self.commits[i] = Some(*c);
                    }
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
        if !differs
            && self.sealed.is_none()
            && let Some(commits) = self.all_commits()
        {
            self.accept_seal(&commits, out);
        }
    }

    fn own_reveal_durable(&mut self, r: Reveal, out: &mut Vec<Output>) {
        if self.own_reveal.is_some() {
            return;
        }
        let me = self.me();
        self.reveals[me] = Some(r.clone());
        self.own_reveal = Some(r);
        if self.leader != me {
            self.send_reveal(self.leader, out);
        }
        self.try_decide(true, out);
    }

    fn on_reveal(&mut self, from: usize, seal: Digest, reveal: Reveal, out: &mut Vec<Output>) {
        if self.sealed != Some(seal) || self.reveals[from].is_some() {
            return;
        }
        if self.opens(from, from, seal, &reveal, out) {
            self.reveals[from] = Some(reveal);
            self.try_decide(true, out);
        }
    }

    // P-REVEAL-2: a reveal counts only if it opens the commit. Its secret is covered by no signature but by the opening hash in
    // the commit, so a wrong one speaks against nobody but who sent it (R12).
    fn opens(
        &self,
        node: usize,
        by: usize,
        seal: Digest,
        r: &Reveal,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(commit) = self.commits[node] else {
            return false;
        };
        if r.blinding.opening_hash() != commit.opening {
            let by = if on(Defect::ForgedCertificateNamesAnother) {
                node
            } else {
                by
            };
            out.push(Output::Fault(Fault::Altered { by }));
            return false;
        }
        let id = &self.place.committee.nodes[node];
        if r.computed.commitment(&self.place.subject, id, &r.blinding) != commit.commitment {
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
        by: usize,
        commits: Vec<Commit>,
        reveals: Vec<Reveal>,
        out: &mut Vec<Output>,
    ) {
        if self.decision.is_some() {
            return;
        }
        let seal = self.place.seal(&commits);
        // Also after a restart, when the seal is known and the commits under it are not.
        self.on_seal(commits, out);
        if self.sealed != Some(seal) {
            return;
        }
        let me = self.me();
        for (i, r) in reveals.into_iter().enumerate() {
            match &self.reveals[i] {
                // R2: our own signature stands under another statement than our store's.
                Some(own)
                    if i == me
                        && (!own.says_the_same(&r)
                            || *own != r && on(Defect::ForgedCertificateHalts)) =>
                {
                    out.push(Output::Fault(Fault::StaleStore));
                    return;
                }
                Some(_) => {}
                None if self.opens(i, by, seal, &r, out) => {
                    if i == me {
                        // Nobody else can have made it. A store that has lost it must not make another.
                        self.own_reveal = Some(r.clone());
                    }
                    self.reveals[i] = Some(r);
                }
                None => {}
            }
        }
        self.try_decide(false, out);
    }

    // P-REVEAL-3: what is final below t is the same for all, so a reveal of another range counts as silence.
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
        let (Some(reveals), Some(commits)) = (self.all_reveals(), self.all_commits()) else {
            return;
        };
        let decision = decide(reveals.iter());
        self.decision = Some(decision.clone());
        if collected {
            out.push(Output::Send {
                to: None,
                body: Body::Certificate { commits, reveals },
            });
        }
        out.push(Output::Decided(decision));
    }

    fn lead(&mut self, leader: usize, out: &mut Vec<Output>) {
        self.leader = leader;
        if self.decision.is_some() {
            return;
        }
        if leader == self.me() {
            if self.sealed.is_some() {
                self.send_seal(None, out);
            }
            return;
        }
        self.send_commit(leader, out);
        if self.own_reveal.is_some() {
            // The new leader may not have the seal either: it is made of commits that it can check itself.
            self.send_seal(Some(leader), out);
            self.send_reveal(leader, out);
        }
    }

    fn send_commit(&self, to: usize, out: &mut Vec<Output>) {
        if let Some(commit) = self.own {
            out.push(Output::Send {
                to: Some(to),
                body: Body::Commit { commit },
            });
        }
    }
    fn send_seal(&self, to: Option<usize>, out: &mut Vec<Output>) {
        if let Some(commits) = self.all_commits() {
            out.push(Output::Send {
                to,
                body: Body::Seal { commits },
            });
        }
    }
    fn send_reveal(&self, to: usize, out: &mut Vec<Output>) {
        if let (Some(seal), Some(reveal)) = (self.sealed, self.own_reveal.clone()) {
            out.push(Output::Send {
                to: Some(to),
                body: Body::Reveal { seal, reveal },
            });
        }
    }
}

fn same(a: &Commit, b: &Commit) -> bool {
    (a.commitment, a.opening) == (b.commitment, b.opening)
}
