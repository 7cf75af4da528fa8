//! Recorded windows as people write them: CSV and JSON, for `diversity code run`.
//!
//! CSV (RFC 4180): a header `sensor,time,NAME:TYPE,...` and a message a line, in order of q for each sensor; the sensor is any text,
//! quoted where it has a comma.
//! JSON: [`RecordedWindow`].

use std::collections::HashMap;

use diversity_client::csv;
use diversity_client::hexed::{self, Bytes};
use diversity_proto::SensorId;
use diversity_proto::frame::{Message, TIME_MAX, Variable, VariableType, values_comply};
use diversity_proto::window::{Leaf, Window, WindowEnd};
use serde::Deserialize;

use super::register::variable;

/// A window in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedWindow {
    /// Execution.
    #[serde(default)]
    t: u64,
    /// T0 in Unix seconds.
    #[serde(default)]
    from: u64,
    /// T1 in Unix seconds.
    #[serde(default)]
    to: u64,
    /// One per sensor, in agreement order.
    leaves: Vec<RecordedLeaf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedLeaf {
    #[serde(with = "hexed")]
    sensor: SensorId,
    #[serde(default)]
    first_q: u64,
    messages: Vec<RecordedMessage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedMessage {
    time: u64,
    values: Bytes,
}

impl RecordedWindow {
    /// The window that `f` is given.
    pub fn window(&self) -> Result<Window, String> {
        let leaf = |l: &RecordedLeaf| {
            let width = l.messages.first().map_or(0, |m| m.values.0.len());
            let right = |m: &RecordedMessage| m.values.0.len() == width && m.time < TIME_MAX;
            let width = u8::try_from(width)
                .ok()
                .filter(|_| l.messages.iter().all(right))
                .ok_or_else(|| format!("sensor {}: all messages need values of one width (at most 255 bytes) and a time below 2^48", l.sensor))?;
            let messages = l.messages.iter().map(|m| Message {
                time: m.time,
                values: &m.values.0,
            });
            Ok(Leaf::new(
                l.sensor,
                l.first_q,
                WindowEnd::Message,
                width,
                messages,
            ))
        };
        let leaves = self
            .leaves
            .iter()
            .map(leaf)
            .collect::<Result<_, String>>()?;
        Ok(Window {
            t: self.t,
            from: self.from,
            to: self.to,
            leaves,
        })
    }
}

/// A window from CSV, with the sensors' names in agreement order (that of first mention).
pub fn from_csv(text: &str, t: u64, from: u64, to: u64) -> Result<(Window, Vec<String>), String> {
    // Some editors put a byte order mark in front.
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let (first, head) = lines
        .next()
        .ok_or("the file is empty: it needs a header line")?;
    let head = csv::row(head).map_err(|e| format!("line {}: {e}", first + 1))?;
    let mut columns = head.iter().map(|column| column.trim());
    if (columns.next(), columns.next()) != (Some("sensor"), Some("time")) {
        return Err(
            "line 1: the header must be sensor,time,NAME:TYPE,... such as sensor,time,state:bool"
                .into(),
        );
    }
    let variables: Vec<Variable> = columns
        .map(variable)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("line 1: {e}"))?;
    let width = diversity_proto::frame::width(&variables).map_err(|e| format!("line 1: {e}"))?;
    let mut names: Vec<String> = Vec::new();
    let mut index = HashMap::new();
    let mut traces: Vec<Vec<(u64, Vec<u8>)>> = Vec::new();
    for (i, line) in lines {
        let at = |e: String| format!("line {}: {e}", i + 1);
        let row = csv::row(line).map_err(|e| at(e.to_string()))?;
        let cells: Vec<&str> = row.iter().map(|cell| cell.trim()).collect();
        if cells.len() != variables.len() + 2 {
            return Err(at(format!(
                "{} columns where the header has {}",
                cells.len(),
                variables.len() + 2
            )));
        }
        let time = cells[1].parse().ok().filter(|t| *t < TIME_MAX);
        let time = time.ok_or_else(|| {
            at(format!(
                "{:?} is no time (Unix seconds below 2^48)",
                cells[1]
            ))
        })?;
        let mut values = Vec::with_capacity(width.into());
        for (v, cell) in variables.iter().zip(&cells[2..]) {
            value(v.ty, cell, &mut values)
                .ok_or_else(|| at(format!("{cell:?} is no {} for {}", v.ty.name(), v.name)))?;
        }
        debug_assert!(values_comply(&variables, &values));
        let sensor = *index.entry(cells[0].to_owned()).or_insert_with(|| {
            names.push(cells[0].to_owned());
            traces.push(Vec::new());
            traces.len() - 1
        });
        traces[sensor].push((time, values));
    }
    let leaves = names.iter().zip(&traces).map(|(name, trace)| {
        let messages = trace.iter().map(|(time, values)| Message {
            time: *time,
            values,
        });
        Leaf::new(made_up_id(name), 0, WindowEnd::Message, width, messages)
    });
    Ok((
        Window {
            t,
            from,
            to,
            leaves: leaves.collect(),
        },
        names,
    ))
}

