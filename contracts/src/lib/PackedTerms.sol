// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Reading the packed terms of a new agreement from calldata
/// @dev terms      = n u8 | user 20, n times | m u8 | node 20 and trust u8, m times | sensorsRoot 32 | offChainCode 32 |
///                   conditions 32
///      signatures = r 32 and vs 32, n times | node index u8, r 32 and vs 32, n times
/// Packed, because what is in calldata is paid for twice (there, and in the event), and padding buys nothing. Offsets are
/// offsets in calldata; beyond its end there are zeros, so whoever reads checks the length first.
library PackedTerms {
    uint256 internal constant USER_BYTES = 20;
    uint256 internal constant NODE_BYTES = 21;
    uint256 internal constant ROOTS_BYTES = 96;
    uint256 internal constant SIGNATURE_BYTES = 64;
    uint256 internal constant ACCEPTANCE_BYTES = 65;

    /// A place in memory with eight words: where things are. In memory, because the optimizer would rather compute what
    /// it reads from calldata again and again than keep it on the stack; and no struct, which is filled with zeros first.
    type Layout is uint256;

    /// @notice The layout of terms and signatures that start at `offset`.
    function locate(uint256 offset) internal pure returns (Layout l) {
        assembly ("memory-safe") {
            l := mload(0x40)
            mstore(0x40, add(l, 0x100))
            let n := shr(248, calldataload(offset))
            mstore(l, add(offset, 1))
            mstore(add(l, 0x20), n)
            offset := add(add(offset, 1), mul(USER_BYTES, n))
            let m := shr(248, calldataload(offset))
            mstore(add(l, 0x40), add(offset, 1))
            mstore(add(l, 0x60), m)
            offset := add(add(offset, 1), mul(NODE_BYTES, m))
            mstore(add(l, 0x80), offset)
            offset := add(offset, ROOTS_BYTES)
            mstore(add(l, 0xa0), offset)
            offset := add(offset, mul(SIGNATURE_BYTES, n))
            mstore(add(l, 0xc0), offset)
            mstore(add(l, 0xe0), add(offset, mul(ACCEPTANCE_BYTES, n)))
        }
    }

    function users(Layout l) internal pure returns (uint256) {
        return _at(l, 0);
    }

    function userCount(Layout l) internal pure returns (uint256) {
        return _at(l, 0x20);
    }

    function nodes(Layout l) internal pure returns (uint256) {
        return _at(l, 0x40);
    }

    function nodeCount(Layout l) internal pure returns (uint256) {
        return _at(l, 0x60);
    }

    function roots(Layout l) internal pure returns (uint256) {
        return _at(l, 0x80);
    }

    function signatures(Layout l) internal pure returns (uint256) {
        return _at(l, 0xa0);
    }

    function acceptances(Layout l) internal pure returns (uint256) {
        return _at(l, 0xc0);
    }

    /// Behind terms and signatures.
    function end(Layout l) internal pure returns (uint256) {
        return _at(l, 0xe0);
    }

    function _at(Layout l, uint256 place) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := mload(add(l, place))
        }
    }

    function u8(uint256 offset) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := shr(248, calldataload(offset))
        }
    }

    function account(uint256 offset) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := shr(96, calldataload(offset))
        }
    }

    function word(uint256 offset) internal pure returns (bytes32 value) {
        assembly ("memory-safe") {
            value := calldataload(offset)
        }
    }

    /// @notice EIP-712 hashes of the `m` nodes and of their trust. `wrong` if the nodes do not ascend strictly from 1 on,
    /// or a trust is not below `n`.
    function readNodes(uint256 offset, uint256 m, uint256 n)
        internal
        pure
        returns (bool wrong, bytes32 nodesHash, bytes32 trustHash)
    {
        assembly ("memory-safe") {
            let list := mload(0x40)
            let size := shl(5, m)
            let previous := 0
            for { let to := list } lt(to, add(list, size)) { to := add(to, 0x20) } {
                let entry := calldataload(offset)
                let account_ := shr(96, entry)
                wrong := or(wrong, or(iszero(gt(account_, previous)), iszero(lt(byte(20, entry), n))))
                mstore(to, account_)
                mstore(add(to, size), byte(20, entry))
                previous := account_
                offset := add(offset, NODE_BYTES)
            }
            nodesHash := keccak256(list, size)
            trustHash := keccak256(add(list, size), size)
        }
    }

    /// @notice EIP-712 hash of `n` users, without a look at them.
    function hashUsers(uint256 offset, uint256 n) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let list := mload(0x40)
            let size := shl(5, n)
            for { let to := list } lt(to, add(list, size)) { to := add(to, 0x20) } {
                mstore(to, shr(96, calldataload(offset)))
                offset := add(offset, USER_BYTES)
            }
            digest := keccak256(list, size)
        }
    }
}
