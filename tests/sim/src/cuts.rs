//! What honest nodes made of the messages: whether they may cut a window so, whether all cut it alike, and whether what they
//! committed to is what an independent computation gives. It shares only `f` and the hashes with the nodes, never their bookkeeping.

use crate::function::{self, Output};
use crate::scenario::AgreementPlan;
use crate::truth::{Said, by_message};
use diversity_engine::api::{Resolution, Stretch};
use diversity_engine::records::ExecutionRecord;
use diversity_proto::frame;
use diversity_proto::round::{Entry, OutputKind};
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::window::{Leaf, Window, WindowEnd, state};
use std::collections::{BTreeMap, BTreeSet};

/// Which tongue of a sensor of the world the node heard at q.
pub type Heard<'a> = dyn Fn(usize, u64) -> usize + 'a;

/// Where a t starts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    carry: Vec<u8>,
    q_next: Vec<u64>,
}

/// What is right at a t, for a cut that an honest node made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// Null, value or trap; a hole where the node abstained.
    pub says: Entry,
    output: Output,
    after: State,
}

/// The cuts of one agreement.
pub struct Cuts {
    terms: Terms,
    said: Vec<Said>,
    /// Whether all honest nodes must cut alike: nobody lies about what is held.
    alike: bool,
    right: BTreeMap<(u64, u32), Vec<Right>>,
    stretches: BTreeMap<(u64, u32), (usize, Vec<Stretch>)>,
    /// What the users or a cell said of t.
    words: BTreeMap<u64, State>,
    /// Where second readings of t lead.
    readings: BTreeMap<u64, Vec<State>>,
    /// Honest nodes that gave a list of open sensors.
    lists: BTreeMap<(u64, u32), BTreeSet<usize>>,
}

