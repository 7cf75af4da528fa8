// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Registry} from "./Registry.sol";
import {Digests} from "./lib/Digests.sol";
import {Hash} from "./lib/Hash.sol";
import {PackedTerms} from "./lib/PackedTerms.sol";
import {Schnorr} from "./lib/Schnorr.sol";

/// @title Creation and end of agreements, and the one slot that each has
abstract contract Agreements is Registry {
    using PackedTerms for PackedTerms.Layout;

    /// A slot is `head 19 bytes | status u8 | epoch u32 | nextT u64`. The word of an outcome is `kind u8 | epoch u32 |
    /// from u64 | t u64`, and `Status.Open` is 1 as is the kind of a value: one comparison checks four things.
    uint256 internal constant STATUS_BIT = 96;
    uint256 internal constant HEAD_BIT = 104;
    /// Epoch and nextT.
    uint256 internal constant POSITION = (1 << STATUS_BIT) - 1;
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
        bytes32 digest = _readTerms(l);
        _checkOpening(agreement, key[0], key[1], digest);
        _checkCreators(agreement, digest, l);
        _checkAcceptances(agreement, digest, l);
        _store(agreement, uint256(digest) & ~STATE | uint256(Status.Open) << STATUS_BIT);
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
        if (end < uint64(slot)) revert EndBeforeSettled(end, uint64(slot));
        _openUsers(agreement, opening, users);
        _checkUsers(Hash.triple(Digests.CLOSE_TYPE, agreement, bytes32(uint256(end))), users, userSignatures);
        _store(agreement, slot ^ (uint256(Status.Open) ^ uint256(Status.Closing)) << STATUS_BIT);
        _ends[agreement] = end;
        emit AgreementClosed(agreement, end);
    }

    /// @inheritdoc IMainContract
    function agreements(bytes32 agreement)
        external
        view
        returns (Status status, uint64 nextT, uint32 epoch, bytes32 head, uint64 end)
    {
        uint256 slot = _slot(agreement);
        status = _status(slot);
        end = status == Status.Closing ? uint64(_ends[agreement]) : type(uint64).max;
        return (status, uint64(slot), uint32(slot >> 64), bytes32(slot >> HEAD_BIT << HEAD_BIT), end);
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

    /// The slot of an agreement, which must exist.
    function _known(bytes32 agreement) internal view returns (uint256 slot) {
        slot = _slot(agreement);
        if (slot == 0) revert NotAnAgreement(agreement);
    }

    /// Reverts unless the agreement id commits to the terms of this opening.
    function _open(bytes32 agreement, Opening calldata o) internal view {
        _checkOpening(agreement, o.aggregate, o.y, Digests.terms(o));
    }

    /// Reverts unless the agreement id commits to terms with this digest.
    function _checkOpening(bytes32 agreement, bytes32 aggregate, bytes32 y, bytes32 digest) private view {
        uint256 tweak = uint256(Digests.tweak(deployment, aggregate, digest));
        if (!Schnorr.isTweaked(uint256(aggregate), tweak, uint256(agreement), uint256(y))) {
            revert TermsDoNotOpen(agreement);
        }
    }

    /// Reverts unless these are the users of the agreement.
    function _openUsers(bytes32 agreement, Opening calldata o, address[] calldata users) internal view {
        if (Digests.words(users) != o.users) revert UsersDoNotOpen();
        _open(agreement, o);
    }

    /// Reverts unless these are the nodes of an agreement that exists.
    function _openNodes(bytes32 agreement, Opening calldata o, address[] calldata nodes) internal view {
        _known(agreement);
        if (Digests.words(nodes) != o.nodes) revert NodesDoNotOpen();
        _open(agreement, o);
    }

    /// Reverts unless every user, in order, has signed the EIP-712 struct.
    function _checkUsers(bytes32 structHash, address[] calldata users, Signature[] calldata signatures) internal view {
        uint256 n = users.length;
        if (signatures.length != n) revert UserSignaturesDiffer(signatures.length, n);
        bytes32 digest = Digests.typed(domainSeparator, structHash);
        for (uint256 i; i < n; ++i) {
            _checkSigner(users[i], digest, signatures[i].r, signatures[i].vs);
        }
    }

    /// Digest of the terms, whose parties it checks: users and nodes strictly ascending, users registered, every node
    /// named by one of them.
    function _readTerms(PackedTerms.Layout l) private view returns (bytes32) {
        uint256 n = l.userCount();
        if (n < 2) revert TooFewUsers();
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
                _checkSigner(
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
                _checkSigner(
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
