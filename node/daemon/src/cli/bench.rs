//! `diversity bench`: what this machine can do at most, without a network: the limits that a node is measured against.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use diversity_keys::SecretKey;
use diversity_proto::frame::{Frame, Message, write_body};
use diversity_proto::window::{Leaf, Window, WindowEnd};
use diversity_proto::{Address, Deployment, SensorId, Signature, Writer};
use serde::Serialize;

use super::code::executor;
use super::output::{Context, FAILED, Failure, Outcome, Output};

/// How long each figure is measured.
const MEASURED_FOR: Duration = Duration::from_secs(1);
/// Different frames that are verified in turn.
const FRAMES: u64 = 256;
/// Messages in the window that a module is run on.
const WINDOW_MESSAGES: u64 = 200;

/// What to measure.
#[derive(clap::Args)]
#[command(after_help = concat!(
    "One core, no network: frames decoded, hashed and their signatures verified, and with --module the time in f on a window\n",
    "of 200 messages of one bool. `make bench` measures whole nodes against these limits.\n\n",
    "Example:\n  diversity bench --module contracts/offchain/modules/bike-lock.wasm"))]
pub struct Args {
    /// A module whose time in f is measured too.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
}

#[derive(Serialize)]
struct Figure {
    what: String,
    value: u64,
    unit: &'static str,
}

/// Measures.
pub async fn run(args: Args, output: Output) -> Outcome {
    let mut figures = Vec::new();
    for messages in [1, 20] {
        let frames_per_s = verified(messages)?;
        figures.push(Figure {
            what: format!("messages verified, frames of {messages}, one core"),
            value: frames_per_s * messages,
            unit: "messages/s",
        });
    }
    if let Some(path) = args.module {
        let module = std::fs::read(&path).context(path.display())?;
        figures.push(Figure {
            what: format!("time in f, {WINDOW_MESSAGES} messages, fresh instance"),
            value: time_in_f(&module)?,
            unit: "ns",
        });
    }
    output.table(&["figure", "value", "unit"], &figures, |f| {
        vec![f.what.clone(), f.value.to_string(), f.unit.to_owned()]
    })
}

/// Frames of so many messages that are decoded, hashed and verified in a second.
fn verified(messages: u64) -> Outcome<u64> {
    let deployment = Deployment {
        chain_id: 1,
        contract: Address([1; 20]),
    };
    let key = SecretKey::generate().context("cannot make a key")?;
    let sign = |n: u64| {
        let mut body = Writer::new();
        let times = n * messages..(n + 1) * messages;
        write_body(&mut body, times.map(|time| Message { time, values: &[1] }));
        let mut frame = Frame {
            sensor: SensorId(key.address()),
            epoch: 0,
            first_q: n * messages,
            count: messages as u16,
            lost: 0,
            width: 1,
            opening: None,
            body: body.finish(),
            signature: Signature([0; 64]),
        };
        frame.signature = Signature(key.sign(&frame.digest(&deployment).0));
        frame.encode()
    };
    let frames: Vec<_> = (0..FRAMES).map(sign).collect();
    let public = key.verifying_key();
    let (started, mut done) = (Instant::now(), 0u64);
    while started.elapsed() < MEASURED_FOR {
        for bytes in &frames {
            let frame = Frame::decode(bytes).context("a frame of our own")?;
            if !public.verify(&frame.digest(&deployment).0, &frame.signature.0) {
                return Err(Failure::new(
                    FAILED,
                    "a signature of our own does not verify",
                ));
            }
        }
        done += FRAMES;
    }
    Ok((done as f64 / started.elapsed().as_secs_f64()) as u64)
}

/// Nanoseconds of one execution.
fn time_in_f(module: &[u8]) -> Outcome<u64> {
    let engine = executor()?;
    let id = engine.add(module).map_err(|e| Failure::new(FAILED, e))?;
    let values: [&[u8]; 2] = [&[1], &[0]];
    let messages = (0..WINDOW_MESSAGES).map(|i| Message {
        time: 60 * i,
        values: values[(i % 2) as usize],
    });
    let leaf = Leaf::new(SensorId([2; 20]), 0, WindowEnd::Message, 1, messages);
    let window = Window {
        t: 0,
        from: 0,
        to: 60 * WINDOW_MESSAGES,
        leaves: vec![leaf],
    };
    let input = window.input(&[]);
    let (started, mut done) = (Instant::now(), 0u64);
    while started.elapsed() < MEASURED_FOR {
        engine.run(&id, &input).context("the module did not run")?;
        done += 1;
    }
    Ok((started.elapsed().as_nanos() / u128::from(done.max(1))) as u64)
}
