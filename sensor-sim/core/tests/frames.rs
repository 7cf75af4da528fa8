//! The core's frames are those of `diversity_proto` and of the golden vectors, and its promises hold when the board fails.

use diversity_proto::frame::{self, Frame};
use diversity_proto::ids::{Address, Deployment, SensorId};
use diversity_proto::{entity, frame::Message};
use diversity_sensor_core::{
    Acknowledged, Board, Body, Counter, FRAME_BODY_BYTES_MAX, FRAME_BYTES_MAX, Identity, Key,
    Period, PushError, SealError, Sensor,
};
use proptest::prelude::*;
use serde_json::Value;

/// A board whose store survives it, and which fails on demand.
struct Flash {
    key: Key,
    counter: Option<Counter>,
    frames: Vec<(u64, Vec<u8>)>,
    fails: bool,
}

impl Flash {
    fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: Key::from_bytes(secret).unwrap(),
            counter: None,
            frames: Vec::new(),
            fails: false,
        }
    }
}

impl Board for &mut Flash {
    type Error = &'static str;
    fn load(&mut self) -> Result<Option<Counter>, Self::Error> {
        Ok(self
            .counter
            .map(|c| Counter::from_bytes(&c.to_bytes()).unwrap()))
    }
    fn commit(&mut self, counter: &Counter, frame: &[u8]) -> Result<(), Self::Error> {
        if self.fails {
            return Err("flash is worn out");
        }
        self.counter = Some(*counter);
        self.frames.push((counter.next_q, frame.to_vec()));
        Ok(())
    }
    fn release(&mut self, next_q: u64) -> Result<(), Self::Error> {
        self.frames.retain(|f| f.0 > next_q);
        Ok(())
    }
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], Self::Error> {
        Ok(self.key.sign(digest))
    }
}

const CONTRACT: [u8; 20] = [0xd1; 20];

fn deployment() -> Deployment {
    Deployment {
        chain_id: 31_337,
        contract: Address(CONTRACT),
    }
}

fn identity(sensor: [u8; 20], width: u8) -> Identity {
    Identity {
        deployment: deployment().bytes(),
        sensor,
        width,
        period: Period::None,
    }
}

struct Vectors(Value);

impl Vectors {
    fn hex(value: &Value) -> Vec<u8> {
        let digits = &value.as_str().unwrap().as_bytes()[2..];
        let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }
    fn bytes(&self, key: &str) -> Vec<u8> {
        Self::hex(&self.0[key])
    }
    fn number(&self, key: &str) -> u64 {
        self.0[key].as_str().unwrap().parse().unwrap()
    }
    fn messages(&self, case: &str) -> Vec<(u64, Vec<u8>)> {
        let times = self.0[format!("{case}_times")].as_array().unwrap();
        let values = self.0[format!("{case}_values")].as_array().unwrap();
        let time = |t: &Value| t.as_str().unwrap().parse().unwrap();
        times
            .iter()
            .map(time)
            .zip(values.iter().map(Self::hex))
            .collect()
    }
}

