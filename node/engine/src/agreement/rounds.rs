//! The rounds of an agreement, one for each t that is not decided (docs/protocol.md, The round): which messages they need,
//! who leads, and what they want done.

use crate::agreement::Cx;
use crate::agreement::history::History;
use crate::agreement::pacemaker::Pacemaker;
use crate::agreement::setting::Setting;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{LOOKAHEAD, Notice, SignatureCheck};
use diversity_proto::round::{Body, Commit, Reveal};
use diversity_proto::wire::Part;
use diversity_proto::{Digest, NodeId};
use diversity_round::{Decision, Fault, Input, Output, Round, Unverified, Verified};

/// For how many decided t a second commit of a node is still recognised as one.
const LATE_MAX: usize = 16;

/// What becomes of a body that came from another node.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Judgement {
    /// It is of no use (any more).
    Nothing,
    /// The sender still works on a t that is decided here: it gets the certificate (P-CERT-2).
    Certificate,
    /// It counts if these signatures are good.
    Check(Unverified),
    /// A second commit for a decided t, if this signature is good.
    Late(SignatureCheck, Fault),
}

/// What the rounds want from the rest of the agreement.
pub(crate) enum Wish {
    /// A body for this node, or for all others.
    Send(u64, Option<usize>, Body),
    /// The status of the first undecided t is fixed.
    Decided(Certified),
    /// Somebody misbehaved at t.
    Fault(u64, Fault),
}

/// The n commits and reveals that fixed the status of a t.
pub(crate) struct Certified {
    pub t: u64,
    pub decision: Decision,
    pub seal: Digest,
    pub commits: Vec<Commit>,
    pub reveals: Vec<Reveal>,
}

/// The rounds of the first reading.
#[derive(Default)]
pub(crate) struct Rounds {
    rounds: BTreeMap<u64, Round>,
    pacemaker: Pacemaker,
    /// The t whose reveal is being signed or made durable.
    revealing: Option<u64>,
    /// Own reveals of an earlier run.
    restored: BTreeMap<u64, (Digest, Reveal)>,
    /// Commits of the last decided t, with their epoch.
    late: BTreeMap<u64, (u32, Vec<Commit>)>,
}

impl Rounds {
    // ---- state

    /// An own reveal of an earlier run; before its commit is told again with [`Rounds::own_commit`].
    pub fn restore_reveal(&mut self, t: u64, seal: Digest, reveal: Reveal) {
        self.restored.insert(t, (seal, reveal));
    }
    /// A certificate of an earlier run: t is decided.
    pub fn restore_decided(&mut self, epoch: u32, t: u64, commits: Vec<Commit>) {
        self.restored.remove(&t);
        self.keep_late(epoch, t, commits);
    }
    /// Another epoch counts from here on: what is not decided starts anew.
    pub fn start_anew(&mut self) {
        self.rounds.clear();
        self.restored.clear();
        self.revealing = None;
        self.pacemaker.progress();
    }

    pub fn view(&self) -> u32 {
        self.pacemaker.view()
    }
    /// Whether this node has committed to a t that is not decided.
    pub fn waits(&self, h: &History) -> bool {
        self.rounds.range(h.next()..).any(|(_, r)| r.committed())
    }
    /// Nodes whose next message the first undecided round waits for, once this node has committed.
    pub fn missing(&self, h: &History) -> Vec<NodeId> {
        let round = self.rounds.get(&h.next()).filter(|r| r.committed());
        round.map(Round::missing).unwrap_or_default()
    }
    /// The seal under which the own reveal of the next t is due: sealed, and nothing revealed yet.
    pub fn reveal_due(&self, h: &History) -> Option<Digest> {
        if self.revealing == Some(h.next()) {
            return None;
        }
        let round = self.rounds.get(&h.next()).filter(|r| !r.revealed())?;
        round.sealed()
    }
    /// The own reveal of the next t is on its way.
    pub fn revealing(&mut self, t: u64) {
        self.revealing = Some(t);
    }

    // ---- messages

    /// What a body of another node needs before it counts.
    pub fn judge(
        &mut self,
        from: usize,
        epoch: u32,
        t: u64,
        body: Body,
        h: &History,
        s: &Setting,
    ) -> Judgement {
        if t < h.next() {
            return self.judge_late(from, epoch, t, &body, s);
        }
        // The certificate of a later t is of no use before those of all t below.
        let certificate = matches!(body, Body::Certificate { .. });
        if epoch != h.epoch() || t >= h.next() + LOOKAHEAD || certificate && t != h.next() {
            return Judgement::Nothing;
        }
        let round = self.round(t, h, s);
        match round.unverified(from, body) {
            Some(u) => Judgement::Check(u),
            None => Judgement::Nothing,
        }
    }

    // P-COMMIT-2: a second commit is evidence whenever it comes.
    fn judge_late(&self, from: usize, epoch: u32, t: u64, body: &Body, s: &Setting) -> Judgement {
        // A commit under another epoch is another statement: two of them contradict nothing.
        let known = self.late.get(&t).filter(|(of, _)| *of == epoch);
        if let (Body::Commit { commit }, Some((_, known))) = (body, known)
            && let Some(first) = known.get(from)
            && (first.commitment, first.opening) != (commit.commitment, commit.opening)
        {
            let place = s.place(epoch, t);
            let check = SignatureCheck {
                key: s.committee.keys[from],
                digest: place.commit_digest(from, commit),
                signature: commit.signature,
            };
            let fault = Fault::Equivocation {
                node: from,
                first: *first,
                second: *commit,
            };
            return Judgement::Late(check, fault);
        }
        match body {
            Body::Certificate { .. } => Judgement::Nothing,
            _ => Judgement::Certificate,
        }
    }

