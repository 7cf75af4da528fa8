// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Keccak-256 of a few words, or of calldata, without allocating memory for it
library Hash {
    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            mstore(0, a)
            mstore(0x20, b)
            digest := keccak256(0, 0x40)
        }
    }

    function triple(bytes32 a, bytes32 b, bytes32 c) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, a)
            mstore(add(p, 0x20), b)
            mstore(add(p, 0x40), c)
            digest := keccak256(p, 0x60)
        }
    }

    function quintuple(bytes32 a, bytes32 b, bytes32 c, bytes32 d, bytes32 e) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, a)
            mstore(add(p, 0x20), b)
            mstore(add(p, 0x40), c)
            mstore(add(p, 0x60), d)
            mstore(add(p, 0x80), e)
            digest := keccak256(p, 0xa0)
        }
    }

    function data(bytes calldata input) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            calldatacopy(p, input.offset, input.length)
            digest := keccak256(p, input.length)
        }
    }

    /// An address as a word.
    function word(address a) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(a)));
    }
}
