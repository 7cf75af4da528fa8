//! What the rooms ask of the loop around the core.

use std::time::Duration;

use diversity_engine::AgreementStatus;
use diversity_engine::api::{FrameRef, IngestAnswer};
use diversity_proto::wire::Range;
use diversity_proto::{AgreementId, SensorId};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use super::error::{RoomError, RoomResult};
use crate::node::driver::{Command, HeldSensor};

/// How long the core may take for an answer.
const WAIT: Duration = Duration::from_secs(30);

/// Asks the loop.
#[derive(Clone)]
pub struct Core {
    commands: mpsc::Sender<Command>,
}

impl Core {
    /// Over the queue of the API, which comes last in the loop.
    pub fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Hands frames in, and waits until each is durable or refused. The queue in front of the core is short: who finds it full is
    /// told at once, and keeps its frames.
    ///
    /// # Errors
    /// [`RoomError::Busy`] if the queue is full or the answer takes too long, [`RoomError::Unavailable`] if the node is ending.
    pub async fn ingest(&self, frames: Vec<Vec<u8>>) -> RoomResult<IngestAnswer> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(Command::Ingest { frames, reply })
            .map_err(|error| match error {
                TrySendError::Full(_) => {
                    RoomError::Busy("more frames are coming in than are checked and stored")
                }
                TrySendError::Closed(_) => RoomError::stopping(),
            })?;
        match tokio::time::timeout(WAIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(RoomError::stopping()),
            Err(_) => Err(RoomError::Busy(
                "the frames were not stored in time; those that were are known when they come again",
            )),
        }
    }

    /// What is held of these sensors, in their order.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn held(&self, sensors: Vec<SensorId>) -> RoomResult<Vec<HeldSensor>> {
        self.ask(|reply| Command::Held { sensors, reply }).await
    }

    /// Where the frames of these ranges are; at most what one answer to a repair request holds.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn find(&self, ranges: Vec<Range>) -> RoomResult<Vec<FrameRef>> {
        self.ask(|reply| Command::Find { ranges, reply }).await
    }

    /// Lets this node read a hole once more.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn reread(&self, agreement: AgreementId, t: u64) -> RoomResult<()> {
        self.commands
            .send(Command::Reread { agreement, t })
            .await
            .map_err(|_| RoomError::stopping())
    }

    /// Where these agreements stand, in their order; nothing for those that do not run here.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn status(
        &self,
        agreements: Vec<AgreementId>,
    ) -> RoomResult<Vec<Option<AgreementStatus>>> {
        self.ask(|reply| Command::Status { agreements, reply })
            .await
    }

    /// Asks, waiting for a place in the queue.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> RoomResult<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(WAIT, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(RoomError::stopping()),
            Err(_) => Err(RoomError::Unavailable(
                "the node is too busy to answer".into(),
            )),
        }
    }
}
