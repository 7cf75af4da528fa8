//! What other nodes send about an agreement: which signatures must be checked, and what a genuine part does.

use super::*;
use crate::api::SignatureCheck;
use diversity_proto::round::reading_of;
use diversity_proto::wire::Part;
use diversity_round::{Unverified, Verified};
use rounds::Judgement;
use signing::Partial;

/// A part of another node that waits for its signatures.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Of a round.
    Round(u32, u64, Unverified),
    /// A second commit for a decided t.
    Late(u32, u64, Fault),
    /// A list of open sensors; the node's own signature first, then those of the frames that it shows.
    Held(u32, u64, Held),
    /// A partial signature in its envelope.
    Partial(Partial),
}

/// Certificates that one request is answered with, at most.
const WANTED_MAX: u64 = 8;

impl Agreement {
    /// A part from node `from` (an index, proven by the transport).
    pub fn part(&mut self, from: usize, part: Part, traces: &Traces, io: &mut Io) {
        match part {
            Part::Round { epoch, t, body, .. } if reading_of(epoch) > 0 => {
                let judged = self.readings.judge(from, epoch, t, body, cx!(self, io));
                if let Some(u) = judged {
                    self.check(from, epoch, t, u, io);
                }
            }
            Part::Round { epoch, t, body, .. } => self.body(from, epoch, t, body, io),
            Part::Held { epoch, t, held, .. } if from == self.setting.me() => {
                self.own_list(epoch, t, held, io);
            }
            Part::Held { epoch, t, held, .. } if reading_of(epoch) > 0 => {
                if self.names_sensors(&held) && self.readings.wants_list(from, epoch, t, &held) {
                    self.check_list(from, epoch, t, held, io);
                }
            }
            Part::Held { epoch, t, held, .. } => self.held(from, epoch, t, held, io),
            Part::Partial {
                session,
                nonce_set,
                partial,
                signature,
            } => {
                let partial = Partial {
                    from,
                    session,
                    set: nonce_set,
                    partial,
                };
                if let Some(check) = self.partial_check(&partial, signature) {
                    self.verify(from, vec![check], Pending::Partial(partial), io);
                }
            }
            Part::Nonce { session, nonce } => self.nonce(from, (session, nonce), io),
            Part::Nonces { session, nonces } => self.nonces(from, session, nonces, io),
            Part::Aggregate { session, signature } => self.aggregate(session, signature, io),
            Part::Want { from_t, .. } => {
                let to = self.history.next().min(from_t.saturating_add(WANTED_MAX));
                for t in from_t..to {
                    self.serve_certificate(from, t, io);
                }
            }
            Part::Status { next_t, .. } if next_t > self.history.next() => {
                let want = Part::Want {
                    agreement: self.setting.id,
                    from_t: self.history.next(),
                };
                io.send(self.setting.node(from), want);
            }
            Part::WantState { t, .. } => self.serve_state(from, t, io),
            Part::State { t, state, .. } => self.state_came(t, state, io),
            Part::Leaves { t, hashes, .. } => {
                self.readings
                    .leaves(from, t, &hashes, traces, cx!(self, io));
            }
            Part::Status { .. } | Part::Clock { .. } | Part::Terms { .. } => {}
        }
        self.reveal_if_due(io);
        self.progress(traces, io);
    }

    fn verify(&self, from: usize, checks: Vec<SignatureCheck>, pending: Pending, io: &mut Io) {
        let after = After::Part(self.setting.id, from, pending);
        io.verify(checks, after);
    }

    fn serve_certificate(&mut self, to: usize, t: u64, io: &mut Io) {
        let key = records::t_key(records::CERTIFICATE, &self.setting.id, t);
        cx!(self, io).serve(to, t, key);
    }

    fn body(&mut self, from: usize, epoch: u32, t: u64, body: Body, io: &mut Io) {
        let (s, h) = (&self.setting, &self.history);
        match self.rounds.judge(from, epoch, t, body, h, s) {
            Judgement::Nothing => {}
            Judgement::Certificate => self.serve_certificate(from, t, io),
            Judgement::Check(u) => self.check(from, epoch, t, u, io),
            Judgement::Late(check, fault) => {
                self.verify(from, vec![check], Pending::Late(epoch, t, fault), io);
            }
        }
    }

    fn check(&mut self, from: usize, epoch: u32, t: u64, u: Unverified, io: &mut Io) {
        if !u.checks().is_empty() {
            let checks = u.checks().to_vec();
            self.verify(from, checks, Pending::Round(epoch, t, u), io);
        } else if let Some(verified) = u.verified(&[]) {
            self.verified_body(epoch, t, verified, io);
        }
    }

    fn verified_body(&mut self, epoch: u32, t: u64, body: Verified, io: &mut Io) {
        if self.halted.is_some() {
            return;
        }
        if reading_of(epoch) > 0 {
            let faults = self.readings.body(epoch, t, body, cx!(self, io));
            return self.faults(faults, io);
        }
        let wishes = self
            .rounds
            .body(epoch, t, body, &self.history, cx!(self, io));
        self.carry_out(wishes, io);
    }

