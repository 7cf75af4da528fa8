//! What counts at a t, and who said so: the nodes in the first reading, or where they did not agree the nodes in a second one, or
//! the users.

use diversity_client::abi::decode_packed;
use diversity_client::api::{CountsView, SaidBy};
use diversity_proto::AgreementId;
use diversity_proto::round::{Entry, OutputKind};
use serde_json::Map;

use super::Archive;
use super::records::{Counts, ExecutionRecord, Finality, Settlement};
use crate::node::registry::SettledRecord;
use crate::rooms::agreements::Agreement;
use crate::rooms::error::{RoomError, RoomResult};

/// How a t that is final stands.
pub(super) enum Stands {
    /// The nodes agreed.
    Agreed(Settlement),
    /// They did not, and nobody has said yet what counts.
    Hole,
    /// They did not, and this counts.
    Said(Counts),
}

impl Archive {
    /// How t stands, which became final so; `logged` is the settlement, if one did it.
    pub(super) fn stands(
        &self,
        a: &AgreementId,
        t: u64,
        finality: Finality,
        logged: Option<&SettledRecord>,
    ) -> RoomResult<Stands> {
        let hole = |s: &SettledRecord| s.entries.contains(&(t, Entry::Hole));
        match finality {
            Finality::Settled(settlement) if !logged.is_some_and(hole) => {
                Ok(Stands::Agreed(settlement))
            }
            _ => Ok(match self.records.counts(a, t)? {
                Some(counts) => Stands::Said(counts),
                None => Stands::Hole,
            }),
        }
    }

    /// How t stands; nothing while it is not final.
    pub(super) fn stands_at(&self, a: &AgreementId, t: u64) -> RoomResult<Option<Stands>> {
        let Some(finality) = self.records.finality(a, t)? else {
            return Ok(None);
        };
        let logged = match finality {
            Finality::Settled(s) => self.records.logged(a, s.last)?,
            _ => None,
        };
        self.stands(a, t, finality, logged.as_ref()).map(Some)
    }

    /// What counts at t, by what the chain says, for whoever looks at what this node computed; nothing while nothing does.
    pub(super) fn shown(
        &self,
        agreement: &Agreement,
        t: u64,
        stands: &Stands,
    ) -> RoomResult<Option<CountsView>> {
        let result = |kind, bytes: &[u8]| match kind {
            OutputKind::Value => {
                decode_packed(&agreement.terms.result, bytes).map_err(RoomError::internal)
            }
            _ => Ok(Map::new()),
        };
        Ok(match stands {
            Stands::Hole => None,
            Stands::Agreed(settlement) => {
                let Some(logged) = self.records.logged(&agreement.id, settlement.last)? else {
                    return Ok(None);
                };
                let entry = logged.entries.iter().find(|(at, _)| *at == t);
                let (kind, bytes) = match entry.map(|(_, e)| e) {
                    Some(Entry::Value(bytes)) => (OutputKind::Value, &bytes[..]),
                    Some(Entry::Trap) => (OutputKind::Trap, &[][..]),
                    // What a settlement covers without an entry was null.
                    _ => (OutputKind::Null, &[][..]),
                };
                Some(CountsView {
                    said_by: SaidBy::Nodes,
                    kind,
                    result: result(kind, bytes)?,
                    tx: settlement.tx,
                    gas_used: settlement.gas_used,
                })
            }
            Stands::Said(counts) => Some(CountsView {
                said_by: counts.said_by,
                kind: counts.kind,
                result: result(counts.kind, &counts.result)?,
                tx: counts.tx,
                gas_used: counts.gas_used,
            }),
        })
    }

    /// What this node computed that is what counts at t: in a second reading, or in the first one; nothing if in none.
    pub(super) fn own(
        &self,
        a: &AgreementId,
        t: u64,
        counts: &Counts,
    ) -> RoomResult<Option<ExecutionRecord>> {
        let same = |x: &ExecutionRecord| {
            let c = &x.execution.computed;
            (c.kind, &c.result) == (counts.kind, &counts.result)
        };
        if let Some(x) = self.records.readings(a, t)?.into_iter().find(same) {
            return Ok(Some(x));
        }
        Ok(self.records.execution(a, t)?.filter(same))
    }
}
