// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Ecdsa} from "../src/lib/Ecdsa.sol";
import {Schnorr} from "../src/lib/Schnorr.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title BIP-340 by recovery: the plain form against the BIP's own vectors, and the assembly form against the plain one
contract SchnorrTest is Kit {
    uint256 private constant PK1 = 0xDFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659;
    bytes32 private constant MSG1 = 0x243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89;

    function power(uint256 base, uint256 exponent) private pure returns (uint256 out) {
        out = 1;
        for (; exponent != 0; exponent >>= 1) {
            if (exponent & 1 == 1) out = mulmod(out, base, P);
            base = mulmod(base, base, P);
        }
    }

    /// The even y of a point, or of no point if there is none.
    function lift(uint256 x) private pure returns (uint256 y) {
        y = power(addmod(mulmod(mulmod(x, x, P), x, P), 7, P), (P + 1) / 4);
        if (y & 1 == 1) y = P - y;
    }

    function verify(uint256 px, uint256 rx, uint256 s, bytes32 message) private view returns (bool) {
        return Schnorr.verify(px, rx, lift(rx % P), s, message);
    }

    function test_bip340() public view {
        yes(
            verify(
                0xF9308A019258C31049344F85F89D5229B531C845836F99B08601F113BCE036F9,
                0xE907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA8215,
                0x25F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0,
                0
            )
        );
        yes(
            verify(
                PK1,
                0x6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE3341,
                0x8906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A,
                MSG1
            )
        );
        yes(
            verify(
                0xDD308AFEC5777E13121FA72B9CC1B7CC0139715309B086C960E18FD969774EB8,
                0x5831AAEED7B44BB74E5EAB94BA9D4294C49BCF2A60728D8B4C200F50DD313C1B,
                0xAB745879A5AD954A72C45A91C3A51D3C7ADEA98D82F8481E0E1E03674A6F3FB7,
                0x7E2D58D8B3BCDF1ABADEC7829054F90DDA9805AAB56C77333024B9D0A508B75C
            )
        );
        yes(
            verify(
                0x25D1DFF95105F5253C4022F628A996AD3A0D95FBF21D468A1B33F8C160D8F517,
                0x7EB0509757E246F19449885651611CB965ECC1A187DD51B64FDA1EDC9637D5EC,
                0x97582B9CB13DB3933705B32BA982AF5AF25FD78881EBB32771FC5922EFC66EA3,
                0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF
            )
        );
        // a public nonce with leading zeros
        yes(
            verify(
                0xD69C3509BB99E412E68B0FE8544E72837DFA30746D8BE2AA65975F29D22DC7B9,
                0x00000000000000000000003B78CE563F89A0ED9414F5AA28AD0D96D6795F9C63,
                0x76AFB1548AF603B3EB45C9F8207DEE1060CB71C04E80F593060B07D28308D7F4,
                0x4DF3C3F68FCC83B27E9D42C90431A72499F17875C81A599B566C9889B9696703
            )
        );
    }

    /// A signature whose R has an odd y is none, with whichever y it comes.
    function test_bip340OddNonce() public view {
        uint256 rx = 0xFFF97BD5755EEEA420453A14355235D382F6472F8568A18B2F057A1460297556;
        uint256 s = 0x3CC27944640AC607CD107AE10923D9EF7A73C643E166BE5EBEAFA34B1AC553E2;
        yes(!Schnorr.verify(PK1, rx, lift(rx), s, MSG1));
        yes(!Schnorr.verify(PK1, rx, P - lift(rx), s, MSG1));
    }

    function test_outOfRange() public {
        (uint256 secret, bytes32 px) = evenKey(0xC0FFEE);
        Bip340 memory g = schnorr(secret, px, MSG1);
        (uint256 x, uint256 rx, uint256 ry, uint256 s) = (uint256(px), uint256(g.rx), uint256(g.ry), uint256(g.s));
        yes(Schnorr.verify(x, rx, ry, s, MSG1));
        uint256[5][12] memory bad = [
            [uint256(0), rx, ry, s, 0],
            [N, rx, ry, s, 0],
            [N + 1, rx, ry, s, 0],
            [type(uint256).max, rx, ry, s, 0],
            [x, 0, ry, s, 0],
            [x, rx, 0, s, 0],
            [x, rx, P - ry, s, 0],
            [x, P, ry, s, 0],
            [x, rx, P, s, 0],
            [x, rx, ry, 0, 0],
            [x, rx, ry, N, 0],
            [x, rx, ry, N - s, 0]
        ];
        for (uint256 i; i < bad.length; ++i) {
            yes(!Schnorr.verify(bad[i][0], bad[i][1], bad[i][2], bad[i][3], MSG1));
        }
        yes(!Schnorr.verify(x, rx, ry, s, bytes32(uint256(MSG1) ^ 1)));
    }

    /// A key that is no x coordinate of a point.
    function test_keyNotOnCurve() public {
        uint256 x = 5; // 5^3 + 7 is no square
        uint256 y = lift(x);
        yes(mulmod(y, y, P) != addmod(mulmod(mulmod(x, x, P), x, P), 7, P));
        Bip340 memory g = schnorr(77, bytes32(x), MSG1);
        yes(!Schnorr.verify(x, uint256(g.rx), uint256(g.ry), uint256(g.s), MSG1));
    }

    function testFuzz_valid(uint256 key, bytes32 message) public {
        (uint256 secret, bytes32 px) = evenKey(key % (N - 1) + 1);
        Bip340 memory g = schnorr(secret, px, message);
        yes(Schnorr.verify(uint256(px), uint256(g.rx), uint256(g.ry), uint256(g.s), message));
        // The other secret of the same x is no key of it.
        g = schnorr(N - secret, px, message);
        yes(!Schnorr.verify(uint256(px), uint256(g.rx), uint256(g.ry), uint256(g.s), message));
    }

    /// Both forms say the same of everything: a good signature, and one with a word replaced or moved a little.
    function testFuzz_assemblyAgrees(uint256 key, bytes32 context, bytes memory result, uint8 which, uint256 other)
        public
    {
        uint256[4] memory v;
        uint256 secret;
        {
            bytes32 px;
            (secret, px) = evenKey(key % (N - 1) + 1);
            v[3] = uint256(px);
        }
        uint256 word = wordOf(1, uint32(other), uint64(key), uint64(key >> 64));
        bytes32 digest = outcomeDigest(bytes32(v[3]), word, context, result);
        Bip340 memory g = schnorr(secret, bytes32(v[3]), digest);
        (v[0], v[1], v[2]) = (uint256(g.rx), uint256(g.ry), uint256(g.s));
        uint256[12] memory changed =
            [other, v[which % 4] ^ 1, N, P, 0, 1, N - 1, P - 1, v[1], v[0], type(uint256).max, v[which % 4]];
        unchecked {
            // negated, or not reduced
            if (which & 0x80 != 0) changed[0] = P - v[which % 4];
            if (which & 0x40 != 0) changed[0] = N - v[which % 4];
            if (which & 0x20 != 0) changed[0] = N + v[which % 4];
        }
        v[which % 4] = changed[(which >> 2) % 12];
        digest = outcomeDigest(bytes32(v[3]), word, context, result);
        bool plain = Schnorr.verify(v[3], v[0], v[1], v[2], digest);
        bytes memory data = abi.encodePacked(
            IMainContract.attestCertificate.selector, v[0], v[1], v[2], v[3], uint168(word), context, result
        );
        (bool ok,) = address(main).call(data);
        yes(ok == plain);
    }

    // -------------------------------------------------------------------------------------------------- the tweak

    function testFuzz_tweaked(uint256 key, uint256 tweak) public {
        (uint256 k, bytes32 kx) = evenKey(key % (N - 1) + 1);
        uint256 sum = addmod(k, tweak % N, N);
        vm.assume(sum != 0);
        Vm.Wallet memory w = vm.createWallet(sum);
        yes(Schnorr.isTweaked(uint256(kx), tweak, w.publicKeyX, w.publicKeyY));
        yes(!Schnorr.isTweaked(uint256(kx), tweak ^ 1, w.publicKeyX, w.publicKeyY));
        yes(!Schnorr.isTweaked(uint256(kx), tweak, w.publicKeyX, P - w.publicKeyY));
        yes(!Schnorr.isTweaked(uint256(kx), tweak, w.publicKeyX, w.publicKeyY ^ 1));
        yes(!Schnorr.isTweaked(uint256(kx), tweak, w.publicKeyX ^ 1, w.publicKeyY));
        yes(!Schnorr.isTweaked(uint256(kx) ^ 1, tweak, w.publicKeyX, w.publicKeyY));
    }

    function test_tweakEdges() public {
        (uint256 k, bytes32 kx) = evenKey(0xC0FFEE);
        Vm.Wallet memory w = vm.createWallet(k);
        yes(Schnorr.isTweaked(uint256(kx), 0, w.publicKeyX, w.publicKeyY));
        yes(Schnorr.isTweaked(uint256(kx), N, w.publicKeyX, w.publicKeyY));
        // the point at infinity, and what is no field element
        yes(!Schnorr.isTweaked(uint256(kx), N - k, 0, 0));
        yes(!Schnorr.isTweaked(0, 0, w.publicKeyX, w.publicKeyY));
        yes(!Schnorr.isTweaked(N, 0, w.publicKeyX, w.publicKeyY));
        yes(!Schnorr.isTweaked(uint256(kx), 0, P, w.publicKeyY));
        yes(!Schnorr.isTweaked(uint256(kx), 0, w.publicKeyX, P));
    }

    // ------------------------------------------------------------------------------------------------------ ECDSA

    function testFuzz_ecdsa(uint256 key, bytes32 digest) public view {
        key = key % (N - 1) + 1;
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        bytes32 vs = bytes32(uint256(s) | uint256(v - 27) << 255);
        eq(Ecdsa.recover(digest, r, vs), vm.addr(key));
        // The other s. From 2^255 on, its top bit is taken for the parity and it is another number.
        yes(Ecdsa.recover(digest, r, bytes32((N - uint256(s)) ^ uint256(28 - v) << 255)) != vm.addr(key));
        yes(Ecdsa.recover(digest, r, bytes32((N - uint256(s)) ^ uint256(v - 27) << 255)) != vm.addr(key));
        yes(Ecdsa.recover(digest, r, bytes32(uint256(vs) ^ 1 << 255)) != vm.addr(key));
    }

    /// The largest s that counts, and the next one, which would still fit below the parity. The precompile recovers both.
    function test_halfOrder() public view {
        bytes32 r = bytes32(PK1);
        for (uint256 parity; parity < 2; ++parity) {
            uint256 last = (N - 1) / 2;
            address signer = Ecdsa.recover(MSG1, r, bytes32(last | parity << 255));
            yes(signer != address(0));
            eq(signer, Ecdsa.recoverUnchecked(MSG1, 27 + parity, PK1, last));
            yes(Ecdsa.recoverUnchecked(MSG1, 27 + parity, PK1, last + 1) != address(0));
            eq(Ecdsa.recover(MSG1, r, bytes32(last + 1 | parity << 255)), address(0));
        }
    }

    /// What the precompile refuses is nobody's signature, whatever lay in memory before.
    function test_ecdsaRefused() public view {
        assembly ("memory-safe") {
            mstore(0, 0xdead)
        }
        eq(Ecdsa.recover(MSG1, 0, bytes32(uint256(1))), address(0));
        assembly ("memory-safe") {
            mstore(0, 0xdead)
        }
        eq(Ecdsa.recover(MSG1, bytes32(uint256(1)), 0), address(0));
        assembly ("memory-safe") {
            mstore(0, 0xdead)
        }
        eq(Ecdsa.recover(MSG1, bytes32(N), bytes32(uint256(1))), address(0));
        assembly ("memory-safe") {
            mstore(0, 0xdead)
        }
        eq(Ecdsa.recover(MSG1, bytes32(uint256(5)), bytes32(uint256(1))), address(0));
    }
}
