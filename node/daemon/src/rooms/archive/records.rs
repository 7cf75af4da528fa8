//! The one reader of what the core and the registry keep in the store: formats of records are known here and nowhere else in the
//! rooms.

use diversity_client::api::{CLOSINGS_T_MAX, Closing, SaidBy};
use diversity_engine::api::CellWriter;
use diversity_engine::records::{self, CellRecord, FinalRecord, stored_part, t_key};
use diversity_proto::round::{Body, Commit, OutputKind, Reveal, Subject, seal_of};
use diversity_proto::terms::{Terms, config};
use diversity_proto::window::WindowEnd;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, Digest};
use diversity_store::Store;

pub use diversity_engine::records::ExecutionRecord;

use crate::node::registry::{self, ChainLog, SettledRecord};
use crate::rooms::error::{RoomError, RoomResult};

/// Reads stored records. It cannot write.
#[derive(Clone)]
pub struct Records {
    store: Store,
}

/// How one t became final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// Covered by a settlement.
    Settled(Settlement),
    /// A hole certificate has settled it.
    Hole,
    /// The users have settled it.
    Resolved,
}

/// The settlement that covers one t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// First t that it covers.
    pub from: u64,
    /// Last t that it covers.
    pub last: u64,
    /// Transaction.
    pub tx: Digest,
    /// Gas of the whole transaction.
    pub gas_used: u64,
    /// Outcomes that share the transaction.
    pub outcomes: u32,
}

/// What counts at a t that the nodes did not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Null, value or trap.
    pub kind: OutputKind,
    /// Packed result.
    pub result: Vec<u8>,
    /// Transaction that says so.
    pub tx: Digest,
    /// Gas of the whole transaction.
    pub gas_used: u64,
    /// Who said so.
    pub said_by: SaidBy,
}

/// The commits and reveals of one t.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Resolution epoch.
    pub epoch: u32,
    /// Node-index order.
    pub commits: Vec<Commit>,
    /// Node-index order.
    pub reveals: Vec<Reveal>,
}

impl Records {
    /// Over a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The terms of an agreement, accepted or published.
    ///
    /// # Errors
    /// [`RoomError::Internal`], as for all that follows: the store cannot be read, or a record in it is damaged.
    pub fn terms(&self, a: &AgreementId) -> RoomResult<Option<Terms>> {
        Ok(registry::terms(&self.store, a)?)
    }

