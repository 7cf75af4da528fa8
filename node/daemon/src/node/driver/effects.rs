//! What the core wants done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diversity_engine::api::{Effect, ExecutionPlan, FrameRef, Input, Job, SHARE_FLUSH_MS};
use diversity_engine::records;
use diversity_keys::musig::verify_bip340;
use diversity_proto::frame::Contradiction;
use diversity_proto::wire::{
    ENVELOPE_BYTES_MAX, FRAME_BATCH_BYTES_MAX, FRAMES_MAX, PARTS_MAX, Part, encode_envelope,
    encode_frames, encode_ranges, frames_topic,
};
use diversity_proto::{AgreementId, NodeId};
use diversity_store::Op;
use tokio::sync::{mpsc, oneshot};

use super::recall::Asked;
use super::{Answer, Driver, DriverError, GOSSIP_JUDGED_MAX, Write};
use crate::node::cut::{CutError, cut};
use crate::node::execute;
use crate::node::signer::{SignError, aggregate};
use crate::node::workers::Priority;

/// Signature checks of a round that are made in the loop itself: some 50 us each.
const CHECKS_INLINE_MAX: usize = 4;

/// Writes that are put together are no longer than this, in bytes.
const MERGED_BYTES_MAX: usize = 64 * 1024;

/// Whether the loop itself computes it, with a curve, before it goes on.
pub(super) fn is_computed_here(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::VerifyFrames { .. }
            | Effect::VerifySignatures { .. }
            | Effect::Commit { .. }
            | Effect::Sign { .. }
    )
}

