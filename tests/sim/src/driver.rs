//! Carries out the effects of a core in the simulated world. It decides nothing; every answer comes later, as an event.

use crate::actors::Place;
use crate::crypto::verify;
use crate::sabotage::Sabotage;
use crate::world::{Event, World};
use diversity_engine::api::{Effect, Input, Notice, SubmissionId};
use diversity_engine::records::stored_part;
use diversity_proto::wire::{Part, encode_ranges};
use std::sync::Arc;

mod disk;
mod execution;
mod frames;
mod outbox;
mod sending;

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
            Effect::VerifyFrames { job, frames } => {
                if self.taking_nothing == Some(node) && self.honest(node) {
                    let text = format!("node {node} takes a frame of a stranger");
                    self.oracles.judge(now, "R11", Err(text));
                }
                self.verify_frames(node, job, &frames);
            }
            Effect::VerifySignatures { job, checks } => {
                let good = checks
                    .iter()
                    .map(|c| verify(self.s.mode, &c.key, &c.digest, &c.signature))
                    .collect();
                self.tell(node, job_ms, Input::SignaturesVerified { job, good });
            }
            Effect::Persist { job, ops, urgent } => self.persist(node, job, ops, urgent),
            Effect::Execute(plan) => self.execute(node, &plan),
            Effect::LoadTimes { sensor, frames } => self.load_times(node, sensor, &frames),
            Effect::Commit {
                agreement,
                epoch,
                subject,
                computed,
            } => {
                let place = Place {
                    agreement,
                    epoch,
                    t: subject.t,
                };
                self.commit(node, place, subject, &computed);
            }
            Effect::Sign { job, digest } => {
                let signature = self.hosts[node].party.sign(&digest);
                self.tell(node, job_ms, Input::Signed { job, signature });
            }
            Effect::MusigNonce { session } => {
                let randomness = self.rng.bytes32();
                let agreement = self.index_of(&session.agreement);
                if self.honest(node) {
                    let timeout = self.agreements[agreement].plan.round_timeout_ms;
                    let bounds = &mut self.oracles.bounds;
                    let verdict = bounds.nonce(now, node, &session, timeout.into());
                    self.oracles.judge(now, "bounds", verdict);
                }
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
                self.serves(node, &to, &key);
                if let Some(value) = self.hosts[node].disk.read(&key) {
                    let part = stored_part(value).expect("the core wrote a part");
                    self.states += u64::from(matches!(part, Part::State { .. }));
                    self.send(node, to, vec![part]);
                }
            }
            Effect::Gossip { agreement, frames } => self.gossip(node, &agreement, &frames),
            Effect::RequestFrames { to, ranges } => {
                let bytes: Arc<[u8]> = encode_ranges(&ranges).into();
                self.transmit(node, to, |from, to| Event::Repair {
                    from,
                    to,
                    bytes: bytes.clone(),
                });
            }
            Effect::ServeFrames { token, frames } => self.serve(node, token, &frames),
            Effect::RefuseFrames { token } => self.refuses(node, token),
            Effect::CompareFrames {
                sensor,
                stored,
                offered,
            } => self.compare(node, &sensor, stored, &offered),
            Effect::Answer { ticket, answer } => {
                if self.honest(node) {
                    let verdict = self.oracles.acknowledged.answered(node, &answer.held);
                    self.oracles.judge(now, "N1", verdict);
                }
                // Others than sensors may ask too.
                if let Some(sensor) = self.hosts[node].tickets.remove(&ticket) {
                    if !self.s.sensors[sensor].signs_again() {
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
            Effect::Submit { submission, .. } => self.queue_submission(node, submission),
            Effect::Retire { agreement, t } => {
                self.hosts[node].outbox.retain(|k, _| {
                    !matches!(k, SubmissionId::Settle(a, _, _, last, _) if *a == agreement && *last <= t)
                });
            }
            Effect::Notice(Notice::Fault {
                node: named, what, ..
            }) if self.honest(node) => {
                let verdict = self.oracles.blame.noticed(&named, &what);
                self.oracles.judge(now, "N4", verdict);
            }
            Effect::Notice(_) => {}
        }
    }
}
