//! What a transaction pays (besu.md-style networks: zero fee, pre-London, or a base fee that has decayed to a few wei).
//!
//! Pure functions of the head block; nothing is asked of the chain here.

use crate::rpc::Block;
use diversity_proto::Address;

/// Largest gas limit of one transaction since Osaka (EIP-7825); kept on every chain, so that what is sent stays sendable.
pub const TRANSACTION_GAS_MAX: u64 = 16_777_216;

/// Price of gas in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fees {
    /// A legacy transaction with EIP-155 replay protection: chains before London know no other.
    Legacy {
        /// Wei per gas.
        gas_price: u128,
    },
    /// EIP-1559.
    Dynamic {
        /// Most wei per gas, base fee and tip together.
        max_fee: u128,
        /// Wei per gas above the base fee.
        tip: u128,
    },
}

impl Fees {
    /// Most that a unit of gas can cost, wei.
    pub fn most(&self) -> u128 {
        match *self {
            Self::Legacy { gas_price } => gas_price,
            Self::Dynamic { max_fee, .. } => max_fee,
        }
    }
}

/// Why a transaction cannot be paid for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeeError {
    /// Balance below what it may cost.
    #[error("account {account} has {balance} wei, and up to {needed} wei are needed for what is in flight: send it at least {} wei", needed.saturating_sub(*balance))]
    InsufficientFunds {
        /// Who pays.
        account: Address,
        /// Wei.
        balance: u128,
        /// Wei.
        needed: u128,
    },
    /// More gas than the chain allows in one transaction.
    #[error(
        "it needs {gas} gas, and one transaction may use {max} on this chain: send it in smaller parts"
    )]
    TooMuchGas {
        /// Gas.
        gas: u64,
        /// Gas.
        max: u64,
    },
}

/// How fees are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeePolicy {
    /// Least tip, wei, where the base fee is not zero. Besu's default `min-gas-price` is 1000 wei, and a smaller tip is
    /// accepted and then never mined by the other validators.
    pub min_gas_price: u128,
    /// Least price where the base fee is zero, or where the chain before London suggests zero, wei. 0 unless the operator knows
    /// that validators want more: such a transaction is accepted and never mined.
    pub free_gas_price: u128,
    /// Most that is ever paid for a unit of gas, wei.
    pub max_gas_price: u128,
    /// Added to an estimate of gas, percent: estimates are 1.5 % coarse, and state moves before the block.
    pub gas_margin_percent: u64,
}

impl Default for FeePolicy {
    fn default() -> Self {
        Self {
            min_gas_price: 1_000,
            free_gas_price: 0,
            max_gas_price: 1_000_000_000_000,
            gas_margin_percent: 20,
        }
    }
}

impl FeePolicy {
    /// Fees for the block after `head`. `suggested` is `eth_gasPrice`, wanted before London. `floor` is a price that the
    /// network has been seen to ask for, 0 if none.
    pub fn fees(&self, head: &Block, suggested: Option<u128>, floor: u128) -> Fees {
        let floor = floor.max(self.free_gas_price);
        match head.base_fee {
            // No key in the header: before London. `eth_feeHistory` answers zeros there and fools those who trust it.
            None => {
                let asked = suggested.unwrap_or(0).max(floor);
                let price = if asked == 0 {
                    0
                } else {
                    asked.max(self.min_gas_price)
                };
                Fees::Legacy {
                    gas_price: price.min(self.max_gas_price),
                }
            }
            // Zero means zero: a tip of 1 wei from an account without balance is accepted and never mined.
            Some(0) => Fees::Dynamic {
                max_fee: floor.min(self.max_gas_price),
                tip: floor.min(self.max_gas_price),
            },
            Some(base) => {
                let tip = self.min_gas_price.max(floor).min(self.max_gas_price);
                Fees::Dynamic {
                    max_fee: base
                        .saturating_mul(2)
                        .saturating_add(tip)
                        .min(self.max_gas_price),
                    tip,
                }
            }
        }
    }

    /// Fees that replace `old` in a pool, which wants 10 % more: 12.5 %, and at least what is asked `now`. None if that is
    /// above the limit, or if the price of today would be no better.
    pub fn replacement(&self, old: Fees, now: Fees) -> Option<Fees> {
        let more = |v: u128| v.saturating_add(v.div_ceil(8)).max(v.saturating_add(1));
        let next = match (old, now) {
            (Fees::Dynamic { max_fee, tip }, Fees::Dynamic { max_fee: m, tip: t }) => {
                let tip = more(tip).max(t);
                Fees::Dynamic {
                    max_fee: more(max_fee).max(m).max(tip),
                    tip,
                }
            }
            (old, Fees::Legacy { gas_price }) => Fees::Legacy {
                gas_price: more(old.most()).max(gas_price),
            },
            (Fees::Legacy { gas_price }, Fees::Dynamic { max_fee, tip }) => {
                let max_fee = more(gas_price).max(max_fee);
                Fees::Dynamic {
                    max_fee,
                    tip: tip.max(more(gas_price)).min(max_fee),
                }
            }
        };
        (next.most() <= self.max_gas_price).then_some(next)
    }

