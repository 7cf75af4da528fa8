// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

contract DisputesTest is Kit {
    Made private m;
    /// Of which epoch and execution the evidence is.
    uint32 private inEpoch = 0;
    uint64 private atT = 7;
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

    function commitmentOf(uint256 node, IMainContract.Computed memory c) private view returns (bytes32) {
        bytes memory fields = abi.encodePacked(
            c.kind, uint32(c.result.length), c.result, c.detailRoot, c.state, c.trace, c.windowHash
        );
        return keccak256(
            abi.encodePacked(tag(33), subject(inEpoch, atT), m.terms.nodes[node], fields, SECRET, SALT)
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
            commitment, opening, sign(m.nodeKeys[node], commitDigest(node, commitment, opening, inEpoch, atT))
        );
    }

    function revealDigestOf(IMainContract.Computed memory c, bytes32 seal, uint64 from, uint64[] memory holes)
        private
        view
        returns (bytes32)
    {
        bytes32 context =
            keccak256(abi.encodePacked(tag(36), c.windowHash, c.detailRoot, c.state, c.trace, seal));
        return revealDigest(outcomeDigest(m.id, wordOf(c.kind, inEpoch, from, atT), context, c.result), holes);
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
        return main.disputeId(kind, m.id, inEpoch, atT, accused);
    }

    function checkRecorded(bytes memory sent, IMainContract.DisputeKind kind, address accused) private {
        bytes32 id = dispute(kind, accused);
        (IMainContract.DisputeKind before,,,) = main.disputes(id);
        (, uint64 nextT,, bytes24 head,) = main.agreements(m.id);
        yes(before == IMainContract.DisputeKind.None);
        vm.recordLogs();
        send(sent);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        eq(logs[0].topics[0], keccak256("DisputeRecorded(bytes32,bytes32,address,uint8,uint32,uint64,bytes)"));
        eq(logs[0].topics[1], id);
        eq(logs[0].topics[2], m.id);
        eq(logs[0].topics[3], bytes32(uint256(uint160(accused))));
        eq(logs[0].data, abi.encode(kind, inEpoch, atT, sent));
        // A record, and no more: it closes no door.
        (, uint64 nextT2,, bytes24 head2,) = main.agreements(m.id);
        eq(nextT2, nextT);
        eq(head2, head);
        (IMainContract.DisputeKind now_, uint32 epoch, uint64 point, bytes18 a) = main.disputes(id);
        yes(now_ == kind);
        eq(epoch, inEpoch);
        eq(point, atT);
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
            IMainContract.reportEquivocation, (m.id, inEpoch, atT, m.opening, m.terms.nodes, node, one, two)
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

    /// Of a second reading, of an epoch that is neither in force nor next, of a t that is behind or far ahead.
    function test_anyEpochAndT() public {
        uint32[4] memory epochs = [uint32(1 << 16), 5 << 16 | 3, 9, type(uint32).max];
        uint64[4] memory ts = [uint64(0), 7, 1 << 39, T_LIMIT - 1];
        send(settleCall(m, wordOf(1, 0, 0, 3), "context", "r"));
        for (uint256 i; i < 4; ++i) {
            (inEpoch, atT) = (epochs[i], ts[i]);
            checkRecorded(
                equivocation(1, commitOf(1, "one", "opening"), commitOf(1, "two", "opening")),
                IMainContract.DisputeKind.Equivocation,
                m.terms.nodes[1]
            );
            checkRecorded(
                falseReveal(commitOf(1, commitmentOf(1, computed("true")), openingHash()), revealOf(1, computed("false"))),
                IMainContract.DisputeKind.FalseReveal,
                m.terms.nodes[1]
            );
        }
    }

    /// No t that never settles.
    function test_absurdT() public {
        uint64[3] memory ts = [T_LIMIT, 1 << 60, MAX_T];
        for (uint256 i; i < 3; ++i) {
            atT = ts[i];
            refused(
                equivocation(1, commitOf(1, "one", "opening"), commitOf(1, "two", "opening")),
                abi.encodeCall(Errors.TOutOfRange, (ts[i]))
            );
            refused(
                falseReveal(commitOf(1, commitmentOf(1, computed("true")), openingHash()), revealOf(1, computed("false"))),
                abi.encodeCall(Errors.TOutOfRange, (ts[i]))
            );
        }
    }

    function longer(bytes memory sent) private {
        refused(abi.encodePacked(sent, hex"00"), abi.encodeCall(Errors.CallNotExact, (sent.length, sent.length + 1)));
        refused(
            abi.encodePacked(sent, new bytes(50_000)),
            abi.encodeCall(Errors.CallNotExact, (sent.length, sent.length + 50_000))
        );
        send(sent);
    }

    /// Evidence that no reader takes: of a kind that there is not, with a result or more holes than there can be.
    function test_evidenceBeyondBounds() public {
        IMainContract.Computed memory c = computed("true");
        IMainContract.Commit memory commit = commitOf(1, commitmentOf(1, c), openingHash());
        c.kind = 4;
        refused(falseReveal(commit, revealOf(1, c)), abi.encodeCall(Errors.KindNotSettled, (4)));
        c.kind = 1;
        c.result = new bytes(4_097);
        refused(falseReveal(commit, revealOf(1, c)), abi.encodeCall(Errors.ResultTooLong, (4_097)));
        c.result = new bytes(1 << 20);
        (bool ok, bytes memory answer) = address(main).call(falseReveal(commit, revealOf(1, c)));
        yes(!ok);
        eq(bytes32(bytes4(answer)), bytes32(IMainContract.CallTooLong.selector));
        IMainContract.Reveal memory r = revealOf(1, computed("false"));
        r.holes = new uint64[](257);
        refused(falseReveal(commit, r), abi.encodeCall(Errors.TooManyHoles, (257)));
    }

    /// Bytes behind the arguments would be logged as evidence, and are nobody's word.
    function test_paddedEvidence() public {
        longer(equivocation(1, commitOf(1, "one", "opening"), commitOf(1, "two", "opening")));
        longer(falseReveal(commitOf(1, commitmentOf(1, computed("true")), openingHash()), revealOf(1, computed("false"))));
    }

    function test_equivocationRefusals() public {
        IMainContract.Commit memory one = commitOf(1, "one", "opening");
        IMainContract.Commit memory two = commitOf(1, "two", "opening");
        bytes memory notSigned = abi.encodeCall(Errors.BadSignature, (m.terms.nodes[1]));
        refused(equivocation(1, one, one), IMainContract.SameCommit.selector);
        // The same commit with a malleated signature is no second commit, and no signature.
        IMainContract.Commit memory bad = commitOf(1, "one", "opening");
        bad.signature = malleated(m.nodeKeys[1], commitDigest(1, "one", "opening", inEpoch, atT));
        refused(equivocation(1, one, bad), IMainContract.SameCommit.selector);
        bad = commitOf(1, "two", "opening");
        bad.signature = malleated(m.nodeKeys[1], commitDigest(1, "two", "opening", inEpoch, atT));
        refused(equivocation(1, one, bad), notSigned);
        refused(equivocation(1, bad, one), notSigned);
        // Commits for two executions, two epochs, by two nodes, of two agreements contradict nothing.
        bad.signature = sign(m.nodeKeys[1], commitDigest(1, "two", "opening", inEpoch, atT + 1));
        refused(equivocation(1, one, bad), notSigned);
        bad.signature = sign(m.nodeKeys[1], commitDigest(1, "two", "opening", inEpoch + 1, atT));
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
            abi.encodeCall(IMainContract.reportEquivocation, (m.id, inEpoch, atT, m.opening, nodes, 0, one, two)),
            IMainContract.NodesDoNotOpen.selector
        );
        IMainContract.Opening memory forged = m.opening;
        forged.nodes = keccak256(abi.encodePacked(nodes));
        refused(
            abi.encodeCall(IMainContract.reportEquivocation, (m.id, inEpoch, atT, forged, nodes, 0, one, two)),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        refused(
            abi.encodeCall(
                IMainContract.reportEquivocation, (m.id, inEpoch, atT, other.opening, other.terms.nodes, 1, one, two)
            ),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        Made memory unknown = prepare(3, 2, 3);
        refused(
            abi.encodeCall(
                IMainContract.reportEquivocation,
                (unknown.id, inEpoch, atT, unknown.opening, unknown.terms.nodes, 1, one, two)
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
            (m.id, inEpoch, atT, m.opening, m.terms.nodes, commit, seal, secret, salt, reveal)
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
}
