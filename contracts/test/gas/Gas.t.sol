// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Cells} from "../../src/Cells.sol";
import {ICells} from "../../src/ICells.sol";
import {IMainContract} from "../../src/IMainContract.sol";
import {MainContract} from "../../src/MainContract.sol";
import {Evidence} from "../../src/linked/Evidence.sol";
import {Holes} from "../../src/linked/Holes.sol";
import {Resolutions} from "../../src/linked/Resolutions.sol";
import {Kit} from "../support/Kit.sol";
import {vm} from "../support/Vm.sol";

/// @title Gas of whole transactions, as in receipts (`--isolate`), against the goals
/// @dev Run with the `gas` profile: Prague, so the calldata floor of EIP-7623 is in the figures. Each figure goes to
/// snapshots/gas.json; `make gas-check` fails when one has changed.
contract GasTest is Kit {
    string private constant GROUP = "gas";
    bytes32 private constant CONTEXT = keccak256("context");
    uint64[] private none;
    string private over;

    function used(bytes memory data) private returns (uint256) {
        send(data);
        return vm.lastCallGas().gasTotalUsed;
    }

    /// Sends the call as a transaction of its own, notes its gas (divided by `parts`) and holds it against a goal.
    function row(string memory name, bytes memory data, uint256 parts, uint256 goal) private returns (uint256 gas_) {
        gas_ = used(data);
        note(name, (gas_ + parts - 1) / parts, goal);
    }

    /// Goal 0: none.
    function note(string memory name, uint256 gas_, uint256 goal) private {
        vm.snapshotValue(GROUP, name, gas_);
        if (goal != 0 && gas_ > goal) {
            over = string.concat(over, name, ": ", vm.toString(gas_), " > ", vm.toString(goal), "; ");
        }
    }

    /// Fails behind a test if a figure was above its goal, so that all of them are noted first.
    modifier withinGoals() {
        _;
        require(bytes(over).length == 0, over);
    }

    /// A result of bytes that are not zero: the dearest kind.
    function result(uint256 n) private pure returns (bytes memory b) {
        b = new bytes(n);
        for (uint256 i; i < n; ++i) b[i] = bytes1(uint8(uint256(keccak256(abi.encode(i))) | 1));
    }

    /// Declarations as long as those of the bike-lock agreement.
    function declaration(uint256 n, uint32 revision) private pure returns (bytes memory) {
        return abi.encodePacked(result(n - 4), revision);
    }

    // ------------------------------------------------------------------------------------------------ entities

    function test_entities() public withinGoals {
        uint256 owner = 0xA11CE;
        bytes memory name = "Operator 1";
        IMainContract.Signature memory s = sign(owner, userDigest(vm.addr(owner), name));
        row(
            "entity: user (10-byte name)",
            userCall(vm.addr(owner), s, name),
            1,
            50_000
        );
        row("entity: sensor (80-byte declaration)", sensorCall(owner, 0x5E25, declaration(80, 0)), 1, 50_000);
        row("entity: node (224-byte declaration)", nodeCall(owner, 0x20DE, declaration(224, 0)), 1, 50_000);
        row("entity: node, first update", nodeCall(owner, 0x20DE, declaration(224, 1)), 1, 0);
        row("entity: node, later update", nodeCall(owner, 0x20DE, declaration(224, 2)), 1, 50_000);
        row("entity in bulk of 64: sensor (80-byte declaration)", bulkCall(owner, 64), 64, 11_000);
    }

    function bulkCall(uint256 owner, uint256 n) private view returns (bytes memory) {
        IMainContract.SensorEntry[] memory list = new IMainContract.SensorEntry[](n);
        bytes32[] memory hashes = new bytes32[](n);
        for (uint256 i; i < n; ++i) {
            uint256 key = 0xB1CE0000 + i;
            bytes memory d = abi.encodePacked(declaration(76, uint32(i)), bytes4(keccak256(abi.encode(i))));
            bytes32 consent = bindingDigest(2, vm.addr(owner), vm.addr(key), d);
            list[i] = IMainContract.SensorEntry(vm.addr(key), sign(key, consent), d);
            hashes[i] = entityHash("Sensor", vm.addr(key), vm.addr(owner), d, countOf(vm.addr(owner)) + uint64(i));
        }
        bytes32 digest = typed(
            keccak256(
                abi.encode(
                    keccak256(
                        "Sensors(Sensor[] sensors)Sensor(address sensor,address owner,bytes32 declaration,uint64 count)"
                    ),
                    keccak256(abi.encodePacked(hashes))
                )
            )
        );
        return abi.encodeCall(IMainContract.registerSensors, (vm.addr(owner), sign(owner, digest), list));
    }

    // ---------------------------------------------------------------------------------------------- agreements

    function test_agreement() public withinGoals {
        Made memory m = prepare(1, 2, 3);
        for (uint256 i; i < 2; ++i) registerUser(m.userKeys[i], "someone");
        row("agreement: created (2 users, 3 nodes)", createCall(m), 1, 80_000);
        bytes32 digest = typed(
            keccak256(abi.encode(keccak256("Close(bytes32 agreement,uint64 end)"), m.id, uint64(22)))
        );
        row(
            "agreement: closed (2 users)",
            abi.encodeCall(
                IMainContract.closeAgreement, (m.id, 22, m.opening, m.terms.users, userSignatures(m, digest))
            ),
            1,
            0
        );
    }

    // ---------------------------------------------------------------------------------------------- settlement

    function test_single() public withinGoals {
        Made memory m = create(1, 2, 3);
        row("attest: 12-byte result", attestCall(m, wordOf(1, 0, 21, 21), CONTEXT, result(12)), 1, 28_800);
        row("attest: 12-byte result, t of 2 bytes", attestCall(m, wordOf(1, 0, 999, 999), CONTEXT, result(12)), 1, 28_800);
        row("attest: 32-byte result", attestCall(m, wordOf(1, 0, 21, 21), CONTEXT, result(32)), 1, 0);
        row("settle: 12-byte result, first", settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, result(12)), 1, 36_300);
        row("settle: 12-byte result", settleCall(m, wordOf(1, 0, 1, 1), CONTEXT, result(12)), 1, 36_300);
        row("settle: 32-byte result", settleCall(m, wordOf(1, 0, 2, 2), CONTEXT, result(32)), 1, 0);
        row("settle: trap", settleCall(m, wordOf(2, 0, 3, 3), CONTEXT, ""), 1, 0);
        send(settleCall(m, wordOf(1, 0, 4, 998), CONTEXT, result(12)));
        row("settle: 12-byte result, t of 2 bytes", settleCall(m, wordOf(1, 0, 999, 999), CONTEXT, result(12)), 1, 36_300);
        row("settle: 12-byte result, next epoch", settleCall(m, wordOf(1, 1, 1000, 1000), CONTEXT, result(12)), 1, 0);
        row("settle: 12-byte result, overlapping", settleCall(m, wordOf(1, 1, 999, 1001), CONTEXT, result(12)), 1, 0);
    }

    function test_batch() public withinGoals {
        Made memory m = create(1, 2, 3);
        bytes memory single;
        bytes memory run = hex"f1ff03";
        for (uint256 i; i < 256; ++i) {
            // three bytes, none of them zero
            uint24 v = uint24(uint256(keccak256(abi.encode(i)))) | 0x010101;
            single = abi.encodePacked(single, hex"03", v);
            run = abi.encodePacked(run, v);
        }
        send(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, result(12)));
        row("batch of 256: 3-byte results as a run, each", batchCall(m, wordOf(4, 0, 1, 256), CONTEXT, run), 256, 230);
        row("batch of 256: 3-byte results one by one, each", batchCall(m, wordOf(4, 0, 257, 512), CONTEXT, single), 256, 0);
        row("batch of 12: 12-byte results, each", batchCall(m, wordOf(4, 0, 513, 524), CONTEXT, twelve()), 12, 0);
    }

    function twelve() private pure returns (bytes memory out) {
        for (uint256 i; i < 12; ++i) out = abi.encodePacked(out, hex"0c", result(12));
    }

    function test_reveals() public withinGoals {
        uint256 two;
        for (uint256 n = 2; n <= 18; ++n) {
            if (n > 6 && n != 18) continue;
            Made memory m = create(n, 2, n);
            send(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, result(12)));
            bytes memory sent = revealsCall(m, wordOf(1, 0, 1, 1), CONTEXT, none, result(12));
            uint256 gas_ = used(sent);
            if (n == 2) two = gas_;
            if (n <= 6) note(string.concat("settle by reveals: n = ", vm.toString(n)), gas_, 0);
            // In the mean of many, because a signature with zeros in it costs less.
            if (n == 18) note("settle by reveals: each further signer", (gas_ - two + 15) / 16, 4_300);
        }
    }

    /// The stock MuSig2 library's signatures of 2 to 100 nodes: the price does not depend on n.
    function test_spread() public withinGoals {
        string memory json = vm.readFile("../proto/vectors/musig.json");
        bytes32[] memory a = vm.parseJsonBytes32Array(json, ".a");
        bytes32[] memory rx = vm.parseJsonBytes32Array(json, ".outcome_rx");
        bytes32[] memory ry = vm.parseJsonBytes32Array(json, ".outcome_ry");
        bytes32[] memory s = vm.parseJsonBytes32Array(json, ".outcome_s");
        deployAt(vm.parseJsonAddress(json, ".contract"));
        bytes memory tail = abi.encodePacked(
            uint8(1),
            uint32(vm.parseJsonUint(json, ".epoch")),
            uint64(vm.parseJsonUint(json, ".from")),
            uint64(vm.parseJsonUint(json, ".t")),
            vm.parseJsonBytes32(json, ".context"),
            vm.parseJsonBytes(json, ".result")
        );
        uint256 least = type(uint256).max;
        uint256 most;
        for (uint256 i; i < a.length; ++i) {
            uint256 gas_ =
                used(abi.encodePacked(IMainContract.attestCertificate.selector, rx[i], ry[i], s[i], a[i], tail));
            if (gas_ < least) least = gas_;
            if (gas_ > most) most = gas_;
        }
        note("attest: n = 2..100, least", least, 28_800);
        note("attest: n = 2..100, most", most, 28_800);
        note("attest: n = 2..100, spread", most - least, 59);
    }

    // ------------------------------------------------------------------------------------------------ disputes

    function test_disputes() public withinGoals {
        Made memory m = create(1, 2, 3);
        IMainContract.Commit memory one = commitOf(m, "one");
        IMainContract.Commit memory two = commitOf(m, "two");
        row(
            "dispute: equivocation (3 nodes)",
            abi.encodeCall(
                IMainContract.reportEquivocation, (m.id, 0, 7, m.opening, m.terms.nodes, 1, one, two)
            ),
            1,
            0
        );
    }

    function test_holes() public withinGoals {
        Made memory m = create(1, 2, 3);
        send(settleCall(m, wordOf(1, 0, 0, 0), CONTEXT, result(12)));
        row("hole certificate (3 nodes)", holeCall(m, unequalRound(0, 1, 1, 3)), 1, 0);
        row("resolution in band (2 users, 3 sensors)", resolveCall(m, 2, 1, result(12)), 1, 0);
        Cells cells = new Cells(main);
        MainContract kept = main;
        bytes memory cell = resolveCall(m, 1, 1, result(12));
        bytes memory other = readingCall(m);
        main = MainContract(address(cells));
        row("cell: resolution (2 users, 3 sensors)", cell, 1, 0);
        row("cell: second reading, 12-byte result", other, 1, 0);
        main = kept;
    }

    function readingCall(Made memory m) private returns (bytes memory) {
        uint256 word = wordOf(1, 1 << 16, 0, 0);
        Bip340 memory sig = schnorr(m.secret, m.id, outcomeDigest(m.id, word, CONTEXT, result(12)));
        return abi.encodeCall(
            ICells.settleReading,
            (IMainContract.Certificate(sig.rx, sig.ry, sig.s, m.id), word, CONTEXT, result(12))
        );
    }

    function commitOf(Made memory m, bytes32 commitment) private view returns (IMainContract.Commit memory) {
        bytes32 config = keccak256(abi.encodePacked(tag(24), deploymentBytes(), m.id, uint32(0)));
        bytes memory subject = abi.encodePacked(deploymentBytes(), config, uint64(7));
        bytes32 opening = keccak256("opening");
        bytes32 digest = keccak256(abi.encodePacked(tag(34), subject, m.terms.nodes[1], commitment, opening));
        return IMainContract.Commit(commitment, opening, sign(m.nodeKeys[1], digest));
    }

    function test_codeSize() public withinGoals {
        note("code: bytes of MainContract", address(main).code.length, 24_576);
        note("code: bytes of Cells", address(new Cells(main)).code.length, 24_576);
        note("code: bytes of Evidence (linked)", address(Evidence).code.length, 24_576);
        note("code: bytes of Holes (linked)", address(Holes).code.length, 24_576);
        note("code: bytes of Resolutions (linked)", address(Resolutions).code.length, 24_576);
    }
}
