//! The rounds of an agreement: what they want done, and what follows from a status (docs/protocol.md).

use super::*;

impl Agreement {
    // ---- rounds

    pub(super) fn round(&mut self, t: u64, io: &Io) -> Result<&mut Round, ()> {
        if t < self.decided_next || t >= self.decided_next + LOOKAHEAD {
            return Err(());
        }
        let (subject, leader) = (self.subject(t, io), self.leader(t));
        let (nodes, me) = (&self.nodes, self.me);
        Ok(self
            .rounds
            .entry(t)
            .or_insert_with(|| Round::new(subject, nodes.clone(), me, leader)))
    }

    pub(crate) fn then(
        &mut self,
        then: Then,
        signature: Option<Signature>,
        traces: &Traces,
        io: &mut Io,
    ) {
        match then {
            Then::CommitDurable(t) => {
                if let Some(commit) = self.unsent.remove(&t) {
                    self.feed(t, RoundInput::OwnCommit(commit), io);
                    self.pacemaker.arm(io.now);
                }
            }
            Then::RevealSigned(t, seal, mut reveal) => {
                let Some(signature) = signature else { return };
                reveal.signature = signature;
                let op = RevealRecord {
                    seal,
                    reveal: reveal.clone(),
                }
                .put(&self.id, t);
                io.persist(
                    vec![op],
                    After::Agreement(self.id, Then::RevealDurable(t, reveal)),
                );
            }
            Then::RevealDurable(t, reveal) => self.feed(t, RoundInput::OwnReveal(reveal), io),
            Then::PartialSigned(session, nonce_set, partial) => {
                if let Some(signature) = signature {
                    self.settle
                        .partial_signed(session, nonce_set, partial, signature, io);
                }
            }
            Then::AggregateDurable(from) => self.settle.aggregate_durable(from, io),
        }
        self.progress(traces, io);
    }

    /// Gives the round of t an input and carries out what it wants.
    pub(super) fn feed(&mut self, t: u64, input: RoundInput, io: &mut Io) {
        if self.halted.is_some() {
            return;
        }
        let Ok(round) = self.round(t, io) else { return };
        for output in round.step(input) {
            self.output(t, output, io);
        }
    }

    pub(super) fn output(&mut self, t: u64, output: Output, io: &mut Io) {
        let (agreement, epoch) = (self.id, self.epoch);
        let Some(round) = self.rounds.get(&t) else {
            return;
        };
        match output {
            Output::SendCommit { to } => {
                if let Some(commit) = round.own_commit().copied() {
                    io.send(
                        self.nodes[to],
                        Part::Commit {
                            agreement,
                            epoch,
                            t,
                            commit,
                        },
                    );
                }
            }
            Output::SendSeal { to } => {
                if let Some(commits) = round.all_commits() {
                    self.send(
                        to,
                        Part::Seal {
                            agreement,
                            epoch,
                            t,
                            commits,
                        },
                        io,
                    );
                }
            }
            Output::MakeReveal { .. } => self.reveal_if_due(io),
            Output::SendReveal { to } => {
                if let (Some(reveal), Some(seal)) = (round.own_reveal().cloned(), round.sealed()) {
                    let part = Part::Reveal {
                        agreement,
                        epoch,
                        t,
                        seal,
                        reveal,
                    };
                    // The reveal of t travels with the commit of t+1 when that is about to leave for the same node (paper,
                    // Fig. 2B). Behind commits that left before, it would only hold up the rounds.
                    let coming =
                        self.working.contains_key(&(t + 1)) || self.unsent.contains_key(&(t + 1));
                    let wait = if coming && self.leader(t + 1) == to {
                        u64::from(self.record.terms.flush_ms)
                    } else {
                        0
                    };
                    io.send_by(io.now + wait, self.nodes[to], part);
                }
            }
            Output::SendCertificate => {
                if let (Some(commits), Some(reveals)) = (round.all_commits(), round.all_reveals()) {
                    self.send(
                        None,
                        Part::Certificate {
                            agreement,
                            epoch,
                            t,
                            commits,
                            reveals,
                        },
                        io,
                    );
                }
            }
            Output::Decided(decision) => self.decided(t, decision, io),
            Output::Fault(fault) => self.fault(t, fault, io),
        }
    }

    pub(super) fn send(&self, to: Option<usize>, part: Part, io: &mut Io) {
        for (i, node) in self.nodes.iter().enumerate() {
            if i != self.me && to.is_none_or(|to| to == i) {
                io.send(*node, part.clone());
            }
        }
    }

    /// P-REVEAL-1: the reveal of t is made once t is sealed and the status of t-1 is known.
    pub(super) fn reveal_if_due(&mut self, io: &mut Io) {
        let t = self.decided_next;
        if self.blocked.is_some() || self.halted.is_some() || self.revealing == Some(t) {
            return;
        }
        let Some(seal) = self
            .rounds
            .get(&t)
            .filter(|r| !r.revealed())
            .and_then(Round::sealed)
        else {
            return;
        };
        let Some((computed, secret, salt)) = self.own.get(&t).cloned() else {
            return;
        };
        let reveal = Reveal {
            computed,
            secret,
            salt,
            from: self.from,
            holes: self.holes.clone(),
            signature: Signature([0; 64]),
        };
        let digest = self.reveal_digest(&reveal, t, &seal, io);
        self.revealing = Some(t);
        io.sign(
            digest,
            After::Agreement(self.id, Then::RevealSigned(t, seal, reveal)),
        );
        self.settle.prepare(self.from, t, io);
    }

