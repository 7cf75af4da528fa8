//! What the outbox keeps in the journal. One record a submission, each change one put, so that a crash never leaves half
//! of a change.

use super::{Report, Row, Submission};
use crate::fees::Fees;
use crate::goal::Goal;
use diversity_proto::codec::{DecodeError, Reader, Result, Writer, decode_all};
use diversity_proto::{Address, AgreementId, Digest};

/// Most bytes of calldata: more than a node's terms, and than any chain takes.
pub const DATA_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a label.
pub const LABEL_BYTES_MAX: usize = 256;
/// Most signed versions of one payload under one nonce.
pub const ATTEMPTS_MAX: usize = 12;
/// Most nonces that one payload has used up.
pub const SPENT_MAX: usize = 8;

/// Version of these records. Version 2 did not count what was mined without effect. Version 1 had no goals and no rows; its
/// submissions were for another MainContract.
const VERSION: u8 = 3;
const OLDEST: u8 = 2;

const WORDS_MAX: usize = 4_096;

/// Signed bytes of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub tx: Digest,
    pub raw: Vec<u8>,
    pub fees: Fees,
    pub gas_limit: u64,
}

/// A payload under its nonce, in every signed version; the last one is the one that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub nonce: u64,
    pub attempts: Vec<Attempt>,
    /// Unix milliseconds of the last version.
    pub since: u64,
}

impl Signed {
    pub fn last(&self) -> &Attempt {
        self.attempts.last().expect("signed at least once")
    }
    pub fn txs(&self) -> Vec<Digest> {
        self.attempts.iter().rev().map(|a| a.tx).collect()
    }
}

/// How far a submission is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No nonce yet.
    Queued,
    /// Has a nonce and is (to be) sent.
    Signed(Signed),
    /// Ended. What was mined is kept for a while, so that it can be sent again if the chain loses blocks.
    Done {
        report: Report,
        acknowledged: bool,
        signed: Option<Signed>,
        /// Where it was mined; the head of that moment if it was not.
        block: u64,
    },
}

/// A submission and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub submission: Submission,
    /// Unix milliseconds.
    pub since: u64,
    /// Nonces that this payload has used up without effect, with what was signed for them.
    pub spent: Vec<(u64, Vec<u8>)>,
    /// Gas of its transactions that were mined without effect.
    pub wasted: u64,
    pub stage: Stage,
}

/// What belongs to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub chain_id: u64,
    pub genesis: Digest,
    pub account: Address,
    /// Nonces below this one were signed for payloads whose records are gone.
    pub floor: u64,
}

pub(super) const META_KEY: &[u8] = &[0];

pub(super) fn record_key(seq: u64) -> Vec<u8> {
    let mut key = vec![1];
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

pub(super) fn seq_of(key: &[u8]) -> Option<u64> {
    let (first, rest) = key.split_first()?;
    (*first == 1).then(|| rest.try_into().ok().map(u64::from_be_bytes))?
}

impl Meta {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .u64(self.chain_id)
            .raw(&self.genesis.0)
            .raw(&self.account.0)
            .u64(self.floor);
        w.finish()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode_all(bytes, |r| {
            r.version_in("outbox", OLDEST, VERSION)?;
            Ok(Self {
                chain_id: r.u64("chain id")?,
                genesis: Digest::read(r)?,
                account: Address::read(r)?,
                floor: r.u64("nonce")?,
            })
        })
    }
}

fn write_u128(w: &mut Writer, v: u128) {
    w.raw(&v.to_be_bytes());
}

fn read_u128(r: &mut Reader<'_>) -> Result<u128> {
    Ok(u128::from_be_bytes(r.array("wei")?))
}

fn write_option<T>(w: &mut Writer, v: Option<T>, f: impl FnOnce(&mut Writer, T)) {
    match v {
        None => {
            w.u8(0);
        }
        Some(v) => {
            w.u8(1);
            f(w, v);
        }
    }
}

