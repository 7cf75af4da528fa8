//! `diversity agreement draft`: terms from the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use diversity_client::Api;
use diversity_client::api::{NodeView, SensorView};
use diversity_client::draft::Draft;
use diversity_client::terms_json::{
    FieldJson, LeaderJson, ProtocolJson, QosJson, SensorStartJson, TermsJson, TrustedNodeJson,
    WindowJson,
};
use diversity_proto::domain::sha256_raw;
use diversity_proto::{Digest, NodeId, UserId, time};
use serde::Serialize;

use super::locate::{At, address};
use super::output::{Context, FAILED, Failure, Outcome, Output, counted, day};

/// The terms.
#[derive(clap::Args)]
pub struct DraftArgs {
    /// Title for people.
    #[arg(long)]
    title: String,
    /// The module: a file, or the SHA-256 of one.
    #[arg(long, value_name = "FILE|SHA256")]
    code: String,
    /// A sensor and, after a colon, the q at which its first window starts. [default q: 0]
    #[arg(long = "sensor", value_name = "ID[:Q0]", value_parser = sensor_start)]
    sensors: Vec<SensorStartJson>,
    /// All registered sensors of this type that belong to the users of the agreement, ordered by label; those of others by --sensor.
    #[arg(long, value_name = "TYPE")]
    sensor_type: Option<String>,
    /// A node by name or id. [default on a devnet: those of its users] Each is trusted by its owner.
    #[arg(long = "member", value_name = "NAME|ID")]
    members: Vec<String>,
    /// month:YYYY-MM, days:YYYY-MM-DD, seconds:START:LENGTH or count:Z:SLIDE.
    #[arg(long, value_parser = window)]
    window: WindowJson,
    /// Fields of the result, NAME:TYPE in ABI types.
    #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = field)]
    result: Vec<FieldJson>,
    /// Fields of each sensor's detail.
    #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = field)]
    detail: Vec<FieldJson>,
    /// A message further than this ahead of a node's clock closes nothing yet, seconds.
    #[arg(long, value_name = "S", default_value_t = 300)]
    future_tolerance_s: u32,
    /// How long past its end a window waits for a message of each sensor before a record of what all nodes hold ends it,
    /// seconds; of count windows: from the close of the one before. Messages of the time after the window count as its end
    /// only within this grace, so old data without a message right after each window wants a long one.
    /// [default: 86400 for time windows, 2592000 (30 days) for count windows]
    #[arg(long, value_name = "S")]
    grace_s: Option<u32>,
    /// How long a node that cannot run f on a window within its own limits tries again before it says so in the round (that
    /// makes a hole), milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    abstain_ms: u32,
    /// Who leads: rotating, or the index of a node.
    #[arg(long, default_value = "rotating", value_parser = leader)]
    leader: LeaderJson,
    /// How long a reveal waits for the next commit to travel with it, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    flush_ms: u32,
    /// First round timeout, milliseconds; doubles with each take-over.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    round_timeout_ms: u32,
    /// Largest round timeout, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    round_timeout_max_ms: u32,
    /// Outcomes that may settle in one transaction.
    #[arg(long, value_name = "K", default_value_t = 1)]
    batch: u16,
    /// What is kept of window data.
    #[arg(long, value_enum, default_value_t = Storage::OffChain)]
    qos: Storage,
    /// The draft file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    at: At,
}

/// Storage policy on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub enum Storage {
    /// Kept by the nodes.
    OffChain,
}

fn sensor_start(text: &str) -> Result<SensorStartJson, String> {
    let (id, q0) = text.split_once(':').unwrap_or((text, "0"));
    let q0 = q0
        .parse()
        .map_err(|_| format!("{q0} is no sequence number"))?;
    Ok(SensorStartJson {
        sensor: address(id)?.into(),
        q0,
    })
}

/// `NAME:TYPE` in ABI types.
pub fn field(text: &str) -> Result<FieldJson, String> {
    let (name, ty) = text
        .split_once(':')
        .ok_or("a field is NAME:TYPE, such as trips:uint32")?;
    Ok(FieldJson {
        name: name.into(),
        ty: ty.into(),
    })
}

fn leader(text: &str) -> Result<LeaderJson, String> {
    match text.parse() {
        Ok(index) => Ok(LeaderJson::Fixed { index }),
        Err(_) if text == "rotating" => Ok(LeaderJson::Rotating),
        Err(_) => Err("the leader is `rotating` or the index of a node".into()),
    }
}

