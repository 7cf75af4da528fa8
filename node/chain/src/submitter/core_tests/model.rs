//! A modelled chain, disk and clock around [`Submitter::step`].

use super::*;

pub(super) const CHAIN: ChainIdentity = ChainIdentity {
    chain_id: 1337,
    genesis: Digest([1; 32]),
};
pub(super) const TO: Address = Address([0xcc; 20]);

/// A chain that mines what it is given when it is told to.
pub(super) struct World {
    pub(super) core: Submitter,
    pub(super) now: u64,
    pub(super) disk: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Everything that was ever sent: nonce by payload tells whether a nonce was signed twice.
    pub(super) sent: Vec<(Digest, Vec<u8>)>,
    pub(super) reports: Vec<(Digest, Report)>,
    pub(super) pool: BTreeMap<u64, (Digest, u64)>,
    pub(super) mined: BTreeMap<u64, (Digest, u64)>,
    pub(super) blocks: Vec<(u64, Digest)>,
    pub(super) base_fee: Option<u128>,
    pub(super) balance: u128,
    pub(super) fork: u8,
    /// What simulating a submission gives, by its first byte of calldata.
    pub(super) outcome: BTreeMap<u8, Precheck>,
    /// What an endpoint says to sent bytes, instead of taking them.
    pub(super) refusal: Option<RpcError>,
    /// Answers to receipts that are not simply "success".
    pub(super) reverts: BTreeMap<u64, Option<Vec<u8>>>,
    pub(super) taken: bool,
    /// Gas of what was mined without effect.
    pub(super) wasted: Vec<u64>,
    /// Gas that each report told.
    pub(super) told_gas: Vec<u64>,
    pub(super) prechecks: usize,
    /// First t that is not settled, as the chain's state says; none while it cannot be asked.
    pub(super) next_t: Option<u64>,
    pub(super) confirmed: usize,
}

pub(super) fn account() -> Account {
    Account::from_secret(&[7; 32]).unwrap()
}

pub(super) fn id(n: u8) -> Digest {
    Digest([n; 32])
}

pub(super) fn submission(n: u8) -> Submission {
    Submission {
        id: id(n),
        label: format!("settle {n}"),
        to: Some(TO),
        data: vec![n, 1, 2, 3],
        patience_ms: None,
        goal: None,
        row: None,
    }
}

/// As the core's: it is owed until the chain says that t is settled.
pub(super) fn owed(n: u8) -> Submission {
    Submission {
        goal: Some(Goal::Settled {
            agreement: AgreementId([1; 32]),
            epoch: None,
            t: n.into(),
        }),
        ..submission(n)
    }
}

