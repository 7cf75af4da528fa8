// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Settlement} from "./Settlement.sol";
import {Evidence} from "./linked/Evidence.sol";
import {Holes} from "./linked/Holes.sol";

/// @title Evidence that the contract checks alone (R5, R7), and the holes that end an execution
/// @dev Bad evidence reverts and occupies nothing: an id is taken only by evidence that holds. The checks are in linked
/// libraries; records and events are here.
abstract contract Disputes is Settlement {
    /// A record is `agreement 18 bytes | point u64 | epoch u32 | 0 u8 | kind u8`.
    mapping(bytes32 => uint256) private _disputes;
    /// `1 << 96 | epoch u32 | q u64`, from which on the sensor is void.
    mapping(address => uint256) private _voids;

    /// @inheritdoc IMainContract
    function settleHole(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        uint64 from,
        uint64[] calldata holes,
        Opening calldata,
        address[] calldata,
        Commit[] calldata,
        OpenedReveal[] calldata
    ) external {
        uint256 slot = _slot(agreement);
        // The word of the certificate lacks nothing but its kind: whoever comes late is told so before all else.
        uint256 state = _switch(agreement, slot, uint256(epoch) << 128 | uint256(from) << 64 | t);
        (uint256 word, bytes32 seal, bytes32 common, bytes32 digest) =
            abi.decode(_ask(address(Holes), Holes.check.selector), (uint256, bytes32, bytes32, bytes32));
        _store(agreement, _fold(slot, digest) | state);
        _record(DisputeKind.UnequalReveals, agreement, epoch, t, address(0));
        emit HoleSettled(agreement, t, word, seal, common, holes);
    }

    /// @inheritdoc IMainContract
    function reportEquivocation(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata,
        address[] calldata,
        uint256,
        Commit calldata,
        Commit calldata
    ) external {
        _known(agreement);
        address accused = abi.decode(_ask(address(Evidence), Evidence.equivocation.selector), (address));
        _record(DisputeKind.Equivocation, agreement, epoch, t, accused);
    }

    /// @inheritdoc IMainContract
    function reportFalseReveal(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata,
        address[] calldata,
        Commit calldata,
        bytes32,
        bytes32,
        bytes32,
        Reveal calldata
    ) external {
        _known(agreement);
        address accused = abi.decode(_ask(address(Evidence), Evidence.falseReveal.selector), (address));
        _record(DisputeKind.FalseReveal, agreement, epoch, t, accused);
    }

    /// @inheritdoc IMainContract
    function reportSensorContradiction(uint64 q, bytes calldata, bytes calldata, uint8) external {
        (address sensor, uint32 epoch) =
            abi.decode(_ask(address(Evidence), Evidence.contradiction.selector), (address, uint32));
        uint256 void_ = _voids[sensor];
        // An earlier contradiction says all that this one could; a lower one says more.
        if (void_ != 0 && uint64(void_) <= q) {
            revert AlreadyRecorded(disputeId(DisputeKind.SensorContradiction, 0, epoch, q, sensor));
        }
        _voids[sensor] = 1 << 96 | uint256(epoch) << 64 | q;
        _record(DisputeKind.SensorContradiction, 0, epoch, q, sensor);
    }

    /// @inheritdoc IMainContract
    function disputes(bytes32 dispute)
        external
        view
        returns (DisputeKind kind, uint32 epoch, uint64 point, bytes18 agreement)
    {
        uint256 record = _disputes[dispute];
        return (DisputeKind(uint8(record)), uint32(record >> 16), uint64(record >> 48), bytes18(bytes32(record)));
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

    /// Records evidence that held, and emits the whole call that brought it.
    function _record(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused) private {
        bytes32 dispute = disputeId(kind, agreement, epoch, point, accused);
        if (_disputes[dispute] != 0) revert AlreadyRecorded(dispute);
        _disputes[dispute] =
            uint256(agreement) >> 112 << 112 | uint256(point) << 48 | uint256(epoch) << 16 | uint256(kind);
        emit DisputeRecorded(dispute, agreement, accused, kind, epoch, point, msg.data);
    }
}
