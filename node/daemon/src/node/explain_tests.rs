use super::*;
use diversity_proto::round::Blinding;
use diversity_proto::{Digest, NodeId, Signature};

fn computed(result: &[u8], state: u8) -> Computed {
    Computed {
        kind: OutputKind::Value,
        result: result.to_vec(),
        detail_root: Digest::ZERO,
        state: Digest([state; 32]),
        trace: Digest::ZERO,
        window_hash: Digest::ZERO,
    }
}

fn reveal(result: &[u8], state: u8) -> Reveal {
    Reveal {
        computed: computed(result, state),
        blinding: Blinding {
            secret: [0; 32],
            salt: [0; 32],
        },
        from: 0,
        holes: Vec::new(),
        signature: Signature([0; 64]),
    }
}

fn said(reveals: &[Reveal]) -> (String, bool) {
    let reveals: Vec<_> = (1u8..)
        .map(|i| NodeId([i; 20]))
        .zip(reveals.iter().cloned())
        .collect();
    unequal(&Registry::default(), None, &reveals)
}

#[test]
fn the_largest_group_comes_first_and_a_lone_node_is_named_without_blame() {
    let (text, same) = said(&[reveal(&[2], 1), reveal(&[1], 1), reveal(&[1], 1)]);
    let lone = NodeId([1; 20]).hex();
    assert!(text.starts_with(&NodeId([2; 20]).hex()), "{text}");
    assert!(
        text.contains(&format!("{lone} differs from the majority")) && same,
        "{text}"
    );
    assert!(!text.contains("lie") && !text.contains("blame"), "{text}");
}

#[test]
fn two_against_two_have_no_majority_and_other_states_are_said() {
    let (text, same) = said(&[
        reveal(&[2], 1),
        reveal(&[1], 2),
        reveal(&[1], 2),
        reveal(&[2], 1),
    ]);
    assert!(!text.contains("majority") && !same, "{text}");
    assert!(text.contains("differs in the state after it"), "{text}");
}

#[test]
fn outcomes_have_their_fields_or_their_reason() {
    let fields = [Field {
        name: "total".into(),
        ty: "uint16".into(),
    }];
    assert_eq!(outcome(Some(&fields), &computed(&[1, 0], 0)), "total = 256");
    assert_eq!(outcome(None, &computed(&[1, 0], 0)), "0x0100");
    let abstain = Computed {
        kind: OutputKind::Abstain,
        result: vec![1],
        ..computed(&[], 0)
    };
    assert!(outcome(None, &abstain).contains("more instructions than the node allows"));
}
