// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title Two frames of one sensor that contradict one another, and everything that is no such thing
contract FramesTest is Kit {
    uint256 private constant SENSOR = 0x5E25;

    struct Message {
        uint64 time;
        bytes values;
    }

    struct Spec {
        uint256 key;
        uint8 version;
        uint8 flags;
        uint32 epoch;
        uint64 firstQ;
        uint16 count;
        uint8 width;
        bytes body;
    }

    function varint(uint256 v) private pure returns (bytes memory out) {
        while (v >= 0x80) {
            out = abi.encodePacked(out, uint8(v & 0x7f | 0x80));
            v >>= 7;
        }
        return abi.encodePacked(out, uint8(v));
    }

    function bodyOf(Message[] memory list) private pure returns (bytes memory out) {
        int256 previous;
        for (uint256 i; i < list.length; ++i) {
            int256 delta = int256(uint256(list[i].time)) - previous;
            out = abi.encodePacked(
                out, varint(delta >= 0 ? uint256(delta) << 1 : (uint256(-delta) << 1) - 1), list[i].values
            );
            previous = int256(uint256(list[i].time));
        }
    }

    /// Messages of one byte, a minute apart; `odd` is the index of one that differs, in time or in value.
    function messages(uint256 n, uint256 odd, bool inTime) private pure returns (Message[] memory list) {
        list = new Message[](n);
        for (uint256 i; i < n; ++i) {
            list[i] = Message(uint64(1_443_657_600 + i * 60), abi.encodePacked(uint8(i & 1)));
            if (i == odd && inTime) list[i].time -= 90;
            if (i == odd && !inTime) list[i].values = hex"07";
        }
    }

    function spec(Message[] memory list, uint64 firstQ) private pure returns (Spec memory) {
        return Spec(SENSOR, 1, 0, 0, firstQ, uint16(list.length), 1, bodyOf(list));
    }

    function encode(Spec memory s) private view returns (bytes memory frame, uint8 parity) {
        bytes memory unsigned = abi.encodePacked(
            s.version,
            s.flags,
            vm.addr(s.key),
            s.epoch,
            s.firstQ,
            s.count,
            s.width,
            s.flags & 1 == 1 ? abi.encodePacked(s.firstQ - 1, keccak256("frame before")) : bytes(""),
            s.flags & 2 == 2 ? s.body : abi.encodePacked(uint32(s.body.length), s.body)
        );
        (uint8 v, bytes32 r, bytes32 sigS) =
            vm.sign(s.key, sha256(abi.encodePacked(tag(1), deploymentBytes(), unsigned)));
        return (abi.encodePacked(unsigned, r, sigS), v - 27);
    }

    function report(uint64 q, Spec memory one, Spec memory two) private view returns (bytes memory) {
        (bytes memory a, uint8 p) = encode(one);
        (bytes memory b, uint8 r) = encode(two);
        return abi.encodeCall(IMainContract.reportSensorContradiction, (q, a, b, p | r << 1));
    }

    function checkVoid(uint32 epoch, uint64 q) private view {
        (bool void_, uint32 e, uint64 from) = main.sensorVoid(vm.addr(SENSOR));
        yes(void_);
        eq(e, epoch);
        eq(from, q);
    }

    function test_contradiction() public {
        // q 12 is the fifth message of the first frame and the third of the second
        Spec memory one = spec(messages(8, 4, false), 8);
        Spec memory two = spec(messages(5, 99, false), 10);
        bytes memory sent = report(12, one, two);
        vm.recordLogs();
        send(sent);
        Vm.Log memory log = vm.getRecordedLogs()[0];
        bytes32 id = main.disputeId(IMainContract.DisputeKind.SensorContradiction, 0, 0, 12, vm.addr(SENSOR));
        eq(log.topics[1], id);
        eq(log.topics[2], 0);
        eq(log.topics[3], bytes32(uint256(uint160(vm.addr(SENSOR)))));
        eq(log.data, abi.encode(IMainContract.DisputeKind.SensorContradiction, uint32(0), uint64(12), sent));
        checkVoid(0, 12);
        refused(sent, abi.encodeCall(Errors.AlreadyRecorded, (id)));
    }

    /// The sensor is void from the earliest contradiction; a later one says nothing new.
    function test_earliestCounts() public {
        Spec memory plain = spec(messages(8, 99, false), 8);
        send(report(12, spec(messages(8, 4, false), 8), plain));
        refused(
            report(14, spec(messages(8, 6, false), 8), plain),
            abi.encodeCall(
                Errors.AlreadyRecorded,
                (main.disputeId(IMainContract.DisputeKind.SensorContradiction, 0, 0, 14, vm.addr(SENSOR)))
            )
        );
        send(report(9, spec(messages(8, 1, true), 8), plain));
        checkVoid(0, 9);
    }

    function test_timeAlone() public {
        send(report(11, spec(messages(8, 3, true), 8), spec(messages(8, 99, false), 8)));
        checkVoid(0, 11);
    }

    function test_qZero() public {
        send(report(0, spec(messages(1, 0, false), 0), spec(messages(1, 9, false), 0)));
        checkVoid(0, 0);
    }

    /// Frames with an opening, of a later boot epoch.
    function test_withOpening() public {
        Spec memory one = spec(messages(3, 1, false), 50);
        Spec memory two = spec(messages(3, 9, false), 50);
        (one.flags, one.epoch, two.flags, two.epoch) = (1, 4, 1, 4);
        send(report(51, one, two));
        checkVoid(4, 51);
    }

    /// The same messages cut into other frames, or the same frame signed twice, contradict nothing.
    function test_noContradiction() public {
        Message[] memory all = messages(8, 99, false);
        Message[] memory tail = new Message[](5);
        for (uint256 i; i < 5; ++i) tail[i] = all[i + 3];
        refused(report(12, spec(all, 8), spec(tail, 11)), abi.encodeCall(Errors.MessagesEqual, (12)));
        refused(report(12, spec(all, 8), spec(all, 8)), abi.encodeCall(Errors.MessagesEqual, (12)));
        // a difference elsewhere does not count for this q
        refused(
            report(12, spec(messages(8, 5, false), 8), spec(all, 8)), abi.encodeCall(Errors.MessagesEqual, (12))
        );
        // of the message before, only the time is in the same bytes: the message itself is equal
        refused(
            report(12, spec(messages(8, 3, true), 8), spec(all, 8)), abi.encodeCall(Errors.MessagesEqual, (12))
        );
    }

    function test_notInFrame() public {
        Spec memory one = spec(messages(8, 4, false), 8);
        Spec memory two = spec(messages(8, 99, false), 8);
        refused(report(16, one, two), abi.encodeCall(Errors.MessageNotInFrame, (16)));
        refused(report(7, one, two), abi.encodeCall(Errors.MessageNotInFrame, (7)));
        two.firstQ = 13;
        refused(report(12, one, two), abi.encodeCall(Errors.MessageNotInFrame, (12)));
    }

    function test_differentSubject() public {
        Spec memory one = spec(messages(8, 4, false), 8);
        Spec memory two = spec(messages(8, 99, false), 8);
        two.key = 99;
        refused(report(12, one, two), IMainContract.FramesOfDifferentSensors.selector);
    }

    function test_signatures() public {
        Spec memory one = spec(messages(8, 4, false), 8);
        Spec memory two = spec(messages(8, 99, false), 8);
        (bytes memory a, uint8 p) = encode(one);
        (bytes memory b, uint8 r) = encode(two);
        bytes memory wrong = abi.encodeCall(Errors.BadSignature, (vm.addr(SENSOR)));
        // wrong parity of either
        for (uint8 flip = 1; flip < 4; ++flip) {
            refused(
                abi.encodeCall(IMainContract.reportSensorContradiction, (12, a, b, (p | r << 1) ^ flip)), wrong
            );
        }
        // high s
        bytes memory high = abi.encodePacked(b);
        uint256 s;
        assembly ("memory-safe") {
            s := mload(add(high, mload(high)))
        }
        s = N - s;
        assembly ("memory-safe") {
            mstore(add(high, mload(high)), s)
        }
        refused(
            abi.encodeCall(IMainContract.reportSensorContradiction, (12, a, high, p | (1 - r) << 1)), wrong
        );
        // for another chain
        vm.chainId(1);
        (b, r) = encode(two);
        vm.chainId(31_337);
        refused(abi.encodeCall(IMainContract.reportSensorContradiction, (12, a, b, p | r << 1)), wrong);
    }

    /// A frame that no decoder takes is no evidence, though its sensor signed it.
    function test_malformed() public {
        Spec memory good = spec(messages(2, 9, false), 8);
        Spec[14] memory bad;
        uint256[14] memory place;
        for (uint256 i; i < bad.length; ++i) bad[i] = spec(messages(2, 0, false), 8);
        bad[0].version = 3;
        bad[1].flags = 4;
        place[1] = 1;
        bad[2].count = 0;
        place[2] = 34;
        bad[3].count = 1025;
        place[3] = 34;
        bad[4].firstQ = 1 << 62;
        place[4] = 26;
        // one message too many, one too few in the body
        bad[5].count = 3;
        place[5] = 41 + bad[5].body.length;
        bad[6].count = 1;
        place[6] = 41 + bodyOf(messages(1, 9, false)).length;
        // a varint in a longer form, one beyond 64 bits, one without end
        bad[7].body = abi.encodePacked(hex"808000", hex"01", hex"0001");
        bad[8].body = abi.encodePacked(hex"ffffffffffffffffff7f", hex"01", hex"0001");
        bad[9].body = hex"ffffffffffffffffffffff";
        // a time below zero, one of 2^48
        bad[10].body = hex"01010001";
        bad[11].body = abi.encodePacked(varint(uint256(1) << 49), hex"01", hex"0001");
        // values that are cut
        bad[12].body = hex"00";
        bad[13].body = hex"0001";
        for (uint256 i = 7; i < 13; ++i) place[i] = 41;
        place[13] = 43;
        for (uint256 i; i < bad.length; ++i) {
            uint64 q = i == 4 ? 1 << 62 : 8;
            refused(report(q, bad[i], good), abi.encodeCall(Errors.FrameMalformed, (place[i])));
        }
    }

    function test_lengths() public {
        (bytes memory good, uint8 p) = encode(spec(messages(2, 9, false), 8));
        (bytes memory sent, uint8 r) = encode(spec(messages(2, 0, false), 8));
        uint8 parities = p | r << 1;
        bytes memory longer = abi.encodePacked(sent, hex"00");
        refused(
            abi.encodeCall(IMainContract.reportSensorContradiction, (8, good, longer, parities)),
            abi.encodeCall(Errors.FrameMalformed, (37))
        );
        uint256 whole = sent.length;
        for (uint256 size; size < whole; ++size) {
            assembly ("memory-safe") {
                mstore(sent, size)
            }
            (bool ok, bytes memory answer) = address(main)
                .call(abi.encodeCall(IMainContract.reportSensorContradiction, (8, good, sent, parities)));
            yes(!ok);
            eq(bytes32(bytes4(answer)), bytes32(IMainContract.FrameMalformed.selector));
        }
    }

    /// The largest body that there is, and one byte more.
    function test_bodyBound() public {
        Spec memory big;
        (big.key, big.version, big.count, big.width) = (SENSOR, 1, 64, 255);
        Message[] memory list = new Message[](64);
        for (uint256 i; i < 64; ++i) list[i] = Message(0, new bytes(255));
        big.body = bodyOf(list);
        eq(big.body.length, 16_384);
        Spec memory other = big;
        other = Spec(SENSOR, 1, 0, 0, 0, 64, 255, abi.encodePacked(big.body));
        other.body[16_383] = 0x01;
        send(report(63, big, other));
        checkVoid(0, 63);
        other.body = abi.encodePacked(other.body, hex"00");
        refused(report(62, big, other), abi.encodeCall(Errors.FrameMalformed, (37)));
    }

    // ----------------------------------------------------------------------------- two boot epochs, and gaps

    /// A device that was rebooted and signed a q anew: the record has the lower boot epoch, in whichever order they come.
    function test_twoBootEpochs() public {
        Spec memory one = spec(messages(3, 1, false), 50);
        Spec memory two = spec(messages(3, 9, false), 50);
        (one.flags, one.epoch, two.epoch) = (1, 4, 2);
        uint256 snapshot = vm.snapshotState();
        send(report(51, one, two));
        checkVoid(2, 51);
        vm.revertToState(snapshot);
        send(report(51, two, one));
        checkVoid(2, 51);
        bytes32 id = main.disputeId(IMainContract.DisputeKind.SensorContradiction, 0, 2, 51, vm.addr(SENSOR));
        (IMainContract.DisputeKind kind, uint32 epoch, uint64 q, bytes18 a) = main.disputes(id);
        yes(kind == IMainContract.DisputeKind.SensorContradiction);
        eq(epoch, 2);
        eq(q, 51);
        eq(a, bytes18(0));
        // The same body in two epochs contradicts nothing, and the order does not make it another one.
        refused(report(50, one, two), abi.encodeCall(Errors.MessagesEqual, (50)));
        refused(
            report(51, one, two), abi.encodeCall(Errors.AlreadyRecorded, (id))
        );
        // A lower q is recorded too, of whatever epochs.
        Spec memory three = spec(messages(3, 0, true), 50);
        three.epoch = 9;
        send(report(50, two, three));
        checkVoid(2, 50);
    }

    function gap(uint64 firstQ, uint32 lost) private pure returns (Spec memory s) {
        (s.key, s.version, s.flags, s.firstQ, s.body) = (SENSOR, 2, 2, firstQ, abi.encodePacked(lost));
    }

    /// A sensor that says a message is lost, and has signed one there.
    function test_gap() public {
        Spec memory plain = spec(messages(8, 99, false), 8);
        for (uint64 q = 10; q < 13; ++q) {
            for (uint256 i; i < 2; ++i) {
                uint256 snapshot = vm.snapshotState();
                Spec memory lost = gap(10, 3);
                if (i == 1) (lost.flags, lost.epoch) = (3, 1);
                send(i == 0 ? report(q, plain, lost) : report(q, lost, plain));
                checkVoid(0, q);
                vm.revertToState(snapshot);
            }
        }
        // what it does not cover
        refused(report(9, plain, gap(10, 3)), abi.encodeCall(Errors.MessageNotInFrame, (9)));
        refused(report(13, plain, gap(10, 3)), abi.encodeCall(Errors.MessageNotInFrame, (13)));
        // all the q that there are
        send(report(15, plain, gap(0, type(uint32).max)));
        checkVoid(0, 15);
    }

    /// Two gaps never contradict one another, alike or not.
    function test_gapsAgree() public {
        refused(report(11, gap(10, 3), gap(10, 3)), IMainContract.GapsAgree.selector);
        refused(report(11, gap(10, 3), gap(11, 300)), IMainContract.GapsAgree.selector);
        Spec memory later = gap(11, 1);
        later.epoch = 3;
        refused(report(11, gap(10, 3), later), IMainContract.GapsAgree.selector);
        refused(report(10, gap(10, 3), later), abi.encodeCall(Errors.MessageNotInFrame, (10)));
    }

    /// A message of no values at the second 0 is a message, and no gap.
    function test_emptyMessageAgainstGap() public {
        Spec memory empty = Spec(SENSOR, 1, 0, 0, 10, 1, 0, hex"00");
        send(report(10, empty, gap(10, 1)));
        checkVoid(0, 10);
    }

    function test_gapMalformed() public {
        Spec memory good = spec(messages(2, 9, false), 8);
        Spec[9] memory bad;
        uint256[9] memory place;
        for (uint256 i; i < bad.length; ++i) bad[i] = gap(8, 1);
        // none lost
        bad[0].body = hex"00000000";
        place[0] = 37;
        // messages, a width
        bad[1].count = 1;
        place[1] = 34;
        bad[2].width = 1;
        place[2] = 36;
        // the flag without the version, the version without the flag, a flag of nobody
        bad[3].version = 1;
        place[3] = 1;
        bad[4].flags = 0;
        bad[4].body = "";
        place[4] = 1;
        bad[5].flags = 6;
        place[5] = 1;
        bad[6].firstQ = 1 << 62;
        place[6] = 26;
        // something behind, and a body
        bad[7].body = hex"0000000100";
        place[7] = 37;
        bad[8].version = 3;
        for (uint256 i; i < bad.length; ++i) {
            refused(
                report(i == 6 ? 1 << 62 : 8, bad[i], good), abi.encodeCall(Errors.FrameMalformed, (place[i]))
            );
        }
    }

    /// A gap is signed as a frame is, and nobody else can say it.
    function test_gapSignature() public {
        (bytes memory a, uint8 p) = encode(spec(messages(2, 9, false), 8));
        (bytes memory b, uint8 r) = encode(gap(8, 1));
        bytes memory wrong = abi.encodeCall(Errors.BadSignature, (vm.addr(SENSOR)));
        refused(abi.encodeCall(IMainContract.reportSensorContradiction, (8, a, b, p | (1 - r) << 1)), wrong);
        b[40] = 0x02;
        refused(abi.encodeCall(IMainContract.reportSensorContradiction, (8, a, b, p | r << 1)), wrong);
    }

    /// Bytes behind the arguments would be logged as evidence, and are nobody's word.
    function test_paddedEvidence() public {
        bytes memory sent = report(12, spec(messages(8, 4, false), 8), spec(messages(8, 99, false), 8));
        refused(
            abi.encodePacked(sent, hex"00"), abi.encodeCall(Errors.CallNotExact, (sent.length, sent.length + 1))
        );
        refused(
            abi.encodePacked(sent, new bytes(100_000)),
            abi.encodeCall(Errors.CallNotExact, (sent.length, sent.length + 100_000))
        );
        // nor in the padding of a frame
        bytes memory dirty = abi.encodePacked(sent);
        dirty[dirty.length - 1] = 0x01;
        refused(dirty, IMainContract.CallNotCanonical.selector);
        send(sent);
    }

    /// Random messages in two random cuts: a contradiction exactly where they differ.
    function testFuzz_framing(uint256 seed, uint8 cut, uint8 odd, uint8 at_) public {
        Message[] memory a = new Message[](12);
        Message[] memory b = new Message[](12);
        for (uint256 i; i < 12; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            a[i] = Message(uint64(dice % (1 << 48)), abi.encodePacked(uint24(dice >> 64)));
            b[i] = Message(a[i].time, i == odd % 12 ? abi.encodePacked(uint24((dice >> 64) ^ 1)) : a[i].values);
        }
        uint256 first = cut % 6;
        Message[] memory rest = new Message[](12 - first);
        for (uint256 i; i < rest.length; ++i) rest[i] = b[i + first];
        Spec memory one = spec(a, 100);
        Spec memory two = spec(rest, uint64(100 + first));
        (one.width, two.width) = (3, 3);
        uint256 place = first + at_ % (12 - first);
        bytes memory sent = report(uint64(100 + place), one, two);
        if (place == odd % 12) {
            send(sent);
            checkVoid(0, uint64(100 + place));
        } else {
            refused(sent, abi.encodeCall(Errors.MessagesEqual, (uint64(100 + place))));
        }
    }
}
