// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Digests} from "./lib/Digests.sol";
import {Ecdsa} from "./lib/Ecdsa.sol";

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

    /// Reverts, naming the signer that was expected, unless `expected` signed `digest`.
    function _checkSigner(address expected, bytes32 digest, bytes32 r, bytes32 vs) internal view {
        address signer = Ecdsa.recover(digest, r, vs);
        if (signer == address(0) || signer != expected) revert BadSignature(expected);
    }

    /// The same for an EIP-712 struct.
    function _checkTyped(address expected, bytes32 structHash, bytes32 r, bytes32 vs) internal view {
        _checkSigner(expected, Digests.typed(domainSeparator, structHash), r, vs);
    }
}
