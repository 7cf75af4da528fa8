//! From known statuses to what is final on chain (design §3, §4): units of outcomes ([`units`]), the aggregated signature over
//! each ([`signing`]), and who submits what when ([`staging`]).

mod signing;
mod staging;
mod units;

use crate::agreement::Cx;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Effect, SignatureCheck};
use crate::io::{After, Then};
use crate::records;
use diversity_proto::round::{Outcome, OutputKind, PublicNonce, Session, partial_digest};
use diversity_proto::wire::Part;
use diversity_proto::{Digest, Signature};
use diversity_round::sabotage::{Defect, on};
pub(crate) use signing::Signing;
use signing::Step;
use staging::Staging;
pub(crate) use units::Status;
use units::Units;

/// What of an agreement is on its way to the chain.
pub(crate) struct Settle {
    units: Units,
    signing: Signing,
    staging: Staging,
    /// Signatures of an earlier run, by range: each counts once it verifies under what is to be signed now.
    restored: BTreeMap<(u64, u64), (Session, Signature)>,
    /// What the signature of a range is being made or checked over.
    checking: BTreeMap<(u64, u64), Digest>,
}

impl Settle {
    pub fn new(batch: u16) -> Self {
        Self {
            units: Units::new(batch),
            signing: Signing::default(),
            staging: Staging::default(),
            restored: BTreeMap::new(),
            checking: BTreeMap::new(),
        }
    }

    // ---- state

    /// A status of an earlier run, in order of t.
    pub fn restore_status(&mut self, t: u64, status: Status) {
        self.units.decided(t, status);
    }
    /// What the chain had settled before a restart.
    pub fn restore_settled(&mut self, last: u64) {
        self.staging.restore_settled(last);
    }
    /// All users had closed the agreement behind `last`. Before statuses.
    pub fn restore_closed(&mut self, last: u64) {
        self.units.close(last);
    }
    /// All statuses are in: they are cut into units again. Before the signatures of an earlier run.
    pub fn restore_units(&mut self, cx: &mut Cx<'_>) {
        self.units.settled(self.staging.chain_next());
        self.units
            .form(false, self.staging.chain_next(), cx.setting);
    }
    /// An aggregated signature of an earlier run. It may be over what a resolution has ended since.
    pub fn restore_aggregate(&mut self, session: Session, signature: Signature) {
        if self.units.is_unsigned(session.from, session.t) {
            self.restored
                .insert((session.from, session.t), (session, signature));
        }
    }
    /// The secret nonces of an earlier run are gone: every unsigned unit starts over with fresh ones, and every certificate
    /// waits anew.
    pub fn resume(&mut self, cx: &mut Cx<'_>) {
        self.staging.resumed(cx.io.now);
        let values: Vec<u64> = self.units.values().collect();
        for t in values {
            self.start_fallback(t, cx);
        }
        let open: Vec<_> = self.units.unsigned().collect();
        let mut restored = core::mem::take(&mut self.restored);
        for (from, t) in open {
            match restored.remove(&(from, t)) {
                // If it does not verify, the timer opens the first attempt.
                Some((session, signature)) => {
                    self.signing.open(from, t);
                    self.signing.arm(from, t, cx);
                    self.aggregate(session, signature, cx);
                }
                None => self.begin(from, t, cx),
            }
        }
        self.start_idle(cx);
        self.advance(cx);
    }

    /// First t that the chain has no settlement of.
    pub fn chain_next(&self) -> u64 {
        self.staging.chain_next()
    }

    // ---- statuses and units

    /// With batches of one the range is known when the reveal leaves, and the nonce travels with it.
    pub fn prepare(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        if self.units.batch() == 1 && from >= self.staging.chain_next() {
            self.signing.open(from, t);
            self.signing.ask_nonce(from, t, cx);
        }
    }

    /// The status of the next t is known and durable.
    pub fn decided(&mut self, t: u64, status: Status, cx: &mut Cx<'_>) {
        let value = status.is_value();
        self.units.decided(t, status);
        if value {
            self.start_fallback(t, cx);
        } else {
            // Nothing of t settles by itself: the nonce that was drawn early is not needed.
            self.signing.drop_ending(t, cx);
        }
        self.start_idle(cx);
        self.form(false, cx);
        self.advance(cx);
    }

    // P-MUSIG-3: by this node's own clock, from its own certificate; nothing that a peer sends moves it.
    fn start_fallback(&self, t: u64, cx: &mut Cx<'_>) {
        let due = cx.io.now + cx.setting.fallback_ms();
        cx.timers.start(Timer::Fallback(t), due);
    }

