//! What other nodes send about an agreement: which signatures must be checked, and what a genuine part does.

use super::*;

impl Agreement {
    // ---- messages

    /// Which signatures a part needs checked before it counts; `None` if it is of no use (any more).
    pub(crate) fn checks(
        &self,
        from: usize,
        part: &Part,
        io: &mut Io,
    ) -> Option<Vec<SignatureCheck>> {
        let n = self.nodes.len();
        let at = |epoch: u32, t: u64| epoch == self.epoch && t < self.decided_next + LOOKAHEAD;
        let commit_check = |t: u64, i: usize, c: &Commit| SignatureCheck {
            key: self.record.keys[i],
            digest: c.digest(&self.subject(t, io), &self.nodes[i]),
            signature: c.signature,
        };
        let known = |t: u64, i: usize, c: &Commit| {
            self.rounds.get(&t).and_then(|r| r.commit_of(i)) == Some(c)
        };
        let new_commits = |t: u64, commits: &[Commit]| -> Vec<SignatureCheck> {
            (0..)
                .zip(commits)
                .filter(|(i, c)| !known(t, *i, c))
                .map(|(i, c)| commit_check(t, i, c))
                .collect()
        };
        match part {
            Part::Commit { epoch, t, .. }
            | Part::Seal { epoch, t, .. }
            | Part::Reveal { epoch, t, .. }
                if *t < self.decided_next && *epoch == self.epoch =>
            {
                // P-CERT-2: whoever still works on a decided t gets its certificate.
                let key = records::t_key(records::CERTIFICATE, &self.id, *t);
                io.effect(Effect::SendStored {
                    to: self.nodes[from],
                    key,
                });
                None
            }
            Part::Commit {
                epoch, t, commit, ..
            } if at(*epoch, *t) => Some(if known(*t, from, commit) {
                vec![]
            } else {
                vec![commit_check(*t, from, commit)]
            }),
            Part::Seal {
                epoch, t, commits, ..
            } if at(*epoch, *t) && commits.len() == n => Some(new_commits(*t, commits)),
            Part::Reveal {
                epoch,
                t,
                seal,
                reveal,
                ..
            } if at(*epoch, *t) => {
                let round = self.rounds.get(t)?;
                if round.reveal_of(from).is_some() {
                    return None;
                }
                let digest = self.reveal_digest(reveal, *t, seal, io);
                Some(vec![SignatureCheck {
                    key: self.record.keys[from],
                    digest,
                    signature: reveal.signature,
                }])
            }
            Part::Certificate {
                epoch,
                t,
                commits,
                reveals,
                ..
            } if *t == self.decided_next
                && *epoch == self.epoch
                && commits.len() == n
                && reveals.len() == n =>
            {
                let mut checks = new_commits(*t, commits);
                let seal = Round::new(self.subject(*t, io), self.nodes.clone(), self.me, 0)
                    .seal_of(commits);
                for (i, r) in reveals.iter().enumerate() {
                    if self.rounds.get(t).and_then(|x| x.reveal_of(i)) != Some(r) {
                        let digest = self.reveal_digest(r, *t, &seal, io);
                        checks.push(SignatureCheck {
                            key: self.record.keys[i],
                            digest,
                            signature: r.signature,
                        });
                    }
                }
                Some(checks)
            }
            Part::Partial {
                session,
                nonce_set,
                partial,
                signature,
            } => {
                let digest = self.settle.partial_digest(
                    session,
                    nonce_set,
                    partial,
                    from,
                    self.config,
                    io,
                )?;
                Some(vec![SignatureCheck {
                    key: self.record.keys[from],
                    digest,
                    signature: *signature,
                }])
            }
            Part::Nonce { .. } | Part::Nonces { .. } | Part::Aggregate { .. } => Some(vec![]),
            Part::Status { next_q, .. } if next_q.len() == self.sensors.len() => Some(vec![]),
            Part::Want { .. } => Some(vec![]),
            _ => None,
        }
    }

    /// A part whose signatures are good.
    pub(crate) fn part(&mut self, from: usize, part: Part, traces: &Traces, io: &mut Io) {
        match part {
            Part::Commit { t, commit, .. } => self.feed(t, RoundInput::Commit { from, commit }, io),
            Part::Seal { t, commits, .. } => {
                self.follow(t, from);
                self.feed(t, RoundInput::Seal { commits }, io);
            }
            Part::Reveal {
                t, seal, reveal, ..
            } => self.feed(t, RoundInput::Reveal { from, seal, reveal }, io),
            Part::Certificate {
                t,
                commits,
                reveals,
                ..
            } if t == self.decided_next => {
                self.feed(t, RoundInput::Certificate { commits, reveals }, io);
            }
            Part::Nonce { session, nonce } => self.settle.nonce(from, session, nonce, io),
            Part::Nonces { session, nonces } => self.settle.nonces(from, session, nonces, io),
            Part::Partial {
                session,
                nonce_set,
                partial,
                ..
            } => {
                self.settle.partial(from, session, nonce_set, partial, io);
            }
            Part::Aggregate { session, signature } => self.settle.aggregate(session, signature, io),
            Part::Want { from_t, .. } => {
                for t in from_t..self.decided_next.min(from_t.saturating_add(8)) {
                    let key = records::t_key(records::CERTIFICATE, &self.id, t);
                    io.effect(Effect::SendStored {
                        to: self.nodes[from],
                        key,
                    });
                }
            }
            Part::Status { next_t, .. } if next_t > self.decided_next => {
                let want = Part::Want {
                    agreement: self.id,
                    from_t: self.decided_next,
                };
                io.send(self.nodes[from], want);
            }
            _ => {}
        }
        self.progress(traces, io);
    }

    // Who sealed or certified leads: nodes whose views drifted apart meet again.
    pub(super) fn follow(&mut self, t: u64, from: usize) {
        if self.leader(t) == self.me {
            return; // The others bring a new leader what it may lack.
        }
        let n = self.nodes.len();
        let ahead = (from + n - self.leader(t)) % n;
        self.pacemaker.view = (self.pacemaker.view + ahead as u32) % n as u32;
    }

    /// What this node holds, for the others.
    pub(crate) fn status(&self, traces: &Traces) -> Part {
        let next_q = self.sensors.iter().map(|s| traces[s].next_q).collect();
        Part::Status {
            agreement: self.id,
            next_t: self.decided_next,
            next_q,
        }
    }
}