/// A settlement of one t in a row of them.
pub(super) fn settlement(n: u8) -> Submission {
    Submission {
        row: Some(Row {
            agreement: AgreementId([1; 32]),
            from: n.into(),
            t: n.into(),
            gas: 90_000,
        }),
        ..owed(n)
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(SubmitterConfig::default())
    }
    pub(super) fn with(config: SubmitterConfig) -> Self {
        let core = Submitter::load(config, CHAIN, account(), &[]).unwrap();
        Self {
            core,
            now: 1_000_000,
            disk: BTreeMap::new(),
            sent: Vec::new(),
            reports: Vec::new(),
            pool: BTreeMap::new(),
            mined: BTreeMap::new(),
            blocks: vec![(10, Digest([10; 32]))],
            base_fee: Some(0),
            balance: 0,
            fork: 0,
            outcome: BTreeMap::new(),
            refusal: None,
            reverts: BTreeMap::new(),
            taken: true,
            wasted: Vec::new(),
            told_gas: Vec::new(),
            prechecks: 0,
            next_t: Some(0),
            confirmed: 0,
        }
    }
    /// kill -9 and start again: memory is lost, the disk is not.
    pub(super) fn restart(&mut self) {
        let entries: Vec<_> = self
            .disk
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        self.core = Submitter::load(self.core.config, CHAIN, account(), &entries).unwrap();
    }
    pub(super) fn head(&self) -> Block {
        let (number, hash) = *self.blocks.last().unwrap();
        let parent = self
            .blocks
            .len()
            .checked_sub(2)
            .map_or(Digest::ZERO, |i| self.blocks[i].1);
        Block {
            number,
            hash,
            parent_hash: parent,
            timestamp: number,
            base_fee: self.base_fee,
            gas_limit: 30_000_000,
            empty: false,
        }
    }
    pub(super) fn nonce(&self) -> u64 {
        self.mined.len() as u64
    }
    pub(super) fn nonce_of(raw: &[u8]) -> (u64, Vec<u8>, Fees) {
        use alloy::consensus::{Transaction, TxEnvelope};
        use alloy::eips::eip2718::Decodable2718;
        let tx = TxEnvelope::decode_2718(&mut &raw[..]).unwrap();
        let fees = if tx.is_legacy() {
            Fees::Legacy {
                gas_price: tx.max_fee_per_gas(),
            }
        } else {
            Fees::Dynamic {
                max_fee: tx.max_fee_per_gas(),
                tip: tx.max_priority_fee_per_gas().unwrap_or(0),
            }
        };
        (tx.nonce(), tx.input().to_vec(), fees)
    }
    pub(super) fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.core.step(self.now, input) {
                inputs.extend(self.execute(effect));
            }
        }
        self.check();
    }
    pub(super) fn execute(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Persist { key, value } => {
                self.disk.insert(key, value);
                None
            }
            Effect::Delete { key } => {
                self.disk.remove(&key);
                None
            }
            Effect::Deliver {
                id, report, gas, ..
            } => {
                self.reports.push((id, report));
                self.told_gas.push(gas);
                None
            }
            Effect::Wasted { gas_used, .. } => {
                self.wasted.push(gas_used);
                None
            }
            Effect::Refuse { id, reason } => {
                self.reports.push((id, Report::Pointless { reason }));
                None
            }
            Effect::QueryAccount => Some(Input::Account {
                nonce: self.nonce(),
                balance: self.balance,
            }),
            Effect::Precheck { seq, call } => {
                self.prechecks += 1;
                let key = call.data.first().copied().unwrap_or(0);
                let outcome = self
                    .outcome
                    .get(&key)
                    .cloned()
                    .unwrap_or(Precheck::Gas(30_000));
                Some(Input::Prechecked { seq, outcome })
            }
            Effect::Confirm { seq, goal } => {
                self.confirmed += 1;
                let Goal::Settled { t, .. } = goal else {
                    panic!("{goal:?}")
                };
                let outcome = match self.next_t {
                    None => Err("no endpoint answers".into()),
                    Some(next) => Ok((t < next).then(|| format!("t = {t} is settled already"))),
                };
                Some(Input::Confirmed { seq, outcome })
            }
            Effect::Send { seq, tx, raw, .. } => {
                // Durable before it leaves: the bytes stand on disk now.
                assert!(
                    self.disk
                        .values()
                        .any(|v| v.windows(raw.len()).any(|w| w == raw)),
                    "sent before it was persisted"
                );
                let (nonce, ..) = Self::nonce_of(&raw);
                self.sent.push((tx, raw));
                let outcome = match &self.refusal {
                    Some(error) => Err(error.clone()),
                    None if nonce < self.nonce() => Err(RpcError::NonceTooLow),
                    None => {
                        if self.taken {
                            self.pool.insert(nonce, (tx, seq));
                        }
                        Ok(())
                    }
                };
                Some(Input::Sent { seq, tx, outcome })
            }
            Effect::QueryReceipt { seq, txs } => {
                let found = self.mined.iter().find(|(_, (tx, _))| txs.contains(tx));
                let receipt = found.map(|(nonce, (tx, block))| Receipt {
                    tx: *tx,
                    block_number: *block,
                    block_hash: Digest([*block as u8; 32]),
                    success: !self.reverts.contains_key(nonce),
                    gas_used: 25_000,
                    contract: None,
                    revert_reason: self.reverts.get(nonce).cloned().flatten(),
                });
                Some(Input::Receipt {
                    seq,
                    outcome: Ok(receipt),
                })
            }
            Effect::Replay { seq, .. } => Some(Input::Replayed {
                seq,
                outcome: Err(RpcError::Reverted {
                    data: C::NotUnanimous {}.abi_encode(),
                    message: String::new(),
                }),
            }),
        }
    }
    /// A nonce is never signed for two payloads.
    pub(super) fn check(&self) {
        let mut by_nonce: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (_, raw) in &self.sent {
            let (nonce, data, _) = Self::nonce_of(raw);
            let first = by_nonce.entry(nonce).or_insert_with(|| data.clone());
            assert_eq!(*first, data, "nonce {nonce} was signed for two payloads");
        }
    }
    pub(super) fn look(&mut self) {
        let block = self.head();
        let suggested = self.base_fee.is_none().then_some(1_000_000_000);
        self.step(Input::Head {
            block,
            suggested,
            rewound: false,
        });
    }
    pub(super) fn mine(&mut self) {
        let number = self.blocks.last().unwrap().0 + 1;
        while let Some((tx, _)) = self.pool.remove(&self.nonce()) {
            self.mined.insert(self.nonce(), (tx, number));
        }
        self.blocks
            .push((number, Digest([number as u8 ^ self.fork; 32])));
        self.look();
    }
    /// The chain forgets its pool and its last blocks.
    pub(super) fn lose_blocks(&mut self, n: usize) {
        self.blocks.truncate(self.blocks.len() - n);
        self.fork ^= 0x80;
        let head = self.blocks.last().unwrap().0;
        self.mined.retain(|_, (_, block)| *block <= head);
        self.pool.clear();
        self.look();
    }
    pub(super) fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.step(Input::Tick);
    }
    pub(super) fn mined_ids(&self) -> Vec<Digest> {
        self.reports
            .iter()
            .filter(|(_, r)| matches!(r, Report::Mined { .. }))
            .map(|(id, _)| *id)
            .collect()
    }
    /// Those that somebody has to do something about.
    pub(super) fn stuck(&self) -> Vec<Waiting> {
        let waiting = self.core.status().waiting.into_iter();
        waiting.filter(|w| w.stuck).collect()
    }
    pub(super) fn why(&self, n: u8) -> String {
        self.core
            .status()
            .waiting
            .iter()
            .find(|w| w.id == id(n))
            .map(|w| w.why.clone())
            .unwrap_or_default()
    }
}

pub(super) fn reverted(error: impl SolError) -> Precheck {
    Precheck::Error(RpcError::Reverted {
        data: error.abi_encode(),
        message: "Execution reverted".into(),
    })
}
