//! Bodies, frames, batches of frames and acknowledgements (wire-format §3).

use crate::file::{File, Key};
use diversity_proto::codec::{Writer, zigzag};
use diversity_proto::frame::{Frame, Message, Opening, acknowledgement_digest, write_body};
use diversity_proto::ids::{Deployment, Digest, SensorId, Signature};
use diversity_proto::wire::encode_frames;

struct Case<'a> {
    name: &'a str,
    epoch: u64,
    first_q: u64,
    width: u64,
    opening: Option<(u64, [u8; 32])>,
    messages: Vec<(u64, Vec<u8>)>,
}

fn frame(f: &mut File, d: &Deployment, key: &Key, case: Case<'_>) -> Frame {
    let k = |field: &str| format!("{}_{field}", case.name);
    let times: Vec<_> = case.messages.iter().map(|m| m.0).collect();
    let values: Vec<_> = case.messages.iter().map(|m| m.1.clone()).collect();
    let epoch = f.number(&k("epoch"), case.epoch);
    let first_q = f.number(&k("first_q"), case.first_q);
    let width = f.number(&k("width"), case.width);
    let opening = case.opening.map(|(last_q, last_frame)| Opening {
        last_q: f.number(&k("opening_last_q"), last_q),
        last_frame: Digest(f.array(&k("opening_last_frame"), last_frame)),
    });
    let times = f.numbers(&k("times"), &times);
    let values = f.hexes(&k("values"), &values);
    let messages = times.iter().zip(&values).map(|(time, values)| Message {
        time: *time,
        values,
    });
    let mut body = Writer::new();
    write_body(&mut body, messages);
    let mut frame = Frame {
        sensor: key.id(),
        epoch: epoch.try_into().expect("u32"),
        first_q,
        count: times.len().try_into().expect("u16"),
        lost: 0,
        width: width.try_into().expect("u8"),
        opening,
        body: body.finish(),
        signature: Signature([0; 64]),
    };
    let digest = frame.digest(d);
    frame.signature = key.sign(&digest.0);
    f.gives(&k("body"), &frame.body);
    f.gives(&k("unsigned"), frame.unsigned_bytes());
    f.gives(&k("digest"), digest.0);
    f.gives(&k("signature"), frame.signature.0);
    f.gives(&k("encoding"), frame.encode());
    assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame));
    frame
}

/// A gap record: the sensor says that messages are lost (R7).
fn gap(
    f: &mut File,
    d: &Deployment,
    key: &Key,
    name: &str,
    first_q: u64,
    lost: u64,
    opening: Option<(u64, [u8; 32])>,
) {
    let k = |field: &str| format!("{name}_{field}");
    let mut frame = Frame {
        sensor: key.id(),
        epoch: f.number(&k("epoch"), opening.is_some().into()) as u32,
        first_q: f.number(&k("first_q"), first_q),
        count: 0,
        lost: f.number(&k("lost"), lost) as u32,
        width: 0,
        opening: opening.map(|(last_q, last_frame)| Opening {
            last_q: f.number(&k("opening_last_q"), last_q),
            last_frame: Digest(f.array(&k("opening_last_frame"), last_frame)),
        }),
        body: Vec::new(),
        signature: Signature([0; 64]),
    };
    let digest = frame.digest(d);
    frame.signature = key.sign(&digest.0);
    f.gives(&k("unsigned"), frame.unsigned_bytes());
    f.gives(&k("digest"), digest.0);
    f.gives(&k("signature"), frame.signature.0);
    f.gives(&k("encoding"), frame.encode());
    assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame));
}

fn lock(count: u64, flip: u64) -> Vec<(u64, Vec<u8>)> {
    let at = |i: u64| 1_443_657_600 + 3_600 + i * 6_011;
    let state = |i: u64| i.is_multiple_of(2) ^ (i == flip);
    (0..count)
        .map(|i| (at(i), vec![u8::from(state(i))]))
        .collect()
}

#[test]
fn frames() {
    let mut f = File::open("frames.json");
    let d = f.deployment();
    f.gives("deployment", d.bytes());
    let key = f.key("sensor", 0x11);
    // One message of one bool: what a lock sends.
    let one = Case {
        name: "one",
        epoch: 0,
        first_q: 0,
        width: 1,
        opening: None,
        messages: lock(1, u64::MAX),
    };
    let one = frame(&mut f, &d, &key, one);
    // Twenty messages under one signature.
    let many = Case {
        name: "many",
        epoch: 0,
        first_q: 1,
        width: 1,
        opening: None,
        messages: lock(20, u64::MAX),
    };
    let many = frame(&mut f, &d, &key, many);
    // The same sensor says something else at one q: a contradiction (R5).
    let contradiction = Case {
        name: "contradiction",
        epoch: 0,
        first_q: 1,
        width: 1,
        opening: None,
        messages: lock(20, 7),
    };
    let contradiction = frame(&mut f, &d, &key, contradiction);
    assert_ne!(many.body, contradiction.body);
    // The first frame after a reboot.
    let opening = Case {
        name: "opening",
        epoch: 1,
        first_q: many.next_q(),
        width: 1,
        opening: Some((many.next_q() - 1, many.digest(&d).0)),
        messages: lock(2, u64::MAX),
    };
    frame(&mut f, &d, &key, opening);
    // u64, i16, bytes32 and bool; a clock that jumps back, the first second and the last one.
    let mut wide = vec![0xab; 43];
    wide[42] = 1;
    let mixed = Case {
        name: "mixed",
        epoch: 7,
        first_q: (1 << 62) - 4,
        width: 43,
        opening: None,
        messages: vec![
            ((1 << 48) - 1, wide.clone()),
            (0, wide.clone()),
            (1_500_000_000, wide),
        ],
    };
    frame(&mut f, &d, &key, mixed);

    gap(&mut f, &d, &key, "gap", 5, 3, None);
    let opening = Some((4, many.digest(&d).0));
    gap(&mut f, &d, &key, "gap_opening", 5, u32::MAX.into(), opening);

    let frames = [one.encode(), many.encode()];
    f.gives("batch", encode_frames(frames.iter().map(Vec::as_slice)));

    let node = f.key("node", 0x21);
    let sensors = f.hexes("acknowledged_sensors", &[key.address().0, [0x5e; 20]]);
    let epochs = f.numbers("acknowledged_epochs", &[0, 3]);
    let next = f.numbers("acknowledged_next_q", &[21, 1 << 40]);
    let held: Vec<_> = (0..2)
        .map(|i| {
            let sensor = SensorId::from_hex(&hex(&sensors[i])).expect("an address");
            (sensor, u32::try_from(epochs[i]).expect("u32"), next[i])
        })
        .collect();
    let digest = acknowledgement_digest(&d, &node.id(), &held);
    f.gives("acknowledgement_digest", digest.0);
    f.gives("acknowledgement_signature", node.sign(&digest.0).0);
    f.finish();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn varints() {
    let mut f = File::open("varints.json");
    let edges = [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX];
    let values = f.numbers("values", &edges);
    let encodings: Vec<_> = values
        .iter()
        .map(|v| {
            let mut w = Writer::new();
            w.varint(*v);
            w.finish()
        })
        .collect();
    f.gives_all("encodings", &encodings);
    let signed = f.texts(
        "signed",
        &["0", "-1", "1", "-64", "64", "-9223372036854775808"],
    );
    for (i, text) in signed.iter().enumerate() {
        f.gives_number(&format!("zigzag_{i}"), zigzag(text.parse().expect("i64")));
    }
    f.finish();
}
