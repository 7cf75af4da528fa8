//! What people are told of what the core notices.

use diversity_client::api::Event;
use diversity_engine::api::Notice;
use diversity_proto::round::OutputKind;

/// The event that listeners are sent; nothing for what only the log and the metrics know.
pub(super) fn event(notice: &Notice) -> Option<Event> {
    Some(match notice.clone() {
        Notice::WindowClosed {
            agreement,
            t,
            messages,
        } => Event::WindowClosed {
            agreement,
            t,
            messages,
        },
        Notice::Executed { agreement, t } => Event::Executed { agreement, t },
        Notice::Certified { agreement, t, kind } => {
            use OutputKind::{Abstain, Null, Trap, Value};
            Event::Certified {
                agreement,
                t,
                // The core tells only of kinds that there are.
                kind: [Null, Value, Trap, Abstain]
                    .into_iter()
                    .find(|k| *k as u8 == kind)?,
            }
        }
        Notice::Hole {
            agreement,
            t,
            reason,
        } => Event::Hole {
            agreement,
            t,
            reason,
        },
        Notice::Settled { agreement, from, t } => Event::Settled { agreement, from, t },
        Notice::Resolved { agreement, t } => Event::Resolved { agreement, t },
        Notice::Held { agreement, t, open } => Event::Held { agreement, t, open },
        Notice::TakeOver {
            agreement,
            t,
            leader,
            ..
        } => Event::TakeOver {
            agreement,
            t,
            leader,
        },
        Notice::Halted { agreement, why } => Event::Halted {
            agreement,
            reason: why,
        },
        // Of a contradiction listeners hear once the chain holds it.
        Notice::Fault { .. }
        | Notice::Contradiction { .. }
        | Notice::WrongTime { .. }
        | Notice::Foreign { .. }
        | Notice::GasBudget { .. } => return None,
    })
}
