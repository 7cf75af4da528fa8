//! Takes part as a follower and says nothing as a leader or coordinator: the next one takes over.

use super::{Actor, Context, parts};
use diversity_engine::api::Effect;
use diversity_proto::round::Body;
use diversity_proto::wire::Part;

/// Never seals, certifies, hands out nonces or aggregates.
pub struct MuteLeader;

impl Actor for MuteLeader {
    fn effect(&mut self, _c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        parts(effect, |_, part| {
            let leads = matches!(
                part,
                Part::Round {
                    body: Body::Seal { .. } | Body::Certificate { .. },
                    ..
                } | Part::Nonces { .. }
                    | Part::Aggregate { .. }
            );
            (!leads).then_some(part)
        })
    }
}
