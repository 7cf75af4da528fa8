//! What a submission is for, as the chain shows it. Whatever a contract answers to a call, only its state says that the call
//! has become pointless, so the state is read again before a submission is dropped: an endpoint that lags, or a block that is
//! lost later, must not make a node forget what it owes (R13).

use crate::abi::Contracts;
use crate::contract::{AgreementState, Cells, ContractError, MainContract};
use crate::events::DisputeKind;
use crate::rpc::Rpc;
use alloy::primitives::{Address as EvmAddress, U256};
use alloy::sol_types::SolValue;
use diversity_proto::codec::{DecodeError, Reader, Result, Writer};
use diversity_proto::domain::keccak_raw;
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};

/// What stands on chain once a submission is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// t of the agreement is settled; or never can be in this epoch.
    Settled {
        /// `a`.
        agreement: AgreementId,
        /// Under this epoch; none where any serves.
        epoch: Option<u32>,
        /// Last t that it settles.
        t: u64,
    },
    /// The cell of t is written.
    Cell {
        /// `a`.
        agreement: AgreementId,
        /// Execution.
        t: u64,
    },
    /// A dispute is on record.
    Dispute(Digest),
    /// The sensor is void from this q on, or from a lower one.
    SensorVoid {
        /// Whose.
        sensor: SensorId,
        /// Number of the message.
        q: u64,
    },
    /// The user is registered.
    User(UserId),
    /// The node has this revision of its declaration, or a newer one.
    Node {
        /// Which.
        node: NodeId,
        /// Of its declaration.
        revision: u32,
    },
    /// The agreement exists.
    Agreement(AgreementId),
    /// The agreement has an end.
    Closed(AgreementId),
}

impl Goal {
    /// Which agreement it is about.
    pub fn agreement(&self) -> Option<AgreementId> {
        match *self {
            Self::Settled { agreement, .. } | Self::Cell { agreement, .. } => Some(agreement),
            Self::Agreement(agreement) | Self::Closed(agreement) => Some(agreement),
            Self::Dispute(_) | Self::SensorVoid { .. } | Self::User(_) | Self::Node { .. } => None,
        }
    }

