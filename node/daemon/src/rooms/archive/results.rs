//! Settled results, each checked against what has settled before it is shown.

use diversity_client::abi::decode_packed;
use diversity_client::api::{PAGE_MAX, ResultsPage, SaidBy, SensorDetail, SettledResult};
use diversity_proto::round::{Computed, Entry, OutputKind};
use diversity_proto::terms::Field;
use diversity_proto::window::detail_root;
use diversity_proto::{AgreementId, Digest};
use serde_json::{Map, Value};

use super::counts::Stands;
use super::records::{Counts, ExecutionRecord, Finality, Settlement};
use super::{Archive, label};
use crate::node::registry::SettledRecord;
use crate::rooms::PAGE;
use crate::rooms::agreements::Agreement;
use crate::rooms::error::{RoomError, RoomResult, blocking};

impl Archive {
    /// Settled executions from t = `from` on, ascending, `limit` at most. What this node has not computed (it is catching up) is
    /// left out.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] for an agreement that is not known; [`RoomError::Internal`] if what is stored here is not what
    /// has settled.
    pub async fn results(
        &self,
        a: AgreementId,
        from: u64,
        limit: Option<usize>,
    ) -> RoomResult<ResultsPage> {
        let agreement = self.agreement(&a)?;
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let archive = self.clone();
        // Details of many sensors take a while to check.
        blocking(move || archive.page(&agreement, from, limit)).await
    }

    fn page(&self, agreement: &Agreement, from: u64, limit: usize) -> RoomResult<ResultsPage> {
        let a = agreement.id;
        let mut out = ResultsPage {
            agreement: a,
            results: Vec::new(),
            next: None,
        };
        let mut logged: Option<SettledRecord> = None;
        for item in self.records.finals(&a, from) {
            let (t, finality) = item?;
            if out.results.len() == limit {
                out.next = Some(t);
                break;
            }
            // One settlement covers several t.
            if let Finality::Settled(s) = finality
                && logged
                    .as_ref()
                    .is_none_or(|l| (l.from, l.t) != (s.from, s.last))
            {
                logged = self.records.logged(&a, s.last)?;
            }
            out.results
                .extend(match self.stands(&a, t, finality, logged.as_ref())? {
                    Stands::Agreed(settlement) => {
                        self.result(agreement, t, &settlement, logged.as_ref())?
                    }
                    Stands::Said(counts) => Some(self.counted(agreement, t, &counts)?),
                    Stands::Hole => None,
                });
        }
        Ok(out)
    }

    /// One settled execution; nothing if this node has not computed it.
    fn result(
        &self,
        agreement: &Agreement,
        t: u64,
        settlement: &Settlement,
        logged: Option<&SettledRecord>,
    ) -> RoomResult<Option<SettledResult>> {
        let Some(x) = self.records.execution(&agreement.id, t)? else {
            return Ok(None);
        };
        self.agrees(agreement, t, &x, logged)?;
        let computed = &x.execution.computed;
        Ok(Some(SettledResult {
            t,
            from: x.from,
            to: x.to,
            kind: computed.kind,
            result: fields(&agreement.terms.result, computed)?,
            sensors: self.details(agreement, &x)?,
            window_hash: computed.window_hash,
            tx: settlement.tx,
            gas_used: settlement.gas_used,
            outcomes: settlement.outcomes.into(),
            said_by: SaidBy::Nodes,
        }))
    }

    /// Lets this node read the hole at t once more: it does once the operators of all nodes have asked.
    ///
    /// # Errors
    /// [`RoomError::NotFound`]; [`RoomError::Conflict`] if t is no hole behind the door, or the chain says what counts there.
    pub async fn reread(&self, a: &AgreementId, t: u64) -> RoomResult<()> {
        self.agreement(a)?;
        if !matches!(self.stands_at(a, t)?, Some(Stands::Hole)) {
            return Err(RoomError::conflict(
                format!("t {t} is no hole that waits for a word"),
                "Only a t that is settled as a hole, and whose cell is empty, is read once more.",
            ));
        }
        self.core.reread(*a, t).await
    }

