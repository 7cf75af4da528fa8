//! Attempts at one aggregated signature each (P-MUSIG-1): whose nonces and partials are here, and which attempt this node is at.
//!
//! A node follows its own attempts: its timer opens the next one. Of the others it keeps one nonce each, of the newest attempt that
//! they speak of, and joins a higher attempt at most once between two of its own. So whoever bumps attempts costs the others
//! one nonce a timeout, and no memory. Where all others are further, its timer opens the lowest attempt that they are at: a node
//! that was away, or started again, meets them at once, and one alone cannot move it there. Behind the last attempt the first
//! follows, and what was said before is forgotten: an attempt is a name, and none is ever the last.

use crate::agreement::Cx;
use crate::agreement::setting::Setting;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::Effect;
use core::ops::RangeInclusive;
use diversity_proto::Digest;
use diversity_proto::round::{PublicNonce, Session};
use diversity_proto::terms::Leader;
use diversity_proto::wire::Part;
use diversity_round::sabotage::{Defect, on};

/// Ranges that only others speak of yet, at most.
const EARLY_MAX: usize = 128;

/// The sessions of one range.
struct Range {
    /// Whether this node works on it; else others are only ahead.
    own: bool,
    attempt: u32,
    /// The first attempt, and the last one, behind which the first follows.
    first: u32,
    last: u32,
    /// A higher attempt was joined since the last timeout.
    joined: bool,
    /// The nonce of this attempt was asked for.
    asked: bool,
    nonce: Option<PublicNonce>,
    /// The newest nonce of each node, with its attempt.
    nonces: BTreeMap<usize, (u32, PublicNonce)>,
    /// The ordered set of this attempt.
    set: Option<Vec<PublicNonce>>,
    /// This node signs at most once for a nonce.
    signed: bool,
    partials: BTreeMap<usize, [u8; 32]>,
    aggregating: bool,
}

impl Default for Range {
    fn default() -> Self {
        Self {
            own: false,
            attempt: 0,
            first: 0,
            last: u32::MAX,
            joined: false,
            asked: false,
            nonce: None,
            nonces: BTreeMap::new(),
            set: None,
            signed: false,
            partials: BTreeMap::new(),
            aggregating: false,
        }
    }
}

impl Range {
    fn attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.asked = false;
        self.nonce = None;
        self.set = None;
        self.signed = false;
        self.partials.clear();
        self.aggregating = false;
    }
}

/// The sessions of all ranges.
#[derive(Default)]
pub(super) struct Sessions {
    ranges: BTreeMap<(u64, u64), Range>,
}

/// Who collects nonces and partials of an attempt.
fn coordinator(s: &Setting, t: u64, attempt: u32) -> usize {
    let first = match s.terms.leader {
        Leader::Fixed(i) => usize::from(i),
        Leader::Rotating => (t % s.n() as u64) as usize,
    };
    (first + attempt as usize) % s.n()
}

impl Sessions {
    /// This node works on the range from now on, in these attempts.
    pub fn open(&mut self, from: u64, t: u64, attempts: RangeInclusive<u32>) {
        let r = self.ranges.entry((from, t)).or_default();
        (r.own, r.first, r.last) = (true, *attempts.start(), *attempts.end());
        if !attempts.contains(&r.attempt) {
            r.attempt(r.first);
        }
        r.nonces
            .retain(|_, (attempt, _)| attempts.contains(attempt));
    }
    /// The range is signed, or is none any more.
    pub fn drop(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        self.ranges.remove(&(from, t));
        cx.timers.clear(Timer::Attempt(from, t));
    }
    /// Ranges that this says no to are none any more. (Others may have sessions of their own: their timers stay.)
    pub fn retain(&mut self, cx: &mut Cx<'_>, keep: impl Fn(u64) -> bool) {
        self.ranges.retain(|(from, t), _| {
            let stays = keep(*t);
            if !stays {
                cx.timers.clear(Timer::Attempt(*from, *t));
            }
            stays
        });
    }

