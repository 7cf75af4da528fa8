//! The newest block, from the first endpoint that can be used.
//!
//! All endpoints are asked at once. The answer of the first one in the order of the settings is waited for as long as it takes
//! to travel, not as long as it takes to time out: an endpoint that hangs costs one such wait, is asked behind the others
//! from then on, and comes back when a probe in the background is answered.

use super::endpoint::Endpoint;
use super::types::{Block, FromRpc};
use super::{Result, Rpc, RpcError, join, there};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long an answer of an endpoint that is preferred to the one that has answered is waited for.
const PREFERRED: Duration = Duration::from_millis(300);
/// The same at first, when it is not known who lags.
const FIRST: Duration = Duration::from_secs(1);

/// What one call has heard so far.
struct Heard {
    since: Instant,
    /// Asked and not heard.
    pending: Vec<usize>,
    /// By index: its head, and whether that is a step back.
    blocks: Vec<(usize, Block, bool)>,
    errors: Vec<(String, RpcError)>,
}

impl Rpc {
    /// The newest block. All endpoints are asked; the first that answers counts, if it is not behind the others, and if none
    /// that comes before it in the settings answers right after it.
    pub async fn head(&self) -> Result<Block> {
        let endpoints = &self.0.endpoints;
        let mut due: Vec<usize> = (0..endpoints.len())
            .filter(|i| endpoints[*i].state().may_be_probed())
            .collect();
        let well = |i: &usize| endpoints[*i].state().trouble.is_none();
        if !due.iter().any(well) {
            // Nobody is known to work: everybody is asked.
            due = (0..endpoints.len()).collect();
        }
        let (answer, mut answers) = mpsc::channel(due.len());
        for &i in &due {
            let (rpc, answer) = (self.clone(), answer.clone());
            endpoints[i].probe_begins();
            // It goes on when nobody waits for it any more: what comes of it is noted at the endpoint.
            tokio::spawn(async move {
                let endpoint = &rpc.0.endpoints[i];
                let head = rpc.head_of(endpoint).await;
                endpoint.probe_ends();
                let _ = answer.send((i, head)).await;
            });
        }
        drop(answer);
        let mut heard = Heard {
            since: Instant::now(),
            pending: due,
            blocks: Vec::new(),
            errors: Vec::new(),
        };
        loop {
            if let Some((i, block, back)) = self.usable(&heard) {
                self.compare();
                return Ok(self.steady(i, block, back));
            }
            // The judgement changes with time too.
            match tokio::time::timeout(PREFERRED / 4, answers.recv()).await {
                Err(_) => {}
                Ok(None) => return Err(join(heard.errors)),
                Ok(Some((i, answer))) => {
                    heard.pending.retain(|p| *p != i);
                    match answer {
                        Ok((block, back)) => heard.blocks.push((i, block, back)),
                        Err(error) => heard.errors.push((endpoints[i].name.clone(), error)),
                    }
                }
            }
        }
    }

    /// The block that counts; none while another one is worth waiting for.
    fn usable(&self, heard: &Heard) -> Option<(usize, Block, bool)> {
        let endpoints = &self.0.endpoints;
        let waited = heard.since.elapsed();
        let said = heard
            .blocks
            .iter()
            .map(|(_, block, _)| block.number)
            .max()?;
        let known = heard.pending.iter().filter_map(|i| {
            let state = endpoints[*i].state();
            let works = state.trouble.is_none() && !state.hangs();
            state.head.filter(|_| works).map(|(number, _)| number)
        });
        let best = known.fold(said, u64::max);
        let (i, block, back) = heard
            .blocks
            .iter()
            .filter(|(_, block, _)| block.number + self.0.head_lag_max >= best)
            .min_by_key(|(i, _, _)| *i)?;
        let worth_waiting = heard.pending.iter().any(|p| {
            let state = endpoints[*p].state();
            if state.trouble.is_some() || state.hangs() {
                return false;
            }
            match state.head {
                None => waited < FIRST,
                Some(_) => p < i && waited < PREFERRED,
            }
        });
        (!worth_waiting).then(|| (*i, block.clone(), *back))
    }

    /// Endpoints stand a block or two apart, and who answers first changes: what is shown does not step back for that, only
    /// when an endpoint itself has stepped back.
    fn steady(&self, i: usize, block: Block, back: bool) -> Block {
        let mut shown = self
            .0
            .shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((by, last)) = &*shown
            && *by != i
            && !back
            && block.number < last.number
            && last.number <= block.number + self.0.head_lag_max
        {
            return last.clone();
        }
        *shown = Some((i, block.clone()));
        block
    }

    /// Tells endpoints that lag from those that do not.
    fn compare(&self) {
        let states = self.0.endpoints.iter().map(|e| (e, e.state()));
        let well: Vec<_> = states
            .filter(|(_, s)| s.trouble.is_none() && !s.hangs())
            .collect();
        let heads = well.iter().filter_map(|(_, s)| s.head.map(|(n, _)| n));
        let best = heads.max().unwrap_or(0);
        for (endpoint, _) in well {
            endpoint.compare(best, self.0.head_lag_max);
        }
    }

    /// The head of one endpoint, and whether it stands where it may not if the chain only grows.
    pub(super) async fn head_of(&self, endpoint: &Endpoint) -> Result<(Block, bool)> {
        let (method, params) = ("eth_getBlockByNumber", json!(["latest", false]));
        let ask = || async {
            let answer = self.ask(endpoint, method, &params).await?;
            let block = there(method, answer).and_then(Block::from_rpc);
            block.map_err(|error| endpoint.fails(error))
        };
        let block = ask().await?;
        if endpoint.set_head(block.number, block.hash) {
            // A head that does not grow: lost blocks, or another chain on the same port.
            return ask().await.map(|block| (block, true));
        }
        Ok((block, false))
    }
}
