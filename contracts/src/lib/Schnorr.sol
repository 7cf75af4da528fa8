// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ecdsa} from "./Ecdsa.sol";
import {Hash} from "./Hash.sol";

/// @title BIP-340 verification, and sums of points, by the recovery precompile
/// @dev `ecrecover(z, v, r, s)` is the address of `(s*X - z*G) / r`, X being the point with x coordinate `r` and the
/// parity `v - 27`. With `r = px` and `v = 27`, X is the public key, and `z`, `s` can be chosen so that the
/// result is any `u*G + w*X`. It gives an address, not a point, so the caller brings the point and it is compared by
/// its address. An address has 160 bits: without the check that the point lies on the curve, a free y coordinate
/// would let a forger search for a collision in 2^80 steps; with it, there are two candidates of y, and the even one counts.
library Schnorr {
    /// Field prime of secp256k1.
    uint256 internal constant P = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f;
    /// Group order of secp256k1.
    uint256 internal constant N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    /// SHA-256("BIP0340/challenge").
    uint256 internal constant CHALLENGE = 0x7bb52d7a9fef58323eb1bf7a407db382d2f3f2d81bb1224f49fe518f6d48d37c;

    /// @notice Whether `rx || s` is a BIP-340 signature of `message` under the x-only key `px`.
    /// @param ry The even y coordinate that belongs to `rx`.
    function verify(uint256 px, uint256 rx, uint256 ry, uint256 s, bytes32 message) internal view returns (bool ok) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            // e = int(hash_BIP0340/challenge(rx || px || message)) mod n
            mstore(p, CHALLENGE)
            mstore(add(p, 0x20), CHALLENGE)
            mstore(add(p, 0x40), rx)
            mstore(add(p, 0x60), px)
            mstore(add(p, 0x80), message)
            // A precompile that is not there, or ran out of gas, leaves no challenge of the caller's choice: `and`.
            let done := staticcall(gas(), 2, p, 0xa0, 0, 0x20)
            // s*G - e*P: z = -s*px, s' = -e*px. The precompile refuses s' = n (e = 0) and px = 0 or px >= n.
            mstore(p, sub(N, mulmod(s, px, N)))
            mstore(add(p, 0x20), 27)
            mstore(add(p, 0x40), px)
            mstore(add(p, 0x60), sub(N, mulmod(mload(0), px, N)))
            mstore(0, rx)
            mstore(0x20, ry)
            let claimed := shr(96, shl(96, keccak256(0, 0x40)))
            done := and(done, staticcall(gas(), 1, p, 0x80, 0, 0x20))
            ok :=
                and(
                    and(
                        // R = s*G - e*P, by address, and R on the curve
                        and(and(done, eq(returndatasize(), 0x20)), eq(mload(0), claimed)),
                        eq(mulmod(ry, ry, P), addmod(mulmod(mulmod(rx, rx, P), rx, P), 7, P))
                    ),
                    and(and(lt(rx, P), lt(ry, P)), and(iszero(and(ry, 1)), lt(s, N)))
                )
        }
    }

    /// @notice Whether `(x, y)` is the point `lift_x(kx) + tweak*G` (an x-only tweak, BIP-327).
    function isTweaked(uint256 kx, uint256 tweak, uint256 x, uint256 y) internal view returns (bool) {
        if (x >= P || y >= P || mulmod(y, y, P) != addmod(mulmod(mulmod(x, x, P), x, P), 7, P)) return false;
        // z = -tweak*kx, s = kx: (kx*K + tweak*kx*G) / kx
        address sum = Ecdsa.recoverUnchecked(bytes32(N - mulmod(tweak, kx, N)), 27, kx, kx);
        return sum != address(0) && sum == address(uint160(uint256(Hash.pair(bytes32(x), bytes32(y)))));
    }
}