    pub(super) fn reveal_digest(&self, r: &Reveal, t: u64, seal: &Digest, io: &Io) -> Digest {
        let d = &io.config.deployment;
        r.digest(d, &r.outcome(self.id, self.epoch, t, seal))
    }

    pub(super) fn decided(&mut self, t: u64, decision: Decision, io: &mut Io) {
        debug_assert_eq!(
            t, self.decided_next,
            "a t is decided after the one before it"
        );
        let round = self.rounds.remove(&t).expect("it just decided");
        let (commits, reveals) = (
            round.all_commits().expect("all"),
            round.all_reveals().expect("all"),
        );
        let seal = round.sealed().expect("sealed");
        let part = Part::Certificate {
            agreement: self.id,
            epoch: self.epoch,
            t,
            commits: commits.clone(),
            reveals: reveals.clone(),
        };
        let op = records::put_part(records::t_key(records::CERTIFICATE, &self.id, t), &part);
        // Whoever lacks the certificate after a crash gets it from a peer.
        io.persist_soon(vec![op], After::Nothing);
        self.apply(t, &decision, &commits, &reveals, seal, io);
        self.pacemaker.progress(io.now, self.has_undecided());
        self.reveal_if_due(io);
    }

    /// The status of t is known: what follows from it (also after a restart).
    pub(super) fn apply(
        &mut self,
        t: u64,
        decision: &Decision,
        commits: &[Commit],
        reveals: &[Reveal],
        seal: Digest,
        io: &mut Io,
    ) {
        self.own.remove(&t);
        self.decided_next = t + 1;
        self.revealing = None;
        let status = match decision {
            Decision::Outcome => {
                let outcome = reveals[0].outcome(self.id, self.epoch, t, &seal);
                io.notice(Notice::Certified {
                    agreement: self.id,
                    t,
                    kind: outcome.kind,
                });
                let null = outcome.kind == diversity_proto::round::OutputKind::Null as u8;
                if !null {
                    self.from = t + 1;
                    self.holes.clear();
                }
                let signatures = reveals.iter().map(|r| r.signature).collect();
                Status::Outcome {
                    outcome,
                    signatures,
                    holes: reveals[0].holes.clone(),
                }
            }
            Decision::Hole {
                state_agreed,
                all_abstained,
            } => {
                if self.holes.len() < HOLES_MAX {
                    self.holes.push(t);
                }
                if !state_agreed {
                    self.blocked = Some(t);
                }
                let reason = if *all_abstained {
                    "every node abstained: the code went past an engine limit or gave an unusable output".into()
                } else {
                    differing(&self.nodes, reveals)
                };
                io.notice(Notice::Hole {
                    agreement: self.id,
                    t,
                    reason,
                });
                let evidence = Evidence::UnequalReveals {
                    commits: commits.to_vec(),
                    reveals: reveals.to_vec(),
                    seal,
                };
                Status::Hole {
                    evidence,
                    leader: self.leader(t),
                }
            }
        };
        self.settle.decided(t, self.epoch, status, io);
    }

    pub(super) fn fault(&mut self, t: u64, fault: Fault, io: &mut Io) {
        let (node, what, evidence) = match fault {
            Fault::Equivocation {
                node,
                first,
                second,
            } => {
                let id = self.nodes[node];
                (
                    id,
                    "signed two commits for one execution",
                    Some(Evidence::Equivocation {
                        node: id,
                        first,
                        second,
                    }),
                )
            }
            Fault::FalseOpening {
                node,
                commit,
                reveal,
                seal,
            } => {
                let id = self.nodes[node];
                let e = Evidence::FalseOpening {
                    node: id,
                    commit,
                    reveal,
                    seal,
                };
                (
                    id,
                    "revealed something that does not open its commit",
                    Some(e),
                )
            }
            Fault::WrongSecret { node } => (
                self.nodes[node],
                "revealed a secret that is not the committed one",
                None,
            ),
            Fault::WrongRange { node } => (
                self.nodes[node],
                "revealed from another t, or with other holes, than the rounds before say",
                None,
            ),
            Fault::StaleStore => {
                let why = format!(
                    "the other nodes hold something that this node signed for t={t} and its store does not know: the store is older \
                     than what was signed. Restore the newest store; until then this node signs nothing for this agreement"
                );
                io.notice(Notice::Halted {
                    agreement: self.id,
                    why: why.clone(),
                });
                self.halted = Some(why);
                return;
            }
        };
        io.notice(Notice::Fault {
            node,
            agreement: self.id,
            what: what.into(),
        });
        if let Some(evidence) = evidence
            && self.accused.insert((t, node))
        {
            let submission = Submission::Dispute {
                epoch: self.epoch,
                t,
                evidence,
            };
            io.effect(Effect::Submit {
                agreement: self.id,
                submission,
            });
        }
    }
}

fn differing(nodes: &[NodeId], reveals: &[Reveal]) -> String {
    let mut groups: Vec<(&Reveal, Vec<String>)> = Vec::new();
    for (node, r) in nodes.iter().zip(reveals) {
        let same = |g: &&mut (&Reveal, Vec<String>)| {
            g.0.computed == r.computed && g.0.from == r.from && g.0.holes == r.holes
        };
        match groups.iter_mut().find(same) {
            Some(g) => g.1.push(node.hex()),
            None => groups.push((r, vec![node.hex()])),
        }
    }
    let parts: Vec<_> = groups.iter().map(|g| g.1.join(", ")).collect();
    format!(
        "the nodes revealed different outcomes: [{}]",
        parts.join("] against [")
    )
}
