//! A replay from trips to summary.

use crate::deliver::{DeliverError, Delivery};
use crate::epilogue::{self, EpilogueError};
use crate::faults::{Fault, Faults};
use crate::folder::{Folder, FolderError, fingerprint};
use crate::locks::{Keyring, KeyringError, sign_cut};
use crate::network::{self, Network, NetworkError, Target};
use crate::schedule::Schedule;
use crate::tally::{Summary, Tally};
use crate::trips::{Trips, TripsError};
use crate::watch::{Final, Watch};
use diversity_client::devnet::{Devnet, DevnetError};
use diversity_client::{Api, ApiError};
use diversity_proto::wire::encode_frames;
use diversity_proto::{AgreementId, Deployment};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often counters are written and a standstill is looked for.
const CHECK: Duration = Duration::from_secs(1);
/// Frames of one batch in an offline file.
const OFFLINE_BATCH: usize = 1_024;

/// Where a replay goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A devnet: locks and agreement are registered if they are not there yet.
    Devnet {
        /// `DIR/devnet.json`.
        file: PathBuf,
    },
    /// A network and an agreement that stand already.
    Nodes {
        /// API URLs: at least one node of each user.
        urls: Vec<String>,
        /// Folder with the locks' keys.
        keys: PathBuf,
        /// Token for all of the URLs.
        token_file: Option<PathBuf>,
        /// Which agreement.
        agreement: AgreementId,
    },
    /// A file, and no network.
    Offline {
        /// For which chain and contract the frames are signed.
        deployment: Deployment,
        /// Folder with the locks' keys; made if there are none.
        keys: PathBuf,
        /// The file.
        out: PathBuf,
    },
}

/// How a replay goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Messages in a frame, 1..=1024.
    pub frame_messages: u16,
    /// Times real time.
    pub speed: Option<f64>,
    /// How long nothing may go forward.
    pub timeout: Duration,
    /// Faults.
    pub faults: Vec<Fault>,
    /// Seed of the faults.
    pub fault_seed: u64,
}

/// Why a replay ended without success.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RunError {
    #[error(transparent)]
    Trips(#[from] TripsError),
    #[error(transparent)]
    Keys(#[from] KeyringError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Devnet(#[from] DevnetError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Epilogue(#[from] EpilogueError),
    /// The last month is not over.
    #[error(
        "line {line}: the trip ends in {month}, which is not over yet, so it cannot settle: leave such trips out, or use --offline"
    )]
    NotOver {
        /// Line of the trip.
        line: u64,
        /// Its month.
        month: String,
    },
    /// Nothing went forward.
    #[error("no progress for {seconds} s; still waiting for:\n  {}", waiting.join("\n  "))]
    Standstill {
        /// For how long.
        seconds: u64,
        /// What is waited for.
        waiting: Vec<String>,
    },
    /// The file of an offline run.
    #[error("cannot write {}: {source}", path.display())]
    Offline {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RunError {
    /// The exit code: 2 for a standstill, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Standstill { .. }) {
            2
        } else {
            1
        }
    }
}

/// Replays trips.
///
/// # Errors
/// [`RunError`]; where the trips are wrong, nothing was sent.
pub async fn run(
    trips: &Trips,
    destination: &Destination,
    options: &Options,
) -> Result<Summary, RunError> {
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        trips.check_times(now.as_secs())?;
    }
    match destination {
        Destination::Offline {
            deployment,
            keys,
            out,
        } => offline(trips, deployment, keys, out, options.frame_messages),
        Destination::Devnet { file } => in_devnet(trips, file, options).await,
        Destination::Nodes {
            urls,
            keys,
            token_file,
            agreement,
        } => {
            let schedule = online_schedule(trips, options.frame_messages)?;
            let keyring = Keyring::open(keys, &schedule, false)?;
            let targets = urls
                .iter()
                .map(|url| {
                    let api = match token_file {
                        Some(path) => Api::with_token_file(url, path)?,
                        None => Api::new(url, None)?,
                    };
                    let name = url.clone();
                    Ok(Target { name, api })
                })
                .collect::<Result<Vec<_>, ApiError>>()?;
            let tally = Tally::new(schedule.messages(), schedule.months);
            let network = network::attach(&targets, *agreement, &keyring).await?;
            let folder = Folder(keys.clone());
            deliver(schedule, keyring, network, folder, tally, options).await
        }
    }
}

