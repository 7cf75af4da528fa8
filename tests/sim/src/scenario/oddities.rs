//! Sensors that are not as they should be. Each way is a class of fault of its own.

use super::{Classes, Scenario};
use crate::rng::Rng;
use std::ops::Range;

/// What is wrong with a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It signs two bodies for one q, and tells one to some nodes and one to others.
    Contradicts {
        /// Where.
        q: u64,
    },
    /// A copy of its key goes on from q in a boot epoch of its own.
    Forks {
        /// First q of the copy.
        q: u64,
    },
    /// One message bears a time that is far off.
    WrongTime {
        /// Which.
        q: u64,
        /// Its time, Unix seconds.
        time: u64,
    },
    /// It says nothing from q on, for ever.
    Silent {
        /// First q that is never said.
        q: u64,
    },
    /// It has lost messages, and says so by a gap record.
    Loses {
        /// First q that is lost.
        q: u64,
        /// First q after them.
        to: u64,
    },
    /// It signs the same messages again in other frames, and another gap record of what it has lost.
    Reframes {
        /// Near which q it begins to.
        q: u64,
        /// Under a boot epoch of its own.
        reboots: bool,
        /// What it has lost, if anything.
        lost: (u64, u64),
    },
}

impl Oddity {
    /// What is lost.
    pub fn lost(&self) -> Range<u64> {
        match self {
            Self::Loses { q, to } => *q..*to,
            Self::Reframes { lost, .. } => lost.0..lost.1,
            _ => 0..0,
        }
    }
}

impl Scenario {
    pub(super) fn plan_oddities(&mut self, rng: &mut Rng, classes: Classes) {
        let sensor = rng.index(self.sensors.len());
        let count = self.sensors[sensor].messages.len() as u64;
        let q = rng.below(count);
        let oddity = match rng.below(5) {
            0 => Oddity::Contradicts { q },
            1 => Oddity::Forks { q: q.max(1) },
            2 => Oddity::WrongTime { q, time: 0 },
            // 2036, and the largest time that the format holds.
            3 => Oddity::WrongTime {
                q,
                time: rng.pick(&[2_082_758_400, (1 << 48) - 1]),
            },
            _ => Oddity::Silent { q },
        };
        if rng.chance(300) && classes.odd_sensors {
            self.sensors[sensor].oddity = Some(oddity);
            self.apply(sensor, oddity);
        }
    }

    /// Oddities that contradict nothing; in a stream of their own, so that older seeds mean what they meant.
    pub(super) fn plan_harmless_oddities(&mut self, rng: &mut Rng, classes: Classes) {
        let sensor = rng.index(self.sensors.len());
        let count = self.sensors[sensor].messages.len() as u64;
        let q = rng.below(count);
        let to = (q + rng.range(1, 4)).min(count);
        let lost = if rng.chance(300) { (q, to) } else { (0, 0) };
        let oddity = match rng.below(3) {
            0 => Oddity::Loses { q, to },
            _ => Oddity::Reframes {
                q: rng.below(count),
                reboots: rng.chance(300),
                lost,
            },
        };
        let free = self.sensors[sensor].oddity.is_none();
        if rng.chance(250) && classes.odd_sensors && free {
            self.sensors[sensor].oddity = Some(oddity);
        }
    }

    /// Changes what the sensor says; two tongues are given to it when it signs.
    fn apply(&mut self, sensor: usize, oddity: Oddity) {
        let messages = &mut self.sensors[sensor].messages;
        match oddity {
            Oddity::WrongTime { q, time } => messages[q as usize].time = time,
            Oddity::Silent { q } => messages.truncate(q as usize),
            Oddity::Contradicts { .. }
            | Oddity::Forks { .. }
            | Oddity::Loses { .. }
            | Oddity::Reframes { .. } => {}
        }
    }
}