    /// A body whose signatures are good.
    pub fn body(
        &mut self,
        epoch: u32,
        t: u64,
        body: Verified,
        h: &History,
        cx: &mut Cx<'_>,
    ) -> Vec<Wish> {
        // Much may have been decided while the signatures were checked.
        if epoch != h.epoch() || t < h.next() {
            return Vec::new();
        }
        if body.is_seal() {
            self.follow(t, body.from(), cx.setting);
        }
        self.feed(t, Input::Body(body), h, cx)
    }

    /// The own commit of t is durable (P-COMMIT-1).
    pub fn own_commit(&mut self, t: u64, c: Commit, h: &History, cx: &mut Cx<'_>) -> Vec<Wish> {
        let wishes = self.feed(t, Input::OwnCommit(c), h, cx);
        // P-SEAL-3: what an earlier run revealed, it revealed under the one seal that counts.
        if let Some((seal, reveal)) = self.restored.remove(&t)
            && let Some(round) = self.rounds.get_mut(&t)
        {
            round.restore_reveal(seal, reveal);
        }
        self.arm(h, cx);
        wishes
    }

    /// The own reveal of t is durable (P-REVEAL-1).
    pub fn own_reveal(&mut self, t: u64, r: Reveal, h: &History, cx: &mut Cx<'_>) -> Vec<Wish> {
        self.feed(t, Input::OwnReveal(r), h, cx)
    }

    fn round(&mut self, t: u64, h: &History, s: &Setting) -> &mut Round {
        let leader = s.leader(t, self.pacemaker.view());
        self.rounds
            .entry(t)
            .or_insert_with(|| Round::new(s.place(h.epoch(), t), leader))
    }

    fn feed(&mut self, t: u64, input: Input, h: &History, cx: &mut Cx<'_>) -> Vec<Wish> {
        if t < h.next() || t >= h.next() + LOOKAHEAD {
            return Vec::new();
        }
        let round = self.round(t, h, cx.setting);
        let mut wishes = Vec::new();
        for output in round.step(input) {
            wishes.push(match output {
                Output::Send { to, body } => Wish::Send(t, to, body),
                // Asked for by [`Rounds::reveal_due`].
                Output::MakeReveal { .. } => continue,
                Output::Fault(fault) => Wish::Fault(t, fault),
                Output::Decided(decision) => {
                    let (seal, commits, reveals) =
                        round.certificate().expect("a decided round has all of it");
                    Wish::Decided(Certified {
                        t,
                        decision,
                        seal,
                        commits,
                        reveals,
                    })
                }
            });
        }
        wishes
    }

    /// The status of t is known and applied: its round is over.
    pub fn over(&mut self, t: u64, commits: Vec<Commit>, h: &History, cx: &mut Cx<'_>) {
        self.rounds.remove(&t);
        self.revealing = None;
        self.keep_late(h.epoch(), t, commits);
        self.pacemaker.progress();
        cx.timers.clear(Timer::Leader);
        self.arm(h, cx);
    }

    fn keep_late(&mut self, epoch: u32, t: u64, commits: Vec<Commit>) {
        self.late.insert(t, (epoch, commits));
        while self.late.len() > LATE_MAX {
            self.late.pop_first();
        }
    }

    // ---- leaders

    /// Something waits for others from now on.
    pub fn arm(&mut self, h: &History, cx: &mut Cx<'_>) {
        if self.waits(h) {
            let due = cx.io.now + cx.setting.backoff(self.pacemaker.fails());
            cx.timers.start(Timer::Leader, due);
        }
    }

    /// P-LEAD-1: a silent leader is followed by the next; commits, seals and reveals stay valid.
    pub fn take_over(&mut self, h: &History, cx: &mut Cx<'_>) -> Vec<Wish> {
        if !self.waits(h) {
            self.pacemaker.progress();
            return Vec::new();
        }
        self.pacemaker.timeout(cx.setting.n());
        self.arm(h, cx);
        let (t, view) = (h.next(), self.pacemaker.view());
        cx.io.notice(Notice::TakeOver {
            agreement: cx.setting.id,
            t,
            view,
            leader: cx.setting.node(cx.setting.leader(t, view)),
        });
        let ts: Vec<u64> = self.rounds.keys().copied().collect();
        let mut wishes = Vec::new();
        for t in ts {
            let leader = cx.setting.leader(t, view);
            wishes.extend(self.feed(t, Input::Lead(leader), h, cx));
        }
        if self.pacemaker.stuck() {
            wishes.extend(self.show_all(h));
        }
        wishes
    }

    // P-LEAD-2: views may have drifted apart for good. Whoever waits through a second timeout shows all that it has of the
    // first undecided t to everybody: any node that holds all n commits seals, any that holds all n reveals certifies.
    fn show_all(&self, h: &History) -> Vec<Wish> {
        let round = self.rounds.get(&h.next()).filter(|r| r.committed());
        let bodies = round.map(Round::show).unwrap_or_default();
        let all = |body| Wish::Send(h.next(), None, body);
        bodies.into_iter().map(all).collect()
    }

    // Who sealed or certified leads: nodes whose views drifted apart meet again.
    fn follow(&mut self, t: u64, from: usize, s: &Setting) {
        let leader = s.leader(t, self.pacemaker.view());
        if leader == s.me() {
            return; // The others bring a new leader what it may lack.
        }
        let n = s.n();
        self.pacemaker.follow((from + n - leader) % n, n);
    }
}

/// The part that carries a body.
pub(crate) fn part(s: &Setting, epoch: u32, t: u64, body: Body) -> Part {
    Part::Round {
        agreement: s.id,
        epoch,
        t,
        body,
    }
}
