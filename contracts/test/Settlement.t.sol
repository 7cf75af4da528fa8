// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

contract SettlementTest is Kit {
    Made private m;
    bytes32 private constant CONTEXT = keccak256("context");
    uint64[] private none;

    function setUp() public override {
        super.setUp();
        m = create(1, 2, 3);
    }

    function headOf(bytes32 a) private view returns (bytes24 head) {
        (,,, head,) = main.agreements(a);
    }

    function headAfter(bytes24 head, bytes32 digest) private pure returns (bytes24) {
        return bytes24(keccak256(abi.encodePacked(head, bytes8(0), digest)));
    }

    function checkMoved(bytes24 before, bytes32 digest, uint64 nextT) private view {
        checkMoved(before, digest, nextT, 0);
    }

    function checkMoved(bytes24 before, bytes32 digest, uint64 nextT, uint32 inForce) private view {
        (, uint64 t, uint32 epoch, bytes24 head,) = main.agreements(m.id);
        eq(t, nextT);
        eq(epoch, inForce);
        eq(head, headAfter(before, digest));
    }

    function onlyLog(bytes memory call) private returns (Vm.Log memory) {
        vm.recordLogs();
        send(call);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        return logs[0];
    }

    function attestedData(uint8 kind, uint64 from, uint64 t, bytes memory result) private view returns (bytes memory) {
        return abi.encodePacked(bytes20(uint160(uint256(m.id))), kind, uint32(0), from, t, result);
    }

    /// A log that any tool decodes from the ABI.
    function checkSettled(Vm.Log memory log, uint256 word, bytes memory result) private view {
        eq(log.topics.length, 3);
        eq(log.topics[0], keccak256("Settled(bytes32,uint64,uint256,bytes32,bytes)"));
        eq(log.topics[1], m.id);
        eq(log.topics[2], bytes32(uint256(uint64(word))));
        eq(log.data, abi.encode(word, CONTEXT, result));
    }

    // ------------------------------------------------------------------------------------------------- settle

    function test_settle() public {
        uint256 word = wordOf(1, 0, 0, 4);
        bytes24 slot = headOf(m.id);
        eq(slot, bytes24(m.digest));
        checkSettled(onlyLog(settleCall(m, word, CONTEXT, "the result")), word, "the result");
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, "the result"), 5);
        slot = headOf(m.id);
        word = wordOf(1, 0, 5, 5);
        checkSettled(onlyLog(settleCall(m, word, CONTEXT, "")), word, "");
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, ""), 6);
    }

    /// The whole slot, bit by bit: head 24 | status u8 | epoch u16 | nextT u40, at the id itself.
    function test_slot() public {
        send(settleCall(m, wordOf(1, 1, 0, 0x1234567890), CONTEXT, "r"));
        eq(
            vm.load(address(main), m.id),
            bytes32(abi.encodePacked(headOf(m.id), uint8(1), uint16(1), uint40(0x1234567891)))
        );
        send(closeCall(m, T_LIMIT));
        eq(
            vm.load(address(main), m.id),
            bytes32(abi.encodePacked(headOf(m.id), uint8(2), uint16(1), uint40(0x1234567891)))
        );
    }

    /// Closing changes nothing that is folded: an outcome folds to the same head before and after.
    function test_closeIsNotFolded() public {
        uint256 snapshot = vm.snapshotState();
        send(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r"));
        bytes24 head = headOf(m.id);
        vm.revertToState(snapshot);
        send(closeCall(m, 9));
        send(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r"));
        eq(headOf(m.id), head);
    }

    function test_trap() public {
        uint256 word = wordOf(2, 0, 0, 0);
        bytes24 slot = headOf(m.id);
        checkSettled(onlyLog(settleCall(m, word, CONTEXT, "")), word, "");
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, ""), 1);
        refused(settleCall(m, wordOf(2, 0, 1, 1), CONTEXT, "x"), IMainContract.TrapWithResult.selector);
    }

    /// Results of every length are padded as the ABI says, and with zeros.
    function testFuzz_event(bytes memory result, uint40 t, bool next) public {
        uint256 word = wordOf(1, next ? 1 : 0, 0, t % T_LIMIT);
        checkSettled(onlyLog(settleCall(m, word, CONTEXT, result)), word, result);
    }

    function test_longResult() public {
        bytes memory result = new bytes(4096);
        for (uint256 i; i < result.length; ++i) result[i] = bytes1(uint8(i * 7));
        uint256 word = wordOf(1, 0, 0, 0);
        checkSettled(onlyLog(settleCall(m, word, CONTEXT, result)), word, result);
    }

    function test_replay() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 4), CONTEXT, "r");
        send(call);
        refused(call, abi.encodeCall(Errors.AlreadySettled, (4, 5)));
        // nothing that lies behind, and nothing that leaves a gap, in any form
        uint256[2] memory words = [wordOf(1, 0, 0, 4), wordOf(1, 0, 6, 6)];
        bytes[2] memory reasons =
            [abi.encodeCall(Errors.AlreadySettled, (4, 5)), abi.encodeCall(Errors.FromBeyondNext, (6, 5))];
        for (uint256 i; i < 2; ++i) {
            refused(settleCall(m, words[i], CONTEXT, "r"), reasons[i]);
            refused(batchCall(m, words[i] + (3 << 160), CONTEXT, hex"fd"), reasons[i]);
            refused(revealsCall(m, words[i], CONTEXT, none, "r"), reasons[i]);
            refused(
                holeCall(m, unequalRound(0, uint64(words[i] >> 64), uint64(words[i]), 3)), reasons[i]
            );
        }
    }

    /// A stranger that copies calldata pays for the same effect; the original then fails, and says why.
    function test_frontRunCopy() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r");
        vm.prank(address(0xBAD));
        checkSettled(onlyLog(call), wordOf(1, 0, 0, 0), "r");
        refused(call, abi.encodeCall(Errors.AlreadySettled, (0, 1)));
    }

    function test_positionErrors() public {
        refused(settleCall(m, wordOf(1, 2, 0, 0), CONTEXT, "r"), abi.encodeCall(Errors.EpochNotInForce, (2, 0)));
        send(settleCall(m, wordOf(1, 0, 0, 7), CONTEXT, "r"));
        // backwards: whichever end is wrong
        refused(settleCall(m, wordOf(1, 0, 8, 7), CONTEXT, "r"), abi.encodeCall(Errors.AlreadySettled, (7, 8)));
        refused(settleCall(m, wordOf(1, 0, 9, 8), CONTEXT, "r"), abi.encodeCall(Errors.FromBeyondNext, (9, 8)));
        Made memory unknown = prepare(9, 2, 3);
        bytes memory reason = abi.encodeCall(Errors.NotAnAgreement, (unknown.id));
        refused(settleCall(unknown, wordOf(1, 0, 0, 0), CONTEXT, "r"), reason);
        refused(batchCall(unknown, wordOf(4, 0, 0, 0), CONTEXT, hex"fd"), reason);
        refused(holeCall(unknown, unequalRound(0, 0, 0, 3)), reason);
        refused(resolveCall(unknown, 0, 1, "r"), reason);
    }

    // ------------------------------------------------------------------------------------- one switch: overlaps

    /// A part of a batch settles alone; the batch settles all the same, and the whole digest of each is folded.
    function test_partThenBatch() public {
        bytes memory batch = batchCall(m, wordOf(4, 0, 0, 5), CONTEXT, hex"fdfdfdfdfdfd");
        uint256 word = wordOf(1, 0, 0, 2);
        send(settleCall(m, word, CONTEXT, "alone"));
        bytes24 head = headOf(m.id);
        Vm.Log memory log = onlyLog(batch);
        eq(log.data, abi.encode(wordOf(4, 0, 0, 5), CONTEXT, hex"fdfdfdfdfdfd"));
        checkMoved(head, batchDigest(m.id, wordOf(4, 0, 0, 5), CONTEXT, hex"fdfdfdfdfdfd"), 6);
        refused(batch, abi.encodeCall(Errors.AlreadySettled, (5, 6)));
        refused(settleCall(m, word, CONTEXT, "alone"), abi.encodeCall(Errors.AlreadySettled, (2, 6)));
    }

    /// Batches that overlap, in either order.
    function test_overlappingBatches() public {
        bytes memory one = batchCall(m, wordOf(4, 0, 0, 3), CONTEXT, hex"fdfdfdfd");
        bytes memory two = batchCall(m, wordOf(4, 0, 2, 6), CONTEXT, hex"fdfdfdfdfd");
        refused(two, abi.encodeCall(Errors.FromBeyondNext, (2, 0)));
        uint256 snapshot = vm.snapshotState();
        send(one);
        bytes24 head = headOf(m.id);
        send(two);
        checkMoved(head, batchDigest(m.id, wordOf(4, 0, 2, 6), CONTEXT, hex"fdfdfdfdfd"), 7);
        vm.revertToState(snapshot);
        send(batchCall(m, wordOf(4, 0, 0, 6), CONTEXT, hex"fdfdfdfdfdfdfd"));
        refused(one, abi.encodeCall(Errors.AlreadySettled, (3, 7)));
        refused(two, abi.encodeCall(Errors.AlreadySettled, (6, 7)));
    }

    /// The aggregate and the reveals of one outcome, beside one another: one of them settles, to the same head.
    function test_revealsBesideAggregate() public {
        uint256 word = wordOf(1, 0, 0, 3);
        (bytes memory one, bytes memory two) =
            (settleCall(m, word, CONTEXT, "r"), revealsCall(m, word, CONTEXT, none, "r"));
        uint256 snapshot = vm.snapshotState();
        send(one);
        bytes24 head = headOf(m.id);
        refused(two, abi.encodeCall(Errors.AlreadySettled, (3, 4)));
        vm.revertToState(snapshot);
        send(two);
        eq(headOf(m.id), head);
        refused(one, abi.encodeCall(Errors.AlreadySettled, (3, 4)));
    }

    /// Reveals overlap with what the aggregate has settled, and the other way round.
    function test_revealsOverlap() public {
        send(settleCall(m, wordOf(1, 0, 0, 2), CONTEXT, "r"));
        bytes24 head = headOf(m.id);
        uint256 word = wordOf(1, 0, 1, 4);
        checkSettled(onlyLog(revealsCall(m, word, CONTEXT, none, "s")), word, "s");
        checkMoved(head, outcomeDigest(m.id, word, CONTEXT, "s"), 5);
        head = headOf(m.id);
        word = wordOf(1, 0, 3, 5);
        checkSettled(onlyLog(settleCall(m, word, CONTEXT, "t")), word, "t");
        checkMoved(head, outcomeDigest(m.id, word, CONTEXT, "t"), 6);
    }

    // ------------------------------------------------------------------------------------------ epochs in force

    /// Sends one form of settlement that speaks of t in an epoch.
    function form(uint256 which, uint32 epoch, uint64 t) private returns (bytes memory) {
        if (which == 0) return settleCall(m, wordOf(1, epoch, t, t), CONTEXT, "r");
        if (which == 1) return settleCall(m, wordOf(2, epoch, t, t), CONTEXT, "");
        if (which == 2) return batchCall(m, wordOf(4, epoch, t, t), CONTEXT, hex"fd");
        if (which == 3) return revealsCall(m, wordOf(1, epoch, t, t), CONTEXT, none, "r");
        return holeCall(m, unequalRound(epoch, t, t, 3));
    }

    function test_epochs() public {
        for (uint256 which; which < 5; ++which) {
            uint256 snapshot = vm.snapshotState();
            refused(form(which, 2, 0), abi.encodeCall(Errors.EpochNotInForce, (2, 0)));
            send(form(which, 1, 0));
            (, uint64 nextT, uint32 epoch,,) = main.agreements(m.id);
            eq(nextT, 1);
            eq(epoch, 1);
            // not back, and not two at once
            refused(form(which, 0, 1), abi.encodeCall(Errors.EpochNotInForce, (0, 1)));
            refused(form(which, 3, 1), abi.encodeCall(Errors.EpochNotInForce, (3, 1)));
            send(form(which, 1, 1));
            (, nextT, epoch,,) = main.agreements(m.id);
            eq(nextT, 2);
            eq(epoch, 1);
            send(form(which, 2, 2));
            (, nextT, epoch,,) = main.agreements(m.id);
            eq(epoch, 2);
            vm.revertToState(snapshot);
        }
    }

    /// No form takes a marked epoch: not one whose lower half is in force, not on an agreement that closes.
    function test_markedEpochs() public {
        uint32[4] memory marked = [uint32(1 << 16), 1 << 16 | 1, 2 << 16, type(uint32).max];
        for (uint256 close; close < 2; ++close) {
            if (close == 1) send(closeCall(m, 100));
            for (uint256 which; which < 5; ++which) {
                for (uint256 i; i < marked.length; ++i) {
                    refused(form(which, marked[i], 0), abi.encodeCall(Errors.EpochNotInForce, (marked[i], 0)));
                }
            }
        }
        (, uint64 nextT,,,) = main.agreements(m.id);
        eq(nextT, 0);
    }

    /// The last epoch of 16 bits has no next one: what follows by number is a marked one.
    function test_lastEpoch() public {
        bytes32 slot = vm.load(address(main), m.id);
        vm.store(address(main), m.id, slot | bytes32(uint256(0xfffd) << 40));
        send(resolveCall(m, 0, 0, ""));
        (,, uint32 epoch,,) = main.agreements(m.id);
        eq(epoch, 0xffff);
        for (uint256 which; which < 5; ++which) {
            refused(form(which, 1 << 16, 1), abi.encodeCall(Errors.EpochNotInForce, (1 << 16, 0xffff)));
        }
        refused(resolveCall(m, 1, 0, ""), abi.encodeCall(Errors.EpochsSpent, (0xffff)));
        send(form(0, 0xffff, 1));
        vm.store(address(main), m.id, slot | bytes32(uint256(0xfffe) << 40));
        refused(resolveCall(m, 0, 0, ""), abi.encodeCall(Errors.EpochsSpent, (0xfffe)));
        send(form(4, 0xffff, 0));
    }

    function test_kinds() public {
        uint8[6] memory kinds = [0, 3, 4, 5, 0x81, 0xff];
        for (uint256 i; i < kinds.length; ++i) {
            refused(
                settleCall(m, wordOf(kinds[i], 0, 0, 0), CONTEXT, ""),
                abi.encodeCall(Errors.KindNotSettled, (kinds[i]))
            );
            refused(
                revealsCall(m, wordOf(kinds[i], 0, 0, 0), CONTEXT, none, ""),
                abi.encodeCall(Errors.KindNotSettled, (kinds[i]))
            );
            if (kinds[i] == 4) continue;
            refused(
                batchCall(m, wordOf(kinds[i], 0, 0, 0), CONTEXT, hex"fd"),
                abi.encodeCall(Errors.KindNotSettled, (kinds[i]))
            );
        }
    }

    /// The number of a kind is no stand-in for the status of the same number: nulls do not settle what does not exist,
    /// nor traps beyond the end of an agreement that is closing.
    function test_kindIsNotStatus() public {
        Made memory unknown = prepare(2, 2, 3);
        for (uint8 kind; kind < 4; ++kind) {
            (bool ok,) = address(main).call(settleCall(unknown, wordOf(kind, 0, 0, 0), CONTEXT, ""));
            yes(!ok);
        }
        (,,, bytes24 head,) = main.agreements(unknown.id);
        eq(head, 0);

        send(closeCall(m, 5));
        refused(settleCall(m, wordOf(2, 0, 0, 5), CONTEXT, ""), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        refused(settleCall(m, wordOf(2, 0, 0, 4), CONTEXT, "r"), IMainContract.TrapWithResult.selector);
        send(settleCall(m, wordOf(2, 0, 0, 4), CONTEXT, ""));
    }

    /// t + 1 must fit into 40 bits: the last t of all never settles, and nothing beside nextT moves.
    function test_lastT() public {
        uint64[3] memory beyond = [T_LIMIT, T_LIMIT + 1, MAX_T];
        for (uint256 i; i < 3; ++i) {
            uint64 t = beyond[i];
            bytes memory reason = abi.encodeCall(Errors.BeyondEnd, (t, T_LIMIT));
            refused(settleCall(m, wordOf(1, 0, 0, t), CONTEXT, "r"), reason);
            refused(settleCall(m, wordOf(2, 0, 0, t), CONTEXT, ""), reason);
            refused(revealsCall(m, wordOf(1, 0, 0, t), CONTEXT, none, "r"), reason);
            refused(batchCall(m, wordOf(4, 0, 0, t), CONTEXT, hex"fd"), reason);
            refused(holeCall(m, unequalRound(0, 0, t, 3)), reason);
        }
        // Numbers that are equal in 40 bits, or in the place of something else, are others.
        refused(
            settleCall(m, wordOf(1, 0, 1 << 40, T_LIMIT - 1), CONTEXT, "r"),
            abi.encodeCall(Errors.FromBeyondNext, (1 << 40, 0))
        );
        send(settleCall(m, wordOf(1, 0, 0, T_LIMIT - 1), CONTEXT, "r"));
        (IMainContract.Status status, uint64 nextT, uint32 epoch,,) = main.agreements(m.id);
        yes(status == IMainContract.Status.Open);
        eq(nextT, T_LIMIT);
        eq(epoch, 0);
        refused(
            settleCall(m, wordOf(1, 0, T_LIMIT, T_LIMIT), CONTEXT, "r"),
            abi.encodeCall(Errors.BeyondEnd, (T_LIMIT, T_LIMIT))
        );
        refused(resolveCall(m, T_LIMIT, 0, ""), abi.encodeCall(Errors.BeyondEnd, (T_LIMIT, T_LIMIT)));
    }

    /// The hot path and the plain switch agree on every position: what it lets through is what the rule lets through.
    function testFuzz_switch(uint256 dice, uint16 inForce, uint40 next, bool closing) public {
        next = uint40(next % T_LIMIT);
        bytes32 slot = vm.load(address(main), m.id);
        slot = bytes32(
            abi.encodePacked(bytes24(slot), uint8(closing ? 2 : 1), inForce, next)
        );
        vm.store(address(main), m.id, slot);
        // an end that is far away
        vm.store(address(main), keccak256(abi.encode(m.id, endsSlot())), bytes32(uint256(T_LIMIT)));
        uint32 epoch = uint32(near(inForce, dice, 1 << 16));
        uint64 from = uint64(near(next, dice >> 32, 1 << 40));
        uint64 t = uint64(near(next, dice >> 64, 1 << 40));
        bool good = from <= next && next <= t && t < T_LIMIT && epoch < 1 << 16
            && (epoch == inForce || epoch == uint32(inForce) + 1);
        (bool ok,) = address(main).call(settleCall(m, wordOf(1, epoch, from, t), CONTEXT, "r"));
        yes(ok == good);
        if (good) {
            eq(
                vm.load(address(main), m.id),
                bytes32(abi.encodePacked(headOf(m.id), uint8(closing ? 2 : 1), uint16(epoch), uint40(t + 1)))
            );
        } else {
            eq(vm.load(address(main), m.id), slot);
        }
    }

    /// A number about `n`, or one that is equal to it but for bits from `high` on, or any.
    function near(uint256 n, uint256 dice, uint256 high) private pure returns (uint256) {
        uint256 kind = dice % 8;
        dice >>= 3;
        if (kind < 3) return n;
        if (kind == 3) return n + 1;
        if (kind == 4) return n == 0 ? 0 : n - 1;
        if (kind == 5) return n + dice % 5;
        if (kind == 6) return n + high * (1 + dice % 3);
        return dice;
    }

    /// Where the mapping of ends is: found by closing an agreement, so that no layout is written down twice.
    function endsSlot() private returns (uint256 place) {
        uint256 snapshot = vm.snapshotState();
        Made memory other = create(77, 2, 3);
        bytes memory call = closeCall(other, 0x1234567);
        send(call);
        for (place = 0; place < 20; ++place) {
            if (uint256(vm.load(address(main), keccak256(abi.encode(other.id, place)))) == 0x1234567) break;
        }
        vm.revertToState(snapshot);
        require(place < 20, "no ends");
    }

    /// No byte of the call can be changed, added or taken.
    function testFuzz_changedCall(uint256 place, uint8 flip, bool attested) public {
        uint256 word = wordOf(1, 0, 0, 4);
        bytes memory call =
            attested ? attestCall(m, word, CONTEXT, "result") : settleCall(m, word, CONTEXT, "result");
        place = 4 + place % (call.length - 4);
        call[place] = bytes1(uint8(call[place]) ^ (flip == 0 ? 1 : flip));
        refused(call, IMainContract.NotUnanimous.selector);
    }

    function test_cutOrLongerCall() public {
        bytes memory sent = settleCall(m, wordOf(1, 0, 0, 4), CONTEXT, "result");
        refused(abi.encodePacked(sent, hex"00"), IMainContract.NotUnanimous.selector);
        uint256 whole = sent.length;
        for (uint256 size = 132; size < whole; ++size) {
            assembly ("memory-safe") {
                mstore(sent, size)
            }
            refused(sent, IMainContract.NotUnanimous.selector);
        }
        for (uint256 size = 4; size < 132; ++size) {
            assembly ("memory-safe") {
                mstore(sent, size)
            }
            refused(sent, new bytes(0));
        }
    }

    /// The same signature counts for nothing else: not in the other form, not for another agreement, chain or contract.
    function test_otherContext() public {
        uint256 word = wordOf(4, 0, 0, 0);
        bytes32 outcome = outcomeDigest(m.id, word, CONTEXT, hex"fd");
        refused(
            signedCall(IMainContract.settleBatch.selector, m, outcome, word, CONTEXT, hex"fd"),
            IMainContract.NotUnanimous.selector
        );
        word = wordOf(1, 0, 0, 0);
        bytes32 batch = batchDigest(m.id, word, CONTEXT, "r");
        refused(
            signedCall(IMainContract.settle.selector, m, batch, word, CONTEXT, "r"),
            IMainContract.NotUnanimous.selector
        );
        bytes32 reveal = revealDigest(outcomeDigest(m.id, word, CONTEXT, "r"), none);
        refused(
            signedCall(IMainContract.settle.selector, m, reveal, word, CONTEXT, "r"),
            IMainContract.NotUnanimous.selector
        );
        Made memory other = create(2, 2, 3);
        (other.id, m.id) = (m.id, other.id);
        refused(settleCall(other, word, CONTEXT, "r"), IMainContract.NotUnanimous.selector);
        (other.id, m.id) = (m.id, other.id);
        vm.chainId(5);
        bytes memory call = settleCall(m, word, CONTEXT, "r");
        vm.chainId(31_337);
        refused(call, IMainContract.NotUnanimous.selector);
    }

    /// Ether has no business here.
    function test_noEther() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r");
        (bool ok,) = address(main).call{value: 1}(call);
        yes(!ok);
        (ok,) = address(main).call{value: 1}("");
        yes(!ok);
    }

    /// With too little gas nothing happens: in particular no forgery, with a challenge that was never computed.
    function test_shortOfGas() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r");
        bytes24 slot = headOf(m.id);
        for (uint256 gas_ = 500; gas_ < 12_000; gas_ += 37) {
            (bool ok,) = address(main).call{gas: gas_}(call);
            if (ok) return;
            eq(headOf(m.id), slot);
        }
    }

    // ------------------------------------------------------------------------------------------------- attest

    function test_attest() public {
        Vm.Log memory log = onlyLog(attestCall(m, wordOf(1, 0, 3, 9), CONTEXT, "r"));
        eq(log.topics.length, 0);
        eq(log.data, attestedData(0x81, 3, 9, "r"));
        log = onlyLog(attestCall(m, wordOf(2, 0, 3, 9), CONTEXT, ""));
        eq(log.data, attestedData(0x82, 3, 9, ""));
        // again, and of any epoch: it keeps nothing
        send(attestCall(m, wordOf(1, 5, 3, 9), CONTEXT, "r"));
        (, uint64 nextT,,,) = main.agreements(m.id);
        eq(nextT, 0);
    }

    function test_attestTouchesNoStorage() public {
        bytes memory call = attestCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r");
        vm.record();
        send(call);
        (bytes32[] memory reads, bytes32[] memory writes) = vm.accesses(address(main));
        eq(reads.length + writes.length, 0);
    }

    /// The usual call reads one slot and writes it.
    function test_settleTouchesOneSlot() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r");
        vm.record();
        send(call);
        (bytes32[] memory reads, bytes32[] memory writes) = vm.accesses(address(main));
        eq(writes.length, 1);
        eq(writes[0], m.id);
        for (uint256 i; i < reads.length; ++i) eq(reads[i], m.id);
    }

    // -------------------------------------------------------------------------------------------------- batch

    function test_batch() public {
        // value, null, trap, hole, a run of two, an empty value, a long value
        bytes memory long_ = new bytes(240);
        bytes memory entries =
            abi.encodePacked(hex"03010203", hex"fdfeff", hex"f101020a0b0c0d", hex"00", hex"f000f0", long_);
        uint256 word = wordOf(4, 0, 0, 7);
        bytes24 slot = headOf(m.id);
        Vm.Log memory log = onlyLog(batchCall(m, word, CONTEXT, entries));
        eq(log.topics.length, 3);
        eq(log.topics[0], keccak256("BatchSettled(bytes32,uint64,uint256,bytes32,bytes)"));
        eq(log.topics[1], m.id);
        eq(log.topics[2], bytes32(uint256(7)));
        eq(log.data, abi.encode(word, CONTEXT, entries));
        checkMoved(slot, batchDigest(m.id, word, CONTEXT, entries), 8);
        refused(
            batchCall(m, word, CONTEXT, entries), abi.encodeCall(Errors.AlreadySettled, (7, 8))
        );
    }

    function test_batchCount() public {
        refused(
            batchCall(m, wordOf(4, 0, 0, 1), CONTEXT, hex"fd"), abi.encodeCall(Errors.EntriesDoNotCover, (1, 2))
        );
        refused(
            batchCall(m, wordOf(4, 0, 0, 1), CONTEXT, hex"fdfdfd"), abi.encodeCall(Errors.EntriesDoNotCover, (3, 2))
        );
        refused(batchCall(m, wordOf(4, 0, 0, 1), CONTEXT, ""), abi.encodeCall(Errors.EntriesDoNotCover, (0, 2)));
        refused(
            batchCall(m, wordOf(4, 0, 0, T_LIMIT - 1), CONTEXT, hex"fd"),
            abi.encodeCall(Errors.RangeTooLong, (T_LIMIT))
        );
        refused(
            batchCall(m, wordOf(4, 0, 0, 65_536), CONTEXT, hex"fd"), abi.encodeCall(Errors.RangeTooLong, (65_537))
        );
        refused(
            batchCall(m, wordOf(4, 0, 0, 65_535), CONTEXT, hex"fd"),
            abi.encodeCall(Errors.EntriesDoNotCover, (1, 65_536))
        );
    }

    function test_batchMalformed() public {
        // cut in the middle of an entry: what is missing is missing at the end
        bytes[8] memory cut = [
            bytes(hex"01"), hex"0201", hex"f000f0", hex"f01000", hex"f1", hex"f100", hex"f10001", hex"f101020a0b0c"
        ];
        for (uint256 i; i < cut.length; ++i) {
            refused(
                batchCall(m, wordOf(4, 0, 0, 0), CONTEXT, cut[i]),
                abi.encodeCall(Errors.EntriesMalformed, (cut[i].length))
            );
        }
        // a code without meaning, a run of values that are too long for one, a length cut, in another than its one
        // encoding, or of a result that no reader takes
        bytes[9] memory bad = [
            bytes(hex"f100f0"), hex"f2", hex"fc", hex"f5000000", hex"f0", hex"f000", hex"f0000101", hex"f000ef", hex"f01001"
        ];
        for (uint256 i; i < bad.length; ++i) {
            refused(
                batchCall(m, wordOf(4, 0, 0, 1), CONTEXT, abi.encodePacked(hex"fd", bad[i])),
                abi.encodeCall(Errors.EntriesMalformed, (1))
            );
        }
    }

    function test_batchOf256() public {
        bytes memory entries;
        for (uint256 i; i < 256; ++i) entries = abi.encodePacked(entries, hex"03", uint24(i * 65_537 + 1));
        send(batchCall(m, wordOf(4, 0, 0, 255), CONTEXT, entries));
        (, uint64 nextT,,,) = main.agreements(m.id);
        eq(nextT, 256);
    }

    /// Whatever the entries are, either they are counted as this test counts them, or the call reverts.
    function testFuzz_entries(bytes memory entries) public {
        (bool good, uint256 n) = count(entries);
        vm.assume(!good || (n > 0 && n <= 65_536));
        bytes memory call = batchCall(m, wordOf(4, 0, 0, uint64(good ? n - 1 : 0)), CONTEXT, entries);
        vm.recordLogs();
        (bool ok,) = address(main).call(call);
        yes(ok == good);
        if (good) eq(vm.getRecordedLogs()[0].data, abi.encode(wordOf(4, 0, 0, uint64(n - 1)), CONTEXT, entries));
    }

    function count(bytes memory b) private pure returns (bool good, uint256 n) {
        uint256 i;
        while (i < b.length) {
            uint256 c = uint8(b[i]);
            if (c < 240) i += 1 + c;
            else if (c >= 253) i += 1;
            else if (c == 240 && i + 2 < b.length) {
                uint256 size = uint256(uint8(b[i + 1])) * 256 + uint8(b[i + 2]);
                if (size < 240 || size > 4_096) return (false, 0);
                i += 3 + size;
            } else if (c == 241 && i + 2 < b.length && uint8(b[i + 2]) < 240) {
                n += uint8(b[i + 1]);
                i += 3 + (uint256(uint8(b[i + 1])) + 1) * uint8(b[i + 2]);
            } else return (false, 0);
            ++n;
        }
        return (i == b.length, n);
    }

    // ------------------------------------------------------------------------------------------------ reveals

    function test_reveals() public {
        uint256 word = wordOf(1, 0, 0, 0);
        bytes24 slot = headOf(m.id);
        checkSettled(onlyLog(revealsCall(m, word, CONTEXT, none, "result")), word, "result");
        // the same history as under the aggregated signature
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, "result"), 1);
        slot = headOf(m.id);
        word = wordOf(2, 0, 1, 1);
        checkSettled(onlyLog(revealsCall(m, word, CONTEXT, none, "")), word, "");
    }

    function test_revealsWithHoles() public {
        uint64[] memory holes = new uint64[](2);
        (holes[0], holes[1]) = (1, 4);
        uint256 word = wordOf(1, 0, 0, 6);
        bytes24 slot = headOf(m.id);
        vm.recordLogs();
        send(revealsCall(m, word, CONTEXT, holes, "r"));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 2);
        eq(logs[0].topics[0], keccak256("HolesAgreed(bytes32,uint64,uint64[])"));
        eq(logs[0].topics[1], m.id);
        eq(logs[0].topics[2], bytes32(uint256(6)));
        eq(logs[0].data, abi.encode(holes));
        checkSettled(logs[1], word, "r");
        checkMoved(slot, revealDigest(outcomeDigest(m.id, word, CONTEXT, "r"), holes), 7);
    }

    /// What no reader takes settles in no form.
    function test_longestResult() public {
        bytes memory long_ = new bytes(4_096);
        send(attestCall(m, wordOf(1, 0, 0, 0), CONTEXT, long_));
        send(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, long_));
        send(revealsCall(m, wordOf(1, 0, 0, 1), CONTEXT, none, long_));
        long_ = new bytes(4_097);
        bytes memory words = abi.encodeCall(Errors.ResultTooLong, (4_097));
        refused(attestCall(m, wordOf(1, 0, 0, 2), CONTEXT, long_), words);
        refused(settleCall(m, wordOf(1, 0, 0, 2), CONTEXT, long_), words);
        refused(revealsCall(m, wordOf(1, 0, 0, 2), CONTEXT, none, long_), words);
    }

    function test_tooManyHoles() public {
        uint64[] memory holes = new uint64[](257);
        for (uint64 i; i < 257; ++i) holes[i] = i;
        refused(
            revealsCall(m, wordOf(1, 0, 0, 300), CONTEXT, holes, "r"), abi.encodeCall(Errors.TooManyHoles, (257))
        );
    }

    function test_holesMalformed() public {
        uint64[] memory holes = new uint64[](2);
        uint64[2][4] memory bad = [[uint64(1), 1], [uint64(2), 1], [uint64(1), 6], [uint64(1), 7]];
        for (uint256 i; i < bad.length; ++i) {
            (holes[0], holes[1]) = (bad[i][0], bad[i][1]);
            refused(
                revealsCall(m, wordOf(1, 0, 0, 6), CONTEXT, holes, "r"),
                abi.encodeCall(Errors.HolesNotAscendingInRange, (1))
            );
        }
        send(settleCall(m, wordOf(1, 0, 0, 2), CONTEXT, "r"));
        (holes[0], holes[1]) = (2, 3);
        refused(
            revealsCall(m, wordOf(1, 0, 3, 6), CONTEXT, holes, "r"),
            abi.encodeCall(Errors.HolesNotAscendingInRange, (0))
        );
    }

    function revealsWith(IMainContract.Signature[] memory list, uint256 word) private view returns (bytes memory) {
        return abi.encodeCall(IMainContract.settleByReveals, (m.id, word, CONTEXT, m.opening, none, list, bytes("r")));
    }

    function test_revealSigners() public {
        uint256 word = wordOf(1, 0, 0, 0);
        bytes32 digest = revealDigest(outcomeDigest(m.id, word, CONTEXT, "r"), none);
        IMainContract.Signature[] memory list = new IMainContract.Signature[](3);
        for (uint256 i; i < 3; ++i) list[i] = sign(m.nodeKeys[i], digest);
        bytes4 wrong = IMainContract.NodesDoNotOpen.selector;
        // one missing, one too many, out of order, twice the same, a stranger, malleated, another digest
        IMainContract.Signature[] memory two = new IMainContract.Signature[](2);
        (two[0], two[1]) = (list[0], list[1]);
        refused(revealsWith(two, word), wrong);
        refused(revealsWith(new IMainContract.Signature[](0), word), wrong);
        IMainContract.Signature[] memory four = new IMainContract.Signature[](4);
        (four[0], four[1], four[2], four[3]) = (list[0], list[1], list[2], sign(77, digest));
        refused(revealsWith(four, word), wrong);
        IMainContract.Signature memory kept = list[1];
        (list[0], list[1]) = (list[1], list[0]);
        refused(revealsWith(list, word), wrong);
        (list[0], list[1]) = (list[1], list[0]);
        IMainContract.Signature[4] memory bad = [
            list[0],
            sign(77, digest),
            malleated(m.nodeKeys[1], digest),
            sign(m.nodeKeys[1], outcomeDigest(m.id, word, CONTEXT, "r"))
        ];
        for (uint256 i; i < bad.length; ++i) {
            list[1] = bad[i];
            refused(revealsWith(list, word), wrong);
        }
        list[1] = kept;
        send(revealsWith(list, word));
    }

    /// Two signatures of nobody and a node list to match do not open the id.
    function test_revealsOfOtherNodes() public {
        Made memory other = create(2, 2, 3);
        uint256 word = wordOf(1, 0, 0, 0);
        bytes32 digest = revealDigest(outcomeDigest(m.id, word, CONTEXT, "r"), none);
        IMainContract.Signature[] memory list = new IMainContract.Signature[](3);
        for (uint256 i; i < 3; ++i) list[i] = sign(other.nodeKeys[i], digest);
        IMainContract.Opening memory mixed = m.opening;
        mixed.nodes = other.opening.nodes;
        refused(
            abi.encodeCall(IMainContract.settleByReveals, (m.id, word, CONTEXT, mixed, none, list, bytes("r"))),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        refused(
            abi.encodeCall(IMainContract.settleByReveals, (m.id, word, CONTEXT, other.opening, none, list, bytes("r"))),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
    }

    function test_revealsOfUnknownAgreement() public {
        Made memory unknown = prepare(9, 2, 3);
        refused(
            revealsCall(unknown, wordOf(1, 0, 0, 0), CONTEXT, none, "r"),
            abi.encodeCall(Errors.NotAnAgreement, (unknown.id))
        );
    }
}
