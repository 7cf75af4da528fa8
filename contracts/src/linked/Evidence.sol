// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {IDomain} from "../Linked.sol";
import {Bounds} from "../lib/Bounds.sol";
import {Digests} from "../lib/Digests.sol";
import {Frames} from "../lib/Frames.sol";
import {Signed} from "../lib/Signed.sol";

/// @title The checks of evidence that blames (R5, R7): each function takes the arguments of the report that asks it
/// @dev Everything that is judged is under a signature of the accused.
library Evidence {
    /// @notice Two different commits of one node. Returns the node.
    function equivocation(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        IMainContract.Opening calldata opening,
        address[] calldata nodes,
        uint256 node,
        IMainContract.Commit calldata first,
        IMainContract.Commit calldata second
    ) external view returns (address accused) {
        Signed.checkExact(abi.encode(agreement, epoch, t, opening, nodes, node, first, second));
        bytes28 d = _opened(agreement, t, opening, nodes);
        accused = _at(nodes, node);
        bytes memory subject = Digests.subject(d, agreement, epoch, t);
        if (first.commitment == second.commitment && first.openingHash == second.openingHash) {
            revert IMainContract.SameCommit();
        }
        _checkCommit(subject, accused, first);
        _checkCommit(subject, accused, second);
    }

    /// @notice A commit, and a reveal that does not open it, of one node. Returns the node.
    function falseReveal(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        IMainContract.Opening calldata opening,
        address[] calldata nodes,
        IMainContract.Commit calldata commit,
        bytes32 seal,
        bytes32 secret,
        bytes32 salt,
        IMainContract.Reveal calldata reveal
    ) external view returns (address accused) {
        IMainContract.Computed calldata computed = reveal.computed;
        Signed.checkExact(
            abi.encode(agreement, epoch, t, opening, nodes, commit, seal, secret, salt, reveal)
        );
        Signed.checkComputed(computed);
        if (reveal.holes.length > Bounds.HOLES_MAX) revert IMainContract.TooManyHoles(reveal.holes.length);
        bytes28 d = _opened(agreement, t, opening, nodes);
        accused = _at(nodes, reveal.node);
        bytes memory subject = Digests.subject(d, agreement, epoch, t);
        _checkCommit(subject, accused, commit);
        if (Digests.opening(secret, salt) != commit.openingHash) revert IMainContract.OpeningHashDiffers();
        bytes32 outcome = Digests.outcome(
            Digests.prefix(Digests.OUTCOME_DOMAIN, d),
            agreement,
            Digests.word(computed.kind, epoch, reveal.from, t),
            Digests.context(computed, seal),
            computed.result
        );
        Signed.by(accused, Digests.reveal(outcome, reveal.holes), reveal.signature.r, reveal.signature.vs);
        if (Digests.commitment(subject, accused, computed, secret, salt) == commit.commitment) {
            revert IMainContract.RevealOpensCommit();
        }
    }

    /// @notice Two frames of one sensor, which say different things of `q`: two messages, or a message and a gap. Returns
    /// the sensor, and the lower of their boot epochs.
    function contradiction(uint64 q, bytes calldata first, bytes calldata second, uint8 parities)
        external
        view
        returns (address sensor, uint32 epoch)
    {
        Signed.checkExact(abi.encode(q, first, second, parities));
        Frames.Header memory one = Frames.header(first);
        Frames.Header memory two = Frames.header(second);
        (sensor, epoch) = (one.sensor, one.epoch < two.epoch ? one.epoch : two.epoch);
        if (sensor != two.sensor) revert IMainContract.FramesOfDifferentSensors();
        bytes28 d = IDomain(address(this)).deployment();
        if (!Frames.isSigned(first, one, d, parities & 1)) revert IMainContract.BadSignature(sensor);
        if (!Frames.isSigned(second, two, d, parities >> 1 & 1)) revert IMainContract.BadSignature(sensor);
        (uint256 time, bytes calldata values) = Frames.message(first, one, q);
        (uint256 time2, bytes calldata values2) = Frames.message(second, two, q);
        if (one.gap && two.gap) revert IMainContract.GapsAgree();
        if (one.gap == two.gap && time == time2 && keccak256(values) == keccak256(values2)) {
            revert IMainContract.MessagesEqual(q);
        }
    }

    /// Checks t and the terms; returns the deployment.
    function _opened(bytes32 agreement, uint64 t, IMainContract.Opening calldata opening, address[] calldata nodes)
        private
        view
        returns (bytes28 d)
    {
        if (t >= Bounds.T_MAX) revert IMainContract.TOutOfRange(t);
        d = IDomain(address(this)).deployment();
        Signed.openNodes(d, agreement, opening, nodes);
    }

    function _at(address[] calldata nodes, uint256 index) private pure returns (address) {
        if (index >= nodes.length) revert IMainContract.NodeIndexOutOfRange(index);
        return nodes[index];
    }

    function _checkCommit(bytes memory subject, address node, IMainContract.Commit calldata commit) private view {
        bytes32 digest = Digests.commit(subject, node, commit.commitment, commit.openingHash);
        Signed.by(node, digest, commit.signature.r, commit.signature.vs);
    }
}
