// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../IMainContract.sol";
import {Hash} from "./Hash.sol";

/// @title The one registry of domains and digests on chain (R1; wire-format §2, §6, §7)
/// @dev One function per digest; `d` is `chain id u64 || contract 20`. All encodings are `abi.encodePacked` of fixed
/// widths, or end in the one part that has no fixed width, or carry its length.
library Digests {
    bytes12 internal constant SENSOR_FRAME = "DIVERSITY\x01\x00\x01";
    bytes12 internal constant SENSOR_REGISTRATION = "DIVERSITY\x01\x00\x02";
    bytes12 internal constant NODE_REGISTRATION = "DIVERSITY\x01\x00\x03";
    bytes12 internal constant NODE_ACCEPTANCE = "DIVERSITY\x01\x00\x04";
    bytes12 internal constant STATE = "DIVERSITY\x01\x00\x12";
    bytes12 internal constant TWEAK = "DIVERSITY\x01\x00\x17";
    bytes12 internal constant CONFIG = "DIVERSITY\x01\x00\x18";
    bytes12 internal constant OPENING = "DIVERSITY\x01\x00\x20";
    bytes12 internal constant COMMITMENT = "DIVERSITY\x01\x00\x21";
    bytes12 internal constant COMMIT = "DIVERSITY\x01\x00\x22";
    bytes12 internal constant SEAL = "DIVERSITY\x01\x00\x23";
    bytes12 internal constant CONTEXT = "DIVERSITY\x01\x00\x24";
    bytes12 internal constant OUTCOME_DOMAIN = "DIVERSITY\x01\x00\x25";
    bytes12 internal constant BATCH_DOMAIN = "DIVERSITY\x01\x00\x26";
    bytes12 internal constant REVEAL = "DIVERSITY\x01\x00\x27";
    bytes12 internal constant HOLE = "DIVERSITY\x01\x00\x2b";
    bytes12 internal constant RESOLUTION = "DIVERSITY\x01\x00\x2c";
    bytes12 internal constant SENSORS = "DIVERSITY\x01\x00\x2d";

    bytes32 internal constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant USER_TYPE = keccak256("User(address user,string name)");
    bytes32 internal constant SENSOR_TYPE = 
        keccak256("Sensor(address sensor,address owner,bytes32 declaration,uint64 count)");
    bytes32 internal constant SENSORS_TYPE =
        keccak256("Sensors(Sensor[] sensors)Sensor(address sensor,address owner,bytes32 declaration,uint64 count)");
    bytes32 internal constant NODE_TYPE = 
        keccak256("Node(address node,address owner,bytes32 declaration,uint64 count)");
    bytes32 internal constant TERMS_TYPE = keccak256(
        "Terms(address[] users,address[] nodes,uint8[] trust,bytes32 sensorsRoot,bytes32 offChainCode,bytes32 conditions)"
    );
    bytes32 internal constant AGREEMENT_TYPE = keccak256(
        "Agreement(bytes32 agreement,Terms terms)Terms(address[] users,address[] nodes,uint8[] trust,bytes32 sensorsRoot,bytes32 offChainCode,bytes32 conditions)"
    );
    bytes32 internal constant CLOSE_TYPE = keccak256("Close(bytes32 agreement,uint64 end)");
    bytes32 internal constant RESOLUTION_TYPE =
        keccak256("Resolution(bytes32 agreement,uint64 t,uint8 kind,bytes result,bytes32 state)");

    function domainSeparator() internal view returns (bytes32) {
        return
            keccak256(abi.encode(DOMAIN_TYPE, keccak256("DIVERSITY"), keccak256("1"), block.chainid, address(this)));
    }

    /// What is signed for an EIP-712 struct.
    function typed(bytes32 separator, bytes32 structHash) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, hex"1901")
            mstore(add(p, 2), separator)
            mstore(add(p, 0x22), structHash)
            digest := keccak256(p, 0x42)
        }
    }

    /// `hashStruct` of `Sensor` and `Node`, which differ in their type alone. `count` is how many entities the owner has had.
    function entity(bytes32 entityType, address id, address owner, bytes32 declaration, uint64 count)
        internal
        pure
        returns (bytes32)
    {
        return Hash.quintuple(entityType, Hash.word(id), Hash.word(owner), declaration, bytes32(uint256(count)));
    }

    function user(address id, bytes calldata name) internal pure returns (bytes32) {
        return Hash.triple(USER_TYPE, Hash.word(id), Hash.data(name));
    }

    /// What an entity's own key signs: SENSOR_REGISTRATION, NODE_REGISTRATION.
    function registration(bytes12 tag, bytes28 d, address owner, address id, bytes32 declaration)
        internal
        pure
        returns (bytes32 digest)
    {
        assembly ("memory-safe") {
            // Each store is cut by the next: 12 + 28 + 20 + 20 + 32 bytes
            let p := mload(0x40)
            mstore(p, tag)
            mstore(add(p, 12), d)
            mstore(add(p, 40), shl(96, owner))
            mstore(add(p, 60), shl(96, id))
            mstore(add(p, 80), declaration)
            digest := keccak256(p, 112)
        }
    }

    /// EIP-712 hash of an array of addresses, each in a word of its own. Calldata need not be clean: the caller compares
    /// the hash with one that an agreement id commits to.
    function words(address[] calldata items) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            let size := shl(5, items.length)
            calldatacopy(p, items.offset, size)
            digest := keccak256(p, size)
        }
    }

    /// EIP-712 `hashStruct(Terms)` of the hashes in an opening.
    function terms(IMainContract.Opening calldata o) internal pure returns (bytes32 digest) {
        bytes32 typeHash = TERMS_TYPE;
        assembly ("memory-safe") {
            // users, nodes, trust, sensorsRoot, offChainCode and conditions are the last six words of the opening
            let p := mload(0x40)
            mstore(p, typeHash)
            calldatacopy(add(p, 0x20), add(o, 0x40), 0xc0)
            digest := keccak256(p, 0xe0)
        }
    }

    /// The same of the hashes of the lists, and of the last three terms, which stand in calldata at `roots`.
    function terms(bytes32 users, bytes32 nodes, bytes32 trust, uint256 roots) internal pure returns (bytes32 digest) {
        bytes32 typeHash = TERMS_TYPE;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, typeHash)
            mstore(add(p, 0x20), users)
            mstore(add(p, 0x40), nodes)
            mstore(add(p, 0x60), trust)
            calldatacopy(add(p, 0x80), roots, 0x60)
            digest := keccak256(p, 0xe0)
        }
    }

    function tweak(bytes28 d, bytes32 aggregate, bytes32 termsDigest) internal pure returns (bytes32 digest) {
        bytes12 tag = TWEAK;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, tag)
            mstore(add(p, 12), aggregate)
            mstore(add(p, 44), d)
            mstore(add(p, 72), termsDigest)
            digest := keccak256(p, 104)
        }
    }

    function acceptance(bytes28 d, bytes32 a, bytes32 termsDigest, address node) internal pure returns (bytes32 digest) {
        bytes12 tag = NODE_ACCEPTANCE;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, tag)
            mstore(add(p, 12), d)
            mstore(add(p, 40), a)
            mstore(add(p, 72), termsDigest)
            mstore(add(p, 104), shl(96, node))
            digest := keccak256(p, 124)
        }
    }

    /// `subject = deployment || config || t`.
    function subject(bytes28 d, bytes32 a, uint32 epoch, uint64 t) internal pure returns (bytes memory) {
        return abi.encodePacked(d, keccak256(abi.encodePacked(CONFIG, d, a, epoch)), t);
    }

    function opening(bytes32 secret, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(OPENING, secret, salt));
    }

    function commitment(
        bytes memory subject_,
        address node,
        IMainContract.Computed calldata c,
        bytes32 secret,
        bytes32 salt
    ) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(COMMITMENT, subject_, node, computed(c), secret, salt));
    }

    function computed(IMainContract.Computed calldata c) internal pure returns (bytes memory) {
        return abi.encodePacked(
            c.kind, uint32(c.result.length), c.result, c.detailRoot, c.state, c.trace, c.windowHash
        );
    }

    /// Over the digests of all commits, in index order.
    function seal(bytes memory subject_, bytes32[] memory commits) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(SEAL, subject_, uint16(commits.length), commits));
    }

    function commit(bytes memory subject_, address node, bytes32 commitment_, bytes32 openingHash)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(COMMIT, subject_, node, commitment_, openingHash));
    }

    function context(IMainContract.Computed calldata c, bytes32 seal_) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(CONTEXT, c.windowHash, c.detailRoot, c.state, c.trace, seal_));
    }

    /// `0^11 | kind u8 | epoch u32 | from u64 | t u64`.
    function word(uint8 kind, uint32 epoch, uint64 from, uint64 t) internal pure returns (uint256) {
        return uint256(kind) << 160 | uint256(epoch) << 128 | uint256(from) << 64 | t;
    }

    /// `D` and `B`: what an outcome's and a batch's digest start with.
    function prefix(bytes12 tag, bytes28 d) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(tag, d));
    }

    function outcome(bytes32 prefix_, bytes32 a, uint256 word_, bytes32 context_, bytes calldata result)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(prefix_, a, word_, context_, result));
    }

    /// REVEAL over the outcome and the list of holes.
    function reveal(bytes32 outcome_, uint64[] calldata holes) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(REVEAL, outcome_, list(holes)));
    }

    /// What a hole certificate folds.
    function hole(bytes28 d, bytes32 a, uint256 word_, bytes32 seal_, bytes32 state_, uint64[] calldata holes)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(HOLE, d, a, word_, seal_, state_, list(holes)));
    }

    /// EIP-712 `hashStruct(Resolution)`.
    function resolution(IMainContract.Resolution calldata r) internal pure returns (bytes32) {
        return keccak256(abi.encode(RESOLUTION_TYPE, r.agreement, r.t, r.kind, keccak256(r.result), r.state));
    }

    /// What a resolution folds, or leaves in a cell.
    function resolved(bytes28 d, bytes32 a, uint256 word_, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(RESOLUTION, d, a, word_, structHash));
    }

    /// `state'`, from which t + 1 starts.
    function state(bytes calldata carry, uint64[] calldata qNext) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(STATE, uint32(carry.length), carry, list(qNext)));
    }

    /// `sensorsRoot` of the terms.
    function sensors(uint256 count, bytes32 root) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(SENSORS, uint32(count), root));
    }

    /// A u32 count, and a u64 for each.
    function list(uint64[] calldata items) internal pure returns (bytes memory out) {
        uint256 n = items.length;
        out = new bytes(8 * n + 28);
        assembly ("memory-safe") {
            mstore(add(out, 0x20), shl(224, n))
        }
        for (uint256 i; i < n; ++i) {
            uint256 item = items[i];
            // A whole word is written for each eight bytes; 24 spare bytes take the end of the last one.
            assembly ("memory-safe") {
                mstore(add(add(out, 0x24), shl(3, i)), shl(192, item))
            }
        }
        assembly ("memory-safe") {
            mstore(out, add(shl(3, n), 4))
        }
    }
}
