//! What becomes of the effects of a core.

use super::*;

impl Stage {
    pub(super) fn effect(&mut self, i: usize, e: Effect) {
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
                self.on_its_way[i].insert(id);
                if !self.outbox_on {
                    return;
                }
                self.ready[i].push_back(Input::Taken(id));
                if !self.chain_on {
                    return;
                }
                self.mine(&submission);
                self.on_its_way[i].remove(&id);
                let paid = Input::Paid { id, gas: self.gas };
                if !self.receipts_on {
                    self.receipts.push((i, paid));
                    return;
                }
                paid
            }
            Effect::Retire { agreement, t } => {
                // Nothing of it was mined.
                let over = |id: &SubmissionId| match id {
                    SubmissionId::Settle(a, _, _, last, _) => *a == agreement && *last <= t,
                    SubmissionId::Hole(a, _, at) => *a == agreement && *at <= t,
                    _ => false,
                };
                for id in self.on_its_way[i].extract_if(.., over) {
                    self.ready[i].push_back(Input::Paid { id, gas: 0 });
                }
                return;
            }
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
}
