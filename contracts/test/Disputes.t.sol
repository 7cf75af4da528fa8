// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

contract DisputesTest is Kit {
    Made private m;
    uint32 private constant EPOCH = 0;
    uint64 private constant T = 7;
    bytes32 private constant SEAL = keccak256("seal");
    bytes32 private constant SECRET = keccak256("secret");
    bytes32 private constant SALT = keccak256("salt");

    function setUp() public override {
        super.setUp();
        m = create(1, 2, 3);
    }

    // ------------------------------------------------------------------------------- digests, spelt out again

    function subject(uint32 epoch, uint64 t) private view returns (bytes memory) {
        bytes32 config = keccak256(abi.encodePacked(tag(24), deploymentBytes(), m.id, epoch));
        return abi.encodePacked(deploymentBytes(), config, t);
    }

    function computed(string memory result) private pure returns (IMainContract.Computed memory) {
        return IMainContract.Computed({
            kind: 1,
            result: bytes(result),
            detailRoot: keccak256("detail"),
            state: keccak256("state"),
            trace: keccak256("trace"),
            windowHash: keccak256("window")
        });
    }

    function commitmentOf(uint256 node, IMainContract.Computed memory c) private view returns (bytes32) {
        bytes memory fields = abi.encodePacked(
            c.kind, uint32(c.result.length), c.result, c.detailRoot, c.state, c.trace, c.windowHash
        );
        return keccak256(
            abi.encodePacked(tag(33), subject(EPOCH, T), m.terms.nodes[node], fields, SECRET, SALT)
        );
    }

    function openingHash() private pure returns (bytes32) {
        return keccak256(abi.encodePacked(tag(32), SECRET, SALT));
    }

    function commitDigest(uint256 node, bytes32 commitment, bytes32 opening, uint32 epoch, uint64 t)
        private
        view
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(tag(34), subject(epoch, t), m.terms.nodes[node], commitment, opening));
    }

    function commitOf(uint256 node, bytes32 commitment, bytes32 opening)
        private
        view
        returns (IMainContract.Commit memory)
    {
        return IMainContract.Commit(
            commitment, opening, sign(m.nodeKeys[node], commitDigest(node, commitment, opening, EPOCH, T))
        );
    }

    function revealDigestOf(IMainContract.Computed memory c, bytes32 seal, uint64 from, uint64[] memory holes)
        private
        view
        returns (bytes32)
    {
        bytes32 context =
            keccak256(abi.encodePacked(tag(36), c.windowHash, c.detailRoot, c.state, c.trace, seal));
        return revealDigest(outcomeDigest(m.id, wordOf(c.kind, EPOCH, from, T), context, c.result), holes);
    }

    function revealOf(uint256 node, IMainContract.Computed memory c)
        private
        view
        returns (IMainContract.Reveal memory)
    {
        uint64[] memory holes = new uint64[](1);
        holes[0] = 5;
        return IMainContract.Reveal(node, c, 3, holes, sign(m.nodeKeys[node], revealDigestOf(c, SEAL, 3, holes)));
    }

    function dispute(IMainContract.DisputeKind kind, address accused) private view returns (bytes32) {
        return main.disputeId(kind, m.id, EPOCH, T, accused);
    }

    function checkRecorded(bytes memory sent, IMainContract.DisputeKind kind, address accused) private {
        bytes32 id = dispute(kind, accused);
        (IMainContract.DisputeKind before,,,,) = main.disputes(id);
        yes(before == IMainContract.DisputeKind.None);
        vm.recordLogs();
        send(sent);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        eq(logs[0].topics[0], keccak256("DisputeRecorded(bytes32,bytes32,address,uint8,uint32,uint64,bytes)"));
        eq(logs[0].topics[1], id);
        eq(logs[0].topics[2], m.id);
        eq(logs[0].topics[3], bytes32(uint256(uint160(accused))));
        eq(logs[0].data, abi.encode(kind, EPOCH, T, sent));
        (IMainContract.DisputeKind now_, bool resolved, uint32 epoch, uint64 point, bytes18 a) = main.disputes(id);
        yes(now_ == kind && !resolved);
        eq(epoch, EPOCH);
        eq(point, T);
        eq(a, bytes18(m.id));
        refused(sent, abi.encodeCall(Errors.AlreadyRecorded, (id)));
    }

    // ------------------------------------------------------------------------------------------- equivocation

    function equivocation(uint256 node, IMainContract.Commit memory one, IMainContract.Commit memory two)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(
            IMainContract.reportEquivocation, (m.id, EPOCH, T, m.opening, m.terms.nodes, node, one, two)
        );
    }

    function test_equivocation() public {
        checkRecorded(
            equivocation(1, commitOf(1, "one", "opening"), commitOf(1, "two", "opening")),
            IMainContract.DisputeKind.Equivocation,
            m.terms.nodes[1]
        );
        // another node's is another dispute
        checkRecorded(
            equivocation(2, commitOf(2, "one", "opening"), commitOf(2, "one", "other")),
            IMainContract.DisputeKind.Equivocation,
            m.terms.nodes[2]
        );
        // the two commits the other way round are the same dispute
        refused(
            equivocation(1, commitOf(1, "two", "opening"), commitOf(1, "one", "opening")),
            abi.encodeCall(
                Errors.AlreadyRecorded, (dispute(IMainContract.DisputeKind.Equivocation, m.terms.nodes[1]))
            )
        );
    }

    function test_equivocationRefusals() public {
        IMainContract.Commit memory one = commitOf(1, "one", "opening");
        IMainContract.Commit memory two = commitOf(1, "two", "opening");
        bytes memory notSigned = abi.encodeCall(Errors.BadSignature, (m.terms.nodes[1]));
        refused(equivocation(1, one, one), IMainContract.SameCommit.selector);
        // The same commit with a malleated signature is no second commit, and no signature.
        IMainContract.Commit memory bad = commitOf(1, "one", "opening");
        bad.signature = malleated(m.nodeKeys[1], commitDigest(1, "one", "opening", EPOCH, T));
        refused(equivocation(1, one, bad), IMainContract.SameCommit.selector);
        bad = commitOf(1, "two", "opening");
        bad.signature = malleated(m.nodeKeys[1], commitDigest(1, "two", "opening", EPOCH, T));
        refused(equivocation(1, one, bad), notSigned);
        refused(equivocation(1, bad, one), notSigned);
        // Commits for two executions, two epochs, by two nodes, of two agreements contradict nothing.
        bad.signature = sign(m.nodeKeys[1], commitDigest(1, "two", "opening", EPOCH, T + 1));
        refused(equivocation(1, one, bad), notSigned);
        bad.signature = sign(m.nodeKeys[1], commitDigest(1, "two", "opening", EPOCH + 1, T));
        refused(equivocation(1, one, bad), notSigned);
        refused(equivocation(1, one, commitOf(2, "two", "opening")), notSigned);
        bytes32 id = m.id;
        m.id = "another";
        bad = commitOf(1, "two", "opening");
        m.id = id;
        refused(equivocation(1, one, bad), notSigned);
        refused(equivocation(0, one, two), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[0])));
        refused(equivocation(3, one, two), abi.encodeCall(Errors.NodeIndexOutOfRange, (3)));
        send(equivocation(1, one, two));
    }

    /// The accused has to be a node of this agreement, which has to exist.
    function test_membership() public {
        Made memory other = create(2, 2, 3);
        IMainContract.Commit memory one = commitOf(1, "one", "opening");
        IMainContract.Commit memory two = commitOf(1, "two", "opening");
        address[] memory nodes = new address[](1);
        nodes[0] = m.terms.nodes[1];
        refused(
            abi.encodeCall(IMainContract.reportEquivocation, (m.id, EPOCH, T, m.opening, nodes, 0, one, two)),
            IMainContract.NodesDoNotOpen.selector
        );
        IMainContract.Opening memory forged = m.opening;
        forged.nodes = keccak256(abi.encodePacked(nodes));
        refused(
            abi.encodeCall(IMainContract.reportEquivocation, (m.id, EPOCH, T, forged, nodes, 0, one, two)),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        refused(
            abi.encodeCall(
                IMainContract.reportEquivocation, (m.id, EPOCH, T, other.opening, other.terms.nodes, 1, one, two)
            ),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        Made memory unknown = prepare(3, 2, 3);
        refused(
            abi.encodeCall(
                IMainContract.reportEquivocation,
                (unknown.id, EPOCH, T, unknown.opening, unknown.terms.nodes, 1, one, two)
            ),
            abi.encodeCall(Errors.NotAnAgreement, (unknown.id))
        );
    }

    // ------------------------------------------------------------------------------------------- false reveal

    function falseReveal(IMainContract.Commit memory commit, IMainContract.Reveal memory reveal)
        private
        view
        returns (bytes memory)
    {
        return falseRevealWith(commit, reveal, SEAL, SECRET, SALT);
    }

    function falseRevealWith(
        IMainContract.Commit memory commit,
        IMainContract.Reveal memory reveal,
        bytes32 seal,
        bytes32 secret,
        bytes32 salt
    ) private view returns (bytes memory) {
        return abi.encodeCall(
            IMainContract.reportFalseReveal,
            (m.id, EPOCH, T, m.opening, m.terms.nodes, commit, seal, secret, salt, reveal)
        );
    }

    function test_falseReveal() public {
        IMainContract.Commit memory commit = commitOf(1, commitmentOf(1, computed("true")), openingHash());
        checkRecorded(
            falseReveal(commit, revealOf(1, computed("false"))),
            IMainContract.DisputeKind.FalseReveal,
            m.terms.nodes[1]
        );
    }

    /// Each field that the commitment covers, when it is another in the reveal.
    function test_falseRevealEachField() public {
        IMainContract.Commit memory commit = commitOf(1, commitmentOf(1, computed("true")), openingHash());
        for (uint256 i; i < 6; ++i) {
            uint256 snapshot = vm.snapshotState();
            IMainContract.Computed memory c = computed("true");
            if (i == 0) (c.kind, c.result) = (0, "");
            if (i == 1) c.result = "trve";
            if (i == 2) c.detailRoot = 0;
            if (i == 3) c.state = 0;
            if (i == 4) c.trace = 0;
            if (i == 5) c.windowHash = 0;
            send(falseReveal(commit, revealOf(1, c)));
            vm.revertToState(snapshot);
        }
    }

    function test_falseRevealRefusals() public {
        IMainContract.Commit memory commit = commitOf(1, commitmentOf(1, computed("true")), openingHash());
        bytes memory notSigned = abi.encodeCall(Errors.BadSignature, (m.terms.nodes[1]));
        // An honest node: its reveal opens its commit.
        refused(falseReveal(commit, revealOf(1, computed("true"))), IMainContract.RevealOpensCommit.selector);
        // A false secret or salt cannot be pinned on it: the opening hash is in the signed commit.
        IMainContract.Reveal memory honest = revealOf(1, computed("true"));
        refused(
            falseRevealWith(commit, honest, SEAL, "false", SALT), IMainContract.OpeningHashDiffers.selector
        );
        refused(
            falseRevealWith(commit, honest, SEAL, SECRET, "false"), IMainContract.OpeningHashDiffers.selector
        );
        // Nor a field that it did not sign, nor another seal, nor from and holes.
        honest.computed.result = "false";
        refused(falseReveal(commit, honest), notSigned);
        honest = revealOf(1, computed("true"));
        refused(falseRevealWith(commit, honest, "another", SECRET, SALT), notSigned);
        honest.from = 4;
        refused(falseReveal(commit, honest), notSigned);
        honest.from = 3;
        honest.holes = new uint64[](0);
        refused(falseReveal(commit, honest), notSigned);
        // Nor the reveal, or the commit, of another node.
        IMainContract.Reveal memory others = revealOf(2, computed("false"));
        others.node = 1;
        refused(falseReveal(commit, others), notSigned);
        others.node = 2;
        refused(falseReveal(commit, others), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[2])));
        // Nor a malleated signature of its own.
        IMainContract.Reveal memory lie = revealOf(1, computed("false"));
        lie.signature = malleated(m.nodeKeys[1], revealDigestOf(lie.computed, SEAL, lie.from, lie.holes));
        refused(falseReveal(commit, lie), notSigned);
        lie = revealOf(1, computed("false"));
        lie.node = 3;
        refused(falseReveal(commit, lie), abi.encodeCall(Errors.NodeIndexOutOfRange, (3)));
    }

    /// Evidence that some honest node signed cannot be bent into blame, whatever a peer changes in it.
    function testFuzz_honestNodeIsNotBlamed(uint256 place, uint8 flip, bool equivocate) public {
        bytes memory evidence;
        if (equivocate) {
            evidence = equivocation(1, commitOf(1, "one", "opening"), commitOf(1, "one", "opening"));
        } else {
            IMainContract.Commit memory commit = commitOf(1, commitmentOf(1, computed("true")), openingHash());
            evidence = falseReveal(commit, revealOf(1, computed("true")));
        }
        place = 4 + place % (evidence.length - 4);
        evidence[place] = bytes1(uint8(evidence[place]) ^ flip);
        (bool ok,) = address(main).call(evidence);
        yes(!ok);
    }

    // ----------------------------------------------------------------------------------------- unequal reveals

    function unequal(IMainContract.Reveal[] memory reveals) private view returns (bytes memory) {
        return abi.encodeCall(
            IMainContract.reportUnequalReveals, (m.id, EPOCH, T, m.opening, m.terms.nodes, SEAL, reveals)
        );
    }

    function pair(IMainContract.Reveal memory a, IMainContract.Reveal memory b)
        private
        pure
        returns (IMainContract.Reveal[] memory list)
    {
        list = new IMainContract.Reveal[](2);
        (list[0], list[1]) = (a, b);
    }

    function test_unequalReveals() public {
        yes(!main.isHole(m.id, EPOCH, T));
        IMainContract.Reveal[] memory list = new IMainContract.Reveal[](3);
        for (uint256 i; i < 3; ++i) list[i] = revealOf(i, computed(i == 2 ? "false" : "true"));
        checkRecorded(unequal(list), IMainContract.DisputeKind.UnequalReveals, address(0));
        yes(main.isHole(m.id, EPOCH, T));
        yes(!main.isHole(m.id, EPOCH, T + 1));
        yes(!main.isHole(m.id, EPOCH + 1, T));
        // history goes on: the next batch lists the hole
        send(batchCall(m, wordOf(4, 0, 0, 7), "root", hex"fdfdfdfdfdfdfdff"));
    }

    function test_twoOfThreeAreEnough() public {
        send(unequal(pair(revealOf(0, computed("true")), revealOf(2, computed("false")))));
        // the rest of them add nothing
        refused(
            unequal(pair(revealOf(1, computed("true")), revealOf(2, computed("false")))),
            abi.encodeCall(
                Errors.AlreadyRecorded, (dispute(IMainContract.DisputeKind.UnequalReveals, address(0)))
            )
        );
    }

    /// A trace that differs alone is a hole, and reveals that differ in from or holes are one too.
    function test_anyDifferenceIsAHole() public {
        for (uint256 i; i < 4; ++i) {
            uint256 snapshot = vm.snapshotState();
            IMainContract.Reveal memory second = revealOf(2, computed("true"));
            if (i == 0) second.computed.trace = 0;
            if (i == 1) second.computed.kind = 3;
            if (i == 2) second.from = 4;
            if (i == 3) second.holes = new uint64[](0);
            second.signature =
                sign(m.nodeKeys[2], revealDigestOf(second.computed, SEAL, second.from, second.holes));
            send(unequal(pair(revealOf(0, computed("true")), second)));
            vm.revertToState(snapshot);
        }
    }

    function test_unequalRevealsRefusals() public {
        IMainContract.Reveal memory a = revealOf(0, computed("true"));
        IMainContract.Reveal memory b = revealOf(2, computed("false"));
        refused(unequal(pair(a, revealOf(2, computed("true")))), IMainContract.RevealsEqual.selector);
        refused(unequal(pair(b, a)), abi.encodeCall(Errors.RevealsNotAscending, (1)));
        // one node alone makes no hole, even if it signs two reveals
        refused(
            unequal(pair(revealOf(2, computed("true")), b)), abi.encodeCall(Errors.RevealsNotAscending, (1))
        );
        IMainContract.Reveal[] memory one = new IMainContract.Reveal[](1);
        one[0] = a;
        refused(unequal(one), IMainContract.TooFewReveals.selector);
        refused(unequal(new IMainContract.Reveal[](0)), IMainContract.TooFewReveals.selector);
        b.node = 3;
        refused(unequal(pair(a, b)), abi.encodeCall(Errors.NodeIndexOutOfRange, (3)));
        b.node = 1;
        refused(unequal(pair(a, b)), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[1])));
        b = revealOf(2, computed("false"));
        b.signature = malleated(m.nodeKeys[2], revealDigestOf(b.computed, SEAL, b.from, b.holes));
        refused(unequal(pair(a, b)), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[2])));
        // under another seal
        b.signature = sign(m.nodeKeys[2], revealDigestOf(b.computed, "another", b.from, b.holes));
        refused(unequal(pair(a, b)), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[2])));
    }

    // --------------------------------------------------------------------------------------------- resolution

    function resolutionHash(bytes32 id, uint256 word, bytes32 context, bytes memory result)
        private
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "Resolution(bytes32 dispute,bytes32 agreement,uint256 word,bytes32 context,bytes result)"
                ),
                id,
                m.id,
                word,
                context,
                keccak256(result)
            )
        );
    }

    function resolution(bytes32 id, uint256 word, bytes memory result) private view returns (bytes memory) {
        return abi.encodeCall(
            IMainContract.resolve,
            (
                id,
                m.id,
                word,
                "context",
                result,
                m.opening,
                m.terms.users,
                userSignatures(m, typed(resolutionHash(id, word, "context", result)))
            )
        );
    }

    function hole() private returns (bytes32 id) {
        send(unequal(pair(revealOf(0, computed("true")), revealOf(2, computed("false")))));
        return dispute(IMainContract.DisputeKind.UnequalReveals, address(0));
    }

    /// In the epoch in force a resolution is a record beside a history that goes on.
    function test_resolveAsRecord() public {
        bytes32 id = hole();
        (, uint64 nextT, uint32 epoch, bytes32 head,) = main.agreements(m.id);
        uint256 word = wordOf(1, 0, 7, 7);
        vm.recordLogs();
        send(resolution(id, word, "agreed"));
        Vm.Log memory log = vm.getRecordedLogs()[0];
        eq(log.topics[0], keccak256("DisputeResolved(bytes32,bytes32,uint256,bytes32,bytes)"));
        eq(log.topics[1], id);
        eq(log.topics[2], m.id);
        eq(log.data, abi.encode(word, bytes32("context"), bytes("agreed")));
        (, bool resolved,,,) = main.disputes(id);
        yes(resolved);
        (, uint64 nextT2, uint32 epoch2, bytes32 head2,) = main.agreements(m.id);
        eq(nextT, nextT2);
        eq(epoch, epoch2);
        eq(head, head2);
        refused(resolution(id, word, "agreed"), abi.encodeCall(Errors.AlreadyResolved, (id)));
    }

    /// In the next epoch it settles t, and opens that epoch.
    function test_resolveOpensEpoch() public {
        bytes32 id = hole();
        refused(resolution(id, wordOf(1, 2, 0, 7), "r"), abi.encodeCall(Errors.EpochNotInForce, (2, 0)));
        refused(resolution(id, wordOf(1, 1, 1, 7), "r"), abi.encodeCall(Errors.FromIsNotNext, (1, 0)));
        send(settleCall(m, wordOf(1, 0, 0, 4), "context", "earlier"));
        (IMainContract.Status status, uint64 nextT,, bytes32 before,) = main.agreements(m.id);
        uint256 word = wordOf(1, 1, 5, 7);
        send(resolution(id, word, "agreed"));
        uint32 epoch;
        bytes32 head;
        (status, nextT, epoch, head,) = main.agreements(m.id);
        yes(status == IMainContract.Status.Open);
        eq(nextT, 8);
        eq(epoch, 1);
        bytes memory slot = abi.encodePacked(bytes19(before), uint8(1), uint32(0), uint64(5));
        eq(
            head,
            bytes19(keccak256(abi.encodePacked(slot, resolutionHash(id, word, "context", "agreed"))))
        );
        refused(
            settleCall(m, wordOf(1, 0, 8, 8), "context", "r"), abi.encodeCall(Errors.EpochNotInForce, (0, 1))
        );
        send(settleCall(m, wordOf(1, 1, 8, 8), "context", "r"));
    }

    function test_resolveRefusals() public {
        bytes32 id = hole();
        uint256 word = wordOf(1, 0, 7, 7);
        refused(resolution("none", word, "r"), abi.encodeCall(Errors.NotADispute, ("none")));
        refused(
            resolution(id, wordOf(1, 0, 7, 8), "r"), abi.encodeCall(Errors.DisputeNotResolvable, (id))
        );
        refused(resolution(id, wordOf(3, 0, 7, 7), "r"), abi.encodeCall(Errors.KindNotSettled, (3)));
        refused(resolution(id, wordOf(2, 0, 7, 7), "r"), IMainContract.TrapWithResult.selector);
        refused(resolution(id, wordOf(0, 0, 7, 7), "r"), IMainContract.NullWithResult.selector);
        IMainContract.Signature[] memory list =
            userSignatures(m, typed(resolutionHash(id, word, "context", "r")));
        list[0] = sign(m.nodeKeys[0], typed(resolutionHash(id, word, "context", "r")));
        refused(
            abi.encodeCall(
                IMainContract.resolve,
                (id, m.id, word, "context", bytes("r"), m.opening, m.terms.users, list)
            ),
            abi.encodeCall(Errors.BadSignature, (m.terms.users[0]))
        );
        // the dispute of one agreement is not resolved by the users of another
        Made memory first = m;
        m = create(2, 2, 3);
        refused(resolution(id, word, "r"), abi.encodeCall(Errors.DisputeNotResolvable, (id)));
        m = first;
        send(resolution(id, wordOf(0, 0, 7, 7), ""));
    }
}