    /// What was said of a t that the nodes did not agree on in the first reading. The detail is this node's own, if it computed what
    /// counts.
    fn counted(&self, agreement: &Agreement, t: u64, counts: &Counts) -> RoomResult<SettledResult> {
        let a = &agreement.id;
        let own = self.own(a, t, counts)?;
        let sensors = match &own {
            Some(x) => self.details(agreement, x)?,
            None => Vec::new(),
        };
        let hash = |x: ExecutionRecord| x.execution.computed.window_hash;
        let window_hash = match own {
            Some(x) => Some(hash(x)),
            None => self.records.execution(a, t)?.map(hash),
        };
        let (from, to) = agreement.terms.window.span(t);
        Ok(SettledResult {
            t,
            from,
            to,
            kind: counts.kind,
            result: match counts.kind {
                OutputKind::Value => decode_packed(&agreement.terms.result, &counts.result)
                    .map_err(RoomError::internal)?,
                _ => Map::new(),
            },
            sensors,
            window_hash: window_hash.unwrap_or(Digest::ZERO),
            tx: counts.tx,
            gas_used: counts.gas_used,
            outcomes: 1,
            said_by: counts.said_by,
        })
    }

    fn details(&self, agreement: &Agreement, x: &ExecutionRecord) -> RoomResult<Vec<SensorDetail>> {
        let registry = self.registered.read();
        agreement
            .terms
            .sensors
            .iter()
            .zip(&x.execution.detail)
            .map(|(s, detail)| {
                Ok(SensorDetail {
                    sensor: s.sensor,
                    label: label(&registry, &s.sensor),
                    detail: decode_packed(&agreement.terms.detail, detail)
                        .map_err(RoomError::internal)?,
                })
            })
            .collect()
    }

    /// Checks what is stored here against what has settled: the detail against its root, the result against the chain's entry,
    /// and the context, recomputed from the certificate, against the one that the chain was given.
    fn agrees(
        &self,
        agreement: &Agreement,
        t: u64,
        x: &ExecutionRecord,
        logged: Option<&SettledRecord>,
    ) -> RoomResult<()> {
        let a = &agreement.id;
        let computed = &x.execution.computed;
        let differs = |what: &str| {
            RoomError::internal(format!(
                "{what} of t {t} of agreement {a} is not the one that has settled: the data directory is damaged"
            ))
        };
        if detail_root(&agreement.sensors(), &x.execution.detail) != computed.detail_root {
            return Err(differs("the detail"));
        }
        let Some(logged) = logged else {
            return Ok(());
        };
        if !says(logged, t, computed) {
            return Err(differs("the result"));
        }
        // A batch has a root of contexts in its place.
        if !logged.batch
            && logged.t == t
            && let Some(c) = self.records.certificate(a, t)?
            && computed.context(&c.seal(&self.book.deployment, a, &agreement.terms, t))
                != logged.context
        {
            return Err(differs("the context"));
        }
        Ok(())
    }
}

/// The fields of a result; none unless it is a value.
pub(super) fn fields(fields: &[Field], computed: &Computed) -> RoomResult<Map<String, Value>> {
    if computed.kind != OutputKind::Value {
        return Ok(Map::new());
    }
    decode_packed(fields, &computed.result).map_err(RoomError::internal)
}

/// Whether the chain's entry for t is what was computed. What a settlement covers without an entry was null.
fn says(logged: &SettledRecord, t: u64, computed: &Computed) -> bool {
    let entry = logged.entries.iter().find(|(at, _)| *at == t);
    match (entry.map(|(_, e)| e), computed.kind) {
        (Some(Entry::Value(v)), OutputKind::Value) => *v == computed.result,
        (Some(Entry::Trap), OutputKind::Trap) | (None | Some(Entry::Null), OutputKind::Null) => {
            true
        }
        _ => false,
    }
}
