//! What the bench measures on running nodes.

use crate::locks::Lock;
use crate::net::Net;
use crate::{E2eError, Result, agreement, locks};
use diversity_client::Api;
use diversity_client::api::Event;
use diversity_client::devnet::Devnet;
use diversity_client::terms_json::WindowJson;
use diversity_keys::{SecretKey, keccak256};
use diversity_proto::wire;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// First second of everything that is sent: 2024-03-01.
pub const START: u64 = 1_709_251_200;
/// Sensors of the ingest measurement.
const SENSORS: usize = 64;
/// Requests that are on their way at a time.
const REQUESTS: usize = 4;
/// Frames in a request.
const BATCH: usize = 500;
/// Length of the windows of the round measurements, seconds of sensor time.
const WINDOW: u64 = 60;
/// Sensors of the round measurements.
const ROUND_SENSORS: usize = 3;
/// How long one run of bare verification takes.
const BARE_RUN: Duration = Duration::from_millis(400);
/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(120);

/// Signatures that so many threads verify together in a second, doing nothing else, with the library that the node uses; median of
/// five runs.
pub fn bare_verification(threads: usize) -> f64 {
    let key = |i: u64| {
        SecretKey::from_bytes(&keccak256(&i.to_be_bytes()))
            .expect("hashes of small numbers are keys")
    };
    let signed: Vec<_> = (1..=64)
        .map(|i| {
            let (key, digest) = (key(i), keccak256(&i.to_le_bytes()));
            (key.verifying_key(), digest, key.sign(&digest))
        })
        .collect();
    let one = || {
        let (start, mut n) = (Instant::now(), 0u32);
        while start.elapsed() < BARE_RUN {
            for (key, digest, signature) in &signed {
                assert!(black_box(key).verify(digest, signature));
                n += 1;
            }
        }
        f64::from(n) / start.elapsed().as_secs_f64()
    };
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(one)).collect();
                let rate = |t: std::thread::ScopedJoinHandle<f64>| t.join().expect("good ones");
                all.into_iter().map(rate).sum()
            })
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

/// How fast a node takes frames in.
#[derive(Clone, Copy, Debug)]
pub struct Ingest {
    /// Messages in a frame.
    pub per_frame: usize,
    /// Frames that were acknowledged.
    pub frames: usize,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Processor time of the node, all threads, seconds.
    pub cpu_seconds: f64,
}

