// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "./IMainContract.sol";
import {Registry} from "./Registry.sol";
import {Digests} from "./lib/Digests.sol";
import {Schnorr} from "./lib/Schnorr.sol";

/// @title Creation and end of agreements, and the one slot that each has
abstract contract Agreements is Registry {
    /// A slot is `head 19 bytes | status u8 | epoch u32 | nextT u64`. The word of an outcome is `kind u8 | epoch u32 |
    /// from u64 | t u64`, and `Status.Open` is 1 as is the kind of a value: one comparison checks four things.
    uint256 internal constant STATUS_BIT = 96;
    uint256 internal constant HEAD_BIT = 104;
    /// Epoch and nextT.
    uint256 internal constant POSITION = (1 << STATUS_BIT) - 1;
    /// All but the head.
    uint256 internal constant STATE = (1 << HEAD_BIT) - 1;

    /// Read only once an agreement is closing.
    mapping(bytes32 => uint256) internal _ends;

    /// @inheritdoc IMainContract
    function createAgreement(
        bytes32 agreement,
        bytes32 aggregate,
        bytes32 y,
        Terms calldata terms,
        Signature[] calldata userSignatures,
        Acceptance[] calldata acceptances,
        bytes calldata extra
    ) external {
        if (_slot(agreement) != 0) revert AlreadyCreated(agreement);
        _checkParties(terms);
        bytes32 digest = _open(
            agreement,
            Opening({
                aggregate: aggregate,
                y: y,
                users: Digests.words(terms.users),
                nodes: Digests.words(terms.nodes),
                trust: Digests.words(terms.trust),
                sensorsRoot: terms.sensorsRoot,
                offChainCode: terms.offChainCode,
                conditions: terms.conditions
            })
        );
        _checkUsers(
            keccak256(abi.encode(Digests.AGREEMENT_TYPE, agreement, digest)), terms.users, userSignatures
        );
        _checkAcceptances(agreement, digest, terms, acceptances);
        _store(agreement, uint256(digest) & ~STATE | uint256(Status.Open) << STATUS_BIT);
        emit AgreementCreated(agreement, terms, extra);
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
        _checkUsers(keccak256(abi.encode(Digests.CLOSE_TYPE, agreement, end)), users, userSignatures);
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

    /// Reverts unless the agreement id commits to these terms; returns their digest.
    function _open(bytes32 agreement, Opening memory o) internal view returns (bytes32 digest) {
        digest = Digests.terms(o);
        uint256 tweak = uint256(Digests.tweak(deployment, o.aggregate, digest));
        if (!Schnorr.isTweaked(uint256(o.aggregate), tweak, uint256(agreement), uint256(o.y))) {
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

    /// Users and nodes strictly ascending, users registered, every node named by one of them.
    function _checkParties(Terms calldata terms) private view {
        uint256 n = terms.users.length;
        if (n < 2) revert TooFewUsers();
        address previous;
        for (uint256 i; i < n; ++i) {
            address user = terms.users[i];
            if (user <= previous) revert UsersNotAscending(i);
            _registered(user);
            previous = user;
        }
        uint256 m = terms.nodes.length;
        if (terms.trust.length != m) revert TrustLengthDiffers();
        previous = address(0);
        for (uint256 j; j < m; ++j) {
            address node = terms.nodes[j];
            if (node <= previous) revert NodesNotAscending(j);
            if (terms.trust[j] >= n) revert TrustOutOfRange(j);
            previous = node;
        }
    }

    /// One acceptance for each user in order, by a node that this user trusts: it has checked the aggregate key, the
    /// terms and that it can run the module.
    function _checkAcceptances(
        bytes32 agreement,
        bytes32 termsDigest,
        Terms calldata terms,
        Acceptance[] calldata acceptances
    ) private view {
        uint256 n = terms.users.length;
        for (uint256 i; i < n; ++i) {
            if (i >= acceptances.length) revert AcceptanceOfUserMissing(i);
            Acceptance calldata acceptance = acceptances[i];
            uint256 index = acceptance.node;
            if (index >= terms.nodes.length) revert AcceptanceIndexOutOfRange(i);
            if (terms.trust[index] != i) revert AcceptanceOfUserMissing(i);
            address node = terms.nodes[index];
            bytes32 digest = Digests.acceptance(deployment, agreement, termsDigest, node);
            _checkSigner(node, digest, acceptance.signature.r, acceptance.signature.vs);
        }
    }
}
