// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Agreements} from "./Agreements.sol";
import {Digests} from "./lib/Digests.sol";
import {Ecdsa} from "./lib/Ecdsa.sol";
import {Entries} from "./lib/Entries.sol";
import {Schnorr} from "./lib/Schnorr.sol";

/// @title Settlement of outcomes: by one aggregated signature, in batches, or by the reveals themselves
abstract contract Settlement is Agreements {
    uint256 internal constant KIND_NULL = 0;
    uint256 internal constant KIND_VALUE = 1;
    uint256 internal constant KIND_TRAP = 2;
    uint256 internal constant KIND_BATCH = 4;
    /// Where the kind is in the word of an outcome.
    uint256 internal constant KIND_BIT = 160;
    /// Set in the word that an attestation logs: bit 7 of the kind.
    uint256 private constant ATTESTED = 0x80 << KIND_BIT;
    /// Calldata before the tail of settle, attest and settleBatch.
    uint256 private constant TAIL = 196;

    bytes32 internal immutable _outcomePrefix;
    bytes32 private immutable _batchPrefix;

    constructor() {
        _outcomePrefix = Digests.prefix(Digests.OUTCOME_DOMAIN, deployment);
        _batchPrefix = Digests.prefix(Digests.BATCH_DOMAIN, deployment);
    }

    /// @inheritdoc IMainContract
    function settle(bytes32 rx, bytes32 ry, bytes32 s, bytes32 agreement, bytes32 word, bytes32) external {
        bytes32 digest = _verified(_outcomePrefix, rx, ry, s, agreement);
        _checkSingle(uint256(word), msg.data.length - TAIL);
        _advance(agreement, uint256(word), digest);
        _logOutcome(agreement, uint256(word), TAIL, msg.data.length - TAIL);
    }

    /// @inheritdoc IMainContract
    function attest(bytes32 rx, bytes32 ry, bytes32 s, bytes32 agreement, bytes32 word, bytes32) external {
        _verified(_outcomePrefix, rx, ry, s, agreement);
        _checkSingle(uint256(word), msg.data.length - TAIL);
        _logOutcome(agreement, uint256(word) | ATTESTED, TAIL, msg.data.length - TAIL);
    }

    /// @inheritdoc IMainContract
    function settleBatch(bytes32 rx, bytes32 ry, bytes32 s, bytes32 agreement, bytes32 word, bytes32) external {
        bytes32 digest = _verified(_batchPrefix, rx, ry, s, agreement);
        uint256 kind = uint256(word) >> KIND_BIT;
        if (kind != KIND_BATCH) revert KindNotSettled(kind);
        _advance(agreement, uint256(word), digest);
        uint256 range = uint256(uint64(uint256(word))) + 1 - uint64(uint256(word) >> 64);
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
        bytes32 word,
        bytes32 context,
        Opening calldata opening,
        uint64[] calldata holes,
        Signature[] calldata signatures,
        bytes calldata result
    ) external {
        _onHomeChain();
        _checkSingle(uint256(word), result.length);
        _checkHoles(uint64(uint256(word) >> 64), uint64(uint256(word)), holes);
        bytes32 digest = Digests.outcome(_outcomePrefix, agreement, word, context, result);
        bytes32 signed = Digests.reveal(digest, holes);
        if (_signersHash(signed, signatures) != opening.nodes) revert NodesDoNotOpen();
        _open(agreement, opening);
        _advance(agreement, uint256(word), holes.length == 0 ? digest : signed);
        if (holes.length != 0) emit HolesAgreed(agreement, holes);
        uint256 tail;
        assembly {
            tail := result.offset
        }
        _logOutcome(agreement, uint256(word), tail, result.length);
    }

    /// Reverts unless the tail of the call (from the agreement on) is signed by all nodes of the agreement in one
    /// aggregated signature; returns the digest that was signed.
    function _verified(bytes32 prefix, bytes32 rx, bytes32 ry, bytes32 s, bytes32 agreement)
        private
        view
        returns (bytes32 digest)
    {
        _onHomeChain();
        assembly ("memory-safe") {
            // prefix | agreement | word | context | result: all but the prefix stand like this in calldata
            let p := mload(0x40)
            mstore(p, prefix)
            let size := sub(calldatasize(), 100)
            calldatacopy(add(p, 0x20), 100, size)
            digest := keccak256(p, add(size, 0x20))
        }
        if (!Schnorr.verify(uint256(agreement), uint256(rx), uint256(ry), uint256(s), digest)) revert NotUnanimous();
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
        uint256 slot = _agreements[agreement];
        uint256 t = uint64(word);
        uint256 open = uint256(Status.Open) << STATUS_BIT;
        if ((slot & STATE) ^ (word >> 64 & POSITION) != open || t < uint64(slot) || t == type(uint64).max) {
            _checkPosition(agreement, slot, uint32(word >> 128), word);
        }
        _agreements[agreement] = _after(slot, digest, slot >> 64 << 64 | t + 1);
    }

    /// The next slot: a new head over `digest`, and the given state.
    function _after(uint256 slot, bytes32 digest, uint256 state) internal pure returns (uint256 next) {
        assembly ("memory-safe") {
            mstore(0, shl(104, shr(104, slot)))
            mstore(0x20, digest)
            next := or(shl(104, shr(104, keccak256(0, 0x40))), and(state, 0xffffffffffffffffffffffffff))
        }
    }

    /// The same checks one by one, each with its error; returns only if the agreement is closing and t before its end.
    function _checkPosition(bytes32 agreement, uint256 slot, uint32 epoch, uint256 word) internal view {
        if (slot == 0) revert NotAnAgreement(agreement);
        (uint64 from, uint64 t) = (uint64(word >> 64), uint64(word));
        if (epoch != uint32(slot >> 64)) revert EpochNotInForce(epoch, uint32(slot >> 64));
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

    /// EIP-712 hash of the list of addresses that signed: compared with the nodes of the terms, it says that exactly
    /// they did, each in its place.
    function _signersHash(bytes32 digest, Signature[] calldata signatures) private view returns (bytes32) {
        address[] memory signers = new address[](signatures.length);
        for (uint256 i; i < signatures.length; ++i) {
            signers[i] = Ecdsa.recover(digest, signatures[i].r, signatures[i].vs);
        }
        return keccak256(abi.encodePacked(signers));
    }

    /// Anonymous event of an outcome: `kind | epoch | from | t` in 21 bytes, then `size` bytes of calldata from `tail`.
    function _logOutcome(bytes32 agreement, uint256 word, uint256 tail, uint256 size) private {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, shl(88, word))
            calldatacopy(add(p, 21), tail, size)
            log1(p, add(size, 21), agreement)
        }
    }
}
