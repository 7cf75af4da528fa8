//! What sensors sign, and terms.

use super::*;

pub(super) fn declaration(k: u8) -> SensorDeclaration {
    SensorDeclaration {
        public_key: sensor_key(k),
        sensor_type: "x".into(),
        label: "x".into(),
        variables: vec![Variable {
            name: "v".into(),
            ty: VariableType::U8,
        }],
        period: Period::None,
    }
}

/// A signed frame of `(time, value)` from `first_q` on.
pub fn frame(k: u8, first_q: u64, messages: &[(u64, u8)]) -> Frame {
    frame_of_epoch(k, 0, first_q, None, messages)
}
pub fn frame_of_epoch(
    k: u8,
    epoch: u32,
    first_q: u64,
    opening: Option<Opening>,
    messages: &[(u64, u8)],
) -> Frame {
    let values: Vec<[u8; 1]> = messages.iter().map(|m| [m.1]).collect();
    let mut w = Writer::new();
    let of = |(m, v): (&(u64, u8), &'_ [u8; 1])| (m.0, *v);
    let pairs: Vec<(u64, [u8; 1])> = messages.iter().zip(&values).map(of).collect();
    write_body(
        &mut w,
        pairs.iter().map(|(time, values)| Message {
            time: *time,
            values,
        }),
    );
    signed(Frame {
        sensor: sensor(k),
        epoch,
        first_q,
        count: messages.len() as u16,
        lost: 0,
        width: 1,
        opening,
        body: w.finish(),
        signature: Signature([0; 64]),
    })
}
/// A gap record.
pub fn gap(k: u8, first_q: u64, lost: u32) -> Frame {
    signed(Frame {
        sensor: sensor(k),
        epoch: 0,
        first_q,
        count: 0,
        lost,
        width: 0,
        opening: None,
        body: Vec::new(),
        signature: Signature([0; 64]),
    })
}
fn signed(mut f: Frame) -> Frame {
    let key = PublicKey([f.sensor.0[0]; 33]);
    f.signature = sign(&key, &f.digest(&deployment()));
    f
}

/// Terms among n nodes over `(sensor, q_0)`.
pub fn terms(n: usize, sensors: &[(u8, u64)], window: WindowSpec, batch: u16) -> Terms {
    Terms {
        title: "t".into(),
        users: vec![UserId([0x81; 20]), UserId([0x82; 20])],
        nodes: (0..n)
            .map(|i| TrustedNode {
                node: node(i),
                trust: (i % 2) as u8,
            })
            .collect(),
        sensors: sensors
            .iter()
            .map(|(k, q0)| SensorStart {
                sensor: sensor(*k),
                q0: *q0,
            })
            .collect(),
        off_chain_code: Digest([7; 32]),
        window,
        future_tolerance_s: 5,
        grace_s: 86_400,
        protocol: Protocol::Fast,
        leader: Leader::Rotating,
        flush_ms: 0,
        round_timeout_ms: 1_000,
        round_timeout_max_ms: 4_000,
        batch,
        qos: Qos::OffChain,
        result: vec![],
        detail: vec![],
        abstain_ms: 10_000,
    }
}
pub const EACH: WindowSpec = WindowSpec::Count { z: 1, slide: 1 };
/// 100-second windows from 1,000,000 s on: long past when the stage begins.
pub const OLD: WindowSpec = WindowSpec::Seconds {
    start: 1_000_000,
    seconds: 100,
};
