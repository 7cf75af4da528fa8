//! The bounds of the contracts are those of the readers: what one side takes, the other does too.

use diversity_proto::{entity, frame, round, terms};

/// Each constant of `contracts/src/lib/Bounds.sol`, and what the crates hold it to be.
fn readers() -> Vec<(&'static str, u128)> {
    let sizes = [
        ("NAME_BYTES_MAX", entity::NAME_BYTES_MAX),
        ("DECLARATION_BYTES_MAX", entity::DECLARATION_BYTES_MAX),
        ("USERS_MAX", terms::USERS_MAX),
        ("NODES_MAX", terms::NODES_MAX),
        ("SENSORS_MAX", terms::SENSORS_MAX),
        ("TERMS_BYTES_MAX", terms::TERMS_BYTES_MAX),
        ("RESULT_BYTES_MAX", round::RESULT_BYTES_MAX),
        ("CARRY_BYTES_MAX", round::CARRY_BYTES_MAX),
        ("HOLES_MAX", round::HOLES_MAX),
        ("BATCH_RANGE_MAX", terms::BATCH_RANGE_MAX),
        ("EVIDENCE_BYTES_MAX", round::EVIDENCE_BYTES_MAX),
        ("FRAME_MESSAGES_MAX", frame::FRAME_MESSAGES_MAX),
        ("FRAME_BODY_BYTES_MAX", frame::FRAME_BODY_BYTES_MAX),
    ];
    let limits = [
        ("T_MAX", round::T_MAX),
        ("Q_MAX", frame::Q_MAX),
        ("TIME_MAX", frame::TIME_MAX),
    ];
    let sizes = sizes.into_iter().map(|(name, n)| (name, n as u128));
    let limits = limits.into_iter().map(|(name, n)| (name, u128::from(n)));
    sizes.chain(limits).collect()
}

/// Name and value of each constant in the contract's source.
fn writers() -> Vec<(&'static str, u128)> {
    let source = include_str!("../../../contracts/src/lib/Bounds.sol");
    let constants = source
        .lines()
        .filter_map(|l| l.trim().strip_prefix("uint256 internal constant "));
    constants
        .map(|line| {
            let (name, value) = line.split_once(" = ").expect("a name and a value");
            let digits = value.trim_end_matches(';').replace('_', "");
            (name, digits.parse().expect("a decimal number"))
        })
        .collect()
}

#[test]
fn contracts_take_what_readers_take_and_no_more() {
    assert_eq!(writers(), readers());
}
