// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title What readers take: nothing larger is let in here, so that nothing settles, and nothing is recorded, that no node
/// could read
/// @dev The same constants stand in the Rust crates; a test of `node/chain` reads this file and compares them.
library Bounds {
    /// Bytes of a user's name.
    uint256 internal constant NAME_BYTES_MAX = 64;
    /// Bytes of the declaration of a sensor or node.
    uint256 internal constant DECLARATION_BYTES_MAX = 4_096;
    /// Users of an agreement.
    uint256 internal constant USERS_MAX = 32;
    /// Nodes of an agreement.
    uint256 internal constant NODES_MAX = 100;
    /// Sensors of an agreement.
    uint256 internal constant SENSORS_MAX = 10_000;
    /// Bytes that are published with an agreement.
    uint256 internal constant TERMS_BYTES_MAX = 524_288;
    /// Bytes of a result.
    uint256 internal constant RESULT_BYTES_MAX = 4_096;
    /// Bytes of a carry.
    uint256 internal constant CARRY_BYTES_MAX = 1_048_576;
    /// Holes that an outcome lists.
    uint256 internal constant HOLES_MAX = 256;
    /// Executions that one batch covers.
    uint256 internal constant BATCH_RANGE_MAX = 65_536;
    /// Bytes of a call that brings evidence: a hole of the most nodes with the longest results fits.
    uint256 internal constant EVIDENCE_BYTES_MAX = 1_048_576;
    /// Messages of a frame.
    uint256 internal constant FRAME_MESSAGES_MAX = 1_024;
    /// Bytes of the body of a frame.
    uint256 internal constant FRAME_BODY_BYTES_MAX = 16_384;
    /// Every t lies below it, so that t + 1 fits into 40 bits.
    uint256 internal constant T_MAX = 1_099_511_627_775;
    /// Every q lies below it.
    uint256 internal constant Q_MAX = 4_611_686_018_427_387_904;
    /// Every time of a message, in Unix seconds, lies below it.
    uint256 internal constant TIME_MAX = 281_474_976_710_656;
}
