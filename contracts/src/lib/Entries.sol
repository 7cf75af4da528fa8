// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {Bounds} from "./Bounds.sol";

/// @title The entries of a batch (wire-format §7)
library Entries {
    /// Below it, the code is the length of a value; from `NULL` on, there is nothing behind the code.
    uint256 private constant LONG = 240;
    uint256 private constant RUN = 241;
    uint256 private constant NULL = 253;

    /// @notice How many executions the entries speak of. Strict: a cut entry, or a code without meaning, reverts.
    function count(bytes calldata entries) internal pure returns (uint256 n) {
        unchecked {
            uint256 offset;
            assembly ("memory-safe") {
                offset := entries.offset
            }
            uint256 start = offset;
            uint256 end = offset + entries.length;
            while (offset < end) {
                // Nothing but the code decides how far to go; what lies beyond the end is noticed there.
                (uint256 code, uint256 second, uint256 third) = _bytes(offset);
                ++n;
                if (code < LONG) {
                    offset += 1 + code;
                } else if (code >= NULL) {
                    ++offset;
                } else if (code == RUN && third < LONG) {
                    n += second;
                    offset += 3 + (second + 1) * third;
                } else if (code == LONG) {
                    // Its one encoding, and no longer than readers take.
                    uint256 size = (second << 8) + third;
                    if (size < LONG || size > Bounds.RESULT_BYTES_MAX) {
                        revert IMainContract.EntriesMalformed(offset - start);
                    }
                    offset += 3 + size;
                } else {
                    revert IMainContract.EntriesMalformed(offset - start);
                }
            }
            if (offset != end) revert IMainContract.EntriesMalformed(entries.length);
        }
    }

    /// The three bytes at an offset in calldata (zero beyond its end).
    function _bytes(uint256 offset) private pure returns (uint256 first, uint256 second, uint256 third) {
        assembly ("memory-safe") {
            let word := calldataload(offset)
            first := byte(0, word)
            second := byte(1, word)
            third := byte(2, word)
        }
    }
}
