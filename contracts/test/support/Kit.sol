// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../../src/IMainContract.sol";
import {MainContract} from "../../src/MainContract.sol";
import {Schnorr} from "../../src/lib/Schnorr.sol";
import {vm, Vm} from "./Vm.sol";

/// @title Keys, signatures and calldata for the tests
/// @dev Digests are spelt out here a second time, from wire-format.md and not with the library under test. The
/// aggregate key is that of one plain secret: what the contract sees of MuSig2 is a BIP-340 signature and a tweak.
abstract contract Kit {
    uint256 internal constant N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    uint256 internal constant P = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f;
    uint64 internal constant MAX_T = type(uint64).max;
    /// Every t is below it.
    uint64 internal constant T_LIMIT = (1 << 40) - 1;

    uint256 internal constant SENSOR_COUNT = 3;

    struct Terms {
        address[] users;
        address[] nodes;
        uint8[] trust;
        bytes32 sensorsRoot;
        bytes32 offChainCode;
        bytes32 conditions;
    }

    struct Acceptance {
        uint8 node;
        IMainContract.Signature signature;
    }

    /// An agreement of the tests with all its secrets.
    struct Made {
        bytes32 id;
        /// Secret of the verification key, made to have an even y.
        uint256 secret;
        uint256[] userKeys;
        uint256[] nodeKeys;
        Terms terms;
        IMainContract.Opening opening;
        bytes32 digest;
        /// Merkle root of the sensor leaves.
        bytes32 sensors;
    }

    struct Bip340 {
        bytes32 rx;
        bytes32 ry;
        bytes32 s;
    }

    MainContract internal main;

    function setUp() public virtual {
        main = new MainContract();
    }

    /// Puts the contract at an address: the constructor runs there, so that its immutables are of that address.
    function deployAt(address target) internal {
        vm.etch(target, type(MainContract).creationCode);
        (bool ok, bytes memory code) = target.call("");
        require(ok, "constructor");
        vm.etch(target, code);
        main = MainContract(target);
    }

    // ---------------------------------------------------------------------------------------------- assertions

    error Unequal(bytes32 left, bytes32 right);

    function eq(bytes32 a, bytes32 b) internal pure {
        if (a != b) revert Unequal(a, b);
    }

    function eq(uint256 a, uint256 b) internal pure {
        eq(bytes32(a), bytes32(b));
    }

    function eq(address a, address b) internal pure {
        eq(uint160(a), uint160(b));
    }

    function eq(bytes memory a, bytes memory b) internal pure {
        eq(keccak256(a), keccak256(b));
    }

    function yes(bool b) internal pure {
        require(b, "expected true");
    }

    // --------------------------------------------------------------------------------------------------- tags

    function tag(uint16 kind) internal pure returns (bytes memory) {
        return abi.encodePacked("DIVERSITY", uint8(1), kind);
    }

    function deploymentBytes() internal view returns (bytes memory) {
        return abi.encodePacked(uint64(block.chainid), address(main));
    }

    function typed(bytes32 structHash) internal view returns (bytes32) {
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("DIVERSITY"),
                keccak256("1"),
                block.chainid,
                address(main)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    // --------------------------------------------------------------------------------------------------- ECDSA

    function sign(uint256 key, bytes32 digest) internal pure returns (IMainContract.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return IMainContract.Signature(r, bytes32(uint256(s) | uint256(v - 27) << 255));
    }

    /// The same signature with the other `s`: valid for a lenient verifier.
    function malleated(uint256 key, bytes32 digest) internal pure returns (IMainContract.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return IMainContract.Signature(r, bytes32((N - uint256(s)) | uint256(1 - (v - 27)) << 255));
    }

    /// `count` keys whose addresses ascend.
    function ascendingKeys(uint256 seed, uint256 count) internal pure returns (uint256[] memory keys) {
        keys = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            uint256 key = uint256(keccak256(abi.encode(seed, i))) % (N - 1) + 1;
            uint256 j = i;
            for (; j > 0 && vm.addr(keys[j - 1]) > vm.addr(key); --j) keys[j] = keys[j - 1];
            keys[j] = key;
        }
    }

    function addresses(uint256[] memory keys) internal pure returns (address[] memory list) {
        list = new address[](keys.length);
        for (uint256 i; i < keys.length; ++i) list[i] = vm.addr(keys[i]);
    }

    // -------------------------------------------------------------------------------------------------- BIP-340

    /// Secret with an even public y, and the public x.
    function evenKey(uint256 key) internal returns (uint256 secret, bytes32 x) {
        Vm.Wallet memory w = vm.createWallet(key);
        return (w.publicKeyY & 1 == 0 ? key : N - key, bytes32(w.publicKeyX));
    }

    /// Signs with the secret of an even key; the nonce is derived from key and message.
    function schnorr(uint256 secret, bytes32 px, bytes32 message) internal returns (Bip340 memory sig) {
        uint256 nonce = uint256(keccak256(abi.encode("nonce", secret, message))) % (N - 1) + 1;
        Vm.Wallet memory w = vm.createWallet(nonce);
        if (w.publicKeyY & 1 == 1) nonce = N - nonce;
        sig.rx = bytes32(w.publicKeyX);
        sig.ry = bytes32(w.publicKeyY & 1 == 0 ? w.publicKeyY : P - w.publicKeyY);
        bytes32 t = sha256("BIP0340/challenge");
        uint256 e = uint256(sha256(abi.encodePacked(t, t, sig.rx, px, message))) % N;
        sig.s = bytes32(addmod(nonce, mulmod(e, secret, N), N));
    }

    // ---------------------------------------------------------------------------------------------- registration

    function registerUser(uint256 key, bytes memory name) internal {
        send(userCall(vm.addr(key), sign(key, userDigest(vm.addr(key), name)), name));
    }

    function userCall(address user, IMainContract.Signature memory s, bytes memory name)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(abi.encodeCall(IMainContract.registerUser, (s)), user, name);
    }

    function userDigest(address user, bytes memory name) internal view returns (bytes32) {
        return typed(keccak256(abi.encode(keccak256("User(address user,string name)"), user, keccak256(name))));
    }

    /// `count`: entities of the owner so far.
    function entityHash(string memory name, address id, address owner, bytes memory declaration, uint64 count)
        internal
        pure
        returns (bytes32)
    {
        bytes memory lower = bytes(name)[0] == "S" ? bytes("sensor") : bytes("node");
        bytes32 typeHash =
            keccak256(abi.encodePacked(name, "(address ", lower, ",address owner,bytes32 declaration,uint64 count)"));
        return keccak256(abi.encode(typeHash, id, owner, keccak256(declaration), count));
    }

    function bindingDigest(uint16 kind, address owner, address id, bytes memory declaration)
        internal
        view
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(tag(kind), deploymentBytes(), owner, id, keccak256(declaration)));
    }

    function countOf(address owner) internal view returns (uint64 count) {
        (, count) = main.users(owner);
    }

    function sensorCall(uint256 owner, uint256 sensor, bytes memory declaration) internal view returns (bytes memory) {
        (address o, address s) = (vm.addr(owner), vm.addr(sensor));
        return abi.encodePacked(
            abi.encodeCall(
                IMainContract.registerSensor,
                (
                    s,
                    o,
                    sign(owner, typed(entityHash("Sensor", s, o, declaration, countOf(o)))),
                    sign(sensor, bindingDigest(2, o, s, declaration))
                )
            ),
            declaration
        );
    }

    function nodeCall(uint256 owner, uint256 node, bytes memory declaration) internal view returns (bytes memory) {
        (address o, address n) = (vm.addr(owner), vm.addr(node));
        return abi.encodePacked(
            abi.encodeCall(
                IMainContract.registerNode,
                (
                    n,
                    o,
                    sign(owner, typed(entityHash("Node", n, o, declaration, countOf(o)))),
                    sign(node, bindingDigest(3, o, n, declaration))
                )
            ),
            declaration
        );
    }

    // ------------------------------------------------------------------------------------------------ agreements

    bytes internal constant TERMS_TYPE =
        "Terms(address[] users,address[] nodes,uint8[] trust,bytes32 sensorsRoot,bytes32 offChainCode,bytes32 conditions)";

    function termsHash(IMainContract.Opening memory o) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(keccak256(TERMS_TYPE), o.users, o.nodes, o.trust, o.sensorsRoot, o.offChainCode, o.conditions)
        );
    }

    function agreementDigest(bytes32 a, bytes32 terms) internal view returns (bytes32) {
        return typed(
            keccak256(
                abi.encode(
                    keccak256(abi.encodePacked("Agreement(bytes32 agreement,Terms terms)", TERMS_TYPE)), a, terms
                )
            )
        );
    }

    function acceptanceDigest(bytes32 a, bytes32 terms, address node) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(tag(4), deploymentBytes(), a, terms, node));
    }

    /// Secrets and terms of an agreement of `u` users and `n` nodes, node j named by user j mod u.
    function prepare(uint256 seed, uint256 u, uint256 n) internal returns (Made memory m) {
        m.userKeys = ascendingKeys(seed * 2 + 1, u);
        m.nodeKeys = ascendingKeys(seed * 2 + 2, n);
        m.terms.users = addresses(m.userKeys);
        m.terms.nodes = addresses(m.nodeKeys);
        m.terms.trust = new uint8[](n);
        for (uint256 j; j < n; ++j) m.terms.trust[j] = uint8(j % u);
        m.sensors = keccak256(abi.encode(seed, "sensors"));
        m.terms.sensorsRoot = keccak256(abi.encodePacked(tag(45), uint32(SENSOR_COUNT), m.sensors));
        m.terms.offChainCode = keccak256(abi.encode(seed, "module"));
        m.terms.conditions = keccak256(abi.encode(seed, "conditions"));
        derive(m, seed);
    }

    /// Sets the id, its secret and the opening from the terms.
    function derive(Made memory m, uint256 seed) internal {
        m.opening.users = keccak256(abi.encodePacked(m.terms.users));
        m.opening.nodes = keccak256(abi.encodePacked(m.terms.nodes));
        m.opening.trust = keccak256(abi.encodePacked(m.terms.trust));
        m.opening.sensorsRoot = m.terms.sensorsRoot;
        m.opening.offChainCode = m.terms.offChainCode;
        m.opening.conditions = m.terms.conditions;
        m.digest = termsHash(m.opening);
        uint256 k;
        (k, m.opening.aggregate) = evenKey(uint256(keccak256(abi.encode(seed, "aggregate"))) % (N - 1) + 1);
        uint256 tweak =
            uint256(keccak256(abi.encodePacked(tag(23), m.opening.aggregate, deploymentBytes(), m.digest))) % N;
        uint256 secret = addmod(k, tweak, N);
        Vm.Wallet memory w = vm.createWallet(secret);
        m.id = bytes32(w.publicKeyX);
        m.opening.y = bytes32(w.publicKeyY);
        m.secret = w.publicKeyY & 1 == 0 ? secret : N - secret;
    }

    function userSignatures(Made memory m, bytes32 digest) internal pure returns (IMainContract.Signature[] memory list) {
        list = new IMainContract.Signature[](m.userKeys.length);
        for (uint256 i; i < list.length; ++i) list[i] = sign(m.userKeys[i], digest);
    }

    function acceptancesOf(Made memory m) internal view returns (Acceptance[] memory list) {
        list = new Acceptance[](m.userKeys.length);
        for (uint256 i; i < list.length; ++i) {
            // node i is named by user i
            list[i] = Acceptance(
                uint8(i), sign(m.nodeKeys[i], acceptanceDigest(m.id, m.digest, m.terms.nodes[i]))
            );
        }
    }

    function packed(Terms memory t) internal pure returns (bytes memory out) {
        out = abi.encodePacked(uint8(t.users.length));
        for (uint256 i; i < t.users.length; ++i) out = abi.encodePacked(out, t.users[i]);
        out = abi.encodePacked(out, uint8(t.nodes.length));
        for (uint256 j; j < t.nodes.length; ++j) out = abi.encodePacked(out, t.nodes[j], t.trust[j]);
        return abi.encodePacked(out, t.sensorsRoot, t.offChainCode, t.conditions);
    }

    function createCallWith(
        Made memory m,
        IMainContract.Signature[] memory users,
        Acceptance[] memory acceptances,
        bytes memory extra
    ) internal pure returns (bytes memory out) {
        out = abi.encodePacked(
            abi.encodeCall(IMainContract.createAgreement, (m.id, [m.opening.aggregate, m.opening.y])), packed(m.terms)
        );
        for (uint256 i; i < users.length; ++i) out = abi.encodePacked(out, users[i].r, users[i].vs);
        for (uint256 i; i < acceptances.length; ++i) {
            out = abi.encodePacked(
                out, acceptances[i].node, acceptances[i].signature.r, acceptances[i].signature.vs
            );
        }
        return abi.encodePacked(out, extra);
    }

    function createCall(Made memory m) internal view returns (bytes memory) {
        return createCallWith(m, userSignatures(m, agreementDigest(m.id, m.digest)), acceptancesOf(m), "");
    }

    /// A created agreement.
    function create(uint256 seed, uint256 u, uint256 n) internal returns (Made memory m) {
        m = prepare(seed, u, n);
        for (uint256 i; i < u; ++i) registerUser(m.userKeys[i], "someone");
        send(createCall(m));
    }

    function closeDigest(bytes32 a, uint64 end) internal view returns (bytes32) {
        return typed(keccak256(abi.encode(keccak256("Close(bytes32 agreement,uint64 end)"), a, end)));
    }

    function closeCall(Made memory m, uint64 end) internal view returns (bytes memory) {
        return abi.encodeCall(
            IMainContract.closeAgreement,
            (m.id, end, m.opening, m.terms.users, userSignatures(m, closeDigest(m.id, end)))
        );
    }

    // ------------------------------------------------------------------------------------------------- settlement

    function wordOf(uint8 kind, uint32 epoch, uint64 from, uint64 t) internal pure returns (uint256) {
        return uint256(bytes32(abi.encodePacked(bytes11(0), kind, epoch, from, t)));
    }

    function outcomeDigest(bytes32 a, uint256 word, bytes32 context, bytes memory result)
        internal
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encodePacked(keccak256(abi.encodePacked(tag(37), deploymentBytes())), a, word, context, result)
        );
    }

    function batchDigest(bytes32 a, uint256 word, bytes32 root, bytes memory entries) internal view returns (bytes32) {
        return keccak256(
            abi.encodePacked(keccak256(abi.encodePacked(tag(38), deploymentBytes())), a, word, root, entries)
        );
    }

    function signedCall(bytes4 selector, Made memory m, bytes32 digest, uint256 word, bytes32 context, bytes memory tail)
        internal
        returns (bytes memory)
    {
        Bip340 memory sig = schnorr(m.secret, m.id, digest);
        return abi.encodePacked(selector, sig.rx, sig.ry, sig.s, m.id, uint168(word), context, tail);
    }

    function settleCall(Made memory m, uint256 word, bytes32 context, bytes memory result)
        internal
        returns (bytes memory)
    {
        bytes32 digest = outcomeDigest(m.id, word, context, result);
        return signedCall(IMainContract.settle.selector, m, digest, word, context, result);
    }

    function attestCall(Made memory m, uint256 word, bytes32 context, bytes memory result)
        internal
        returns (bytes memory)
    {
        bytes32 digest = outcomeDigest(m.id, word, context, result);
        return signedCall(IMainContract.attestCertificate.selector, m, digest, word, context, result);
    }

    function batchCall(Made memory m, uint256 word, bytes32 root, bytes memory entries)
        internal
        returns (bytes memory)
    {
        bytes32 digest = batchDigest(m.id, word, root, entries);
        return signedCall(IMainContract.settleBatch.selector, m, digest, word, root, entries);
    }

    function revealDigest(bytes32 outcome, uint64[] memory holes) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(tag(39), outcome, listOf(holes)));
    }

    function revealsCall(Made memory m, uint256 word, bytes32 context, uint64[] memory holes, bytes memory result)
        internal
        view
        returns (bytes memory)
    {
        bytes32 digest = revealDigest(outcomeDigest(m.id, word, context, result), holes);
        IMainContract.Signature[] memory list = new IMainContract.Signature[](m.nodeKeys.length);
        for (uint256 i; i < list.length; ++i) list[i] = sign(m.nodeKeys[i], digest);
        return abi.encodeCall(IMainContract.settleByReveals, (m.id, word, context, m.opening, holes, list, result));
    }

    /// u32 count, and a u64 for each.
    function listOf(uint64[] memory items) internal pure returns (bytes memory out) {
        out = abi.encodePacked(uint32(items.length));
        for (uint256 i; i < items.length; ++i) out = abi.encodePacked(out, items[i]);
    }

    // ----------------------------------------------------------------------------------- commits, reveals, holes

    struct Round {
        uint32 epoch;
        uint64 t;
        uint64 from;
        uint64[] holes;
        /// What each node computed.
        IMainContract.Computed[] computed;
    }

    function subjectOf(Made memory m, uint32 epoch, uint64 t) internal view returns (bytes memory) {
        bytes32 config = keccak256(abi.encodePacked(tag(24), deploymentBytes(), m.id, epoch));
        return abi.encodePacked(deploymentBytes(), config, t);
    }

    function computed(string memory result) internal pure returns (IMainContract.Computed memory) {
        return IMainContract.Computed({
            kind: 1,
            result: bytes(result),
            detailRoot: keccak256("detail"),
            state: keccak256("state"),
            trace: keccak256("trace"),
            windowHash: keccak256("window")
        });
    }

    function abstained(uint8 reason) internal pure returns (IMainContract.Computed memory c) {
        (c.kind, c.result) = (3, abi.encodePacked(reason));
    }

    function secretOf(uint256 node) internal pure returns (bytes32) {
        return keccak256(abi.encode("secret", node));
    }

    function saltOf(uint256 node) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", node));
    }

    function openingHashOf(uint256 node) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(tag(32), secretOf(node), saltOf(node)));
    }

    function commitmentOf(Made memory m, uint32 epoch, uint64 t, uint256 node, IMainContract.Computed memory c)
        internal
        view
        returns (bytes32)
    {
        bytes memory fields = abi.encodePacked(
            c.kind, uint32(c.result.length), c.result, c.detailRoot, c.state, c.trace, c.windowHash
        );
        return keccak256(
            abi.encodePacked(
                tag(33), subjectOf(m, epoch, t), m.terms.nodes[node], fields, secretOf(node), saltOf(node)
            )
        );
    }

    function commitDigestOf(Made memory m, uint32 epoch, uint64 t, uint256 node, bytes32 commitment, bytes32 opening)
        internal
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encodePacked(tag(34), subjectOf(m, epoch, t), m.terms.nodes[node], commitment, opening)
        );
    }

    function commitsOf(Made memory m, Round memory r) internal view returns (IMainContract.Commit[] memory list) {
        list = new IMainContract.Commit[](r.computed.length);
        for (uint256 i; i < list.length; ++i) {
            bytes32 commitment = commitmentOf(m, r.epoch, r.t, i, r.computed[i]);
            bytes32 digest = commitDigestOf(m, r.epoch, r.t, i, commitment, openingHashOf(i));
            list[i] = IMainContract.Commit(commitment, openingHashOf(i), sign(m.nodeKeys[i], digest));
        }
    }

    function sealOf(Made memory m, Round memory r, IMainContract.Commit[] memory commits)
        internal
        view
        returns (bytes32)
    {
        bytes memory digests;
        for (uint256 i; i < commits.length; ++i) {
            digests = abi.encodePacked(
                digests, commitDigestOf(m, r.epoch, r.t, i, commits[i].commitment, commits[i].openingHash)
            );
        }
        return keccak256(
            abi.encodePacked(tag(35), subjectOf(m, r.epoch, r.t), uint16(commits.length), digests)
        );
    }

    function contextOf(IMainContract.Computed memory c, bytes32 seal) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(tag(36), c.windowHash, c.detailRoot, c.state, c.trace, seal));
    }

    function openedOf(Made memory m, Round memory r, bytes32 seal)
        internal
        view
        returns (IMainContract.OpenedReveal[] memory list)
    {
        list = new IMainContract.OpenedReveal[](r.computed.length);
        for (uint256 i; i < list.length; ++i) {
            IMainContract.Computed memory c = r.computed[i];
            bytes32 outcome =
                outcomeDigest(m.id, wordOf(c.kind, r.epoch, r.from, r.t), contextOf(c, seal), c.result);
            list[i] = IMainContract.OpenedReveal(
                c, secretOf(i), saltOf(i), sign(m.nodeKeys[i], revealDigest(outcome, r.holes))
            );
        }
    }

    function holeCallWith(
        Made memory m,
        Round memory r,
        IMainContract.Commit[] memory commits,
        IMainContract.OpenedReveal[] memory reveals
    ) internal pure returns (bytes memory) {
        return abi.encodeCall(
            IMainContract.settleHole,
            (m.id, r.epoch, r.t, r.from, r.holes, m.opening, m.terms.nodes, commits, reveals)
        );
    }

    function holeCall(Made memory m, Round memory r) internal view returns (bytes memory) {
        IMainContract.Commit[] memory commits = commitsOf(m, r);
        return holeCallWith(m, r, commits, openedOf(m, r, sealOf(m, r, commits)));
    }

    /// The round of `n` nodes, of which the last one computed something else.
    function unequalRound(uint32 epoch, uint64 from, uint64 t, uint256 n) internal pure returns (Round memory r) {
        (r.epoch, r.from, r.t) = (epoch, from, t);
        r.computed = new IMainContract.Computed[](n);
        for (uint256 i; i < n; ++i) r.computed[i] = computed(i + 1 == n ? "false" : "true");
    }

    function holeDigest(bytes32 a, uint256 word, bytes32 seal, bytes32 state, uint64[] memory holes)
        internal
        view
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(tag(43), deploymentBytes(), a, word, seal, state, listOf(holes)));
    }

    // --------------------------------------------------------------------------------------------- resolutions

    function qOf(uint256 n) internal pure returns (uint64[] memory list) {
        list = new uint64[](n);
        for (uint256 i; i < n; ++i) list[i] = uint64(1000 + i);
    }

    function stateOf(bytes memory carry, uint64[] memory qNext) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(tag(18), uint32(carry.length), carry, listOf(qNext)));
    }

    function resolutionHash(IMainContract.Resolution memory r) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("Resolution(bytes32 agreement,uint64 t,uint8 kind,bytes result,bytes32 state)"),
                r.agreement,
                r.t,
                r.kind,
                keccak256(r.result),
                r.state
            )
        );
    }

    function resolutionOf(Made memory m, uint64 t, uint8 kind, bytes memory result)
        internal
        pure
        returns (IMainContract.Resolution memory)
    {
        return IMainContract.Resolution(m.id, t, kind, result, stateOf("carry", qOf(SENSOR_COUNT)));
    }

    function resolveCallWith(
        Made memory m,
        IMainContract.Resolution memory r,
        bytes memory carry,
        uint64[] memory qNext
    ) internal view returns (bytes memory) {
        return abi.encodeCall(
            IMainContract.resolve,
            (
                r,
                carry,
                qNext,
                m.sensors,
                m.opening,
                m.terms.users,
                userSignatures(m, typed(resolutionHash(r)))
            )
        );
    }

    function resolveCall(Made memory m, uint64 t, uint8 kind, bytes memory result)
        internal
        view
        returns (bytes memory)
    {
        return resolveCallWith(m, resolutionOf(m, t, kind, result), "carry", qOf(SENSOR_COUNT));
    }

    function resolvedDigest(bytes32 a, uint256 word, bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(tag(44), deploymentBytes(), a, word, structHash));
    }

    // ------------------------------------------------------------------------------------------------------ calls

    /// Sends calldata and passes a revert on.
    function send(bytes memory data) internal {
        (bool ok, bytes memory answer) = address(main).call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    /// Sends calldata that must revert with exactly this error.
    function refused(bytes memory data, bytes memory reason) internal {
        (bool ok, bytes memory answer) = address(main).call(data);
        require(!ok, "expected a revert");
        eq(answer, reason);
    }

    function refused(bytes memory data, bytes4 reason) internal {
        refused(data, abi.encodePacked(reason));
    }
}