fn read_option<T>(
    r: &mut Reader<'_>,
    f: impl FnOnce(&mut Reader<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if r.bool("option")? {
        f(r).map(Some)
    } else {
        Ok(None)
    }
}

impl Submission {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.id.0).text(&self.label);
        write_option(w, self.to, |w, a| a.write(w));
        w.bytes(&self.data);
        write_option(w, self.patience_ms, |w, v| {
            w.u64(v);
        });
        write_option(w, self.goal, |w, goal| goal.write(w));
        write_option(w, self.row, |w, row| {
            w.raw(&row.agreement.0)
                .u64(row.from)
                .u64(row.t)
                .u64(row.gas);
        });
    }
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            id: Digest::read(r)?,
            label: r.text(LABEL_BYTES_MAX, "label")?,
            to: read_option(r, Address::read)?,
            data: r.bytes(DATA_BYTES_MAX, "calldata")?.to_vec(),
            patience_ms: read_option(r, |r| r.u64("patience"))?,
            goal: read_option(r, Goal::read)?,
            row: read_option(r, |r| {
                Ok(Row {
                    agreement: AgreementId::read(r)?,
                    from: r.u64("from")?,
                    t: r.u64("t")?,
                    gas: r.u64("gas")?,
                })
            })?,
        })
    }
}

impl Signed {
    fn write(&self, w: &mut Writer) {
        w.u64(self.nonce).u64(self.since);
        w.list(&self.attempts, |w, a| {
            w.raw(&a.tx.0).bytes(&a.raw).u64(a.gas_limit);
            match a.fees {
                Fees::Legacy { gas_price } => {
                    w.u8(0);
                    write_u128(w, gas_price);
                }
                Fees::Dynamic { max_fee, tip } => {
                    w.u8(1);
                    write_u128(w, max_fee);
                    write_u128(w, tip);
                }
            }
        });
    }
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let (nonce, since) = (r.u64("nonce")?, r.u64("since")?);
        let attempts = r.list(ATTEMPTS_MAX, "signed versions", |r| {
            Ok(Attempt {
                tx: Digest::read(r)?,
                raw: r.bytes(DATA_BYTES_MAX + 1_024, "signed bytes")?.to_vec(),
                gas_limit: r.u64("gas limit")?,
                fees: match r.u8("fees")? {
                    0 => Fees::Legacy {
                        gas_price: read_u128(r)?,
                    },
                    1 => Fees::Dynamic {
                        max_fee: read_u128(r)?,
                        tip: read_u128(r)?,
                    },
                    _ => return Err(DecodeError::Invalid("fees")),
                },
            })
        })?;
        if attempts.is_empty() {
            return Err(DecodeError::Invalid("signed versions (one or more)"));
        }
        Ok(Self {
            nonce,
            attempts,
            since,
        })
    }
}

