// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {Bounds} from "./Bounds.sol";
import {Digests} from "./Digests.sol";
import {Ecdsa} from "./Ecdsa.sol";

/// @title Sensor frames as evidence (wire-format §3)
library Frames {
    uint256 internal constant SIGNATURE_BYTES = 64;
    /// version, flags, sensor, epoch, first_q, count, width
    uint256 internal constant HEADER_BYTES = 37;
    /// last_q, last_frame_digest
    uint256 internal constant OPENING_BYTES = 40;

    /// A gap has `count` = the messages that it says are lost, and no body.
    struct Header {
        bool gap;
        address sensor;
        uint32 epoch;
        uint64 firstQ;
        uint256 count;
        uint256 width;
        /// Where the body starts and ends in the frame.
        uint256 body;
        uint256 end;
    }

    /// @notice Reads everything before the body and checks every length. A frame of messages is version 1; a gap is version
    /// 2 with bit 1 of the flags set, no messages of no width, and the number of those that are lost (u32, 1 or more) in
    /// the place of the body.
    function header(bytes calldata frame) internal pure returns (Header memory h) {
        if (frame.length < HEADER_BYTES + 4 + SIGNATURE_BYTES) revert IMainContract.FrameMalformed(frame.length);
        uint256 version = uint8(frame[0]);
        if (version == 0 || version > 2) revert IMainContract.FrameMalformed(0);
        h.gap = version == 2;
        uint256 flags = uint8(frame[1]);
        // Bit 1 is set in a gap and in nothing else.
        if (flags >> 1 != version - 1) revert IMainContract.FrameMalformed(1);
        h.sensor = address(bytes20(frame[2:22]));
        h.epoch = uint32(bytes4(frame[22:26]));
        h.firstQ = uint64(bytes8(frame[26:34]));
        if (h.firstQ >= Bounds.Q_MAX) revert IMainContract.FrameMalformed(26);
        h.count = uint16(bytes2(frame[34:36]));
        if (h.gap ? h.count != 0 : h.count == 0 || h.count > Bounds.FRAME_MESSAGES_MAX) revert IMainContract.FrameMalformed(34);
        h.width = uint8(frame[36]);
        if (h.gap && h.width != 0) revert IMainContract.FrameMalformed(36);
        uint256 cursor = HEADER_BYTES + (flags & 1 == 1 ? OPENING_BYTES : 0);
        if (frame.length < cursor + 4 + SIGNATURE_BYTES) revert IMainContract.FrameMalformed(frame.length);
        uint256 length = uint32(bytes4(frame[cursor:cursor + 4]));
        h.body = cursor + 4;
        if (h.gap) {
            if (length == 0) revert IMainContract.FrameMalformed(cursor);
            (h.count, length) = (length, 0);
        }
        h.end = h.body + length;
        if (length > Bounds.FRAME_BODY_BYTES_MAX || h.end + SIGNATURE_BYTES != frame.length) {
            revert IMainContract.FrameMalformed(cursor);
        }
    }

    /// @notice Whether the sensor that the frame names has signed it.
    function isSigned(bytes calldata frame, Header memory h, bytes28 deployment, uint256 parity)
        internal
        view
        returns (bool)
    {
        bytes32 digest = sha256(abi.encodePacked(Digests.SENSOR_FRAME, deployment, frame[:h.end]));
        bytes32 r = bytes32(frame[h.end:h.end + 32]);
        bytes32 s = bytes32(frame[h.end + 32:h.end + 64]);
        // An s with the top bit set is no signature; without it, that bit is free for the parity (EIP-2098).
        if (uint256(s) >> 255 != 0) return false;
        address signer = Ecdsa.recover(digest, r, s | bytes32(parity << 255));
        return signer != address(0) && signer == h.sensor;
    }

    /// @notice The message at `q`: its time, and where its values are in the frame. The whole body is decoded strictly
    /// on the way, so that what no decoder takes for a frame is no evidence either. Of a gap: nothing, if it covers `q`.
    function message(bytes calldata frame, Header memory h, uint64 q)
        internal
        pure
        returns (uint256 time, bytes calldata values)
    {
        if (q < h.firstQ || q - h.firstQ >= h.count) revert IMainContract.MessageNotInFrame(q);
        values = frame[0:0];
        if (h.gap) return (0, values);
        uint256 wanted = q - h.firstQ;
        uint256 cursor = h.body;
        int256 clock;
        for (uint256 i; i < h.count; ++i) {
            uint256 start = cursor;
            uint256 zigzag;
            (zigzag, cursor) = _varint(frame, cursor, h.end);
            clock += zigzag & 1 == 0 ? int256(zigzag >> 1) : -int256(zigzag >> 1) - 1;
            if (clock < 0 || clock >= int256(Bounds.TIME_MAX) || cursor + h.width > h.end) {
                revert IMainContract.FrameMalformed(start);
            }
            if (i == wanted) {
                time = uint256(clock);
                values = frame[cursor:cursor + h.width];
            }
            cursor += h.width;
        }
        if (cursor != h.end) revert IMainContract.FrameMalformed(cursor);
    }

    /// Unsigned LEB128 of at most 64 bits in its shortest form.
    function _varint(bytes calldata frame, uint256 cursor, uint256 end) private pure returns (uint256 value, uint256 next) {
        next = cursor;
        for (uint256 shift; shift < 70; shift += 7) {
            if (next >= end) revert IMainContract.FrameMalformed(cursor);
            uint256 b = uint8(frame[next++]);
            value |= (b & 0x7f) << shift;
            if (b < 0x80) {
                if ((b == 0 && shift != 0) || value > type(uint64).max) revert IMainContract.FrameMalformed(cursor);
                return (value, next);
            }
        }
        revert IMainContract.FrameMalformed(cursor);
    }
}
