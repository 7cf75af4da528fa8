//! Withholds its reveal, shows one peer a second commit for the same t, and reveals after all when that is on record (T12).

use super::{Actor, Context, parts};
use diversity_engine::api::{Effect, Input};
use diversity_proto::round::Computed;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, NodeId};
use std::collections::BTreeMap;

/// Commits twice, late, to one peer alone.
pub struct LateCommitter {
    delay_ms: u64,
    computed: BTreeMap<(AgreementId, u64), Computed>,
    held: Vec<(u64, NodeId, Part)>,
    shown: Vec<(AgreementId, u64)>,
}

impl LateCommitter {
    /// The low bits choose how late it reveals.
    pub fn new(variant: u64) -> Self {
        Self {
            delay_ms: 200 + variant % 4_000,
            computed: BTreeMap::new(),
            held: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn show(&mut self, c: &Context<'_>, part: &Part) -> Option<Effect> {
        let Part::Reveal {
            agreement,
            epoch,
            t,
            ..
        } = part
        else {
            return None;
        };
        if self.shown.contains(&(*agreement, *t)) {
            return None;
        }
        self.shown.push((*agreement, *t));
        let mut other = self.computed.get(&(*agreement, *t))?.clone();
        other.trace.0[0] ^= 1;
        let commit = c.commit_to(&c.subject(agreement, *epoch, *t), &other);
        let to = c.others(agreement).next()?;
        let (agreement, epoch, t) = (*agreement, *epoch, *t);
        Some(Effect::Send {
            to,
            parts: vec![Part::Commit {
                agreement,
                epoch,
                t,
                commit,
            }],
        })
    }
}

impl Actor for LateCommitter {
    fn input(&mut self, _c: &mut Context<'_>, input: &mut Input) {
        if let Input::Executed {
            agreement,
            t,
            execution,
        } = input
        {
            let computed = execution.computed.clone();
            self.computed.insert((*agreement, *t), computed);
        }
    }

    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        let due = c.now + self.delay_ms;
        let mut extra = Vec::new();
        let mut out = parts(effect, |to, part| {
            extra.extend(self.show(c, &part));
            if matches!(part, Part::Reveal { .. } | Part::Certificate { .. }) {
                self.held.push((due, to, part));
                return None;
            }
            Some(part)
        });
        out.extend(extra);
        out
    }

    fn after(&mut self, c: &mut Context<'_>) -> Vec<Effect> {
        let due: Vec<_> = self.held.extract_if(.., |h| h.0 <= c.now).collect();
        due.into_iter()
            .map(|(_, to, part)| Effect::Send {
                to,
                parts: vec![part],
            })
            .collect()
    }
}
