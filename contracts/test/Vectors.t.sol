// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IMainContract} from "../src/IMainContract.sol";
import {Digests} from "../src/lib/Digests.sol";
import {Schnorr} from "../src/lib/Schnorr.sol";
import {Ecdsa} from "../src/lib/Ecdsa.sol";
import {Errors} from "./support/Errors.sol";
import {Kit} from "./support/Kit.sol";
import {vm, Vm} from "./support/Vm.sol";

/// @title The golden vectors that Rust wrote, against this contract at the address that they were made for
contract VectorsTest is Kit {
    string private json;

    function load(string memory name) private {
        json = vm.readFile(string.concat("../proto/vectors/", name, ".json"));
        if (!vm.keyExistsJson(json, ".contract")) return;
        eq(vm.parseJsonUint(json, ".chain_id"), block.chainid);
        deployAt(vm.parseJsonAddress(json, ".contract"));
    }

    function b32(string memory key) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(".", key));
    }

    function raw(string memory key) private view returns (bytes memory) {
        return vm.parseJsonBytes(json, string.concat(".", key));
    }

    function num(string memory key) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(".", key));
    }

    function addr(string memory key) private view returns (address) {
        return vm.parseJsonAddress(json, string.concat(".", key));
    }

    /// `r || s`, and in some files a recovery id after it: with the parity that makes it recover to the signer.
    function compact(bytes memory sig, bytes32 digest, address signer)
        private
        view
        returns (IMainContract.Signature memory)
    {
        yes(sig.length == 64 || sig.length == 65);
        bytes32 r;
        bytes32 s;
        assembly ("memory-safe") {
            r := mload(add(sig, 0x20))
            s := mload(add(sig, 0x40))
        }
        for (uint256 parity; parity < 2; ++parity) {
            bytes32 vs = bytes32(uint256(s) | parity << 255);
            if (Ecdsa.recover(digest, r, vs) == signer) return IMainContract.Signature(r, vs);
        }
        revert("a signature of nobody");
    }

    // --------------------------------------------------------------------------------------------- registration

    function test_registration() public {
        load("registration");
        eq(main.deployment(), bytes28(raw("deployment")));
        eq(main.domainSeparator(), b32("domain_separator"));
        address owner = addr("user_address");
        bytes memory name = bytes(vm.parseJsonString(json, ".user_name"));
        IMainContract.Signature memory sig = compact(raw("user_signature"), b32("user_digest"), owner);
        send(userCall(owner, sig, name));

        address sensor = addr("sensor_address");
        bytes memory declaration = raw("sensor_declaration");
        eq(keccak256(declaration), b32("sensor_declaration_digest"));
        IMainContract.Signature memory consent =
            compact(raw("sensor_registration_signature"), b32("sensor_registration_digest"), sensor);
        sig = compact(raw("sensor_owner_signature"), b32("sensor_owner_digest"), owner);
        send(
            abi.encodePacked(
                abi.encodeCall(IMainContract.registerSensor, (sensor, owner, sig, consent)), declaration
            )
        );

        IMainContract.SensorEntry[] memory list = new IMainContract.SensorEntry[](2);
        list[0] = IMainContract.SensorEntry(sensor, consent, declaration);
        address other = addr("other_sensor_address");
        bytes memory otherDeclaration = raw("other_sensor_declaration");
        bytes32 digest = Digests.registration(
            Digests.SENSOR_REGISTRATION, main.deployment(), owner, other, keccak256(otherDeclaration)
        );
        list[1] = IMainContract.SensorEntry(
            other, compact(raw("other_sensor_registration_signature"), digest, other), otherDeclaration
        );
        sig = compact(raw("sensors_owner_signature"), b32("sensors_owner_digest"), owner);
        send(abi.encodeCall(IMainContract.registerSensors, (owner, sig, list)));

        address node = addr("node_address");
        declaration = raw("node_declaration");
        sig = compact(raw("node_owner_signature"), b32("node_owner_digest"), owner);
        consent = compact(raw("node_registration_signature"), b32("node_registration_digest"), node);
        send(abi.encodePacked(abi.encodeCall(IMainContract.registerNode, (node, owner, sig, consent)), declaration));
    }

    // ---------------------------------------------------------------------------------------------------- terms

    function terms(string memory prefix) private view returns (Terms memory t) {
        t.users = vm.parseJsonAddressArray(json, ".users");
        t.nodes = vm.parseJsonAddressArray(json, ".nodes");
        uint256[] memory trust = vm.parseJsonUintArray(json, ".trust");
        t.trust = new uint8[](trust.length);
        for (uint256 i; i < trust.length; ++i) t.trust[i] = uint8(trust[i]);
        t.sensorsRoot = b32(string.concat(prefix, "sensors_root"));
        t.offChainCode = b32("off_chain_code");
        t.conditions = b32(string.concat(prefix, "conditions_digest"));
    }

    function opening(string memory prefix) private view returns (IMainContract.Opening memory o) {
        o.aggregate = b32(string.concat(prefix, "aggregate_x"));
        o.y = b32(string.concat(prefix, "agreement_y"));
        o.users = b32(string.concat(prefix, "users_hash"));
        o.nodes = b32(string.concat(prefix, "nodes_hash"));
        o.trust = b32(string.concat(prefix, "trust_hash"));
        o.sensorsRoot = b32(string.concat(prefix, "sensors_root"));
        o.offChainCode = b32("off_chain_code");
        o.conditions = b32(string.concat(prefix, "conditions_digest"));
    }

    function register(address[] memory list) private {
        for (uint256 i; i < list.length; ++i) {
            for (uint256 k; k < list.length; ++k) {
                uint256 key = uint256(b32(string.concat("user_", vm.toString(k), "_secret")));
                if (vm.addr(key) == list[i]) registerUser(key, "user");
            }
        }
    }

    function signatures(string memory key, bytes32 digest, address[] memory signers)
        private
        view
        returns (IMainContract.Signature[] memory list)
    {
        bytes[] memory sigs = vm.parseJsonBytesArray(json, string.concat(".", key));
        list = new IMainContract.Signature[](signers.length);
        for (uint256 i; i < signers.length; ++i) list[i] = compact(sigs[i], digest, signers[i]);
    }

    function test_terms() public {
        string[3] memory prefixes = ["", "days_", "count_"];
        for (uint256 i; i < prefixes.length; ++i) {
            load("terms");
            checkTerms(prefixes[i], i == 0);
        }
    }

    /// `sensorsRoot` is the number of sensors and the root over them.
    function checkSensors(bytes32 root, bytes32 tree) private view {
        address[] memory sensors = vm.parseJsonAddressArray(json, ".sensors");
        uint256[] memory q0 = vm.parseJsonUintArray(json, ".q0");
        bytes32[] memory level = new bytes32[](sensors.length);
        for (uint256 i; i < level.length; ++i) {
            level[i] = keccak256(abi.encodePacked(tag(21), uint32(i), sensors[i], uint64(q0[i])));
        }
        for (uint256 n = level.length; n > 1; n = (n + 1) / 2) {
            for (uint256 i; i < n / 2; ++i) {
                level[i] = keccak256(abi.encodePacked(tag(20), level[2 * i], level[2 * i + 1]));
            }
            if (n & 1 == 1) level[n / 2] = level[n - 1];
        }
        bytes32 opened = Digests.sensors(sensors.length, level[0]);
        eq(opened, keccak256(abi.encodePacked(tag(45), uint32(sensors.length), level[0])));
        eq(tree, level[0]);
        eq(root, opened);
    }

    function numbers(string memory key) private view returns (uint64[] memory list) {
        uint256[] memory wide = vm.parseJsonUintArray(json, string.concat(".", key));
        list = new uint64[](wide.length);
        for (uint256 i; i < wide.length; ++i) list[i] = uint64(wide[i]);
    }

    /// The library takes structs and lists from calldata.
    function resolutionOf(IMainContract.Resolution calldata r, bytes calldata carry, uint64[] calldata qNext)
        external
        view
        returns (bytes32 state, bytes32 structHash, bytes32 fold)
    {
        state = Digests.state(carry, qNext);
        structHash = Digests.resolution(r);
        uint256 word = Digests.word(r.kind, uint32(this.resolutionEpoch()), r.t, r.t);
        fold = Digests.resolved(main.deployment(), r.agreement, word, structHash);
    }

    /// What the owner of sensors signs: no contract reads it, every node does.
    function checkGrant(bytes32 termsDigest) private view {
        string memory termsType = "Terms(address[] users,address[] nodes,uint8[] trust,bytes32 sensorsRoot,"
        "bytes32 offChainCode,bytes32 conditions)";
        bytes32 grantType = keccak256(abi.encodePacked("Grant(address owner,Terms terms)", termsType));
        address owner = vm.parseJsonAddress(json, ".sensor_owner_address");
        bytes32 toSign = Digests.typed(main.domainSeparator(), keccak256(abi.encode(grantType, owner, termsDigest)));
        eq(toSign, b32("grant_digest"));
        // It is somebody's, or this reverts.
        compact(vm.parseJsonBytes(json, ".grant_signature"), toSign, owner);
    }

    uint256 public resolutionEpoch;

    /// What the users sign of one execution, and what is folded of it in band.
    function checkResolution(string memory p, bytes32 a, address[] memory users) private {
        string memory k = string.concat(p, "resolution_");
        IMainContract.Resolution memory r;
        (r.agreement, r.t, r.kind) = (a, uint64(num(string.concat(k, "t"))), 1);
        r.result = raw(string.concat(k, "result"));
        r.state = b32(string.concat(k, "state"));
        resolutionEpoch = num(string.concat(k, "epoch"));
        eq(bytes32(Digests.word(1, uint32(resolutionEpoch), r.t, r.t)), b32(string.concat(k, "word")));
        (bytes32 state, bytes32 structHash, bytes32 fold) =
            this.resolutionOf(r, raw(string.concat(k, "carry")), numbers(string.concat(k, "q_next")));
        eq(state, r.state);
        eq(structHash, b32(string.concat(k, "struct")));
        eq(fold, b32(string.concat(k, "fold")));
        eq(typed(structHash), b32(string.concat(k, "digest")));
        signatures(string.concat(k, "signatures"), typed(structHash), users);
    }

    function checkTerms(string memory p, bool first) private {
        Terms memory t = terms(p);
        IMainContract.Opening memory o = opening(p);
        bytes32 a = b32(string.concat(p, "agreement"));
        bytes32 digest = b32(string.concat(p, "terms_digest"));
        eq(this.termsOf(o), digest);
        eq(Digests.tweak(main.deployment(), o.aggregate, digest), b32(string.concat(p, "tweak")));
        eq(
            address(uint160(uint256(keccak256(abi.encode(a, o.y))))),
            addr(string.concat(p, "agreement_point_address"))
        );
        for (uint32 epoch; epoch < 2; ++epoch) {
            eq(
                keccak256(abi.encodePacked(Digests.CONFIG, main.deployment(), a, epoch)),
                b32(string.concat(p, "config_epoch_", vm.toString(epoch)))
            );
        }
        uint32 marked = uint32(num(string.concat(p, "marked_epoch")));
        eq(
            keccak256(abi.encodePacked(Digests.CONFIG, main.deployment(), a, marked)),
            b32(string.concat(p, "config_marked"))
        );
        checkSensors(t.sensorsRoot, b32(string.concat(p, "sensors_tree")));
        checkResolution(p, a, t.users);
        if (first) register(t.users);
        if (first) checkGrant(digest);

        bytes32 toSign = b32(string.concat(p, "agreement_digest"));
        bytes32[] memory accept = vm.parseJsonBytes32Array(json, string.concat(".", p, "acceptance_digests"));
        bytes[] memory accepted = vm.parseJsonBytesArray(json, string.concat(".", p, "acceptance_signatures"));
        Acceptance[] memory acceptances = new Acceptance[](t.users.length);
        for (uint256 u; u < t.users.length; ++u) {
            for (uint256 j; j < t.nodes.length; ++j) {
                eq(Digests.acceptance(main.deployment(), a, digest, t.nodes[j]), accept[j]);
                if (t.trust[j] == u) {
                    acceptances[u] = Acceptance(uint8(j), compact(accepted[j], accept[j], t.nodes[j]));
                }
            }
        }
        Made memory made;
        (made.id, made.terms, made.opening) = (a, t, o);
        send(
            createCallWith(
                made,
                signatures(string.concat(p, "user_signatures"), toSign, t.users),
                acceptances,
                raw(string.concat(p, "encoding"))
            )
        );
        toSign = b32(string.concat(p, "close_digest"));
        uint64 end = uint64(num(string.concat(p, "close_end")));
        send(
            abi.encodeCall(
                IMainContract.closeAgreement,
                (a, end, o, t.users, signatures(string.concat(p, "close_signatures"), toSign, t.users))
            )
        );
        (IMainContract.Status status,,,, uint64 stored) = main.agreements(a);
        yes(status == IMainContract.Status.Closing);
        eq(stored, end);
    }

    // ---------------------------------------------------------------------------------------------------- round

    function computedOf(bytes memory result) private view returns (IMainContract.Computed memory) {
        return IMainContract.Computed(
            1, result, b32("detail_root"), b32("state"), b32("trace"), b32("window_hash")
        );
    }

    /// The library takes structs from calldata.
    function termsOf(IMainContract.Opening calldata o) external pure returns (bytes32) {
        return Digests.terms(o);
    }

    function commitmentOf(address node, IMainContract.Computed calldata c, bytes32 secret, bytes32 salt)
        external
        view
        returns (bytes32)
    {
        return Digests.commitment(
            Digests.subject(main.deployment(), b32("agreement"), uint32(num("epoch")), uint64(num("t"))),
            node,
            c,
            secret,
            salt
        );
    }

    function revealOf(IMainContract.Computed calldata c, bytes32 seal, uint64[] calldata holes)
        external
        view
        returns (bytes32 context, bytes32 outcome, bytes32 reveal)
    {
        context = Digests.context(c, seal);
        outcome = Digests.outcome(
            Digests.prefix(Digests.OUTCOME_DOMAIN, main.deployment()),
            b32("agreement"),
            Digests.word(1, uint32(num("epoch")), uint64(num("from")), uint64(num("t"))),
            context,
            c.result
        );
        reveal = Digests.reveal(outcome, holes);
    }

    function test_round() public {
        load("round");
        IMainContract.Computed memory c = computedOf(raw("result"));
        address[] memory nodes = vm.parseJsonAddressArray(json, ".nodes");
        bytes memory subject =
            Digests.subject(main.deployment(), b32("agreement"), uint32(num("epoch")), uint64(num("t")));
        bytes32[] memory commits = new bytes32[](nodes.length);
        for (uint256 i; i < nodes.length; ++i) {
            string memory p = string.concat("node_", vm.toString(i), "_");
            bytes32 secret = b32(string.concat(p, "secret"));
            bytes32 salt = b32(string.concat(p, "salt"));
            bytes32 openingHash = b32(string.concat(p, "opening"));
            bytes32 commitment = b32(string.concat(p, "commitment"));
            eq(Digests.opening(secret, salt), openingHash);
            eq(this.commitmentOf(nodes[i], c, secret, salt), commitment);
            bytes32 digest = Digests.commit(subject, nodes[i], commitment, openingHash);
            eq(digest, b32(string.concat(p, "commit_digest")));
            compact(raw(string.concat(p, "commit_signature")), digest, nodes[i]);
            commits[i] = digest;
        }
        eq(Digests.seal(subject, commits), b32("seal"));
        eq(bytes32(Digests.word(1, uint32(num("epoch")), uint64(num("from")), uint64(num("t")))), b32("word"));
        (bytes32 context, bytes32 outcome, bytes32 reveal) = this.revealOf(c, b32("seal"), new uint64[](0));
        eq(context, b32("context"));
        eq(outcome, b32("outcome_digest"));
        eq(reveal, b32("reveal_digest"));
        signatures("reveal_signatures", reveal, nodes);
        uint256[] memory list = vm.parseJsonUintArray(json, ".holes");
        uint64[] memory holes = new uint64[](list.length);
        for (uint256 i; i < list.length; ++i) holes[i] = uint64(list[i]);
        (,, reveal) = this.revealOf(c, b32("seal"), holes);
        eq(reveal, b32("with_holes_reveal_digest"));
        signatures("with_holes_reveal_signatures", reveal, nodes);
    }

    // ---------------------------------------------------------------------------------------------------- holes

    /// The library takes structs and lists from calldata.
    function saidOf(
        address node,
        IMainContract.Computed calldata c,
        bytes32 secret,
        bytes32 salt,
        bytes32 seal,
        uint64[] calldata holes
    ) external view returns (bytes32 commitment, bytes32 reveal) {
        (uint32 epoch, uint64 t) = (uint32(num("epoch")), uint64(num("t")));
        bytes memory subject = Digests.subject(main.deployment(), b32("agreement"), epoch, t);
        commitment = Digests.commitment(subject, node, c, secret, salt);
        bytes32 outcome = Digests.outcome(
            Digests.prefix(Digests.OUTCOME_DOMAIN, main.deployment()),
            b32("agreement"),
            Digests.word(c.kind, epoch, uint64(num("from")), t),
            Digests.context(c, seal),
            c.result
        );
        reveal = Digests.reveal(outcome, holes);
    }

    function holeOf(uint256 word, bytes32 seal, bytes32 state, uint64[] calldata holes)
        external
        view
        returns (bytes32)
    {
        return Digests.hole(main.deployment(), b32("agreement"), word, seal, state, holes);
    }

    function test_holes() public {
        string[3] memory prefixes = ["", "states_", "abstained_"];
        load("hole");
        for (uint256 i; i < prefixes.length; ++i) checkHole(prefixes[i]);
    }

    function checkHole(string memory p) private view {
        address[] memory nodes = vm.parseJsonAddressArray(json, ".nodes");
        bytes32[] memory digests = commitsOf(p, nodes);
        bytes32 seal = b32(string.concat(p, "seal"));
        uint64 t = uint64(num("t"));
        eq(
            Digests.seal(
                Digests.subject(main.deployment(), b32("agreement"), uint32(num("epoch")), t), digests
            ),
            seal
        );
        uint64[] memory holes = numbers("holes");
        bytes32[] memory reveals = vm.parseJsonBytes32Array(json, string.concat(".", p, "reveal_digests"));
        bytes[] memory sigs = vm.parseJsonBytesArray(json, string.concat(".", p, "reveal_signatures"));
        uint256 abstained;
        for (uint256 i; i < nodes.length; ++i) {
            IMainContract.Computed memory c = saidBy(p, i);
            (, bytes32 reveal) = this.saidOf(
                nodes[i], c, b32(string.concat(p, "secret")), b32(string.concat(p, "salt")), seal, holes
            );
            eq(reveal, reveals[i]);
            compact(sigs[i], reveal, nodes[i]);
            if (c.kind == 3) ++abstained;
        }
        uint8 kind = abstained == nodes.length ? 3 : 5;
        uint256 word = Digests.word(kind, uint32(num("epoch")), uint64(num("from")), t);
        eq(bytes32(word), b32(string.concat(p, "word")));
        eq(this.holeOf(word, seal, b32(string.concat(p, "state")), holes), b32(string.concat(p, "digest")));
    }

    function saidBy(string memory p, uint256 i) private view returns (IMainContract.Computed memory c) {
        c.kind = uint8(numbers(string.concat(p, "kinds"))[i]);
        c.result = vm.parseJsonBytesArray(json, string.concat(".", p, "results"))[i];
        c.state = vm.parseJsonBytes32Array(json, string.concat(".", p, "states"))[i];
        c.windowHash = bytes32(0x5454545454545454545454545454545454545454545454545454545454545454);
    }

    function commitsOf(string memory p, address[] memory nodes) private view returns (bytes32[] memory digests) {
        digests = new bytes32[](nodes.length);
        bytes32[] memory commitments = vm.parseJsonBytes32Array(json, string.concat(".", p, "commitments"));
        bytes[] memory sigs = vm.parseJsonBytesArray(json, string.concat(".", p, "commit_signatures"));
        (bytes32 secret, bytes32 salt) = (b32(string.concat(p, "secret")), b32(string.concat(p, "salt")));
        eq(Digests.opening(secret, salt), b32(string.concat(p, "opening")));
        bytes memory subject =
            Digests.subject(main.deployment(), b32("agreement"), uint32(num("epoch")), uint64(num("t")));
        for (uint256 i; i < nodes.length; ++i) {
            (bytes32 commitment,) = this.saidOf(nodes[i], saidBy(p, i), secret, salt, 0, new uint64[](0));
            eq(commitment, commitments[i]);
            digests[i] = Digests.commit(subject, nodes[i], commitment, b32(string.concat(p, "opening")));
            compact(sigs[i], digests[i], nodes[i]);
        }
    }

    function test_batch() public {
        load("batch");
        bytes32 prefix = Digests.prefix(Digests.BATCH_DOMAIN, main.deployment());
        string[2] memory prefixes = ["", "full_"];
        for (uint256 i; i < 2; ++i) {
            string memory p = prefixes[i];
            bytes32 digest = keccak256(
                abi.encodePacked(
                    prefix,
                    b32("agreement"),
                    b32(string.concat(p, "word")),
                    b32(string.concat(p, "contexts_root")),
                    raw(string.concat(p, "entries"))
                )
            );
            eq(digest, b32(string.concat(p, "digest")));
            // The contract counts these entries as Rust does: the batch settles in an agreement that stands there.
            Made memory m = create(i + 1, 2, 3);
            send(settleCall(m, wordOf(1, 0, 0, 3), "context", ""));
            uint64 t = uint64(uint256(b32(string.concat(p, "word"))));
            send(
                batchCall(
                    m,
                    wordOf(4, 0, 4, t),
                    b32(string.concat(p, "contexts_root")),
                    raw(string.concat(p, "entries"))
                )
            );
        }
    }

    // --------------------------------------------------------------------------------------------------- MuSig2

    /// n-of-n signatures by the stock library, n from 2 to 100: accepted, and at a price that does not depend on n.
    function test_musig() public {
        load("musig");
        bytes32[] memory a = vm.parseJsonBytes32Array(json, ".a");
        bytes32[] memory rx = vm.parseJsonBytes32Array(json, ".outcome_rx");
        bytes32[] memory ry = vm.parseJsonBytes32Array(json, ".outcome_ry");
        bytes32[] memory s = vm.parseJsonBytes32Array(json, ".outcome_s");
        bytes32[] memory digests = vm.parseJsonBytes32Array(json, ".outcome_digest");
        bytes32[] memory y = vm.parseJsonBytes32Array(json, ".ay");
        bytes32[] memory kx = vm.parseJsonBytes32Array(json, ".kx");
        bytes32[] memory tweaks = vm.parseJsonBytes32Array(json, ".tweak");
        eq(a.length, 99);
        bytes memory tail = abi.encodePacked(
            uint8(1), uint32(num("epoch")), uint64(num("from")), uint64(num("t")), b32("context"), raw("result")
        );
        for (uint256 i; i < a.length; ++i) {
            yes(Schnorr.verify(uint256(a[i]), uint256(rx[i]), uint256(ry[i]), uint256(s[i]), digests[i]));
            yes(Schnorr.isTweaked(uint256(kx[i]), uint256(tweaks[i]), uint256(a[i]), uint256(y[i])));
            send(abi.encodePacked(IMainContract.attestCertificate.selector, rx[i], ry[i], s[i], a[i], tail));
        }
        rx = vm.parseJsonBytes32Array(json, ".rx");
        ry = vm.parseJsonBytes32Array(json, ".ry");
        s = vm.parseJsonBytes32Array(json, ".s");
        for (uint256 i; i < a.length; ++i) {
            yes(Schnorr.verify(uint256(a[i]), uint256(rx[i]), uint256(ry[i]), uint256(s[i]), b32("digest")));
        }
    }

    // --------------------------------------------------------------------------------------------------- frames

    /// Rust's frames decode here, strictly, and are signed by their sensor.
    function test_frames() public {
        load("frames");
        string[5] memory names = ["one", "many", "mixed", "opening", "contradiction"];
        address sensor = addr("sensor_address");
        for (uint256 i; i < names.length; ++i) {
            bytes memory frame = raw(string.concat(names[i], "_encoding"));
            bytes32 digest = b32(string.concat(names[i], "_digest"));
            bytes memory unsigned = raw(string.concat(names[i], "_unsigned"));
            eq(sha256(abi.encodePacked(tag(1), deploymentBytes(), unsigned)), digest);
            uint8 parity =
                uint8(uint256(compact(raw(string.concat(names[i], "_signature")), digest, sensor).vs) >> 255);
            uint256[] memory times = vm.parseJsonUintArray(json, string.concat(".", names[i], "_times"));
            uint64 first = uint64(num(string.concat(names[i], "_first_q")));
            // A frame never contradicts itself, at any of its q.
            for (uint64 k; k < times.length; ++k) {
                refused(
                    abi.encodeCall(
                        IMainContract.reportSensorContradiction, (first + k, frame, frame, parity | parity << 1)
                    ),
                    abi.encodeCall(Errors.MessagesEqual, (first + k))
                );
            }
        }
    }

    /// Rust's gap records decode here, and contradict a message that they say is lost.
    function test_gaps() public {
        load("frames");
        address sensor = addr("sensor_address");
        string[2] memory names = ["gap", "gap_opening"];
        bytes memory message = raw("many_encoding");
        uint8 p = uint8(uint256(compact(raw("many_signature"), b32("many_digest"), sensor).vs) >> 255);
        for (uint256 i; i < names.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            bytes memory frame = raw(string.concat(names[i], "_encoding"));
            bytes32 digest = b32(string.concat(names[i], "_digest"));
            eq(
                sha256(abi.encodePacked(tag(1), deploymentBytes(), raw(string.concat(names[i], "_unsigned")))),
                digest
            );
            uint8 g =
                uint8(uint256(compact(raw(string.concat(names[i], "_signature")), digest, sensor).vs) >> 255);
            uint64 q = uint64(num(string.concat(names[i], "_first_q")));
            refused(
                abi.encodeCall(IMainContract.reportSensorContradiction, (q, frame, frame, g | g << 1)),
                Errors.GapsAgree.selector
            );
            send(abi.encodeCall(IMainContract.reportSensorContradiction, (q, message, frame, p | g << 1)));
            (bool void_,, uint64 from) = main.sensorVoid(sensor);
            yes(void_);
            eq(from, q);
            vm.revertToState(snapshot);
        }
    }

    function test_contradiction() public {
        load("frames");
        address sensor = addr("sensor_address");
        uint8 p = uint8(uint256(compact(raw("many_signature"), b32("many_digest"), sensor).vs) >> 255);
        uint8 r =
            uint8(uint256(compact(raw("contradiction_signature"), b32("contradiction_digest"), sensor).vs) >> 255);
        bytes[] memory one = vm.parseJsonBytesArray(json, ".many_values");
        bytes[] memory two = vm.parseJsonBytesArray(json, ".contradiction_values");
        uint256[] memory t1 = vm.parseJsonUintArray(json, ".many_times");
        uint256[] memory t2 = vm.parseJsonUintArray(json, ".contradiction_times");
        uint64 first = uint64(num("many_first_q"));
        uint256 found;
        for (uint64 i; i < one.length; ++i) {
            bytes memory sent = abi.encodeCall(
                IMainContract.reportSensorContradiction,
                (first + i, raw("many_encoding"), raw("contradiction_encoding"), p | r << 1)
            );
            if (t1[i] == t2[i] && keccak256(one[i]) == keccak256(two[i])) {
                refused(sent, abi.encodeCall(Errors.MessagesEqual, (first + i)));
            } else if (found++ == 0) {
                send(sent);
                (bool void_,, uint64 q) = main.sensorVoid(sensor);
                yes(void_);
                eq(q, first + i);
            }
        }
        yes(found > 0);
    }
}
