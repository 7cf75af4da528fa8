//! MuSig2 sessions over the units: nonces, partials, attempts (P-MUSIG-1..3).

use super::*;

impl Settle {
    // ---- MuSig2

    pub(super) fn arm(&mut self, from: u64, t: u64, now: Millis) {
        let (first, max) = (self.timeout_ms, self.timeout_max_ms);
        if let Some(r) = self.ranges.get_mut(&(from, t)) {
            r.timer = Some(now + (first << r.attempt.min(20)).min(max));
        }
    }

    pub(super) fn ask_nonce(&mut self, from: u64, t: u64, io: &mut Io) {
        let agreement = self.id;
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        let attempt = r.attempt;
        let x = r.attempts.entry(attempt).or_default();
        if !x.asked {
            x.asked = true;
            io.effect(Effect::MusigNonce {
                session: Session {
                    agreement,
                    from,
                    t,
                    attempt,
                },
            });
        }
    }

    /// This node's own public nonce is drawn.
    pub(crate) fn own_nonce(&mut self, session: Session, nonce: PublicNonce, io: &mut Io) {
        let Some(r) = self.ranges.get_mut(&(session.from, session.t)) else {
            return;
        };
        let Some(x) = r
            .attempts
            .get_mut(&session.attempt)
            .filter(|x| x.own.is_none())
        else {
            return;
        };
        x.own = Some(nonce);
        let to = self.coordinator(&self.ranges[&(session.from, session.t)], session.attempt);
        if to == self.me {
            self.nonce(self.me, session, nonce, io);
        } else {
            io.send(self.nodes[to], Part::Nonce { session, nonce });
        }
    }

    /// A node's public nonce.
    pub(crate) fn nonce(&mut self, from: usize, session: Session, nonce: PublicNonce, io: &mut Io) {
        let (n, me) = (self.n(), self.me);
        let (first, last) = (session.from, session.t);
        if last < self.chain_next
            || self
                .units
                .get(&first)
                .is_some_and(|u| u.t == last && u.signature.is_some())
        {
            self.tell_aggregate(from, last, io);
            return;
        }
        let Some(r) = self.range_of_peer(first, last) else {
            return;
        };
        if session.attempt < r.attempt || session.attempt > r.attempt + 2 * n as u32 {
            return;
        }
        let later = session.attempt > r.attempt;
        r.attempt = session.attempt;
        r.attempts
            .entry(session.attempt)
            .or_default()
            .nonces
            .entry(from)
            .or_insert(nonce);
        if later {
            self.arm(first, last, io.now);
        }
        // Others may have cut the batch earlier than this node would have.
        if !self.units.contains_key(&first)
            && self.batch > 1
            && last < self.next
            && first == self.unit_start()
        {
            self.unit(first, last, io);
        }
        self.ask_nonce(first, last, io);
        let r = &self.ranges[&(first, last)];
        if self.coordinator(r, session.attempt) != me {
            return;
        }
        let x = &r.attempts[&session.attempt];
        if x.set.is_none() && x.nonces.len() == n {
            let nonces: Vec<_> = x.nonces.values().copied().collect();
            for (i, node) in self.nodes.iter().enumerate() {
                if i != me {
                    io.send(
                        *node,
                        Part::Nonces {
                            session,
                            nonces: nonces.clone(),
                        },
                    );
                }
            }
            self.nonces(me, session, nonces, io);
        }
    }

    pub(super) fn unit_start(&self) -> u64 {
        self.units
            .values()
            .map(|u| u.t + 1)
            .max()
            .unwrap_or(0)
            .max(self.chain_next)
    }

    pub(super) fn tell_aggregate(&self, to: usize, last: u64, io: &mut Io) {
        if to != self.me {
            let key = records::t_key(records::AGGREGATE, &self.id, last);
            io.effect(Effect::SendStored {
                to: self.nodes[to],
                key,
            });
        }
    }

    /// The ordered nonces, from the coordinator of the attempt. One set per session, ever: the secret nonce signs once.
    pub(crate) fn nonces(
        &mut self,
        from: usize,
        session: Session,
        nonces: Vec<PublicNonce>,
        io: &mut Io,
    ) {
        let (me, n) = (self.me, self.n());
        let Some(r) = self.ranges.get(&(session.from, session.t)) else {
            return;
        };
        if self.coordinator(r, session.attempt) != from || nonces.len() != n {
            return;
        }
        let r = self
            .ranges
            .get_mut(&(session.from, session.t))
            .expect("just seen");
        let Some(x) = r.attempts.get_mut(&session.attempt) else {
            return;
        };
        if x.set.is_some() || x.own != Some(nonces[me]) {
            return;
        }
        x.set = Some(nonces);
        self.try_sign(session.from, session.t, io);
    }

