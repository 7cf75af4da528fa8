// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Recovery of ECDSA signers, strict where the precompile is not
library Ecdsa {
    /// Half of the order of secp256k1: a signature with a larger `s` is refused (R3: one signature, one encoding).
    uint256 internal constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice Who signed `digest`, or zero if nobody did. The signature has the form of EIP-2098.
    function recover(bytes32 digest, bytes32 r, bytes32 vs) internal view returns (address) {
        uint256 s = uint256(vs) & (type(uint256).max >> 1);
        return recover(digest, uint256(vs) >> 255, uint256(r), s);
    }

    /// @notice Who signed `digest`, or zero if nobody did. @param parity Of R.y, 0 or 1.
    function recover(bytes32 digest, uint256 parity, uint256 r, uint256 s) internal view returns (address signer) {
        if (s > HALF_ORDER) return address(0);
        return recoverUnchecked(digest, 27 + parity, r, s);
    }

    /// @notice The precompile, with any `s` (also used as a calculator on the curve). Zero when it refuses: it then
    /// returns no data and leaves the output as it was, so the length of what it returned decides.
    function recoverUnchecked(bytes32 digest, uint256 v, uint256 r, uint256 s) internal view returns (address signer) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, digest)
            mstore(add(p, 0x20), v)
            mstore(add(p, 0x40), r)
            mstore(add(p, 0x60), s)
            let ok := staticcall(gas(), 1, p, 0x80, 0, 0x20)
            if and(ok, eq(returndatasize(), 0x20)) { signer := mload(0) }
        }
    }
}
