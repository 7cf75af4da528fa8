//! Group commit: one thread that merges the batches that wait, flushes once, and answers every submitter.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Op, Store, StoreError};

/// Told once, from the writer's thread, when the batch is durable or has failed. It must not block, since it holds up every
/// other batch; and so must not read the store, which waits for its engine.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Bounds of a [`Writer`].
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// The most batches that wait.
    pub queue_batches_max: usize,
    /// The most bytes of keys and values that wait. A single batch above it is taken when nothing else waits.
    pub queue_bytes_max: usize,
    /// The most bytes that share one flush; a batch is never split.
    pub group_bytes_max: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self {
            queue_batches_max: 8192,
            queue_bytes_max: 32 * 1024 * 1024,
            group_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// The queue is full: what was submitted comes back.
pub struct Full {
    /// The changes.
    pub ops: Vec<Op>,
    /// The callback, not called.
    pub on_done: Done,
}

impl std::fmt::Debug for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Full")
            .field("ops", &self.ops.len())
            .finish_non_exhaustive()
    }
}

/// Writes batches in the order of submission, each atomically (merged ones all together), and acknowledges each only after
/// the flush that made it durable.
///
/// After a failed write every waiter gets the error, every later submitter [`StoreError::Poisoned`], and nothing is
/// acknowledged any more. Dropping the writer first finishes what is queued.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    limits: WriterLimits,
}

struct State {
    queue: VecDeque<Batch>,
    bytes: usize,
    /// Why nothing is taken any more.
    ended: Option<StoreError>,
}

struct Batch {
    ops: Vec<Op>,
    bytes: usize,
    on_done: Done,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if the system gives no thread.
    pub fn spawn(store: Store, limits: WriterLimits) -> Result<Self, StoreError> {
        Self::with_steps(limits, move |ops, durable| store.write_then(ops, durable))
    }

    /// The writer around anything that makes a batch durable; the tests give it a disk that fails.
    #[cfg(test)]
    fn with_sink(
        limits: WriterLimits,
        mut sink: impl FnMut(Vec<Op>) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::with_steps(limits, move |ops, durable| {
            sink(ops)?;
            durable();
            Ok(())
        })
    }

    /// The writer around a sink that says when the batch is durable, and may have more to do then.
    fn with_steps(
        limits: WriterLimits,
        sink: impl FnMut(Vec<Op>, &mut dyn FnMut()) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                ended: None,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            limits,
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || for_thread.run(sink))
            .map_err(|error| StoreError::Engine {
                action: "start its writer",
                reason: error.to_string(),
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Queues a batch, and waits while the queue is full. `on_done` is called exactly once: from the writer's thread, or
    /// here if the batch is refused (too large, or the writer has failed).
    pub fn submit(&self, ops: Vec<Op>, on_done: Done) {
        let batch = match Batch::new(ops, on_done) {
            Ok(batch) => batch,
            Err((on_done, error)) => return on_done(Err(error)),
        };
        let mut state = self.shared.lock();
        while state.ended.is_none() && !self.shared.has_room(&state, batch.bytes) {
            state = self
                .shared
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.shared.push(state, batch);
    }

    /// [`Writer::submit`] that never waits.
    ///
    /// # Errors
    /// [`Full`] with everything that was given, if the queue has no room.
    pub fn try_submit(&self, ops: Vec<Op>, on_done: Done) -> Result<(), Full> {
        let batch = match Batch::new(ops, on_done) {
            Ok(batch) => batch,
            Err((on_done, error)) => {
                on_done(Err(error));
                return Ok(());
            }
        };
        let state = self.shared.lock();
        if state.ended.is_none() && !self.shared.has_room(&state, batch.bytes) {
            return Err(Full {
                ops: batch.ops,
                on_done: batch.on_done,
            });
        }
        self.shared.push(state, batch);
        Ok(())
    }

    /// Submits and waits until it is durable.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(
            ops,
            Box::new(move |result| {
                // The receiver waits below.
                let _ = sender.send(result);
            }),
        );
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Finishes what is queued and ends the thread.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.ended.get_or_insert(StoreError::Closed);
        }
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        if let Some(thread) = self.thread.take() {
            // Only a callback that panics ends the thread that way, and the panic was printed.
            let _ = thread.join();
        }
    }
}

impl Batch {
    fn new(ops: Vec<Op>, on_done: Done) -> Result<Self, (Done, StoreError)> {
        // A batch that is refused must not take those it would be merged with along.
        if let Some(error) = ops.iter().find_map(|op| op.check().err()) {
            return Err((on_done, error));
        }
        let bytes = ops.iter().map(Op::bytes).sum();
        Ok(Self {
            ops,
            bytes,
            on_done,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic half-way, so its state is whole even then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, state: &State, bytes: usize) -> bool {
        state.queue.is_empty()
            || (state.queue.len() < self.limits.queue_batches_max
                && state.bytes + bytes <= self.limits.queue_bytes_max)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, batch: Batch) {
        if let Some(error) = state.ended.clone() {
            drop(state);
            return (batch.on_done)(Err(error));
        }
        state.bytes += batch.bytes;
        state.queue.push_back(batch);
        drop(state);
        self.work.notify_one();
    }

    /// The thread: takes groups until the queue is empty and the writer has ended.
    fn run(&self, mut sink: impl FnMut(Vec<Op>, &mut dyn FnMut()) -> Result<(), StoreError>) {
        // Also when a callback panics, those who wait are answered and later ones refused.
        let _end = EndOnDrop(self);
        while let Some(group) = self.next_group() {
            let mut ops = Vec::with_capacity(group.iter().map(|batch| batch.ops.len()).sum());
            let mut waiters = Vec::with_capacity(group.len());
            for batch in group {
                ops.extend(batch.ops);
                waiters.push(batch.on_done);
            }
            let mut durable = || {
                for on_done in waiters.drain(..) {
                    on_done(Ok(()));
                }
            };
            let written = catch_unwind(AssertUnwindSafe(|| sink(ops, &mut durable)));
            let result = written.unwrap_or_else(|_| {
                Err(StoreError::Engine {
                    action: "write",
                    reason: "the engine panicked; its message is on standard error".into(),
                })
            });
            if result.is_err() {
                self.lock().ended = Some(StoreError::Poisoned);
            }
            for on_done in waiters {
                on_done(result.clone());
            }
            if result.is_err() {
                return;
            }
        }
    }

    fn next_group(&self) -> Option<Vec<Batch>> {
        let mut state = self.lock();
        while state.queue.is_empty() {
            if state.ended.is_some() {
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = state.queue.front() {
            if !group.is_empty() && bytes + batch.bytes > self.limits.group_bytes_max {
                break;
            }
            bytes += batch.bytes;
            group.extend(state.queue.pop_front());
        }
        state.bytes -= bytes;
        drop(state);
        self.room.notify_all();
        Some(group)
    }
}

/// Refuses what is queued and what comes later when the thread ends.
struct EndOnDrop<'a>(&'a Shared);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        let (left, error) = {
            let mut state = self.0.lock();
            let error = state.ended.get_or_insert(StoreError::Poisoned).clone();
            state.bytes = 0;
            (std::mem::take(&mut state.queue), error)
        };
        self.0.room.notify_all();
        for batch in left {
            (batch.on_done)(Err(error.clone()));
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
