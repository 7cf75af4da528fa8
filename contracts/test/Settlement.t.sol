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

    function slotOf(bytes32 a) private view returns (bytes32) {
        (IMainContract.Status status, uint64 nextT, uint32 epoch, bytes32 head,) = main.agreements(a);
        return bytes32(abi.encodePacked(bytes19(head), uint8(status), epoch, nextT));
    }

    function headAfter(bytes32 slot, bytes32 digest) private pure returns (bytes32) {
        return bytes32(bytes19(keccak256(abi.encodePacked(slot, digest))));
    }

    function checkMoved(bytes32 slotBefore, bytes32 digest, uint64 nextT) private view {
        (, uint64 t, uint32 epoch, bytes32 head,) = main.agreements(m.id);
        eq(t, nextT);
        eq(epoch, 0);
        eq(head, headAfter(slotBefore, digest));
    }

    function onlyLog(bytes memory call) private returns (Vm.Log memory) {
        vm.recordLogs();
        send(call);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        return logs[0];
    }

    function outcomeData(uint8 kind, uint64 from, uint64 t, bytes memory result) private view returns (bytes memory) {
        return abi.encodePacked(bytes20(uint160(uint256(m.id))), kind, uint32(0), from, t, result);
    }

    // ------------------------------------------------------------------------------------------------- settle

    function test_settle() public {
        uint256 word = wordOf(1, 0, 0, 4);
        bytes32 slot = slotOf(m.id);
        Vm.Log memory log = onlyLog(settleCall(m, word, CONTEXT, "the result"));
        eq(log.topics.length, 0);
        eq(log.data, outcomeData(1, 0, 4, "the result"));
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, "the result"), 5);
        slot = slotOf(m.id);
        word = wordOf(1, 0, 5, 5);
        log = onlyLog(settleCall(m, word, CONTEXT, ""));
        eq(log.data, outcomeData(1, 5, 5, ""));
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, ""), 6);
    }

    function test_trap() public {
        uint256 word = wordOf(2, 0, 0, 0);
        bytes32 slot = slotOf(m.id);
        Vm.Log memory log = onlyLog(settleCall(m, word, CONTEXT, ""));
        eq(log.data, outcomeData(2, 0, 0, ""));
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, ""), 1);
        refused(settleCall(m, wordOf(2, 0, 1, 1), CONTEXT, "x"), IMainContract.TrapWithResult.selector);
    }

    function test_longResult() public {
        bytes memory result = new bytes(4096);
        for (uint256 i; i < result.length; ++i) result[i] = bytes1(uint8(i * 7));
        Vm.Log memory log = onlyLog(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, result));
        eq(log.data, outcomeData(1, 0, 0, result));
    }

    function test_replay() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 4), CONTEXT, "r");
        send(call);
        refused(call, abi.encodeCall(Errors.FromIsNotNext, (0, 5)));
        // nor anything that overlaps it, or leaves a gap
        refused(settleCall(m, wordOf(1, 0, 4, 6), CONTEXT, "r"), abi.encodeCall(Errors.FromIsNotNext, (4, 5)));
        refused(settleCall(m, wordOf(1, 0, 6, 6), CONTEXT, "r"), abi.encodeCall(Errors.FromIsNotNext, (6, 5)));
        refused(batchCall(m, wordOf(4, 0, 4, 5), CONTEXT, hex"fdfd"), abi.encodeCall(Errors.FromIsNotNext, (4, 5)));
        refused(
            revealsCall(m, wordOf(1, 0, 0, 4), CONTEXT, none, "r"), abi.encodeCall(Errors.FromIsNotNext, (0, 5))
        );
    }

    /// A stranger that copies calldata pays for the same effect; the original then fails, and says why.
    function test_frontRunCopy() public {
        bytes memory call = settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, "r");
        vm.prank(address(0xBAD));
        Vm.Log memory log = onlyLog(call);
        eq(log.data, outcomeData(1, 0, 0, "r"));
        refused(call, abi.encodeCall(Errors.FromIsNotNext, (0, 1)));
    }

    function test_positionErrors() public {
        refused(settleCall(m, wordOf(1, 1, 0, 0), CONTEXT, "r"), abi.encodeCall(Errors.EpochNotInForce, (1, 0)));
        send(settleCall(m, wordOf(1, 0, 0, 7), CONTEXT, "r"));
        refused(settleCall(m, wordOf(1, 0, 8, 7), CONTEXT, "r"), abi.encodeCall(Errors.RangeBackwards, (8, 7)));
        Made memory unknown = prepare(9, 2, 3);
        refused(
            settleCall(unknown, wordOf(1, 0, 0, 0), CONTEXT, "r"), abi.encodeCall(Errors.NotAnAgreement, (unknown.id))
        );
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

    /// t + 1 must fit: the last t of all never settles, and nothing beside nextT moves.
    /// The number of a kind is no stand-in for the status of the same number: nulls do not settle what does not exist,
    /// nor traps beyond the end of an agreement that is closing.
    function test_kindIsNotStatus() public {
        Made memory unknown = prepare(2, 2, 3);
        for (uint8 kind; kind < 4; ++kind) {
            (bool ok,) = address(main).call(settleCall(unknown, wordOf(kind, 0, 0, 0), CONTEXT, ""));
            yes(!ok);
        }
        (,,, bytes32 head,) = main.agreements(unknown.id);
        eq(head, 0);

        send(closeCall(m, 5));
        refused(settleCall(m, wordOf(2, 0, 0, 5), CONTEXT, ""), abi.encodeCall(Errors.BeyondEnd, (5, 5)));
        refused(settleCall(m, wordOf(2, 0, 0, 4), CONTEXT, "r"), IMainContract.TrapWithResult.selector);
        send(settleCall(m, wordOf(2, 0, 0, 4), CONTEXT, ""));
    }

    function test_lastT() public {
        refused(
            settleCall(m, wordOf(1, 0, 0, MAX_T), CONTEXT, "r"), abi.encodeCall(Errors.BeyondEnd, (MAX_T, MAX_T))
        );
        refused(
            revealsCall(m, wordOf(1, 0, 0, MAX_T), CONTEXT, none, "r"),
            abi.encodeCall(Errors.BeyondEnd, (MAX_T, MAX_T))
        );
        send(settleCall(m, wordOf(1, 0, 0, MAX_T - 1), CONTEXT, "r"));
        (IMainContract.Status status, uint64 nextT, uint32 epoch,,) = main.agreements(m.id);
        yes(status == IMainContract.Status.Open);
        eq(nextT, MAX_T);
        eq(epoch, 0);
        refused(
            settleCall(m, wordOf(1, 0, MAX_T, MAX_T), CONTEXT, "r"),
            abi.encodeCall(Errors.BeyondEnd, (MAX_T, MAX_T))
        );
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
        bytes32 slot = slotOf(m.id);
        for (uint256 gas_ = 500; gas_ < 12_000; gas_ += 37) {
            (bool ok,) = address(main).call{gas: gas_}(call);
            if (ok) return;
            eq(slotOf(m.id), slot);
        }
    }

    // ------------------------------------------------------------------------------------------------- attest

    function test_attest() public {
        Vm.Log memory log = onlyLog(attestCall(m, wordOf(1, 0, 3, 9), CONTEXT, "r"));
        eq(log.topics.length, 0);
        eq(log.data, outcomeData(0x81, 3, 9, "r"));
        log = onlyLog(attestCall(m, wordOf(2, 0, 3, 9), CONTEXT, ""));
        eq(log.data, outcomeData(0x82, 3, 9, ""));
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
        bytes32 slot = slotOf(m.id);
        Vm.Log memory log = onlyLog(batchCall(m, word, CONTEXT, entries));
        eq(log.topics.length, 2);
        eq(log.topics[0], keccak256("BatchSettled(bytes32)"));
        eq(log.topics[1], m.id);
        eq(log.data, abi.encodePacked(uint168(word), CONTEXT, entries));
        checkMoved(slot, batchDigest(m.id, word, CONTEXT, entries), 8);
        refused(
            batchCall(m, word, CONTEXT, entries), abi.encodeCall(Errors.FromIsNotNext, (0, 8))
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
            batchCall(m, wordOf(4, 0, 0, MAX_T - 1), CONTEXT, hex"fd"),
            abi.encodeCall(Errors.EntriesDoNotCover, (1, MAX_T))
        );
    }

    function test_batchMalformed() public {
        // cut in the middle of an entry: what is missing is missing at the end
        bytes[9] memory cut = [
            bytes(hex"01"), hex"0201", hex"f0", hex"f000", hex"f00001", hex"f1", hex"f100", hex"f10001", hex"f101020a0b0c"
        ];
        for (uint256 i; i < cut.length; ++i) {
            refused(
                batchCall(m, wordOf(4, 0, 0, 0), CONTEXT, cut[i]),
                abi.encodeCall(Errors.EntriesMalformed, (cut[i].length))
            );
        }
        // a code without meaning, a run of values that are too long for one
        bytes[4] memory bad = [bytes(hex"f100f0"), hex"f2", hex"fc", hex"f5000000"];
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
        vm.assume(!good || n > 0);
        bytes memory call = batchCall(m, wordOf(4, 0, 0, uint64(good ? n - 1 : 0)), CONTEXT, entries);
        (bool ok,) = address(main).call(call);
        yes(ok == good);
    }

    function count(bytes memory b) private pure returns (bool good, uint256 n) {
        uint256 i;
        while (i < b.length) {
            uint256 c = uint8(b[i]);
            if (c < 240) i += 1 + c;
            else if (c >= 253) i += 1;
            else if (c == 240 && i + 2 < b.length) i += 3 + uint256(uint8(b[i + 1])) * 256 + uint8(b[i + 2]);
            else if (c == 241 && i + 2 < b.length && uint8(b[i + 2]) < 240) {
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
        bytes32 slot = slotOf(m.id);
        Vm.Log memory log = onlyLog(revealsCall(m, word, CONTEXT, none, "result"));
        eq(log.topics.length, 0);
        eq(log.data, outcomeData(1, 0, 0, "result"));
        // the same history as under the aggregated signature
        checkMoved(slot, outcomeDigest(m.id, word, CONTEXT, "result"), 1);
        slot = slotOf(m.id);
        log = onlyLog(revealsCall(m, wordOf(2, 0, 1, 1), CONTEXT, none, ""));
        eq(log.data, outcomeData(2, 1, 1, ""));
    }

    function test_revealsWithHoles() public {
        uint64[] memory holes = new uint64[](2);
        (holes[0], holes[1]) = (1, 4);
        uint256 word = wordOf(1, 0, 0, 6);
        bytes32 slot = slotOf(m.id);
        vm.recordLogs();
        send(revealsCall(m, word, CONTEXT, holes, "r"));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 2);
        eq(logs[0].topics[0], keccak256("HolesAgreed(bytes32,uint64[])"));
        eq(logs[0].topics[1], m.id);
        eq(logs[0].data, abi.encode(holes));
        eq(logs[1].data, outcomeData(1, 0, 6, "r"));
        checkMoved(slot, revealDigest(outcomeDigest(m.id, word, CONTEXT, "r"), holes), 7);
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

    // ------------------------------------------------------------------------------------- every form, in any order

    /// Random forms one after another: the head is the one that an observer computes from the events alone.
    function testFuzz_history(uint256 seed) public {
        bytes32 slot = slotOf(m.id);
        uint64 next;
        for (uint256 i; i < 6; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            uint64 t = next + uint64(dice >> 8) % 5;
            bytes32 digest;
            if (dice % 3 == 0) {
                uint256 word = wordOf(1, 0, next, t);
                digest = outcomeDigest(m.id, word, CONTEXT, abi.encode(dice));
                send(settleCall(m, word, CONTEXT, abi.encode(dice)));
            } else if (dice % 3 == 1) {
                uint256 word = wordOf(4, 0, next, t);
                bytes memory entries;
                for (uint256 k = next; k <= t; ++k) entries = abi.encodePacked(entries, hex"fe");
                digest = batchDigest(m.id, word, CONTEXT, entries);
                send(batchCall(m, word, CONTEXT, entries));
            } else {
                uint256 word = wordOf(2, 0, next, t);
                digest = outcomeDigest(m.id, word, CONTEXT, "");
                send(revealsCall(m, word, CONTEXT, none, ""));
            }
            checkMoved(slot, digest, t + 1);
            slot = slotOf(m.id);
            next = t + 1;
        }
    }
}