impl Report {
    fn write(&self, w: &mut Writer) {
        let place = |w: &mut Writer, (tx, gas_used, block): (Digest, u64, u64)| {
            w.raw(&tx.0).u64(gas_used).u64(block);
        };
        match self {
            Self::Mined {
                tx,
                gas_used,
                block,
                contract,
            } => {
                w.u8(0);
                place(w, (*tx, *gas_used, *block));
                write_option(w, *contract, |w, a| a.write(w));
            }
            Self::Reverted { name, words, mined } => {
                w.u8(1).text(name).text(words);
                write_option(w, *mined, place);
            }
            Self::Pointless { reason } => {
                w.u8(2).text(reason);
            }
            Self::Undone { reason } => {
                w.u8(3).text(reason);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let place =
            |r: &mut Reader<'_>| Ok((Digest::read(r)?, r.u64("gas used")?, r.u64("block")?));
        Ok(match r.u8("report")? {
            0 => {
                let (tx, gas_used, block) = place(r)?;
                let contract = read_option(r, Address::read)?;
                Self::Mined {
                    tx,
                    gas_used,
                    block,
                    contract,
                }
            }
            1 => Self::Reverted {
                name: r.text(64, "name of an error")?,
                words: r.text(WORDS_MAX, "words")?,
                mined: read_option(r, place)?,
            },
            2 => Self::Pointless {
                reason: r.text(WORDS_MAX, "words")?,
            },
            3 => Self::Undone {
                reason: r.text(WORDS_MAX, "words")?,
            },
            _ => return Err(DecodeError::Invalid("report")),
        })
    }
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION);
        self.submission.write(&mut w);
        w.u64(self.since);
        w.list(&self.spent, |w, (nonce, raw)| {
            w.u64(*nonce).bytes(raw);
        });
        w.u64(self.wasted);
        match &self.stage {
            Stage::Queued => {
                w.u8(0);
            }
            Stage::Signed(signed) => {
                w.u8(1);
                signed.write(&mut w);
            }
            Stage::Done {
                report,
                acknowledged,
                signed,
                block,
            } => {
                w.u8(2).u8(u8::from(*acknowledged)).u64(*block);
                report.write(&mut w);
                write_option(&mut w, signed.as_ref(), |w, signed| signed.write(w));
            }
        }
        w.finish()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode_all(bytes, |r| {
            let version = r.version_in("submission", OLDEST, VERSION)?;
            Ok(Self {
                submission: Submission::read(r)?,
                since: r.u64("since")?,
                spent: r.list(SPENT_MAX, "nonces used up", |r| {
                    Ok((
                        r.u64("nonce")?,
                        r.bytes(DATA_BYTES_MAX + 1_024, "signed bytes")?.to_vec(),
                    ))
                })?,
                wasted: if version == OLDEST {
                    0
                } else {
                    r.u64("gas without effect")?
                },
                stage: match r.u8("stage")? {
                    0 => Stage::Queued,
                    1 => Stage::Signed(Signed::read(r)?),
                    2 => {
                        let acknowledged = r.bool("acknowledged")?;
                        let block = r.u64("block")?;
                        Stage::Done {
                            acknowledged,
                            block,
                            report: Report::read(r)?,
                            signed: read_option(r, Signed::read)?,
                        }
                    }
                    _ => return Err(DecodeError::Invalid("stage")),
                },
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_and_versions_are_refused_in_words() {
        let signed = Signed {
            nonce: 7,
            since: 9,
            attempts: vec![
                Attempt {
                    tx: Digest([1; 32]),
                    raw: vec![1, 2],
                    fees: Fees::Legacy { gas_price: 5 },
                    gas_limit: 21_000,
                },
                Attempt {
                    tx: Digest([2; 32]),
                    raw: vec![3],
                    fees: Fees::Dynamic { max_fee: 6, tip: 1 },
                    gas_limit: 21_000,
                },
            ],
        };
        let reports = [
            Report::Mined {
                tx: Digest([2; 32]),
                gas_used: 3,
                block: 4,
                contract: Some(Address([5; 20])),
            },
            Report::Reverted {
                name: "X".into(),
                words: "y".into(),
                mined: Some((Digest([1; 32]), 1, 2)),
            },
            Report::Pointless { reason: "z".into() },
            Report::Undone { reason: "u".into() },
        ];
        let mut stages = vec![Stage::Queued, Stage::Signed(signed.clone())];
        for report in reports {
            stages.push(Stage::Done {
                report,
                acknowledged: true,
                signed: Some(signed.clone()),
                block: 8,
            });
        }
        for stage in stages {
            let record = Record {
                submission: Submission {
                    id: Digest([9; 32]),
                    label: "settle".into(),
                    to: None,
                    data: vec![1; 100],
                    patience_ms: Some(3),
                    goal: Some(Goal::Dispute(Digest([4; 32]))),
                    row: Some(Row {
                        agreement: AgreementId([6; 32]),
                        from: 1,
                        t: 2,
                        gas: 3,
                    }),
                },
                since: 5,
                spent: vec![(3, vec![1])],
                wasted: 0,
                stage,
            };
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Ok(record.clone()));
            let wasted = Record {
                wasted: 30_000,
                ..record
            };
            assert_eq!(Record::decode(&wasted.encode()), Ok(wasted));
            for cut in 0..bytes.len() {
                assert!(Record::decode(&bytes[..cut]).is_err());
            }
            let mut newer = bytes;
            newer[0] = 9;
            let error = Record::decode(&newer).unwrap_err().to_string();
            assert!(
                error.contains("version 9") && error.contains("upgrade"),
                "{error}"
            );
        }
        assert_eq!(seq_of(&record_key(77)), Some(77));
        assert_eq!(seq_of(META_KEY), None);
    }
}
