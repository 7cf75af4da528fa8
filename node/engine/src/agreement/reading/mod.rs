//! Second readings of holes (design §3b, Cell and Moving): behind its door, t is cut, computed, committed and revealed once more,
//! under a marked epoch; n equal reveals are signed together and fill the cell of t.
//!
//! A reading starts by itself where it may cure the hole (some node abstained, or the window hashes differ), at most three times
//! with doubling delay; otherwise when the operators of all nodes have asked for it. Each node sends what it has to all others
//! and shows it again until it has theirs: readings are rare, and no leader is needed. Who refuses is unavailable.

mod leaves;
mod run;

use crate::agreement::Cx;
use crate::agreement::pipeline::Own;
use crate::agreement::setting::Setting;
use crate::agreement::signing::{Aim, Signing};
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::Millis;
use crate::ingest::Traces;
use crate::io::After;
use crate::records::{self, ExecutionRecord};
use core::ops::RangeInclusive;
use diversity_proto::Signature;
use diversity_proto::round::{Body, Session, marked_epoch};
use diversity_round::{Decision, Fault};
use run::Run;

/// Readings that start by themselves, at most.
const AUTOMATIC_MAX: u16 = 3;
/// Signing attempts of one reading are numbered from its number times this, so that those of two readings are never taken for
/// one another.
const ATTEMPTS: u32 = 1 << 16;

/// One hole behind its door, and how its second reading stands.
struct Reading {
    /// Epoch of the first reading.
    epoch: u32,
    /// Which reading is under way, from 1; 0 before the first.
    number: u16,
    curable: bool,
    /// The latest one that the operator asked for.
    asked: u16,
    /// What this node computed in the first reading; `None` while recovery has not got there.
    basis: Option<Own>,
    /// The states were equal: whatever is read, `state'` stays (design §3b, Going on).
    frozen: bool,
    run: Option<Run>,
    /// The reading before which what the windows are made of was shown.
    exchanged: u16,
    /// The certificate of the reading before: whoever is still at it is shown this.
    failed: Option<(u32, Body)>,
}

/// The holes of an agreement that wait for a word, by t.
#[derive(Default)]
pub(crate) struct Readings {
    holes: BTreeMap<u64, Reading>,
    signing: Signing,
}

/// A fault of a reading, for the agreement to tell.
pub(crate) type Faults = Vec<(u32, u64, Fault)>;

impl Reading {
    fn marked(&self) -> u32 {
        marked_epoch(self.epoch, self.number)
    }
    /// The attempts at a signature of the reading under way.
    fn attempts(&self) -> RangeInclusive<u32> {
        let first = u32::from(self.number) * ATTEMPTS;
        first..=first + (ATTEMPTS - 1)
    }
    /// Whether another reading begins, once it is time.
    fn due(&self) -> bool {
        self.asked > self.number || self.curable && self.number < AUTOMATIC_MAX
    }
}

impl Readings {
    // ---- state

    /// t is a hole.
    pub fn opened(&mut self, t: u64, epoch: u32, decision: &Decision, basis: Option<Own>) {
        let Decision::Hole {
            state_agreed,
            curable,
            ..
        } = decision
        else {
            return;
        };
        self.holes.insert(
            t,
            Reading {
                epoch,
                number: 0,
                curable: *curable,
                asked: 0,
                basis,
                frozen: *state_agreed,
                run: None,
                exchanged: 0,
                failed: None,
            },
        );
    }
    /// What an earlier run computed in the first reading of t from this carry, if that is a hole.
    pub fn restore_basis(&mut self, t: u64, record: &ExecutionRecord, carry: &[u8]) {
        if let Some(r) = self.holes.get_mut(&t).filter(|r| r.epoch == record.epoch) {
            r.basis = Some(Own::restored(record, carry.to_vec()));
        }
    }
    /// Holes of which it is not known here what this node computed in the first reading.
    pub fn without_basis(&self) -> Vec<u64> {
        let without = self.holes.iter().filter(|(_, r)| r.basis.is_none());
        without.map(|(t, _)| *t).collect()
    }
    /// What this node computes for a hole that it has not computed before.
    pub fn computed(&mut self, t: u64, own: Own) {
        if let Some(r) = self.holes.get_mut(&t) {
            r.basis.get_or_insert(own);
        }
    }
    /// The chain has spoken of t.
    pub fn settled(&mut self, t: u64, cx: &mut Cx<'_>) {
        self.holes.remove(&t);
        self.signing.drop(t, t, cx);
        cx.timers.clear(Timer::Reading(t));
    }
    /// Holes from t on are none any more.
    pub fn forget_from(&mut self, t: u64, cx: &mut Cx<'_>) {
        let gone: Vec<u64> = self.holes.range(t..).map(|(t, _)| *t).collect();
        for t in gone {
            self.settled(t, cx);
        }
    }
    /// Whether t is a hole that waits for a word.
    pub fn has(&self, t: u64) -> bool {
        self.holes.contains_key(&t)
    }
    // ---- beginning

