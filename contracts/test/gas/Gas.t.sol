// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../../src/IMainContract.sol";
import {Kit} from "../support/Kit.sol";
import {vm} from "../support/Vm.sol";

/// @title Gas of whole transactions, as in receipts (`--isolate`), against the goals
contract GasTest is Kit {
    string private constant GROUP = "gas";
    bool private over;

    /// Sends the call as a transaction of its own, notes its gas and holds it against a goal.
    function row(string memory name, bytes memory data, uint256 goal) private returns (uint256 used) {
        send(data);
        used = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue(GROUP, name, used);
        if (used > goal) over = true;
    }

    function result(uint256 n) private pure returns (bytes memory b) {
        b = new bytes(n);
        for (uint256 i; i < n; ++i) b[i] = bytes1(uint8(uint256(keccak256(abi.encode(i))) | 1));
    }

    function test_single() public {
        Made memory m = create(1, 2, 3);
        bytes32 context = keccak256("context");
        row("attest, 12-byte result", attestCall(m, wordOf(1, 0, 0, 0), context, result(12)), 28_800);
        row("attest, 32-byte result", attestCall(m, wordOf(1, 0, 0, 0), context, result(32)), 30_000);
        row("settle, 12-byte result, first", settleCall(m, wordOf(1, 0, 0, 3), context, result(12)), 34_000);
        row("settle, 12-byte result", settleCall(m, wordOf(1, 0, 4, 4), context, result(12)), 34_000);
        row("settle, 32-byte result", settleCall(m, wordOf(1, 0, 5, 5), context, result(32)), 35_000);
    }
}
