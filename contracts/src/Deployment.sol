// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Digests} from "./lib/Digests.sol";
import {Signed} from "./lib/Signed.sol";

/// @title Which chain and contract this is, and the check of signatures made for it
abstract contract Deployment is IMainContract {
    /// @inheritdoc IMainContract
    bytes28 public immutable deployment;
    /// @inheritdoc IMainContract
    bytes32 public immutable domainSeparator;

    constructor() {
        deployment = bytes28(abi.encodePacked(uint64(block.chainid), address(this)));
        domainSeparator = Digests.domainSeparator();
    }

    /// Reverts unless `expected` signed this EIP-712 struct.
    function _checkTyped(address expected, bytes32 structHash, bytes32 r, bytes32 vs) internal view {
        Signed.by(expected, Digests.typed(domainSeparator, structHash), r, vs);
    }
}
