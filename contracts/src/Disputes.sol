// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Settlement} from "./Settlement.sol";
import {Digests} from "./lib/Digests.sol";
import {Frames} from "./lib/Frames.sol";

/// @title Evidence that the contract checks alone (R5, R7), and what the users make of it
/// @dev Bad evidence reverts and occupies nothing: an id is taken only by evidence that holds.
abstract contract Disputes is Settlement {
    /// A record is `agreement 18 bytes | point u64 | epoch u32 | resolved u8 | kind u8`.
    mapping(bytes32 => uint256) private _disputes;
    /// `1 << 96 | epoch u32 | q u64`, from which on the sensor is void.
    mapping(address => uint256) private _voids;

    /// @inheritdoc IMainContract
    function reportEquivocation(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata opening,
        address[] calldata nodes,
        uint256 node,
        Commit calldata first,
        Commit calldata second
    ) external {
        _openNodes(agreement, opening, nodes);
        address accused = _at(nodes, node);
        bytes memory subject = Digests.subject(deployment, agreement, epoch, t);
        if (first.commitment == second.commitment && first.openingHash == second.openingHash) revert SameCommit();
        _checkCommit(subject, accused, first);
        _checkCommit(subject, accused, second);
        _record(DisputeKind.Equivocation, agreement, epoch, t, accused);
    }

    /// @inheritdoc IMainContract
    function reportFalseReveal(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata opening,
        address[] calldata nodes,
        Commit calldata commit,
        bytes32 seal,
        bytes32 secret,
        bytes32 salt,
        Reveal calldata reveal
    ) external {
        _openNodes(agreement, opening, nodes);
        address accused = _at(nodes, reveal.node);
        bytes memory subject = Digests.subject(deployment, agreement, epoch, t);
        _checkCommit(subject, accused, commit);
        if (Digests.opening(secret, salt) != commit.openingHash) revert OpeningHashDiffers();
        _checkReveal(agreement, epoch, t, accused, seal, reveal);
        if (Digests.commitment(subject, accused, reveal.computed, secret, salt) == commit.commitment) {
            revert RevealOpensCommit();
        }
        _record(DisputeKind.FalseReveal, agreement, epoch, t, accused);
    }

    /// @inheritdoc IMainContract
    function reportSensorContradiction(uint64 q, bytes calldata first, bytes calldata second, uint8 parities) external {
        Frames.Header memory one = Frames.header(first);
        Frames.Header memory two = Frames.header(second);
        if (one.sensor != two.sensor) revert FramesOfDifferentSensors();
        if (one.epoch != two.epoch) revert FramesOfDifferentEpochs();
        if (!Frames.isSigned(first, one, deployment, parities & 1)) revert BadSignature(one.sensor);
        if (!Frames.isSigned(second, two, deployment, parities >> 1 & 1)) revert BadSignature(two.sensor);
        {
            (uint256 time, bytes calldata values) = Frames.message(first, one, q);
            (uint256 time2, bytes calldata values2) = Frames.message(second, two, q);
            if (time == time2 && keccak256(values) == keccak256(values2)) revert MessagesEqual(q);
        }
        bytes32 dispute = disputeId(DisputeKind.SensorContradiction, 0, one.epoch, q, one.sensor);
        uint256 void_ = _voids[one.sensor];
        // An earlier contradiction says all that this one could.
        if (void_ != 0 && uint64(void_) <= q) revert AlreadyRecorded(dispute);
        _voids[one.sensor] = 1 << 96 | uint256(one.epoch) << 64 | q;
        _record(DisputeKind.SensorContradiction, 0, one.epoch, q, one.sensor);
    }

    /// @inheritdoc IMainContract
    function reportUnequalReveals(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata opening,
        address[] calldata nodes,
        bytes32 seal,
        Reveal[] calldata reveals
    ) external {
        _openNodes(agreement, opening, nodes);
        if (reveals.length < 2) revert TooFewReveals();
        bytes32 firstDigest;
        bool differ;
        for (uint256 i; i < reveals.length; ++i) {
            Reveal calldata reveal = reveals[i];
            if (i != 0 && reveal.node <= reveals[i - 1].node) revert RevealsNotAscending(i);
            bytes32 digest = _checkReveal(agreement, epoch, t, _at(nodes, reveal.node), seal, reveal);
            if (i == 0) firstDigest = digest;
            else if (digest != firstDigest) differ = true;
        }
        // Equal reveals are a hole only where all n nodes abstained: nobody vouches for an output.
        bool abstained = reveals.length == nodes.length && reveals[0].computed.kind == KIND_ABSTAIN;
        if (!differ && !abstained) revert RevealsEqual();
        _record(DisputeKind.UnequalReveals, agreement, epoch, t, address(0));
    }

    /// @inheritdoc IMainContract
    function resolve(
        bytes32 dispute,
        bytes32 agreement,
        uint256 word,
        bytes32 context,
        bytes calldata result,
        Opening calldata opening,
        address[] calldata users,
        Signature[] calldata userSignatures
    ) external {
        _markResolved(dispute, agreement, uint64(word));
        _checkResolved(word, result.length);
        _openUsers(agreement, opening, users);
        bytes32 digest = keccak256(
            abi.encode(Digests.RESOLUTION_TYPE, dispute, agreement, word, context, keccak256(result))
        );
        _checkUsers(digest, users, userSignatures);
        _enterEpoch(agreement, word, digest);
        emit DisputeResolved(dispute, agreement, word, context, result);
    }

    /// @inheritdoc IMainContract
    function disputes(bytes32 dispute)
        external
        view
        returns (DisputeKind kind, bool resolved, uint32 epoch, uint64 point, bytes18 agreement)
    {
        uint256 record = _disputes[dispute];
        return (
            DisputeKind(uint8(record)),
            uint8(record >> 8) != 0,
            uint32(record >> 16),
            uint64(record >> 48),
            bytes18(bytes32(record))
        );
    }

    /// @inheritdoc IMainContract
    function disputeId(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused)
        public
        pure
        returns (bytes32 dispute)
    {
        return keccak256(abi.encode(kind, agreement, epoch, point, accused));
    }

    /// @inheritdoc IMainContract
    function isHole(bytes32 agreement, uint32 epoch, uint64 t) external view returns (bool) {
        return _disputes[disputeId(DisputeKind.UnequalReveals, agreement, epoch, t, address(0))] != 0;
    }

    /// @inheritdoc IMainContract
    function sensorVoid(address sensor) external view returns (bool void_, uint32 epoch, uint64 q) {
        uint256 slot = _voids[sensor];
        return (slot != 0, uint32(slot >> 64), uint64(slot));
    }

    function _at(address[] calldata nodes, uint256 index) private pure returns (address) {
        if (index >= nodes.length) revert NodeIndexOutOfRange(index);
        return nodes[index];
    }

    function _checkCommit(bytes memory subject, address node, Commit calldata commit) private view {
        bytes32 digest = Digests.commit(subject, node, commit.commitment, commit.openingHash);
        _checkSigner(node, digest, commit.signature.r, commit.signature.vs);
    }

    /// Reverts unless `node` signed this reveal; returns what it signed.
    function _checkReveal(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        address node,
        bytes32 seal,
        Reveal calldata reveal
    ) private view returns (bytes32 digest) {
        Computed calldata computed = reveal.computed;
        bytes32 outcome = Digests.outcome(
            _outcomePrefix,
            agreement,
            Digests.word(computed.kind, epoch, reveal.from, t),
            Digests.context(computed, seal),
            computed.result
        );
        digest = Digests.reveal(outcome, reveal.holes);
        _checkSigner(node, digest, reveal.signature.r, reveal.signature.vs);
    }

    /// Records evidence that held, and emits the whole call that brought it.
    function _record(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused) private {
        bytes32 dispute = disputeId(kind, agreement, epoch, point, accused);
        if (_disputes[dispute] != 0) revert AlreadyRecorded(dispute);
        _disputes[dispute] =
            uint256(agreement) >> 112 << 112 | uint256(point) << 48 | uint256(epoch) << 16 | uint256(kind);
        emit DisputeRecorded(dispute, agreement, accused, kind, epoch, point, msg.data);
    }

    function _markResolved(bytes32 dispute, bytes32 agreement, uint64 t) private {
        uint256 record = _disputes[dispute];
        if (record == 0) revert NotADispute(dispute);
        if (uint8(record >> 8) != 0) revert AlreadyResolved(dispute);
        bool ofThis = bytes18(bytes32(record)) == bytes18(agreement) && uint64(record >> 48) == t;
        if (!ofThis || DisputeKind(uint8(record)) == DisputeKind.SensorContradiction) {
            revert DisputeNotResolvable(dispute);
        }
        _disputes[dispute] = record | 1 << 8;
    }

    /// The users may also say that there is no result: null.
    function _checkResolved(uint256 word, uint256 resultBytes) private pure {
        uint256 kind = word >> KIND_BIT;
        if (kind > KIND_TRAP) revert KindNotSettled(kind);
        if (kind == KIND_TRAP && resultBytes != 0) revert TrapWithResult();
        if (kind == KIND_NULL && resultBytes != 0) revert NullWithResult();
    }

    /// A resolution in the epoch in force is a record. One in the next epoch settles t, and opens that epoch.
    function _enterEpoch(bytes32 agreement, uint256 word, bytes32 digest) private {
        uint256 slot = _known(agreement);
        uint32 inForce = uint32(slot >> 64);
        uint32 epoch = uint32(word >> 128);
        if (epoch == inForce) return;
        if (inForce == type(uint32).max || epoch != inForce + 1) revert EpochNotInForce(epoch, inForce);
        _checkPosition(agreement, slot, epoch, word);
        uint256 state = slot & (STATE ^ POSITION) | uint256(epoch) << 64 | uint64(word) + 1;
        _store(agreement, _after(slot, digest, state));
    }
}