async fn in_devnet(trips: &Trips, file: &Path, options: &Options) -> Result<Summary, RunError> {
    let devnet = Devnet::read(file)?;
    let id = fingerprint(trips);
    let folder = Folder::in_devnet(file, &id);
    let mut frame_messages = options.frame_messages;
    let known = folder.state(&id)?;
    let other = known.filter(|s| s.frame_messages != frame_messages);
    if let Some(state) = other {
        // Other frames over the same q would be refused.
        frame_messages = state.frame_messages;
    }
    let schedule = online_schedule(trips, frame_messages)?;
    let tally = Tally::new(schedule.messages(), schedule.months);
    if other.is_some() {
        tally.say(format!(
            "going on with the frames of the earlier run: {frame_messages} messages each"
        ));
    }
    let keyring = Keyring::open(&folder.0, &schedule, true)?;
    let say = |text: String| tally.say(text);
    let network = network::in_devnet(
        &devnet,
        &folder,
        &id,
        frame_messages,
        &schedule,
        &keyring,
        &say,
    );
    let network = network.await?;
    deliver(schedule, keyring, network, folder, tally, options).await
}

/// The schedule, if its last month is over: before that, no honest node closes it.
fn online_schedule(trips: &Trips, frame_messages: u16) -> Result<Schedule, RunError> {
    let schedule = Schedule::new(trips, frame_messages);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    if now.is_ok_and(|now| schedule.end() > now.as_secs()) {
        return Err(RunError::NotOver {
            line: trips.span().1.line,
            month: schedule.month_name(schedule.months - 1),
        });
    }
    Ok(schedule)
}

async fn deliver(
    schedule: Schedule,
    keyring: Keyring,
    network: Network,
    folder: Folder,
    tally: Tally,
    options: &Options,
) -> Result<Summary, RunError> {
    let delivery = Arc::new(Delivery::new(
        Arc::new(schedule),
        Arc::new(keyring),
        network,
        Arc::new(tally),
        options.speed,
        Faults::new(&options.faults, options.fault_seed),
    ));
    let (schedule, tally) = (delivery.schedule.clone(), delivery.tally.clone());
    tally.moved();
    let watch = Watch::new(&delivery.network, &schedule, &tally);
    let work = async {
        let (_, found) = tokio::try_join!(
            async { delivery.run().await.map_err(RunError::from) },
            async { watch.until_final().await.map_err(RunError::from) },
        )?;
        epilogue::run(&delivery).await?;
        Ok::<Final, RunError>(found)
    };
    tokio::pin!(work);
    let mut check = tokio::time::interval(CHECK);
    let mut written = 0;
    let found = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = check.tick() => {
                let holdings = delivery.holdings();
                if holdings.total() != written {
                    folder.set_counters(&schedule, holdings.by_all())?;
                    written = holdings.total();
                }
                if tally.still_for() >= options.timeout {
                    let mut waiting = delivery.waiting();
                    waiting.extend(watch.waiting());
                    if waiting.is_empty() {
                        waiting.push("the faults that were asked for to be answered".into());
                    }
                    break Err(RunError::Standstill {
                        seconds: options.timeout.as_secs(),
                        waiting,
                    });
                }
            }
        }
    };
    let holdings = delivery.holdings();
    folder.set_counters(&schedule, holdings.by_all())?;
    let found = found?;
    tally.finish();
    let sent = schedule.messages();
    Ok(Summary {
        agreement: Some(delivery.network.agreement.hex()),
        sent,
        heartbeats: schedule.heartbeats(),
        acknowledged: holdings.total(),
        retried: tally.retries(),
        lost: sent - holdings.total(),
        settled: found.settled,
        disputed: found.disputed,
        seconds: tally.seconds(),
    })
}

/// Writes all frames to a file: a sequence of `u32` length and that many bytes, each a body for `POST /v1/messages`.
fn offline(
    trips: &Trips,
    deployment: &Deployment,
    keys: &Path,
    out: &Path,
    frame_messages: u16,
) -> Result<Summary, RunError> {
    let schedule = Schedule::new(trips, frame_messages);
    let tally = Tally::new(schedule.messages(), schedule.months);
    let keyring = Keyring::open(keys, &schedule, true)?;
    let write = || {
        let mut file = std::io::BufWriter::new(std::fs::File::create(out)?);
        for cuts in schedule.cuts.chunks(OFFLINE_BATCH) {
            let frames: Vec<_> = cuts
                .iter()
                .map(|cut| sign_cut(&keyring, deployment, &schedule, cut))
                .collect();
            let batch = encode_frames(frames.iter().map(Vec::as_slice));
            let length = u32::try_from(batch.len()).expect("a batch is far below 4 GiB");
            file.write_all(&length.to_be_bytes())?;
            file.write_all(&batch)?;
        }
        file.flush()
    };
    write().map_err(|source| RunError::Offline {
        path: out.into(),
        source,
    })?;
    tally.finish();
    Ok(Summary {
        agreement: None,
        sent: 0,
        heartbeats: schedule.heartbeats(),
        acknowledged: 0,
        retried: 0,
        lost: 0,
        settled: 0,
        disputed: 0,
        seconds: tally.seconds(),
    })
}