/// Sends frames of `per_frame` messages of sensors of one agreement to one node as fast as it acknowledges them, and counts its
/// processor time.
///
/// # Errors
/// [`E2eError`].
pub fn ingest(net: &Net, per_frame: usize, frames_per_sensor: usize) -> Result<Ingest> {
    let devnet = net.devnet()?;
    let node = devnet
        .nodes
        .first()
        .ok_or_else(|| E2eError::NotSo("the devnet has no nodes".into()))?;
    let api = node.api()?;
    let at = locks::deployment(&devnet);
    let all: Vec<Lock> = (0..SENSORS).map(|_| Lock::new(at)).collect::<Result<_>>()?;
    // What is in no agreement is passed on to nobody, and that is a part of the work. Nothing closes this window meanwhile.
    let window = WindowJson::Month { start: START };
    net.block_on(agreement::create(&devnet, &all, window, 1))?;
    // Each request stream has sensors of its own, so that their frames arrive in order of q.
    let streams: Vec<Vec<Vec<u8>>> = all
        .chunks(SENSORS.div_ceil(REQUESTS))
        .map(|some| {
            let frames: Vec<Vec<u8>> = (0..frames_per_sensor)
                .flat_map(|k| {
                    some.iter().map(move |lock| {
                        let first = (k * per_frame) as u64;
                        let said: Vec<_> = (first..first + per_frame as u64)
                            .map(|q| (START + q * 7, q % 2 == 0))
                            .collect();
                        lock.frame(first, &said).encode()
                    })
                })
                .collect();
            frames
                .chunks(BATCH)
                .map(|b| wire::encode_frames(b.iter().map(Vec::as_slice)))
                .collect()
        })
        .collect();
    let pid = node
        .pid
        .ok_or_else(|| E2eError::NotSo(format!("{} does not run", node.name)))?;
    let (cpu, started) = (cpu_seconds(pid)?, Instant::now());
    net.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for stream in streams {
            let api = api.clone();
            tasks.spawn(async move {
                for batch in stream {
                    taken(&api, batch).await?;
                }
                Ok::<_, E2eError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| E2eError::NotSo(format!("a sender broke: {e}")))??;
        }
        Ok::<_, E2eError>(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds(pid)? - cpu;
    let ids: Vec<_> = all.iter().map(Lock::id).collect();
    let held = net.block_on(api.acknowledged(&ids))?;
    let wanted = (per_frame * frames_per_sensor) as u64;
    if held.acknowledged.len() != SENSORS || held.acknowledged.iter().any(|h| h.next_q != wanted) {
        return Err(E2eError::NotSo(
            "the node has not acknowledged everything that was sent".into(),
        ));
    }
    Ok(Ingest {
        per_frame,
        frames: SENSORS * frames_per_sensor,
        seconds,
        cpu_seconds,
    })
}

/// Sends a batch until it is taken; a busy node is asked again.
async fn taken(api: &Api, batch: Vec<u8>) -> Result {
    let deadline = Instant::now() + WITHIN;
    loop {
        match api.send_frames(batch.clone()).await {
            Ok(answer) if answer.refused.is_empty() => return Ok(()),
            Ok(answer)
                if answer
                    .refused
                    .iter()
                    .all(|r| r.code == diversity_client::api::codes::BUSY) => {}
            Ok(answer) => {
                return Err(E2eError::NotSo(format!(
                    "frames were refused: {:?}",
                    answer.refused.first()
                )));
            }
            Err(error) if error.is_transient() && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn cpu_of_nodes(devnet: &Devnet) -> Result<f64> {
    devnet
        .nodes
        .iter()
        .filter_map(|n| n.pid)
        .map(cpu_seconds)
        .sum()
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(E2eError::system("read a process's times"))?;
    // After the name in parentheses: state is field 3, user time 14, system time 15, in ticks of 1/100 s (sysconf CLK_TCK on Linux).
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |s| s.1)
        .split_ascii_whitespace()
        .collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / 100.0),
        _ => Err(E2eError::NotSo(format!(
            "the times of process {pid} cannot be read"
        ))),
    }
}

/// Rounds of one agreement.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// Nodes.
    pub nodes: usize,
    /// Windows that were certified.
    pub windows: u64,
    /// From the first message to the last certificate, seconds.
    pub seconds: f64,
    /// Processor time of all nodes meanwhile, all threads, seconds.
    pub cpu_seconds: f64,
}

fn said(t: u64) -> (u64, bool) {
    (START + t * WINDOW + 1, t.is_multiple_of(2))
}

/// Sends the messages of many short windows at once, and waits until all are certified.
///
/// # Errors
/// [`E2eError`].
pub fn rounds(net: &Net, windows: u64) -> Result<Rounds> {
    let devnet = net.devnet()?;
    let (all, a) = started(net, 256)?;
    let api = devnet.nodes[0].api()?;
    let frames: Vec<Vec<u8>> = all
        .iter()
        .flat_map(|lock| {
            let messages: Vec<_> = (0..=windows).map(said).collect();
            let cut = |(i, m): (usize, &[(u64, bool)])| lock.frame((i * 20) as u64, m).encode();
            messages.chunks(20).enumerate().map(cut).collect::<Vec<_>>()
        })
        .collect();
    let (cpu, from) = (cpu_of_nodes(&devnet)?, Instant::now());
    for batch in frames.chunks(BATCH) {
        net.block_on(taken(
            &api,
            wire::encode_frames(batch.iter().map(Vec::as_slice)),
        ))?;
    }
    net.await_progress(
        &devnet.nodes[0].name,
        &a,
        "certificate of the last window",
        WITHIN,
        |p| p.next_certificate >= windows,
    )?;
    Ok(Rounds {
        nodes: devnet.nodes.len(),
        windows,
        seconds: from.elapsed().as_secs_f64(),
        cpu_seconds: cpu_of_nodes(&devnet)? - cpu,
    })
}

/// Seconds from the last message of a window to what came of it.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// To its certificate, on the node that took the message.
    pub certificate: Vec<f64>,
    /// To its event on chain, as that node sees it.
    pub settled: Vec<f64>,
    /// Mean time in `f`, seconds, of all executions of that node.
    pub in_f: Option<f64>,
}

