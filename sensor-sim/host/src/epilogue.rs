//! Faults that come after the replay, since they change what one lock may say from then on.

use crate::deliver::Delivery;
use crate::faults::Fault;
use crate::schedule::Event;
use diversity_client::ApiError;
use diversity_client::api::codes;
use diversity_proto::wire::encode_frames;
use std::time::Duration;

/// How far ahead the clock of the lock is, seconds: ten years.
const FUTURE_S: u64 = 10 * 366 * 86_400;
/// How often the chain is looked at for the dispute.
const POLL: Duration = Duration::from_millis(200);

/// What a node should have done and has not.
#[derive(Debug, thiserror::Error)]
pub enum EpilogueError {
    /// A node's answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A contradiction was not refused as one.
    #[error(
        "node {node} answered a contradicting frame with {found} instead of {}",
        codes::CONTRADICTION
    )]
    Contradiction {
        /// Which node.
        node: String,
        /// What it said.
        found: String,
    },
    /// A message from the future was not stored.
    #[error("node {node} did not acknowledge a message from the future")]
    NotStored {
        /// Which node.
        node: String,
    },
    /// A message from the future closed a window.
    #[error("a message from the future closed window {t} on node {node}")]
    Closed {
        /// Which node.
        node: String,
        /// Which window.
        t: u64,
    },
}

/// Sends what was asked for, and sees what becomes of it. Waits without end for the dispute: the caller watches for a standstill.
///
/// # Errors
/// [`EpilogueError`].
pub async fn run(delivery: &Delivery) -> Result<(), EpilogueError> {
    if delivery.faults.has(Fault::Future) {
        future(delivery).await?;
    }
    if delivery.faults.has(Fault::Contradict) {
        contradict(delivery).await?;
    }
    Ok(())
}

/// The last lock, so that the two faults do not meet in one.
async fn future(delivery: &Delivery) -> Result<(), EpilogueError> {
    let (key, lock) = last(&delivery.keys.0, &delivery.schedule.locks);
    let q = lock.events.len() as u64;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let event = Event {
        time: now.map_or(0, |d| d.as_secs()) + FUTURE_S,
        open: false,
        heartbeat: false,
    };
    let frame = key.frame(&delivery.network.deployment, q, &[event]);
    for node in &delivery.network.nodes {
        let before = match node.api.agreement(&delivery.network.agreement).await {
            Ok(view) => view.progress.next_window,
            Err(error) if error.is_transient() => continue,
            Err(error) => return Err(error.into()),
        };
        // An earlier run may have sent another message at this q; the node holds one either way.
        match node
            .api
            .send_frames(encode_frames([frame.as_slice()].into_iter()))
            .await
        {
            Ok(_) => {}
            Err(error) if error.problem().is_some_and(|p| p.acknowledgement.is_some()) => {}
            Err(error) => return Err(error.into()),
        }
        let held = node.api.acknowledged(&[key.sensor]).await?;
        if held.acknowledged.first().is_none_or(|h| h.next_q <= q) {
            let node = node.name.clone();
            return Err(EpilogueError::NotStored { node });
        }
        let view = node.api.agreement(&delivery.network.agreement).await?;
        if view.progress.next_window != before {
            return Err(EpilogueError::Closed {
                node: node.name.clone(),
                t: before,
            });
        }
    }
    delivery.tally.say(format!(
        "a message of bike {} from the future is stored and closes nothing",
        lock.label
    ));
    Ok(())
}

async fn contradict(delivery: &Delivery) -> Result<(), EpilogueError> {
    let (key, lock) = (&delivery.keys.0[0], &delivery.schedule.locks[0]);
    // The last message is a heartbeat, alone in its frame.
    let q = lock.events.len() - 1;
    let mut event = lock.events[q];
    event.open = !event.open;
    let frame = key.frame(&delivery.network.deployment, q as u64, &[event]);
    let mut told = None;
    for node in &delivery.network.nodes {
        let sent = node
            .api
            .send_frames(encode_frames([frame.as_slice()].into_iter()));
        let found = match sent.await {
            Ok(answer) => answer.refused.first().map(|r| r.code.clone()),
            Err(error) if error.is_transient() => continue,
            Err(error) => match error.problem().and_then(|p| p.refused.first()) {
                Some(refused) => Some(refused.code.clone()),
                None => return Err(error.into()),
            },
        };
        let found = found.unwrap_or_else(|| "an acknowledgement".into());
        // Void: another node has brought the same contradiction to the chain already.
        if ![codes::CONTRADICTION, codes::VOID].contains(&found.as_str()) {
            let node = node.name.clone();
            return Err(EpilogueError::Contradiction { node, found });
        }
        told = Some(node);
    }
    let Some(node) = told else { return Ok(()) };
    loop {
        let disputes = node.api.disputes(None).await?;
        if let Some(dispute) = disputes
            .iter()
            .find(|d| d.accused == Some(key.sensor.address()))
        {
            delivery.tally.say(format!(
                "bike {} contradicted itself at q {q}: dispute {} ({})",
                lock.label, dispute.dispute, dispute.explanation
            ));
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn last<'a, K, L>(keys: &'a [K], locks: &'a [L]) -> (&'a K, &'a L) {
    (
        keys.last().expect("never empty"),
        locks.last().expect("never empty"),
    )
}
