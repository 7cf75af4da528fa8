//! What the contract answers when it is asked.

use crate::abi::{IMainContract as C, b256};
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
    /// Head over the settled outcomes, 19 bytes and zeros.
    pub head: Digest,
    /// Executions from this t on never settle; `u64::MAX` while open.
    pub end: u64,
}

/// What the contract stores of a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisputeState {
    /// What it is about.
    pub kind: DisputeKind,
    /// The users have resolved it.
    pub resolved: bool,
    /// Resolution epoch of the agreement, or boot epoch of the sensor.
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
        "at {address} there is no MainContract of this version ({what}): check the address and the chain"
    )]
    NotOurs {
        /// Where.
        address: Address,
        /// What is wrong.
        what: String,
    },
}

type Result<T> = std::result::Result<T, ContractError>;

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
        let request = Call {
            from: Address([0; 20]),
            to: Some(self.address),
            data: call.abi_encode(),
        };
        let answer = self.rpc.call(&request).await?;
        T::abi_decode_returns(&answer).map_err(|e| ContractError::NotOurs {
            address: self.address,
            what: if answer.is_empty() {
                "there is no code".into()
            } else {
                e.to_string()
            },
        })
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
            head: Digest(out.head.0),
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
            resolved: out.resolved,
            epoch: out.epoch,
            at: out.point,
            agreement: (out.agreement.0 != [0; 18]).then_some(out.agreement.0),
        }))
    }
    /// The id under which a dispute is recorded. `agreement` is none for a sensor, `accused` for unequal reveals.
    pub async fn dispute_id(
        &self,
        kind: DisputeKind,
        agreement: Option<&AgreementId>,
        epoch: u32,
        at: u64,
        accused: Option<&Address>,
    ) -> Result<Digest> {
        let out = self
            .ask(C::disputeIdCall {
                kind: kind.abi(),
                agreement: agreement.map_or([0; 32], |a| a.0).into(),
                epoch,
                point: at,
                accused: accused.map_or([0; 20], |a| a.0).into(),
            })
            .await?;
        Ok(Digest(out.0))
    }
    /// Whether unequal reveals of `t` are on record.
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
