// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";

/// @title The entries of a batch (wire-format §7)
library Entries {
    /// Lengths below this one are single values of that length.
    uint256 internal constant LONG = 240;
    uint256 internal constant RUN = 241;
    uint256 internal constant NULL = 253;

    /// @notice How many executions the entries speak of. Strict: a cut entry, or a code without meaning, reverts.
    function count(bytes calldata entries) internal pure returns (uint256 n) {
        uint256 cursor;
        while (cursor < entries.length) {
            uint256 start = cursor;
            uint256 code = uint8(entries[cursor++]);
            if (code < LONG) {
                cursor += code;
                ++n;
            } else if (code >= NULL) {
                ++n;
            } else if (code == LONG && cursor + 2 <= entries.length) {
                cursor += 2 + uint16(bytes2(entries[cursor:cursor + 2]));
                ++n;
            } else if (code == RUN && cursor + 2 <= entries.length) {
                uint256 items = uint256(uint8(entries[cursor])) + 1;
                uint256 length = uint8(entries[cursor + 1]);
                if (length >= LONG) revert IMainContract.EntriesMalformed(start);
                cursor += 2 + items * length;
                n += items;
            } else {
                revert IMainContract.EntriesMalformed(start);
            }
            if (cursor > entries.length) revert IMainContract.EntriesMalformed(start);
        }
    }
}
