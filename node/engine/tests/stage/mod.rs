//! A stage for directed tests of the node core: a few cores, an exact clock, mail that a test may tamper with, a store that
//! survives a restart, and a contract that keeps the one switch. Signatures are modelled: a hash of key and digest.
#![allow(dead_code, missing_docs)]

use diversity_engine::api::*;
use diversity_engine::{Config, Effect, Input, Node, records};
use diversity_proto::domain::keccak_raw;
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{
    Contradiction, Frame, Message, Opening, Variable, VariableType, write_body,
};
use diversity_proto::round::*;
use diversity_proto::terms::*;
use diversity_proto::window::{Leaf, Window, detail_root, state};
use diversity_proto::wire::{Part, Range, decode_envelope};
use diversity_proto::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

mod contract;
mod effects;
mod made;

pub use contract::Chain;
pub use made::*;

/// When the stage begins, Unix milliseconds.
pub const START: u64 = 1_000_000_000_000;
pub const DAY_MS: u64 = 86_400_000;

pub fn deployment() -> Deployment {
    Deployment {
        chain_id: 1,
        contract: Address([0xcc; 20]),
    }
}
pub fn node(i: usize) -> NodeId {
    NodeId([i as u8 + 1; 20])
}
pub fn node_key(i: usize) -> PublicKey {
    PublicKey([i as u8 + 1; 33])
}
pub fn sensor(k: u8) -> SensorId {
    SensorId([0x50 + k; 20])
}
fn sensor_key(k: u8) -> PublicKey {
    PublicKey([0x50 + k; 33])
}
pub fn sign(key: &PublicKey, digest: &Digest) -> Signature {
    let mut s = [0; 64];
    s[..32].copy_from_slice(&keccak_raw(&[&key.0[..], &digest.0[..]].concat()));
    Signature(s)
}
pub fn agreement(n: u8) -> AgreementId {
    AgreementId([n; 32])
}
pub fn subject(a: &AgreementId, epoch: u32, t: u64) -> Subject {
    Subject {
        deployment: deployment(),
        config: config(&deployment(), a, epoch),
        t,
    }
}

/// What `f` gives: kind, result, carry.
pub type F = Box<dyn Fn(usize, u64, &Window, &[u8]) -> (OutputKind, Vec<u8>, Vec<u8>)>;
/// (from, to, part) -> the parts that leave instead.
pub type Tamper = Box<dyn FnMut(usize, usize, Part) -> Vec<Part>>;

/// `f` that says t and how many messages each leaf has.
pub fn counts() -> F {
    Box::new(|_, t, w, _| {
        let mut result = t.to_be_bytes().to_vec();
        for l in &w.leaves {
            result.extend(l.count.to_be_bytes());
        }
        (OutputKind::Value, result, vec![])
    })
}

pub struct Stage {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub store: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
    ready: Vec<VecDeque<Input>>,
    mail: VecDeque<(usize, usize, Vec<Part>)>,
    pub submits: Vec<(u64, usize, Submission)>,
    pub notices: Vec<(u64, usize, Notice)>,
    pub requests: Vec<(usize, usize, Vec<Range>)>,
    pub plans: Vec<(usize, ExecutionPlan)>,
    pub answers: Vec<(usize, IngestAnswer)>,
    /// Who gossiped how many frames to the nodes of which agreement.
    pub gossiped: Vec<(usize, AgreementId, usize)>,
    /// Who served whom how many frames.
    pub served: Vec<(usize, usize, usize)>,
    /// Who refused whom to serve frames.
    pub refused: Vec<(usize, usize)>,
    /// Frames, and their bytes, that a node keeps of sensors in no agreement.
    pub unagreed: (u64, u64),
    pub nonces_drawn: u64,
    pub stored_sent: usize,
    pub gossip_on: bool,
    /// Whether the outbox takes submissions.
    pub outbox_on: bool,
    pub serves: Box<dyn Fn(usize, usize) -> bool>,
    pub f: F,
    pub tamper: Tamper,
    pub down: Vec<bool>,
    /// Writes that still reach the disk of a node; then it is as good as dead until it starts again.
    pub writes_left: Vec<usize>,
    pub chain: BTreeMap<AgreementId, Chain>,
    /// Whether submissions reach the chain.
    pub chain_on: bool,
    /// Whether what a transaction took is told at once, or waits in `receipts`.
    pub receipts_on: bool,
    receipts: Vec<(usize, Input)>,
    /// What each outbox was handed and has not ended.
    on_its_way: Vec<BTreeSet<SubmissionId>>,
    /// What an agreement may cost a node in a day, and what each transaction takes.
    pub gas_per_day: u64,
    pub gas: u64,
    members: BTreeMap<AgreementId, usize>,
    tokens: BTreeMap<u64, (usize, usize)>,
    next: u64,
    reported: BTreeSet<(SensorId, u64)>,
}

