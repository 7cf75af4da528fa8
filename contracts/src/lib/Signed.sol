// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {Bounds} from "./Bounds.sol";
import {Digests} from "./Digests.sol";
import {Ecdsa} from "./Ecdsa.sol";
import {Schnorr} from "./Schnorr.sol";

/// @title What an agreement id opens to, and who has signed: the checks that every part of the chain's side shares
/// @dev `d` is the deployment whose domain the signatures are of. Everything reverts, saying what is wrong.
library Signed {
    uint256 internal constant KIND_NULL = 0;
    uint256 internal constant KIND_VALUE = 1;
    uint256 internal constant KIND_TRAP = 2;
    uint256 internal constant KIND_ABSTAIN = 3;
    uint256 internal constant KIND_BATCH = 4;
    uint256 internal constant KIND_HOLE = 5;

    /// @notice `expected` signed `digest`.
    function by(address expected, bytes32 digest, bytes32 r, bytes32 vs) internal view {
        address signer = Ecdsa.recover(digest, r, vs);
        if (signer == address(0) || signer != expected) revert IMainContract.BadSignature(expected);
    }

    /// @notice Every user, in order, signed `digest`.
    function byUsers(bytes32 digest, address[] calldata users, IMainContract.Signature[] calldata signatures)
        internal
        view
    {
        uint256 n = users.length;
        if (signatures.length != n) revert IMainContract.UserSignaturesDiffer(signatures.length, n);
        for (uint256 i; i < n; ++i) {
            by(users[i], digest, signatures[i].r, signatures[i].vs);
        }
    }

    /// @notice The agreement id commits to terms with this digest.
    function open(bytes28 d, bytes32 agreement, bytes32 aggregate, bytes32 y, bytes32 digest) internal view {
        uint256 tweak = uint256(Digests.tweak(d, aggregate, digest));
        if (!Schnorr.isTweaked(uint256(aggregate), tweak, uint256(agreement), uint256(y))) {
            revert IMainContract.TermsDoNotOpen(agreement);
        }
    }

    /// @notice The agreement id commits to the terms of this opening.
    function open(bytes28 d, bytes32 agreement, IMainContract.Opening calldata o) internal view {
        open(d, agreement, o.aggregate, o.y, Digests.terms(o));
    }

    /// @notice These are the users of the agreement.
    function openUsers(bytes28 d, bytes32 agreement, IMainContract.Opening calldata o, address[] calldata users)
        internal
        view
    {
        if (Digests.words(users) != o.users) revert IMainContract.UsersDoNotOpen();
        open(d, agreement, o);
    }

    /// @notice These are the nodes of the agreement.
    function openNodes(bytes28 d, bytes32 agreement, IMainContract.Opening calldata o, address[] calldata nodes)
        internal
        view
    {
        if (Digests.words(nodes) != o.nodes) revert IMainContract.NodesDoNotOpen();
        open(d, agreement, o);
    }

    /// @notice Holes are strictly ascending and in `from..t`, and no more than readers take.
    function checkHoles(uint256 from, uint256 t, uint64[] calldata holes) internal pure {
        if (holes.length > Bounds.HOLES_MAX) revert IMainContract.TooManyHoles(holes.length);
        uint256 least = from;
        for (uint256 i; i < holes.length; ++i) {
            if (holes[i] < least || holes[i] >= t) revert IMainContract.HolesNotAscendingInRange(i);
            least = uint256(holes[i]) + 1;
        }
    }

    /// @notice Null, a value, or a trap; only a value has a result.
    function checkKind(uint256 kind, uint256 resultBytes) internal pure {
        if (kind > KIND_TRAP) revert IMainContract.KindNotSettled(kind);
        if (resultBytes > Bounds.RESULT_BYTES_MAX) revert IMainContract.ResultTooLong(resultBytes);
        if (resultBytes != 0 && kind == KIND_TRAP) revert IMainContract.TrapWithResult();
        if (resultBytes != 0 && kind == KIND_NULL) revert IMainContract.NullWithResult();
    }

    /// @notice What a node computed is of a kind that exists, and its result no longer than readers take.
    function checkComputed(IMainContract.Computed calldata c) internal pure {
        if (c.kind > KIND_ABSTAIN) revert IMainContract.KindNotSettled(c.kind);
        if (c.result.length > Bounds.RESULT_BYTES_MAX) revert IMainContract.ResultTooLong(c.result.length);
    }

    /// @notice A call that is emitted as evidence is the one encoding of its arguments, and nothing besides: what lay
    /// behind them, between them, or in the padding would be logged, and be nobody's word.
    /// Nor is it longer than readers take.
    /// @param arguments `abi.encode` of all arguments of the call.
    function checkExact(bytes memory arguments) internal pure {
        if (msg.data.length > Bounds.EVIDENCE_BYTES_MAX) revert IMainContract.CallTooLong(msg.data.length);
        uint256 needed = 4 + arguments.length;
        if (msg.data.length != needed) revert IMainContract.CallNotExact(needed, msg.data.length);
        if (keccak256(msg.data[4:]) != keccak256(arguments)) revert IMainContract.CallNotCanonical();
    }
}
