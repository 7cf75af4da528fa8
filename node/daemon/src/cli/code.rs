//! `diversity code`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use diversity_client::abi::decode_packed;
use diversity_client::hexed::{self, Bytes};
use diversity_client::terms_json::FieldJson;
use diversity_exec::{Executor, Kind, Limits, Output as Ran};
use diversity_proto::codec::Reader;
use diversity_proto::terms::Field;
use diversity_proto::window::Window;
use serde::Serialize;
use serde_json::{Map, Value};

use super::draft::field;
use super::locate::At;
use super::output::{Context, FAILED, Failure, MISMATCH, Outcome, Output, table};
use super::tabular::{RecordedWindow, from_csv};

/// What to do with modules.
#[derive(Subcommand)]
pub enum Command {
    /// Say whether nodes would take a module: no imports, the right exports, a declared maximum of memory
    #[command(
        after_help = "Exit code 5 when they would not.\n\nExample:\n  diversity code check contracts/offchain/modules/bike-lock.wasm"
    )]
    Check {
        /// The module.
        module: PathBuf,
    },
    /// Upload a module to a node (with --devnet: to every node)
    #[command(
        after_help = "Example:\n  diversity code add bike-lock.wasm --devnet net/devnet.json"
    )]
    Add {
        /// The module.
        module: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Run a module on a recorded window, without a network
    #[command(after_help = concat!(
        "CSV: a header sensor,time,NAME:TYPE,... and a message a line. JSON: {\"t\":0,\"from\":0,\"to\":0,\"leaves\":[{\"sensor\":\"0x...\",\n",
        "\"messages\":[{\"time\":1,\"values\":\"0x01\"}]}]}. Any other file is binary: a window, or with --input the whole input of f\n",
        "(carry and window), as GET /v1/agreements/{a}/windows/{t} and evidence bundles give it.\n\n",
        "Example:\n  diversity code run bike-lock.wasm july.csv --result total_seconds:uint64,trips:uint32 --detail seconds:uint64,trips:uint32,unbilled:uint32"))]
    Run(Box<RunArgs>),
}

/// What to run.
#[derive(clap::Args)]
pub struct RunArgs {
    /// The module.
    module: PathBuf,
    /// The recorded window: .csv, .json, or binary.
    window: PathBuf,
    /// The file is the whole input of f: carry and window.
    #[arg(long, conflicts_with = "carry")]
    input: bool,
    /// File with the carry of the execution before. [default: empty, as at t = 0]
    #[arg(long, value_name = "FILE")]
    carry: Option<PathBuf>,
    /// Where to write the carry for the next execution.
    #[arg(long, value_name = "FILE")]
    carry_out: Option<PathBuf>,
    /// Execution, for CSV.
    #[arg(long, default_value_t = 0)]
    t: u64,
    /// T0 in Unix seconds, for CSV.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// T1 in Unix seconds, for CSV.
    #[arg(long, value_name = "S", default_value_t = 0)]
    to: u64,
    /// Fields of the result, NAME:TYPE, to print it by name.
    #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = field)]
    result: Vec<FieldJson>,
    /// Fields of each sensor's detail.
    #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = field)]
    detail: Vec<FieldJson>,
}

#[derive(Serialize)]
struct Checked {
    sha256: String,
    bytes: usize,
    memory_bytes_min: u64,
    memory_bytes_max: u64,
    /// What it gives on a window without sensors.
    on_nothing: &'static str,
}

/// Runs the command.
pub async fn run(command: Command, output: Output) -> Outcome {
    match command {
        Command::Check { module } => {
            let (engine, bytes) = (executor()?, read(&module)?);
            let info = engine
                .check(&bytes)
                .map_err(|e| Failure::new(MISMATCH, format_args!("{}: {e}", module.display())))?;
            let nothing = Window {
                t: 0,
                from: 0,
                to: 0,
                leaves: Vec::new(),
            };
            let id = engine.add(&bytes).map_err(|e| Failure::new(FAILED, e))?;
            let ran = engine
                .run(&id, &nothing.input(&[]))
                .context("the module did not run")?;
            let checked = Checked {
                sha256: hexed::encode(&info.sha256),
                bytes: info.bytes,
                memory_bytes_min: info.memory_bytes_min,
                memory_bytes_max: info.memory_bytes_max,
                on_nothing: kind(&ran.kind),
            };
            output.item(&checked, |c| {
                format!(
                    "{} can run: SHA-256 {}, {} bytes, {} to {} bytes of memory\n{}",
                    module.display(),
                    c.sha256,
                    c.bytes,
                    c.memory_bytes_min,
                    c.memory_bytes_max,
                    on_nothing(c.on_nothing)
                )
            })
        }
        Command::Add { module, at } => {
            let bytes = read(&module)?;
            for (name, api) in at.all().await? {
                let view = api
                    .put_code(&bytes)
                    .await
                    .map_err(|e| Failure::from(e).during(&name))?;
                output.item(&view, |v| {
                    format!("{name} has {} ({} bytes)", v.sha256, v.size)
                })?;
            }
            Ok(())
        }
        Command::Run(args) => execute(&args, output),
    }
}

/// The engine with the limits of a node.
pub fn executor() -> Outcome<Executor> {
    Executor::new(Limits::default()).context("cannot set up the WebAssembly engine")
}

/// What a trial without sensors shows: that a module passes the check does not say that it can answer.
fn on_nothing(kind: &str) -> String {
    match kind {
        "trap" => "note: on a window without sensors it traps, and a trap is an answer that settles nothing: see with `code run` that it answers on recorded messages before anybody signs".into(),
        "abstain" => "note: on a window without sensors nodes would abstain, since it takes more than they lend: no month would settle".into(),
        kind => format!("on a window without sensors it answers: {kind}"),
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).context(format_args!("cannot read {}", path.display()))
}

