//! How far an agreement has come, as it was shown: what was reached stays reached.
//!
//! When the users settle a t themselves, or say what counts at one, every node throws away what it had executed after it and
//! executes that again from the new state. To people that is the same road once more, and no way back.

use diversity_client::api::Progress;
use diversity_proto::AgreementId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The furthest that was shown of each agreement, since the start of the node: windows, executions, certificates.
#[derive(Clone, Default)]
pub struct Reached(Arc<Mutex<BTreeMap<AgreementId, [u64; 3]>>>);

impl Reached {
    /// Progress as it is shown: never less than before, and never less than what the chain has settled. What is executed again
    /// is said in words. What stands on chain is shown as it is, since a chain may take blocks back.
    pub fn shown(&self, a: &AgreementId, progress: Progress) -> Progress {
        let settled = progress.next_settlement;
        let certified = progress.next_certificate.max(settled);
        let executed = progress.next_execution.max(certified);
        let now = [progress.next_window.max(executed), executed, certified];
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let furthest = all.entry(*a).or_default();
        for (far, now) in furthest.iter_mut().zip(now) {
            *far = now.max(*far);
        }
        let [next_window, next_execution, next_certificate] = *furthest;
        let mut waiting_for = progress.waiting_for;
        if executed < next_execution {
            waiting_for.push(format!(
                "t {executed} to {} are executed once more, from what the users or a second reading have said",
                next_execution - 1
            ));
        }
        Progress {
            next_window,
            next_execution,
            next_certificate,
            waiting_for,
            ..progress
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(window: u64, execution: u64, certificate: u64, settlement: u64) -> Progress {
        Progress {
            next_window: window,
            next_execution: execution,
            next_certificate: certificate,
            next_settlement: settlement,
            ..Progress::default()
        }
    }

    #[test]
    fn after_a_resolution_nothing_that_was_reached_is_taken_back() {
        let (reached, a) = (Reached::default(), AgreementId([1; 32]));
        assert_eq!(
            reached.shown(&a, progress(9, 8, 4, 4)),
            progress(9, 8, 4, 4)
        );
        // t = 4 is settled by the users: the node stands at t = 5 again.
        let shown = reached.shown(&a, progress(5, 4, 5, 5));
        assert_eq!(
            (
                shown.next_window,
                shown.next_execution,
                shown.next_certificate,
                shown.next_settlement
            ),
            (9, 8, 5, 5)
        );
        assert_eq!(shown.waiting_for.len(), 1, "{:?}", shown.waiting_for);
        assert!(shown.waiting_for[0].contains("t 5 to 7 are executed once more"));
        assert_eq!(
            reached.shown(&a, progress(10, 9, 9, 9)),
            progress(10, 9, 9, 9)
        );
        // Another agreement has a road of its own; blocks that the chain takes back are shown.
        let other = AgreementId([2; 32]);
        assert_eq!(
            reached.shown(&other, progress(1, 1, 1, 1)),
            progress(1, 1, 1, 1)
        );
        assert_eq!(
            reached.shown(&other, progress(1, 1, 1, 0)).next_settlement,
            0
        );
    }
}
