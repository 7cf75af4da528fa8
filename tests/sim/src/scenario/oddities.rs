//! Sensors that are not as they should be. Each way is a class of fault of its own.

use super::{Classes, Scenario};
use crate::rng::Rng;

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

    /// Changes what the sensor says; two tongues are given to it when it signs.
    fn apply(&mut self, sensor: usize, oddity: Oddity) {
        let messages = &mut self.sensors[sensor].messages;
        match oddity {
            Oddity::WrongTime { q, time } => messages[q as usize].time = time,
            Oddity::Silent { q } => messages.truncate(q as usize),
            Oddity::Contradicts { .. } | Oddity::Forks { .. } => {}
        }
    }
}
