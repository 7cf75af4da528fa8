//! Classes of faults that a campaign can leave out.

/// Which classes take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// An agreement created later cuts again what an earlier one has executed (T5).
    pub older_q0: bool,
    /// An agreement is closed at a t that a batch of several outcomes may straddle (T11).
    pub closed_batches: bool,
    /// Sensors that contradict themselves, fork, fall silent or have wrong clocks (T8, T9, T10).
    pub odd_sensors: bool,
    /// Actors that broke the first engine: forged certificates, bumped nonces, forced cuts, late second commits and so on
    /// (T1, T2, T4, T6, T12).
    pub hard_actors: bool,
    /// The disk of a node is replaced by an old copy.
    pub backups: bool,
    /// A node that abstains alone, where states differ then: what follows waits for the users.
    pub resolutions: bool,
}

impl Classes {
    /// Every class.
    pub fn all() -> Self {
        Self {
            older_q0: true,
            closed_batches: true,
            odd_sensors: true,
            hard_actors: true,
            backups: true,
            resolutions: true,
        }
    }

    /// None of them: crashes, partitions, losses and the older actors alone.
    pub fn none() -> Self {
        Self {
            older_q0: false,
            closed_batches: false,
            odd_sensors: false,
            hard_actors: false,
            backups: false,
            resolutions: false,
        }
    }

    /// Switches a class off by its name; false if there is none of that name.
    pub fn switch_off(&mut self, name: &str) -> bool {
        let class = match name {
            "older-q0" => &mut self.older_q0,
            "closed-batches" => &mut self.closed_batches,
            "odd-sensors" => &mut self.odd_sensors,
            "hard-actors" => &mut self.hard_actors,
            "backups" => &mut self.backups,
            "resolutions" => &mut self.resolutions,
            "all" => {
                *self = Self::none();
                return true;
            }
            _ => return false,
        };
        *class = false;
        true
    }
}
