// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title What the users settle in band
contract ResolveTest is Kit {
    Made private m;

    function setUp() public override {
        super.setUp();
        m = create(1, 2, 3);
        send(settleCall(m, wordOf(1, 0, 0, 4), "context", "earlier"));
    }

    function checkResolved(uint8 kind, bytes memory result, uint64 t, uint32 newEpoch) private {
        (,,, bytes24 before,) = main.agreements(m.id);
        uint256 word = wordOf(kind, newEpoch, t, t);
        IMainContract.Resolution memory r = resolutionOf(m, t, kind, result);
        vm.recordLogs();
        send(resolveCall(m, t, kind, result));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        eq(logs[0].topics.length, 3);
        eq(logs[0].topics[0], keccak256("Resolved(bytes32,uint64,uint256,bytes32,bytes,bytes,uint64[])"));
        eq(logs[0].topics[1], m.id);
        eq(logs[0].topics[2], bytes32(uint256(t)));
        eq(logs[0].data, abi.encode(word, r.state, result, bytes("carry"), qOf(SENSOR_COUNT)));
        (, uint64 nextT, uint32 epoch, bytes24 head,) = main.agreements(m.id);
        eq(nextT, t + 1);
        eq(epoch, newEpoch);
        eq(
            head,
            bytes24(keccak256(abi.encodePacked(before, bytes8(0), resolvedDigest(m.id, word, resolutionHash(r)))))
        );
    }

    function test_inBand() public {
        checkResolved(1, "agreed", 5, 2);
        // nodes start anew from the epoch in force, or the next
        refused(settleCall(m, wordOf(1, 0, 6, 6), "c", "r"), abi.encodeCall(Errors.EpochNotInForce, (0, 2)));
        refused(settleCall(m, wordOf(1, 1, 6, 6), "c", "r"), abi.encodeCall(Errors.EpochNotInForce, (1, 2)));
        send(settleCall(m, wordOf(1, 2, 6, 6), "c", "r"));
        checkResolved(0, "", 7, 4);
        checkResolved(2, "", 8, 6);
        checkResolved(1, "", 9, 8);
    }

    /// What nodes signed one epoch ahead of the chain does not count behind a resolution.
    function test_nodesOneAhead() public {
        bytes memory ahead = settleCall(m, wordOf(1, 1, 5, 6), "c", "r");
        checkResolved(1, "agreed", 5, 2);
        refused(ahead, abi.encodeCall(Errors.EpochNotInForce, (1, 2)));
    }

    /// A unit that overlaps a resolution in band is of an epoch that is over.
    function test_onlyTheNext() public {
        refused(resolveCall(m, 4, 1, "r"), abi.encodeCall(Errors.NotTheNext, (4, 5)));
        refused(resolveCall(m, 6, 1, "r"), abi.encodeCall(Errors.NotTheNext, (6, 5)));
        refused(resolveCall(m, MAX_T, 1, "r"), abi.encodeCall(Errors.NotTheNext, (MAX_T, 5)));
        bytes memory sent = resolveCall(m, 5, 1, "r");
        send(sent);
        refused(sent, abi.encodeCall(Errors.NotTheNext, (5, 6)));
    }

    function test_state() public {
        IMainContract.Resolution memory r = resolutionOf(m, 5, 1, "r");
        bytes32 other = stateOf("carrz", qOf(SENSOR_COUNT));
        refused(
            resolveCallWith(m, r, "carrz", qOf(SENSOR_COUNT)), abi.encodeCall(Errors.StateDoesNotOpen, (other))
        );
        uint64[] memory q = qOf(SENSOR_COUNT);
        q[1] += 1;
        refused(resolveCallWith(m, r, "carry", q), abi.encodeCall(Errors.StateDoesNotOpen, (stateOf("carry", q))));
        // carry and list do not run into one another: their lengths are hashed
        r.state = stateOf("", qOf(SENSOR_COUNT));
        refused(
            resolveCallWith(m, r, "carry", qOf(SENSOR_COUNT)),
            abi.encodeCall(Errors.StateDoesNotOpen, (stateOf("carry", qOf(SENSOR_COUNT))))
        );
        send(resolveCallWith(m, r, "", qOf(SENSOR_COUNT)));
    }

    /// As many q as the agreement has sensors.
    function test_numberOfQ() public {
        for (uint256 n; n < 6; ++n) {
            if (n == SENSOR_COUNT) continue;
            IMainContract.Resolution memory r = resolutionOf(m, 5, 1, "r");
            r.state = stateOf("carry", qOf(n));
            refused(resolveCallWith(m, r, "carry", qOf(n)), abi.encodeCall(Errors.SensorsDoNotOpen, (n)));
        }
        m.sensors = "another root";
        refused(resolveCall(m, 5, 1, "r"), abi.encodeCall(Errors.SensorsDoNotOpen, (SENSOR_COUNT)));
        // a count and a root to match open other terms
        m.opening.sensorsRoot = keccak256(abi.encodePacked(tag(45), uint32(SENSOR_COUNT), m.sensors));
        refused(resolveCall(m, 5, 1, "r"), abi.encodeCall(Errors.TermsDoNotOpen, (m.id)));
    }

    function test_bounds() public {
        uint64[] memory q = qOf(SENSOR_COUNT);
        q[2] = 1 << 62;
        IMainContract.Resolution memory r = resolutionOf(m, 5, 1, "r");
        r.state = stateOf("carry", q);
        refused(resolveCallWith(m, r, "carry", q), abi.encodeCall(Errors.QOutOfRange, (2)));
        refused(resolveCall(m, 5, 1, new bytes(4097)), abi.encodeCall(Errors.ResultTooLong, (4097)));
        r.state = stateOf(new bytes((1 << 20) + 1), qOf(SENSOR_COUNT));
        refused(
            resolveCallWith(m, r, new bytes((1 << 20) + 1), qOf(SENSOR_COUNT)),
            abi.encodeCall(Errors.CarryTooLong, ((1 << 20) + 1))
        );
        q[2] = (1 << 62) - 1;
        r = resolutionOf(m, 5, 1, new bytes(4096));
        r.state = stateOf(new bytes(1 << 20), q);
        send(resolveCallWith(m, r, new bytes(1 << 20), q));
    }

    function test_kinds() public {
        refused(resolveCall(m, 5, 3, "r"), abi.encodeCall(Errors.KindNotSettled, (3)));
        refused(resolveCall(m, 5, 4, ""), abi.encodeCall(Errors.KindNotSettled, (4)));
        refused(resolveCall(m, 5, 5, ""), abi.encodeCall(Errors.KindNotSettled, (5)));
        refused(resolveCall(m, 5, 0, "r"), IMainContract.NullWithResult.selector);
        refused(resolveCall(m, 5, 2, "r"), IMainContract.TrapWithResult.selector);
    }

    /// Every user, in its place, of exactly this.
    function test_signatures() public {
        IMainContract.Resolution memory r = resolutionOf(m, 5, 1, "r");
        bytes32 digest = typed(resolutionHash(r));
        for (uint256 i; i < 2; ++i) {
            IMainContract.Signature[] memory list = userSignatures(m, digest);
            list[i] = sign(m.nodeKeys[0], digest);
            refused(with(r, list), abi.encodeCall(Errors.BadSignature, (m.terms.users[i])));
            list[i] = malleated(m.userKeys[i], digest);
            refused(with(r, list), abi.encodeCall(Errors.BadSignature, (m.terms.users[i])));
        }
        IMainContract.Signature[] memory one = new IMainContract.Signature[](1);
        one[0] = sign(m.userKeys[0], digest);
        refused(with(r, one), abi.encodeCall(Errors.UserSignaturesDiffer, (1, 2)));
        IMainContract.Signature[] memory good = userSignatures(m, digest);
        bytes memory wrong = abi.encodeCall(Errors.BadSignature, (m.terms.users[0]));
        // another kind, result: not what was signed
        r.kind = 0;
        r.result = "";
        refused(with(r, good), wrong);
        r = resolutionOf(m, 5, 1, "s");
        refused(with(r, good), wrong);
        r = resolutionOf(m, 5, 1, "r");
        Made memory other = create(2, 2, 3);
        refused(
            abi.encodeCall(
                IMainContract.resolve,
                (r, bytes("carry"), qOf(SENSOR_COUNT), other.sensors, other.opening, other.terms.users, good)
            ),
            abi.encodeCall(Errors.TermsDoNotOpen, (m.id))
        );
        refused(
            abi.encodeCall(
                IMainContract.resolve,
                (r, bytes("carry"), qOf(SENSOR_COUNT), m.sensors, m.opening, other.terms.users, good)
            ),
            IMainContract.UsersDoNotOpen.selector
        );
        send(with(r, good));
    }

    function with(IMainContract.Resolution memory r, IMainContract.Signature[] memory list)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(
            IMainContract.resolve,
            (r, bytes("carry"), qOf(SENSOR_COUNT), m.sensors, m.opening, m.terms.users, list)
        );
    }

    /// Carries and results of every length are hashed as they are.
    function testFuzz_state(bytes memory carry, bytes memory result, uint64[3] memory q) public {
        uint64[] memory list = new uint64[](3);
        for (uint256 i; i < 3; ++i) list[i] = q[i] % (1 << 62);
        IMainContract.Resolution memory r = resolutionOf(m, 5, 1, result);
        r.state = stateOf(carry, list);
        vm.recordLogs();
        send(resolveCallWith(m, r, carry, list));
        eq(vm.getRecordedLogs()[0].data, abi.encode(wordOf(1, 2, 5, 5), r.state, result, carry, list));
    }
}
