//! Threads for what takes a core: signature checks, cutting windows, running `f`.
//!
//! Two queues: what a round waits for goes before bulk work, so that a flood of frames never delays a certificate. The
//! queues have no bound of their own: every job answers one effect of the core, and the driver takes no new input while too
//! many effects are unanswered.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use diversity_engine::api::SignatureCheck;
use diversity_keys::VerifyingKey;
use diversity_proto::domain::{Kind, sha256};
use diversity_proto::{Deployment, Digest, PublicKey};

/// Frames that one worker checks in one go.
const CHUNK: usize = 32;
/// Keys that are kept decompressed (64 bytes each).
const KEYS_MAX: usize = 65_536;

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queues {
    urgent: VecDeque<Task>,
    bulk: VecDeque<Task>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
}

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A round waits for it.
    Urgent,
    /// Everything else.
    Bulk,
}

/// The pool. Dropping it finishes what is queued.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn spawn(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let threads = (0..threads.max(1))
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("worker-{i}"))
                    .spawn(move || shared.run())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Queues a task.
    pub fn submit(&self, priority: Priority, task: impl FnOnce() + Send + 'static) {
        self.shared.push(priority, [Box::new(task) as Task]);
        // One thread is enough; the others would wake up for nothing.
        self.shared.work.notify_one();
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A task that panicked ended its thread; its message is on standard error.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, priority: Priority, tasks: impl IntoIterator<Item = Task>) {
        let mut queues = self.lock();
        match priority {
            Priority::Urgent => queues.urgent.extend(tasks),
            Priority::Bulk => queues.bulk.extend(tasks),
        }
    }

    fn run(&self) {
        loop {
            let mut queues = self.lock();
            let task = loop {
                if let Some(task) = queues.urgent.pop_front() {
                    break task;
                }
                if let Some(task) = queues.bulk.pop_front() {
                    break task;
                }
                if queues.closed {
                    return;
                }
                queues = self
                    .work
                    .wait(queues)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(queues);
            task();
        }
    }
}

/// Checks signatures on the pool, with keys that are decompressed once.
pub struct Verifier {
    deployment: Deployment,
    keys: RwLock<HashMap<PublicKey, VerifyingKey>>,
}

impl Verifier {
    /// For frames of this deployment.
    pub fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            keys: RwLock::default(),
        }
    }

    fn key(&self, key: &PublicKey) -> Option<VerifyingKey> {
        if let Some(known) = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
        {
            return Some(*known);
        }
        let parsed = VerifyingKey::from_bytes(&key.0).ok()?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(*key, parsed);
        Some(parsed)
    }

    /// The digest of an encoded frame, if its signature is good under the key (wire-format §3).
    pub fn frame(&self, key: &PublicKey, frame: &[u8]) -> Option<Digest> {
        let (unsigned, signature) = frame.split_last_chunk::<64>()?;
        let digest = sha256(Kind::SensorFrame)
            .raw(self.deployment.bytes())
            .raw(unsigned)
            .finish();
        self.key(key)?
            .verify(&digest.0, signature)
            .then_some(digest)
    }

    /// Whether a signature is good.
    pub fn check(&self, check: &SignatureCheck) -> bool {
        self.key(&check.key)
            .is_some_and(|key| key.verify(&check.digest.0, &check.signature.0))
    }

    /// Checks frames, spread over the threads; `done` gets one digest for each good one.
    pub fn frames(
        self: &Arc<Self>,
        workers: &Workers,
        frames: Vec<(PublicKey, Arc<[u8]>)>,
        done: impl FnOnce(Vec<Option<Digest>>) + Send + 'static,
    ) {
        let verifier = Arc::clone(self);
        spread(
            workers,
            Priority::Bulk,
            frames,
            move |(key, frame)| verifier.frame(key, frame),
            done,
        );
    }

    /// Checks signatures that a round waits for.
    pub fn signatures(
        self: &Arc<Self>,
        workers: &Workers,
        checks: Vec<SignatureCheck>,
        done: impl FnOnce(Vec<bool>) + Send + 'static,
    ) {
        let verifier = Arc::clone(self);
        spread(
            workers,
            Priority::Urgent,
            checks,
            move |check| verifier.check(check),
            done,
        );
    }
}

