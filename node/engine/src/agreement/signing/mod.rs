//! The aggregated signature over a range of t (P-MUSIG-1..3; BIP-327), whoever wants it: a unit that settles, or a second reading
//! that fills a cell. Its owner says what is to be signed, and is told once it is; nonces, partial signatures, their envelopes and
//! attempts ([`sessions`]) are the same for both, and stand here alone.

mod sessions;

use crate::agreement::Cx;
use crate::agreement::setting::Setting;
use crate::alloc_prelude::*;
use crate::api::{Effect, SignatureCheck};
use crate::io::{After, Then};
use core::ops::RangeInclusive;
use diversity_proto::round::{PublicNonce, Session, partial_digest};
use diversity_proto::wire::Part;
use diversity_proto::{Digest, Signature};
use sessions::Sessions;

/// What a session is to sign. Its owner says it anew each time: nothing else is signed, whatever was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    /// Epoch that it was decided under.
    pub epoch: u32,
    pub digest: Digest,
}

/// A partial signature of node `from`, and the nonces that it was made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial {
    pub from: usize,
    pub session: Session,
    pub set: Digest,
    pub partial: [u8; 32],
}

impl Partial {
    fn digest(&self, aim: &Aim, s: &Setting) -> Digest {
        let subject = s.subject(aim.epoch, self.session.t);
        let node = s.node(self.from);
        partial_digest(&subject, &node, &aim.digest, &self.set, &self.partial)
    }
}

/// Signing of all ranges of one owner.
#[derive(Default)]
pub(crate) struct Signing {
    sessions: Sessions,
    /// What the signature of a range is being made or checked over.
    checking: BTreeMap<(u64, u64), Digest>,
}

impl Signing {
    // ---- ranges

    /// The range may well be signed: its nonce is drawn, so that it can leave early.
    pub fn expect(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        self.sessions.open(from, t, 0..=u32::MAX);
        self.sessions.ask_nonce(from, t, cx);
    }
    /// The range is to be signed, in these attempts: the timer opens the next one whenever one makes no progress.
    pub fn begin(
        &mut self,
        (from, t): (u64, u64),
        attempts: RangeInclusive<u32>,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        self.sessions.open(from, t, attempts);
        self.sessions.arm(from, t, cx);
        self.sessions.ask_nonce(from, t, cx);
        self.try_sign(from, t, aim, cx);
    }
    /// The range has a signature of an earlier run. If it does not verify, the timer opens the first attempt.
    pub fn begin_signed(
        &mut self,
        session: Session,
        signature: Signature,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        let (from, t) = (session.from, session.t);
        self.sessions.open(from, t, 0..=u32::MAX);
        self.sessions.arm(from, t, cx);
        self.claimed(session, signature, aim, cx);
    }
    /// The range is signed, or is none any more.
    pub fn drop(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        self.sessions.drop(from, t, cx);
        self.checking.remove(&(from, t));
    }
    /// Ranges that end where this says no are none any more.
    pub fn retain(&mut self, cx: &mut Cx<'_>, keep: impl Fn(u64) -> bool) {
        self.sessions.retain(cx, &keep);
        self.checking.retain(|(_, last), _| keep(*last));
    }
    /// An attempt made no progress, or ended badly.
    pub fn attempt_over(&mut self, from: u64, t: u64, aim: Option<Aim>, cx: &mut Cx<'_>) {
        if aim.is_some() {
            self.sessions.next_attempt(from, t, cx);
            self.try_sign(from, t, aim, cx);
        }
    }

    // ---- nonces

    /// This node's own public nonce is drawn.
    pub fn own_nonce(
        &mut self,
        session: Session,
        nonce: PublicNonce,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        self.sessions.own_nonce(session, nonce, cx);
        self.try_sign(session.from, session.t, aim, cx);
    }
    /// A node's public nonce; `near` says whether the range may become one that is signed here.
    pub fn nonce(
        &mut self,
        from: usize,
        (session, nonce): (Session, PublicNonce),
        near: bool,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        self.sessions.nonce(from, session, nonce, near, cx);
        self.try_sign(session.from, session.t, aim, cx);
    }
    /// The ordered nonces, from the coordinator of the attempt.
    pub fn nonces(
        &mut self,
        from: usize,
        session: Session,
        nonces: Vec<PublicNonce>,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        self.sessions.nonces(from, session, nonces, cx);
        self.try_sign(session.from, session.t, aim, cx);
    }

