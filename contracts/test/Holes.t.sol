// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title Hole certificates, and everything that is none
contract HolesTest is Kit {
    uint256 private constant NODES = 3;
    Made private m;

    function setUp() public override {
        super.setUp();
        m = create(1, 2, NODES);
        send(settleCall(m, wordOf(1, 0, 0, 2), "context", "r"));
    }

    /// A round at t = 5 that speaks from 1 on, with a hole at 2: t 3 and 4 were null.
    function round() private pure returns (Round memory r) {
        r = unequalRound(0, 1, 5, NODES);
        r.holes = new uint64[](1);
        r.holes[0] = 2;
    }

    function all(IMainContract.Computed memory c) private pure returns (Round memory r) {
        r = round();
        for (uint256 i; i < NODES; ++i) r.computed[i] = c;
    }

    function checkHole(Round memory r, uint8 kind, bytes32 state) private {
        (,,, bytes24 before,) = main.agreements(m.id);
        bytes memory sent = holeCall(m, r);
        bytes32 seal = sealOf(m, r, commitsOf(m, r));
        uint256 word = wordOf(kind, r.epoch, r.from, r.t);
        vm.recordLogs();
        send(sent);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 2);
        bytes32 id = main.disputeId(IMainContract.DisputeKind.UnequalReveals, m.id, r.epoch, r.t, address(0));
        eq(logs[0].topics[0], keccak256("DisputeRecorded(bytes32,bytes32,address,uint8,uint32,uint64,bytes)"));
        eq(logs[0].topics[1], id);
        eq(logs[0].topics[2], m.id);
        eq(logs[0].topics[3], 0);
        eq(logs[0].data, abi.encode(IMainContract.DisputeKind.UnequalReveals, r.epoch, r.t, sent));
        eq(logs[1].topics.length, 3);
        eq(logs[1].topics[0], keccak256("HoleSettled(bytes32,uint64,uint256,bytes32,bytes32,uint64[])"));
        eq(logs[1].topics[1], m.id);
        eq(logs[1].topics[2], bytes32(uint256(r.t)));
        eq(logs[1].data, abi.encode(word, seal, state, r.holes));
        (, uint64 nextT, uint32 epoch, bytes24 head,) = main.agreements(m.id);
        eq(nextT, r.t + 1);
        eq(epoch, r.epoch);
        bytes32 digest = holeDigest(m.id, word, seal, state, r.holes);
        eq(head, bytes24(keccak256(abi.encodePacked(before, bytes8(0), digest))));
        (IMainContract.DisputeKind k,, uint64 point, bytes18 a) = main.disputes(id);
        yes(k == IMainContract.DisputeKind.UnequalReveals);
        eq(point, r.t);
        eq(a, bytes18(m.id));
        yes(main.isHole(m.id, r.epoch, r.t));
        yes(!main.isHole(m.id, r.epoch, r.t + 1));
        yes(!main.isHole(m.id, r.epoch + 1, r.t));
        refused(sent, abi.encodeCall(Errors.AlreadySettled, (r.t, r.t + 1)));
    }

    function test_hole() public {
        yes(!main.isHole(m.id, 0, 5));
        checkHole(round(), 5, keccak256("state"));
        // history goes on
        send(settleCall(m, wordOf(1, 0, 6, 6), "context", "r"));
    }

    /// Each field that a commitment covers makes a hole when it differs; a state' that differs is no common one.
    function test_anyDifference() public {
        for (uint256 k; k < 7 * NODES; ++k) {
            (uint256 i, uint256 node) = (k / NODES, k % NODES);
            uint256 snapshot = vm.snapshotState();
            Round memory r = all(computed("true"));
            IMainContract.Computed memory c = computed("true");
            if (i == 0) (c.kind, c.result) = (0, "");
            if (i == 1) c.result = "trve";
            if (i == 2) c.detailRoot = 0;
            if (i == 3) c.state = 0;
            if (i == 4) c.trace = 0;
            if (i == 5) c.windowHash = 0;
            // an abstention with the state of the others is no agreement with it
            if (i == 6) c.kind = 3;
            r.computed[node] = c;
            checkHole(r, 5, i == 3 || i == 6 ? bytes32(0) : keccak256("state"));
            vm.revertToState(snapshot);
        }
    }

    /// All abstained: a hole, whether for one reason or for several, and without a state.
    function test_allAbstained() public {
        uint256 snapshot = vm.snapshotState();
        checkHole(all(abstained(1)), 3, 0);
        vm.revertToState(snapshot);
        Round memory r = all(abstained(1));
        r.computed[1] = abstained(4);
        // even with one state' in all of them
        for (uint256 i; i < NODES; ++i) r.computed[i].state = keccak256("state");
        checkHole(r, 3, 0);
    }

    function test_nextEpoch() public {
        Round memory r = round();
        r.epoch = 1;
        checkHole(r, 5, keccak256("state"));
        r = unequalRound(0, 6, 6, NODES);
        refused(holeCall(m, r), abi.encodeCall(Errors.EpochNotInForce, (0, 1)));
    }

    function test_withoutHoles() public {
        checkHole(unequalRound(0, 3, 3, NODES), 5, keccak256("state"));
    }

    /// What n nodes signed as an outcome is followed, though a certificate of a hole exists too, and the other way round.
    function test_whichComesFirst() public {
        bytes memory hole = holeCall(m, unequalRound(0, 3, 3, NODES));
        bytes memory value = settleCall(m, wordOf(1, 0, 3, 3), "context", "r");
        uint256 snapshot = vm.snapshotState();
        send(value);
        refused(hole, abi.encodeCall(Errors.AlreadySettled, (3, 4)));
        vm.revertToState(snapshot);
        send(hole);
        refused(value, abi.encodeCall(Errors.AlreadySettled, (3, 4)));
        // a batch across it settles what lies behind the hole
        send(batchCall(m, wordOf(4, 0, 3, 4), "root", hex"fffd"));
    }

    // ----------------------------------------------------------------------------------------------- refusals

    IMainContract.Commit[] private commits;
    IMainContract.OpenedReveal[] private reveals;

    function take(Round memory r) private returns (bytes32 seal) {
        delete commits;
        delete reveals;
        IMainContract.Commit[] memory c = commitsOf(m, r);
        seal = sealOf(m, r, c);
        IMainContract.OpenedReveal[] memory o = openedOf(m, r, seal);
        for (uint256 i; i < c.length; ++i) {
            commits.push(c[i]);
            reveals.push(o[i]);
        }
    }

    function sent_(Round memory r) private view returns (bytes memory) {
        return holeCallWith(m, r, commits, reveals);
    }

    function notSigned(uint256 node) private view returns (bytes memory) {
        return abi.encodeCall(Errors.BadSignature, (m.terms.nodes[node]));
    }

    /// Signs a commit anew with what stands in it, as of another epoch or t, or by another node.
    function signCommit(uint256 i, uint256 by, uint32 epoch, uint64 t) private {
        commits[i].signature =
            sign(m.nodeKeys[by], commitDigestOf(m, epoch, t, i, commits[i].commitment, commits[i].openingHash));
    }

    function test_commits() public {
        Round memory r = round();
        take(r);
        bytes memory good = sent_(r);
        for (uint256 i; i < NODES; ++i) {
            take(r);
            signCommit(i, (i + 1) % NODES, 0, 5);
            refused(sent_(r), notSigned(i));
            signCommit(i, i, 1, 5);
            refused(sent_(r), notSigned(i));
            signCommit(i, i, 0, 6);
            refused(sent_(r), notSigned(i));
            take(r);
            commits[i].signature = malleated(
                m.nodeKeys[i], commitDigestOf(m, 0, 5, i, commits[i].commitment, commits[i].openingHash)
            );
            refused(sent_(r), notSigned(i));
            take(r);
            commits[i].commitment = "another";
            refused(sent_(r), notSigned(i));
            take(r);
            commits[i].openingHash = "another";
            refused(sent_(r), notSigned(i));
        }
        // in another order, or one for another
        take(r);
        IMainContract.Commit memory kept = commits[0];
        commits[0] = commits[1];
        commits[1] = kept;
        refused(sent_(r), notSigned(0));
        take(r);
        commits[2] = commits[1];
        refused(sent_(r), notSigned(2));
        send(good);
    }

    /// A commit that its node signed, and that its reveal does not open: misbehaviour, and no hole.
    function test_revealsThatOpenNothing() public {
        Round memory r = round();
        for (uint256 i; i < NODES; ++i) {
            bytes memory reason = abi.encodeCall(Errors.RevealDoesNotOpenCommit, (i));
            take(r);
            reveals[i].secret = "another";
            refused(sent_(r), reason);
            take(r);
            reveals[i].salt = "another";
            refused(sent_(r), reason);
            for (uint256 field; field < 6; ++field) {
                bytes32 seal = take(r);
                IMainContract.Computed memory c = r.computed[i];
                c = IMainContract.Computed(c.kind, c.result, c.detailRoot, c.state, c.trace, c.windowHash);
                if (field == 0) c.kind = 0;
                if (field == 1) c.result = "trve";
                if (field == 2) c.detailRoot = 0;
                if (field == 3) c.state = 0;
                if (field == 4) c.trace = 0;
                if (field == 5) c.windowHash = 0;
                reveals[i].computed = c;
                reveals[i].signature = signReveal(r, i, c, seal, r.from, r.holes);
                refused(sent_(r), reason);
            }
        }
    }

    /// Secret and salt that open the commitment, but not the opening hash that was signed with it, count as silence.
    function test_anotherOpeningHash() public {
        Round memory r = round();
        for (uint256 i; i < NODES; ++i) {
            take(r);
            commits[i].openingHash = keccak256("of another secret");
            signCommit(i, i, 0, 5);
            bytes32 seal = sealOf(m, r, commits);
            for (uint256 k; k < NODES; ++k) {
                reveals[k].signature = signReveal(r, k, r.computed[k], seal, r.from, r.holes);
            }
            refused(sent_(r), abi.encodeCall(Errors.RevealDoesNotOpenCommit, (i)));
        }
    }

    function signReveal(
        Round memory r,
        uint256 i,
        IMainContract.Computed memory c,
        bytes32 seal,
        uint64 from,
        uint64[] memory holes
    ) private view returns (IMainContract.Signature memory) {
        bytes32 outcome = outcomeDigest(m.id, wordOf(c.kind, r.epoch, from, r.t), contextOf(c, seal), c.result);
        return sign(m.nodeKeys[i], revealDigest(outcome, holes));
    }

    /// One node alone cannot make a hole beside n - 1 equal reveals with a reveal that is none.
    function test_oneNodeAlone() public {
        Round memory r = all(computed("true"));
        bytes32 seal = take(r);
        reveals[2].computed = computed("false");
        reveals[2].signature = signReveal(r, 2, computed("false"), seal, r.from, r.holes);
        refused(sent_(r), abi.encodeCall(Errors.RevealDoesNotOpenCommit, (2)));
    }

    /// Signed by its node, under this seal, with this `from` and these holes.
    function test_revealSignatures() public {
        Round memory r = round();
        for (uint256 i; i < NODES; ++i) {
            bytes32 seal = take(r);
            reveals[i].signature = signReveal(r, i, r.computed[i], "another seal", r.from, r.holes);
            refused(sent_(r), notSigned(i));
            reveals[i].signature = signReveal(r, i, r.computed[i], seal, 2, r.holes);
            refused(sent_(r), notSigned(i));
            reveals[i].signature = signReveal(r, i, r.computed[i], seal, r.from, new uint64[](0));
            refused(sent_(r), notSigned(i));
            reveals[i].signature = signReveal(r, (i + 1) % NODES, r.computed[i], seal, r.from, r.holes);
            refused(sent_(r), notSigned(i));
            take(r);
            bytes32 outcome = outcomeDigest(
                m.id,
                wordOf(r.computed[i].kind, 0, r.from, r.t),
                contextOf(r.computed[i], seal),
                r.computed[i].result
            );
            reveals[i].signature = malleated(m.nodeKeys[i], revealDigest(outcome, r.holes));
            refused(sent_(r), notSigned(i));
        }
        take(r);
        IMainContract.OpenedReveal memory kept = reveals[0];
        reveals[0] = reveals[1];
        reveals[1] = kept;
        refused(sent_(r), abi.encodeCall(Errors.RevealDoesNotOpenCommit, (0)));
    }

    /// A second commit of somebody makes another seal, under which the others signed nothing.
    function test_secondSeal() public {
        Round memory r = round();
        Round memory other = round();
        other.computed[0] = computed("a second commit");
        bytes32 seal = take(other);
        reveals[1].signature = signReveal(r, 1, r.computed[1], sealOf(m, r, commitsOf(m, r)), r.from, r.holes);
        yes(seal != sealOf(m, r, commitsOf(m, r)));
        refused(sent_(r), notSigned(1));
    }

    function test_equal() public {
        refused(holeCall(m, all(computed("true"))), IMainContract.RevealsEqual.selector);
        IMainContract.Computed memory c = computed("");
        c.kind = 0;
        refused(holeCall(m, all(c)), IMainContract.RevealsEqual.selector);
        c.kind = 2;
        refused(holeCall(m, all(c)), IMainContract.RevealsEqual.selector);
    }

    /// All n, and no more.
    function test_ofEveryNode() public {
        Round memory r = round();
        take(r);
        commits.pop();
        refused(sent_(r), abi.encodeCall(Errors.NotOfEveryNode, (2, 3)));
        take(r);
        reveals.pop();
        refused(sent_(r), abi.encodeCall(Errors.NotOfEveryNode, (2, 3)));
        take(r);
        commits.push(commits[2]);
        refused(sent_(r), abi.encodeCall(Errors.NotOfEveryNode, (4, 3)));
        take(r);
        reveals.push(reveals[2]);
        refused(sent_(r), abi.encodeCall(Errors.NotOfEveryNode, (4, 3)));
        delete commits;
        delete reveals;
        refused(sent_(r), abi.encodeCall(Errors.NotOfEveryNode, (0, 3)));
    }

    /// Two nodes of one party, at a t that nobody has reached, under a seal that they made up.
    function test_holeAtAnyT() public {
        Round memory r = unequalRound(0, 3, 1 << 60, NODES);
        refused(holeCall(m, r), abi.encodeCall(Errors.BeyondEnd, (1 << 60, T_LIMIT)));
        r = unequalRound(0, 4, 4, NODES);
        refused(holeCall(m, r), abi.encodeCall(Errors.FromBeyondNext, (4, 3)));
        // two of three, of the nodes of the terms or of a list of their own
        r = unequalRound(0, 3, 3, 2);
        refused(holeCall(m, r), abi.encodeCall(Errors.NotOfEveryNode, (2, 3)));
        IMainContract.Commit[] memory c = commitsOf(m, r);
        IMainContract.OpenedReveal[] memory o = openedOf(m, r, sealOf(m, r, c));
        address[] memory two = new address[](2);
        (two[0], two[1]) = (m.terms.nodes[0], m.terms.nodes[1]);
        refused(
            abi.encodeCall(IMainContract.settleHole, (m.id, 0, 3, 3, r.holes, m.opening, two, c, o)),
            IMainContract.NodesDoNotOpen.selector
        );
        IMainContract.Opening memory forged = m.opening;
        forged.nodes = keccak256(abi.encodePacked(two));
        refused(
            abi.encodeCall(IMainContract.settleHole, (m.id, 0, 3, 3, r.holes, forged, two, c, o)),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
    }

    function test_noNodes() public {
        IMainContract.Opening memory forged = m.opening;
        forged.nodes = keccak256("");
        uint64[] memory none;
        refused(
            abi.encodeCall(
                IMainContract.settleHole,
                (
                    m.id,
                    0,
                    3,
                    3,
                    none,
                    forged,
                    new address[](0),
                    new IMainContract.Commit[](0),
                    new IMainContract.OpenedReveal[](0)
                )
            ),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
    }

    function test_holesMalformed() public {
        Round memory r = unequalRound(0, 1, 5, NODES);
        r.holes = new uint64[](2);
        uint64[2][4] memory bad = [[uint64(0), 2], [uint64(2), 2], [uint64(3), 2], [uint64(2), 5]];
        for (uint256 i; i < bad.length; ++i) {
            (r.holes[0], r.holes[1]) = (bad[i][0], bad[i][1]);
            refused(holeCall(m, r), abi.encodeCall(Errors.HolesNotAscendingInRange, (i == 0 ? 0 : 1)));
        }
        (r.holes[0], r.holes[1]) = (1, 4);
        checkHole(r, 5, keccak256("state"));
    }

    /// Of another agreement, chain or contract.
    function test_otherContext() public {
        Made memory first = m;
        Made memory other = create(2, 2, NODES);
        Round memory r = unequalRound(0, 0, 0, NODES);
        (m.id, other.id) = (other.id, m.id);
        bytes memory sent = holeCall(other, unequalRound(0, 3, 3, NODES));
        refused(sent, abi.encodeCall(Errors.TermsDoNotOpen, (other.id)));
        m = first;
        r = unequalRound(0, 3, 3, NODES);
        vm.chainId(5);
        sent = holeCall(m, r);
        vm.chainId(31_337);
        refused(sent, notSigned(0));
    }

    /// A reveal of a kind that there is not, or with a result that no reader takes, is no part of a certificate.
    function test_revealsBeyondBounds() public {
        Round memory r = round();
        r.computed[1].result = new bytes(4_097);
        refused(holeCall(m, r), abi.encodeCall(Errors.ResultTooLong, (4_097)));
        r = round();
        r.computed[1].kind = 4;
        refused(holeCall(m, r), abi.encodeCall(Errors.KindNotSettled, (4)));
    }

    function test_padded() public {
        Round memory r = round();
        r.computed[1].result = "of another length, so that words count";
        bytes memory sent = holeCall(m, r);
        refused(
            abi.encodePacked(sent, hex"00"), abi.encodeCall(Errors.CallNotExact, (sent.length, sent.length + 1))
        );
        refused(
            abi.encodePacked(sent, new bytes(64_000)),
            abi.encodeCall(Errors.CallNotExact, (sent.length, sent.length + 64_000))
        );
        send(sent);
    }

    /// The same arguments in another layout: two reveals that share their result, and rubbish of the same length.
    function test_notCanonical() public {
        Round memory r = round();
        bytes memory sent = holeCall(m, r);
        (bytes memory shared, uint256 gap) = share(sent);
        refused(shared, IMainContract.CallNotCanonical.selector);
        for (uint256 i; i < 32; ++i) shared[gap + i] = 0xee;
        refused(shared, IMainContract.CallNotCanonical.selector);
        // padding that is not zero
        bytes memory dirty = abi.encodePacked(sent);
        dirty[dirty.length - 1] = 0x01;
        refused(dirty, IMainContract.CallNotCanonical.selector);
        send(sent);
    }

    /// Lets the second reveal point to the first one's result, which is the same. Returns where the second one's was.
    function share(bytes memory sent) private pure returns (bytes memory shared, uint256 gap) {
        shared = abi.encodePacked(sent);
        // the list of reveals is the last argument: offset in word 15 of the head
        uint256 list = 4 + wordAt(sent, 4 + 15 * 32) + 32;
        uint256 one = list + wordAt(sent, list);
        uint256 two = list + wordAt(sent, list + 32);
        // computed: offset in the first word of a reveal; its result: offset in the second word
        (one, two) = (one + wordAt(sent, one), two + wordAt(sent, two));
        uint256 target = one + wordAt(sent, one + 32);
        gap = two + wordAt(sent, two + 32) + 32;
        // offsets count from the start of `computed`, and wrap
        uint256 offset;
        unchecked {
            offset = target - two;
        }
        assembly ("memory-safe") {
            mstore(add(add(shared, 0x20), add(two, 32)), offset)
        }
    }

    function wordAt(bytes memory data, uint256 place) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), place))
        }
    }

    /// Not a byte of a certificate can be another one.
    function testFuzz_changedByte(uint256 place, uint8 flip) public {
        bytes memory sent = holeCall(m, round());
        place = 4 + place % (sent.length - 4);
        sent[place] = bytes1(uint8(sent[place]) ^ (flip == 0 ? 1 : flip));
        (bool ok,) = address(main).call(sent);
        yes(!ok);
    }

    /// Any number of nodes: the last or the first differs.
    function testFuzz_sizes(uint8 n, uint8 odd) public {
        uint256 nodes = 2 + n % 9;
        m = create(100 + nodes, 2, nodes);
        Round memory r = unequalRound(0, 0, 4, nodes);
        r.computed[nodes - 1] = computed("true");
        r.computed[odd % nodes] = computed("false");
        checkHole(r, 5, keccak256("state"));
    }
}