    /// Signs once both the nonces and the outcome are known.
    pub(super) fn try_sign(&mut self, from: u64, t: u64, io: &mut Io) {
        let Some(unit) = self
            .units
            .get(&from)
            .filter(|u| u.t == t && u.signature.is_none())
        else {
            return;
        };
        let digest = unit.digest;
        let agreement = self.id;
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        let attempt = r.attempt;
        let Some(x) = r.attempts.get_mut(&attempt) else {
            return;
        };
        let Some(nonces) = x.set.clone() else { return };
        // Taken: one partial per nonce, ever.
        if x.own.take().is_some() {
            io.effect(Effect::MusigSign {
                session: Session {
                    agreement,
                    from,
                    t,
                    attempt,
                },
                nonces,
                digest,
            });
        }
    }

    /// This node's partial signature; `None` if the secret nonce is gone.
    pub(crate) fn signed(
        &mut self,
        session: Session,
        partial: Option<[u8; 32]>,
        config: Subject,
        io: &mut Io,
    ) -> Option<()> {
        let partial = partial?;
        let unit = self.units.get(&session.from).filter(|u| u.t == session.t)?;
        let x = self
            .ranges
            .get(&(session.from, session.t))?
            .attempts
            .get(&session.attempt)?;
        let nonce_set = session.nonce_set(x.set.as_ref()?);
        let digest = partial_digest(
            &config,
            &self.nodes[self.me],
            &unit.digest,
            &nonce_set,
            &partial,
        );
        io.sign(
            digest,
            After::Agreement(self.id, Then::PartialSigned(session, nonce_set, partial)),
        );
        Some(())
    }

    /// The envelope around the partial is signed.
    pub(crate) fn partial_signed(
        &mut self,
        session: Session,
        set: Digest,
        partial: [u8; 32],
        sig: Signature,
        io: &mut Io,
    ) {
        let Some(r) = self.ranges.get(&(session.from, session.t)) else {
            return;
        };
        let to = self.coordinator(r, session.attempt);
        if to == self.me {
            self.partial(self.me, session, set, partial, io);
        } else {
            io.send(
                self.nodes[to],
                Part::Partial {
                    session,
                    nonce_set: set,
                    partial,
                    signature: sig,
                },
            );
        }
    }

    /// What a node signed around its partial, if this node coordinates that session.
    pub(crate) fn partial_digest(
        &self,
        session: &Session,
        set: &Digest,
        partial: &[u8; 32],
        from: usize,
        config: Digest,
        io: &Io,
    ) -> Option<Digest> {
        let unit = self
            .units
            .get(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())?;
        let x = self
            .ranges
            .get(&(session.from, session.t))?
            .attempts
            .get(&session.attempt)?;
        if session.nonce_set(x.set.as_ref()?) != *set {
            return None;
        }
        let subject = Subject {
            deployment: io.config.deployment,
            config,
            t: session.t,
        };
        Some(partial_digest(
            &subject,
            &self.nodes[from],
            &unit.digest,
            set,
            partial,
        ))
    }