/// Maps items on several threads; `done` is called once, on the thread that finishes last.
fn spread<I, O>(
    workers: &Workers,
    priority: Priority,
    items: Vec<I>,
    each: impl Fn(&I) -> O + Send + Sync + 'static,
    done: impl FnOnce(Vec<O>) + Send + 'static,
) where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    let chunk = items.len().div_ceil(workers.threads()).clamp(1, CHUNK);
    if items.len() <= chunk {
        workers.submit(priority, move || done(items.iter().map(each).collect()));
        return;
    }
    struct Job<I, O, F, D> {
        items: Vec<I>,
        each: F,
        parts: Mutex<Vec<Vec<O>>>,
        left: AtomicUsize,
        done: Mutex<Option<D>>,
    }
    let count = items.len().div_ceil(chunk);
    let job = Arc::new(Job {
        items,
        each,
        parts: Mutex::new((0..count).map(|_| Vec::new()).collect()),
        left: AtomicUsize::new(count),
        done: Mutex::new(Some(done)),
    });
    let tasks = (0..count).map(|i| {
        let job = Arc::clone(&job);
        Box::new(move || {
            let end = ((i + 1) * chunk).min(job.items.len());
            let part = job.items[i * chunk..end].iter().map(&job.each).collect();
            job.parts.lock().unwrap_or_else(PoisonError::into_inner)[i] = part;
            if job.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                let parts =
                    std::mem::take(&mut *job.parts.lock().unwrap_or_else(PoisonError::into_inner));
                let done = job
                    .done
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                done.expect("only the last chunk takes it")(parts.into_iter().flatten().collect());
            }
        }) as Task
    });
    workers.shared.push(priority, tasks);
    workers.shared.work.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_keys::SecretKey;
    use diversity_proto::frame::{Frame, Message, write_body};
    use diversity_proto::{Address, SensorId, Signature, Writer};
    use std::sync::mpsc;

    const DEPLOYMENT: Deployment = Deployment {
        chain_id: 1,
        contract: Address([7; 20]),
    };

    fn frame(key: &SecretKey, q: u64) -> Vec<u8> {
        let mut body = Writer::new();
        write_body(
            &mut body,
            [Message {
                time: 1_000 + q,
                values: &[1],
            }],
        );
        let mut frame = Frame {
            sensor: SensorId(key.address()),
            epoch: 0,
            first_q: q,
            count: 1,
            lost: 0,
            width: 1,
            opening: None,
            body: body.finish(),
            signature: Signature([0; 64]),
        };
        frame.signature = Signature(key.sign(&frame.digest(&DEPLOYMENT).0));
        frame.encode()
    }

    #[test]
    fn each_frame_gets_its_own_verdict_in_order() {
        let workers = Workers::spawn(3).expect("threads");
        let verifier = Arc::new(Verifier::new(DEPLOYMENT));
        let key = SecretKey::from_bytes(&[5; 32]).expect("key");
        for n in [1usize, 31, 32, 33, 500] {
            let mut frames: Vec<_> = (0..n as u64).map(|q| frame(&key, q)).collect();
            for bad in frames.iter_mut().step_by(7) {
                let last = bad.len() - 70;
                bad[last] ^= 1;
            }
            let digests: Vec<_> = frames
                .iter()
                .map(|f| Frame::decode(f).ok().map(|f| f.digest(&DEPLOYMENT)))
                .collect();
            let (sender, receiver) = mpsc::channel();
            let public = PublicKey(key.public_key());
            let given = frames.iter().map(|f| (public, Arc::from(&f[..]))).collect();
            verifier.frames(&workers, given, move |out| {
                sender.send(out).expect("received")
            });
            let got = receiver.recv().expect("answered");
            assert_eq!(got.len(), n);
            for (i, (got, expected)) in got.iter().zip(&digests).enumerate() {
                assert_eq!(*got, if i % 7 == 0 { None } else { *expected });
            }
        }
    }

    #[test]
    fn urgent_work_goes_first_and_a_drop_finishes_what_is_queued() {
        let workers = Workers::spawn(1).expect("thread");
        let (sender, receiver) = mpsc::channel();
        let (hold, held) = mpsc::channel::<()>();
        workers.submit(Priority::Bulk, move || held.recv().expect("released"));
        for (priority, name) in [(Priority::Bulk, "bulk"), (Priority::Urgent, "urgent")] {
            let sender = sender.clone();
            workers.submit(priority, move || sender.send(name).expect("received"));
        }
        hold.send(()).expect("waiting");
        drop(workers);
        drop(sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), ["urgent", "bulk"]);
    }
}
