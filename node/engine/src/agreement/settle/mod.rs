//! From known statuses to what is final on chain (design §3, §4): units of outcomes ([`units`]), the aggregated signature over
//! each ([`Signing`]), and who submits what when ([`staging`]).

mod staging;
mod units;

use crate::agreement::Cx;
use crate::agreement::signing::{Aim, Signing};
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::io::{After, Then};
use crate::records;
use core::ops::RangeInclusive;
use diversity_proto::Signature;
use diversity_proto::round::{Outcome, OutputKind, Session};
use diversity_proto::wire::Part;
use diversity_round::sabotage::{Defect, on};
use staging::Staging;
pub(crate) use units::Status;
use units::Units;

/// In which a unit is signed: it never needs the last of them.
const ATTEMPTS: RangeInclusive<u32> = 0..=u32::MAX;

/// What of an agreement is on its way to the chain.
pub(crate) struct Settle {
    units: Units,
    signing: Signing,
    staging: Staging,
    /// Signatures of an earlier run, by range: each counts once it verifies under what is to be signed now.
    restored: BTreeMap<(u64, u64), (Session, Signature)>,
}

impl Settle {
    pub fn new(batch: u16) -> Self {
        Self {
            units: Units::new(batch),
            signing: Signing::default(),
            staging: Staging::default(),
            restored: BTreeMap::new(),
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
                Some((session, signature)) => {
                    let aim = self.units.aim(from, t);
                    self.signing.begin_signed(session, signature, aim, cx);
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
            self.signing.expect(from, t, cx);
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
            self.signing.retain(cx, |last| last != t);
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
        let aim = self.units.aim(from, t);
        self.signing.begin((from, t), ATTEMPTS, aim, cx);
    }

    // ---- the chain

    /// The chain has settled everything up to t; returns whether any of it is final only now.
    pub fn settled(&mut self, t: u64, cx: &mut Cx<'_>) -> bool {
        let new = self.staging.settled(t, cx.io.now);
        if new {
            let keep = self.staging.chain_next();
            self.units.settled(keep);
            self.signing.retain(cx, |last| last >= keep);
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

    // ---- signatures

    /// What signs, and what this session is to sign: a unit without a signature.
    pub fn signing(&mut self, session: &Session) -> (&mut Signing, Option<Aim>) {
        let aim = self.units.aim(session.from, session.t);
        (&mut self.signing, aim)
    }

    /// A node's public nonce came: whether what it says is kept, because the range is or may become a unit here. Whoever works on
    /// what is signed or settled here is sent the signature instead.
    pub fn heard(&mut self, from: usize, session: &Session, cx: &mut Cx<'_>) -> Option<bool> {
        let (first, last) = (session.from, session.t);
        if on(Defect::AttemptsPostponeTheFallback) && cx.timers.runs(Timer::Fallback(last)) {
            let due = cx.io.now + cx.setting.fallback_ms();
            cx.timers.set(Timer::Fallback(last), due);
        }
        let chain_next = self.staging.chain_next();
        if last < chain_next || self.units.is_signed(first, last) {
            let key = records::t_key(records::AGGREGATE, &cx.setting.id, last);
            cx.serve(from, last, key);
            return None;
        }
        // P-UNIT-2: others may have cut the batch earlier than this node would have. What could not settle is not signed.
        if self.units.takes(first, last, chain_next) {
            if let Some(longer) = self.units.cut(first, last, cx.setting) {
                self.signing.drop(first, longer, cx);
            }
            self.begin(first, last, cx);
            self.form(false, cx);
            self.start_idle(cx);
        }
        Some(self.units.near(first, last, chain_next))
    }

    /// The signature over a unit verifies. Durable before it counts, so that it is not made twice.
    pub fn signed(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
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
