// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";

/// @title What counts at an execution whose first reading ended as a hole
/// @notice One cell for each (agreement, t), written once, and only behind the door: t must lie before the next t of the
/// agreement. Cells are not folded into the head and change nothing that has settled: who pays a cell looks first
/// whether its own fold of the head saw a hole at t. All signatures are those of MainContract's domain.
interface ICells {
    /// @notice Who wrote a cell.
    enum Writer {
        None,
        /// All nodes, in a second reading of t under a marked epoch.
        SecondReading,
        /// All users, by a resolution.
        Users,
        /// Kept for later: nothing writes in their names yet.
        Referee,
        Arbiter
    }

    /// @notice A cell was written. For `writer` 1, a second reading: `context` is that of the outcome, and `state`, `carry`
    /// and `qNext` are empty (the context covers them). For 2, the users: `context` is zero, `word` has epoch 0 and
    /// from = t, and `carry` and `qNext` hash to `state`.
    event CellWritten(
        bytes32 indexed agreement,
        uint64 indexed t,
        uint8 writer,
        uint256 word,
        bytes32 context,
        bytes32 state,
        bytes result,
        bytes carry,
        uint64[] qNext
    );

    /// The first reading of t has not ended on chain yet.
    error NotBehindTheDoor(uint64 t, uint64 nextT);
    error CellTaken(bytes32 agreement, uint64 t, Writer writer);
    /// A second reading is numbered, from 1 on, in the upper half of its epoch.
    error EpochNotMarked(uint32 epoch);
    /// A second reading speaks of one t.
    error FromIsNotT(uint64 from, uint64 t);

    /// @notice All users say what counts at a t that is behind. Arguments and signatures as `IMainContract.resolve`.
    function resolve(
        IMainContract.Resolution calldata resolution,
        bytes calldata carry,
        uint64[] calldata qNext,
        bytes32 sensors,
        IMainContract.Opening calldata opening,
        address[] calldata users,
        IMainContract.Signature[] calldata userSignatures
    ) external;

    /// @notice All nodes say, in one aggregated signature, what a second reading of t gave.
    /// @param certificate As for `IMainContract.settle`, over the outcome digest of word, context and result.
    /// @param word Kind (0 null, 1 value, 2 trap), a marked epoch, from = t, and t; the upper 11 bytes are zero.
    function settleReading(
        IMainContract.Certificate calldata certificate,
        uint256 word,
        bytes32 context,
        bytes calldata result
    ) external;

    /// @notice What a cell holds; the writer is `None` (0) if it is empty. `digest` covers all of it: for a second reading
    /// the outcome digest that the nodes signed; for the users
    /// keccak(tag(RESOLUTION) || deployment || agreement || word || struct hash of the resolution).
    function cell(bytes32 agreement, uint64 t) external view returns (Writer writer, uint256 word, bytes32 digest);

    /// @notice Where the agreements are.
    function main() external view returns (IMainContract);
}
