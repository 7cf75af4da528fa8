//! Direct messages: one stream to each peer for as long as it is connected, and one from it. What gathers while a batch is
//! being written leaves together; a peer that does not read is not written to, and its queue fills up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::future::{Either, select};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream};
use libp2p_stream::Control;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::codec::{self, split_batch};
use crate::outbound::{Outbound, batch_bytes_max};
use crate::peers::Peer;
use crate::rate::Rate;
use crate::transport::ROUND;
use crate::{NetEvent, NetLimits};

/// What the reader of a stream says before anything else. The writer waits for it: libp2p drops streams that come too fast, and
/// what was written to one of those would be lost.
const READS: [u8; 1] = [1];

/// Messages to a peer that were lost.
pub(crate) type Lost = (PeerId, usize);

/// A task that ends when this is dropped.
pub(crate) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The way to one connected peer. Dropping it forgets what has not left.
pub(crate) struct Flow {
    queue: Arc<Queue>,
    limits: NetLimits,
    _writer: Task,
}

#[derive(Default)]
struct Queue {
    outbound: Mutex<Outbound>,
    more: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Outbound> {
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is to be sent.
    async fn filled(&self) {
        while self.lock().is_empty() {
            self.more.notified().await;
        }
    }
}

impl Flow {
    /// Starts the writer. It opens its stream with the first message.
    pub(crate) fn start(
        control: Control,
        peer: PeerId,
        limits: NetLimits,
        lost: mpsc::Sender<Lost>,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let writer = write_all(control, peer, limits.clone(), Arc::clone(&queue), lost);
        Self {
            queue,
            limits,
            _writer: Task(tokio::spawn(writer)),
        }
    }

    /// Queues a message; whether there was room.
    pub(crate) fn push(&self, message: Vec<u8>) -> bool {
        let pushed = self.queue.lock().push(message, &self.limits);
        self.queue.more.notify_one();
        pushed
    }

    /// How many messages are lost when this is dropped now.
    pub(crate) fn unsent(&self) -> usize {
        self.queue.lock().unsent()
    }
}

async fn write_all(
    mut control: Control,
    peer: PeerId,
    limits: NetLimits,
    queue: Arc<Queue>,
    lost: mpsc::Sender<Lost>,
) {
    loop {
        queue.filled().await;
        let opened = tokio::time::timeout(limits.request_timeout, control.open_stream(peer, ROUND));
        let error = match opened.await {
            Ok(Ok(stream)) => write_stream(stream, &limits, &queue).await.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".into(),
        };
        tracing::debug!(%peer, %error, "direct messages not delivered");
        // What was queued waits for the next stream; what was being written may have arrived or not.
        let messages = queue.lock().failed();
        if messages > 0 && lost.send((peer, messages)).await.is_err() {
            return;
        }
        // A peer that closes every stream at once must not keep us busy.
        tokio::time::sleep(limits.redial_min).await;
    }
}

/// Writes until the peer closes the stream.
async fn write_stream(mut stream: Stream, limits: &NetLimits, queue: &Queue) -> std::io::Error {
    let mut said = [0; READS.len()];
    match tokio::time::timeout(limits.request_timeout, stream.read_exact(&mut said)).await {
        Ok(Ok(())) if said == READS => {}
        Ok(Ok(())) => return std::io::ErrorKind::InvalidData.into(),
        Ok(Err(error)) => return error,
        Err(_) => return std::io::ErrorKind::TimedOut.into(),
    }
    let (mut from, mut to) = stream.split();
    let closed = std::pin::pin!(async move {
        // Nothing comes from there but its end.
        let end = from.read(&mut [0]).await;
        end.err()
            .unwrap_or(std::io::ErrorKind::UnexpectedEof.into())
    });
    let write = std::pin::pin!(async {
        loop {
            queue.filled().await;
            let Some(batch) = queue.lock().next_batch(limits) else {
                continue;
            };
            if let Err(error) = codec::write(&mut to, &batch).await {
                return error;
            }
            queue.lock().written();
        }
    });
    match select(closed, write).await {
        Either::Left((error, _)) | Either::Right((error, _)) => error,
    }
}

/// Starts the reader of a peer's stream. It ends with the stream, or when a batch is malformed; a peer that sends more than it
/// may is read no faster.
pub(crate) fn read(
    stream: Stream,
    id: PeerId,
    from: Peer,
    rate: Arc<Mutex<Rate>>,
    limits: NetLimits,
    events: mpsc::Sender<NetEvent>,
) -> Task {
    Task(tokio::spawn(read_all(
        stream, id, from, rate, limits, events,
    )))
}

async fn read_all(
    mut stream: Stream,
    id: PeerId,
    from: Peer,
    rate: Arc<Mutex<Rate>>,
    limits: NetLimits,
    events: mpsc::Sender<NetEvent>,
) {
    if stream.write_all(&READS).await.is_err() || stream.flush().await.is_err() {
        // The connection has gone.
        return;
    }
    loop {
        let batch = match codec::read(&mut stream, batch_bytes_max(&limits)).await {
            Ok(batch) => batch,
            Err(error) => {
                return tracing::debug!(peer = %id, %error, "no more direct messages");
            }
        };
        let Some(messages) = split_batch(&batch, limits.direct_bytes_max) else {
            return tracing::debug!(peer = %id, "malformed batch of direct messages");
        };
        for bytes in messages {
            let admit = || {
                let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
                rate.admit_or_wait(1, bytes.len(), Instant::now())
            };
            while let Some(wait) = admit() {
                tokio::time::sleep(wait).await;
            }
            // It fails when the engine has gone.
            if events.send(NetEvent::Direct { from, bytes }).await.is_err() {
                return;
            }
        }
    }
}
