//! What this node may have signed before it started, and its store does not know (R2): a restored backup, a copied data directory, a
//! store that was lost. Before it commits anew to an agreement that it may have known, it asks every other node of it which commits
//! of its own they hold. What they show and the new commit says otherwise is never signed: the node abstains, and says so.
//!
//! It asks with [`ASK`] and each answers with those commits and [`ALL`] (wire-format §8). All n nodes are needed for an outcome, so
//! waiting for all of them costs nothing. What was decided meanwhile comes as certificates, which hold its commits too.
//!
//! Its lists of open sensors come back with them (P-RECALL-2). Until all have answered no list that was made since leaves; one that others
//! hold takes its place.

use std::collections::{BTreeMap, BTreeSet};

use diversity_proto::held::Held;
use diversity_proto::round::{Body, Commit, Computed, Subject, reading_of};
use diversity_proto::terms::{Terms, config};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, NodeId, PublicKey};

/// `from_t` of the question which commits of the asker somebody holds. No certificate has it.
pub(super) const ASK: u64 = u64::MAX;
/// `from_t` behind the answer.
pub(super) const ALL: u64 = u64::MAX - 1;

/// `from_t` of the news that two processes connect with the key of whoever it is sent to.
pub(super) const TWINS: u64 = u64::MAX - 2;

/// Commits of one other node in one agreement that are remembered, the newest.
const REMEMBERED_MAX: usize = 128;

/// Lists of open sensors of one other node in one agreement that are remembered: those of its open window and the one before.
const LISTS_MAX: usize = 2;

/// A commit that waits for what others show.
pub(super) struct Asked {
    pub agreement: AgreementId,
    pub epoch: u32,
    pub subject: Subject,
    pub computed: Computed,
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody knows another one.
    Sign,
    /// Others have not said yet.
    Wait,
    /// They hold another one.
    Abstain,
}

/// Whose commits may be older than the store.
pub struct Doubt {
    /// Agreements that the store knew at the start.
    pub known: BTreeSet<AgreementId>,
    /// The store was lost: every agreement may be one of them.
    pub lost: bool,
}

/// See the module.
pub(super) struct Recall {
    deployment: Deployment,
    node: NodeId,
    key: PublicKey,
    doubt: Doubt,
    /// Agreements that all others have answered for.
    cleared: BTreeSet<AgreementId>,
    /// Next t of each other node, as it said since the start.
    next_t: BTreeMap<(AgreementId, NodeId), u64>,
    answered: BTreeSet<(AgreementId, NodeId)>,
    /// Commits of this node that others showed.
    shown: BTreeMap<(AgreementId, u32, u64), Commit>,
    /// Commits of others, by t and epoch.
    others: BTreeMap<(AgreementId, NodeId), BTreeMap<(u64, u32), Commit>>,
    /// Lists of open sensors of others, by t and epoch.
    lists: BTreeMap<(AgreementId, NodeId), BTreeMap<(u64, u32), Held>>,
    /// Lists of this node that others showed, for the core.
    own_lists: Vec<Part>,
    waiting: Vec<Asked>,
    /// Agreements in which the last commit was not signed.
    abstaining: BTreeSet<AgreementId>,
}

impl Recall {
    pub fn new(deployment: Deployment, node: NodeId, key: PublicKey, doubt: Doubt) -> Self {
        Self {
            deployment,
            node,
            key,
            doubt,
            cleared: BTreeSet::new(),
            next_t: BTreeMap::new(),
            answered: BTreeSet::new(),
            shown: BTreeMap::new(),
            others: BTreeMap::new(),
            lists: BTreeMap::new(),
            own_lists: Vec::new(),
            waiting: Vec::new(),
            abstaining: BTreeSet::new(),
        }
    }

    /// Whether others may know of commits in it that the store does not.
    pub fn doubts(&self, a: &AgreementId) -> bool {
        (self.doubt.lost || self.doubt.known.contains(a)) && !self.cleared.contains(a)
    }

    /// Takes in what a part from another node says of commits. Gives whether it was for nobody else.
    pub fn heard(&mut self, from: NodeId, terms: &Terms, part: &Part) -> bool {
        let a = part.agreement();
        match part {
            Part::Status { next_t, .. } => {
                if self.doubts(&a) {
                    self.next_t.insert((a, from), *next_t);
                }
                false
            }
            Part::Want { from_t: ALL, .. } => {
                self.answered.insert((a, from));
                true
            }
            Part::Round { epoch, t, body, .. } => match body {
                Body::Commit { commit } => {
                    // A commit of this node, sent by another, is an answer.
                    if self.show(a, *epoch, *t, commit) {
                        return true;
                    }
                    self.remember(a, from, *epoch, *t, *commit);
                    false
                }
                Body::Seal { commits } | Body::Certificate { commits, .. } => {
                    for (member, commit) in terms.nodes.iter().zip(commits) {
                        if member.node == self.node {
                            self.show(a, *epoch, *t, commit);
                        } else {
                            self.remember(a, member.node, *epoch, *t, *commit);
                        }
                    }
                    false
                }
                Body::Reveal { .. } => false,
            },
            Part::Held { epoch, t, held, .. } => {
                let digest = held.digest(&self.subject(&a, *epoch, *t), &self.node);
                if diversity_keys::verify(&self.key.0, &digest.0, &held.signature.0) {
                    // A list of this node, sent by another, is an answer.
                    if self.doubts(&a) {
                        self.own_lists.push(part.clone());
                    }
                    return true;
                }
                let of = self.lists.entry((a, from)).or_default();
                of.entry((*t, *epoch)).or_insert_with(|| held.clone());
                while of.len() > LISTS_MAX {
                    of.pop_first();
                }
                false
            }
            _ => false,
        }
    }