    /// Whether a transaction at `old` has fallen behind what is asked `now`.
    pub fn outpriced(&self, old: Fees, now: Fees, head: &Block) -> bool {
        match (old, now) {
            (Fees::Dynamic { max_fee, tip }, Fees::Dynamic { tip: asked, .. }) => {
                tip < asked || max_fee < head.base_fee.unwrap_or(0).saturating_add(asked)
            }
            (old, now) => old.most() < now.most(),
        }
    }

    /// Gas limit for an estimate.
    ///
    /// # Errors
    /// [`FeeError::TooMuchGas`].
    pub fn gas_limit(&self, estimate: u64, block_gas_limit: u64) -> Result<u64, FeeError> {
        let max = block_gas_limit.min(TRANSACTION_GAS_MAX);
        if estimate > max {
            return Err(FeeError::TooMuchGas { gas: estimate, max });
        }
        Ok(estimate
            .saturating_add(estimate / 100 * self.gas_margin_percent)
            .min(max))
    }
}

/// Whether `account` can pay `needed` wei. Besu since 25.12 takes a transaction that cannot be paid, keeps it in every
/// pool and never mines it, so this is checked before anything is sent.
///
/// # Errors
/// [`FeeError::InsufficientFunds`] with account and amounts.
pub fn check_balance(account: &Address, balance: u128, needed: u128) -> Result<(), FeeError> {
    if balance < needed {
        return Err(FeeError::InsufficientFunds {
            account: *account,
            balance,
            needed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::Digest;

    fn head(base_fee: Option<u128>) -> Block {
        Block {
            number: 9,
            hash: Digest([9; 32]),
            parent_hash: Digest([8; 32]),
            timestamp: 0,
            base_fee,
            gas_limit: 30_000_000,
            empty: false,
        }
    }

    #[test]
    fn fees_follow_the_head() {
        let p = FeePolicy::default();
        let dynamic = |max_fee, tip| Fees::Dynamic { max_fee, tip };
        for (what, base, suggested, floor, want) in [
            (
                "zero base fee: nothing, not even 1 wei",
                Some(0),
                Some(0),
                0,
                dynamic(0, 0),
            ),
            (
                "zero base fee, suggestion ignored",
                Some(0),
                Some(1_000_000_000),
                0,
                dynamic(0, 0),
            ),
            (
                "zero base fee, but the network has asked for 1000",
                Some(0),
                None,
                1_000,
                dynamic(1_000, 1_000),
            ),
            (
                "decayed to 7 wei: the tip has a floor",
                Some(7),
                None,
                0,
                dynamic(1_014, 1_000),
            ),
            (
                "1 gwei",
                Some(1_000_000_000),
                None,
                0,
                dynamic(2_000_001_000, 1_000),
            ),
            (
                "Berlin",
                None,
                Some(1_000_000_000),
                0,
                Fees::Legacy {
                    gas_price: 1_000_000_000,
                },
            ),
            (
                "Berlin, free gas",
                None,
                Some(0),
                0,
                Fees::Legacy { gas_price: 0 },
            ),
            (
                "Berlin, tiny suggestion",
                None,
                Some(5),
                0,
                Fees::Legacy { gas_price: 1_000 },
            ),
        ] {
            assert_eq!(p.fees(&head(base), suggested, floor), want, "{what}");
        }
    }

    #[test]
    fn an_operator_who_knows_better_pays_where_gas_is_free() {
        let p = FeePolicy {
            min_gas_price: 3_000,
            free_gas_price: 3_000,
            ..FeePolicy::default()
        };
        let dynamic = |max_fee, tip| Fees::Dynamic { max_fee, tip };
        assert_eq!(p.fees(&head(Some(0)), None, 0), dynamic(3_000, 3_000));
        assert_eq!(p.fees(&head(Some(7)), None, 0), dynamic(3_014, 3_000));
        let gas_price = 3_000;
        assert_eq!(p.fees(&head(None), Some(0), 0), Fees::Legacy { gas_price });
    }

    #[test]
    fn a_replacement_pays_a_tenth_more_in_both_fields_and_stops_at_the_limit() {
        let p = FeePolicy::default();
        let old = Fees::Dynamic {
            max_fee: 2_000_001_000,
            tip: 1_000,
        };
        let Some(Fees::Dynamic { max_fee, tip }) = p.replacement(old, old) else {
            panic!()
        };
        assert!(max_fee * 10 >= 2_000_001_000 * 11 && tip * 10 >= 11_000);
        let top = Fees::Dynamic {
            max_fee: p.max_gas_price,
            tip: 1,
        };
        assert_eq!(p.replacement(top, old), None);
        assert!(!p.outpriced(
            Fees::Dynamic { max_fee: 0, tip: 0 },
            Fees::Dynamic { max_fee: 0, tip: 0 },
            &head(Some(0))
        ));
        assert!(p.outpriced(old, old, &head(Some(3_000_000_000))));
    }

    #[test]
    fn the_words_name_account_and_amount() {
        let account = Address([0xab; 20]);
        assert!(check_balance(&account, 5, 5).is_ok());
        let text = check_balance(&account, 5, 12).unwrap_err().to_string();
        assert!(
            text.contains(&account.hex()) && text.contains(" 7 wei") && text.contains("12"),
            "{text}"
        );
        assert!(
            FeePolicy::default()
                .gas_limit(40_000_000, 30_000_000)
                .is_err()
        );
        assert_eq!(
            FeePolicy::default().gas_limit(100_000, 30_000_000),
            Ok(120_000)
        );
    }
}
