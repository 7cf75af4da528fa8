//! Follows the events of `MainContract` and `Cells` by a cursor over blocks: no filters (they expire) and no subscriptions (they die
//! with the connection).
//!
//! A cursor is a trail of blocks (number, hash): the last one is where everything has been read up to, the older ones let
//! the follower find the last common block when the chain has changed its mind. QBFT never does; a development chain
//! that was killed does.

use crate::abi::Contracts;
use crate::events::{ChainEvent, Located, Position, Refusal, decode, wants_gas};
use crate::rpc::{Block, BulkyBlock, LOG_RANGE, Log, Rpc, RpcError};
use diversity_proto::codec::{Reader, Writer, decode_all};
use diversity_proto::{AgreementId, DecodeError, Deployment, Digest};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Blocks at the end of the trail that are all kept; before them distances double.
const TRAIL_DENSE: usize = 32;
/// Most blocks of a trail.
const TRAIL_MAX: usize = 128;
/// Newest blocks of a read whose headers are held against the events that came: as far back as an endpoint's index may lag.
const DOUBTED_BLOCKS: u64 = 32;

/// Blocks before the end of a long stretch that are put into the trail.
const STEPS_BACK: [u64; 6] = [64, 32, 16, 8, 4, 1];

/// Where reading has come to. Store it together with what the events changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Ascending by number.
    trail: Vec<(u64, Digest)>,
}

impl Cursor {
    /// Last block that has been read; none at the start.
    pub fn block(&self) -> Option<u64> {
        self.trail.last().map(|(n, _)| *n)
    }
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(diversity_proto::VERSION)
            .list(&self.trail, |w, (n, h)| {
                w.u64(*n).raw(&h.0);
            });
        w.finish()
    }
    /// Strict decoder.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a cursor of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let trail = decode_all(bytes, |r: &mut Reader<'_>| {
            r.version("cursor of the chain")?;
            r.list(TRAIL_MAX, "blocks", |r| {
                Ok((r.u64("block")?, Digest::read(r)?))
            })
        })?;
        if !trail.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Invalid("blocks (strictly ascending)"));
        }
        Ok(Self { trail })
    }
    fn push(&mut self, number: u64, hash: Digest) {
        if self.block().is_none_or(|last| last < number) {
            self.trail.push((number, hash));
        }
        if self.trail.len() > TRAIL_MAX {
            self.thin();
        }
    }
    /// Before the dense end, the oldest block of each bucket stays; buckets are aligned and grow with the distance, so
    /// that they nest and thinning again and again keeps reaching back.
    fn thin(&mut self) {
        let newest = self.block().unwrap_or(0);
        let dense = self.trail.len().saturating_sub(TRAIL_DENSE);
        let mut kept: Vec<(u64, Digest)> = Vec::with_capacity(TRAIL_MAX);
        let mut last = None;
        for (i, entry) in self.trail.iter().enumerate() {
            let size = 1u64 << ((newest - entry.0) / 2).max(1).ilog2();
            let bucket = (size, entry.0 / size);
            if i >= dense || last != Some(bucket) {
                kept.push(*entry);
            }
            last = Some(bucket);
        }
        // Only a chain of more than 2^40 blocks comes here.
        let surplus = kept.len().saturating_sub(TRAIL_MAX - 1);
        kept.drain(..surplus);
        self.trail = kept;
    }
}

/// Blocks by which an endpoint may be behind what another one has shown, without a word.
const BEHIND_MAX: u64 = 3;

/// Settings of the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowConfig {
    /// The chain, for which everything on it is signed.
    pub chain_id: u64,
    /// First block that matters: where the contract was deployed, or 0.
    pub start: u64,
    /// Blocks on top of a block before it is read; 0 on QBFT, whose blocks are final.
    pub confirmations: u64,
    /// Most blocks in one request.
    pub range_max: u64,
    /// How many blocks the chain may take back before it is refused.
    pub rewind_max: u64,
    /// How long a head below the cursor counts as an endpoint that lags.
    pub lag_grace: Duration,
    /// Pause between questions.
    pub poll: Duration,
}

