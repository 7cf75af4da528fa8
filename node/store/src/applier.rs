//! Brings batches that the journal has made durable into the engine, behind the writer's back and many at a time: one batch of
//! the engine costs as much as the flush that a round waits for. Whoever reads waits for what was told durable before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Op, StoreError, lock};

/// How long a batch waits for others to share the engine's batch with it.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes that are not waited with.
const GATHERED_BYTES_MAX: usize = 1 << 20;
/// Bytes above which the writer waits, so that memory is bounded.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// The thread and what it has still to do.
pub(crate) struct Applier {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is more to do, or somebody waits for it.
    work: Condvar,
    /// Something was done.
    done: Condvar,
    failed: AtomicBool,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    bytes: usize,
    /// Since when the oldest of them waits.
    since: Option<Instant>,
    /// Number of the journal's batches up to which all were given.
    given: u64,
    /// The same of what the engine has.
    applied: u64,
    /// Somebody waits.
    wanted: bool,
    ended: bool,
    /// Why nothing is applied any more, until somebody was told.
    failure: Option<StoreError>,
}

impl Applier {
    /// Starts the thread, which calls `apply` with what is pending and the position behind it. `position` is that of the journal, all
    /// of whose batches the engine has.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if the system gives no thread.
    pub fn spawn(
        position: u64,
        apply: impl FnMut(Vec<Op>, u64) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                given: position,
                applied: position,
                ..State::default()
            }),
            ..Shared::default()
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-engine".into())
            .spawn(move || for_thread.run(apply))
            .map_err(|error| StoreError::Engine {
                action: "start its engine's thread",
                reason: error.to_string(),
            })?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes a batch that is durable. `position` is that of the journal behind it. It waits while too much is pending.
    pub fn give(&self, ops: Vec<Op>, position: u64) {
        let mut state = lock(&self.shared.state);
        while state.bytes > PENDING_BYTES_MAX && !self.failed() {
            state = wait(&self.shared.done, state);
        }
        state.bytes += ops.iter().map(Op::bytes).sum::<usize>();
        state.ops.extend(ops);
        state.given = position;
        // The thread sleeps until somebody needs it: it is woken for the first one, and for a lot of them.
        if state.since.is_none() || state.bytes > GATHERED_BYTES_MAX {
            state.since.get_or_insert_with(Instant::now);
            self.shared.work.notify_one();
        }
    }

    /// Waits until the engine has everything that was given before, or has failed.
    pub fn settle(&self) {
        // Who reads sees what the engine has; that the store is of no use any more is told to those who write.
        let _ = self.shared.settle();
    }

    /// [`Self::settle`] for another thread.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] if the engine has failed.
    pub fn settling(&self) -> impl FnOnce() -> Result<(), StoreError> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.settle()
    }

    /// Whether the engine has failed; what was given since is in the journal alone.
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Why it has failed, told once.
    pub fn failure(&self) -> Option<StoreError> {
        lock(&self.shared.state).failure.take()
    }

    /// Finishes what was given and ends the thread.
    pub fn end(&self) {
        lock(&self.shared.state).ended = true;
        self.shared.work.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // Panics inside the engine are caught, and there is nothing else that panics.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn settle(&self) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let target = state.given;
        while state.applied < target && !self.failed.load(Ordering::Acquire) {
            if !state.wanted {
                state.wanted = true;
                self.work.notify_one();
            }
            state = wait(&self.done, state);
        }
        if state.applied < target {
            return Err(StoreError::Poisoned);
        }
        Ok(())
    }

    fn run(&self, mut apply: impl FnMut(Vec<Op>, u64) -> Result<(), StoreError>) {
        while let Some((ops, position)) = self.next() {
            let applied =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| apply(ops, position)));
            let result = applied.unwrap_or_else(|_| {
                Err(StoreError::Engine {
                    action: "apply a batch",
                    reason: "the engine panicked; its message is on standard error".into(),
                })
            });
            let mut state = lock(&self.state);
            match result {
                Ok(()) => state.applied = position,
                Err(error) => {
                    state.failure = Some(error);
                    self.failed.store(true, Ordering::Release);
                }
            }
            self.done.notify_all();
            if self.failed.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Everything that is pending, when it is time; none when it has ended and nothing is left.
    fn next(&self) -> Option<(Vec<Op>, u64)> {
        let mut state = lock(&self.state);
        loop {
            let due = state.wanted || state.ended || state.bytes > GATHERED_BYTES_MAX;
            match state
                .since
                .map(|since| GATHER.saturating_sub(since.elapsed()))
            {
                Some(left) if due || left.is_zero() => {
                    state.since = None;
                    state.wanted = false;
                    state.bytes = 0;
                    return Some((std::mem::take(&mut state.ops), state.given));
                }
                Some(left) => {
                    let waited = self.work.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None if state.ended => return None,
                None => {
                    state.wanted = false;
                    state = wait(&self.work, state);
                }
            }
        }
    }
}

fn wait<'a>(
    condvar: &Condvar,
    state: std::sync::MutexGuard<'a, State>,
) -> std::sync::MutexGuard<'a, State> {
    condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "applier_tests.rs"]
mod tests;
