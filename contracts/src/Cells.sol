// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICells} from "./ICells.sol";
import {IMainContract} from "./IMainContract.sol";
import {Linked} from "./Linked.sol";
import {Digests} from "./lib/Digests.sol";
import {Schnorr} from "./lib/Schnorr.sol";
import {Signed} from "./lib/Signed.sol";
import {Resolutions} from "./linked/Resolutions.sol";

/// @title What counts at an execution whose first reading ended as a hole. See `ICells`.
/// @notice No owner, no upgrade, no money. It believes MainContract and signatures, and MainContract does not know it.
contract Cells is ICells, Linked {
    struct Cell {
        /// `writer u8 | word 21 bytes`
        uint256 meta;
        bytes32 digest;
    }

    uint256 private constant WRITER_BIT = 168;
    uint256 private constant KIND_BIT = 160;

    /// @inheritdoc ICells
    IMainContract public immutable main;
    /// MainContract's, not this contract's: all that is signed is signed in its domain.
    bytes28 public immutable deployment;
    bytes32 public immutable domainSeparator;
    bytes32 private immutable _outcomePrefix;

    mapping(bytes32 => mapping(uint64 => Cell)) private _cells;

    constructor(IMainContract main_) {
        main = main_;
        bytes28 d = main_.deployment();
        deployment = d;
        domainSeparator = main_.domainSeparator();
        _outcomePrefix = Digests.prefix(Digests.OUTCOME_DOMAIN, d);
    }

    /// @inheritdoc ICells
    function resolve(
        IMainContract.Resolution calldata resolution,
        bytes calldata carry,
        uint64[] calldata qNext,
        bytes32,
        IMainContract.Opening calldata,
        address[] calldata,
        IMainContract.Signature[] calldata
    ) external {
        (bytes32 agreement, uint64 t) = (resolution.agreement, resolution.t);
        _checkEmpty(agreement, t);
        bytes32 structHash = abi.decode(_ask(address(Resolutions), Resolutions.check.selector), (bytes32));
        uint256 word = Digests.word(resolution.kind, 0, t, t);
        _write(agreement, t, Writer.Users, word, Digests.resolved(deployment, agreement, word, structHash));
        emit CellWritten(
            agreement, t, uint8(Writer.Users), word, 0, resolution.state, resolution.result, carry, qNext
        );
    }

    /// @inheritdoc ICells
    function settleReading(
        IMainContract.Certificate calldata certificate,
        uint256 word,
        bytes32 context,
        bytes calldata result
    ) external {
        (bytes32 agreement, uint64 t) = (certificate.agreement, uint64(word));
        _checkEmpty(agreement, t);
        Signed.checkKind(word >> KIND_BIT, result.length);
        if (uint64(word >> 64) != t) revert FromIsNotT(uint64(word >> 64), t);
        uint32 epoch = uint32(word >> 128);
        if (epoch <= type(uint16).max) revert EpochNotMarked(epoch);
        bytes32 digest = Digests.outcome(_outcomePrefix, agreement, word, context, result);
        if (
            !Schnorr.verify(
                uint256(agreement), uint256(certificate.rx), uint256(certificate.ry), uint256(certificate.s), digest
            )
        ) {
            revert IMainContract.NotUnanimous();
        }
        _write(agreement, t, Writer.SecondReading, word, digest);
        emit CellWritten(
            agreement, t, uint8(Writer.SecondReading), word, context, 0, result, "", new uint64[](0)
        );
    }

    /// @inheritdoc ICells
    function cell(bytes32 agreement, uint64 t) external view returns (Writer writer, uint256 word, bytes32 digest) {
        Cell storage c = _cells[agreement][t];
        uint256 meta = c.meta;
        return (Writer(meta >> WRITER_BIT), meta & ((1 << WRITER_BIT) - 1), c.digest);
    }

    /// Behind the door, and not written yet.
    function _checkEmpty(bytes32 agreement, uint64 t) private view {
        (IMainContract.Status status, uint64 nextT,,,) = main.agreements(agreement);
        if (status == IMainContract.Status.None) revert IMainContract.NotAnAgreement(agreement);
        if (t >= nextT) revert NotBehindTheDoor(t, nextT);
        uint256 meta = _cells[agreement][t].meta;
        if (meta != 0) revert CellTaken(agreement, t, Writer(meta >> WRITER_BIT));
    }

    function _write(bytes32 agreement, uint64 t, Writer writer, uint256 word, bytes32 digest) private {
        _cells[agreement][t] = Cell(uint256(writer) << WRITER_BIT | word, digest);
    }
}