    /// Signs once both the nonces and what is to be signed are known.
    fn try_sign(&mut self, from: u64, t: u64, aim: Option<Aim>, cx: &mut Cx<'_>) {
        if let Some(Aim { digest, .. }) = aim
            && let Some((session, nonces)) = self.sessions.take_set(from, t, cx)
        {
            cx.io.effect(Effect::MusigSign {
                session,
                nonces,
                digest,
            });
        }
    }

    // ---- partial signatures (P-MUSIG-2)

    /// This node's partial signature; `None` if the secret nonce is gone. It leaves in an envelope that is to be signed.
    pub fn made(
        &mut self,
        session: Session,
        partial: Option<[u8; 32]>,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        let (Some(partial), Some(aim), Some(set)) =
            (partial, aim, self.sessions.set_digest(&session))
        else {
            return;
        };
        let own = Partial {
            from: cx.setting.me(),
            session,
            set,
            partial,
        };
        let digest = own.digest(&aim, cx.setting);
        let then = Then::PartialSigned(own);
        cx.io.sign(digest, After::Agreement(cx.setting.id, then));
    }
    /// The envelope around the own partial is signed.
    pub fn enveloped(
        &mut self,
        own: Partial,
        signature: Signature,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        let Some(to) = self.sessions.coordinator_of(&own.session, cx.setting) else {
            return;
        };
        if to == cx.setting.me() {
            return self.partial(own, aim, cx);
        }
        let part = Part::Partial {
            session: own.session,
            nonce_set: own.set,
            partial: own.partial,
            signature,
        };
        cx.io.send(cx.setting.node(to), part);
    }
    /// Which signature the envelope around a node's partial needs, if this node works on that session.
    pub fn check(
        &self,
        p: &Partial,
        signature: Signature,
        aim: Option<Aim>,
        s: &Setting,
    ) -> Option<SignatureCheck> {
        let aim = aim.filter(|_| self.sessions.set_digest(&p.session) == Some(p.set))?;
        Some(SignatureCheck {
            key: s.committee.keys[p.from],
            digest: p.digest(&aim, s),
            signature,
        })
    }
    /// A node's partial signature in a good envelope; once all are here they are added up.
    pub fn partial(&mut self, p: Partial, aim: Option<Aim>, cx: &mut Cx<'_>) {
        if let Some(Aim { digest, .. }) = aim
            && let Some((nonces, partials)) = self
                .sessions
                .partial(p.from, &p.session, &p.set, p.partial, cx)
        {
            let range = (p.session.from, p.session.t);
            self.checking.insert(range, digest);
            cx.io.effect(Effect::MusigAggregate {
                session: p.session,
                nonces,
                partials,
                digest,
            });
        }
    }

    // ---- the signature

    /// The partials are added up, and all others told; or some of them are bad: then another attempt follows.
    pub fn aggregated(
        &mut self,
        session: Session,
        result: Result<Signature, Vec<usize>>,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) -> Option<Signature> {
        match result {
            Ok(signature) => {
                let others: Vec<_> = cx.setting.others().collect();
                for node in others {
                    cx.io.send(node, Part::Aggregate { session, signature });
                }
                Some(signature)
            }
            Err(bad) => {
                for i in bad {
                    cx.fault(i, "sent a partial signature that does not verify");
                }
                self.attempt_over(session.from, session.t, aim, cx);
                None
            }
        }
    }
    /// Somebody says that this is the aggregated signature.
    pub fn claimed(
        &mut self,
        session: Session,
        signature: Signature,
        aim: Option<Aim>,
        cx: &mut Cx<'_>,
    ) {
        if let Some(Aim { digest, .. }) = aim {
            self.checking.insert((session.from, session.t), digest);
            cx.io.effect(Effect::VerifyAggregate {
                session,
                digest,
                signature,
            });
        }
    }
    /// A signature of the range verifies: whether it is over what is to be signed still. Another epoch may have come in between.
    pub fn verified(&mut self, session: &Session, aim: Option<Aim>) -> bool {
        let over = self.checking.remove(&(session.from, session.t));
        aim.is_some_and(|aim| over == Some(aim.digest))
    }
}
