// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Cells} from "../src/Cells.sol";
import {IMainContract} from "../src/IMainContract.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title An observer that has logs and nothing else recomputes head, position and epoch, whatever forms settled in
/// whatever order
contract HistoryTest is Kit {
    bytes32 private constant CONTEXT = keccak256("context");

    /// What the observer knows.
    struct Seen {
        bytes32 agreement;
        bytes24 head;
        uint64 nextT;
        uint32 epoch;
        bool hasHoles;
        uint64[] holes;
        uint256 folds;
    }

    Cells private cells;

    // ------------------------------------------------------------------------------------------- the observer

    function observe(Vm.Log[] memory logs) private view returns (Seen memory s) {
        for (uint256 i; i < logs.length; ++i) {
            Vm.Log memory log = logs[i];
            // Attestations have no topics, and are no part of any history.
            if (log.emitter != address(main) || log.topics.length == 0) continue;
            bytes32 topic = log.topics[0];
            if (topic == IMainContract.AgreementCreated.selector) {
                s.agreement = log.topics[1];
                s.head = bytes24(termsDigestOf(log.data));
            } else if (topic == IMainContract.HolesAgreed.selector) {
                s.holes = abi.decode(log.data, (uint64[]));
                s.hasHoles = true;
            } else if (topic == IMainContract.Settled.selector) {
                (uint256 word, bytes32 context, bytes memory result) =
                    abi.decode(log.data, (uint256, bytes32, bytes));
                bytes32 digest = outcomeDigest(s.agreement, word, context, result);
                if (s.hasHoles) digest = revealDigest(digest, s.holes);
                s.hasHoles = false;
                fold(s, log, word, digest);
            } else if (topic == IMainContract.BatchSettled.selector) {
                (uint256 word, bytes32 contexts, bytes memory entries) =
                    abi.decode(log.data, (uint256, bytes32, bytes));
                fold(s, log, word, batchDigest(s.agreement, word, contexts, entries));
            } else if (topic == IMainContract.HoleSettled.selector) {
                (uint256 word, bytes32 seal, bytes32 state, uint64[] memory holes) =
                    abi.decode(log.data, (uint256, bytes32, bytes32, uint64[]));
                fold(s, log, word, holeDigest(s.agreement, word, seal, state, holes));
            } else if (topic == IMainContract.Resolved.selector) {
                foldResolved(s, log);
            }
        }
    }

    function foldResolved(Seen memory s, Vm.Log memory log) private view {
        (uint256 word, bytes32 state, bytes memory result, bytes memory carry, uint64[] memory qNext) =
            abi.decode(log.data, (uint256, bytes32, bytes, bytes, uint64[]));
        eq(state, stateOf(carry, qNext));
        bytes32 structHash = resolutionHash(
            IMainContract.Resolution(s.agreement, uint64(word), uint8(word >> 160), result, state)
        );
        fold(s, log, word, resolvedDigest(s.agreement, word, structHash));
    }

    function fold(Seen memory s, Vm.Log memory log, uint256 word, bytes32 digest) private pure {
        uint64 t = uint64(word);
        eq(log.topics[1], s.agreement);
        eq(log.topics[2], bytes32(uint256(t)));
        // from <= nextT <= t
        yes(uint64(word >> 64) <= s.nextT && s.nextT <= t);
        s.head = bytes24(keccak256(abi.encodePacked(s.head, bytes8(0), digest)));
        s.nextT = t + 1;
        s.epoch = uint32(word >> 128);
        ++s.folds;
    }

    /// EIP-712 digest of the packed terms.
    function termsDigestOf(bytes memory data) private pure returns (bytes32) {
        uint256 n = uint8(data[0]);
        uint256 offset = 1;
        bytes memory users;
        for (uint256 i; i < n; ++i) {
            users = abi.encodePacked(users, uint256(part(data, offset, 20)));
            offset += 20;
        }
        n = uint8(data[offset++]);
        bytes memory nodes;
        bytes memory trust;
        for (uint256 i; i < n; ++i) {
            nodes = abi.encodePacked(nodes, part(data, offset, 20));
            trust = abi.encodePacked(trust, part(data, offset + 20, 1));
            offset += 21;
        }
        return keccak256(
            abi.encode(
                keccak256(TERMS_TYPE),
                keccak256(users),
                keccak256(nodes),
                keccak256(trust),
                part(data, offset, 32),
                part(data, offset + 32, 32),
                part(data, offset + 64, 32)
            )
        );
    }

    function part(bytes memory data, uint256 offset, uint256 size) private pure returns (uint256 value) {
        for (uint256 i; i < size; ++i) value = value << 8 | uint8(data[offset + i]);
    }

    function check(Made memory m, Seen memory s) private view {
        (, uint64 nextT, uint32 epoch, bytes24 head,) = main.agreements(m.id);
        eq(s.agreement, m.id);
        eq(s.head, head);
        eq(s.nextT, nextT);
        eq(s.epoch, epoch);
    }

    // ------------------------------------------------------------------------------------------------ histories

    function started() private returns (Made memory m) {
        m = prepare(1, 2, 3);
        for (uint256 i; i < 2; ++i) registerUser(m.userKeys[i], "someone");
        cells = new Cells(main);
        vm.recordLogs();
        send(createCall(m));
    }

    /// Every form once, overlapping the one before, with what is no settlement between them.
    function test_everyForm() public {
        Made memory m = started();
        send(settleCall(m, wordOf(1, 0, 0, 2), CONTEXT, "value"));
        send(attestCall(m, wordOf(1, 0, 0, 9), CONTEXT, "nothing"));
        send(batchCall(m, wordOf(4, 0, 1, 4), CONTEXT, hex"fdfd01aafe"));
        send(revealsCall(m, wordOf(2, 1, 3, 5), CONTEXT, new uint64[](0), ""));
        uint64[] memory holes = new uint64[](2);
        (holes[0], holes[1]) = (5, 6);
        send(revealsCall(m, wordOf(1, 1, 4, 7), CONTEXT, holes, "with holes"));
        Round memory r = unequalRound(2, 2, 9, 3);
        r.holes = holes;
        send(holeCall(m, r));
        (bool ok,) = address(cells).call(resolveCall(m, 9, 1, "cell"));
        yes(ok);
        send(resolveCall(m, 10, 1, "agreed"));
        send(closeCall(m, 12));
        send(settleCall(m, wordOf(2, 5, 0, 11), CONTEXT, ""));
        Seen memory s = observe(vm.getRecordedLogs());
        eq(s.folds, 7);
        eq(s.nextT, 12);
        eq(s.epoch, 5);
        check(m, s);
    }

    /// A random form, somewhere about the position: good or bad, the observer always meets the contract.
    function testFuzz_history(uint256 seed) public {
        Made memory m = started();
        uint256 settled;
        for (uint256 i; i < 10; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            (, uint64 nextT, uint32 epoch,,) = main.agreements(m.id);
            uint64 t = nextT + uint64(dice >> 8) % 4;
            if ((dice >> 24) % 8 == 0 && nextT > 0) t = nextT - 1;
            uint64 back = uint64(dice >> 32) % 3;
            uint64 from = back < nextT ? nextT - back : 0;
            if (from > t) from = t;
            epoch += (dice >> 48) % 8 == 0 ? 2 : uint32((dice >> 64) & 1);
            (bool ok,) = address(main).call(randomForm(m, dice, epoch, from, t));
            if (ok) ++settled;
        }
        Seen memory s = observe(vm.getRecordedLogs());
        eq(s.folds, settled);
        check(m, s);
    }

    function randomForm(Made memory m, uint256 dice, uint32 epoch, uint64 from, uint64 t)
        private
        returns (bytes memory)
    {
        uint256 which = dice % 6;
        if (which == 0) return settleCall(m, wordOf(1, epoch, from, t), CONTEXT, abi.encode(dice));
        if (which == 1) {
            bytes memory entries;
            for (uint256 k = from; k <= t; ++k) entries = abi.encodePacked(entries, hex"fe");
            return batchCall(m, wordOf(4, epoch, from, t), CONTEXT, entries);
        }
        uint64[] memory holes = new uint64[](from < t ? 1 : 0);
        if (from < t) holes[0] = from;
        if (which == 2) return revealsCall(m, wordOf(2, epoch, from, t), CONTEXT, holes, "");
        if (which == 3) return revealsCall(m, wordOf(1, epoch, from, t), CONTEXT, new uint64[](0), "x");
        if (which == 4) {
            Round memory r = unequalRound(epoch, from, t, 3);
            r.holes = holes;
            return holeCall(m, r);
        }
        return resolveCall(m, t, uint8(dice >> 128) % 3, "");
    }
}
