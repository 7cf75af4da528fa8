//! Commits of this node, and what others know of them (see [`super::recall`]).

use diversity_engine::api::Input;
use diversity_net::Peer;
use diversity_proto::round::reading_of;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, NodeId};

use super::Driver;
use super::recall::{ASK, Asked, TWINS, Verdict};

impl Driver {
    /// Signs a commit, unless others may hold another one.
    pub(super) fn commit(&mut self, asked: Asked) {
        let Asked {
            agreement: a,
            epoch,
            subject,
            computed,
        } = &asked;
        let (blinding, commit) = self.parts.signer.commit(subject, computed);
        // An agreement whose terms are not here is none that the core runs.
        let verdict = match self.terms.get(a) {
            Some(terms) => self.recall.judge(a, *epoch, subject.t, &commit, terms),
            None => Verdict::Sign,
        };
        match verdict {
            Verdict::Sign => {
                if self.recall.goes_on(a) {
                    self.parts.waiting.clear(a);
                }
                self.ready.push_back(Input::Committed {
                    agreement: *a,
                    epoch: *epoch,
                    t: subject.t,
                    blinding,
                    commit,
                });
            }
            Verdict::Wait => {
                let a = *a;
                let first = !self.recall.waits_in(&a);
                self.recall.wait(asked);
                if first {
                    self.ask_others(a, None);
                }
            }
            Verdict::Abstain => {
                let why = format!(
                    "this node abstains from t {}: the other nodes hold another commit of its own for it, so its store is older than what it has signed, or another process signs with its key. Put its newest store back, or stop the other process; the users can settle that t themselves (`diversity dispute resolve`)",
                    subject.t
                );
                tracing::error!(agreement = %a, t = subject.t, "node.abstains: {why}");
                self.recall.abstains(*a);
                self.parts.waiting.set(*a, why);
            }
        }
    }

    /// Judges once more what waits.
    pub(super) fn commit_waiting(&mut self) {
        for asked in self.recall.take_waiting() {
            let core = &self.parts.core;
            let decided = core
                .status(&asked.agreement)
                .is_some_and(|s| reading_of(asked.epoch) == 0 && asked.subject.t < s.undecided_t);
            if !decided {
                self.commit(asked);
            }
        }
    }

    /// Asks those who have not answered, or one of them, what they hold of this node's commits.
    fn ask_others(&mut self, a: AgreementId, only: Option<NodeId>) {
        let Some(terms) = self.terms.get(&a) else {
            return;
        };
        for node in self.recall.unanswered(&a, terms) {
            if only.is_none_or(|only| only == node) {
                let question = Part::Want {
                    agreement: a,
                    from_t: ASK,
                };
                self.send(node, &[question]);
            }
        }
    }

    /// What another node's parts say of commits; gives those that are the core's.
    pub(super) fn recalled(&mut self, from: NodeId, parts: Vec<Part>) -> Vec<Part> {
        let mut left = Vec::with_capacity(parts.len());
        for part in parts {
            let a = part.agreement();
            let member = |t: &diversity_proto::terms::Terms| t.nodes.iter().any(|n| n.node == from);
            let Some(terms) = self.terms.get(&a).filter(|t| member(t)).cloned() else {
                left.push(part);
                continue;
            };
            if let Part::Want { from_t: ASK, .. } = part {
                let undecided_t = self.parts.core.status(&a).map_or(0, |s| s.undecided_t);
                let answer = self.recall.answer(a, from, undecided_t);
                self.send(from, &answer);
                continue;
            }
            if let Part::Want { from_t: TWINS, .. } = part {
                self.twinned(from, a);
                continue;
            }
            let ours = self.recall.heard(from, &terms, &part);
            if matches!(part, Part::Status { .. }) && self.recall.doubts(&a) {
                self.ask_others(a, Some(from));
            }
            if !ours {
                left.push(part);
            }
        }
        let parts = self.recall.take_own_lists();
        if !parts.is_empty() {
            // As if this node had said them now.
            let from = self.parts.node;
            self.input(Input::Message { from, parts });
        }
        left
    }

    /// Whether a part may leave: not a list of open sensors that others may contradict. It is shown again.
    pub(super) fn may_leave(&self, part: &Part) -> bool {
        let Part::Held { agreement, .. } = part else {
            return true;
        };
        let terms = self.terms.get(agreement);
        terms.is_none_or(|terms| !self.recall.withholds_lists(agreement, terms))
    }

    /// Two processes connect with the key of a peer: it is told, in every agreement that it has in common with this node.
    pub(super) fn twins(&mut self, peer: Peer) {
        let Some(node) = self.peers().node(&peer) else {
            return;
        };
        tracing::warn!(%node, "peer.twins: two processes connect with the key of this node: a data directory was copied");
        self.parts.metrics.faults.inc();
        let common = self
            .terms
            .iter()
            .filter(|(_, terms)| terms.nodes.iter().any(|n| n.node == node));
        let parts: Vec<Part> = common
            .map(|(a, _)| Part::Want {
                agreement: *a,
                from_t: TWINS,
            })
            .collect();
        if !parts.is_empty() {
            self.send(node, &parts);
        }
    }

    /// Another node sees two processes with this node's key.
    fn twinned(&mut self, by: NodeId, a: AgreementId) {
        let why = format!(
            "node {by} sees two processes with the key of this node: its data directory was copied, and the two will contradict one another, which is evidence against you. Stop one of them"
        );
        tracing::error!(agreement = %a, "node.twinned: {why}");
        self.parts.waiting.set(a, why);
    }
}
