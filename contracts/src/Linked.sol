// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title What the linked libraries ask of the contract that they run in
interface IDomain {
    function deployment() external view returns (bytes28);
    function domainSeparator() external view returns (bytes32);
}

/// @title Calls to linked libraries
/// @dev Checking code that does not fit into 24,576 bytes lives in libraries, and runs in the contract that calls them. A
/// library function takes the arguments of the function that asks it, in the same order, so the calldata is handed on as
/// it came, under another selector: nothing is encoded anew, and the length that is checked is that of the call itself.
/// Libraries read the domain of the contract that they run in (`IDomain`, which it answers), check, and answer; they write
/// nothing.
abstract contract Linked {
    /// Asks a library; what it refuses reverts here in its words.
    function _ask(address library_, bytes4 selector) internal returns (bytes memory answer) {
        bool ok;
        (ok, answer) = library_.delegatecall(abi.encodePacked(selector, msg.data[4:]));
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }
}
