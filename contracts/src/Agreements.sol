// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Registry} from "./Registry.sol";
import {Bounds} from "./lib/Bounds.sol";
import {Digests} from "./lib/Digests.sol";
import {Hash} from "./lib/Hash.sol";
import {PackedTerms} from "./lib/PackedTerms.sol";
import {Signed} from "./lib/Signed.sol";

/// @title Creation and end of agreements, and the one slot that each has
abstract contract Agreements is Registry {
    using PackedTerms for PackedTerms.Layout;

    /// A slot is `head 24 bytes | status u8 | epoch u16 | nextT u40`. Only the head is folded, so to close an agreement
    /// changes nothing for those who fold its history themselves.
    uint256 internal constant EPOCH_BIT = 40;
    uint256 internal constant STATUS_BIT = 56;
    uint256 internal constant HEAD_BIT = 64;
    /// All but the head.
    uint256 internal constant STATE = (1 << HEAD_BIT) - 1;

    /// Where the terms start in the calldata of createAgreement.
    uint256 private constant TERMS = 100;

    /// Read only once an agreement is closing.
    mapping(bytes32 => uint256) internal _ends;

    /// @inheritdoc IMainContract
    function createAgreement(bytes32 agreement, bytes32[2] calldata key) external {
        if (_slot(agreement) != 0) revert AlreadyCreated(agreement);
        PackedTerms.Layout l = PackedTerms.locate(TERMS);
        if (l.end() > msg.data.length) revert TermsCut(l.end(), msg.data.length);
        if (msg.data.length > l.end() + Bounds.TERMS_BYTES_MAX) revert TermsTooLong(msg.data.length - l.end());
        bytes32 digest = _readTerms(l);
        Signed.open(deployment, agreement, key[0], key[1], digest);
        _checkCreators(agreement, digest, l);
        _checkAcceptances(agreement, digest, l);
        _store(agreement, uint256(digest) >> HEAD_BIT << HEAD_BIT | uint256(Status.Open) << STATUS_BIT);
        bytes32 topic = AgreementCreated.selector;
        (uint256 signatures, uint256 end) = (l.signatures(), l.end());
        assembly ("memory-safe") {
            // terms and extra, without the signatures between them
            let p := mload(0x40)
            let size := sub(signatures, TERMS)
            let extra := sub(calldatasize(), end)
            calldatacopy(p, TERMS, size)
            calldatacopy(add(p, size), end, extra)
            log2(p, add(size, extra), topic, agreement)
        }
    }

    /// @inheritdoc IMainContract
    function closeAgreement(
        bytes32 agreement,
        uint64 end,
        Opening calldata opening,
        address[] calldata users,
        Signature[] calldata userSignatures
    ) external {
        uint256 slot = _known(agreement);
        if (_status(slot) != Status.Open) revert AlreadyClosed(agreement);
        if (end < uint40(slot)) revert EndBeforeSettled(end, uint40(slot));
        if (end > Bounds.T_MAX) revert TOutOfRange(end);
        Signed.openUsers(deployment, agreement, opening, users);
        bytes32 digest = Hash.triple(Digests.CLOSE_TYPE, agreement, bytes32(uint256(end)));
        Signed.byUsers(Digests.typed(domainSeparator, digest), users, userSignatures);
        _store(agreement, slot ^ (uint256(Status.Open) ^ uint256(Status.Closing)) << STATUS_BIT);
        _ends[agreement] = end;
        emit AgreementClosed(agreement, end);
    }

    /// @inheritdoc IMainContract
    function agreements(bytes32 agreement)
        external
        view
        returns (Status status, uint64 nextT, uint32 epoch, bytes24 head, uint64 end)
    {
        uint256 slot = _slot(agreement);
        status = _status(slot);
        end = status == Status.Closing ? uint64(_ends[agreement]) : type(uint64).max;
        return (status, uint40(slot), _epoch(slot), bytes24(bytes32(slot)), end);
    }

    /// The slot lies in storage at the agreement id itself. An id is the x coordinate of a point that its creator had to
    /// open to a hash, and to settle takes the secret of that point, so nobody chooses an id that is the place of
    /// something else: those are all hashes too (of mappings).
    function _slot(bytes32 agreement) internal view returns (uint256 slot) {
        assembly ("memory-safe") {
            slot := sload(agreement)
        }
    }

    function _store(bytes32 agreement, uint256 slot) internal {
        assembly ("memory-safe") {
            sstore(agreement, slot)
        }
    }

    function _status(uint256 slot) internal pure returns (Status) {
        return Status(uint8(slot >> STATUS_BIT));
    }

    function _epoch(uint256 slot) internal pure returns (uint16) {
        return uint16(slot >> EPOCH_BIT);
    }

    /// The slot of an agreement, which must exist.
    function _known(bytes32 agreement) internal view returns (uint256 slot) {
        slot = _slot(agreement);
        if (slot == 0) revert NotAnAgreement(agreement);
    }

    /// Digest of the terms, whose parties it checks: users and nodes strictly ascending, users registered, every node
    /// named by one of them.
    function _readTerms(PackedTerms.Layout l) private view returns (bytes32) {
        uint256 n = l.userCount();
        if (n < 2) revert TooFewUsers();
        if (n > Bounds.USERS_MAX) revert TooManyUsers(n);
        if (l.nodeCount() > Bounds.NODES_MAX) revert TooManyNodes(l.nodeCount());
        _checkCreatorsKnown(l.users(), n);
        (bool wrong, bytes32 nodes, bytes32 trust) = PackedTerms.readNodes(l.nodes(), l.nodeCount(), n);
        if (wrong) _refuseNodes(l);
        return Digests.terms(PackedTerms.hashUsers(l.users(), n), nodes, trust, l.roots());
    }

    function _checkCreatorsKnown(uint256 offset, uint256 n) private view {
        unchecked {
            address previous;
            for (uint256 i; i < n; ++i) {
                address user = PackedTerms.account(offset);
                if (user <= previous) revert UsersNotAscending(i);
                _registered(user);
                previous = user;
                offset += PackedTerms.USER_BYTES;
            }
        }
    }

    /// Says which node is wrong, and how.
    function _refuseNodes(PackedTerms.Layout l) private pure {
        uint256 offset = l.nodes();
        address previous;
        for (uint256 j; j < l.nodeCount(); ++j) {
            address node = PackedTerms.account(offset);
            if (node <= previous) revert NodesNotAscending(j);
            if (PackedTerms.u8(offset + 20) >= l.userCount()) revert TrustOutOfRange(j);
            previous = node;
            offset += PackedTerms.NODE_BYTES;
        }
    }

    /// Every user has signed the agreement.
    function _checkCreators(bytes32 agreement, bytes32 terms, PackedTerms.Layout l) private view {
        unchecked {
            bytes32 digest = Digests.typed(domainSeparator, Hash.triple(Digests.AGREEMENT_TYPE, agreement, terms));
            (uint256 user, uint256 signature, uint256 end) = (l.users(), l.signatures(), l.acceptances());
            while (signature < end) {
                Signed.by(
                    PackedTerms.account(user), digest, PackedTerms.word(signature), PackedTerms.word(signature + 32)
                );
                user += PackedTerms.USER_BYTES;
                signature += PackedTerms.SIGNATURE_BYTES;
            }
        }
    }

    /// For each user there is an acceptance by a node that it trusts: which has checked the aggregate key, the terms and
    /// that it can run the module.
    function _checkAcceptances(bytes32 agreement, bytes32 terms, PackedTerms.Layout l) private view {
        unchecked {
            (uint256 nodes, uint256 m, uint256 offset, uint256 n) =
                (l.nodes(), l.nodeCount(), l.acceptances(), l.userCount());
            for (uint256 i; i < n; ++i) {
                uint256 index = PackedTerms.u8(offset);
                if (index >= m) revert AcceptanceIndexOutOfRange(i);
                uint256 place = nodes + PackedTerms.NODE_BYTES * index;
                if (PackedTerms.u8(place + 20) != i) revert AcceptanceOfUserMissing(i);
                address node = PackedTerms.account(place);
                Signed.by(
                    node,
                    Digests.acceptance(deployment, agreement, terms, node),
                    PackedTerms.word(offset + 1),
                    PackedTerms.word(offset + 33)
                );
                offset += PackedTerms.ACCEPTANCE_BYTES;
            }
        }
    }
}