    fn start_idle(&self, cx: &mut Cx<'_>) {
        if self.units.batch() > 1 {
            let due = cx.io.now + cx.setting.timeout_ms();
            cx.timers.set(Timer::Idle, due);
        }
    }

    fn form(&mut self, force: bool, cx: &mut Cx<'_>) {
        let new = self
            .units
            .form(force, self.staging.chain_next(), cx.setting);
        for (from, t) in new {
            self.begin(from, t, cx);
        }
    }

    fn begin(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        self.signing.open(from, t);
        self.signing.arm(from, t, cx);
        self.signing.ask_nonce(from, t, cx);
        self.try_sign(from, t, cx);
    }

    // ---- the chain

    /// The chain has settled everything up to t; returns whether any of it is final only now.
    pub fn settled(&mut self, t: u64, cx: &mut Cx<'_>) -> bool {
        let new = self.staging.settled(t, cx.io.now);
        if new {
            let keep = self.staging.chain_next();
            self.units.settled(keep);
            self.signing.settled(keep, cx);
            self.checking.retain(|(_, last), _| *last >= keep);
            cx.timers
                .retain(|x| !matches!(x, Timer::Fallback(at) if *at < keep));
            self.start_idle(cx);
            // P-SETTLE-3: another unit than ours has settled. What stays must follow without a gap, or it is cut anew. (Units may
            // overlap what was signed before: they say the same of each t.)
            self.form(false, cx);
        }
        self.advance(cx);
        new
    }

    /// P-CLOSE-1: nothing behind `last` settles; what reached over it is cut anew.
    pub fn closed(&mut self, last: u64, cx: &mut Cx<'_>) {
        if on(Defect::CloseStrands) {
            return;
        }
        for (from, t) in self.units.close(last) {
            self.signing.drop(from, t, cx);
        }
        self.form(true, cx);
        self.advance(cx);
    }