#[test]
fn frames_are_those_of_the_golden_vectors() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../proto/vectors/frames.json"
    );
    let v = Vectors(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap());
    let secret: [u8; 32] = v.bytes("sensor_secret").try_into().unwrap();
    let key = Key::from_bytes(&secret).unwrap();
    assert_eq!(key.public_key().to_vec(), v.bytes("sensor_public_key"));
    for case in ["one", "many", "contradiction", "opening", "mixed"] {
        let k = |field: &str| format!("{case}_{field}");
        let opens = v.0.get(k("opening_last_q")).is_some();
        let width = u8::try_from(v.number(&k("width"))).unwrap();
        let identity = identity(v.bytes("sensor_address").try_into().unwrap(), width);
        let mut flash = Flash::new(&secret);
        flash.counter = Some(Counter {
            epoch: u32::try_from(v.number(&k("epoch"))).unwrap() - u32::from(opens),
            next_q: v.number(&k("first_q")),
            last_frame: if opens {
                v.bytes(&k("opening_last_frame")).try_into().unwrap()
            } else {
                [0; 32]
            },
        });
        let mut sensor = if opens {
            Sensor::start(&mut flash, identity).unwrap()
        } else {
            Sensor::resume(&mut flash, identity).unwrap()
        };
        let mut body = Body::<1_024>::new(&identity);
        for (time, values) in v.messages(case) {
            body.push(time, &values).unwrap();
        }
        let mut out = [0; 2_048];
        let sealed = sensor.seal(&body, &mut out).unwrap();
        assert_eq!(out[..sealed.len], v.bytes(&k("encoding")), "{case}");
        assert_eq!(sealed.digest.to_vec(), v.bytes(&k("digest")), "{case}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_are_those_of_proto(
        width in 0..33u8,
        times in prop::collection::vec(0..1u64 << 48, 1..30),
        cuts in prop::collection::vec(any::<bool>(), 30),
        reboots in prop::collection::vec(any::<bool>(), 30),
        fill in any::<u8>(),
    ) {
        let identity = identity([5; 20], width);
        let mut flash = Flash::new(&[3; 32]);
        let values = vec![fill; width.into()];
        let (mut q, mut epoch, mut last, mut opens) = (0u64, 0u32, None, false);
        let mut pending = Vec::new();
        for (i, time) in times.iter().enumerate() {
            pending.push(*time);
            if !cuts[i] && i + 1 < times.len() {
                continue;
            }
            let mut body = Body::<2_048>::new(&identity);
            for time in &pending {
                body.push(*time, &values).unwrap();
            }
            let mut sensor = if reboots[i] {
                if q > 0 {
                    epoch += 1;
                    opens = true;
                }
                Sensor::start(&mut flash, identity).unwrap()
            } else {
                Sensor::resume(&mut flash, identity).unwrap()
            };
            let mut out = [0; 4_096];
            let sealed = sensor.seal(&body, &mut out).unwrap();
            let decoded = Frame::decode(&out[..sealed.len]).unwrap();
            let mut w = diversity_proto::Writer::new();
            frame::write_body(&mut w, pending.iter().map(|t| Message { time: *t, values: &values }));
            let expected = Frame {
                sensor: SensorId([5; 20]),
                epoch,
                first_q: q,
                count: pending.len() as u16,
                lost: 0,
                width,
                opening: (opens).then(|| frame::Opening {
                    last_q: q - 1,
                    last_frame: last.unwrap(),
                }),
                body: w.finish(),
                signature: decoded.signature,
            };
            prop_assert_eq!(&decoded, &expected);
            prop_assert_eq!(decoded.digest(&deployment()).0, sealed.digest);
            q += pending.len() as u64;
            prop_assert_eq!(sealed.next_q, q);
            last = Some(decoded.digest(&deployment()));
            opens = false;
            pending.clear();
        }
    }

    #[test]
    fn periods_are_those_of_proto(a in 0..1u64 << 48, b in 0..1u64 << 48, near in 0..5_000_000u64) {
        for other in [b, a.saturating_sub(near), a + near] {
            for (mine, theirs) in [
                (Period::None, entity::Period::None),
                (Period::Day, entity::Period::Day),
                (Period::Month, entity::Period::Month),
            ] {
                prop_assert_eq!(mine.same(a, other), theirs.same(a, other));
            }
        }
    }
}

#[test]
fn a_frame_that_is_not_stored_is_not_given_out_and_its_q_is_used_again() {
    let identity = identity([1; 20], 1);
    let mut flash = Flash::new(&[9; 32]);
    flash.fails = true;
    let mut sensor = Sensor::start(&mut flash, identity).unwrap();
    let mut body = Body::<64>::new(&identity);
    let mut out = [0; 256];
    assert_eq!(sensor.seal(&body, &mut out), Err(SealError::Empty));
    body.push(7, &[1]).unwrap();
    let failed = sensor.seal(&body, &mut out);
    assert_eq!(failed, Err(SealError::Board("flash is worn out")));
    assert_eq!(sensor.counter().next_q, 0);
    sensor.board().fails = false;
    let short = sensor.seal(&body, &mut out[..100]);
    assert_eq!(
        short,
        Err(SealError::Output {
            needed: 37 + 4 + 2 + 64
        })
    );
    assert_eq!(sensor.seal(&body, &mut out).unwrap().first_q, 0);
}