    /// From now on the range makes progress, or another attempt follows.
    pub fn arm(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        if let Some(r) = self.ranges.get(&(from, t)) {
            let due = cx.io.now + cx.setting.backoff(r.attempt - r.first);
            cx.timers.set(Timer::Attempt(from, t), due);
        }
    }

    pub fn ask_nonce(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        let Some(r) = self.ranges.get_mut(&(from, t)).filter(|r| !r.asked) else {
            return;
        };
        r.asked = true;
        let session = session(cx.setting, from, t, r.attempt);
        cx.io.effect(Effect::MusigNonce { session });
    }

    /// This node's own public nonce is drawn.
    pub fn own_nonce(&mut self, session: Session, nonce: PublicNonce, cx: &mut Cx<'_>) {
        let Some(r) = self.current(&session).filter(|r| r.nonce.is_none()) else {
            return;
        };
        r.nonce = Some(nonce);
        let to = coordinator(cx.setting, session.t, session.attempt);
        let me = cx.setting.me();
        if to == me {
            r.nonces.insert(me, (session.attempt, nonce));
            self.collect(session, cx);
        } else {
            let part = Part::Nonce { session, nonce };
            cx.io.send(cx.setting.node(to), part);
        }
    }

    /// A node's public nonce; `near` says whether the range may become one of this node.
    pub fn nonce(
        &mut self,
        from: usize,
        session: Session,
        nonce: PublicNonce,
        near: bool,
        cx: &mut Cx<'_>,
    ) {
        let key = (session.from, session.t);
        if !self.ranges.contains_key(&key) {
            let early = self.ranges.values().filter(|r| !r.own).count();
            if !near || early >= EARLY_MAX {
                return;
            }
        }
        let n = cx.setting.n() as u32;
        let r = self.ranges.entry(key).or_default();
        if !(r.first..=r.last).contains(&session.attempt) {
            return; // Of another reading.
        }
        let near_by = |attempt: u32| attempt <= r.attempt.saturating_add(2 * n);
        // An attempt that is far ahead is overwritten by whatever comes: it hides no other, and moves this node no longer than its
        // sender stays with it.
        let known = r.nonces.get(&from).map(|k| k.0);
        let far = known.is_some_and(|k| !near_by(k) && k != session.attempt);
        let newer = far || known.is_none_or(|k| k < session.attempt);
        if session.attempt < r.attempt {
            if far {
                r.nonces.insert(from, (session.attempt, nonce));
            }
            // It restarted, or its timers ran otherwise: it is told where this node is.
            if let Some(nonce) = r.nonce {
                let session = Session {
                    attempt: r.attempt,
                    ..session
                };
                cx.io
                    .send(cx.setting.node(from), Part::Nonce { session, nonce });
            }
            return;
        }
        let pruned = !on(Defect::AttemptsAreNeverPruned);
        if !newer && pruned {
            return;
        }
        let join = near_by(session.attempt) && !r.joined || !pruned;
        r.nonces.insert(from, (session.attempt, nonce));
        if session.attempt > r.attempt {
            if !join || !r.own {
                return;
            }
            r.joined = true;
            r.attempt(session.attempt);
        }
        if r.own {
            self.ask_nonce(session.from, session.t, cx);
        }
        self.collect(session, cx);
    }

    // P-MUSIG-1: the coordinator of an attempt sends the ordered nonces once it has them all.
    fn collect(&mut self, session: Session, cx: &mut Cx<'_>) {
        let (n, me) = (cx.setting.n(), cx.setting.me());
        if coordinator(cx.setting, session.t, session.attempt) != me {
            return;
        }
        let Some(r) = self.current(&session).filter(|r| r.set.is_none()) else {
            return;
        };
        let nonces: Vec<PublicNonce> = r
            .nonces
            .values()
            .filter(|(attempt, _)| *attempt == session.attempt)
            .map(|(_, nonce)| *nonce)
            .collect();
        if nonces.len() < n || r.nonce.is_none() {
            return;
        }
        r.set = Some(nonces.clone());
        let others: Vec<_> = cx.setting.others().collect();
        for node in others {
            let nonces = nonces.clone();
            cx.io.send(node, Part::Nonces { session, nonces });
        }
    }