impl Stage {
    pub fn new(n: usize, f: F) -> Self {
        Self::with_budget(n, f, 5_000_000)
    }
    pub fn with_budget(n: usize, f: F, gas_per_day: u64) -> Self {
        let mut s = Self {
            now: START,
            nodes: vec![],
            store: vec![BTreeMap::new(); n],
            ready: (0..n).map(|_| VecDeque::new()).collect(),
            mail: VecDeque::new(),
            submits: vec![],
            notices: vec![],
            requests: vec![],
            plans: vec![],
            answers: vec![],
            gossiped: vec![],
            served: vec![],
            refused: vec![],
            unagreed: (1_000, 1_000_000),
            nonces_drawn: 0,
            stored_sent: 0,
            gossip_on: true,
            outbox_on: true,
            serves: Box::new(|_, _| true),
            f,
            tamper: Box::new(|_, _, p| vec![p]),
            down: vec![false; n],
            writes_left: vec![usize::MAX; n],
            chain: BTreeMap::new(),
            chain_on: true,
            receipts_on: true,
            receipts: vec![],
            on_its_way: vec![BTreeSet::new(); n],
            gas_per_day,
            gas: 36_000,
            members: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next: 1,
            reported: BTreeSet::new(),
        };
        for i in 0..n {
            let fresh = s.recovered(i);
            s.nodes.push(fresh);
            s.peers_up(i);
        }
        s
    }
    fn recovered(&self, i: usize) -> Node {
        let config = Config {
            deployment: deployment(),
            node: node(i),
            gossip_flush_ms: 5,
            gossip_bytes: 32_768,
            status_interval_ms: 1_000,
            settle_stage_ms: 2_000,
            ahead_max: 16,
            q_ahead_max: 1_000,
            gas_per_day: self.gas_per_day,
            inflight_max: 1_000,
            unagreed_frames_max: self.unagreed.0,
            unagreed_bytes_max: self.unagreed.1,
        };
        let store = &self.store[i];
        Node::recover(config, |family, each| {
            let records = store.iter().filter(|(k, _)| k[0] == family);
            records.into_iter().try_for_each(|(k, v)| each(k, v))
        })
        .unwrap_or_else(|e: DecodeError| panic!("the core wrote this store: {e}"))
    }
    fn peers_up(&mut self, i: usize) {
        for j in (0..self.store.len()).filter(|j| *j != i) {
            self.ready[i].push_back(Input::PeerUp(node(j)));
        }
    }
    /// What transactions took is told at last, and at once from now on.
    pub fn receipts_arrive(&mut self) {
        self.receipts_on = true;
        for (i, paid) in std::mem::take(&mut self.receipts) {
            self.ready[i].push_back(paid);
        }
    }
    /// The process dies and starts again: what was not durable is gone.
    pub fn restart(&mut self, i: usize) {
        self.nodes[i] = self.recovered(i);
        self.writes_left[i] = usize::MAX;
        self.ready[i].clear();
        self.peers_up(i);
    }
    pub fn register(&mut self, id: AgreementId, terms: &Terms) {
        for i in 0..terms.nodes.len() {
            for s in &terms.sensors {
                let k = s.sensor.0[0] - 0x50;
                self.ready[i].push_back(Input::Sensor {
                    id: s.sensor,
                    declaration: declaration(k),
                });
            }
            self.ready[i].push_back(Input::Agreement {
                id,
                terms: terms.clone(),
                keys: (0..terms.nodes.len()).map(node_key).collect(),
            });
        }
        self.members.insert(id, terms.nodes.len());
        self.chain.entry(id).or_default();
        self.settle();
    }
    /// Frames come to the API of node i.
    pub fn frames(&mut self, i: usize, frames: &[Frame]) {
        let ticket = self.token();
        self.ready[i].push_back(Input::Frames {
            source: Source::Api(ticket),
            frames: frames.iter().map(Frame::encode).collect(),
        });
    }
    /// All nodes hear of a sensor that is in no agreement.
    pub fn known(&mut self, k: u8) {
        self.all(Input::Sensor {
            id: sensor(k),
            declaration: declaration(k),
        });
    }
    /// A node asks another one for messages of its own accord.
    pub fn ask(&mut self, asker: usize, server: usize, ranges: Vec<Range>) {
        let token = self.token();
        self.tokens.insert(token, (server, asker));
        self.ready[server].push_back(Input::RepairRequest {
            token,
            from: node(asker),
            ranges,
        });
    }
    /// One message for each q of `qs`, one a window of [`EACH`].
    pub fn count(&mut self, qs: std::ops::Range<u64>) {
        for q in qs {
            self.frames(0, &[frame(0, q, &[(1_000 + q, 1)])]);
        }
    }
    fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
    pub fn input(&mut self, i: usize, input: Input) {
        self.ready[i].push_back(input);
    }
    pub fn all(&mut self, input: Input) {
        for i in 0..self.nodes.len() {
            self.ready[i].push_back(input.clone());
        }
    }
    /// Puts a part into the mail as if `from` had sent it; nothing tampers with it.
    pub fn forge(&mut self, from: usize, to: usize, part: Part) {
        self.mail.push_back((from, to, vec![part]));
    }
    pub fn status(&self, i: usize, a: &AgreementId) -> AgreementStatus {
        self.nodes[i].status(a).expect("the node runs it")
    }
    /// Messages of each leaf that node i executed for the agreement, by t; the last execution counts.
    pub fn executed(&self, i: usize, a: &AgreementId) -> Vec<Vec<u32>> {
        let mut by_t = BTreeMap::new();
        for (_, p) in self
            .plans
            .iter()
            .filter(|(n, p)| *n == i && p.agreement == *a)
        {
            let leaf = |l: &LeafPlan| l.pieces.iter().map(|x| x.take).sum();
            by_t.insert(p.t, p.leaves.iter().map(leaf).collect());
        }
        by_t.into_values().collect()
    }