    /// What this node computed for t.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn execution(&self, a: &AgreementId, t: u64) -> RoomResult<Option<ExecutionRecord>> {
        self.get(records::EXECUTION, a, t)?
            .map(|v| ExecutionRecord::decode(&v).map_err(RoomError::internal))
            .transpose()
    }

    /// What this node computed in second readings of t, the newest first.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn readings(&self, a: &AgreementId, t: u64) -> RoomResult<Vec<ExecutionRecord>> {
        let of_t = self.store.scan_prefix(&t_key(records::READING, a, t));
        of_t.rev()
            .map(|item| {
                let (_, value) = item.map_err(RoomError::internal)?;
                ExecutionRecord::decode(&value).map_err(RoomError::internal)
            })
            .collect()
    }

    /// What `f` is given at t for the carry of t - 1, as this node holds it: what was said of t - 1 where the nodes' states differed
    /// there or the users settled it themselves, else what this node computed.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn carry_into(&self, a: &AgreementId, t: u64) -> RoomResult<Option<Vec<u8>>> {
        let Some(before) = t.checked_sub(1) else {
            return Ok(Some(Vec::new()));
        };
        if let Some(cell) = self.get(records::CELL, a, before)? {
            let cell = CellRecord::decode(&cell).map_err(RoomError::internal)?;
            let apart = match self.certificate(a, before)? {
                Some(c) => c.states_differ(),
                None => false,
            };
            // What users say brings the state; that of a second reading is kept apart.
            let brought = !cell.resolution.q_next.is_empty();
            if cell.in_band.is_some() || apart && brought {
                return Ok(Some(cell.resolution.carry));
            }
            if apart {
                return self.carry_behind(a, before);
            }
        }
        Ok(self.execution(a, before)?.map(|x| x.execution.carry))
    }

    /// The carry that a second reading of t led to.
    fn carry_behind(&self, a: &AgreementId, t: u64) -> RoomResult<Option<Vec<u8>>> {
        let Some(value) = self.get(records::STATE, a, t)? else {
            return Ok(None);
        };
        match stored_part(&value).map_err(RoomError::internal)? {
            Part::State { state, .. } => Ok(Some(state.carry)),
            _ => Err(RoomError::internal("a stored state is something else")),
        }
    }

    /// First t that this node has not executed.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn next_execution(&self, a: &AgreementId) -> RoomResult<u64> {
        let prefix = [&[records::EXECUTION][..], &a.0].concat();
        let last = self
            .store
            .scan_prefix(&prefix)
            .next_back()
            .transpose()
            .map_err(RoomError::internal)?;
        Ok(last
            .and_then(|(key, _)| records::split_t_key(&key))
            .map_or(0, |(_, t)| t + 1))
    }

    /// Parts of windows that a record ended, and no message, ascending by t; of the newest [`CLOSINGS_T_MAX`] executions.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn closings(&self, a: &AgreementId, terms: &Terms) -> RoomResult<Vec<Closing>> {
        let prefix = [&[records::EXECUTION][..], &a.0].concat();
        let mut out = Vec::new();
        for item in self.store.scan_prefix(&prefix).rev().take(CLOSINGS_T_MAX) {
            let (key, value) = item.map_err(RoomError::internal)?;
            let (_, t) = records::split_t_key(&key)
                .ok_or_else(|| RoomError::internal("a key of an execution is damaged"))?;
            let x = ExecutionRecord::decode(&value).map_err(RoomError::internal)?;
            let ended = terms.sensors.iter().zip(&x.stretches).rev();
            out.extend(
                ended
                    .filter(|(_, s)| s.by == WindowEnd::ClosingRecord)
                    .map(|(of, s)| Closing {
                        t,
                        sensor: of.sensor,
                        q: s.end,
                    }),
            );
        }
        out.reverse();
        Ok(out)
    }

    /// The certificate that this node holds of t.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn certificate(&self, a: &AgreementId, t: u64) -> RoomResult<Option<Certificate>> {
        let Some(value) = self.get(records::CERTIFICATE, a, t)? else {
            return Ok(None);
        };
        match stored_part(&value).map_err(RoomError::internal)? {
            Part::Round {
                epoch,
                body: Body::Certificate { commits, reveals },
                ..
            } => Ok(Some(Certificate {
                epoch,
                commits,
                reveals,
            })),
            _ => Err(RoomError::internal(
                "a stored certificate is something else",
            )),
        }
    }

    /// How t became final; nothing before.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn finality(&self, a: &AgreementId, t: u64) -> RoomResult<Option<Finality>> {
        self.get(records::FINAL, a, t)?
            .map(|v| finality(&v))
            .transpose()
    }

    /// Every t from `from` on that is final, ascending, and how.
    pub fn finals(
        &self,
        a: &AgreementId,
        from: u64,
    ) -> impl Iterator<Item = RoomResult<(u64, Finality)>> + use<> {
        let (low, high) = (
            t_key(records::FINAL, a, from),
            t_key(records::FINAL, a, u64::MAX),
        );
        self.store.scan_range(&low[..]..=&high[..]).map(|item| {
            let (key, value) = item.map_err(RoomError::internal)?;
            let (_, t) = records::split_t_key(&key)
                .ok_or_else(|| RoomError::internal("a key of a final record is damaged"))?;
            Ok((t, finality(&value)?))
        })
    }

    /// What the users, or a second reading, said of t.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn counts(&self, a: &AgreementId, t: u64) -> RoomResult<Option<Counts>> {
        let (outputs, tx, gas_used, said_by) = match ChainLog::counts(&self.store, a, t)? {
            Some(ChainLog::Resolved {
                outputs,
                tx,
                gas_used,
                ..
            }) => (outputs, tx, gas_used, SaidBy::Users),
            Some(ChainLog::Cell {
                outputs,
                writer,
                tx,
                gas_used,
                ..
            }) => (outputs, tx, gas_used, said_by(writer)),
            _ => return Ok(None),
        };
        Ok(Some(Counts {
            kind: outputs.kind,
            result: outputs.result,
            tx,
            gas_used,
            said_by,
        }))
    }

    /// The same as the chain logged it.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn counted(&self, a: &AgreementId, t: u64) -> RoomResult<Option<ChainLog>> {
        Ok(ChainLog::counts(&self.store, a, t)?)
    }

    /// What the chain logged of the settlement whose last t this is.
    ///
    /// # Errors
    /// See [`Self::terms`].
    pub fn logged(&self, a: &AgreementId, last: u64) -> RoomResult<Option<SettledRecord>> {
        Ok(ChainLog::settled(&self.store, a, last)?)
    }

    fn get(&self, family: u8, a: &AgreementId, t: u64) -> RoomResult<Option<Vec<u8>>> {
        self.store
            .get(&t_key(family, a, t))
            .map_err(RoomError::internal)
    }
}

fn said_by(writer: CellWriter) -> SaidBy {
    match writer {
        CellWriter::Reading => SaidBy::SecondReading,
        CellWriter::Users => SaidBy::Users,
        CellWriter::Referee => SaidBy::Referee,
        CellWriter::Arbiter => SaidBy::Arbiter,
    }
}

impl Certificate {
    /// Whether the nodes' states differ, or some of them abstained: then t + 1 starts from what is said of t.
    pub fn states_differ(&self) -> bool {
        let state = |r: &Reveal| r.computed.state;
        let first = self.reveals.first().map(state);
        let apart =
            |r: &Reveal| r.computed.kind == OutputKind::Abstain || Some(r.computed.state) != first;
        self.reveals.iter().any(apart)
    }

    /// The seal over the commits of t.
    pub fn seal(&self, deployment: &Deployment, a: &AgreementId, terms: &Terms, t: u64) -> Digest {
        let subject = Subject {
            deployment: *deployment,
            config: config(deployment, a, self.epoch),
            t,
        };
        let nodes: Vec<_> = terms.nodes.iter().map(|n| n.node).collect();
        seal_of(&subject, &nodes, &self.commits)
    }
}

fn finality(value: &[u8]) -> RoomResult<Finality> {
    Ok(
        match FinalRecord::decode(value).map_err(RoomError::internal)? {
            FinalRecord::Settled {
                from,
                last,
                tx,
                gas_used,
                outcomes,
            } => Finality::Settled(Settlement {
                from,
                last,
                tx,
                gas_used,
                outcomes,
            }),
            FinalRecord::Hole { .. } => Finality::Hole,
            FinalRecord::Resolved { .. } => Finality::Resolved,
        },
    )
}