    /// Everything from t on is gone: another epoch counts there.
    pub fn forget_from(&mut self, t: u64, cx: &mut Cx<'_>) {
        for (from, last) in self.units.forget_from(t) {
            self.signing.drop(from, last, cx);
        }
        self.staging.forget_from(t);
        self.checking.retain(|(_, last), _| *last < t);
        cx.timers
            .retain(|x| !matches!(x, Timer::Fallback(at) if *at >= t));
    }

    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.staging.advance(&self.units, cx);
    }

    // ---- time

    /// Nothing came for a while: what is there settles as it is (P-UNIT-1).
    pub fn idle(&mut self, cx: &mut Cx<'_>) {
        self.form(true, cx);
        self.advance(cx);
    }
    /// This node may submit what is next.
    pub fn submit(&mut self, cx: &mut Cx<'_>) {
        self.advance(cx);
    }
    /// The certificate of t has waited long enough; signing goes on all the same.
    pub fn fallback(&mut self, t: u64, cx: &mut Cx<'_>) {
        self.form(true, cx);
        self.units.fall_back(t, cx.io.now);
        self.advance(cx);
    }
    /// A signing session made no progress.
    pub fn attempt_over(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        if self.units.is_unsigned(from, t) {
            self.signing.next_attempt(from, t, cx);
            self.try_sign(from, t, cx);
        }
    }

    // ---- signing sessions (P-MUSIG-1..3)

    /// This node's own public nonce is drawn.
    pub fn own_nonce(&mut self, session: Session, nonce: PublicNonce, cx: &mut Cx<'_>) {
        let step = self.signing.own_nonce(session, nonce, cx);
        self.follow(step, cx);
    }

    /// A node's public nonce.
    pub fn nonce(&mut self, from: usize, session: Session, nonce: PublicNonce, cx: &mut Cx<'_>) {
        let (first, last) = (session.from, session.t);
        if on(Defect::AttemptsPostponeTheFallback) && cx.timers.runs(Timer::Fallback(last)) {
            let due = cx.io.now + cx.setting.fallback_ms();
            cx.timers.set(Timer::Fallback(last), due);
        }
        if last < self.staging.chain_next() || self.units.is_signed(first, last) {
            let key = records::t_key(records::AGGREGATE, &cx.setting.id, last);
            cx.serve(from, last, key);
            return;
        }
        // P-UNIT-2: others may have cut the batch earlier than this node would have. What could not settle is not signed.
        if self.units.takes(first, last, self.staging.chain_next()) {
            if let Some(longer) = self.units.cut(first, last, cx.setting) {
                self.signing.drop(first, longer, cx);
            }
            self.begin(first, last, cx);
            self.form(false, cx);
            self.start_idle(cx);
        }
        let near = self.units.near(first, last, self.staging.chain_next());
        let step = self.signing.nonce(from, session, nonce, near, cx);
        self.follow(step, cx);
    }

    /// The ordered nonces, from the coordinator of the attempt.
    pub fn nonces(
        &mut self,
        from: usize,
        session: Session,
        nonces: Vec<PublicNonce>,
        cx: &mut Cx<'_>,
    ) {
        if self.signing.nonces(from, session, nonces, cx) {
            self.try_sign(session.from, session.t, cx);
        }
    }

    fn follow(&mut self, step: Step, cx: &mut Cx<'_>) {
        if let Step::TrySign(from, t) = step {
            self.try_sign(from, t, cx);
        }
    }

    /// Signs once both the nonces and the outcome are known.
    fn try_sign(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        if let Some(digest) = self.units.unsigned_digest(from, t)
            && let Some((session, nonces)) = self.signing.take_set(from, t, cx)
        {
            cx.io.effect(Effect::MusigSign {
                session,
                nonces,
                digest,
            });
        }
    }

    /// This node's partial signature; `None` if the secret nonce is gone.
    pub fn signed(&mut self, session: Session, partial: Option<[u8; 32]>, cx: &mut Cx<'_>) {
        let (Some(partial), Some(set)) = (partial, self.signing.set_digest(&session)) else {
            return;
        };
        if let Some(digest) = self.partial_digest(&session, &set, &partial, cx.setting.me(), cx) {
            let then = Then::PartialSigned(session, set, partial);
            cx.io.sign(digest, After::Agreement(cx.setting.id, then));
        }
    }

    /// The envelope around the own partial is signed.
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
            self.partial(to, session, nonce_set, partial, cx);
        } else {
            let part = Part::Partial {
                session,
                nonce_set,
                partial,
                signature,
            };
            cx.io.send(cx.setting.node(to), part);
        }
    }

    /// Which signature the envelope around a partial of node `from` needs, if this node works on that session.
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

    fn partial_digest(
        &self,
        session: &Session,
        set: &Digest,
        partial: &[u8; 32],
        node: usize,
        cx: &Cx<'_>,
    ) -> Option<Digest> {
        let digest = self.units.unsigned_digest(session.from, session.t)?;
        let epoch = self.units.epoch_of(session.from)?;
        let subject = cx.setting.subject(epoch, session.t);
        Some(partial_digest(
            &subject,
            &cx.setting.node(node),
            &digest,
            set,
            partial,
        ))
    }

    /// A node's partial signature in a good envelope.
    pub fn partial(
        &mut self,
        from: usize,
        session: Session,
        set: Digest,
        partial: [u8; 32],
        cx: &mut Cx<'_>,
    ) {
        if let Some(digest) = self.units.unsigned_digest(session.from, session.t)
            && let Some((nonces, partials)) =
                self.signing.partial(from, &session, &set, partial, cx)
        {
            self.checking.insert((session.from, session.t), digest);
            cx.io.effect(Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            });
        }
    }

    /// The partials are added up, or some of them are bad: then another attempt follows, and the outcome settles all the same.
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
                self.attempt_over(session.from, session.t, cx);
            }
        }
    }

    /// Somebody says that this is the aggregated signature.
    pub fn aggregate(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
        if let Some(digest) = self.units.unsigned_digest(session.from, session.t) {
            self.checking.insert((session.from, session.t), digest);
            cx.io.effect(Effect::VerifyAggregate {
                session,
                digest,
                signature,
            });
        }
    }

    /// It is.
    pub fn aggregate_good(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
        let range = (session.from, session.t);
        let digest = self.units.unsigned_digest(session.from, session.t);
        // Another epoch may have come in between: then it is over something else.
        if digest.is_none() || self.checking.remove(&range) != digest {
            return;
        }
        let key = records::t_key(records::AGGREGATE, &cx.setting.id, session.t);
        let op = records::put_part(key, &Part::Aggregate { session, signature });
        let then = Then::AggregateDurable(session, signature);
        cx.io
            .persist_soon(vec![op], After::Agreement(cx.setting.id, then));
    }

    pub fn aggregate_durable(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
        self.units
            .sign(session.from, session.t, signature, cx.io.now);
        self.signing.drop(session.from, session.t, cx);
        self.advance(cx);
    }
}

/// Whether an outcome is written on chain.
fn is_value(outcome: &Outcome) -> bool {
    outcome.kind != OutputKind::Null as u8
}
