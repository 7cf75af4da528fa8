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

fn declaration(k: u8) -> SensorDeclaration {
    SensorDeclaration {
        public_key: sensor_key(k),
        sensor_type: "x".into(),
        label: "x".into(),
        variables: vec![Variable {
            name: "v".into(),
            ty: VariableType::U8,
        }],
        period: Period::None,
    }
}

/// A signed frame of `(time, value)` from `first_q` on.
pub fn frame(k: u8, first_q: u64, messages: &[(u64, u8)]) -> Frame {
    frame_of_epoch(k, 0, first_q, None, messages)
}
pub fn frame_of_epoch(
    k: u8,
    epoch: u32,
    first_q: u64,
    opening: Option<Opening>,
    messages: &[(u64, u8)],
) -> Frame {
    let values: Vec<[u8; 1]> = messages.iter().map(|m| [m.1]).collect();
    let mut w = Writer::new();
    let of = |(m, v): (&(u64, u8), &'_ [u8; 1])| (m.0, *v);
    let pairs: Vec<(u64, [u8; 1])> = messages.iter().zip(&values).map(of).collect();
    write_body(
        &mut w,
        pairs.iter().map(|(time, values)| Message {
            time: *time,
            values,
        }),
    );
    signed(Frame {
        sensor: sensor(k),
        epoch,
        first_q,
        count: messages.len() as u16,
        lost: 0,
        width: 1,
        opening,
        body: w.finish(),
        signature: Signature([0; 64]),
    })
}
/// A gap record.
pub fn gap(k: u8, first_q: u64, lost: u32) -> Frame {
    signed(Frame {
        sensor: sensor(k),
        epoch: 0,
        first_q,
        count: 0,
        lost,
        width: 0,
        opening: None,
        body: Vec::new(),
        signature: Signature([0; 64]),
    })
}
fn signed(mut f: Frame) -> Frame {
    let key = PublicKey([f.sensor.0[0]; 33]);
    f.signature = sign(&key, &f.digest(&deployment()));
    f
}

/// Terms among n nodes over `(sensor, q_0)`.
pub fn terms(n: usize, sensors: &[(u8, u64)], window: WindowSpec, batch: u16) -> Terms {
    Terms {
        title: "t".into(),
        users: vec![UserId([0x81; 20]), UserId([0x82; 20])],
        nodes: (0..n)
            .map(|i| TrustedNode {
                node: node(i),
                trust: (i % 2) as u8,
            })
            .collect(),
        sensors: sensors
            .iter()
            .map(|(k, q0)| SensorStart {
                sensor: sensor(*k),
                q0: *q0,
            })
            .collect(),
        off_chain_code: Digest([7; 32]),
        window,
        future_tolerance_s: 5,
        grace_s: 86_400,
        protocol: Protocol::Fast,
        leader: Leader::Rotating,
        flush_ms: 0,
        round_timeout_ms: 1_000,
        round_timeout_max_ms: 4_000,
        batch,
        qos: Qos::OffChain,
        result: vec![],
        detail: vec![],
        abstain_ms: 10_000,
    }
}
pub const EACH: WindowSpec = WindowSpec::Count { z: 1, slide: 1 };
/// 100-second windows from 1,000,000 s on: long past when the stage begins.
pub const OLD: WindowSpec = WindowSpec::Seconds {
    start: 1_000_000,
    seconds: 100,
};

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

/// What the modelled contract knows of one agreement.
#[derive(Default)]
pub struct Chain {
    pub next_t: u64,
    pub epoch: u32,
    pub end: Option<u64>,
    /// (from, t, by reveals) of each settlement.
    pub settled: Vec<(u64, u64, bool)>,
    pub holes: Vec<u64>,
    pub cells: BTreeSet<u64>,
    pub reverted: Vec<&'static str>,
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

    fn effect(&mut self, i: usize, e: Effect) {
        let answer = match e {
            Effect::VerifyFrames { job, frames } => {
                let check = |(key, bytes): &(PublicKey, std::sync::Arc<[u8]>)| {
                    let f = Frame::decode(bytes).ok()?;
                    let d = f.digest(&deployment());
                    (sign(key, &d) == f.signature).then_some(d)
                };
                let digests = frames.iter().map(check).collect();
                Input::FramesVerified { job, digests }
            }
            Effect::VerifySignatures { job, checks } => {
                let good = |c: &SignatureCheck| sign(&c.key, &c.digest) == c.signature;
                let good = checks.iter().map(good).collect();
                Input::SignaturesVerified { job, good }
            }
            Effect::Persist { job, ops, .. } => {
                let Some(left) = self.writes_left[i].checked_sub(1) else {
                    return;
                };
                self.writes_left[i] = left;
                for op in ops {
                    match op {
                        Op::Put { key, value } => self.store[i].insert(key, value),
                        Op::Delete { key } => self.store[i].remove(&key),
                    };
                }
                Input::Persisted { job }
            }
            Effect::LoadTimes { sensor, frames } => {
                let times = |(q, at): &(u64, FrameRef)| {
                    let f = Frame::decode(&self.stored_frame(i, *at)).expect("stored");
                    (*q, f.messages().map(|m| m.time).collect())
                };
                let times = frames.iter().map(times).collect();
                Input::TimesLoaded { sensor, times }
            }
            Effect::Execute(plan) => self.execute(i, *plan),
            Effect::Commit {
                agreement,
                epoch,
                subject,
                computed,
            } => {
                let part = |label: &[u8]| {
                    let domain = [
                        label,
                        &subject.config.0,
                        &subject.t.to_be_bytes(),
                        &[i as u8],
                    ];
                    keccak_raw(&domain.concat())
                };
                let blinding = Blinding {
                    secret: part(b"secret"),
                    salt: part(b"salt"),
                };
                let commit = Commit::make(&subject, &node(i), &computed, &blinding, |d| {
                    sign(&node_key(i), d)
                });
                Input::Committed {
                    agreement,
                    epoch,
                    t: subject.t,
                    blinding,
                    commit,
                }
            }
            Effect::Sign { job, digest } => Input::Signed {
                job,
                signature: sign(&node_key(i), &digest),
            },
            Effect::MusigNonce { session } => {
                self.nonces_drawn += 1;
                let mut nonce = [i as u8; 66];
                nonce[..8].copy_from_slice(&self.nonces_drawn.to_be_bytes());
                Input::MusigNonce { session, nonce }
            }
            Effect::MusigSign {
                session, digest, ..
            } => Input::MusigSigned {
                session,
                partial: Some(partial(i, &digest)),
            },
            Effect::MusigAggregate {
                session,
                partials,
                digest,
                ..
            } => {
                let bad = |j: &usize| partial(*j, &digest) != partials[*j];
                let bad: Vec<usize> = (0..partials.len()).filter(bad).collect();
                let result = if bad.is_empty() {
                    Ok(aggregate(&session.agreement, &digest))
                } else {
                    Err(bad)
                };
                Input::MusigAggregated { session, result }
            }
            Effect::VerifyAggregate {
                session,
                digest,
                signature,
            } => Input::AggregateVerified {
                session,
                signature,
                good: aggregate(&session.agreement, &digest) == signature,
            },
            Effect::Send { to, parts } => {
                for part in parts {
                    self.post(i, Self::index(&to), part);
                }
                return;
            }
            Effect::SendStored { to, key } => {
                self.stored_sent += 1;
                if let Some(value) = self.store[i].get(&key).cloned() {
                    for part in decode_envelope(&value).expect("the core wrote it") {
                        self.post(i, Self::index(&to), part);
                    }
                }
                return;
            }
            Effect::Gossip { agreement, frames } => {
                self.gossiped.push((i, agreement, frames.len()));
                let others = (0..self.nodes.len()).filter(|j| *j != i && self.gossip_on);
                for j in others.collect::<Vec<_>>() {
                    self.ready[j].push_back(Input::Frames {
                        source: Source::Peer(node(i)),
                        frames: frames.iter().map(|f| f.to_vec()).collect(),
                    });
                }
                return;
            }
            Effect::RequestFrames { to, ranges } => {
                let to = Self::index(&to);
                self.requests.push((i, to, ranges.clone()));
                if (self.serves)(i, to) && !self.down[to] {
                    let token = self.token();
                    self.tokens.insert(token, (to, i));
                    let from = node(i);
                    self.ready[to].push_back(Input::RepairRequest {
                        token,
                        from,
                        ranges,
                    });
                }
                return;
            }
            Effect::ServeFrames { token, frames } => {
                let (server, asker) = self.tokens[&token];
                self.served.push((server, asker, frames.len()));
                let frames: Vec<_> = frames
                    .iter()
                    .map(|a| self.stored_frame(server, *a))
                    .collect();
                if !frames.is_empty() {
                    let source = Source::Peer(node(server));
                    self.ready[asker].push_back(Input::Frames { source, frames });
                }
                return;
            }
            Effect::RefuseFrames { token } => {
                let (server, asker) = self.tokens[&token];
                self.refused.push((server, asker));
                return;
            }
            Effect::CompareFrames {
                sensor,
                stored,
                offered,
            } => Input::Compared {
                sensor,
                contradiction: Contradiction::of(&self.stored_frame(i, stored), &offered),
            },
            Effect::Answer { answer, .. } => {
                self.answers.push((i, answer));
                return;
            }
            Effect::Submit { id, submission } => {
                self.submits.push((self.now, i, submission.clone()));
                if !self.outbox_on {
                    return;
                }
                self.ready[i].push_back(Input::Taken(id));
                if !self.chain_on {
                    return;
                }
                self.mine(&submission);
                Input::Paid { id, gas: self.gas }
            }
            Effect::Retire { .. } => return,
            Effect::Notice(n) => {
                self.notices.push((self.now, i, n));
                return;
            }
        };
        self.ready[i].push_back(answer);
    }

    fn execute(&mut self, i: usize, plan: ExecutionPlan) -> Input {
        let leaf = |l: &LeafPlan| {
            let mut messages: Vec<(u64, Vec<u8>)> = Vec::new();
            for p in &l.pieces {
                let f = Frame::decode(&self.stored_frame(i, p.frame)).expect("stored");
                let taken = f.messages().skip(p.skip as usize).take(p.take as usize);
                messages.extend(taken.map(|m| (m.time, m.values.to_vec())));
            }
            let message = |m: &'_ (u64, Vec<u8>)| (m.0, m.1.clone());
            let messages: Vec<_> = messages.iter().map(message).collect();
            let of = messages.iter().map(|(time, values)| Message {
                time: *time,
                values,
            });
            Leaf::new(l.sensor, l.first_q, l.end, l.width, of)
        };
        let window = Window {
            t: plan.t,
            from: plan.from,
            to: plan.to,
            leaves: plan.leaves.iter().map(leaf).collect(),
        };
        let (kind, result, carry) = (self.f)(i, plan.t, &window, &plan.carry);
        let computed = Computed {
            kind,
            result,
            detail_root: detail_root(&[], &[]),
            state: state(&carry, &plan.q_next),
            trace: Digest(keccak_raw(&window.encode())),
            window_hash: window.hash(),
        };
        let executed = Input::Executed {
            agreement: plan.agreement,
            epoch: plan.epoch,
            t: plan.t,
            execution: Execution {
                computed,
                detail: vec![],
                carry,
            },
        };
        self.plans.push((i, plan));
        executed
    }

    /// The contract: one switch, doors, records. What it takes becomes an event for every node.
    pub fn mine(&mut self, s: &Submission) {
        match s {
            Submission::Settle {
                agreement,
                settlement,
            } => {
                let (from, t) = settlement.range();
                let (digest, epoch, signed) = match settlement {
                    Settlement::Single { outcome, signature } => {
                        (outcome.digest(&deployment()), outcome.epoch, Ok(signature))
                    }
                    Settlement::Batch { batch, signature } => {
                        (batch.digest(&deployment()), batch.epoch, Ok(signature))
                    }
                    Settlement::Reveals {
                        outcome,
                        holes,
                        signatures,
                    } => (
                        reveal_digest(outcome, holes),
                        outcome.epoch,
                        Err(signatures),
                    ),
                };
                let n = self.members[agreement];
                let good = match signed {
                    Ok(signature) => *signature == aggregate(agreement, &digest),
                    Err(all) => {
                        let each = |(j, s): (usize, &Signature)| *s == sign(&node_key(j), &digest);
                        all.len() == n && all.iter().enumerate().all(each)
                    }
                };
                assert!(good, "an honest core submits what verifies: {s:?}");
                if self.switch(agreement, epoch, from, t) {
                    let reveals = signed.is_err();
                    let chain = self.chain.entry(*agreement).or_default();
                    chain.settled.push((from, t, reveals));
                    self.all(Input::Chain(ChainEvent::Settled {
                        agreement: *agreement,
                        from,
                        t,
                        epoch,
                        tx: Digest([1; 32]),
                        gas_used: 1,
                        outcomes: (t - from + 1) as u32,
                    }));
                }
            }
            Submission::Hole {
                agreement,
                epoch,
                t,
                reveals,
                ..
            } => {
                if self.switch(agreement, *epoch, reveals[0].from, *t) {
                    self.chain.entry(*agreement).or_default().holes.push(*t);
                    self.all(Input::Chain(ChainEvent::Hole {
                        agreement: *agreement,
                        t: *t,
                        epoch: *epoch,
                        dispute: Digest([9; 32]),
                        tx: Digest([8; 32]),
                    }));
                }
            }
            Submission::Contradiction {
                sensor,
                contradiction,
            } => {
                if self.reported.insert((*sensor, contradiction.q)) {
                    self.all(Input::Chain(ChainEvent::SensorVoid {
                        sensor: *sensor,
                        contradiction: contradiction.clone(),
                    }));
                }
            }
            Submission::Reading { outcome, signature } => {
                let a = outcome.agreement;
                assert_eq!(*signature, aggregate(&a, &outcome.digest(&deployment())));
                assert!(reading_of(outcome.epoch) > 0 && outcome.from == outcome.t);
                let chain = self.chain.entry(a).or_default();
                if outcome.t < chain.next_t && chain.cells.insert(outcome.t) {
                    self.all(Input::Chain(ChainEvent::Cell {
                        agreement: a,
                        t: outcome.t,
                        writer: CellWriter::Reading,
                        resolution: Resolution {
                            kind: OutputKind::from_code(outcome.kind).expect("a kind"),
                            result: outcome.result.clone(),
                            state: Digest::ZERO,
                            carry: vec![],
                            q_next: vec![],
                        },
                        tx: Digest([4; 32]),
                    }));
                }
            }
            Submission::Misbehaviour { .. } => {}
        }
    }

    fn switch(&mut self, a: &AgreementId, epoch: u32, from: u64, t: u64) -> bool {
        let chain = self.chain.entry(*a).or_default();
        let wrong = if !(from <= chain.next_t && chain.next_t <= t) {
            Some("from <= nextT <= t")
        } else if epoch != chain.epoch && epoch != chain.epoch + 1 {
            Some("epoch in force or next")
        } else if chain.end.is_some_and(|end| t >= end) {
            Some("before the end")
        } else {
            None
        };
        if let Some(why) = wrong {
            chain.reverted.push(why);
            return false;
        }
        chain.next_t = t + 1;
        chain.epoch = epoch;
        true
    }

    /// All users close the agreement behind `last_t`.
    pub fn close(&mut self, a: &AgreementId, last_t: u64) {
        self.chain.entry(*a).or_default().end = Some(last_t + 1);
        self.all(Input::Chain(ChainEvent::Closed {
            agreement: *a,
            last_t,
        }));
    }
    /// All users say what counts at t: in band, or behind the door in its cell.
    pub fn resolve(
        &mut self,
        a: &AgreementId,
        t: u64,
        result: &[u8],
        carry: &[u8],
        q_next: &[u64],
    ) {
        let resolution = Resolution {
            kind: OutputKind::Value,
            result: result.to_vec(),
            state: state(carry, q_next),
            carry: carry.to_vec(),
            q_next: q_next.to_vec(),
        };
        let chain = self.chain.entry(*a).or_default();
        let (agreement, tx) = (*a, Digest([3; 32]));
        let event = if chain.next_t <= t {
            assert_eq!(chain.next_t, t, "in band the next t only");
            chain.next_t = t + 1;
            chain.epoch += 2;
            ChainEvent::Resolved {
                agreement,
                t,
                epoch: chain.epoch,
                resolution,
                tx,
            }
        } else {
            ChainEvent::Cell {
                agreement,
                t,
                writer: CellWriter::Users,
                resolution,
                tx,
            }
        };
        self.all(Input::Chain(event));
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
fn reveal_digest(outcome: &Outcome, holes: &[u64]) -> Digest {
    let reveal = Reveal {
        computed: Computed {
            kind: OutputKind::Value,
            result: vec![],
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
    reveal.digest(&deployment(), outcome)
}

/// Whether a part belongs to a signing session.
pub fn is_signing(p: &Part) -> bool {
    matches!(
        p,
        Part::Nonce { .. } | Part::Nonces { .. } | Part::Partial { .. } | Part::Aggregate { .. }
    )
}
