//! The account that pays: signs transactions, deterministically (RFC 6979).

use crate::fees::Fees;
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{B256, TxKind, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use diversity_proto::{Address, Digest};

/// A secret that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the account secret is not a secp256k1 key (zero, or not below the group order): make a new one"
)]
pub struct AccountError;

/// An account key of a node.
#[derive(Clone)]
pub struct Account {
    signer: PrivateKeySigner,
    address: Address,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.address)
    }
}

/// What a transaction does and pays, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned<'a> {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Of the account.
    pub nonce: u64,
    /// Contract; none for a deployment.
    pub to: Option<Address>,
    /// Wei that go with it.
    pub value: u128,
    /// Calldata.
    pub data: &'a [u8],
    /// Most gas that it may use.
    pub gas_limit: u64,
    /// Price of gas.
    pub fees: Fees,
}

impl Account {
    /// From a 32-byte secret.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, AccountError> {
        let signer = PrivateKeySigner::from_bytes(&B256::from(secret)).map_err(|_| AccountError)?;
        let address = Address(signer.address().into_array());
        Ok(Self { signer, address })
    }
    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }
    /// Signed bytes as they are sent, and their hash.
    pub fn sign(&self, tx: &Unsigned<'_>) -> (Vec<u8>, Digest) {
        let to = tx.to.map_or(TxKind::Create, |a| TxKind::Call(a.0.into()));
        let input = tx.data.to_vec().into();
        let envelope: TxEnvelope = match tx.fees {
            Fees::Legacy { gas_price } => self
                .signed(TxLegacy {
                    chain_id: Some(tx.chain_id),
                    nonce: tx.nonce,
                    gas_price,
                    gas_limit: tx.gas_limit,
                    to,
                    value: U256::from(tx.value),
                    input,
                })
                .into(),
            Fees::Dynamic { max_fee, tip } => self
                .signed(TxEip1559 {
                    chain_id: tx.chain_id,
                    nonce: tx.nonce,
                    gas_limit: tx.gas_limit,
                    max_fee_per_gas: max_fee,
                    max_priority_fee_per_gas: tip,
                    to,
                    value: U256::from(tx.value),
                    access_list: Default::default(),
                    input,
                })
                .into(),
        };
        (envelope.encoded_2718(), Digest(envelope.tx_hash().0))
    }
    fn signed<T: SignableTransaction<alloy::primitives::Signature>>(
        &self,
        tx: T,
    ) -> alloy::consensus::Signed<T> {
        let signature = self
            .signer
            .sign_hash_sync(&tx.signature_hash())
            .expect("signing a 32-byte hash with a valid key cannot fail");
        tx.into_signed(signature)
    }
}
