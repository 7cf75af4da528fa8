//! The aggregated signature over a second reading: sessions as those of units, with attempts numbered apart.

use super::{ATTEMPTS, Reading, Readings};
use crate::agreement::Cx;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Effect, SignatureCheck};
use crate::io::{After, Then};
use diversity_proto::round::{PublicNonce, Session, partial_digest};
use diversity_proto::wire::Part;
use diversity_proto::{Digest, Signature};

impl Readings {
    fn digest(&self, session: &Session, cx: &Cx<'_>) -> Option<Digest> {
        let r = self.holes.get(&session.t)?;
        let run = r.run.as_ref().filter(|run| run.signature.is_none())?;
        let current =
            session.attempt / ATTEMPTS == u32::from(r.number) && session.from == session.t;
        let outcome = run.outcome.as_ref().filter(|_| current)?;
        Some(outcome.digest(&cx.setting.deployment))
    }
    pub fn own_nonce(&mut self, session: Session, nonce: PublicNonce, cx: &mut Cx<'_>) {
        self.signing.own_nonce(session, nonce, cx);
        self.try_sign(&session, cx);
    }
    pub fn nonce(&mut self, from: usize, session: Session, nonce: PublicNonce, cx: &mut Cx<'_>) {
        if self.has(session.t) && session.from == session.t {
            self.signing.nonce(from, session, nonce, true, cx);
            self.try_sign(&session, cx);
        }
    }
    pub fn nonces(
        &mut self,
        from: usize,
        session: Session,
        nonces: Vec<PublicNonce>,
        cx: &mut Cx<'_>,
    ) {
        self.signing.nonces(from, session, nonces, cx);
        self.try_sign(&session, cx);
    }
    fn try_sign(&mut self, session: &Session, cx: &mut Cx<'_>) {
        if let Some(digest) = self.digest(session, cx)
            && let Some((session, nonces)) = self.signing.take_set(session.t, session.t, cx)
        {
            cx.io.effect(Effect::MusigSign {
                session,
                nonces,
                digest,
            });
        }
    }
    pub fn signed(&mut self, session: Session, partial: Option<[u8; 32]>, cx: &mut Cx<'_>) {
        let (Some(partial), Some(set)) = (partial, self.signing.set_digest(&session)) else {
            return;
        };
        if let Some(digest) = self.partial_digest(&session, &set, &partial, cx.setting.me(), cx) {
            let then = Then::PartialSigned(session, set, partial);
            cx.io.sign(digest, After::Agreement(cx.setting.id, then));
        }
    }
    fn partial_digest(
        &self,
        session: &Session,
        set: &Digest,
        partial: &[u8; 32],
        node: usize,
        cx: &Cx<'_>,
    ) -> Option<Digest> {
        let digest = self.digest(session, cx)?;
        let epoch = self.holes.get(&session.t)?.marked();
        let subject = cx.setting.subject(epoch, session.t);
        Some(partial_digest(
            &subject,
            &cx.setting.node(node),
            &digest,
            set,
            partial,
        ))
    }
    pub fn partial_signed(
        &mut self,
        session: Session,
        nonce_set: Digest,
        partial: [u8; 32],
        signature: Signature,
        cx: &mut Cx<'_>,
    ) {
        let Some(to) = self.signing.coordinator_of(&session, cx.setting) else {
            return;
        };
        if to == cx.setting.me() {
            return self.partial(to, session, nonce_set, partial, cx);
        }
        let part = Part::Partial {
            session,
            nonce_set,
            partial,
            signature,
        };
        cx.io.send(cx.setting.node(to), part);
    }
    pub fn partial_check(
        &self,
        from: usize,
        session: &Session,
        set: &Digest,
        partial: &[u8; 32],
        signature: Signature,
        cx: &Cx<'_>,
    ) -> Option<SignatureCheck> {
        if self.signing.set_digest(session)? != *set {
            return None;
        }
        Some(SignatureCheck {
            key: cx.setting.committee.keys[from],
            digest: self.partial_digest(session, set, partial, from, cx)?,
            signature,
        })
    }
    pub fn partial(
        &mut self,
        from: usize,
        session: Session,
        set: Digest,
        partial: [u8; 32],
        cx: &mut Cx<'_>,
    ) {
        if let Some(digest) = self.digest(&session, cx)
            && let Some((nonces, partials)) =
                self.signing.partial(from, &session, &set, partial, cx)
        {
            cx.io.effect(Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            });
        }
    }
    pub fn aggregated(
        &mut self,
        session: Session,
        result: Result<Signature, Vec<usize>>,
        cx: &mut Cx<'_>,
    ) {
        match result {
            Ok(signature) => {
                let others: Vec<_> = cx.setting.others().collect();
                for node in others {
                    cx.io.send(node, Part::Aggregate { session, signature });
                }
                self.aggregate_good(session, signature, cx);
            }
            Err(bad) => {
                for i in bad {
                    cx.fault(i, "sent a partial signature that does not verify");
                }
                self.attempt_over(session.t, cx);
            }
        }
    }
    pub fn aggregate(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
        if let Some(digest) = self.digest(&session, cx) {
            cx.io.effect(Effect::VerifyAggregate {
                session,
                digest,
                signature,
            });
        }
    }
    /// The signature over the reading: submitted by one node after the other.
    pub fn aggregate_good(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
        if self.digest(&session, cx).is_none() {
            return;
        }
        self.signing.drop(session.t, session.t, cx);
        if let Some(run) = self.holes.get_mut(&session.t).and_then(|r| r.run.as_mut()) {
            run.signature = Some(signature);
            let distance = cx.setting.distance(cx.setting.submitter(session.t));
            let due = cx.io.now + distance * cx.io.config.settle_stage_ms;
            cx.timers.set(Timer::Reading(session.t), due);
        }
    }
    pub fn attempt_over(&mut self, t: u64, cx: &mut Cx<'_>) {
        let open = |r: &Reading| {
            r.run
                .as_ref()
                .is_some_and(|run| run.outcome.is_some() && run.signature.is_none())
        };
        if self.holes.get(&t).is_some_and(open) {
            self.signing.next_attempt(t, t, cx);
        }
    }
}
