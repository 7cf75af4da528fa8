// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";

/// @title The hot path of settle, attestCertificate and settleBatch: one aggregated signature over the calldata, in assembly
/// @dev Calldata: selector 4 | rx 32 | ry 32 | s 32 | agreement 32 | kind 1 | epoch 4 | from 8 | t 8 | context 32 | tail.
///
/// Memory is used from its first byte, over the two words that the compiler keeps at 0x40 and 0x60: these functions run
/// before anything is allocated, and either end in assembly or call `_restoreMemory` first.
///
///     0x00  tag hash | tag hash | rx | agreement | message         BIP-340 challenge, 160 bytes
///     0x20             z        | 28 | agreement | e*agreement     recovery, 128 bytes
///     0x40                   prefix | agreement | word | context | tail   the message
///     0x97                          agreement 20 | word 21 | tail        the log
///
/// How a recovery verifies a Schnorr signature, and why R has to lie on the curve, is said in `Schnorr`, which is the
/// same check in plain form; the tests hold the two against one another.
abstract contract Unanimous {
    uint256 private constant CHALLENGE = 0x7bb52d7a9fef58323eb1bf7a407db382d2f3f2d81bb1224f49fe518f6d48d37c;
    uint256 private constant P = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f;
    uint256 private constant P_MINUS_1 = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2e;
    uint256 private constant N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    uint256 private constant N_MINUS_1 = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140;

    /// Reverts unless the calldata, after the domain `prefix`, is signed by all nodes of its agreement. Leaves the digest
    /// that they signed in memory at 0x20 (`_signed`). A modifier, so that it is compiled into each of its users instead
    /// of being called.
    modifier unanimous(bytes32 prefix) {
        bool wrong;
        assembly ("memory-safe") {
            let rx := calldataload(4)
            let ry := calldataload(36)
            let s := calldataload(68)
            let px := calldataload(100)
            calldatacopy(0, 4, 0x40)
            let claimed := keccak256(0, 0x40)

            mstore(0x40, prefix)
            mstore(0x60, px)
            // 21 bytes of the word after 11 zero bytes of memory that nobody has touched, then context and tail
            calldatacopy(0x8b, 132, sub(calldatasize(), 132))
            let digest := keccak256(0x40, sub(calldatasize(), 57))

            mstore(0x00, CHALLENGE)
            mstore(0x20, CHALLENGE)
            mstore(0x40, rx)
            mstore(0x80, digest)
            // Without gas for this, there is none for the recovery, and the answer is no.
            pop(staticcall(gas(), 2, 0, 0xa0, 0, 0x20))

            // R = s*G - e*A: the recovery with the x coordinate of A, the odd y (28), z = -s*px and s' = e*px
            mstore(0x20, sub(N, mulmod(s, px, N)))
            mstore(0x40, 28)
            mstore(0x80, mulmod(mload(0), px, N))
            // A refusal (px not on the curve or not below n, e = 0) returns no data.
            pop(staticcall(gas(), 1, 0x20, 0x80, 0x40, 0x20))
            wrong := or(
                or(
                    or(gt(rx, P_MINUS_1), gt(ry, P_MINUS_1)),
                    or(and(ry, 1), xor(mulmod(ry, ry, P), addmod(mulmod(mulmod(rx, rx, P), rx, P), 7, P)))
                ),
                or(gt(s, N_MINUS_1), or(xor(returndatasize(), 0x20), shl(96, xor(mload(0x40), claimed))))
            )
            mstore(0x20, digest)
        }
        if (wrong) revert IMainContract.NotUnanimous();
        _;
    }

    /// The digest that all nodes signed: to be asked for before anything else touches the scratch space.
    function _signed() internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            digest := mload(0x20)
        }
    }

    /// Gives the memory back to the compiler: its free pointer and its zero word.
    function _restoreMemory() internal pure {
        assembly ("memory-safe") {
            mstore(0x40, 0x80)
            mstore(0x60, 0)
        }
    }

    /// `kind u8 | epoch u32 | from u64 | t u64` of the calldata, above it 11 bytes of something else.
    function _rawWord() internal pure returns (uint256 raw) {
        assembly ("memory-safe") {
            raw := calldataload(121)
        }
    }
}
