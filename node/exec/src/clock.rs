//! Counts executions: at most so many at a time, and a tick for their wall-clock limit while there are any.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::Engine;

/// One step of the engine's epoch.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// After so many ticks without an execution the thread sleeps until there is one, so that an idle node wakes nobody.
const IDLE_TICKS_MAX: u32 = 50;

/// The shared half of a [`Clock`].
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the thread of the ticks.
    begun: Condvar,
    /// Wakes whoever waits for a place.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    running: u32,
    asleep: bool,
    closed: bool,
}

impl Shared {
    /// A panic elsewhere leaves the counters whole: every change of them is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places for executions, and the thread that ticks.
pub(crate) struct Clock {
    shared: Arc<Shared>,
    places: u32,
}

impl Clock {
    /// Starts the thread.
    pub fn start(engine: Engine, places: u32) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let clock = Self {
            shared: shared.clone(),
            places,
        };
        std::thread::Builder::new()
            .name("exec-clock".into())
            .spawn(move || tick(&shared, &engine))?;
        Ok(clock)
    }

    /// Waits for a place, which is free again when the guard is dropped.
    pub fn enter(&self) -> Running<'_> {
        let state = self.shared.lock();
        let full = |state: &mut State| state.running >= self.places;
        let mut state = self
            .shared
            .ended
            .wait_while(state, full)
            .unwrap_or_else(PoisonError::into_inner);
        state.running += 1;
        if state.asleep {
            self.shared.begun.notify_one();
        }
        Running(&self.shared)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.begun.notify_one();
    }
}

/// An execution that is under way.
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.ended.notify_one();
    }
}

fn tick(shared: &Shared, engine: &Engine) {
    let mut idle = 0;
    let mut state = shared.lock();
    while !state.closed {
        if state.running > 0 {
            idle = 0;
        } else if idle < IDLE_TICKS_MAX {
            idle += 1;
        } else {
            state.asleep = true;
            state = shared
                .begun
                .wait_while(state, |state| state.running == 0 && !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
            continue;
        }
        state = shared
            .begun
            .wait_timeout(state, TICK)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        engine.increment_epoch();
    }
}