#[derive(Serialize)]
struct Executed {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
    result: Bytes,
    sensors: Vec<Map<String, Value>>,
    carry: Bytes,
    trace: String,
    window_hash: String,
}

fn execute(args: &RunArgs, output: Output) -> Outcome {
    let (input, labels) = recorded(args)?;
    let window = split_input(&input)?;
    let engine = executor()?;
    let module = engine
        .add(&read(&args.module)?)
        .map_err(|e| Failure::new(FAILED, e))?;
    let ran = engine
        .run(&module, &input)
        .context("the module did not run")?;
    if let Some(path) = &args.carry_out {
        std::fs::write(path, &ran.carry).context(path.display())?;
    }
    let executed = Executed {
        kind: kind(&ran.kind),
        reason: match ran.kind {
            Kind::Abstain(reason) => reason.to_string(),
            _ => String::new(),
        },
        fields: decoded(&args.result, &ran.result, matches!(ran.kind, Kind::Value))?,
        sensors: details(args, &ran, &window, &labels)?,
        result: Bytes(ran.result),
        carry: Bytes(ran.carry),
        trace: hexed::encode(&ran.trace),
        window_hash: window.hash().hex(),
    };
    output.item(&executed, people)
}

fn people(e: &Executed) -> String {
    let mut out = e.kind.to_owned();
    if !e.reason.is_empty() {
        out.push_str(&format!(": {}", e.reason));
    }
    for (name, value) in &e.fields {
        out.push_str(&format!("\n{name} = {}", super::results::show(Some(value))));
    }
    if e.fields.is_empty() && !e.result.0.is_empty() {
        out.push_str(&format!("\nresult = {}", hexed::encode(&e.result.0)));
    }
    if let Some(first) = e.sensors.first() {
        let mut head: Vec<&str> = first.keys().map(String::as_str).collect();
        // Who it is stands first, then the fields.
        head.sort_by_key(|name| match *name {
            "label" => 0,
            "sensor" => 1,
            _ => 2,
        });
        let rows: Vec<Vec<String>> = e
            .sensors
            .iter()
            .map(|s| {
                head.iter()
                    .map(|h| super::results::show(s.get(*h)))
                    .collect()
            })
            .collect();
        out.push_str(&format!("\n{}", table(&head, &rows)));
    }
    out.push_str(&format!(
        "\ntrace {}\nwindow hash {}\ncarry of {} bytes",
        e.trace,
        e.window_hash,
        e.carry.0.len()
    ));
    out
}

/// The input of `f` that the arguments describe, and names for its sensors.
fn recorded(args: &RunArgs) -> Outcome<(Vec<u8>, Vec<String>)> {
    let bytes = read(&args.window)?;
    let carry = args
        .carry
        .as_deref()
        .map(read)
        .transpose()?
        .unwrap_or_default();
    let text = || {
        String::from_utf8(bytes.clone())
            .context(format_args!("{} is no text", args.window.display()))
    };
    let fail = |e: String| Failure::new(FAILED, format_args!("{}: {e}", args.window.display()));
    let extension = args.window.extension().and_then(|e| e.to_str());
    match extension {
        Some("csv") => {
            let (window, names) = from_csv(&text()?, args.t, args.from, args.to).map_err(fail)?;
            Ok((window.input(&carry), names))
        }
        Some("json") => {
            let recorded: RecordedWindow =
                serde_json::from_str(&text()?).context(args.window.display())?;
            Ok((recorded.window().map_err(fail)?.input(&carry), Vec::new()))
        }
        _ if args.input => Ok((bytes, Vec::new())),
        _ => {
            let window = Window::decode(&bytes, diversity_exec::INPUT_BYTES_MAX)
                .context(args.window.display())?;
            Ok((window.input(&carry), Vec::new()))
        }
    }
}

/// The window in the input of `f`.
pub fn split_input(input: &[u8]) -> Outcome<Window> {
    let max = diversity_exec::INPUT_BYTES_MAX;
    let mut reader = Reader::new(input);
    reader.bytes(max, "carry").context("the input of f")?;
    Window::decode(reader.rest(), max).context("the input of f")
}

/// The word for a kind of output.
pub fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Value => "value",
        Kind::Trap => "trap",
        Kind::Abstain(_) => "abstain",
    }
}

fn decoded(fields: &[FieldJson], bytes: &[u8], value: bool) -> Outcome<Map<String, Value>> {
    if fields.is_empty() || !value {
        return Ok(Map::new());
    }
    let fields: Vec<Field> = fields.iter().map(Into::into).collect();
    decode_packed(&fields, bytes).context("the result")
}

fn details(
    args: &RunArgs,
    ran: &Ran,
    window: &Window,
    labels: &[String],
) -> Outcome<Vec<Map<String, Value>>> {
    let one = |(i, (leaf, detail)): (usize, (&diversity_proto::window::Leaf, &Vec<u8>))| {
        let mut out = Map::new();
        out.insert("sensor".into(), leaf.sensor.hex().into());
        if let Some(label) = labels.get(i) {
            out.insert("label".into(), label.clone().into());
        }
        if args.detail.is_empty() {
            out.insert("detail".into(), hexed::encode(detail).into());
        } else {
            out.append(
                &mut decoded(&args.detail, detail, true).map_err(|e| e.during("the detail"))?,
            );
        }
        Ok(out)
    };
    window
        .leaves
        .iter()
        .zip(&ran.detail)
        .enumerate()
        .map(one)
        .collect()
}