    fn subject(&self, a: &AgreementId, epoch: u32, t: u64) -> Subject {
        Subject {
            deployment: self.deployment,
            config: config(&self.deployment, a, epoch),
            t,
        }
    }

    /// Lists of this node that others showed since they were last taken.
    pub fn take_own_lists(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.own_lists)
    }

    /// Whether nothing new may be said of which sensors are open yet: others may hold another list.
    pub fn withholds_lists(&self, a: &AgreementId, terms: &Terms) -> bool {
        self.doubts(a) && !self.unanswered(a, terms).is_empty()
    }

    /// Keeps a commit if it is this node's and may be news.
    fn show(&mut self, a: AgreementId, epoch: u32, t: u64, commit: &Commit) -> bool {
        if !self.doubts(&a) {
            return false;
        }
        let digest = commit.digest(&self.subject(&a, epoch, t), &self.node);
        let ours = diversity_keys::verify(&self.key.0, &digest.0, &commit.signature.0);
        if ours {
            self.shown.entry((a, epoch, t)).or_insert(*commit);
        }
        ours
    }

    fn remember(&mut self, a: AgreementId, node: NodeId, epoch: u32, t: u64, commit: Commit) {
        let of = self.others.entry((a, node)).or_default();
        of.entry((t, epoch)).or_insert(commit);
        while of.len() > REMEMBERED_MAX {
            of.pop_first();
        }
    }

    /// The answer to a node that asks: its commits and lists for what is not decided here, and that these are all.
    pub fn answer(&self, a: AgreementId, to: NodeId, undecided_t: u64) -> Vec<Part> {
        let of = self.others.get(&(a, to)).into_iter().flatten();
        let open = of.filter(|((t, epoch), _)| *t >= undecided_t || reading_of(*epoch) > 0);
        let part = |((t, epoch), commit): (&(u64, u32), &Commit)| Part::Round {
            agreement: a,
            epoch: *epoch,
            t: *t,
            body: Body::Commit { commit: *commit },
        };
        let lists = self.lists.get(&(a, to)).into_iter().flatten();
        let lists = lists.filter(|((t, epoch), _)| *t >= undecided_t || reading_of(*epoch) > 0);
        let list = |((t, epoch), held): (&(u64, u32), &Held)| Part::Held {
            agreement: a,
            epoch: *epoch,
            t: *t,
            held: held.clone(),
        };
        let all = Part::Want {
            agreement: a,
            from_t: ALL,
        };
        open.map(part).chain(lists.map(list)).chain([all]).collect()
    }

    /// What becomes of a commit to `t` that was just made and has not left.
    pub fn judge(
        &mut self,
        a: &AgreementId,
        epoch: u32,
        t: u64,
        commit: &Commit,
        terms: &Terms,
    ) -> Verdict {
        if let Some(shown) = self.shown.get(&(*a, epoch, t)) {
            let same = (shown.commitment, shown.opening) == (commit.commitment, commit.opening);
            return if same {
                Verdict::Sign
            } else {
                Verdict::Abstain
            };
        }
        if !self.doubts(a) {
            return Verdict::Sign;
        }
        let mut decided = 0;
        for other in terms.nodes.iter().filter(|n| n.node != self.node) {
            let key = (*a, other.node);
            match self.next_t.get(&key) {
                Some(next_t) if self.answered.contains(&key) => decided = decided.max(*next_t),
                _ => return Verdict::Wait,
            }
        }
        // What others have decided comes with its certificate.
        if t < decided && reading_of(epoch) == 0 {
            return Verdict::Wait;
        }
        self.cleared.insert(*a);
        Verdict::Sign
    }

    /// Other nodes that have not answered for an agreement.
    pub fn unanswered(&self, a: &AgreementId, terms: &Terms) -> Vec<NodeId> {
        let others = terms.nodes.iter().map(|n| n.node);
        others
            .filter(|n| *n != self.node && !self.answered.contains(&(*a, *n)))
            .collect()
    }

    /// A node was away: what it knows must be asked again.
    pub fn gone(&mut self, node: &NodeId) {
        self.answered.retain(|(_, n)| n != node);
        self.next_t.retain(|(_, n), _| n != node);
    }

    /// A commit was not signed.
    pub fn abstains(&mut self, a: AgreementId) {
        self.abstaining.insert(a);
    }

    /// A commit was signed; gives whether one before it was not.
    pub fn goes_on(&mut self, a: &AgreementId) -> bool {
        self.abstaining.remove(a)
    }

    /// A commit that waits.
    pub fn wait(&mut self, asked: Asked) {
        self.waiting.push(asked);
    }

    /// All commits that wait, to be judged once more.
    pub fn take_waiting(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether a commit of this agreement waits.
    pub fn waits_in(&self, a: &AgreementId) -> bool {
        self.waiting.iter().any(|asked| asked.agreement == *a)
    }
}

#[cfg(test)]
#[path = "recall_tests.rs"]
mod tests;
