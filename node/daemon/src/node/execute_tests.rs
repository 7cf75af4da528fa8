use super::*;
use diversity_proto::terms::{Leader, Protocol, Qos, SensorStart, TrustedNode, WindowSpec};
use diversity_proto::{AgreementId, NodeId, SensorId, UserId};

const SENSOR: SensorId = SensorId([1; 20]);

fn terms() -> Terms {
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: ty.into(),
    };
    Terms {
        title: "test".into(),
        users: vec![UserId([1; 20]), UserId([2; 20])],
        nodes: vec![
            TrustedNode {
                node: NodeId([3; 20]),
                trust: 0,
            },
            TrustedNode {
                node: NodeId([4; 20]),
                trust: 1,
            },
        ],
        sensors: vec![SensorStart {
            sensor: SENSOR,
            q0: 0,
        }],
        off_chain_code: Digest::ZERO,
        window: WindowSpec::Count { z: 1, slide: 1 },
        future_tolerance_s: 0,
        grace_s: 1,
        protocol: Protocol::Fast,
        leader: Leader::Rotating,
        flush_ms: 0,
        round_timeout_ms: 100,
        round_timeout_max_ms: 100,
        batch: 1,
        qos: Qos::OffChain,
        result: vec![field("total", "uint64"), field("good", "bool")],
        detail: vec![field("seconds", "uint32")],
        abstain_ms: 0,
    }
}

fn plan() -> ExecutionPlan {
    ExecutionPlan {
        agreement: AgreementId([7; 32]),
        module: Digest::ZERO,
        epoch: 0,
        t: 3,
        from: 0,
        to: 0,
        carry: b"carry".to_vec(),
        leaves: Vec::new(),
        q_next: vec![5],
    }
}

fn output(kind: OutputKind, result: usize, detail: &[usize]) -> RunOutput {
    RunOutput {
        kind,
        result: vec![1; result],
        detail: detail.iter().map(|n| vec![2; *n]).collect(),
        carry: b"next".to_vec(),
        trace: Digest([6; 32]),
    }
}

#[test]
fn an_output_that_does_not_fit_the_terms_is_no_result() {
    use OutputKind::{Abstain as A, Null, Trap, Value};
    for (output, kind) in [
        (output(Value, 9, &[4]), Value),
        (output(Value, 9, &[]), Value),
        (output(Null, 0, &[4]), Null),
        (output(Trap, 0, &[]), Trap),
        (output(A, 1, &[]), A),
        (output(Value, 8, &[4]), Trap),
        (output(Value, 9, &[5]), Trap),
        (output(Value, 9, &[4, 4]), Trap),
        (output(Null, 1, &[]), Trap),
        (output(Trap, 0, &[4]), Trap),
        (output(A, 2, &[]), A),
    ] {
        let shown = format!("{output:?}");
        let done = complete(&terms(), &plan(), Digest([8; 32]), output);
        assert_eq!(done.computed.kind, kind, "{shown}");
        let answered = matches!(kind, Value | Null);
        assert_eq!(
            done.carry,
            if answered { &b"next"[..] } else { b"carry" },
            "{shown}"
        );
        assert_eq!(done.computed.state, state(&done.carry, &[5]));
        if kind == A {
            assert_eq!(
                (done.computed.result.len(), done.computed.detail_root),
                (1, Digest::ZERO)
            );
        }
    }
}
