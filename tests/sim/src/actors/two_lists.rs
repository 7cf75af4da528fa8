//! Signs two lists of open sensors for one window: one for some, another for the others (design §3b, Held). It makes a hole at worst.

use super::{Actor, Context, Place};
use diversity_engine::api::Effect;
use diversity_proto::held::Held;
use diversity_proto::wire::Part;

/// Says different things of what it holds.
pub struct TwoLists {
    variant: u64,
}

impl TwoLists {
    /// The low bits choose what the second list says and who is shown it.
    pub fn new(variant: u64) -> Self {
        Self { variant }
    }

    fn other(&self, c: &Context<'_>, place: &Place, held: &Held) -> Held {
        let mut other = held.clone();
        match self.variant % 4 {
            // Nothing is open to it.
            0 => other.open.clear(),
            // One less.
            1 => {
                other.open.pop();
            }
            // It holds less, or more than anybody.
            2 => other
                .open
                .iter_mut()
                .for_each(|o| o.lacks = o.lacks.saturating_sub(2)),
            _ => other.open.iter_mut().for_each(|o| o.lacks += 3),
        }
        let digest = other.digest(&c.subject(place), &c.party.node());
        other.signature = c.party.sign(&digest);
        other
    }
}

impl Actor for TwoLists {
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        super::parts(effect, |to, part| match part {
            Part::Held {
                agreement,
                epoch,
                t,
                held,
            } if c.index(&agreement, &to) % 2 == (self.variant as usize >> 2) % 2 => {
                let place = Place {
                    agreement,
                    epoch,
                    t,
                };
                let held = self.other(c, &place, &held);
                Some(Part::Held {
                    agreement,
                    epoch,
                    t,
                    held,
                })
            }
            part => Some(part),
        })
    }
}