fn window(text: &str) -> Result<WindowJson, String> {
    const FORMS: &str =
        "a window is month:YYYY-MM, days:YYYY-MM-DD, seconds:START:LENGTH or count:Z:SLIDE";
    let number = |s: &str| {
        s.parse::<u64>()
            .map_err(|_| format!("{s} is no number; {FORMS}"))
    };
    let month = |year: &str, month: &str| -> Result<u64, String> {
        let (year, month) = (number(year)?, number(month)?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return Err(format!("there is no month {month} of {year}; {FORMS}"));
        }
        Ok(time::month_start(year, month))
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["month", date] => match date.split('-').collect::<Vec<_>>()[..] {
            [y, m] => Ok(WindowJson::Month {
                start: month(y, m)?,
            }),
            _ => Err(FORMS.into()),
        },
        ["days", date] => match date.split('-').collect::<Vec<_>>()[..] {
            [y, m, d] => {
                let first = month(y, m)?;
                let start = first + (number(d)?.saturating_sub(1)) * time::DAY;
                if number(d)? == 0 || start >= time::month_start_after(first, 1) {
                    return Err(format!("there is no day {date}; {FORMS}"));
                }
                Ok(WindowJson::Seconds {
                    start,
                    seconds: time::DAY,
                })
            }
            _ => Err(FORMS.into()),
        },
        ["seconds", start, length] => Ok(WindowJson::Seconds {
            start: number(start)?,
            seconds: number(length)?,
        }),
        ["count", z, slide] => {
            let small = |s: &str| {
                u32::try_from(number(s)?).map_err(|_| format!("{s} is too many; {FORMS}"))
            };
            Ok(WindowJson::Count {
                z: small(z)?,
                slide: small(slide)?,
            })
        }
        _ => Err(FORMS.into()),
    }
}

/// The grace of an agreement whose draft does not say: a day, and for count windows, which have no end in time, a month.
fn grace(window: &WindowJson) -> u32 {
    match window {
        WindowJson::Count { .. } => 30 * 86_400,
        WindowJson::Month { .. } | WindowJson::Seconds { .. } => 86_400,
    }
}

/// Registered nodes that an error lists.
const NODES_SHOWN: usize = 20;

/// Writes the draft file.
pub async fn draft(args: DraftArgs, output: Output) -> Outcome {
    let api = args.at.api().await?;
    let deployment = api.info().await?.deployment.into();
    let devnet = args.at.devnet()?;
    let known = devnet.map(|d| d.users.iter().map(|u| u.address).collect());
    let mut nodes = members(&api, &args.members, known).await?;
    nodes.sort_by_key(|n| n.node);
    let mut users: Vec<UserId> = nodes.iter().map(|n| n.owner).collect();
    users.sort_unstable();
    users.dedup();
    let sensors = sensors(&api, args.sensors, args.sensor_type, &users).await?;
    let terms = TermsJson {
        title: args.title,
        users,
        nodes: nodes
            .iter()
            .map(|n| TrustedNodeJson {
                node: n.node,
                trusted_by: n.owner,
            })
            .collect(),
        sensors,
        off_chain_code: code(&args.code)?,
        window: args.window,
        future_tolerance_s: args.future_tolerance_s,
        grace_s: args.grace_s.unwrap_or_else(|| grace(&args.window)),
        protocol: ProtocolJson::Fast,
        leader: args.leader,
        flush_ms: args.flush_ms,
        round_timeout_ms: args.round_timeout_ms,
        round_timeout_max_ms: args.round_timeout_max_ms,
        batch: args.batch,
        qos: match args.qos {
            Storage::OffChain => QosJson::OffChain,
        },
        result: args.result,
        detail: args.detail,
        abstain_ms: args.abstain_ms,
    };
    let keys = nodes.iter().map(|n| n.public_key).collect();
    let mut named: BTreeSet<_> = terms.sensors.iter().map(|s| s.sensor).collect();
    let mut draft = Draft::new(deployment, terms, keys).context("these terms are no agreement")?;
    let listed = api.sensors().await?.into_iter();
    let mut owners: Vec<_> = listed
        .filter(|s| named.remove(&s.sensor))
        .map(|s| s.owner)
        .collect();
    // Those that the node holds no more of for all that strangers register are found when they are asked for.
    for sensor in &named {
        owners.push(api.sensor(sensor).await?.owner);
    }
    draft.name_owners(owners);
    draft.write(&args.out).context("cannot keep the draft")?;
    output.say(format_args!(
        "{}\nEach user signs {}: diversity agreement sign",
        words(&draft.terms),
        args.out.display()
    ));
    for owner in &draft.owners {
        output.say(format_args!(
            "{owner} owns sensors of it and is no user of it, and must grant it: diversity agreement grant"
        ));
    }
    output.item(
        &Drafted {
            agreement: draft.agreement.hex(),
            draft: args.out,
        },
        |d| d.agreement.clone(),
    )
}

#[derive(Serialize)]
struct Drafted {
    agreement: String,
    draft: PathBuf,
}

