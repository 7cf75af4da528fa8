// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";

/// @title Recovery of ECDSA signers, strict where the precompile is not
library Ecdsa {
    /// Half of the order of secp256k1: a signature with a larger `s` is refused (R3: one signature, one encoding).
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
    uint256 private constant HALF_ORDER_PLUS_1 = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1;
    uint256 private constant ALL_BUT_TOP_BIT = 0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff;

    /// @notice Who signed `digest`, or zero if nobody did. The signature has the form of EIP-2098.
    function recover(bytes32 digest, bytes32 r, bytes32 vs) internal view returns (address signer) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            let s := and(vs, ALL_BUT_TOP_BIT)
            mstore(p, digest)
            mstore(add(p, 0x20), add(shr(255, vs), 27))
            mstore(add(p, 0x40), r)
            mstore(add(p, 0x60), s)
            // When it refuses, the precompile returns no data and leaves the output as it was.
            let ok := staticcall(gas(), 1, p, 0x80, 0, 0x20)
            signer := mul(mload(0), and(and(ok, eq(returndatasize(), 0x20)), iszero(gt(s, HALF_ORDER))))
        }
    }

    /// @notice EIP-712 hash of the list of addresses that signed `digest`, in order. Zero if one of them is nobody's.
    function signersHash(bytes32 digest, IMainContract.Signature[] calldata signatures)
        internal
        view
        returns (bytes32 hash)
    {
        assembly ("memory-safe") {
            // The input of the precompile stands in the first four words, of which the compiler gets two back.
            let list := mload(0x40)
            let to := list
            let from := signatures.offset
            mstore(0, digest)
            for { let end := add(from, shl(6, signatures.length)) } lt(from, end) { from := add(from, 0x40) } {
                let vs := calldataload(add(from, 0x20))
                mstore(0x20, add(shr(255, vs), 27))
                vs := and(vs, ALL_BUT_TOP_BIT)
                mstore(0x40, calldataload(from))
                // An s that is too large becomes 0, which the precompile refuses. Then it returns nothing, and the list
                // stays too short.
                mstore(0x60, mul(vs, lt(vs, HALF_ORDER_PLUS_1)))
                pop(staticcall(gas(), 1, 0, 0x80, to, 0x20))
                to := add(to, returndatasize())
            }
            mstore(0x40, list)
            mstore(0x60, 0)
            let size := sub(to, list)
            if eq(size, shl(5, signatures.length)) { hash := keccak256(list, size) }
        }
    }

    /// @notice The precompile with any `v` and `s`: also a calculator on the curve. Zero when it refuses.
    function recoverUnchecked(bytes32 digest, uint256 v, uint256 r, uint256 s) internal view returns (address signer) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, digest)
            mstore(add(p, 0x20), v)
            mstore(add(p, 0x40), r)
            mstore(add(p, 0x60), s)
            let ok := staticcall(gas(), 1, p, 0x80, 0, 0x20)
            signer := mul(mload(0), and(ok, eq(returndatasize(), 0x20)))
        }
    }
}