    /// Doors below are final: readings that may cure are due after a delay, which doubles (P-READ-1).
    pub fn advance(&mut self, chain_next: u64, cx: &mut Cx<'_>) {
        for (t, r) in self.holes.range(..chain_next) {
            if let Some(wait) = delay(r, cx) {
                cx.timers.start(Timer::Reading(*t), cx.io.now + wait);
            }
        }
    }
    /// The operator of this node asks for another reading of t; it runs when all have asked (P-READ-2).
    pub fn ask(&mut self, t: u64, chain_next: u64, cx: &mut Cx<'_>) {
        if let Some(r) = self.holes.get_mut(&t).filter(|_| t < chain_next) {
            r.asked = r.number.saturating_add(1);
            let op = records::put_asked(&cx.setting.id, t, r.asked);
            cx.io.persist(vec![op], After::Nothing);
            cx.timers.set(Timer::Reading(t), cx.io.now);
        }
    }
    /// What the operator of an earlier run asked for. After all that readings left.
    pub fn restore_asked(&mut self, t: u64, number: u16) {
        if let Some(r) = self.holes.get_mut(&t) {
            r.asked = number;
        }
    }

    /// A reading begins, or what it has is shown again.
    pub fn tick(&mut self, t: u64, traces: &Traces, cx: &mut Cx<'_>) -> Faults {
        let Some(r) = self.holes.get_mut(&t) else {
            return Vec::new();
        };
        if r.run.is_none() {
            if r.due() && r.basis.is_some() && r.number < u16::MAX {
                r.number += 1;
                r.run = Run::new(t, r, cx);
            }
            if r.run.is_none() {
                return Vec::new();
            }
        }
        let again = cx.io.now + cx.setting.timeout_max_ms();
        cx.timers.set(Timer::Reading(t), again);
        if r.exchanged != r.number {
            // P-READ-3: first the nodes show one another what each has its window from.
            r.exchanged = r.number;
            leaves::show(t, r, traces, cx);
            return Vec::new();
        }
        if let Some(run) = r.run.as_mut() {
            run.lists_from_now_on();
        }
        let mut faults = self.go_on(t, traces, cx);
        faults.extend(self.show(t, cx));
        faults
    }

    /// The traces grew, or something about t became known: as far as it goes.
    pub fn look(&mut self, traces: &Traces, cx: &mut Cx<'_>) -> Faults {
        let running: Vec<u64> = self
            .holes
            .iter()
            .filter(|(_, r)| {
                // An abstention is tried again when its time comes, not with each message.
                r.run.as_ref().is_some_and(Run::is_open)
            })
            .map(|(t, _)| *t)
            .collect();
        let each = running.into_iter();
        each.flat_map(|t| self.go_on(t, traces, cx)).collect()
    }

    // ---- the signature over a reading

    /// What signs, and what this session is to sign: what n nodes have revealed, while it has no signature.
    pub fn signing(&mut self, session: &Session, s: &Setting) -> (&mut Signing, Option<Aim>) {
        let aim = self.holes.get(&session.t).and_then(|r| {
            let here = session.from == session.t && r.attempts().contains(&session.attempt);
            let outcome = r.run.as_ref().filter(|_| here)?.unsigned()?;
            Some(Aim {
                epoch: outcome.epoch,
                digest: outcome.digest(&s.deployment),
            })
        });
        (&mut self.signing, aim)
    }
    /// Whether a node's public nonce for this session is kept: also before all reveals are here.
    pub fn heard(&self, session: &Session) -> Option<bool> {
        (self.has(session.t) && session.from == session.t).then_some(true)
    }
    /// The signature over the reading verifies: submitted by one node after the other.
    pub fn signed(&mut self, session: Session, signature: Signature, cx: &mut Cx<'_>) {
        self.signing.drop(session.t, session.t, cx);
        if let Some(run) = self.holes.get_mut(&session.t).and_then(|r| r.run.as_mut()) {
            run.signed(signature);
            let distance = cx.setting.distance(cx.setting.submitter(session.t));
            let due = cx.io.now + distance * cx.io.config.settle_stage_ms;
            cx.timers.set(Timer::Reading(session.t), due);
        }
    }
    /// A signing attempt for t made no progress.
    pub fn attempt_over(&mut self, t: u64, cx: &mut Cx<'_>) {
        let Some(r) = self.holes.get(&t) else { return };
        let session = Session {
            agreement: cx.setting.id,
            from: t,
            t,
            attempt: *r.attempts().start(),
        };
        let (signing, aim) = self.signing(&session, cx.setting);
        signing.attempt_over(t, t, aim, cx);
    }
}

/// How long after its door, or after the reading before, the next one starts by itself; `None` if it does not.
fn delay(r: &Reading, cx: &Cx<'_>) -> Option<Millis> {
    if r.run.is_some() || r.asked > r.number {
        return Some(0);
    }
    (r.curable && r.number < AUTOMATIC_MAX).then(|| cx.setting.timeout_max_ms() << r.number)
}