/// Sends window after window, each when the one before it has settled, and takes the times.
///
/// # Errors
/// [`E2eError`].
pub fn latencies(net: &Net, windows: u64) -> Result<Latencies> {
    let devnet = net.devnet()?;
    let (all, a) = started(net, 1)?;
    let api = devnet.nodes[0].api()?;
    let mut out = Latencies::default();
    net.block_on(async {
        let mut events = api.events(Some(&a)).await?;
        for t in 0..=windows {
            let (last, others) = all
                .split_last()
                .ok_or_else(|| E2eError::NotSo("no sensors".into()))?;
            let frames: Vec<Vec<u8>> = others
                .iter()
                .map(|l| l.frame(t, &[said(t)]).encode())
                .collect();
            taken(&api, wire::encode_frames(frames.iter().map(Vec::as_slice))).await?;
            let frame = last.frame(t, &[said(t)]).encode();
            let sent = Instant::now();
            taken(&api, wire::encode_frames([frame.as_slice()].into_iter())).await?;
            // The first messages close nothing: they lie in window 0.
            let Some(due) = t.checked_sub(1) else {
                continue;
            };
            let mut certified = None;
            loop {
                let next = tokio::time::timeout(WITHIN, events.next()).await;
                let next =
                    next.map_err(|_| E2eError::NotSo(format!("window {due} does not settle")))?;
                match next? {
                    Some(Event::Certified { t, .. }) if t == due => {
                        certified = Some(sent.elapsed().as_secs_f64())
                    }
                    Some(Event::Settled { from, t, .. }) if (from..=t).contains(&due) => break,
                    Some(_) => {}
                    None => return Err(E2eError::NotSo("the stream of events ended".into())),
                }
            }
            out.settled.push(sent.elapsed().as_secs_f64());
            out.certificate.extend(certified);
        }
        Ok::<_, E2eError>(())
    })?;
    out.in_f = mean_of(
        &net.block_on(metrics(&devnet.nodes[0].api_url))?,
        "diversity_run_seconds",
    );
    Ok(out)
}

/// Locks and an agreement of one-minute windows over them.
fn started(net: &Net, batch: u16) -> Result<(Vec<Lock>, diversity_proto::AgreementId)> {
    let devnet = net.devnet()?;
    let at = locks::deployment(&devnet);
    let all: Vec<Lock> = (0..ROUND_SENSORS)
        .map(|_| Lock::new(at))
        .collect::<Result<_>>()?;
    let window = WindowJson::Seconds {
        start: START,
        seconds: WINDOW,
    };
    let a = net.block_on(agreement::create(&devnet, &all, window, batch))?;
    Ok((all, a))
}

/// The mean of a histogram in OpenMetrics text.
fn mean_of(metrics: &BTreeMap<String, f64>, name: &str) -> Option<f64> {
    let count = metrics
        .get(&format!("{name}_count"))
        .copied()
        .filter(|n| *n > 0.0)?;
    Some(metrics.get(&format!("{name}_sum"))? / count)
}

/// The metrics of a node that have no labels.
async fn metrics(api_url: &str) -> Result<BTreeMap<String, f64>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let host = api_url.trim_start_matches("http://").trim_end_matches('/');
    let read = async {
        let mut stream = tokio::net::TcpStream::connect(host).await?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    };
    let text = read
        .await
        .map_err(E2eError::system(format!("read the metrics of {api_url}")))?;
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(parse)
        .collect())
}
