// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Agreements} from "./Agreements.sol";
import {Linked} from "./Linked.sol";
import {Unanimous} from "./Unanimous.sol";
import {Bounds} from "./lib/Bounds.sol";
import {Digests} from "./lib/Digests.sol";
import {Ecdsa} from "./lib/Ecdsa.sol";
import {Entries} from "./lib/Entries.sol";
import {Hash} from "./lib/Hash.sol";
import {Signed} from "./lib/Signed.sol";
import {Resolutions} from "./linked/Resolutions.sol";

/// @title Settlement: by one aggregated signature, in batches, by the reveals themselves, or by the users
/// @dev All of them go through one switch (`_switch`), and `settle` through the same in assembly.
abstract contract Settlement is Agreements, Unanimous, Linked {
    /// Where the kind is in the word of an outcome.
    uint256 internal constant KIND_BIT = 160;
    /// Set in the word that an attestation logs: bit 7 of the kind.
    uint256 private constant ATTESTED = 0x800000000000000000000000000000000000000000;
    /// `kind u8 | epoch u32 | from u64 | t u64`
    uint256 private constant WORD = (1 << 168) - 1;
    /// Where the result, or the entries, start in the calldata of the signed forms.
    uint256 private constant TAIL = 185;
    /// Calldata of the longest result in the signed forms: TAIL and Bounds.RESULT_BYTES_MAX.
    uint256 private constant SIZE_MAX = 4_281;

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
        bool unusual;
        assembly ("memory-safe") {
            // Usual: kind value, status open, the epoch in force (an epoch of more than 16 bits is equal to none),
            // from = nextT <= t < 2^40 - 1; a result that readers take.
            let t := and(raw, 0xffffffffffffffff)
            let next := and(slot, 0xffffffffff)
            unusual := or(
                or(
                    xor(
                        and(shr(64, raw), 0xffffffffffffffffffffffffff),
                        or(or(shl(64, and(shr(40, slot), 0xffff)), next), 0x1000000000000000000000000)
                    ),
                    xor(byte(24, slot), 1)
                ),
                or(or(lt(t, next), gt(t, 0xfffffffffe)), gt(calldatasize(), SIZE_MAX))
            )
        }
        if (unusual) _checkUnusual(agreement, slot, raw & WORD);
        bytes32 topic = Settled.selector;
        assembly ("memory-safe") {
            // As `_fold` and `_switch`; the digest is in its place already.
            mstore(0, and(slot, 0xffffffffffffffffffffffffffffffffffffffffffffffff0000000000000000))
            sstore(
                agreement,
                or(
                    and(keccak256(0, 0x40), 0xffffffffffffffffffffffffffffffffffffffffffffffff0000000000000000),
                    or(
                        and(slot, 0xff00000000000000),
                        or(and(shr(88, raw), 0xffff0000000000), add(and(raw, 0xffffffffff), 1))
                    )
                )
            )
            // The context is where it was hashed from; the result moves up, so that its offset and length find room.
            let size := sub(calldatasize(), 185)
            mstore(0x80, and(raw, 0xffffffffffffffffffffffffffffffffffffffffff))
            mstore(0xc0, 0x60)
            mstore(0xe0, size)
            calldatacopy(0x100, 185, size)
            mstore(add(0x100, size), 0)
            log3(0x80, and(add(size, 0x9f), not(0x1f)), topic, agreement, and(raw, 0xffffffffffffffff))
            stop()
        }
    }

    /// @inheritdoc IMainContract
    function attestCertificate(CertificateNumbers calldata) external unanimous(_outcomePrefix) {
        if (msg.data.length > SIZE_MAX) {
            _restoreMemory();
            revert ResultTooLong(msg.data.length - TAIL);
        }
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
        if (kind != Signed.KIND_BATCH) revert KindNotSettled(kind);
        _advance(agreement, word, digest);
        uint256 range = uint256(uint64(word)) + 1 - uint64(word >> 64);
        if (range > Bounds.BATCH_RANGE_MAX) revert RangeTooLong(range);
        uint256 entries = Entries.count(msg.data[TAIL:]);
        if (entries != range) revert EntriesDoNotCover(entries, range);
        bytes32 topic = BatchSettled.selector;
        assembly ("memory-safe") {
            // word | root of the contexts | offset and length of the entries | entries
            let p := mload(0x40)
            let size := sub(calldatasize(), 185)
            mstore(p, word)
            mstore(add(p, 0x20), calldataload(153))
            mstore(add(p, 0x40), 0x60)
            mstore(add(p, 0x60), size)
            calldatacopy(add(p, 0x80), 185, size)
            mstore(add(add(p, 0x80), size), 0)
            log3(p, and(add(size, 0x9f), not(0x1f)), topic, agreement, and(word, 0xffffffffffffffff))
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
        Signed.checkHoles(uint64(word >> 64), uint64(word), holes);
        bytes32 digest = Digests.outcome(_outcomePrefix, agreement, word, context, result);
        bytes32 signed = Digests.reveal(digest, holes);
        // Exactly the nodes of the terms have signed, each in its place.
        if (Ecdsa.signersHash(signed, signatures) != opening.nodes) revert NodesDoNotOpen();
        Signed.open(deployment, agreement, opening);
        // Without holes the head is the one that the aggregated form would have made.
        _advance(agreement, word, holes.length == 0 ? digest : signed);
        if (holes.length != 0) emit HolesAgreed(agreement, uint64(word), holes);
        emit Settled(agreement, uint64(word), word, context, result);
    }

    /// @inheritdoc IMainContract
    function resolve(
        Resolution calldata resolution,
        bytes calldata carry,
        uint64[] calldata qNext,
        bytes32,
        Opening calldata,
        address[] calldata,
        Signature[] calldata
    ) external {
        (bytes32 agreement, uint64 t) = (resolution.agreement, resolution.t);
        uint256 slot = _known(agreement);
        if (t != uint40(slot)) revert NotTheNext(t, uint40(slot));
        _checkEnd(agreement, slot, t);
        uint256 epoch = uint256(_epoch(slot)) + 2;
        if (epoch > type(uint16).max) revert EpochsSpent(_epoch(slot));
        bytes32 structHash = abi.decode(_ask(address(Resolutions), Resolutions.check.selector), (bytes32));
        uint256 word = Digests.word(resolution.kind, uint32(epoch), t, t);
        bytes32 digest = Digests.resolved(deployment, agreement, word, structHash);
        _store(agreement, _fold(slot, digest) | _state(slot, word));
        emit Resolved(agreement, t, word, resolution.state, resolution.result, carry, qNext);
    }

    /// What `settle` does not see at one glance: a trap, the next epoch, a position that is ahead of `from`, an agreement
    /// that is closing, or what is wrong.
    function _checkUnusual(bytes32 agreement, uint256 slot, uint256 word) private view {
        bytes32 digest = _signed();
        // Nothing is allocated on the way to the event, which stands in memory already; what reverts may.
        _restoreMemory();
        _checkSingle(word, msg.data.length - TAIL);
        _switch(agreement, slot, word);
        assembly ("memory-safe") {
            mstore(0x20, digest)
        }
    }

    /// A single outcome that may settle is a value, or a trap without result; the first 11 bytes of the word are zero.
    function _checkSingle(uint256 word, uint256 resultBytes) private pure {
        uint256 kind = word >> KIND_BIT;
        if (resultBytes > Bounds.RESULT_BYTES_MAX) revert ResultTooLong(resultBytes);
        if (kind == Signed.KIND_VALUE) return;
        if (kind != Signed.KIND_TRAP) revert KindNotSettled(kind);
        if (resultBytes != 0) revert TrapWithResult();
    }

    /// Moves the history of an agreement on.
    function _advance(bytes32 agreement, uint256 word, bytes32 digest) internal {
        uint256 slot = _slot(agreement);
        uint256 state = _switch(agreement, slot, word);
        _store(agreement, _fold(slot, digest) | state);
    }

    /// The next head, in its place: over the head before and what was signed.
    function _fold(uint256 slot, bytes32 digest) internal pure returns (uint256) {
        return uint256(Hash.pair(bytes32(slot & ~STATE), digest)) & ~STATE;
    }

    /// The one switch: `from <= nextT <= t`, t before the end, and the epoch in force or the next one. Returns the next
    /// state, in which that epoch is in force. So it never matters which of the forms that overlap comes first.
    function _switch(bytes32 agreement, uint256 slot, uint256 word) internal view returns (uint256) {
        if (slot == 0) revert NotAnAgreement(agreement);
        (uint32 epoch, uint64 from, uint64 t) = (uint32(word >> 128), uint64(word >> 64), uint64(word));
        uint64 nextT = uint40(slot);
        if (t < nextT) revert AlreadySettled(t, nextT);
        if (from > nextT) revert FromBeyondNext(from, nextT);
        uint256 inForce = _epoch(slot);
        // A marked epoch is above 16 bits, and settles nothing here.
        if ((epoch != inForce && epoch != inForce + 1) || epoch > type(uint16).max) {
            revert EpochNotInForce(epoch, uint32(inForce));
        }
        _checkEnd(agreement, slot, t);
        return _state(slot, word);
    }

    function _checkEnd(bytes32 agreement, uint256 slot, uint64 t) private view {
        uint64 end = _status(slot) == Status.Closing ? uint64(_ends[agreement]) : uint64(Bounds.T_MAX);
        if (t >= end) revert BeyondEnd(t, end);
    }

    /// Status as it is, the epoch of the word, and its t + 1. Both fit (`_switch`).
    function _state(uint256 slot, uint256 word) private pure returns (uint256) {
        return slot & uint256(type(uint8).max) << STATUS_BIT | uint256(uint16(word >> 128)) << EPOCH_BIT
            | uint256(uint64(word)) + 1;
    }
}
