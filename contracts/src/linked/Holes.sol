// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {IDomain} from "../Linked.sol";
import {Digests} from "../lib/Digests.sol";
import {Signed} from "../lib/Signed.sol";

/// @title The check of a hole certificate
library Holes {
    /// What has been seen of the reveals so far.
    struct Seen {
        bytes32 computed;
        bytes32 state;
        bool differ;
        bool statesDiffer;
        uint256 abstained;
    }

    /// @notice Takes the arguments of `settleHole`. Returns the word of the hole, the seal, the common state' (or zero), and
    /// what is folded.
    function check(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        uint64 from,
        uint64[] calldata holes,
        IMainContract.Opening calldata opening,
        address[] calldata nodes,
        IMainContract.Commit[] calldata commits,
        IMainContract.OpenedReveal[] calldata reveals
    ) external view returns (uint256 word, bytes32 seal, bytes32 state, bytes32 digest) {
        uint256 n = nodes.length;
        if (commits.length != n) revert IMainContract.NotOfEveryNode(commits.length, n);
        if (reveals.length != n) revert IMainContract.NotOfEveryNode(reveals.length, n);
        Signed.checkExact(abi.encode(agreement, epoch, t, from, holes, opening, nodes, commits, reveals));
        Signed.checkHoles(from, t, holes);
        bytes28 d = IDomain(address(this)).deployment();
        Signed.openNodes(d, agreement, opening, nodes);
        bytes memory subject = Digests.subject(d, agreement, epoch, t);
        seal = _seal(subject, nodes, commits);
        word = Digests.word(0, epoch, from, t);
        bytes32 prefix = Digests.prefix(Digests.OUTCOME_DOMAIN, d);
        Seen memory seen;
        for (uint256 i; i < n; ++i) {
            _checkOpens(i, subject, nodes[i], commits[i], reveals[i]);
            IMainContract.Computed calldata c = reveals[i].computed;
            bytes32 outcome = Digests.outcome(
                prefix, agreement, word | uint256(c.kind) << 160, Digests.context(c, seal), c.result
            );
            Signed.by(
                nodes[i],
                Digests.reveal(outcome, holes),
                reveals[i].signature.r,
                reveals[i].signature.vs
            );
            _see(seen, i, c);
        }
        uint256 kind = Signed.KIND_ABSTAIN;
        if (seen.abstained != n) {
            if (!seen.differ) revert IMainContract.RevealsEqual();
            kind = Signed.KIND_HOLE;
            if (seen.abstained == 0 && !seen.statesDiffer) state = seen.state;
        }
        word |= kind << 160;
        digest = Digests.hole(d, agreement, word, seal, state, holes);
    }

    /// The seal over commits that their nodes have signed.
    function _seal(bytes memory subject, address[] calldata nodes, IMainContract.Commit[] calldata commits)
        private
        view
        returns (bytes32)
    {
        bytes32[] memory digests = new bytes32[](commits.length);
        for (uint256 i; i < commits.length; ++i) {
            IMainContract.Commit calldata commit = commits[i];
            digests[i] = Digests.commit(subject, nodes[i], commit.commitment, commit.openingHash);
            Signed.by(nodes[i], digests[i], commit.signature.r, commit.signature.vs);
        }
        return Digests.seal(subject, digests);
    }

    function _checkOpens(
        uint256 i,
        bytes memory subject,
        address node,
        IMainContract.Commit calldata commit,
        IMainContract.OpenedReveal calldata reveal
    ) private pure {
        Signed.checkComputed(reveal.computed);
        if (
            Digests.opening(reveal.secret, reveal.salt) != commit.openingHash
                || Digests.commitment(subject, node, reveal.computed, reveal.secret, reveal.salt) != commit.commitment
        ) {
            revert IMainContract.RevealDoesNotOpenCommit(i);
        }
    }

    function _see(Seen memory seen, uint256 i, IMainContract.Computed calldata c) private pure {
        bytes32 computed = keccak256(Digests.computed(c));
        if (i == 0) (seen.computed, seen.state) = (computed, c.state);
        if (computed != seen.computed) seen.differ = true;
        if (c.state != seen.state) seen.statesDiffer = true;
        if (c.kind == Signed.KIND_ABSTAIN) ++seen.abstained;
    }
}
