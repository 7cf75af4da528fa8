//! Makes the others cut a unit that ends in a null, and then refuses to aggregate: the certificate of the next value must
//! still settle (T6).

use super::{Actor, Context, parts};
use diversity_engine::api::Effect;
use diversity_proto::AgreementId;
use diversity_proto::round::{Body, OutputKind, Session};
use diversity_proto::wire::Part;

/// Opens sessions over ranges that nobody would cut.
#[derive(Default)]
pub struct ForcedCut {
    /// Ranges that end in a null, of which it has not spoken yet.
    nulls: Vec<(AgreementId, u64, u64)>,
    /// Whether it has forced a cut: from then on it spoils the aggregate.
    forced: bool,
}

impl Actor for ForcedCut {
    fn effect(&mut self, _c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        parts(effect, |_, part| {
            if let Part::Round {
                agreement,
                t,
                body: Body::Reveal { reveal, .. },
                ..
            } = &part
                && reveal.computed.kind == OutputKind::Null
            {
                self.nulls.push((*agreement, reveal.from, *t));
            }
            let helps = matches!(part, Part::Partial { .. } | Part::Aggregate { .. });
            (!(self.forced && helps)).then_some(part)
        })
    }

    fn after(&mut self, c: &mut Context<'_>) -> Vec<Effect> {
        let mut out = Vec::new();
        for (agreement, from, t) in self.nulls.drain(..) {
            self.forced = true;
            let session = Session {
                agreement,
                from,
                t,
                attempt: 0,
            };
            let nonce = Part::Nonce {
                session,
                nonce: [3; 66],
            };
            out.extend(c.to_all(&agreement, &[nonce]));
        }
        out
    }
}