impl FollowConfig {
    /// Defaults for a chain: a development chain (31337) may lose any number of blocks, others 64.
    pub fn for_chain(chain_id: u64) -> Self {
        let anvil = chain_id == crate::ANVIL_CHAIN_ID;
        Self {
            chain_id,
            start: 0,
            confirmations: 0,
            range_max: LOG_RANGE,
            rewind_max: if anvil { u64::MAX } else { 64 },
            lag_grace: Duration::from_secs(if anvil { 1 } else { 30 }),
            poll: crate::default_poll(chain_id),
        }
    }
}

/// Why nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The chain.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The head is below the cursor; perhaps an endpoint that lags.
    #[error(
        "the chain is at block {head}, and this node has read up to block {cursor}: waiting for it to catch up"
    )]
    Behind {
        /// Newest block.
        head: u64,
        /// Last block read.
        cursor: u64,
    },
    /// The chain changed while it was asked.
    #[error("block {block} changed while it was read: trying again")]
    Moved {
        /// Which.
        block: u64,
    },
    /// More blocks are gone than the settings allow.
    #[error(
        "the chain has lost blocks: this node has read up to block {cursor} ({hash}), the chain is at block {head} and shares no block with it above {ancestor}; {rewind_max} blocks may be lost at most. Restore the chain, correct the endpoint, or raise that limit"
    )]
    LostBlocks {
        /// Last block read.
        cursor: u64,
        /// Its hash.
        hash: Digest,
        /// Newest block.
        head: u64,
        /// Last block that both have.
        ancestor: u64,
        /// The limit.
        rewind_max: u64,
    },
}

/// What one look at the chain gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The chain has taken back everything above this block: forget what its events said, it comes again if it is still
    /// so. None if it has not.
    pub rewound: Option<u64>,
    /// Events in the order of the chain.
    pub events: Vec<Located>,
    /// Store it together with what the events change.
    pub cursor: Cursor,
    /// Newest block.
    pub head: Block,
    /// Everything up to the head was read.
    pub caught_up: bool,
    /// There is nothing to read for the moment: look again after a pause.
    pub pause: bool,
}

impl FollowError {
    /// Whether endpoints that stand a block or two apart, or a block that is being replaced, are all that it takes.
    fn is_brief(&self) -> bool {
        match self {
            Self::Behind { head, cursor } => head + BEHIND_MAX >= *cursor,
            Self::Moved { .. } => true,
            Self::Rpc(error) => matches!(
                error,
                RpcError::BeyondHead { .. } | RpcError::UnknownBlock { .. }
            ),
            Self::LostBlocks { .. } => false,
        }
    }
}

impl Progress {
    /// Whether anything happened to the contract.
    pub fn is_news(&self) -> bool {
        self.rewound.is_some() || !self.events.is_empty()
    }
}

/// Reads the events of the contracts.
pub struct Follower {
    rpc: Rpc,
    contracts: Contracts,
    config: FollowConfig,
    cursor: Cursor,
    behind_since: Option<Instant>,
    /// The newest block that was seen, and since when nothing could be read of it for a reason that passes.
    head: Option<Block>,
    brief_since: Option<Instant>,
    range: u64,
    /// Agreements whose events are wanted out of transactions that are too large to be read whole.
    wanted: Vec<Digest>,
}

impl Follower {
    /// Goes on from a stored cursor, or from the start.
    pub fn new(
        rpc: Rpc,
        contracts: Contracts,
        config: FollowConfig,
        cursor: Option<Cursor>,
    ) -> Self {
        Self {
            rpc,
            contracts,
            range: config.range_max.max(1),
            config,
            cursor: cursor.unwrap_or_default(),
            behind_since: None,
            wanted: Vec::new(),
            head: None,
            brief_since: None,
        }
    }

