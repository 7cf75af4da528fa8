//! What the contracts answer when they are asked.

use crate::abi::{ICells, IMainContract as C, b256};
use crate::events::DisputeKind;
use crate::rpc::{Call, Rpc, RpcError};
use alloy::sol_types::SolCall;
use diversity_proto::{Address, AgreementId, Deployment, Digest, NodeId, SensorId, UserId};

/// A deployed `MainContract`, read through an [`Rpc`].
#[derive(Clone)]
pub struct MainContract {
    rpc: Rpc,
    address: Address,
}

/// Deployed `Cells`, read through an [`Rpc`].
#[derive(Clone)]
pub struct Cells {
    rpc: Rpc,
    address: Address,
}

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellState {
    /// Who wrote it: 1 a second reading, 2 the users, 3 the referee, 4 the arbiter.
    pub writer: u8,
    /// `0^11 | kind | epoch | from | t`.
    pub word: [u8; 32],
    /// Covers all of it.
    pub digest: Digest,
}

/// Life of an agreement on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementStatus {
    /// Settles.
    Open,
    /// Settles up to its end.
    Closing,
}

/// What the contract stores of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreementState {
    /// Open or closing.
    pub status: AgreementStatus,
    /// The next t that settles.
    pub next_t: u64,
    /// Resolution epoch in force.
    pub epoch: u32,
    /// Head over all that settled.
    pub head: [u8; 24],
    /// Executions from this t on never settle; `u64::MAX` while open.
    pub end: u64,
}

/// What the contract stores of a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisputeState {
    /// What it is about.
    pub kind: DisputeKind,
    /// Epoch of the agreement, which may be marked, or the lower boot epoch of the sensor's frames.
    pub epoch: u32,
    /// Execution t, or a sensor's q.
    pub at: u64,
    /// First 18 bytes of the agreement's id; none for a sensor.
    pub agreement: Option<[u8; 18]>,
}

/// Why the contract cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ContractError {
    /// The chain.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Code that is not this contract.
    #[error(
        "at {address} there is no {contract} of this version ({what}): check the address and the chain"
    )]
    NotOurs {
        /// Which contract.
        contract: &'static str,
        /// Where.
        address: Address,
        /// What is wrong.
        what: String,
    },
}

type Result<T> = std::result::Result<T, ContractError>;

const MAIN: &str = "MainContract";
const CELLS: &str = "Cells";

async fn ask<T: SolCall>(
    rpc: &Rpc,
    contract: &'static str,
    address: Address,
    call: T,
) -> Result<T::Return> {
    let request = Call {
        from: Address([0; 20]),
        to: Some(address),
        data: call.abi_encode(),
    };
    let answer = rpc.call(&request).await?;
    T::abi_decode_returns(&answer).map_err(|e| ContractError::NotOurs {
        contract,
        address,
        what: if answer.is_empty() {
            "there is no code".into()
        } else {
            e.to_string()
        },
    })
}

impl Cells {
    /// The contract at an address.
    pub fn new(rpc: Rpc, address: Address) -> Self {
        Self { rpc, address }
    }
    async fn ask<T: SolCall>(&self, call: T) -> Result<T::Return> {
        ask(&self.rpc, CELLS, self.address, call).await
    }
    /// Whose agreements it has cells for. An error unless it is this `MainContract`.
    pub async fn belongs_to(&self, main: &Address) -> Result<()> {
        let found = Address(self.ask(ICells::mainCall {}).await?.into_array());
        if found != *main {
            return Err(ContractError::NotOurs {
                contract: CELLS,
                address: self.address,
                what: format!("it belongs to the MainContract {found}, not to {main}"),
            });
        }
        Ok(())
    }
    /// A cell; none while it is not written.
    pub async fn cell(&self, a: &AgreementId, t: u64) -> Result<Option<CellState>> {
        let call = ICells::cellCall {
            agreement: a.0.into(),
            t,
        };
        let out = self.ask(call).await?;
        let state = CellState {
            writer: out.writer as u8,
            word: out.word.to_be_bytes(),
            digest: Digest(out.digest.0),
        };
        Ok((state.writer != 0).then_some(state))
    }
}

impl MainContract {
    /// The contract at an address.
    pub fn new(rpc: Rpc, address: Address) -> Self {
        Self { rpc, address }
    }
    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    async fn ask<T: SolCall>(&self, call: T) -> Result<T::Return> {
        ask(&self.rpc, MAIN, self.address, call).await
    }

    /// Chain and contract, as the contract itself says: part of everything that is signed.
    pub async fn deployment(&self) -> Result<Deployment> {
        let bytes = self.ask(C::deploymentCall {}).await?.0;
        let deployment = Deployment {
            chain_id: u64::from_be_bytes(*bytes.first_chunk().expect("28 bytes have 8")),
            contract: Address(*bytes.last_chunk().expect("28 bytes have 20")),
        };
        if deployment.contract != self.address {
            return Err(ContractError::NotOurs {
                contract: MAIN,
                address: self.address,
                what: format!("it says that it is at {}", deployment.contract),
            });
        }
        Ok(deployment)
    }
    /// Number of entities of a user, itself included; none if it is not registered.
    pub async fn user(&self, user: &UserId) -> Result<Option<u64>> {
        let out = self
            .ask(C::usersCall {
                user: user.0.into(),
            })
            .await?;
        Ok((out.count > 0).then_some(out.count))
    }
    /// Highest revision of a node's declaration; 0 also for an unknown node.
    pub async fn node_revision(&self, node: &NodeId) -> Result<u32> {
        self.ask(C::nodeRevisionCall {
            node: node.0.into(),
        })
        .await
    }
    /// An agreement; none if it does not exist.
    pub async fn agreement(&self, a: &AgreementId) -> Result<Option<AgreementState>> {
        let out = self
            .ask(C::agreementsCall {
                agreement: a.0.into(),
            })
            .await?;
        let status = match out.status {
            C::Status::Open => AgreementStatus::Open,
            C::Status::Closing => AgreementStatus::Closing,
            _ => return Ok(None),
        };
        Ok(Some(AgreementState {
            status,
            next_t: out.nextT,
            epoch: out.epoch,
            head: out.head.0,
            end: out.end,
        }))
    }
    /// A dispute; none if it is not on record.
    pub async fn dispute(&self, dispute: &Digest) -> Result<Option<DisputeState>> {
        let out = self
            .ask(C::disputesCall {
                dispute: b256(dispute),
            })
            .await?;
        let Some(kind) = DisputeKind::from_abi(out.kind) else {
            return Ok(None);
        };
        Ok(Some(DisputeState {
            kind,
            epoch: out.epoch,
            at: out.point,
            agreement: (out.agreement.0 != [0; 18]).then_some(out.agreement.0),
        }))
    }
    /// Whether a hole certificate has settled `t` in this epoch.
    pub async fn is_hole(&self, a: &AgreementId, epoch: u32, t: u64) -> Result<bool> {
        self.ask(C::isHoleCall {
            agreement: a.0.into(),
            epoch,
            t,
        })
        .await
    }
    /// Boot epoch and q from which on a sensor is void; none if it is not.
    pub async fn sensor_void(&self, sensor: &SensorId) -> Result<Option<(u32, u64)>> {
        let out = self
            .ask(C::sensorVoidCall {
                sensor: sensor.0.into(),
            })
            .await?;
        Ok(out.void_.then_some((out.epoch, out.q)))
    }
}