impl Driver {
    pub(super) fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::VerifyFrames { job, frames } => {
                if let Some(gossip) = self
                    .judging
                    .take()
                    .filter(|_| self.judged.len() < GOSSIP_JUDGED_MAX)
                {
                    self.judged.insert(job, gossip);
                }
                // A few cost less than two changes of thread, as long as nothing else waits for the loop.
                if frames.len() <= CHECKS_INLINE_MAX
                    && self.calm
                    && self.parts.net_events.is_empty()
                {
                    let verifier = &self.parts.verifier;
                    let digests = frames.iter().map(|(key, bytes)| verifier.frame(key, bytes));
                    let digests = digests.collect();
                    return self.frames_verified(job, digests);
                }
                let answers = self.promise();
                self.parts
                    .verifier
                    .frames(&self.parts.workers, frames, move |digests| {
                        answer(&answers, Answer::Frames { job, digests });
                    });
            }
            // A few cost less than two changes of thread, and a round waits for them.
            Effect::VerifySignatures { job, checks } if checks.len() <= CHECKS_INLINE_MAX => {
                let good = checks
                    .iter()
                    .map(|c| self.parts.verifier.check(c))
                    .collect();
                self.ready
                    .push_back(Input::SignaturesVerified { job, good });
            }
            Effect::VerifySignatures { job, checks } => {
                let answers = self.promise();
                self.parts
                    .verifier
                    .signatures(&self.parts.workers, checks, move |good| {
                        answer(
                            &answers,
                            Answer::Input(Input::SignaturesVerified { job, good }),
                        );
                    });
            }
            Effect::Persist { job, ops, urgent } => {
                let ops = ops.into_iter().map(op).collect();
                if urgent {
                    self.persist(ops, Some(job), None);
                } else {
                    self.persist_soon(ops, job);
                }
            }
            Effect::Execute(plan) => self.execute(*plan),
            Effect::LoadTimes { sensor, frames } => {
                let stored = Arc::clone(&self.parts.durable.frames);
                self.ask(move || {
                    let times = |(first_q, at)| {
                        let frame = stored.decoded(at)?;
                        Ok((first_q, frame.messages().map(|m| m.time).collect()))
                    };
                    let times = frames.into_iter().map(times);
                    Ok(Input::TimesLoaded {
                        sensor,
                        times: times.collect::<Result<_, CutError>>()?,
                    })
                });
            }
            Effect::Commit {
                agreement,
                epoch,
                subject,
                computed,
            } => self.commit(Asked {
                agreement,
                epoch,
                subject,
                computed,
            }),
            Effect::Sign { job, digest } => {
                let signature = self.parts.signer.sign(&digest);
                self.ready.push_back(Input::Signed { job, signature });
            }
            // Settlement can wait for what rounds want.
            Effect::MusigNonce { .. } | Effect::MusigSign { .. } => {
                self.later.push_back((Instant::now(), effect));
            }
            Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            } => {
                let Some(key) = self.parts.signer.key(&session.agreement).cloned() else {
                    self.failed = Some(SignError::Agreement(session.agreement).into());
                    return;
                };
                let answers = self.promise();
                self.parts.workers.submit(Priority::Urgent, move || {
                    let result = aggregate(&key, &nonces, &partials, &digest);
                    answer(
                        &answers,
                        Answer::Input(Input::MusigAggregated { session, result }),
                    );
                });
            }
            Effect::VerifyAggregate {
                session,
                digest,
                signature,
            } => {
                let answers = self.promise();
                self.parts.workers.submit(Priority::Urgent, move || {
                    let good = verify_bip340(&session.agreement.0, &digest.0, &signature.0);
                    answer(
                        &answers,
                        Answer::Input(Input::AggregateVerified {
                            session,
                            signature,
                            good,
                        }),
                    );
                });
            }
            Effect::Send { to, parts } => self.send(to, &parts),
            Effect::SendStored { to, key } => self.send_stored(to, key),
            Effect::Gossip { agreement, frames } => {
                let bytes = encode_frames(frames.iter().map(|f| &f[..]));
                let topic = frames_topic(&self.parts.deployment, &agreement);
                if let Err(error) = self.parts.net.publish(topic, bytes) {
                    tracing::debug!(%error, "net.gossip_dropped");
                }
            }
            Effect::RequestFrames { to, ranges } => {
                let id = self.next_request;
                self.next_request += 1;
                if let Some(peer) = self.peers().peer(&to)
                    && let Err(error) = self.parts.net.request(peer, id, encode_ranges(&ranges))
                {
                    tracing::debug!(%error, "net.request_dropped");
                }
            }
            Effect::ServeFrames { token, frames } => match self.finding.take() {
                // The asker may be gone; it needs no answer then.
                Some(reply) => drop(reply.send(frames)),
                None => self.serve(token, frames),
            },
            Effect::RefuseFrames { token } => {
                // An answer of no bytes is a refusal (wire-format §8).
                if let Err(error) = self.parts.net.respond(token, Vec::new()) {
                    tracing::debug!(%error, "net.answer_dropped");
                }
            }
            Effect::CompareFrames {
                sensor,
                stored,
                offered,
            } => {
                let frames = Arc::clone(&self.parts.durable.frames);
                self.ask(move || {
                    let stored = frames.encoded(stored)?;
                    let contradiction = Contradiction::of(&stored, &offered);
                    Ok(Input::Compared {
                        sensor,
                        contradiction,
                    })
                });
            }
            Effect::Answer { ticket, answer } => {
                if let Some(reply) = self.tickets.remove(&ticket) {
                    // A caller that has gone away is told nothing; its frames are durable all the same.
                    let _ = reply.send(answer);
                }
            }
            Effect::Submit { id, submission } => self.parts.outbox.submit(id, submission),
            Effect::Retire { agreement, t } => {
                let dropped = self.parts.outbox.retire(agreement, t).into_iter();
                let ended = dropped.map(|id| Input::Paid { id, gas: 0 });
                self.ready.extend(ended);
            }
            Effect::Notice(notice) => {
                self.parts.metrics.notice(&notice);
                (self.parts.notices)(&notice);
            }
        }
    }

    /// Nonces and partial signatures.
    pub(super) fn compute(&mut self, effect: Effect) {
        match effect {
            Effect::MusigNonce { session } => match self.parts.signer.nonce(session) {
                Ok(nonce) => self.ready.push_back(Input::MusigNonce { session, nonce }),
                Err(error) => self.failed = Some(error.into()),
            },
            Effect::MusigSign {
                session,
                nonces,
                digest,
            } => {
                let partial = self.parts.signer.partial(session, &nonces, &digest);
                self.ready
                    .push_back(Input::MusigSigned { session, partial });
            }
            other => self.effect(other),
        }
    }

    /// One more answer is due.
    fn promise(&mut self) -> mpsc::Sender<Answer> {
        self.outstanding += 1;
        self.answers.clone()
    }

    /// Bulk work on the pool; what it fails with ends the node.
    fn job(&mut self, work: impl FnOnce() -> Result<(), DriverError> + Send + 'static) {
        let answers = self.promise();
        self.parts.workers.submit(Priority::Bulk, move || {
            answer(
                &answers,
                work().map_or_else(Answer::Failed, |()| Answer::Done),
            );
        });
    }

    /// Bulk work on the pool that gives the core an answer; what it fails with ends the node.
    fn ask(&mut self, work: impl FnOnce() -> Result<Input, DriverError> + Send + 'static) {
        let answers = self.promise();
        self.parts.workers.submit(Priority::Bulk, move || {
            answer(&answers, work().map_or_else(Answer::Failed, Answer::Input));
        });
    }

    /// Queues a write; it leaves with the others of the same input ([`Self::write_backlog`]), and with those that were held, so
    /// that they share a flush.
    pub(super) fn persist(
        &mut self,
        ops: Vec<Op>,
        job: Option<Job>,
        done: Option<oneshot::Sender<()>>,
    ) {
        self.release_held();
        self.backlog.push_back(Write {
            segments: self.parts.durable.frames.leaving(&ops),
            ops,
            jobs: job.into_iter().collect(),
            done: done.into_iter().collect(),
        });
    }

    /// Holds a write until the next one, for at most [`SHARE_FLUSH_MS`].
    fn persist_soon(&mut self, ops: Vec<Op>, job: Job) {
        self.held.push_back(Write {
            segments: self.parts.durable.frames.leaving(&ops),
            ops,
            jobs: vec![job],
            done: Vec::new(),
        });
        self.held_until
            .get_or_insert_with(|| Instant::now() + Duration::from_millis(SHARE_FLUSH_MS));
    }

    /// What was held goes to the store with the next [`Self::write_backlog`].
    pub(super) fn release_held(&mut self) {
        self.backlog.append(&mut self.held);
        self.held_until = None;
    }

    /// Hands writes to the store in their order, small ones together, for as long as it takes them.
    pub(super) fn write_backlog(&mut self) {
        while let Some(Write {
            ops,
            jobs,
            segments,
            done,
        }) = self.next_write()
        {
            let answers = self.promise();
            let since = Instant::now();
            // The callback is lost with the attempt when the queue is full, so what it needs is shared.
            let told = Arc::new(Mutex::new((jobs, segments, done)));
            let waiting = Arc::clone(&told);
            let written = self.parts.durable.writer.try_submit(
                ops,
                Box::new(move |result| {
                    let (jobs, segments, done) = take(&waiting);
                    if result.is_ok() {
                        for done in done {
                            // Whoever asked may be gone.
                            let _ = done.send(());
                        }
                    }
                    answer(
                        &answers,
                        Answer::Persisted {
                            jobs,
                            segments,
                            result,
                            since,
                        },
                    );
                }),
            );
            if let Err(full) = written {
                self.outstanding -= 1;
                let (jobs, segments, done) = take(&told);
                self.backlog.push_front(Write {
                    ops: full.ops,
                    jobs,
                    segments,
                    done,
                });
                return;
            }
        }
    }

    /// The oldest write, with those that follow as long as they are small: one batch costs the store less than many.
    fn next_write(&mut self) -> Option<Write> {
        let mut write = self.backlog.pop_front()?;
        let mut bytes: usize = write.ops.iter().map(Op::bytes).sum();
        while let Some(next) = self.backlog.front() {
            bytes += next.ops.iter().map(Op::bytes).sum::<usize>();
            if bytes > MERGED_BYTES_MAX {
                break;
            }
            let next = self.backlog.pop_front().unwrap_or_default();
            write.ops.extend(next.ops);
            write.jobs.extend(next.jobs);
            write.segments.extend(next.segments);
            write.done.extend(next.done);
        }
        Some(write)
    }

    fn execute(&mut self, plan: ExecutionPlan) {
        let Some(terms) = self.terms.get(&plan.agreement).cloned() else {
            self.failed = Some(DriverError::Broken(
                "the core runs an agreement whose terms the loop has not got",
            ));
            return;
        };
        let (frames, runner) = (
            Arc::clone(&self.parts.durable.frames),
            Arc::clone(&self.parts.code.runner),
        );
        let (modules, metrics) = (
            Arc::clone(&self.parts.code.modules),
            Arc::clone(&self.parts.metrics),
        );
        let answers = self.promise();
        self.parts.workers.submit(Priority::Urgent, move || {
            let started = Instant::now();
            let span = (plan.t, plan.from, plan.to);
            let done = cut(span, &plan.leaves, |at| frames.decoded(at)).map(|window| {
                execute::execute(&*runner, &modules, &terms, &plan, &window, |s| {
                    metrics.run_seconds.observe(s)
                })
            });
            metrics
                .execute_seconds
                .observe(started.elapsed().as_secs_f64());
            answer(
                &answers,
                match done {
                    Ok(execution) => Answer::Input(Input::Executed {
                        agreement: plan.agreement,
                        epoch: plan.epoch,
                        t: plan.t,
                        execution,
                    }),
                    Err(error) => Answer::Failed(error.into()),
                },
            );
        });
    }

    pub(super) fn send(&self, to: NodeId, parts: &[Part]) {
        let Some(peer) = self.peers().peer(&to) else {
            return;
        };
        let parts: Vec<Part> = parts
            .iter()
            .filter(|p| self.may_leave(p))
            .cloned()
            .collect();
        for bytes in envelopes(&parts) {
            if let Err(error) = self.parts.net.send(peer, bytes) {
                tracing::debug!(node = %to, %error, "net.message_dropped");
            }
        }
    }

    fn send_stored(&mut self, to: NodeId, key: Vec<u8>) {
        // A list of open sensors may have been made since the start, and what others hold of this node is not known yet.
        let list = key.first() == Some(&records::HELD);
        let a = key
            .get(1..33)
            .and_then(|a| a.try_into().ok())
            .map(AgreementId);
        let terms = a.and_then(|a| Some((a, self.terms.get(&a)?)));
        if list && terms.is_some_and(|(a, terms)| self.recall.withholds_lists(&a, terms)) {
            return;
        }
        let Some(peer) = self.peers().peer(&to) else {
            return;
        };
        let (store, net) = (self.parts.durable.store.clone(), self.parts.net.clone());
        self.job(move || {
            // The record is an envelope already (records::put_part).
            if let Some(bytes) = store.get(&key)?
                && let Err(error) = net.send(peer, bytes)
            {
                tracing::debug!(node = %to, %error, "net.message_dropped");
            }
            Ok(())
        });
    }

    fn serve(&mut self, token: u64, wanted: Vec<FrameRef>) {
        let (frames, net) = (
            Arc::clone(&self.parts.durable.frames),
            self.parts.net.clone(),
        );
        self.job(move || {
            let mut found: Vec<Vec<u8>> = Vec::new();
            let mut bytes = 5;
            for at in wanted.into_iter().take(FRAMES_MAX) {
                let frame = frames.encoded(at)?;
                bytes += 4 + frame.len();
                if bytes > FRAME_BATCH_BYTES_MAX {
                    break;
                }
                found.push(frame);
            }
            if let Err(error) = net.respond(token, encode_frames(found.iter().map(|f| &f[..]))) {
                tracing::debug!(%error, "net.answer_dropped");
            }
            Ok(())
        });
    }
}

