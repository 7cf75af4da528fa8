// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

contract AgreementsTest is Kit {
    function registered(uint256 seed, uint256 u, uint256 n) private returns (Made memory m) {
        m = prepare(seed, u, n);
        for (uint256 i; i < u; ++i) registerUser(m.userKeys[i], "someone");
    }

    function state(bytes32 a)
        private
        view
        returns (IMainContract.Status status, uint64 nextT, uint32 epoch, bytes24 head, uint64 end)
    {
        return main.agreements(a);
    }

    function test_create() public {
        Made memory m = registered(1, 2, 3);
        vm.recordLogs();
        send(createCall(m));
        Vm.Log memory log = vm.getRecordedLogs()[0];
        eq(log.topics[1], m.id);
        eq(log.data, packed(m.terms));
        (IMainContract.Status status, uint64 nextT, uint32 epoch, bytes24 head, uint64 end) = state(m.id);
        yes(status == IMainContract.Status.Open);
        eq(nextT, 0);
        eq(epoch, 0);
        eq(head, bytes24(m.digest));
        eq(end, MAX_T);
    }

    /// One slot an agreement, in use from its creation.
    function test_oneSlot() public {
        Made memory m = registered(1, 2, 3);
        vm.record();
        send(createCall(m));
        (, bytes32[] memory writes) = vm.accesses(address(main));
        eq(writes.length, 1);
        eq(writes[0], m.id);
    }

    function test_twice() public {
        Made memory m = create(1, 2, 3);
        refused(createCall(m), abi.encodeCall(Errors.AlreadyCreated, (m.id)));
    }

    function test_unknown() public view {
        (IMainContract.Status status, uint64 nextT,, bytes24 head, uint64 end) = state(bytes32(uint256(7)));
        yes(status == IMainContract.Status.None);
        eq(nextT, 0);
        eq(head, 0);
        eq(end, MAX_T);
    }

    function test_parties() public {
        Made memory m = registered(1, 2, 3);
        // Each case changes the terms, and everything that follows from them, so that only this is wrong.
        address[] memory users = m.terms.users;
        m.terms.users = new address[](1);
        m.terms.users[0] = users[0];
        derive(m, 1);
        refused(createCall(m), IMainContract.TooFewUsers.selector);

        m.terms.users = new address[](2);
        (m.terms.users[0], m.terms.users[1]) = (users[1], users[0]);
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.UsersNotAscending, (1)));
        (m.terms.users[0], m.terms.users[1]) = (users[0], users[0]);
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.UsersNotAscending, (1)));
        (m.terms.users[0], m.terms.users[1]) = (address(0), users[0]);
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.UsersNotAscending, (0)));
        m.terms.users = users;

        (m.terms.nodes[0], m.terms.nodes[1]) = (m.terms.nodes[1], m.terms.nodes[0]);
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.NodesNotAscending, (1)));
        (m.terms.nodes[0], m.terms.nodes[1]) = (m.terms.nodes[1], m.terms.nodes[0]);

        m.terms.trust[2] = 2;
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.TrustOutOfRange, (2)));
        m.terms.trust[2] = 0;

        // No account, which is also what a refused signature recovers to.
        m.terms.nodes[0] = address(0);
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.NodesNotAscending, (0)));
        (m.terms.nodes, m.terms.trust) = (new address[](0), new uint8[](0));
        derive(m, 1);
        refused(
            createCallWith(m, userSignatures(m, agreementDigest(m.id, m.digest)), new Acceptance[](2), ""),
            abi.encodeCall(Errors.AcceptanceIndexOutOfRange, (0))
        );
    }

    /// What readers take at most: 32 users, and 512 KiB that are published beside the signatures.
    function test_tooManyUsersAndBytes() public {
        Made memory m = registered(1, 33, 33);
        refused(createCall(m), abi.encodeCall(Errors.TooManyUsers, (33)));
        m = registered(2, 2, 3);
        IMainContract.Signature[] memory users = userSignatures(m, agreementDigest(m.id, m.digest));
        refused(
            createCallWith(m, users, acceptancesOf(m), new bytes(524_289)),
            abi.encodeCall(Errors.TermsTooLong, (524_289))
        );
        send(createCallWith(m, users, acceptancesOf(m), new bytes(524_288)));
        m = registered(3, 32, 32);
        send(createCall(m));
    }

    /// One hundred nodes are enough for anybody: more could not settle by their reveals in a block of its gas.
    function test_tooManyNodes() public {
        Made memory m = registered(1, 2, 101);
        refused(createCall(m), abi.encodeCall(Errors.TooManyNodes, (101)));
        m = registered(2, 2, 255);
        refused(createCall(m), abi.encodeCall(Errors.TooManyNodes, (255)));
        m = registered(3, 2, 100);
        send(createCall(m));
        send(revealsCall(m, wordOf(1, 0, 0, 0), "context", new uint64[](0), "r"));
        send(holeCall(m, unequalRound(0, 1, 1, 100)));
    }

    function test_unregisteredUser() public {
        Made memory m = prepare(1, 2, 3);
        registerUser(m.userKeys[0], "only one");
        refused(createCall(m), abi.encodeCall(Errors.NotRegistered, (m.terms.users[1])));
    }

    function test_nodesTwice() public {
        Made memory m = registered(1, 2, 3);
        m.terms.nodes[1] = m.terms.nodes[0];
        derive(m, 1);
        refused(createCall(m), abi.encodeCall(Errors.NodesNotAscending, (1)));
    }

    /// The id is tied to the terms: every term, and both parts of the opening, count.
    function test_otherTermsDoNotOpen() public {
        for (uint256 i; i < 7; ++i) {
            Made memory m = prepare(1, 2, 3);
            if (i == 0) for (uint256 j; j < 2; ++j) registerUser(m.userKeys[j], "someone");
            if (i == 0) m.opening.aggregate = bytes32(uint256(m.opening.aggregate) ^ 1);
            if (i == 1) m.opening.y = bytes32(P - uint256(m.opening.y));
            if (i == 2) m.opening.y = bytes32(uint256(m.opening.y) ^ 2);
            if (i == 3) m.terms.trust[2] = 1;
            if (i == 4) m.terms.sensorsRoot = 0;
            if (i == 5) m.terms.offChainCode = 0;
            if (i == 6) m.terms.conditions = 0;
            refused(createCall(m), abi.encodeCall(Errors.TermsDoNotOpen, (m.id)));
        }
    }

    /// Somebody who knows the id cannot occupy it with terms of its own.
    function test_squatter() public {
        Made memory m = registered(1, 2, 3);
        Made memory squat = registered(2, 2, 3);
        squat.id = m.id;
        refused(createCall(squat), abi.encodeCall(Errors.TermsDoNotOpen, (m.id)));
        squat.opening.y = m.opening.y;
        squat.opening.aggregate = m.opening.aggregate;
        refused(createCall(squat), abi.encodeCall(Errors.TermsDoNotOpen, (m.id)));
        vm.prank(address(0xBAD));
        send(createCall(m));
    }

    function data(Made memory m, IMainContract.Signature[] memory users, Acceptance[] memory acceptances)
        private
        pure
        returns (bytes memory)
    {
        return createCallWith(m, users, acceptances, "");
    }

    /// Whatever stands behind the acceptances is published with the terms.
    function test_extra() public {
        Made memory m = registered(1, 2, 3);
        bytes memory extra = "sensors and conditions in full";
        vm.recordLogs();
        send(
            createCallWith(m, userSignatures(m, agreementDigest(m.id, m.digest)), acceptancesOf(m), extra)
        );
        eq(vm.getRecordedLogs()[0].data, abi.encodePacked(packed(m.terms), extra));
    }

    /// A call that is cut short says what it lacks, wherever it is cut.
    function test_cut() public {
        Made memory m = registered(1, 2, 3);
        bytes memory sent = createCall(m);
        uint256 whole = sent.length;
        for (uint256 size = 100; size < whole; ++size) {
            assembly ("memory-safe") {
                mstore(sent, size)
            }
            (bool ok, bytes memory answer) = address(main).call(sent);
            yes(!ok);
            eq(bytes32(bytes4(answer)), bytes32(IMainContract.TermsCut.selector));
        }
        refused(
            abi.encodePacked(sent),
            abi.encodeCall(Errors.TermsCut, (whole, whole - 1))
        );
        assembly ("memory-safe") {
            mstore(sent, whole)
        }
        send(sent);
    }

    function test_userSignatures() public {
        Made memory m = registered(1, 3, 3);
        bytes32 digest = agreementDigest(m.id, m.digest);
        Acceptance[] memory accepted = acceptancesOf(m);
        for (uint256 i; i < 3; ++i) {
            IMainContract.Signature[] memory list = userSignatures(m, digest);
            list[i] = sign(m.nodeKeys[0], digest);
            refused(data(m, list, accepted), abi.encodeCall(Errors.BadSignature, (m.terms.users[i])));
            list[i] = malleated(m.userKeys[i], digest);
            refused(data(m, list, accepted), abi.encodeCall(Errors.BadSignature, (m.terms.users[i])));
            list[i] = IMainContract.Signature(0, 0);
            refused(data(m, list, accepted), abi.encodeCall(Errors.BadSignature, (m.terms.users[i])));
            list[i] = sign(m.userKeys[i], agreementDigest(m.id, bytes32(0)));
            refused(data(m, list, accepted), abi.encodeCall(Errors.BadSignature, (m.terms.users[i])));
        }
    }

    function test_acceptances() public {
        Made memory m = registered(1, 2, 4);
        IMainContract.Signature[] memory users = userSignatures(m, agreementDigest(m.id, m.digest));
        Acceptance[] memory list = acceptancesOf(m);

        // node 0 is of user 0, so it cannot stand for user 1
        Acceptance memory second = list[1];
        list[1] = list[0];
        refused(data(m, users, list), abi.encodeCall(Errors.AcceptanceOfUserMissing, (1)));
        list[1] = second;
        list[1].node = 4;
        refused(data(m, users, list), abi.encodeCall(Errors.AcceptanceIndexOutOfRange, (1)));
        // node 3 is also of user 1, but this is not its signature
        list[1].node = 3;
        refused(data(m, users, list), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[3])));
        list[1].signature = sign(m.nodeKeys[3], acceptanceDigest(m.id, m.digest, m.terms.nodes[1]));
        refused(data(m, users, list), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[3])));
        list[1].signature = malleated(m.nodeKeys[3], acceptanceDigest(m.id, m.digest, m.terms.nodes[3]));
        refused(data(m, users, list), abi.encodeCall(Errors.BadSignature, (m.terms.nodes[3])));
        list[1].signature = sign(m.nodeKeys[3], acceptanceDigest(m.id, m.digest, m.terms.nodes[3]));
        send(data(m, users, list));
    }

    // -------------------------------------------------------------------------------------------------- close

    function test_close() public {
        Made memory m = create(1, 2, 3);
        send(settleCall(m, wordOf(1, 0, 0, 2), "context", "result"));
        refused(closeCall(m, 2), abi.encodeCall(Errors.EndBeforeSettled, (2, 3)));
        (,,, bytes24 headBefore,) = state(m.id);
        send(closeCall(m, 5));
        (IMainContract.Status status, uint64 nextT, uint32 epoch, bytes24 head, uint64 end) = state(m.id);
        yes(status == IMainContract.Status.Closing);
        eq(nextT, 3);
        eq(epoch, 0);
        eq(head, headBefore);
        eq(end, 5);
        refused(closeCall(m, 9), abi.encodeCall(Errors.AlreadyClosed, (m.id)));

        // What comes before the end still settles, in every form; what comes after does not.
        refused(settleCall(m, wordOf(1, 0, 3, 5), "context", "x"), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        send(settleCall(m, wordOf(1, 0, 3, 3), "context", "x"));
        refused(
            batchCall(m, wordOf(4, 0, 4, 5), "root", hex"fdfd"), abi.encodeCall(Errors.BeyondEnd, (5, 5))
        );
        refused(
            revealsCall(m, wordOf(1, 0, 4, 6), "context", new uint64[](0), "x"),
            abi.encodeCall(Errors.BeyondEnd, (6, 5))
        );
        send(batchCall(m, wordOf(4, 0, 4, 4), "root", hex"fd"));
        refused(settleCall(m, wordOf(1, 0, 5, 5), "context", "x"), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        (status, nextT,,, end) = state(m.id);
        yes(status == IMainContract.Status.Closing);
        eq(nextT, 5);
    }

    /// What was signed across the end is lost; what was cut there settles, though it overlaps.
    function test_cutAtClose() public {
        Made memory m = create(1, 2, 3);
        bytes memory across = batchCall(m, wordOf(4, 0, 0, 5), "root", hex"fdfdfdfdfdfd");
        bytes memory cut = batchCall(m, wordOf(4, 0, 0, 4), "cut", hex"fdfdfdfdfd");
        send(settleCall(m, wordOf(1, 0, 0, 2), "context", "alone"));
        send(closeCall(m, 5));
        refused(across, abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        send(cut);
        refused(cut, abi.encodeCall(Errors.AlreadySettled, (4, 5)));
        refused(holeCall(m, unequalRound(0, 5, 5, 3)), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        refused(resolveCall(m, 5, 1, "r"), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        refused(settleCall(m, wordOf(1, 1, 5, 5), "context", "x"), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        (IMainContract.Status status, uint64 nextT,,,) = state(m.id);
        yes(status == IMainContract.Status.Closing);
        eq(nextT, 5);
    }

    /// Every form keeps the status: what closes goes on closing.
    function test_closingStaysClosing() public {
        Made memory m = create(1, 2, 3);
        send(closeCall(m, 100));
        send(settleCall(m, wordOf(1, 1, 0, 0), "c", "r"));
        send(batchCall(m, wordOf(4, 1, 1, 1), "c", hex"fd"));
        send(revealsCall(m, wordOf(1, 2, 2, 2), "c", new uint64[](0), "r"));
        send(holeCall(m, unequalRound(3, 3, 3, 3)));
        send(resolveCall(m, 4, 1, "r"));
        (IMainContract.Status status, uint64 nextT, uint32 epoch,, uint64 end) = state(m.id);
        yes(status == IMainContract.Status.Closing);
        eq(nextT, 5);
        eq(epoch, 5);
        eq(end, 100);
    }

    function test_endOutOfRange() public {
        Made memory m = create(1, 2, 3);
        refused(closeCall(m, T_LIMIT + 1), abi.encodeCall(Errors.TOutOfRange, (T_LIMIT + 1)));
        send(closeCall(m, T_LIMIT));
    }

    function test_closeRefusals() public {
        Made memory m = create(1, 2, 3);
        Made memory other = create(2, 2, 3);
        bytes memory call = closeCall(m, 5);
        IMainContract.Signature[] memory list = userSignatures(m, closeDigest(m.id, 5));
        list[1] = list[0];
        refused(
            abi.encodeCall(IMainContract.closeAgreement, (m.id, 5, m.opening, m.terms.users, list)),
            abi.encodeCall(Errors.BadSignature, (m.terms.users[1]))
        );
        list = userSignatures(m, closeDigest(m.id, 5));
        refused(
            abi.encodeCall(IMainContract.closeAgreement, (m.id, 6, m.opening, m.terms.users, list)),
            abi.encodeCall(Errors.BadSignature, (m.terms.users[0]))
        );
        refused(
            abi.encodeCall(IMainContract.closeAgreement, (m.id, 5, m.opening, other.terms.users, list)),
            IMainContract.UsersDoNotOpen.selector
        );
        refused(
            abi.encodeCall(IMainContract.closeAgreement, (m.id, 5, other.opening, other.terms.users, list)),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        refused(
            abi.encodeCall(IMainContract.closeAgreement, ("nothing", 5, m.opening, m.terms.users, list)),
            abi.encodeCall(Errors.NotAnAgreement, ("nothing"))
        );
        send(call);
    }

    /// Any number of users and nodes within the format.
    function testFuzz_sizes(uint8 u, uint8 n) public {
        uint256 users = 2 + u % 4;
        uint256 nodes = users + n % 6;
        Made memory m = create(users * 100 + nodes, users, nodes);
        send(settleCall(m, wordOf(1, 0, 0, 0), "c", "r"));
        send(revealsCall(m, wordOf(1, 0, 1, 1), "c", new uint64[](0), "r"));
        (, uint64 nextT,,,) = state(m.id);
        eq(nextT, 2);
    }
}
