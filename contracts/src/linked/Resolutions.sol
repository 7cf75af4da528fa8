// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {IDomain} from "../Linked.sol";
import {Bounds} from "../lib/Bounds.sol";
import {Digests} from "../lib/Digests.sol";
import {Signed} from "../lib/Signed.sol";

/// @title The check of what the users say together, in band and as a cell
library Resolutions {
    /// @notice Takes the arguments of `resolve`. Returns the struct hash that all users have signed.
    function check(
        IMainContract.Resolution calldata resolution,
        bytes calldata carry,
        uint64[] calldata qNext,
        bytes32 sensors,
        IMainContract.Opening calldata opening,
        address[] calldata users,
        IMainContract.Signature[] calldata userSignatures
    ) external view returns (bytes32 structHash) {
        Signed.checkKind(resolution.kind, resolution.result.length);
        if (qNext.length > Bounds.SENSORS_MAX) revert IMainContract.SensorsDoNotOpen(qNext.length);
        if (carry.length > Bounds.CARRY_BYTES_MAX) revert IMainContract.CarryTooLong(carry.length);
        for (uint256 i; i < qNext.length; ++i) {
            if (qNext[i] >= Bounds.Q_MAX) revert IMainContract.QOutOfRange(i);
        }
        if (Digests.sensors(qNext.length, sensors) != opening.sensorsRoot) {
            revert IMainContract.SensorsDoNotOpen(qNext.length);
        }
        bytes32 state = Digests.state(carry, qNext);
        if (state != resolution.state) revert IMainContract.StateDoesNotOpen(state);
        IDomain domain = IDomain(address(this));
        Signed.openUsers(domain.deployment(), resolution.agreement, opening, users);
        structHash = Digests.resolution(resolution);
        Signed.byUsers(Digests.typed(domain.domainSeparator(), structHash), users, userSignatures);
    }
}