    /// What is said of these agreements is read even where somebody has put it into a transaction of more log bytes than an answer
    /// may hold.
    pub fn want(&mut self, agreements: impl IntoIterator<Item = AgreementId>) {
        self.wanted = agreements.into_iter().map(|a| Digest(a.0)).collect();
    }

    /// Where it is.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Pause between two looks when there is nothing to read.
    pub fn pause(&self) -> Duration {
        self.config.poll
    }

    /// One look at the chain. After an error nothing has moved, and the next look tries again. What endpoints a block apart
    /// say of each other is no error before it has lasted as long as an endpoint may lag.
    ///
    /// # Errors
    /// [`FollowError::LostBlocks`] lasts until somebody acts; the others pass.
    pub async fn look(&mut self) -> Result<Progress, FollowError> {
        let error = match self.look_once().await {
            Ok(progress) => {
                self.brief_since = None;
                return Ok(progress);
            }
            Err(error) => error,
        };
        let since = *self.brief_since.get_or_insert_with(Instant::now);
        match &self.head {
            Some(head) if error.is_brief() && since.elapsed() < self.config.lag_grace => {
                tracing::debug!(%error, "chain.not_yet");
                Ok(Progress {
                    caught_up: false,
                    ..self.progress(Vec::new(), head.clone(), true)
                })
            }
            _ => Err(error),
        }
    }

    async fn look_once(&mut self) -> Result<Progress, FollowError> {
        let head = self.rpc.head().await?;
        self.head = Some(head.clone());
        if let Some((number, hash)) = self.cursor.trail.last().copied() {
            let known = if head.number == number {
                head.hash == hash
            } else if head.number < number {
                if !self.lag_is_over() {
                    return Err(FollowError::Behind {
                        head: head.number,
                        cursor: number,
                    });
                }
                false
            } else {
                let block = self.rpc.block(number).await?;
                block.ok_or(FollowError::Moved { block: number })?.hash == hash
            };
            if !known {
                return self.rewind(head, number, hash).await;
            }
        }
        self.behind_since = None;
        self.read(head).await
    }

    fn lag_is_over(&mut self) -> bool {
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        since.elapsed() >= self.config.lag_grace
    }

    /// Looks for the last block that the trail and the chain share.
    async fn rewind(
        &mut self,
        head: Block,
        cursor: u64,
        hash: Digest,
    ) -> Result<Progress, FollowError> {
        let mut trail = self.cursor.trail.clone();
        while let Some((number, hash)) = trail.last().copied() {
            if number <= head.number
                && self
                    .rpc
                    .block(number)
                    .await?
                    .is_some_and(|b| b.hash == hash)
            {
                break;
            }
            trail.pop();
        }
        let ancestor = trail
            .last()
            .map_or_else(|| self.config.start.saturating_sub(1), |(n, _)| *n);
        if cursor.saturating_sub(ancestor) > self.config.rewind_max {
            return Err(FollowError::LostBlocks {
                cursor,
                hash,
                head: head.number,
                ancestor,
                rewind_max: self.config.rewind_max,
            });
        }
        tracing::warn!(cursor, ancestor, head = head.number, "chain.rewound");
        self.behind_since = None;
        self.cursor.trail = trail;
        Ok(Progress {
            rewound: Some(ancestor),
            events: Vec::new(),
            cursor: self.cursor.clone(),
            head,
            caught_up: false,
            pause: false,
        })
    }

