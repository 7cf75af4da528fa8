// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

contract RegistryTest is Kit {
    uint256 private constant USER = 0xA11CE;
    uint256 private constant OTHER = 0xB0B;
    uint256 private constant SENSOR = 0x5E25;
    uint256 private constant NODE = 0x20DE;
    bytes private constant DECLARATION = hex"0102030405";

    function head(address user) private view returns (bytes32 h, uint64 count) {
        return main.users(user);
    }

    function chain(bytes32 before, bytes32 digest) private pure returns (bytes32) {
        return bytes32(bytes23(keccak256(abi.encode(before, digest))));
    }

    // ------------------------------------------------------------------------------------------------- users

    function test_user() public {
        vm.recordLogs();
        registerUser(USER, "Bike hire Ltd");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1);
        eq(logs[0].topics.length, 1);
        eq(logs[0].topics[0], keccak256("UserRegistered()"));
        eq(logs[0].data, abi.encodePacked(vm.addr(USER), "Bike hire Ltd"));
        (bytes32 h, uint64 count) = head(vm.addr(USER));
        eq(count, 1);
        bytes32 digest = keccak256(
            abi.encode(keccak256("User(address user,string name)"), vm.addr(USER), keccak256("Bike hire Ltd"))
        );
        eq(h, bytes32(bytes23(digest)));
    }

    function test_userTwice() public {
        registerUser(USER, "one");
        IMainContract.Signature memory s = sign(USER, userDigest(vm.addr(USER), "two"));
        refused(
            userCall(vm.addr(USER), s, "two"),
            abi.encodeCall(Errors.AlreadyRegistered, (vm.addr(USER)))
        );
    }

    function userCall(bytes memory name) private view returns (bytes memory) {
        IMainContract.Signature memory s = sign(USER, userDigest(vm.addr(USER), name));
        return userCall(vm.addr(USER), s, name);
    }

    function test_nameBounds() public {
        refused(userCall(""), IMainContract.NameEmptyOrTooLong.selector);
        refused(userCall(new bytes(65)), IMainContract.NameEmptyOrTooLong.selector);
        send(userCall(new bytes(64)));
    }

    /// Less than a user, or nothing behind it.
    function test_userCut() public {
        bytes memory sent = userCall("n");
        uint256 whole = sent.length;
        for (uint256 size = 68; size < whole; ++size) {
            assembly ("memory-safe") {
                mstore(sent, size)
            }
            refused(sent, IMainContract.NameEmptyOrTooLong.selector);
        }
    }

    function test_userSignature() public {
        bytes memory wrong = abi.encodeCall(Errors.BadSignature, (vm.addr(USER)));
        bytes32 digest = userDigest(vm.addr(USER), "name");
        IMainContract.Signature[4] memory bad = [
            sign(OTHER, digest),
            malleated(USER, digest),
            sign(USER, userDigest(vm.addr(USER), "other name")),
            IMainContract.Signature(0, 0)
        ];
        for (uint256 i; i < bad.length; ++i) {
            refused(userCall(vm.addr(USER), bad[i], "name"), wrong);
        }
    }

    /// Whoever copies the call out of the pool only pays for it.
    function test_relayedByAnyone() public {
        bytes memory data = userCall("name");
        vm.prank(address(0xBEEF));
        send(data);
        refused(data, abi.encodeCall(Errors.AlreadyRegistered, (vm.addr(USER))));
    }

    /// A signature for another chain, or another contract, is none.
    function test_domain() public {
        bytes memory data = userCall("name");
        vm.chainId(1);
        eq(main.deployment(), bytes28(abi.encodePacked(uint64(31_337), address(main))));
        bytes memory wrong = userCall("name");
        vm.chainId(31_337);
        refused(wrong, abi.encodeCall(Errors.BadSignature, (vm.addr(USER))));
        send(data);
    }

    // ------------------------------------------------------------------------------------------------ sensors

    function test_sensor() public {
        registerUser(USER, "owner");
        (bytes32 before,) = head(vm.addr(USER));
        vm.recordLogs();
        send(sensorCall(USER, SENSOR, DECLARATION));
        Vm.Log memory log = vm.getRecordedLogs()[0];
        eq(log.topics[0], keccak256("SensorRegistered(address,address)"));
        eq(log.topics[1], bytes32(uint256(uint160(vm.addr(SENSOR)))));
        eq(log.topics[2], bytes32(uint256(uint160(vm.addr(USER)))));
        eq(log.data, DECLARATION);
        (bytes32 h, uint64 count) = head(vm.addr(USER));
        eq(count, 2);
        eq(h, chain(before, entityHash("Sensor", vm.addr(SENSOR), vm.addr(USER), DECLARATION, 1)));
    }

    function test_sensorOfUnknownOwner() public {
        refused(sensorCall(USER, SENSOR, DECLARATION), abi.encodeCall(Errors.NotRegistered, (vm.addr(USER))));
    }

    function test_sensorWithoutDeclaration() public {
        registerUser(USER, "owner");
        refused(sensorCall(USER, SENSOR, ""), IMainContract.DeclarationEmpty.selector);
    }

    /// Somebody else's sensor: its public key is known, its consent is not to be had.
    function test_copiedSensor() public {
        registerUser(USER, "owner");
        registerUser(OTHER, "thief");
        (address thief, address s) = (vm.addr(OTHER), vm.addr(SENSOR));
        IMainContract.Signature memory mine = sign(OTHER, typed(entityHash("Sensor", s, thief, DECLARATION, 1)));
        // The consent to the true owner, and one by another key.
        IMainContract.Signature memory consent = sign(SENSOR, bindingDigest(2, vm.addr(USER), s, DECLARATION));
        refused(
            abi.encodePacked(abi.encodeCall(IMainContract.registerSensor, (s, thief, mine, consent)), DECLARATION),
            abi.encodeCall(Errors.BadSignature, (s))
        );
        consent = sign(OTHER, bindingDigest(2, thief, s, DECLARATION));
        refused(
            abi.encodePacked(abi.encodeCall(IMainContract.registerSensor, (s, thief, mine, consent)), DECLARATION),
            abi.encodeCall(Errors.BadSignature, (s))
        );
    }

    /// A sensor that consents, and an owner who never signed.
    function test_sensorForcedOnOwner() public {
        registerUser(USER, "owner");
        (address o, address s) = (vm.addr(USER), vm.addr(SENSOR));
        IMainContract.Signature memory consent = sign(SENSOR, bindingDigest(2, o, s, DECLARATION));
        IMainContract.Signature memory forged = sign(SENSOR, typed(entityHash("Sensor", s, o, DECLARATION, 1)));
        refused(
            abi.encodePacked(abi.encodeCall(IMainContract.registerSensor, (s, o, forged, consent)), DECLARATION),
            abi.encodeCall(Errors.BadSignature, (o))
        );
    }

    /// The declaration is covered by both signatures: not a byte can be added or taken.
    function test_sensorTail() public {
        registerUser(USER, "owner");
        bytes memory data = sensorCall(USER, SENSOR, DECLARATION);
        refused(abi.encodePacked(data, hex"00"), abi.encodeCall(Errors.BadSignature, (vm.addr(SENSOR))));
        assembly ("memory-safe") {
            mstore(data, sub(mload(data), 1))
        }
        refused(data, abi.encodeCall(Errors.BadSignature, (vm.addr(SENSOR))));
    }

    /// A sensor's consent is no node's binding, and the other way round.
    function test_kindsAreApart() public {
        registerUser(USER, "owner");
        (address o, address s) = (vm.addr(USER), vm.addr(SENSOR));
        bytes memory declaration = hex"0100000000";
        IMainContract.Signature memory owner = sign(USER, typed(entityHash("Node", s, o, declaration, 1)));
        IMainContract.Signature memory consent = sign(SENSOR, bindingDigest(2, o, s, declaration));
        refused(
            abi.encodePacked(abi.encodeCall(IMainContract.registerNode, (s, o, owner, consent)), declaration),
            abi.encodeCall(Errors.BadSignature, (s))
        );
        owner = sign(USER, typed(entityHash("Sensor", s, o, declaration, 1)));
        refused(
            abi.encodePacked(abi.encodeCall(IMainContract.registerNode, (s, o, owner, consent)), declaration),
            abi.encodeCall(Errors.BadSignature, (o))
        );
    }

    // --------------------------------------------------------------------------------------------------- bulk

    function bulk(uint256 n) private view returns (IMainContract.SensorEntry[] memory list, bytes32 digest) {
        address o = vm.addr(USER);
        list = new IMainContract.SensorEntry[](n);
        bytes32[] memory hashes = new bytes32[](n);
        for (uint256 i; i < n; ++i) {
            bytes memory declaration = abi.encodePacked(DECLARATION, uint16(i));
            address s = vm.addr(SENSOR + i);
            list[i] =
                IMainContract.SensorEntry(s, sign(SENSOR + i, bindingDigest(2, o, s, declaration)), declaration);
            hashes[i] = entityHash("Sensor", s, o, declaration, uint64(1 + i));
        }
        digest = typed(
            keccak256(
                abi.encode(
                    keccak256(
                        "Sensors(Sensor[] sensors)Sensor(address sensor,address owner,bytes32 declaration,uint64 count)"
                    ),
                    keccak256(abi.encodePacked(hashes))
                )
            )
        );
    }

    function test_bulk() public {
        registerUser(USER, "owner");
        (IMainContract.SensorEntry[] memory list, bytes32 digest) = bulk(5);
        (bytes32 h,) = head(vm.addr(USER));
        vm.recordLogs();
        send(abi.encodeCall(IMainContract.registerSensors, (vm.addr(USER), sign(USER, digest), list)));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 5);
        for (uint256 i; i < 5; ++i) {
            eq(logs[i].topics[1], bytes32(uint256(uint160(list[i].sensor))));
            eq(logs[i].data, list[i].declaration);
            h = chain(h, entityHash("Sensor", list[i].sensor, vm.addr(USER), list[i].declaration, uint64(1 + i)));
        }
        (bytes32 now_, uint64 count) = head(vm.addr(USER));
        eq(now_, h);
        eq(count, 6);
    }

    function test_bulkRefusals() public {
        (IMainContract.SensorEntry[] memory list, bytes32 digest) = bulk(3);
        IMainContract.Signature memory mine = sign(USER, digest);
        bytes memory data = abi.encodeCall(IMainContract.registerSensors, (vm.addr(USER), mine, list));
        refused(data, abi.encodeCall(Errors.NotRegistered, (vm.addr(USER))));
        registerUser(USER, "owner");
        refused(
            abi.encodeCall(IMainContract.registerSensors, (vm.addr(USER), sign(OTHER, digest), list)),
            abi.encodeCall(Errors.BadSignature, (vm.addr(USER)))
        );
        list[1].declaration = "another";
        refused(
            abi.encodeCall(IMainContract.registerSensors, (vm.addr(USER), mine, list)),
            abi.encodeCall(Errors.BadSignature, (list[1].sensor))
        );
        list[1].declaration = "";
        refused(
            abi.encodeCall(IMainContract.registerSensors, (vm.addr(USER), mine, list)),
            IMainContract.DeclarationEmpty.selector
        );
        send(data);
    }

    // -------------------------------------------------------------------------------------------------- nodes

    function declared(uint32 revision) private pure returns (bytes memory) {
        return abi.encodePacked(hex"01aabbcc", revision);
    }

    function test_node() public {
        registerUser(USER, "owner");
        vm.recordLogs();
        send(nodeCall(USER, NODE, declared(0)));
        Vm.Log memory log = vm.getRecordedLogs()[0];
        eq(log.topics[0], keccak256("NodeRegistered(address,address)"));
        eq(log.topics[1], bytes32(uint256(uint160(vm.addr(NODE)))));
        eq(log.data, declared(0));
        eq(main.nodeRevision(vm.addr(NODE)), 0);
    }

    function test_nodeRevisions() public {
        registerUser(USER, "owner");
        send(nodeCall(USER, NODE, declared(0)));
        send(nodeCall(USER, NODE, declared(2)));
        eq(main.nodeRevision(vm.addr(NODE)), 2);
        refused(nodeCall(USER, NODE, declared(0)), abi.encodeCall(Errors.RevisionNotNewer, (0, 2)));
        refused(nodeCall(USER, NODE, declared(1)), abi.encodeCall(Errors.RevisionNotNewer, (1, 2)));
        refused(nodeCall(USER, NODE, declared(2)), abi.encodeCall(Errors.RevisionNotNewer, (2, 2)));
        send(nodeCall(USER, NODE, declared(3)));
        eq(main.nodeRevision(vm.addr(NODE)), 3);
    }

    function test_nodeRefusals() public {
        bytes memory data = nodeCall(USER, NODE, declared(0));
        refused(data, abi.encodeCall(Errors.NotRegistered, (vm.addr(USER))));
        registerUser(USER, "owner");
        refused(nodeCall(USER, NODE, "abc"), IMainContract.DeclarationEmpty.selector);
        refused(abi.encodePacked(data, hex"00000001"), abi.encodeCall(Errors.BadSignature, (vm.addr(USER))));
        (address o, address n) = (vm.addr(USER), vm.addr(NODE));
        IMainContract.Signature memory owner = sign(USER, typed(entityHash("Node", n, o, declared(0), 1)));
        refused(
            abi.encodePacked(abi.encodeCall(IMainContract.registerNode, (n, o, owner, owner)), declared(0)),
            abi.encodeCall(Errors.BadSignature, (n))
        );
    }

    // ------------------------------------------------------------------------------------------------ replays

    /// What an owner has signed once registers once, whoever brings it: sensors, many of them, and nodes of revision 0.
    function test_registrationsDoNotReplay() public {
        registerUser(USER, "owner");
        (IMainContract.SensorEntry[] memory list, bytes32 digest) = bulk(3);
        bytes[3] memory calls = [
            abi.encodeCall(IMainContract.registerSensors, (vm.addr(USER), sign(USER, digest), list)),
            sensorCall(USER, SENSOR, DECLARATION),
            nodeCall(USER, NODE, declared(0))
        ];
        for (uint256 i; i < calls.length; ++i) {
            uint256 before = vm.snapshotState();
            send(calls[i]);
            (, uint64 count) = head(vm.addr(USER));
            vm.prank(address(0xbad));
            (bool ok,) = address(main).call(calls[i]);
            yes(!ok);
            (, uint64 now_) = head(vm.addr(USER));
            eq(now_, count);
            vm.revertToState(before);
        }
    }

    /// An older declaration of a node does not come back, although its revision was never stored.
    function test_revisionZeroDoesNotComeBack() public {
        registerUser(USER, "owner");
        bytes memory old = nodeCall(USER, NODE, hex"aa00000000");
        send(old);
        send(nodeCall(USER, NODE, hex"bb00000001"));
        refused(old, abi.encodeCall(Errors.RevisionNotNewer, (0, 1)));
    }

    function test_declarationBounds() public {
        registerUser(USER, "owner");
        bytes memory tooLong = abi.encodeCall(Errors.DeclarationTooLong, (4_097));
        refused(sensorCall(USER, SENSOR, new bytes(4_097)), tooLong);
        refused(nodeCall(USER, NODE, new bytes(4_097)), tooLong);
        send(sensorCall(USER, SENSOR, new bytes(4_096)));
        send(nodeCall(USER, NODE, new bytes(4_096)));
    }

    function test_unknownUser() public view {
        (bytes32 h, uint64 count) = main.users(address(1));
        eq(h, 0);
        eq(count, 0);
    }

    /// Any change of one byte of a registration reverts.
    function testFuzz_flippedByte(uint256 place, uint8 flip) public {
        bytes memory data = userCall("a name");
        place = 4 + place % (data.length - 4);
        data[place] = bytes1(uint8(data[place]) ^ (flip | 1));
        (bool ok,) = address(main).call(data);
        yes(!ok);
    }
}