/// Blocks the worker while the core is behind; the core never waits for workers, so this ends.
fn answer(answers: &mpsc::Sender<Answer>, answer: Answer) {
    // The store's writer refuses a batch on the loop's own thread, which must not block; there is always room then.
    if let Err(mpsc::error::TrySendError::Full(answer)) = answers.try_send(answer) {
        // The loop has ended when nobody listens, and then nothing depends on the answer.
        let _ = answers.blocking_send(answer);
    }
}

fn take<T: Default>(shared: &Mutex<T>) -> T {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

fn op(op: diversity_engine::api::Op) -> Op {
    match op {
        diversity_engine::api::Op::Put { key, value } => Op::Put(key, value),
        diversity_engine::api::Op::Delete { key } => Op::Delete(key),
    }
}

/// Envelopes of these parts, in order, each within the bound of a direct message.
fn envelopes(parts: &[Part]) -> Vec<Vec<u8>> {
    let bytes = encode_envelope(parts);
    if parts.len() > 1 && (bytes.len() > ENVELOPE_BYTES_MAX || parts.len() > PARTS_MAX) {
        let (first, second) = parts.split_at(parts.len() / 2);
        let mut out = envelopes(first);
        out.extend(envelopes(second));
        return out;
    }
    vec![bytes]
}
