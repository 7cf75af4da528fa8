// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Agreements} from "./Agreements.sol";
import {Digests} from "./lib/Digests.sol";
import {Ecdsa} from "./lib/Ecdsa.sol";
import {Hash} from "./lib/Hash.sol";
import {Entries} from "./lib/Entries.sol";
import {Unanimous} from "./Unanimous.sol";

/// @title Settlement of outcomes: by one aggregated signature, in batches, or by the reveals themselves
abstract contract Settlement is Agreements, Unanimous {
    uint256 internal constant KIND_NULL = 0;
    uint256 internal constant KIND_VALUE = 1;
    uint256 internal constant KIND_TRAP = 2;
    uint256 internal constant KIND_ABSTAIN = 3;
    uint256 internal constant KIND_BATCH = 4;
    /// Where the kind is in the word of an outcome.
    uint256 internal constant KIND_BIT = 160;
    /// Set in the word that an attestation logs: bit 7 of the kind.
    uint256 private constant ATTESTED = 0x800000000000000000000000000000000000000000;
    /// `kind u8 | epoch u32 | from u64 | t u64`
    uint256 private constant WORD = (1 << 168) - 1;
    /// Where the result, or the entries, start in the calldata of the signed forms.
    uint256 private constant TAIL = 185;

    bytes32 internal immutable _outcomePrefix;
    bytes32 private immutable _batchPrefix;

    constructor() {
        _outcomePrefix = Digests.prefix(Digests.OUTCOME_DOMAIN, deployment);
        _batchPrefix = Digests.prefix(Digests.BATCH_DOMAIN, deployment);
    }

    /// @inheritdoc IMainContract
    function settle(Certificate calldata certificate) external unanimous(_outcomePrefix) {
        bytes32 agreement = certificate.agreement;
        uint256 raw = _rawWord();
        uint256 slot = _slot(agreement);
        uint256 next;
        bool unusual;
        assembly ("memory-safe") {
            // t + 1 in the highest bytes, where it wraps to 0
            next := add(shl(192, raw), 0x1000000000000000000000000000000000000000000000000)
            // Kind value = 1 = status open, epoch in force, from = nextT; and from <= t < 2^64 - 1. The kind is looked at
            // by itself too: null is 0 as is the status of no agreement, and a trap 2 as is a closing one.
            unusual := or(
                or(shl(152, xor(slot, shr(64, raw))), xor(byte(11, raw), KIND_VALUE)),
                iszero(gt(next, shl(192, slot)))
            )
        }
        if (unusual) _checkUnusual(agreement, slot, raw & WORD);
        assembly ("memory-safe") {
            // As `_after`; the digest is in its place already.
            mstore(0, slot)
            sstore(
                agreement,
                or(
                    and(keccak256(0, 0x40), 0xffffffffffffffffffffffffffffffffffffff00000000000000000000000000),
                    or(and(slot, 0xffffffffff0000000000000000), shr(192, next))
                )
            )
            mstore(0xa0, raw)
            mstore(0x8b, agreement)
            log0(0x97, sub(calldatasize(), 144))
            stop()
        }
    }

    /// @inheritdoc IMainContract
    function attestCertificate(CertificateNumbers calldata) external unanimous(_outcomePrefix) {
        assembly ("memory-safe") {
            mstore(0xa0, or(calldataload(121), ATTESTED))
            mstore(0x8b, calldataload(100))
            log0(0x97, sub(calldatasize(), 144))
            stop()
        }
    }

    /// @inheritdoc IMainContract
    function settleBatch(Certificate calldata certificate) external unanimous(_batchPrefix) {
        bytes32 digest = _signed();
        _restoreMemory();
        bytes32 agreement = certificate.agreement;
        uint256 word = _rawWord() & WORD;
        uint256 kind = word >> KIND_BIT;
        if (kind != KIND_BATCH) revert KindNotSettled(kind);
        _advance(agreement, word, digest);
        uint256 range = uint256(uint64(word)) + 1 - uint64(word >> 64);
        uint256 entries = Entries.count(msg.data[TAIL:]);
        if (entries != range) revert EntriesDoNotCover(entries, range);
        bytes32 topic = BatchSettled.selector;
        assembly ("memory-safe") {
            // word, root of the contexts, entries: as they are in calldata
            let p := mload(0x40)
            let size := sub(calldatasize(), 132)
            calldatacopy(p, 132, size)
            log2(p, size, topic, agreement)
        }
    }

    /// @inheritdoc IMainContract
    function settleByReveals(
        bytes32 agreement,
        uint256 word,
        bytes32 context,
        Opening calldata opening,
        uint64[] calldata holes,
        Signature[] calldata signatures,
        bytes calldata result
    ) external {
        _checkSingle(word, result.length);
        _checkHoles(uint64(word >> 64), uint64(word), holes);
        bytes32 digest = Digests.outcome(_outcomePrefix, agreement, word, context, result);
        bytes32 signed = Digests.reveal(digest, holes);
        // Exactly the nodes of the terms have signed, each in its place.
        if (Ecdsa.signersHash(signed, signatures) != opening.nodes) revert NodesDoNotOpen();
        _open(agreement, opening);
        _advance(agreement, word, holes.length == 0 ? digest : signed);
        if (holes.length != 0) emit HolesAgreed(agreement, holes);
        _logOutcome(agreement, word, result);
    }

    /// What `settle` does not see at one glance: a trap, an agreement that is closing, or what is wrong.
    function _checkUnusual(bytes32 agreement, uint256 slot, uint256 word) private view {
        bytes32 digest = _signed();
        _restoreMemory();
        _checkSingle(word, msg.data.length - TAIL);
        _checkPosition(agreement, slot, uint32(slot >> 64), word);
        assembly ("memory-safe") {
            mstore(0x20, digest)
        }
    }

    /// A single outcome that may settle is a value, or a trap without result; the first 11 bytes of the word are zero.
    function _checkSingle(uint256 word, uint256 resultBytes) private pure {
        uint256 kind = word >> KIND_BIT;
        if (kind == KIND_VALUE) return;
        if (kind != KIND_TRAP) revert KindNotSettled(kind);
        if (resultBytes != 0) revert TrapWithResult();
    }

    /// Moves the history of an agreement on: the word's epoch is in force, its `from` is the next t, `from <= t`.
    function _advance(bytes32 agreement, uint256 word, bytes32 digest) internal {
        uint256 slot = _slot(agreement);
        _checkPosition(agreement, slot, uint32(slot >> 64), word);
        _store(agreement, _after(slot, digest, slot & (STATE ^ type(uint64).max) | uint64(word) + 1));
    }

    /// The next slot: a new head, over the slot before and `digest`, and the given state.
    function _after(uint256 slot, bytes32 digest, uint256 state) internal pure returns (uint256) {
        return uint256(Hash.pair(bytes32(slot), digest)) & ~STATE | state;
    }

    /// The word is of this epoch, its `from` is the next t, `from <= t`, and t lies before the end of the agreement.
    function _checkPosition(bytes32 agreement, uint256 slot, uint32 epoch, uint256 word) internal view {
        if (slot == 0) revert NotAnAgreement(agreement);
        (uint32 given, uint64 from, uint64 t) = (uint32(word >> 128), uint64(word >> 64), uint64(word));
        if (given != epoch) revert EpochNotInForce(given, epoch);
        if (from != uint64(slot)) revert FromIsNotNext(from, uint64(slot));
        if (from > t) revert RangeBackwards(from, t);
        uint64 end = _status(slot) == Status.Closing ? uint64(_ends[agreement]) : type(uint64).max;
        if (t >= end) revert BeyondEnd(t, end);
    }

    /// Holes are strictly ascending and in `from..t`.
    function _checkHoles(uint256 from, uint256 t, uint64[] calldata holes) private pure {
        uint256 least = from;
        for (uint256 i; i < holes.length; ++i) {
            if (holes[i] < least || holes[i] >= t) revert HolesNotAscendingInRange(i);
            least = uint256(holes[i]) + 1;
        }
    }

    /// The event of `settle` for an outcome whose result is elsewhere in calldata.
    function _logOutcome(bytes32 agreement, uint256 word, bytes calldata result) private {
        bytes memory data = abi.encodePacked(bytes20(uint160(uint256(agreement))), uint168(word), result);
        assembly ("memory-safe") {
            log0(add(data, 0x20), mload(data))
        }
    }
}
