// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Cells} from "../src/Cells.sol";
import {ICells} from "../src/ICells.sol";
import {IMainContract} from "../src/IMainContract.sol";
import {CellErrors, Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title Cells: behind the door, once, by all nodes or by all users
contract CellsTest is Kit {
    Cells private cells;
    Made private m;
    bytes32 private constant CONTEXT = keccak256("context");

    function setUp() public override {
        super.setUp();
        m = create(1, 2, 3);
        cells = new Cells(main);
        // t = 3 is a hole
        send(settleCall(m, wordOf(1, 0, 0, 2), CONTEXT, "r"));
        send(holeCall(m, unequalRound(0, 3, 3, 3)));
        send(settleCall(m, wordOf(1, 0, 4, 4), CONTEXT, "r"));
    }

    function toCells(bytes memory data) private returns (Vm.Log memory) {
        vm.recordLogs();
        (bool ok, bytes memory answer) = address(cells).call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        return logs[0];
    }

    function refusedByCells(bytes memory data, bytes memory reason) private {
        (bool ok, bytes memory answer) = address(cells).call(data);
        require(!ok, "expected a revert");
        eq(answer, reason);
    }

    function readingWith(bytes32 signed, uint256 word, bytes memory result) private returns (bytes memory) {
        Bip340 memory sig = schnorr(m.secret, m.id, signed);
        return abi.encodeCall(
            ICells.settleReading,
            (IMainContract.Certificate(sig.rx, sig.ry, sig.s, m.id), word, CONTEXT, result)
        );
    }

    function reading(uint256 word, bytes memory result) private returns (bytes memory) {
        return readingWith(outcomeDigest(m.id, word, CONTEXT, result), word, result);
    }

    function checkCell(uint64 t, ICells.Writer writer, uint256 word, bytes32 digest) private view {
        (ICells.Writer w, uint256 stored, bytes32 d) = cells.cell(m.id, t);
        yes(w == writer);
        eq(stored, word);
        eq(d, digest);
    }

    function checkLog(Vm.Log memory log, uint64 t) private view {
        eq(log.emitter, address(cells));
        eq(log.topics.length, 3);
        eq(
            log.topics[0],
            keccak256("CellWritten(bytes32,uint64,uint8,uint256,bytes32,bytes32,bytes,bytes,uint64[])")
        );
        eq(log.topics[1], m.id);
        eq(log.topics[2], bytes32(uint256(t)));
    }

    function test_domain() public view {
        eq(address(cells.main()), address(main));
        eq(cells.deployment(), main.deployment());
        eq(cells.domainSeparator(), main.domainSeparator());
    }

    function test_users() public {
        checkCell(3, ICells.Writer.None, 0, 0);
        uint256 word = wordOf(1, 0, 3, 3);
        IMainContract.Resolution memory r = resolutionOf(m, 3, 1, "agreed");
        (, uint64 nextT, uint32 epoch, bytes24 head,) = main.agreements(m.id);
        Vm.Log memory log = toCells(resolveCall(m, 3, 1, "agreed"));
        checkLog(log, 3);
        eq(
            log.data,
            abi.encode(
                uint8(2), word, bytes32(0), r.state, bytes("agreed"), bytes("carry"), qOf(SENSOR_COUNT)
            )
        );
        checkCell(3, ICells.Writer.Users, word, resolvedDigest(m.id, word, resolutionHash(r)));
        // nothing that is folded, or settles, has changed
        (, uint64 nextT2, uint32 epoch2, bytes24 head2,) = main.agreements(m.id);
        eq(nextT2, nextT);
        eq(epoch2, epoch);
        eq(head2, head);
    }

    function test_secondReading() public {
        uint256 word = wordOf(1, 1 << 16, 3, 3);
        Vm.Log memory log = toCells(reading(word, "read again"));
        checkLog(log, 3);
        eq(
            log.data,
            abi.encode(uint8(1), word, CONTEXT, bytes32(0), bytes("read again"), bytes(""), new uint64[](0))
        );
        checkCell(3, ICells.Writer.SecondReading, word, outcomeDigest(m.id, word, CONTEXT, "read again"));
    }

    /// A null and a trap are what a second reading may give; the epoch may be any marked one.
    function test_kindsOfReading() public {
        toCells(reading(wordOf(0, 1 << 16, 0, 0), ""));
        checkCell(
            0, ICells.Writer.SecondReading, wordOf(0, 1 << 16, 0, 0), outcomeDigest(m.id, wordOf(0, 1 << 16, 0, 0), CONTEXT, "")
        );
        toCells(reading(wordOf(2, type(uint32).max, 1, 1), ""));
        toCells(reading(wordOf(1, 3 << 16 | 7, 2, 2), ""));
        refusedByCells(reading(wordOf(0, 1 << 16, 3, 3), "x"), abi.encodeCall(Errors.NullWithResult, ()));
        refusedByCells(reading(wordOf(2, 1 << 16, 3, 3), "x"), abi.encodeCall(Errors.TrapWithResult, ()));
        for (uint8 kind = 3; kind < 7; ++kind) {
            refusedByCells(
                reading(wordOf(kind, 1 << 16, 3, 3), ""), abi.encodeCall(Errors.KindNotSettled, (kind))
            );
        }
        // something above the word
        uint256 word = wordOf(1, 1 << 16, 3, 3) | 1 << 168;
        refusedByCells(reading(word, ""), abi.encodeCall(Errors.KindNotSettled, (word >> 160)));
    }

    /// Whoever writes first has written: two readings, two resolutions, one of each in either order.
    function test_once() public {
        bytes memory one = reading(wordOf(1, 1 << 16, 3, 3), "one");
        bytes memory two = reading(wordOf(1, 2 << 16, 3, 3), "two");
        bytes memory users = resolveCall(m, 3, 1, "users");
        bytes memory other = resolveCall(m, 3, 1, "others");
        uint256 snapshot = vm.snapshotState();
        toCells(one);
        bytes memory taken = abi.encodeCall(CellErrors.CellTaken, (m.id, 3, 1));
        refusedByCells(one, taken);
        refusedByCells(two, taken);
        refusedByCells(users, taken);
        vm.revertToState(snapshot);
        toCells(users);
        taken = abi.encodeCall(CellErrors.CellTaken, (m.id, 3, 2));
        refusedByCells(users, taken);
        refusedByCells(other, taken);
        refusedByCells(one, taken);
        // another cell is another one
        toCells(resolveCall(m, 4, 1, "users"));
    }

    /// In band or as a cell: the position decides, and one signature serves in both.
    function test_oneSignatureTwoPlaces() public {
        bytes memory sent = resolveCall(m, 5, 1, "agreed");
        refusedByCells(sent, abi.encodeCall(CellErrors.NotBehindTheDoor, (5, 5)));
        uint256 snapshot = vm.snapshotState();
        send(sent);
        (, uint64 nextT,,,) = main.agreements(m.id);
        eq(nextT, 6);
        vm.revertToState(snapshot);
        send(settleCall(m, wordOf(1, 0, 5, 5), CONTEXT, "r"));
        refused(sent, abi.encodeCall(Errors.NotTheNext, (5, 6)));
        toCells(sent);
    }

    function test_door() public {
        refusedByCells(
            reading(wordOf(1, 1 << 16, 5, 5), "r"), abi.encodeCall(CellErrors.NotBehindTheDoor, (5, 5))
        );
        refusedByCells(
            reading(wordOf(1, 1 << 16, MAX_T, MAX_T), "r"),
            abi.encodeCall(CellErrors.NotBehindTheDoor, (MAX_T, 5))
        );
        refusedByCells(resolveCall(m, 6, 1, "r"), abi.encodeCall(CellErrors.NotBehindTheDoor, (6, 5)));
        Made memory unknown = prepare(9, 2, 3);
        refusedByCells(resolveCall(unknown, 0, 1, "r"), abi.encodeCall(Errors.NotAnAgreement, (unknown.id)));
        m = unknown;
        refusedByCells(
            reading(wordOf(1, 1 << 16, 0, 0), "r"), abi.encodeCall(Errors.NotAnAgreement, (unknown.id))
        );
    }

    /// An ordinary outcome of t is no second reading of it.
    function test_unmarked() public {
        refusedByCells(reading(wordOf(1, 0, 3, 3), "r"), abi.encodeCall(CellErrors.EpochNotMarked, (0)));
        refusedByCells(reading(wordOf(1, 0xffff, 3, 3), "r"), abi.encodeCall(CellErrors.EpochNotMarked, (0xffff)));
        refusedByCells(reading(wordOf(1, 1 << 16, 2, 3), "r"), abi.encodeCall(CellErrors.FromIsNotT, (2, 3)));
        refusedByCells(reading(wordOf(1, 1 << 16, 4, 3), "r"), abi.encodeCall(CellErrors.FromIsNotT, (4, 3)));
    }

    /// Unanimous, of exactly this: not of a batch, a reveal, another context, agreement, chain; nor in this contract's domain.
    function test_readingSignature() public {
        uint256 word = wordOf(1, 1 << 16, 3, 3);
        bytes memory reason = abi.encodeCall(Errors.NotUnanimous, ());
        uint64[] memory none;
        bytes32 digest = outcomeDigest(m.id, word, CONTEXT, "r");
        refusedByCells(readingWith(batchDigest(m.id, word, CONTEXT, "r"), word, "r"), reason);
        refusedByCells(readingWith(revealDigest(digest, none), word, "r"), reason);
        refusedByCells(readingWith(outcomeDigest(m.id, word, "another", "r"), word, "r"), reason);
        refusedByCells(readingWith(outcomeDigest(m.id, word, CONTEXT, "s"), word, "r"), reason);
        refusedByCells(readingWith(outcomeDigest("a", word, CONTEXT, "r"), word, "r"), reason);
        refusedByCells(
            readingWith(outcomeDigest(m.id, wordOf(1, 2 << 16, 3, 3), CONTEXT, "r"), word, "r"), reason
        );
        bytes32 prefix = keccak256(abi.encodePacked(tag(37), uint64(block.chainid), address(cells)));
        refusedByCells(
            readingWith(keccak256(abi.encodePacked(prefix, m.id, word, CONTEXT, bytes("r"))), word, "r"), reason
        );
        m.secret = addmod(m.secret, 1, N);
        refusedByCells(reading(word, "r"), reason);
    }

    function test_resolutionRefusals() public {
        refusedByCells(resolveCall(m, 3, 3, ""), abi.encodeCall(Errors.KindNotSettled, (3)));
        IMainContract.Resolution memory r = resolutionOf(m, 3, 1, "r");
        refusedByCells(
            resolveCallWith(m, r, "other", qOf(SENSOR_COUNT)),
            abi.encodeCall(Errors.StateDoesNotOpen, (stateOf("other", qOf(SENSOR_COUNT))))
        );
        refusedByCells(resolveCallWith(m, r, "carry", qOf(2)), abi.encodeCall(Errors.SensorsDoNotOpen, (2)));
        IMainContract.Signature[] memory list = userSignatures(m, typed(resolutionHash(r)));
        list[1] = sign(m.nodeKeys[1], typed(resolutionHash(r)));
        refusedByCells(
            abi.encodeCall(
                ICells.resolve,
                (r, bytes("carry"), qOf(SENSOR_COUNT), m.sensors, m.opening, m.terms.users, list)
            ),
            abi.encodeCall(Errors.BadSignature, (m.terms.users[1]))
        );
        // a signature for a deployment at the address of the cells
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("DIVERSITY"),
                keccak256("1"),
                block.chainid,
                address(cells)
            )
        );
        list = userSignatures(m, keccak256(abi.encodePacked(hex"1901", separator, resolutionHash(r))));
        refusedByCells(
            abi.encodeCall(
                ICells.resolve,
                (r, bytes("carry"), qOf(SENSOR_COUNT), m.sensors, m.opening, m.terms.users, list)
            ),
            abi.encodeCall(Errors.BadSignature, (m.terms.users[0]))
        );
    }

    /// The door closes for cells as it opens: whatever settles t makes its cell writable.
    function test_closedAgreement() public {
        send(closeCall(m, 5));
        toCells(resolveCall(m, 3, 1, "r"));
    }

    function test_noEther() public {
        (bool ok,) = address(cells).call{value: 1}(resolveCall(m, 3, 1, "r"));
        yes(!ok);
    }

    /// No byte of a second reading can be another one. (The result fills its word.)
    function testFuzz_changedByte(uint256 place, uint8 flip) public {
        bytes memory sent = reading(wordOf(1, 1 << 16, 3, 3), abi.encode(CONTEXT));
        place = 4 + place % (sent.length - 4);
        sent[place] = bytes1(uint8(sent[place]) ^ (flip == 0 ? 1 : flip));
        (bool ok,) = address(cells).call(sent);
        yes(!ok);
    }
}
