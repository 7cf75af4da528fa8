// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Disputes} from "./Disputes.sol";

/// @title The on-chain part of DIVERSITY
/// @notice No owner, no upgrade, no money: what it accepts follows from signatures alone. See `IMainContract`.
/// @dev Deployment → Registry → Agreements → Settlement → Disputes → this: each knows only what is before it. Three
/// libraries are linked (`Linked`): Evidence, Holes, Resolutions.
contract MainContract is Disputes {}
