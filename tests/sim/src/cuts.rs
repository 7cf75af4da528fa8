//! What honest nodes made of the messages: whether they may cut a window so, whether all cut it alike, and whether what they
//! committed to is what an independent computation gives. It shares only `f` and the hashes with the nodes, never their bookkeeping.

use crate::function::{self, Output};
use crate::scenario::AgreementPlan;
use crate::truth::{Message, Said, by_message};
use diversity_engine::api::{Resolution, Stretch};
use diversity_engine::records::ExecutionRecord;
use diversity_proto::frame;
use diversity_proto::round::{Entry, OutputKind};
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::window::{Leaf, Window, WindowEnd, state};
use std::collections::BTreeMap;

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
        }
    }
    /// t+1 may start from what was said of t.
    pub fn said_of(&mut self, t: u64, r: &Resolution) {
        let (carry, q_next) = (r.carry.clone(), r.q_next.clone());
        self.words.insert(t, State { carry, q_next });
    }
    /// From now on honest nodes may cut differently.
    pub fn may_differ(&mut self) {
        self.alike = false;
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
    pub fn kept(
        &mut self,
        node: usize,
        clock_s: u64,
        t: u64,
        r: &ExecutionRecord,
        plan: &AgreementPlan,
    ) -> Result<Right, String> {
        let (from, to) = self.terms.window.span(t);
        if (r.from, r.to) != (from, to) || clock_s < to {
            return Err(format!(
                "t {t} is cut as {}..{} at {clock_s}, and it is {from}..{to}",
                r.from, r.to
            ));
        }
        self.all_alike(node, t, r)?;
        let mut why = format!("t {t} does not start where the one before ended");
        for before in self.before(t, r.epoch) {
            let starts: Vec<_> = r.stretches.iter().map(|s| s.start).collect();
            if starts != before.q_next {
                continue;
            }
            for tongue in 0..2 {
                match self.judge(node, t, r, plan, &before, tongue) {
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
        computed.chain(self.words.get(&last).cloned()).collect()
    }

    fn judge(
        &self,
        node: usize,
        t: u64,
        r: &ExecutionRecord,
        plan: &AgreementPlan,
        before: &State,
        tongue: usize,
    ) -> Result<Right, String> {
        let (from, to) = self.terms.window.span(t);
        let mut leaves = Vec::new();
        for (said, s) in self.said.iter().zip(&r.stretches) {
            let messages = said.tongues.get(tongue).unwrap_or(&said.tongues[0]);
            self.may_cut(t, said, messages, s)?;
            let taken = messages.get(s.start as usize..s.end as usize);
            let taken = taken
                .unwrap_or_default()
                .iter()
                .map(|(time, values)| frame::Message {
                    time: *time,
                    values,
                });
            leaves.push(Leaf::new(said.sensor, s.start, s.by, said.width, taken));
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
    fn may_cut(
        &self,
        t: u64,
        said: &Said,
        messages: &[Message],
        s: &Stretch,
    ) -> Result<(), String> {
        let have = messages.len() as u64;
        let sensor = said.sensor;
        let bad = |why: &str| Err(format!("t {t} of {sensor} is cut as {s:?}: {why}"));
        if s.end < s.start || s.end > have.max(s.start) {
            return bad("there are no such messages");
        }
        let closed = by_message(&self.terms, t, messages, s.start);
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
            || s.end == said.doubtful_from;
        if fits {
            Ok(())
        } else {
            bad("its last message lies behind its end")
        }
    }
}