    /// Why a submission with this goal is pointless, in words; none while it is not.
    ///
    /// # Errors
    /// [`ContractError`] if the chain cannot be asked.
    pub async fn reached(
        &self,
        rpc: &Rpc,
        contracts: &Contracts,
    ) -> std::result::Result<Option<String>, ContractError> {
        let main = MainContract::new(rpc.clone(), contracts.main);
        Ok(match *self {
            Self::Settled {
                agreement,
                epoch,
                t,
            } => main
                .agreement(&agreement)
                .await?
                .and_then(|state| settled(&state, epoch, t)),
            Self::Cell { agreement, t } => {
                let cells = Cells::new(rpc.clone(), contracts.cells);
                let written = cells.cell(&agreement, t).await?;
                written.map(|_| format!("the cell of t = {t} is written already"))
            }
            Self::Dispute(id) => {
                let recorded = main.dispute(&id).await?;
                recorded.map(|_| format!("dispute {id} is on record already"))
            }
            Self::SensorVoid { sensor, q } => {
                let void = main.sensor_void(&sensor).await?;
                void.filter(|(_, from)| *from <= q)
                    .map(|(_, from)| format!("the sensor is void from q = {from} on already"))
            }
            Self::User(user) => {
                let known = main.user(&user).await?;
                known.map(|_| format!("user {user} is registered already"))
            }
            Self::Node { node, revision } => {
                let stored = main.node_revision(&node).await?;
                (stored >= revision && stored > 0).then(|| {
                    format!("the node has revision {stored} of its declaration already, this is revision {revision}")
                })
            }
            Self::Agreement(a) => {
                let known = main.agreement(&a).await?;
                known.map(|_| format!("agreement {a} exists already"))
            }
            Self::Closed(a) => {
                let end = main.agreement(&a).await?.map(|s| s.end);
                end.filter(|end| *end != u64::MAX)
                    .map(|end| format!("agreement {a} is closed already, at t = {end}"))
            }
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        match self {
            Self::Settled {
                agreement,
                epoch,
                t,
            } => {
                w.u8(0).raw(&agreement.0).u64(*t);
                w.u8(u8::from(epoch.is_some())).u32(epoch.unwrap_or(0));
            }
            Self::Cell { agreement, t } => {
                w.u8(1).raw(&agreement.0).u64(*t);
            }
            Self::Dispute(id) => {
                w.u8(2).raw(&id.0);
            }
            Self::SensorVoid { sensor, q } => {
                w.u8(3).raw(&sensor.0).u64(*q);
            }
            Self::User(user) => {
                w.u8(4).raw(&user.0);
            }
            Self::Node { node, revision } => {
                w.u8(5).raw(&node.0).u32(*revision);
            }
            Self::Agreement(a) => {
                w.u8(6).raw(&a.0);
            }
            Self::Closed(a) => {
                w.u8(7).raw(&a.0);
            }
        }
    }
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(match r.u8("goal")? {
            0 => {
                let (agreement, t) = (AgreementId::read(r)?, r.u64("t")?);
                let (some, epoch) = (r.bool("epoch")?, r.u32("epoch")?);
                Self::Settled {
                    agreement,
                    epoch: some.then_some(epoch),
                    t,
                }
            }
            1 => Self::Cell {
                agreement: AgreementId::read(r)?,
                t: r.u64("t")?,
            },
            2 => Self::Dispute(Digest::read(r)?),
            3 => Self::SensorVoid {
                sensor: SensorId::read(r)?,
                q: r.u64("q")?,
            },
            4 => Self::User(UserId::read(r)?),
            5 => Self::Node {
                node: NodeId::read(r)?,
                revision: r.u32("revision")?,
            },
            6 => Self::Agreement(AgreementId::read(r)?),
            7 => Self::Closed(AgreementId::read(r)?),
            _ => return Err(DecodeError::Invalid("goal")),
        })
    }
}

fn settled(state: &AgreementState, epoch: Option<u32>, t: u64) -> Option<String> {
    if t < state.next_t {
        return Some(format!(
            "t = {t} is settled already: the next one is t = {}",
            state.next_t
        ));
    }
    if t >= state.end {
        return Some(format!(
            "the agreement ends at t = {}, so t = {t} never settles",
            state.end
        ));
    }
    let over = epoch.filter(|epoch| *epoch < state.epoch)?;
    Some(format!(
        "epoch {over} is over, epoch {} is in force",
        state.epoch
    ))
}

/// The id under which `MainContract` records a dispute. `agreement` is none for a sensor, `accused` for unequal reveals.
pub fn dispute_id(
    kind: DisputeKind,
    agreement: Option<&AgreementId>,
    epoch: u32,
    at: u64,
    accused: Option<&Address>,
) -> Digest {
    let accused: EvmAddress = accused.map_or([0; 20], |a| a.0).into();
    let agreement = U256::from_be_bytes(agreement.map_or([0; 32], |a| a.0));
    let kind = U256::from(kind.code());
    Digest(keccak_raw(
        &(kind, agreement, U256::from(epoch), U256::from(at), accused).abi_encode(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::AgreementStatus;

    #[test]
    fn a_settlement_is_pointless_only_by_what_the_state_says() {
        let state = AgreementState {
            status: AgreementStatus::Open,
            next_t: 7,
            epoch: 3,
            head: [0; 24],
            end: u64::MAX,
        };
        let why = |epoch, t| settled(&state, epoch, t).unwrap_or_default();
        assert!(why(Some(3), 6).contains("settled already"));
        assert_eq!(why(Some(3), 7), "");
        assert_eq!(why(Some(4), 9), "");
        assert!(why(Some(2), 9).contains("epoch 2 is over"));
        assert_eq!(why(None, 9), "");
        let closing = AgreementState { end: 9, ..state };
        assert_eq!(settled(&closing, None, 8), None);
        assert!(
            settled(&closing, None, 9)
                .unwrap()
                .contains("ends at t = 9")
        );
    }

    #[test]
    fn goals_are_read_back() {
        let a = AgreementId([1; 32]);
        let goals = [
            Goal::Settled {
                agreement: a,
                epoch: Some(3),
                t: 9,
            },
            Goal::Settled {
                agreement: a,
                epoch: None,
                t: 0,
            },
            Goal::Cell { agreement: a, t: 4 },
            Goal::Dispute(Digest([2; 32])),
            Goal::SensorVoid {
                sensor: SensorId([3; 20]),
                q: 8,
            },
            Goal::User(UserId([4; 20])),
            Goal::Node {
                node: NodeId([5; 20]),
                revision: 2,
            },
            Goal::Agreement(a),
            Goal::Closed(a),
        ];
        for goal in goals {
            let mut w = Writer::new();
            goal.write(&mut w);
            let bytes = w.finish();
            assert_eq!(
                diversity_proto::codec::decode_all(&bytes, Goal::read),
                Ok(goal)
            );
        }
    }
}