    /// Everything that needs no time.
    pub fn settle(&mut self) {
        loop {
            let mut any = false;
            for i in 0..self.nodes.len() {
                while let Some(input) = self.ready[i].pop_front() {
                    if self.down[i] {
                        continue;
                    }
                    any = true;
                    for e in self.nodes[i].step(self.now, input) {
                        self.effect(i, e);
                    }
                }
            }
            if let Some((from, to, parts)) = self.mail.pop_front() {
                any = true;
                if !self.down[to] && !self.down[from] {
                    let from = node(from);
                    self.ready[to].push_back(Input::Message { from, parts });
                }
            }
            if !any {
                return;
            }
        }
    }
    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            self.settle();
            let up = (0..self.nodes.len()).filter(|i| !self.down[*i]);
            let next = up.filter_map(|i| self.nodes[i].deadline()).min();
            let Some(next) = next.filter(|n| *n <= end) else {
                self.now = end;
                return self.settle();
            };
            self.now = next.max(self.now + 1);
            for i in 0..self.nodes.len() {
                if !self.down[i] && self.nodes[i].deadline().is_some_and(|d| d <= self.now) {
                    self.ready[i].push_back(Input::Tick);
                }
            }
        }
    }

    fn post(&mut self, from: usize, to: usize, part: Part) {
        let parts = (self.tamper)(from, to, part);
        if !parts.is_empty() {
            self.mail.push_back((from, to, parts));
        }
    }
    pub fn index(id: &NodeId) -> usize {
        usize::from(id.0[0]) - 1
    }
    fn stored_frame(&self, i: usize, at: FrameRef) -> Vec<u8> {
        let segment = &self.store[i][&records::segment_key(at.segment)];
        records::split_segment(segment).expect("the core wrote it")[at.index as usize].to_vec()
    }

    /// Names of nodes in notices of misbehaviour.
    pub fn blamed(&self) -> Vec<NodeId> {
        let fault = |n: &(u64, usize, Notice)| match &n.2 {
            Notice::Fault { node, .. } => Some(*node),
            _ => None,
        };
        self.notices.iter().filter_map(fault).collect()
    }
    pub fn halted(&self) -> bool {
        let halted = |n: &(u64, usize, Notice)| matches!(n.2, Notice::Halted { .. });
        self.notices.iter().any(halted)
    }
}

fn partial(i: usize, digest: &Digest) -> [u8; 32] {
    keccak_raw(&[&node_key(i).0[..], &digest.0[..]].concat())
}
fn aggregate(a: &AgreementId, digest: &Digest) -> Signature {
    sign(&PublicKey([a.0[0] ^ 0xff; 33]), digest)
}
/// Whether a part belongs to a signing session.
pub fn is_signing(p: &Part) -> bool {
    matches!(
        p,
        Part::Nonce { .. } | Part::Nonces { .. } | Part::Partial { .. } | Part::Aggregate { .. }
    )
}