    /// P-HELD-4: another node says what is open to it. Who still cuts a t that is decided here (an old store) is answered like any
    /// other: without all lists it could neither cut t nor notice that its store is old.
    fn held(&mut self, from: usize, epoch: u32, t: u64, held: Held, io: &mut Io) {
        let decided = t < self.history.next();
        if decided {
            self.serve_certificate(from, t, io);
        }
        let ours = epoch == self.history.epoch();
        if self.listed.contains(&(t, epoch)) {
            // It may have missed ours.
            let key = records::held_key(&self.setting.id, t, epoch);
            cx!(self, io).serve(from, t, key);
        } else if t < self.pipeline.open_t()
            && self.halted.is_none()
            && (ours || decided && epoch < self.history.epoch())
            && (!decided || cx!(self, io).may_serve(from, records::HELD, t))
        {
            // P-HELD-2: cut by messages here: nothing was open.
            self.listed.insert((t, epoch));
            self.sign_list(epoch, t, pipeline::nothing_open(), io);
        }
        if ours && self.names_sensors(&held) && self.pipeline.wants_list(from, t, &held) {
            self.check_list(from, epoch, t, held, io);
        }
    }

    /// P-RECALL-2: others hold this list of this node, from before its store knew. It counts, whatever was made since: that has not
    /// left.
    fn own_list(&mut self, epoch: u32, t: u64, held: Held, io: &mut Io) {
        let open = epoch == self.history.epoch() && t >= self.history.next();
        if !open || !self.names_sensors(&held) || self.pipeline.goes_by(t, &held) {
            return;
        }
        let part = pipeline::held_part(&self.setting, epoch, t, held.clone());
        let op = records::put_part(records::held_key(&self.setting.id, t, epoch), &part);
        let then = Then::HeldDurable(epoch, t, held);
        io.persist(vec![op], After::Agreement(self.setting.id, then));
    }

    fn names_sensors(&self, held: &Held) -> bool {
        let n = self.setting.sensors.len();
        held.open.last().is_none_or(|o| (o.index as usize) < n)
    }

    fn check_list(&self, from: usize, epoch: u32, t: u64, held: Held, io: &mut Io) {
        let s = &self.setting;
        let check = SignatureCheck {
            key: s.committee.keys[from],
            digest: held.digest(&s.subject(epoch, t), &s.node(from)),
            signature: held.signature,
        };
        self.verify(from, vec![check], Pending::Held(epoch, t, held), io);
    }

    /// The signatures of a part are checked.
    pub fn checked(
        &mut self,
        from: usize,
        pending: Pending,
        good: &[bool],
        traces: &Traces,
        io: &mut Io,
    ) {
        if good.is_empty() || !good.iter().all(|g| *g) {
            cx!(self, io).fault(from, "sent a message with a signature that does not verify");
            return;
        }
        match pending {
            Pending::Round(epoch, t, u) => {
                if let Some(verified) = u.verified(good) {
                    self.verified_body(epoch, t, verified, io);
                }
            }
            Pending::Late(epoch, t, fault) => self.fault(epoch, t, fault, io),
            Pending::Partial(partial) => self.partial(partial, io),
            Pending::Held(epoch, t, held) => self.check_shown(from, epoch, t, held, traces, io),
        }
        self.progress(traces, io);
    }

    /// The frames that a list shows as contradictions are checked under the sensors' keys.
    fn check_shown(
        &mut self,
        from: usize,
        epoch: u32,
        t: u64,
        held: Held,
        traces: &Traces,
        io: &mut Io,
    ) {
        let mut frames = Vec::new();
        for o in &held.open {
            let Some(c) = &o.contradiction else { continue };
            let sensor = self.setting.sensors[o.index as usize];
            let of = |bytes: &[u8]| {
                diversity_proto::frame::Frame::decode(bytes).is_ok_and(|f| f.sensor == sensor)
            };
            if !of(&c.first) || !of(&c.second) {
                return cx!(self, io)
                    .fault(from, "showed frames of another sensor as a contradiction");
            }
            let key = traces[&sensor].declaration().public_key;
            frames.push((key, c.first.clone().into()));
            frames.push((key, c.second.clone().into()));
        }
        if frames.is_empty() {
            return self.list_good(from, epoch, t, held, traces, io);
        }
        let after = After::Shown(self.setting.id, from, epoch, t, held);
        io.verify_frames(frames, after);
    }

    /// All signatures in a list are good.
    pub fn list_good(
        &mut self,
        from: usize,
        epoch: u32,
        t: u64,
        held: Held,
        traces: &Traces,
        io: &mut Io,
    ) {
        if reading_of(epoch) > 0 {
            let cx = cx!(self, io);
            let faults = self.readings.listed(from, epoch, t, held, traces, cx);
            self.faults(faults, io);
        } else if epoch == self.history.epoch() {
            self.pipeline.listed(from, t, held, traces, cx!(self, io));
            self.progress(traces, io);
        }
    }

    /// A frame in a list is not the sensor's.
    pub fn list_bad(&mut self, from: usize, io: &mut Io) {
        cx!(self, io).fault(
            from,
            "showed frames that no sensor signed as a contradiction",
        );
    }

    /// What this node holds, for the others.
    pub fn status_part(&self, traces: &Traces) -> Part {
        let next_q = self.setting.sensors.iter().map(|s| traces[s].next_q());
        Part::Status {
            agreement: self.setting.id,
            next_t: self.history.next(),
            next_q: next_q.collect(),
        }
    }
}