#[test]
fn a_boot_that_signs_nothing_leaves_no_trace() {
    let identity = identity([1; 20], 1);
    let mut flash = Flash::new(&[9; 32]);
    let mut body = Body::<64>::new(&identity);
    body.push(7, &[1]).unwrap();
    let mut out = [0; 256];
    for _ in 0..3 {
        assert_eq!(
            Sensor::start(&mut flash, identity).unwrap().counter().epoch,
            0
        );
    }
    let first = Sensor::start(&mut flash, identity)
        .unwrap()
        .seal(&body, &mut out)
        .unwrap();
    for _ in 0..3 {
        assert_eq!(
            Sensor::start(&mut flash, identity).unwrap().counter().epoch,
            1
        );
    }
    let mut sensor = Sensor::start(&mut flash, identity).unwrap();
    let sealed = sensor.seal(&body, &mut out).unwrap();
    let frame = Frame::decode(&out[..sealed.len]).unwrap();
    assert_eq!(frame.opening.unwrap().last_frame.0, first.digest);
    // The next frame of the epoch has no opening.
    let sealed = sensor.seal(&body, &mut out).unwrap();
    assert_eq!(Frame::decode(&out[..sealed.len]).unwrap().opening, None);
}

#[test]
fn bodies_end_at_their_bounds() {
    let mut id = identity([1; 20], 1);
    let mut body = Body::<16>::new(&id);
    assert_eq!(body.push(0, &[1, 2]), Err(PushError::Width));
    assert_eq!(body.push(1 << 48, &[1]), Err(PushError::Time));
    let latest = 1_795_834_000;
    for wrong in [0, 946_684_799, latest + 1, 1_459_468_860_000, 2_082_758_400] {
        let refused = body.push_now(wrong, latest, &[1]);
        assert_eq!((refused, body.count()), (Err(PushError::Implausible), 0));
    }
    body.push_now(1_459_468_860, latest, &[1]).unwrap();
    body.clear();
    for _ in 0..8 {
        body.push(0, &[1]).unwrap();
    }
    assert_eq!(body.push(0, &[1]), Err(PushError::Full));
    assert_eq!((body.count(), body.bytes().len()), (8, 16));
    body.clear();
    id.period = Period::Month;
    let mut body = Body::<FRAME_BODY_BYTES_MAX>::new(&id);
    body.push(1_446_335_999, &[1]).unwrap();
    assert_eq!(body.push(1_446_336_000, &[1]), Err(PushError::Period));
    let mut count = 1;
    while body.push(1_446_335_999, &[0]).is_ok() {
        count += 1;
    }
    assert_eq!(count, 1_024);
    let mut flash = Flash::new(&[9; 32]);
    let mut out = [0; FRAME_BYTES_MAX];
    let sealed = Sensor::start(&mut flash, id)
        .unwrap()
        .seal(&body, &mut out)
        .unwrap();
    assert_eq!(Frame::decode(&out[..sealed.len]).unwrap().count, 1_024);
}

#[test]
fn frames_are_kept_until_a_node_of_every_user_holds_them() {
    let identity = identity([1; 20], 1);
    let mut flash = Flash::new(&[9; 32]);
    let mut sensor = Sensor::start(&mut flash, identity).unwrap();
    let mut body = Body::<64>::new(&identity);
    body.push(7, &[1]).unwrap();
    let mut out = [0; 256];
    for _ in 0..4 {
        sensor.seal(&body, &mut out).unwrap();
    }
    let mut held = Acknowledged::<2>::default();
    let all = held.by(0, 4);
    sensor.acknowledged(all).unwrap();
    assert_eq!(sensor.board().frames.len(), 4);
    // An older acknowledgement that arrives late takes nothing back; an unknown user counts for nothing.
    held.by(1, 3);
    held.by(1, 2);
    let all = held.by(7, 9);
    sensor.acknowledged(all).unwrap();
    assert_eq!(sensor.board().frames.len(), 1);
}
