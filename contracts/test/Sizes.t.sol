// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Cells} from "../src/Cells.sol";
import {Evidence} from "../src/linked/Evidence.sol";
import {Holes} from "../src/linked/Holes.sol";
import {Resolutions} from "../src/linked/Resolutions.sol";
import {Kit} from "./support/Kit.sol";

/// @title Every contract of a deployment fits into what a chain takes (EIP-170, EIP-3860)
contract SizesTest is Kit {
    uint256 private constant CODE_BYTES_MAX = 24_576;

    function test_codeSizes() public {
        fits(address(main));
        fits(address(new Cells(main)));
        fits(address(Evidence));
        fits(address(Holes));
        fits(address(Resolutions));
    }

    function fits(address deployed) private view {
        uint256 size = deployed.code.length;
        yes(size != 0);
        require(size <= CODE_BYTES_MAX, "more code than a chain takes");
    }

    /// The hot path of MainContract writes over the first words of memory: nothing of the compiler's may lie there. Where it
    /// keeps variables in memory, the free pointer starts above them, and not at 0x80.
    function test_noVariablesInMemory() public view {
        eq(bytes32(bytes5(address(main).code)), bytes32(bytes5(hex"6080604052")));
    }

    /// A library does nothing by itself: it has no domain but that of the contract that it runs in.
    function test_librariesAlone() public {
        address[3] memory list = [address(Evidence), address(Holes), address(Resolutions)];
        bytes4[3] memory selectors = [Evidence.contradiction.selector, Holes.check.selector, Resolutions.check.selector];
        for (uint256 i; i < 3; ++i) {
            (bool ok,) = list[i].call(abi.encodePacked(selectors[i], new bytes(640)));
            yes(!ok);
        }
    }
}