    async fn read(&mut self, head: Block) -> Result<Progress, FollowError> {
        let from = self.cursor.block().map_or(self.config.start, |n| n + 1);
        let target = head.number.checked_sub(self.config.confirmations);
        let Some(target) = target.filter(|t| *t >= from) else {
            return Ok(self.progress(Vec::new(), head, true));
        };
        let to = target.min(from.saturating_add(self.range - 1));
        let before = self.end(&head, to).await?;
        let (bulky, last) = self.logs(from, to).await?;
        let BulkyBlock { mut logs, skipped } = bulky;
        let withheld = self.withheld(from, last, &mut logs, &skipped).await?;
        // An endpoint may cover less than was asked for; then the end is another block.
        let end = if last == to {
            before
        } else {
            self.end(&head, last).await?
        };
        let foreign = |l: &Log| l.block_number == last && l.block_hash != end.hash;
        if logs.iter().any(foreign) || !self.follows(from, &end).await? {
            return Err(FollowError::Moved { block: last });
        }
        let mut events = self.events(&logs).await?;
        events.extend(withheld);
        events.extend(too_large(&skipped, &end));
        let mut seen: BTreeMap<_, _> = logs
            .iter()
            .map(|l| (l.block_number, l.block_hash))
            .collect();
        if last == target && last - from >= STEPS_BACK[0] {
            // A long first stretch leaves no trail: a few blocks before its end, so that a small step back stays small.
            for back in STEPS_BACK {
                let number = last.saturating_sub(back).max(from);
                let block = self.rpc.block(number).await?;
                seen.insert(
                    number,
                    block.ok_or(FollowError::Moved { block: number })?.hash,
                );
            }
        }
        seen.insert(last, end.hash);
        if self
            .rpc
            .block(last)
            .await?
            .is_none_or(|b| b.hash != end.hash)
        {
            return Err(FollowError::Moved { block: last });
        }
        for (number, hash) in seen {
            self.cursor.push(number, hash);
        }
        Ok(self.progress(events, head, last == target))
    }

    /// The events of a range, and the last block that they cover. A block of more log bytes than an answer may hold is read by
    /// itself, transaction by transaction.
    async fn logs(&self, from: u64, to: u64) -> Result<(BulkyBlock, u64), FollowError> {
        let contracts = [self.contracts.main, self.contracts.cells];
        let error = match self.rpc.logs(&contracts, from, to).await {
            Ok((logs, last)) => {
                let skipped = Vec::new();
                return Ok((BulkyBlock { logs, skipped }, last));
            }
            Err(error) if error.may_be_too_much() => error,
            Err(error) => return Err(error.into()),
        };
        match self.rpc.bulky_block(&contracts, from, &self.wanted).await {
            Ok(block) => Ok((block, from)),
            // What was wrong at first says more.
            Err(_) => Err(error.into()),
        }
    }

    /// Blocks whose headers speak of events of the contracts, and of which none came, are read transaction by transaction: an index
    /// that lags says `[]`, and what is passed over is never asked for again. Gives what is too large in them.
    async fn withheld(
        &self,
        from: u64,
        last: u64,
        logs: &mut Vec<Log>,
        skipped: &[Digest],
    ) -> Result<Vec<Located>, FollowError> {
        let contracts = [self.contracts.main, self.contracts.cells];
        let mut out = Vec::new();
        let first = from.max((last + 1).saturating_sub(DOUBTED_BLOCKS));
        let doubted = (first..=last).filter(|n| !logs.iter().any(|l| l.block_number == *n));
        for number in doubted.collect::<Vec<_>>() {
            // A block that was read that way already has said all that it has.
            if !skipped.is_empty() || !self.rpc.may_hold_events(&contracts, number).await? {
                continue;
            }
            let found = self
                .rpc
                .bulky_block(&contracts, number, &self.wanted)
                .await?;
            if !found.logs.is_empty() {
                let events = found.logs.len();
                tracing::warn!(
                    block = number,
                    events,
                    "chain.events_withheld: an endpoint answers eth_getLogs with less than its blocks hold"
                );
            }
            if !found.skipped.is_empty() {
                let block = self.rpc.block(number).await?;
                let block = block.ok_or(FollowError::Moved { block: number })?;
                out.extend(too_large(&found.skipped, &block));
            }
            logs.extend(found.logs);
        }
        logs.sort_by_key(|l| (l.block_number, l.log_index));
        Ok(out)
    }