impl Cuts {
    /// Nothing is cut yet; `said` in the order of the terms.
    pub fn new(terms: Terms, said: Vec<Said>, alike: bool) -> Self {
        Self {
            terms,
            said,
            alike,
            right: BTreeMap::new(),
            stretches: BTreeMap::new(),
            words: BTreeMap::new(),
            readings: BTreeMap::new(),
            lists: BTreeMap::new(),
        }
    }
    /// t+1 may start from what was said of t.
    pub fn said_of(&mut self, t: u64, r: &Resolution) {
        let (carry, q_next) = (r.carry.clone(), r.q_next.clone());
        self.words.insert(t, State { carry, q_next });
    }
    /// An honest node read t once more: what it commits to is what an independent computation gives on a window that it may cut
    /// so, from where its first reading began. Where t+1 has gone on, its ends and its state stay what they were.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_again(
        &mut self,
        node: usize,
        t: u64,
        r: &ExecutionRecord,
        plan: &AgreementPlan,
        heard: &Heard<'_>,
    ) -> Result<Entry, String> {
        let (from, to) = self.terms.window.span(t);
        if (r.from, r.to) != (from, to) {
            return Err(format!(
                "a reading of t {t} is cut as {}..{}, and it is {from}..{to}",
                r.from, r.to
            ));
        }
        let starts: Vec<_> = r.stretches.iter().map(|s| s.start).collect();
        let first = r.epoch & 0xffff;
        let mut why = format!("a reading of t {t} does not start where t did");
        for before in self.before(t, first) {
            if before.q_next != starts {
                continue;
            }
            match self.judge_reading(node, t, r, plan, &before, heard) {
                Ok((says, after)) => {
                    self.readings.entry(t).or_default().push(after);
                    return Ok(says);
                }
                Err(e) => why = e,
            }
        }
        Err(why)
    }

    fn judge_reading(
        &self,
        node: usize,
        t: u64,
        r: &ExecutionRecord,
        plan: &AgreementPlan,
        before: &State,
        heard: &Heard<'_>,
    ) -> Result<(Entry, State), String> {
        let (from, to) = self.terms.window.span(t);
        let computed = &r.execution.computed;
        let q_next: Vec<_> = r.stretches.iter().map(|s| s.next).collect();
        let first = self.right.get(&(t, r.epoch & 0xffff));
        let frozen = first
            .into_iter()
            .flatten()
            .any(|x| x.after.q_next == q_next && state(&x.after.carry, &q_next) == computed.state);
        let mut leaves = Vec::new();
        let sensors = plan.sensors.iter().map(|s| s.0);
        for ((said, s), k) in self.said.iter().zip(&r.stretches).zip(sensors) {
            if frozen {
                let count = matches!(self.terms.window, WindowSpec::Count { .. });
                if s.end < s.start || s.end > s.next && !count {
                    return Err(format!(
                        "a reading of t {t} is cut as {s:?}, past where t+1 starts"
                    ));
                }
            } else {
                self.may_cut(t, said, s)?;
            }
            leaves.push(leaf(said, s, k, heard));
        }
        let window = Window {
            t,
            from,
            to,
            leaves,
        };
        let output = function::run(plan.behaviour(t), plan.keeps_carry, &before.carry, &window);
        let mut right = function::computed(&output, &window, &q_next);
        if computed.kind == OutputKind::Abstain {
            if !plan.abstains.contains(&(node, t)) {
                return Err(format!("a reading of t {t} is an abstention without need"));
            }
            let after = State {
                carry: before.carry.clone(),
                q_next,
            };
            return Ok((Entry::Hole, after));
        }
        if frozen {
            right.state = computed.state;
        }
        if right != *computed {
            return Err(format!(
                "a reading of t {t} gives {:?} of {:?}, and right is {:?}",
                computed.result, r.stretches, output.result
            ));
        }
        let says = match output.kind {
            OutputKind::Value => Entry::Value(output.result.clone()),
            OutputKind::Trap => Entry::Trap,
            OutputKind::Null | OutputKind::Abstain => Entry::Null,
        };
        let after = State {
            carry: r.execution.carry.clone(),
            q_next,
        };
        Ok((says, after))
    }

    /// An honest node gave its list of open sensors.
    pub fn listed(&mut self, node: usize, t: u64, epoch: u32) {
        self.lists.entry((t, epoch)).or_default().insert(node);
    }
    /// From now on honest nodes may cut differently.
    pub fn may_differ(&mut self) {
        self.alike = false;
    }

    /// Whether t is null for everybody who computed it.
    pub fn is_null(&self, t: u64) -> bool {
        let mut all = self.right.range((t, 0)..=(t, u32::MAX)).peekable();
        all.peek().is_some() && all.all(|(_, r)| r.iter().all(|r| r.says == Entry::Null))
    }

    /// What the users of an agreement hold to be right at t, as far as an honest node has cut it.
    pub fn resolution(&self, t: u64) -> Option<Resolution> {
        let newest = self.right.range((t, 0)..=(t, u32::MAX)).next_back()?;
        let r = newest.1.first()?;
        Some(Resolution {
            kind: r.output.kind,
            result: r.output.result.clone(),
            state: state(&r.after.carry, &r.after.q_next),
            carry: r.after.carry.clone(),
            q_next: r.after.q_next.clone(),
        })
    }

    /// An honest node commits to what it computed.
    ///
    /// # Errors
    /// What is wrong with it.
    #[allow(clippy::too_many_arguments)]
    pub fn kept(
        &mut self,
        node: usize,
        clock_s: u64,
        t: u64,
        r: &ExecutionRecord,
        plan: &AgreementPlan,
        heard: &Heard<'_>,
        honest: &dyn Fn(usize) -> bool,
    ) -> Result<Right, String> {
        let (from, to) = self.terms.window.span(t);
        if (r.from, r.to) != (from, to) || clock_s < to {
            return Err(format!(
                "t {t} is cut as {}..{} at {clock_s}, and it is {from}..{to}",
                r.from, r.to
            ));
        }
        let count = matches!(self.terms.window, WindowSpec::Count { .. });
        if count && r.void.is_empty() && r.stretches.iter().all(|s| s.end == s.start) {
            return Err(format!("t {t} counts no message, and voids nobody"));
        }
        self.all_alike(node, t, r)?;
        if r.stretches.iter().any(|s| s.by == WindowEnd::ClosingRecord) {
            // P-HELD-3: only the lists of all nodes make a record.
            let lists = self.lists.get(&(t, r.epoch));
            let gave = |i: &&usize| lists.is_some_and(|l| l.contains(i));
            if let Some(i) = plan.nodes.iter().filter(|i| honest(**i)).find(|i| !gave(i)) {
                return Err(format!(
                    "a record ends t {t}, and node {i} has listed nothing as open or not"
                ));
            }
        }
        let mut why = format!("t {t} does not start where the one before ended");
        for before in self.before(t, r.epoch) {
            let starts: Vec<_> = r.stretches.iter().map(|s| s.start).collect();
            if starts != before.q_next {
                continue;
            }
            match self.judge(node, t, r, plan, &before, heard) {
                Ok(right) => {
                    let all = self.right.entry((t, r.epoch)).or_default();
                    if !all.contains(&right) {
                        all.push(right.clone());
                    }
                    return Ok(right);
                }
                Err(e) => why = e,
            }
        }
        Err(why)
    }

    fn all_alike(&mut self, node: usize, t: u64, r: &ExecutionRecord) -> Result<(), String> {
        let first = self
            .stretches
            .entry((t, r.epoch))
            .or_insert_with(|| (node, r.stretches.clone()));
        if self.alike && first.1 != r.stretches {
            return Err(format!(
                "t {t} is cut as {:?}, and node {} cut it as {:?}",
                r.stretches, first.0, first.1
            ));
        }
        Ok(())
    }

    /// Where t may start.
    fn before(&self, t: u64, epoch: u32) -> Vec<State> {
        let Some(last) = t.checked_sub(1) else {
            return vec![State {
                carry: Vec::new(),
                q_next: self.terms.sensors.iter().map(|s| s.q0).collect(),
            }];
        };
        let computed = self.right.range((last, 0)..=(last, epoch));
        let computed = computed.flat_map(|(_, all)| all.iter().map(|r| r.after.clone()));
        let read = self.readings.get(&last).into_iter().flatten().cloned();
        computed
            .chain(self.words.get(&last).cloned())
            .chain(read)
            .collect()
    }

    fn judge(
        &self,
        node: usize,
        t: u64,
        r: &ExecutionRecord,
        plan: &AgreementPlan,
        before: &State,
        heard: &Heard<'_>,
    ) -> Result<Right, String> {
        let (from, to) = self.terms.window.span(t);
        let mut leaves = Vec::new();
        let sensors = plan.sensors.iter().map(|s| s.0);
        for ((said, s), k) in self.said.iter().zip(&r.stretches).zip(sensors) {
            // The tongues differ in what they say, not in when.
            self.may_cut(t, said, s)?;
            leaves.push(leaf(said, s, k, heard));
        }
        let window = Window {
            t,
            from,
            to,
            leaves,
        };
        let q_next: Vec<_> = r.stretches.iter().map(|s| s.next).collect();
        let output = function::run(plan.behaviour(t), plan.keeps_carry, &before.carry, &window);
        let computed = &r.execution.computed;
        let abstains = computed.kind == OutputKind::Abstain;
        if abstains != plan.abstains.contains(&(node, t)) {
            return Err(format!("t {t} is an abstention without need: {abstains}"));
        }
        let carry = if abstains {
            &before.carry
        } else {
            &output.carry
        };
        let after = State {
            carry: carry.clone(),
            q_next,
        };
        if abstains && state(&after.carry, &after.q_next) != computed.state {
            return Err(format!(
                "t {t} is abstained from, and its state is another one"
            ));
        }
        if !abstains && function::computed(&output, &window, &after.q_next) != *computed {
            return Err(format!(
                "t {t} gives {:?} of {:?}, and right is {:?}",
                computed.result, r.stretches, output.result
            ));
        }
        let says = match output.kind {
            _ if abstains => Entry::Hole,
            OutputKind::Value => Entry::Value(output.result.clone()),
            OutputKind::Null => Entry::Null,
            OutputKind::Trap => Entry::Trap,
            OutputKind::Abstain => Entry::Hole,
        };
        Ok(Right {
            says,
            output,
            after,
        })
    }

    /// Design §3b, Held and Candidate.
    fn may_cut(&self, t: u64, said: &Said, s: &Stretch) -> Result<(), String> {
        let messages = said.messages();
        let have = messages.len() as u64;
        let sensor = said.sensor;
        let bad = |why: &str| Err(format!("t {t} of {sensor} is cut as {s:?}: {why}"));
        if s.end < s.start || s.end > have.max(s.start) {
            return bad("there are no such messages");
        }
        let closed = by_message(&self.terms, t, said, s.start);
        let next = match self.terms.window {
            WindowSpec::Count { slide, .. } if s.by == WindowEnd::Message => {
                s.start + u64::from(slide)
            }
            WindowSpec::Count { slide, .. } => s.end.min(s.start + u64::from(slide)),
            _ => s.end,
        };
        if s.next != next {
            return bad("the next one starts elsewhere");
        }
        if s.by == WindowEnd::Message {
            return if closed.map(|c| c.1) == Some(s.end) {
                Ok(())
            } else {
                bad("no message ends it there")
            };
        }
        if closed.is_some_and(|(_, end)| s.end > end) {
            return bad("a message ends it before");
        }
        let count = matches!(self.terms.window, WindowSpec::Count { .. });
        let inside = |q: u64| messages[q as usize].0 < self.terms.window.span(t).1;
        let fits = count
            || s.end == s.start
            || closed.is_some_and(|(_, end)| s.end == end)
            || inside(s.end - 1)
            // A contradiction may be found at any q from there on.
            || s.end >= said.doubtful_from;
        if fits {
            Ok(())
        } else {
            bad("its last message lies behind its end")
        }
    }
}

/// What a node that heard these tongues takes of a sensor.
fn leaf(said: &Said, s: &Stretch, sensor: usize, heard: &Heard<'_>) -> Leaf {
    let held = (s.start..s.end).filter(|q| !said.lost.contains(q));
    let messages = held.map(|q| &said.tongues[heard(sensor, q)][q as usize]);
    let taken = messages.map(|(time, values)| frame::Message {
        time: *time,
        values,
    });
    Leaf::new(said.sensor, s.start, s.by, said.width, taken)
}