    /// A node's partial signature in a good envelope.
    pub(crate) fn partial(
        &mut self,
        from: usize,
        session: Session,
        set: Digest,
        partial: [u8; 32],
        io: &mut Io,
    ) {
        let n = self.n();
        let Some(unit) = self
            .units
            .get(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())
        else {
            return;
        };
        let digest = unit.digest;
        let Some(r) = self.ranges.get_mut(&(session.from, session.t)) else {
            return;
        };
        let Some(x) = r.attempts.get_mut(&session.attempt) else {
            return;
        };
        let Some(nonces) = x.set.clone().filter(|s| session.nonce_set(s) == set) else {
            return;
        };
        x.partials.entry(from).or_insert(partial);
        if x.partials.len() == n && !x.aggregating {
            x.aggregating = true;
            let partials = x.partials.values().copied().collect();
            io.effect(Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            });
        }
    }

    /// The partials are added up, or some of them are bad: then another attempt follows, and the outcome settles all the same.
    pub(crate) fn aggregated(
        &mut self,
        session: Session,
        result: Result<Signature, Vec<usize>>,
        io: &mut Io,
    ) {
        match result {
            Ok(signature) => {
                for (i, node) in self.nodes.iter().enumerate() {
                    if i != self.me {
                        io.send(*node, Part::Aggregate { session, signature });
                    }
                }
                self.aggregate_good(session, signature, io);
            }
            Err(bad) => {
                for i in bad {
                    let what = "sent a partial signature that does not verify".into();
                    io.notice(Notice::Fault {
                        node: self.nodes[i],
                        agreement: self.id,
                        what,
                    });
                }
                self.next_attempt(session.from, session.t, io);
            }
        }
    }

    /// Somebody says that this is the aggregated signature.
    pub(crate) fn aggregate(&mut self, session: Session, signature: Signature, io: &mut Io) {
        if let Some(u) = self
            .units
            .get(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())
        {
            io.effect(Effect::VerifyAggregate {
                session,
                digest: u.digest,
                signature,
            });
        }
    }

    /// It is.
    pub(crate) fn aggregate_good(&mut self, session: Session, signature: Signature, io: &mut Io) {
        let Some(u) = self
            .units
            .get_mut(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())
        else {
            return;
        };
        u.signature = Some(signature);
        self.ranges.remove(&(session.from, session.t));
        let key = records::t_key(records::AGGREGATE, &self.id, session.t);
        let op = records::put_part(key, &Part::Aggregate { session, signature });
        io.persist_soon(
            vec![op],
            After::Agreement(self.id, Then::AggregateDurable(session.from)),
        );
    }

    pub(crate) fn aggregate_durable(&mut self, from: u64, io: &mut Io) {
        if let Some(u) = self.units.get_mut(&from) {
            u.ready.get_or_insert(io.now);
        }
        self.advance(io);
    }

    /// What the chain had settled before a restart.
    pub(crate) fn recover_settled(&mut self, last: u64) {
        self.chain_next = self.chain_next.max(last + 1);
    }
    /// A hole that the chain held before a restart.
    pub(crate) fn recover_hole(&mut self, t: u64) {
        self.holes_final.insert(t);
        self.hole_submit.remove(&t);
    }
    /// Cuts what is not settled into units again.
    pub(crate) fn recover_units(&mut self, io: &mut Io) {
        let keep = self.chain_next;
        self.statuses.retain(|at, _| *at >= keep);
        self.units.clear();
        self.ranges.clear();
        self.form_units(false, io);
    }
    /// The secret nonces of an earlier run are gone: every unsigned unit starts over with fresh ones.
    pub(crate) fn resume(&mut self, io: &mut Io) {
        for r in self.ranges.values_mut() {
            *r = Range {
                leader: r.leader,
                ..Range::default()
            };
        }
        let open: Vec<_> = self
            .units
            .values()
            .filter(|u| u.signature.is_none())
            .map(|u| (u.from, u.t))
            .collect();
        for (from, t) in open {
            self.own_range(from, t);
            self.ask_nonce(from, t, io);
            self.arm(from, t, io.now);
        }
        self.idle = (self.batch > 1).then_some(io.now + self.timeout_ms);
        self.advance(io);
    }

    /// An aggregated signature of an earlier run.
    pub(crate) fn recover_aggregate(&mut self, part: &Part, now: Millis) {
        let Part::Aggregate { session, signature } = part else {
            return;
        };
        if let Some(u) = self
            .units
            .get_mut(&session.from)
            .filter(|u| u.t == session.t)
        {
            u.signature = Some(*signature);
            u.ready = Some(now);
            self.ranges.remove(&(session.from, session.t));
        }
    }

    pub(super) fn next_attempt(&mut self, from: u64, t: u64, io: &mut Io) {
        let give_up = 2 * self.n() as u32;
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        r.attempt += 1;
        let attempt = r.attempt;
        r.attempts.retain(|a, _| *a >= attempt);
        if attempt >= give_up
            && let Some(u) = self.units.get_mut(&from).filter(|u| u.t == t)
        {
            // Whoever refuses to aggregate only makes settlement dearer: n signed reveals are a certificate of their own.
            u.fallback = true;
            u.ready.get_or_insert(io.now);
        }
        self.arm(from, t, io.now);
        self.ask_nonce(from, t, io);
    }
}