    /// The ordered nonces, from the coordinator of the attempt. One set per session, ever: the secret nonce signs once.
    pub fn nonces(
        &mut self,
        from: usize,
        session: Session,
        nonces: Vec<PublicNonce>,
        cx: &mut Cx<'_>,
    ) {
        let (n, me) = (cx.setting.n(), cx.setting.me());
        if coordinator(cx.setting, session.t, session.attempt) != from || nonces.len() != n {
            return;
        }
        if let Some(r) = self.current(&session)
            && r.set.is_none()
            && r.nonce == Some(nonces[me])
        {
            r.set = Some(nonces);
        }
    }

    /// The set to sign with; it is taken, so that a nonce signs once.
    pub fn take_set(
        &mut self,
        from: u64,
        t: u64,
        cx: &Cx<'_>,
    ) -> Option<(Session, Vec<PublicNonce>)> {
        let r = self.ranges.get_mut(&(from, t))?;
        let nonces = r.set.clone().filter(|_| !r.signed)?;
        r.signed = true;
        Some((session(cx.setting, from, t, r.attempt), nonces))
    }

    /// The digest of the set that a session goes by.
    pub fn set_digest(&self, session: &Session) -> Option<Digest> {
        let r = self.ranges.get(&(session.from, session.t))?;
        let set = r.set.as_ref().filter(|_| r.attempt == session.attempt)?;
        Some(session.nonce_set(set))
    }
    /// Who adds up the partials of a session that is worked on.
    pub fn coordinator_of(&self, session: &Session, s: &Setting) -> Option<usize> {
        let r = self.ranges.get(&(session.from, session.t))?;
        (r.attempt == session.attempt).then(|| coordinator(s, session.t, session.attempt))
    }

    /// A node's partial; once all are here, what is to be added up.
    pub fn partial(
        &mut self,
        from: usize,
        session: &Session,
        set: &Digest,
        partial: [u8; 32],
        cx: &Cx<'_>,
    ) -> Option<(Vec<PublicNonce>, Vec<[u8; 32]>)> {
        let r = self.current(session)?;
        let nonces = r.set.clone().filter(|s| session.nonce_set(s) == *set)?;
        r.partials.entry(from).or_insert(partial);
        if r.partials.len() < cx.setting.n() || r.aggregating {
            return None;
        }
        r.aggregating = true;
        Some((nonces, r.partials.values().copied().collect()))
    }

    /// The attempt made no progress, or ended badly: the next one, with fresh nonces and another coordinator.
    pub fn next_attempt(&mut self, from: u64, t: u64, cx: &mut Cx<'_>) {
        let (n, me) = (cx.setting.n(), cx.setting.me());
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        r.joined = false;
        if r.attempt == r.last {
            // Somebody bumped them, or years have passed: the names are used again, with fresh nonces and for nobody's old ones.
            r.nonces.clear();
            r.attempt(r.first);
        } else {
            let next = r.attempt + 1;
            let others = r.nonces.iter().filter(|(i, _)| **i != me);
            let attempts: Vec<u32> = others.map(|(_, (attempt, _))| *attempt).collect();
            // One that is further may be bumping: it moves this node by so much and no more. All of them are believed.
            let newest = attempts.iter().max().copied().unwrap_or(0);
            let lowest = attempts.iter().min().copied().unwrap_or(0);
            let all = if attempts.len() + 1 == n { lowest } else { 0 };
            let step = newest.clamp(next, next.saturating_add(2 * n as u32));
            r.attempt(step.max(all).min(r.last));
        }
        self.arm(from, t, cx);
        self.ask_nonce(from, t, cx);
    }

    fn current(&mut self, session: &Session) -> Option<&mut Range> {
        let r = self.ranges.get_mut(&(session.from, session.t))?;
        (r.attempt == session.attempt).then_some(r)
    }
}

fn session(s: &Setting, from: u64, t: u64, attempt: u32) -> Session {
    Session {
        agreement: s.id,
        from,
        t,
        attempt,
    }
}
