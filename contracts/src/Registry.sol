// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Deployment} from "./Deployment.sol";
import {Bounds} from "./lib/Bounds.sol";
import {Digests} from "./lib/Digests.sol";
import {Hash} from "./lib/Hash.sol";
import {Signed} from "./lib/Signed.sol";

/// @title Users, sensors and intermediate nodes
/// @dev One slot per user: a head over everything that the user has registered, and how much that is. Declarations are
/// in events, and the head proves that a list of events is complete and in order. A slot per sensor or node would
/// cost 22,100 gas and tell no more.
abstract contract Registry is Deployment {
    /// Bits of the count below the head in a user's slot.
    uint256 private constant COUNT_BITS = 72;

    /// head 23 bytes | count 9 bytes
    mapping(address => uint256) private _users;
    /// Stored from the first update of a declaration on.
    mapping(address => uint256) private _revisions;

    /// @inheritdoc IMainContract
    function registerUser(Signature calldata signature) external {
        address user;
        bytes calldata name = msg.data[0:0];
        assembly ("memory-safe") {
            user := shr(96, calldataload(68))
            name.offset := 88
            name.length := sub(calldatasize(), 88)
        }
        unchecked {
            // Also when there is less than a user: the length is then next to 2^256.
            if (name.length - 1 >= Bounds.NAME_BYTES_MAX) revert NameEmptyOrTooLong();
        }
        if (_users[user] != 0) revert AlreadyRegistered(user);
        bytes32 digest = Digests.user(user, name);
        _checkTyped(user, digest, signature.r, signature.vs);
        _users[user] = uint256(digest) >> COUNT_BITS << COUNT_BITS | 1;
        bytes32 topic = UserRegistered.selector;
        assembly ("memory-safe") {
            let p := mload(0x40)
            let size := sub(calldatasize(), 68)
            calldatacopy(p, 68, size)
            log1(p, size, topic)
        }
    }

    /// @inheritdoc IMainContract
    function registerSensor(address sensor, address owner, Signature calldata ownerSignature, Signature calldata consent)
        external
    {
        uint256 slot = _registered(owner);
        bytes32 digest = _sensor(owner, sensor, slot, consent, msg.data[196:]);
        _checkTyped(owner, digest, ownerSignature.r, ownerSignature.vs);
        _users[owner] = _append(slot, digest);
    }

    /// @inheritdoc IMainContract
    function registerSensors(address owner, Signature calldata ownerSignature, SensorEntry[] calldata entries) external {
        uint256 slot = _registered(owner);
        bytes32[] memory digests = new bytes32[](entries.length);
        for (uint256 i; i < entries.length; ++i) {
            SensorEntry calldata e = entries[i];
            digests[i] = _sensor(owner, e.sensor, slot, e.consent, e.declaration);
            slot = _append(slot, digests[i]);
        }
        bytes32 list = keccak256(abi.encodePacked(digests));
        _checkTyped(
            owner, keccak256(abi.encode(Digests.SENSORS_TYPE, list)), ownerSignature.r, ownerSignature.vs
        );
        _users[owner] = slot;
    }

    /// @inheritdoc IMainContract
    function registerNode(address node, address owner, Signature calldata ownerSignature, Signature calldata binding)
        external
    {
        bytes calldata declaration = msg.data[196:];
        _checkDeclaration(declaration, 4);
        uint32 given = uint32(bytes4(declaration[declaration.length - 4:]));
        uint32 stored = uint32(_revisions[node]);
        if (given <= stored && (given | stored) != 0) revert RevisionNotNewer(given, stored);
        if (given != 0) _revisions[node] = given;

        uint256 slot = _registered(owner);
        bytes32 hash = Hash.data(declaration);
        bytes32 digest = Digests.entity(Digests.NODE_TYPE, node, owner, hash, uint64(slot));
        _checkTyped(owner, digest, ownerSignature.r, ownerSignature.vs);
        bytes32 bound = Digests.registration(Digests.NODE_REGISTRATION, deployment, owner, node, hash);
        Signed.by(node, bound, binding.r, binding.vs);
        _users[owner] = _append(slot, digest);
        _logTail(NodeRegistered.selector, node, owner, declaration);
    }

    /// @inheritdoc IMainContract
    function users(address user) external view returns (bytes32 head, uint64 count) {
        uint256 slot = _users[user];
        return (bytes32(slot >> COUNT_BITS << COUNT_BITS), uint64(slot));
    }

    /// @inheritdoc IMainContract
    function nodeRevision(address node) external view returns (uint32) {
        return uint32(_revisions[node]);
    }

    /// The slot of a user, who must be known.
    function _registered(address user) internal view returns (uint256 slot) {
        slot = _users[user];
        if (slot == 0) revert NotRegistered(user);
    }

    /// Checks the consent of a sensor, emits its event, and returns what its owner has to sign: the number of entities that
    /// the owner has had so far is part of it, so what was signed once registers once.
    function _sensor(
        address owner,
        address sensor,
        uint256 slot,
        Signature calldata consent,
        bytes calldata declaration
    ) private returns (bytes32) {
        _checkDeclaration(declaration, 1);
        bytes32 hash = Hash.data(declaration);
        bytes32 consented = Digests.registration(Digests.SENSOR_REGISTRATION, deployment, owner, sensor, hash);
        Signed.by(sensor, consented, consent.r, consent.vs);
        _logTail(SensorRegistered.selector, sensor, owner, declaration);
        return Digests.entity(Digests.SENSOR_TYPE, sensor, owner, hash, uint64(slot));
    }

    function _checkDeclaration(bytes calldata declaration, uint256 least) private pure {
        if (declaration.length < least) revert DeclarationEmpty();
        if (declaration.length > Bounds.DECLARATION_BYTES_MAX) revert DeclarationTooLong(declaration.length);
    }

    /// A user's slot after one more entity.
    function _append(uint256 slot, bytes32 digest) private pure returns (uint256) {
        bytes32 head = Hash.pair(bytes32(slot >> COUNT_BITS << COUNT_BITS), digest);
        return uint256(head) >> COUNT_BITS << COUNT_BITS | (uint64(slot) + 1);
    }

    /// Event with two indexed arguments and raw bytes as data.
    function _logTail(bytes32 selector, address one, address two, bytes calldata tail) private {
        assembly ("memory-safe") {
            let p := mload(0x40)
            calldatacopy(p, tail.offset, tail.length)
            log3(p, tail.length, selector, one, two)
        }
    }
}