    fn progress(&self, events: Vec<Located>, head: Block, caught_up: bool) -> Progress {
        Progress {
            rewound: None,
            events,
            cursor: self.cursor.clone(),
            head,
            caught_up,
            pause: caught_up,
        }
    }

    async fn end(&self, head: &Block, number: u64) -> Result<Block, FollowError> {
        if number == head.number {
            return Ok(head.clone());
        }
        self.rpc
            .block(number)
            .await?
            .ok_or(FollowError::Moved { block: number })
    }

    /// Whether block `from` stands on the block that was read last.
    async fn follows(&self, from: u64, end: &Block) -> Result<bool, FollowError> {
        let Some((number, hash)) = self.cursor.trail.last().copied() else {
            return Ok(true);
        };
        if number + 1 != from {
            return Ok(true);
        }
        let first = if end.number == from {
            Some(end.clone())
        } else {
            self.rpc.block(from).await?
        };
        Ok(first.is_some_and(|b| b.parent_hash == hash))
    }

    fn deployment(&self) -> Deployment {
        Deployment {
            chain_id: self.config.chain_id,
            contract: self.contracts.main,
        }
    }

    /// Decodes transaction by transaction; of those with settlements the gas is asked for.
    async fn events(&self, logs: &[Log]) -> Result<Vec<Located>, FollowError> {
        let mut out = Vec::new();
        for logs in logs.chunk_by(|a, b| a.tx == b.tx) {
            let tx = logs[0].tx;
            let gas_used = if logs.iter().any(wants_gas) {
                match self.rpc.receipt(&tx).await {
                    Ok(receipt) => {
                        let receipt = receipt.filter(|r| r.block_hash == logs[0].block_hash);
                        let moved = FollowError::Moved {
                            block: logs[0].block_number,
                        };
                        receipt.ok_or(moved)?.gas_used
                    }
                    // Whoever wraps a settlement into a transaction of his own can log beside it as much as he likes: it settles
                    // all the same, and its gas is not that of the settlement anyway.
                    Err(RpcError::Malformed { .. }) => 0,
                    Err(error) => return Err(error.into()),
                }
            } else {
                0
            };
            out.extend(decode(logs, gas_used, &self.deployment()));
        }
        Ok(out)
    }
}

/// Transactions of a block whose events are too many to be read: said once each, at places behind all logs.
fn too_large(skipped: &[Digest], block: &Block) -> Vec<Located> {
    let place = |(i, tx): (usize, &Digest)| Located {
        at: Position {
            block: block.number,
            block_hash: block.hash,
            log_index: u64::MAX - i as u64,
            tx: *tx,
        },
        event: ChainEvent::Skipped(
            Refusal::BlockTooLarge
                .because("a transaction with more log bytes than this node reads"),
        ),
    };
    skipped.iter().enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_stays_short_reaches_far_back_and_is_read_back() {
        let mut cursor = Cursor::default();
        for n in 1..100_000u64 {
            cursor.push(n, Digest([(n % 251) as u8; 32]));
            assert!(cursor.trail.len() <= TRAIL_MAX);
        }
        cursor.push(7, Digest::ZERO);
        assert_eq!(cursor.block(), Some(99_999), "never backwards");
        assert!(cursor.trail[0].0 < 60_000, "{:?}", cursor.trail[0]);
        let recent: Vec<_> = cursor
            .trail
            .iter()
            .rev()
            .take(TRAIL_DENSE)
            .map(|(n, _)| *n)
            .collect();
        assert_eq!(
            recent,
            (0..TRAIL_DENSE as u64)
                .map(|i| 99_999 - i)
                .collect::<Vec<_>>()
        );
        let bytes = cursor.encode();
        assert_eq!(Cursor::decode(&bytes), Ok(cursor));
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert!(
            Cursor::decode(&newer)
                .unwrap_err()
                .to_string()
                .contains("upgrade")
        );
        assert!(Cursor::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