/// The nodes of these names or ids. Anybody registers nodes, under any name: where there is no devnet whose users are `known`, they are
/// named, and a name that is not one's own is told apart by its id.
async fn members(
    api: &Api,
    named: &[String],
    known: Option<BTreeSet<UserId>>,
) -> Outcome<Vec<NodeView>> {
    let ids: Option<Vec<_>> = named.iter().map(|name| NodeId::from_hex(name)).collect();
    if let Some(ids) = ids.filter(|ids| !ids.is_empty()) {
        // One by one: strangers may have registered any number, and have pushed some of these out of the list.
        let asked = ids.iter().map(|id| api.node(id));
        return Ok(futures::future::try_join_all(asked).await?);
    }
    let mut all = api.nodes().await?;
    let ours = |n: &NodeView| known.as_ref().is_some_and(|users| users.contains(&n.owner));
    if named.is_empty() && known.is_some() {
        all.retain(ours);
        return Ok(all);
    }
    if named.is_empty() {
        let listed = all.iter().take(NODES_SHOWN);
        let listed = listed.map(|n| format!("\n  {} {:?}, of {}", n.node, n.name, n.owner));
        return Err(Failure::usage(format_args!(
            "which nodes? Give --member NAME|ID for each. Registered are (by anybody, under any name):{}",
            listed.collect::<String>()
        )));
    }
    let find = |name: &String| {
        let id = NodeId::from_hex(name);
        let called = |n: &&NodeView| n.name == *name || Some(n.node) == id;
        let all_called: Vec<_> = all.iter().filter(called).collect();
        let ours: Vec<_> = all_called.iter().filter(|n| ours(n)).copied().collect();
        match (&ours[..], &all_called[..]) {
            ([one], _) | (_, [one]) => Ok((*one).clone()),
            (_, []) => Err(Failure::new(
                FAILED,
                format_args!("no registered node is called {name}"),
            )),
            _ => Err(Failure::new(
                FAILED,
                format_args!("several nodes are called {name}: give the id"),
            )),
        }
    };
    named.iter().map(find).collect()
}

async fn sensors(
    api: &Api,
    mut listed: Vec<SensorStartJson>,
    of_type: Option<String>,
    users: &[UserId],
) -> Outcome<Vec<SensorStartJson>> {
    if let Some(ty) = of_type {
        let mut found: Vec<SensorView> = api
            .sensors()
            .await?
            .into_iter()
            // Anybody registers sensors of any type.
            .filter(|s| s.sensor_type == ty && users.contains(&s.owner))
            .collect();
        found.sort_by(|a, b| (&a.label, a.sensor).cmp(&(&b.label, b.sensor)));
        found.retain(|s| !listed.iter().any(|l| l.sensor == s.sensor));
        listed.extend(found.iter().map(|s| SensorStartJson {
            sensor: s.sensor,
            q0: s.next_q,
        }));
    }
    if listed.is_empty() {
        return Err(Failure::usage(
            "which sensors? Give --sensor ID (once each), or --sensor-type TYPE of which the users of the agreement have registered some",
        ));
    }
    Ok(listed)
}

fn code(text: &str) -> Outcome<Digest> {
    let path = Path::new(text);
    if path.exists() {
        let module = std::fs::read(path).context(path.display())?;
        if !module.starts_with(b"\0asm") {
            return Err(Failure::usage(format_args!(
                "{text} is no WebAssembly module: see diversity code check {text}"
            )));
        }
        return Ok(Digest(sha256_raw(&module)));
    }
    Digest::from_hex(text).ok_or_else(|| {
        Failure::usage(format_args!(
            "{text} is neither a file nor the SHA-256 of a module"
        ))
    })
}

/// The terms as a person reads them before signing.
pub fn words(t: &TermsJson) -> String {
    let window = match t.window {
        WindowJson::Month { start } => format!("UTC calendar months from {}", day(start)),
        WindowJson::Seconds { start, seconds } => {
            format!("spans of {seconds} s from {start} ({})", day(start))
        }
        WindowJson::Count { z, slide } => {
            format!("{z} messages of each sensor, sliding by {slide}")
        }
    };
    let fields = |all: &[FieldJson]| match all {
        [] => "nothing".to_owned(),
        some => some
            .iter()
            .map(|f| format!("{} {}", f.ty, f.name))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let nodes: Vec<_> = t
        .nodes
        .iter()
        .map(|n| format!("{} (trusted by {})", n.node, n.trusted_by))
        .collect();
    format!(
        "{:?} between {} and {} over {}\n  code (SHA-256): {}\n  windows: {window}; {} s of grace for what is missing\n  result: {}\n  detail of each sensor: {}\n  users: {}\n  nodes: {}",
        t.title,
        counted(t.users.len(), "user"),
        counted(t.nodes.len(), "node"),
        counted(t.sensors.len(), "sensor"),
        t.off_chain_code,
        t.grace_s,
        fields(&t.result),
        fields(&t.detail),
        t.users
            .iter()
            .map(UserId::hex)
            .collect::<Vec<_>>()
            .join(", "),
        nodes.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_in_words() {
        assert_eq!(
            window("month:2015-10"),
            Ok(WindowJson::Month {
                start: 1_443_657_600
            })
        );
        assert_eq!(
            window("days:2015-10-02"),
            Ok(WindowJson::Seconds {
                start: 1_443_657_600 + 86_400,
                seconds: 86_400
            })
        );
        assert_eq!(
            window("count:10:5"),
            Ok(WindowJson::Count { z: 10, slide: 5 })
        );
        assert_eq!(
            window("seconds:60:30"),
            Ok(WindowJson::Seconds {
                start: 60,
                seconds: 30
            })
        );
        for bad in [
            "month:2015-13",
            "month:2015",
            "days:2015-02-29",
            "days:2015-02-00",
            "count:1",
            "count:-1:1",
            "week:1",
        ] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }
}
