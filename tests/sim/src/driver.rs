//! Carries out the effects of a core in the simulated world. It decides nothing; every answer comes later, as an event.

use crate::crypto::{SecretNonce, verify};
use crate::function;
use crate::host::{Key, Queued};
use crate::sabotage::Sabotage;
use crate::world::{Event, World};
use diversity_engine::api::{
    Effect, Execution, ExecutionPlan, FrameRef, Input, Job, Notice, SHARE_FLUSH_MS, Submission,
};
use diversity_engine::records::{segment_key, split_segment, stored_part};
use diversity_proto::frame::Frame;
use diversity_proto::round::{Commit, Computed, OutputKind, Session, Subject, opening_hash};
use diversity_proto::terms::config;
use diversity_proto::wire::{Part, encode_envelope, encode_frames, encode_ranges};
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId, Signature};
use std::sync::Arc;

impl World {
    /// Carries out one effect of a node.
    pub(crate) fn carry_out(&mut self, node: usize, effect: Effect) {
        let now = self.now;
        if self.trace.prints()
            && let Some(text) = self.names.effect(&effect)
        {
            self.trace.say(now, node, &format!("-> {text}"));
        }
        let job_ms = self.s.job_ms;
        match effect {
            Effect::VerifyFrames { job, frames } => self.verify_frames(node, job, &frames),
            Effect::VerifySignatures { job, checks } => {
                let good = checks
                    .iter()
                    .map(|c| verify(self.s.mode, &c.key, &c.digest, &c.signature))
                    .collect();
                self.tell(node, job_ms, Input::SignaturesVerified { job, good });
            }
            Effect::Persist { job, ops, urgent } => self.persist(node, job, ops, urgent),
            Effect::Execute(plan) => self.execute(node, &plan),
            Effect::Commit {
                agreement,
                subject,
                computed,
            } => self.commit(node, agreement, subject, &computed),
            Effect::Sign { job, digest } => {
                let signature = self.hosts[node].party.sign(&digest);
                self.tell(node, job_ms, Input::Signed { job, signature });
            }
            Effect::MusigNonce { session } => {
                let randomness = self.rng.bytes32();
                let agreement = self.index_of(&session.agreement);
                let host = &mut self.hosts[node];
                let kept = host
                    .nonces
                    .remove(&session)
                    .filter(|_| self.sabotage == Sabotage::NonceKept);
                let key = &self.agreements[agreement].aggregate;
                let nonce = kept.unwrap_or_else(|| key.nonce(&host.party, &session, randomness));
                let public = nonce.public();
                host.nonces.insert(session, nonce);
                self.tell(
                    node,
                    job_ms,
                    Input::MusigNonce {
                        session,
                        nonce: public,
                    },
                );
            }
            Effect::MusigSign {
                session,
                nonces,
                digest,
            } => {
                let partial = self.partial(node, &session, &nonces, &digest);
                self.tell(node, job_ms, Input::MusigSigned { session, partial });
            }
            Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            } => {
                let key = &self.agreements[self.index_of(&session.agreement)].aggregate;
                let result = key.aggregate(&session, &nonces, &partials, &digest);
                self.tell(node, job_ms, Input::MusigAggregated { session, result });
            }
            Effect::VerifyAggregate {
                session,
                digest,
                signature,
            } => {
                let key = &self.agreements[self.index_of(&session.agreement)].aggregate;
                let good = key.verify(&digest, &signature);
                self.tell(
                    node,
                    job_ms,
                    Input::AggregateVerified {
                        session,
                        signature,
                        good,
                    },
                );
            }
            Effect::Send { to, parts } => self.send(node, to, parts),
            Effect::SendStored { to, key } => {
                if let Some(value) = self.hosts[node].disk.read(&key) {
                    let part = stored_part(value).expect("the core wrote a part");
                    self.send(node, to, vec![part]);
                }
            }
            Effect::Gossip { frames } => self.gossip(node, &frames),
            Effect::RequestFrames { to, ranges } => {
                let bytes: Arc<[u8]> = encode_ranges(&ranges).into();
                self.transmit(node, to, |from, to| Event::Repair {
                    from,
                    to,
                    bytes: bytes.clone(),
                });
            }
            Effect::ServeFrames { token, frames } => self.serve(node, token, &frames),
            Effect::CompareFrames {
                sensor,
                stored,
                offered,
            } => self.compare(node, &sensor, stored, &offered),
            Effect::Answer { ticket, answer } => {
                if self.s.honest(node) {
                    let verdict = self.oracles.acknowledged.answered(node, &answer.held);
                    self.oracles.judge(now, "N1", verdict);
                }
                // Others than sensors may ask too.
                if let Some(sensor) = self.hosts[node].tickets.remove(&ticket) {
                    if !self.s.sensors[sensor].two_tongues() {
                        for (_, _, refusal) in &answer.refused {
                            self.refused(node, refusal);
                        }
                    }
                    let held = answer.held;
                    for at in self.net.arrivals(&self.s, now, usize::MAX, node) {
                        self.schedule(
                            at,
                            Event::ApiAnswer {
                                sensor,
                                node,
                                held: held.clone(),
                            },
                        );
                    }
                }
            }
            Effect::Submit {
                agreement,
                submission,
            } => self.queue_submission(node, agreement, submission),
            Effect::Retire { agreement, from, t } => {
                self.hosts[node].outbox.retain(|k, _| {
                    !matches!(k, Key::Settle { agreement: a, from: f, t: l, .. } if (*a, *f, *l) == (agreement, from, t))
                });
            }
            Effect::Notice(Notice::Fault {
                node: named, what, ..
            }) if self.s.honest(node) => {
                let verdict = self.oracles.blame.noticed(&named, &what);
                self.oracles.judge(now, "N4", verdict);
            }
            Effect::Notice(_) => {}
        }
    }

    fn verify_frames(&mut self, node: usize, job: Job, frames: &[(PublicKey, Arc<[u8]>)]) {
        let digests = frames
            .iter()
            .map(|(key, bytes)| {
                let frame = Frame::decode(bytes).expect("the core decodes before it asks");
                let digest = frame.digest(&self.deployment);
                verify(self.s.mode, key, &digest, &frame.signature).then_some(digest)
            })
            .collect();
        self.tell(node, self.s.job_ms, Input::FramesVerified { job, digests });
    }

    fn persist(
        &mut self,
        node: usize,
        job: Job,
        mut ops: Vec<diversity_engine::api::Op>,
        urgent: bool,
    ) {
        if self.sabotage == Sabotage::DiskChangesFrames {
            change_a_frame(&mut ops);
        }
        if self.s.honest(node) {
            ops.iter().for_each(|op| self.certificate_kept(op));
        }
        let host = &mut self.hosts[node];
        let incarnation = host.incarnation;
        host.disk.hold(job, ops);
        if urgent {
            self.write_held(node);
        } else {
            self.schedule(
                self.now + SHARE_FLUSH_MS,
                Event::WriteHeld { node, incarnation },
            );
        }
        if self.sabotage == Sabotage::ReportsBeforeFlush {
            self.tell(node, 0, Input::Persisted { job });
        }
    }

    /// Judges the certificate that an honest node keeps, if the write is one.
    fn certificate_kept(&mut self, op: &diversity_engine::api::Op) {
        let diversity_engine::api::Op::Put { key, value } = op else {
            return;
        };
        if key.first() != Some(&diversity_engine::records::CERTIFICATE) {
            return;
        }
        let Ok(Part::Certificate {
            agreement,
            epoch,
            t,
            commits,
            reveals,
        }) = stored_part(value)
        else {
            return;
        };
        let subject = Subject {
            deployment: self.deployment,
            config: config(&self.deployment, &agreement, epoch),
            t,
        };
        let at = self.index_of(&agreement);
        let a = &mut self.agreements[at];
        if a.contract.make_a_hole(&subject, &commits, &reveals) {
            let verdict = a.finality.decided_hole(t);
            self.oracles.judge(self.now, "N2", verdict);
        }
    }

    /// What waited for another batch is written now.
    pub(crate) fn write_held(&mut self, node: usize) {
        let slow = self.rng.below(self.s.disk_ms + 1);
        let host = &mut self.hosts[node];
        // Batches become durable in the order in which they were written.
        host.flush_at = host.flush_at.max(self.now + slow);
        let (at, incarnation) = (host.flush_at, host.incarnation);
        for _ in 0..host.disk.release() {
            self.schedule(at, Event::Flush { node, incarnation });
        }
    }

    fn execute(&mut self, node: usize, plan: &ExecutionPlan) {
        let disk = &self.hosts[node].disk;
        let window = match function::assemble(plan, |key| disk.read(key)) {
            Ok(w) => w,
            Err(why) => {
                return self.oracles.judge(
                    self.now,
                    "core",
                    Err(format!("node {node} plans t {}: {why}", plan.t)),
                );
            }
        };
        let of = &self.agreements[self.index_of(&plan.agreement)].plan;
        let execution = if of.abstains.contains(&(node, plan.t)) {
            function::abstain(plan, &window)
        } else {
            let mut window = window;
            if self.sabotage == Sabotage::FunctionSkipsMessages {
                window.leaves.iter_mut().for_each(|l| l.body.clear());
            }
            let mut output =
                function::run(of.behaviour(plan.t), of.keeps_carry, &plan.carry, &window);
            let differs = self.sabotage == Sabotage::FunctionDiffers && node == 0
                || self.sabotage == Sabotage::OtherOutputAfterRestart
                    && self.hosts[node].incarnation > 0;
            if differs && output.kind == OutputKind::Value {
                output.result[0] ^= 1;
            }
            let computed = function::computed(&output, &window, &plan.q_next);
            Execution {
                computed,
                detail: output.detail,
                carry: output.carry,
            }
        };
        let (agreement, t) = (plan.agreement, plan.t);
        self.tell(
            node,
            self.s.execute_ms,
            Input::Executed {
                agreement,
                t,
                execution,
            },
        );
    }

    fn commit(
        &mut self,
        node: usize,
        agreement: AgreementId,
        subject: Subject,
        computed: &Computed,
    ) {
        let host = &self.hosts[node];
        let (mut secret, salt) = host.party.secret_salt(&subject);
        if self.sabotage == Sabotage::OtherSecretAfterRestart {
            secret[0] ^= host.incarnation as u8;
        }
        let commitment = computed.commitment(&subject, &host.party.node(), &secret, &salt);
        let mut commit = Commit {
            commitment,
            opening: opening_hash(&secret, &salt),
            signature: Signature([0; 64]),
        };
        let digest = commit.digest(&subject, &host.party.node());
        commit.signature = host.party.sign(&digest);
        let verdict = self.oracles.signing.committed(node, &subject, digest);
        self.oracles.judge(self.now, "N3", verdict);
        if self.sabotage == Sabotage::SignsForeignCommit && node == 0 {
            self.leak_second_commit(agreement, subject, computed);
        }
        self.tell(
            node,
            self.s.job_ms,
            Input::Committed {
                agreement,
                t: subject.t,
                secret,
                salt,
                commit,
            },
        );
    }

    /// Node 0's key signs another commit for the same t, and both reach a peer.
    fn leak_second_commit(
        &mut self,
        agreement: AgreementId,
        subject: Subject,
        computed: &Computed,
    ) {
        let party = &self.hosts[0].party;
        let (secret, salt) = party.secret_salt(&subject);
        let mut envelopes = Vec::new();
        for flip in 0..2 {
            let mut other = computed.clone();
            other.trace.0[0] ^= flip;
            let commitment = other.commitment(&subject, &party.node(), &secret, &salt);
            let mut commit = Commit {
                commitment,
                opening: opening_hash(&secret, &salt),
                signature: Signature([0; 64]),
            };
            commit.signature = party.sign(&commit.digest(&subject, &party.node()));
            envelopes.push(encode_envelope(&[Part::Commit {
                agreement,
                epoch: 0,
                t: subject.t,
                commit,
            }]));
        }
        for bytes in envelopes {
            self.schedule(
                self.now + 5,
                Event::Deliver {
                    from: 0,
                    to: 1,
                    bytes: bytes.into(),
                },
            );
        }
    }

    fn partial(
        &mut self,
        node: usize,
        session: &Session,
        nonces: &[[u8; 66]],
        digest: &Digest,
    ) -> Option<[u8; 32]> {
        let host = &mut self.hosts[node];
        let nonce = host.nonces.remove(session)?;
        if self.sabotage == Sabotage::NonceKept
            && let SecretNonce::Test(n) = nonce
        {
            // As if the next attempt took the nonce that lies about.
            let next = Session {
                attempt: session.attempt + 1,
                ..*session
            };
            host.nonces.insert(next, SecretNonce::Test(n));
        }
        let public = nonce.public();
        let agreement = self.index_of(&session.agreement);
        let key = &self.agreements[agreement].aggregate;
        let partial = key.partial(&self.hosts[node].party, nonce, session, nonces, digest)?;
        let verdict = self.oracles.signing.musig(node, session, &public, *digest);
        self.oracles.judge(self.now, "N3", verdict);
        Some(partial)
    }

    fn send(&mut self, node: usize, to: NodeId, parts: Vec<Part>) {
        for part in &parts {
            let verdict = self.oracles.signing.leaves(node, part);
            self.oracles.judge(self.now, "N3", verdict);
        }
        if self.sabotage == Sabotage::MuteAfterHeal && !self.faulty() && node == 0 {
            return;
        }
        let bytes: Arc<[u8]> = encode_envelope(&parts).into();
        self.trace.data(&bytes);
        self.transmit(node, to, |from, to| Event::Deliver {
            from,
            to,
            bytes: bytes.clone(),
        });
    }

    fn transmit(&mut self, node: usize, to: NodeId, event: impl Fn(usize, usize) -> Event) {
        let Some(to) = self.hosts.iter().position(|h| h.party.node() == to) else {
            return;
        };
        for at in self.net.arrivals(&self.s, self.now, node, to) {
            self.schedule(at, event(node, to));
        }
    }

    fn gossip(&mut self, node: usize, frames: &[Arc<[u8]>]) {
        if self.sabotage == Sabotage::NoRepair {
            return;
        }
        let bytes: Arc<[u8]> = encode_frames(frames.iter().map(|f| &f[..])).into();
        for to in (0..self.hosts.len()).filter(|to| *to != node) {
            for at in self.net.arrivals(&self.s, self.now, node, to) {
                self.schedule(
                    at,
                    Event::Frames {
                        from: node,
                        to,
                        bytes: bytes.clone(),
                    },
                );
            }
        }
    }

    fn stored(&self, node: usize, at: FrameRef) -> Option<Vec<u8>> {
        let segment = self.hosts[node].disk.read(&segment_key(at.segment))?;
        split_segment(segment)
            .ok()?
            .get(at.index as usize)
            .map(|f| f.to_vec())
    }

    fn serve(&mut self, node: usize, token: u64, frames: &[FrameRef]) {
        let Some(to) = self.hosts[node].tokens.remove(&token) else {
            return;
        };
        let mut out = Vec::new();
        for at in frames {
            match self.stored(node, *at) {
                Some(f) => out.push(f),
                None => {
                    let text = format!("node {node} serves a frame that its disk lacks: {at:?}");
                    return self.oracles.judge(self.now, "core", Err(text));
                }
            }
        }
        if out.is_empty() {
            return;
        }
        let bytes: Arc<[u8]> = encode_frames(out.iter().map(Vec::as_slice)).into();
        for at in self.net.arrivals(&self.s, self.now, node, to) {
            self.schedule(
                at,
                Event::Frames {
                    from: node,
                    to,
                    bytes: bytes.clone(),
                },
            );
        }
    }

    fn compare(&mut self, node: usize, sensor: &SensorId, stored: FrameRef, offered: &[u8]) {
        let Some(stored) = self.stored(node, stored) else {
            return;
        };
        let (first, second) = (Frame::decode(&stored), Frame::decode(offered));
        let (Ok(first), Ok(second)) = (first, second) else {
            return;
        };
        let at = |f: &Frame, q: u64| {
            let i = q.checked_sub(f.first_q)?;
            f.messages()
                .nth(i as usize)
                .map(|m| (m.time, m.values.to_vec()))
        };
        let differs = (first.first_q..first.next_q())
            .any(|q| at(&second, q).is_some_and(|m| Some(m) != at(&first, q)));
        if differs {
            let verdict = self.oracles.blame.sensor(sensor);
            self.oracles.judge(self.now, "N4", verdict);
        }
    }

    fn queue_submission(
        &mut self,
        node: usize,
        agreement: AgreementId,
        mut submission: Submission,
    ) {
        if let (Submission::Dispute { evidence, .. }, true) = (&submission, self.s.honest(node)) {
            let verdict = self.oracles.blame.accused(evidence);
            self.oracles.judge(self.now, "N4", verdict);
        }
        let durable_at = self.now + self.rng.below(self.s.disk_ms + 1);
        if self.sabotage == Sabotage::SettlesWrongResult {
            submission = other_result(submission);
        }
        let key = Key::of(agreement, &submission);
        self.hosts[node].outbox.entry(key).or_insert(Queued {
            agreement,
            submission,
            durable_at,
        });
    }
}

/// Flips a bit of the first frame that is stored.
fn change_a_frame(ops: &mut [diversity_engine::api::Op]) {
    for op in ops {
        if let diversity_engine::api::Op::Put { key, value } = op
            && key.first() == Some(&diversity_engine::records::SEGMENT)
            && let Some(last) = value.len().checked_sub(65)
        {
            // The byte before the signature is the last of the last value.
            value[last] ^= 1;
        }
    }
}

/// The same settlement with another result.
fn other_result(mut submission: Submission) -> Submission {
    use diversity_engine::api::Settlement;
    if let Submission::Settle { settlement, .. } = &mut submission {
        let result = match settlement {
            Settlement::Single { outcome, .. } | Settlement::Reveals { outcome, .. } => {
                Some(&mut outcome.result)
            }
            Settlement::Batch { batch, .. } => {
                batch.entries.iter_mut().find_map(|e| match &mut e.0 {
                    diversity_proto::round::Entry::Value(v) => Some(v),
                    _ => None,
                })
            }
        };
        if let Some(byte) = result.and_then(|r| r.first_mut()) {
            *byte ^= 1;
        }
    }
    submission
}