/// An id for a sensor that only has a name: its own if it is an address, else from the hash of the name.
fn made_up_id(name: &str) -> SensorId {
    SensorId::from_hex(name).unwrap_or_else(|| {
        let hash = diversity_keys::keccak256(name.as_bytes());
        SensorId(*hash.last_chunk().expect("32 bytes have 20"))
    })
}

/// Appends a value in its big-endian form.
fn value(ty: VariableType, cell: &str, out: &mut Vec<u8>) -> Option<()> {
    match ty {
        VariableType::Bool => out.push(match cell {
            "0" | "false" => 0,
            "1" | "true" => 1,
            _ => return None,
        }),
        VariableType::Bytes32 => {
            out.extend(hexed::decode(cell).filter(|b| b.len() == 32)?);
        }
        VariableType::U8 | VariableType::U16 | VariableType::U32 | VariableType::U64 => {
            let bytes = cell.parse::<u64>().ok()?.to_be_bytes();
            let (high, low) = bytes.split_at(8 - ty.width());
            out.extend(high.iter().all(|b| *b == 0).then_some(low)?);
        }
        VariableType::I8 | VariableType::I16 | VariableType::I32 | VariableType::I64 => {
            let v = cell.parse::<i64>().ok()?;
            let bits = 8 * ty.width() as u32 - 1;
            if bits < 63 && !(-(1i64 << bits)..1i64 << bits).contains(&v) {
                return None;
            }
            out.extend(&v.to_be_bytes()[8 - ty.width()..]);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_becomes_a_window_in_order_of_first_mention() {
        let csv = "sensor,time,state:bool,heat:i16\nb,10,1,-2\na,11,0,300\nb,9,false,-32768\n";
        let (window, names) = from_csv(csv, 3, 5, 20).expect("good");
        assert_eq!(names, ["b", "a"]);
        assert_eq!((window.t, window.from, window.to), (3, 5, 20));
        let b = &window.leaves[0];
        assert_eq!((b.count, b.width), (2, 3));
        let messages: Vec<_> = diversity_proto::frame::read_body(&b.body, 3)
            .map(|m| m.expect("good"))
            .map(|m| (m.time, m.values.to_vec()))
            .collect();
        assert_eq!(messages, [(10, vec![1, 0xff, 0xfe]), (9, vec![0, 0x80, 0])]);
    }

    #[test]
    fn cells_may_be_quoted_as_rfc_4180_says() {
        let plain = "sensor,time,state:bool,heat:i16\nlock 1,10,1,-2\n";
        let quoted =
            "\u{feff}\"sensor\",\"time\",\"state:bool\",heat:i16\r\n\"lock 1\",\"10\",1,\"-2\"\r\n";
        assert_eq!(
            from_csv(quoted, 0, 0, 20).expect("good"),
            from_csv(plain, 0, 0, 20).expect("good")
        );
        let odd = "sensor,time,state:bool\n\"lock \"\"1\"\", left\",10,1\n";
        let (_, names) = from_csv(odd, 0, 0, 20).expect("good");
        assert_eq!(names, ["lock \"1\", left"]);
        for line in ["\"a,10,1", "a\"b,10,1", "\"a\"b,10,1", "a,10,\"1"] {
            let file = format!("sensor,time,state:bool\n{line}\n");
            let error = from_csv(&file, 0, 0, 20).expect_err(line);
            assert!(
                error.starts_with("line 2: ") && error.contains("quote"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let head = "sensor,time,state:bool,n:u8,i:i8\n";
        for (line, what) in [
            ("a,1,1,256,0", "line 2: \"256\" is no u8 for n"),
            ("a,1,2,0,0", "line 2: \"2\" is no bool"),
            ("a,1,1,0,-129", "line 2: \"-129\" is no i8"),
            ("a,x,1,0,0", "line 2: \"x\" is no time"),
            ("a,1,1,0", "line 2: 4 columns"),
        ] {
            let error = from_csv(&format!("{head}{line}\n"), 0, 0, 0).expect_err(line);
            assert!(error.starts_with(what), "{error}");
        }
        assert!(
            from_csv("bike,start\n", 0, 0, 0)
                .expect_err("header")
                .contains("header must be")
        );
    }

    #[test]
    fn json_gives_the_same_window() {
        let json = r#"{"t":3,"from":5,"to":20,"leaves":[{"sensor":"0x0000000000000000000000000000000000000001","messages":[{"time":10,"values":"0x01"}]}]}"#;
        let recorded: RecordedWindow = serde_json::from_str(json).expect("json");
        let csv = "sensor,time,state:bool\n0x0000000000000000000000000000000000000001,10,1\n";
        assert_eq!(
            recorded.window().expect("good"),
            from_csv(csv, 3, 5, 20).expect("good").0
        );
    }
}
