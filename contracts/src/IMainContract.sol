// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Registration, verified settlement and evidence of DIVERSITY agreements
/// @notice One contract for all users, sensors, intermediate nodes and agreements of a deployment. Every byte that is
/// hashed or signed is in `docs/wire-format.md`; names follow the DIVERSITY paper (§3).
/// @dev Tails. Where one payload of free length ends a call, it is not ABI encoded: it is the bytes that follow the
/// static arguments in calldata (length = calldata size - 4 - 32 * number of arguments). In the same way the event of
/// such a call has that payload, raw, as (the end of) its data. Each function says which. This saves two words and the
/// padding. Every tail is covered by a signature, so nothing can be appended unseen, but for the extra bytes of
/// `createAgreement`, which prove themselves.
interface IMainContract {
    /// @notice An ECDSA signature in the form of EIP-2098: `vs` is `s`, with the parity of R.y in its top bit.
    /// `s` is in the lower half of the group order (R3).
    struct Signature {
        bytes32 r;
        bytes32 vs;
    }

    /// @notice A sensor in a bulk registration.
    struct SensorEntry {
        address sensor;
        Signature consent;
        bytes declaration;
    }

    /// @notice Opens an agreement id to the terms that it commits to (wire-format §6).
    /// @param aggregate `K.x`, x coordinate of the untweaked aggregate key.
    /// @param y `a.y`, y coordinate of the point whose x coordinate is the agreement id (even or odd).
    /// @param users EIP-712 hash of the users: keccak of the addresses, each in 32 bytes. `nodes`, `trust` alike.
    struct Opening {
        bytes32 aggregate;
        bytes32 y;
        bytes32 users;
        bytes32 nodes;
        bytes32 trust;
        bytes32 sensorsRoot;
        bytes32 offChainCode;
        bytes32 conditions;
    }

    /// @notice One aggregated signature of all nodes: `rx || s` is a BIP-340 signature under the agreement id.
    /// @param ry The even y coordinate that belongs to `rx`.
    struct Certificate {
        bytes32 rx;
        bytes32 ry;
        bytes32 s;
        bytes32 agreement;
    }

    /// @notice The same words under other types, which give `attestCertificate` the lowest selector of all.
    struct CertificateNumbers {
        uint256 rx;
        uint256 ry;
        uint256 s;
        bytes32 agreement;
    }

    /// @notice A node's signed commit.
    struct Commit {
        bytes32 commitment;
        bytes32 openingHash;
        Signature signature;
    }

    /// @notice What a node computed for one execution: what its commitment covers.
    struct Computed {
        uint8 kind;
        bytes result;
        bytes32 detailRoot;
        bytes32 state;
        bytes32 trace;
        bytes32 windowHash;
    }

    /// @notice A node's signed reveal. `node` is its index in the terms.
    struct Reveal {
        uint256 node;
        Computed computed;
        uint64 from;
        uint64[] holes;
        Signature signature;
    }

    /// @notice What a dispute is about. The number is part of the dispute's id.
    enum DisputeKind {
        None,
        /// Two different commits of one node for one (a, t, epoch): the node is to blame.
        Equivocation,
        /// A signed reveal that does not open the same node's signed commit: the node is to blame.
        FalseReveal,
        /// Two frames of one sensor with different messages at one (epoch, q): the sensor is void from that q on.
        SensorContradiction,
        /// Signed reveals of one (a, t, epoch) under one seal that differ: a hole, without blame.
        UnequalReveals
    }

    /// @notice Life of an agreement.
    enum Status {
        None,
        Open,
        /// All users have signed an end; executions before it may still settle.
        Closing
    }

    // ----------------------------------------------------------------------------------------------- events

    /// @notice A user. Data: user 20 | name, raw UTF-8.
    event UserRegistered();
    /// @notice A sensor. Data: its declaration, raw.
    event SensorRegistered(address indexed sensor, address indexed owner);
    /// @notice An intermediate node, or a new revision of its declaration (the highest revision counts). Data: the
    /// declaration, raw.
    event NodeRegistered(address indexed node, address indexed owner);
    /// @notice An agreement. Data: the terms and the extra bytes of `createAgreement`, as they stood in calldata. No
    /// signature covers the extra bytes: check them against `sensorsRoot` and `conditions`.
    event AgreementCreated(bytes32 indexed agreement);
    /// @notice An outcome has settled. Anonymous and without a topic, because a topic costs more than the word it carries.
    /// Data: the last 20 bytes of the agreement id | kind u8 | epoch u32 | from u64 | t u64 | result (raw). `kind` is 1
    /// (value) or 2 (trap). These 20 bytes name an agreement as an address names a key; the whole id is in its
    /// `AgreementCreated`. No other log is without topics, beside `Attested`.
    event Settled() anonymous;
    /// @notice An outcome was verified and nothing stored. As `Settled`, but with bit 7 of the kind set (0x81, 0x82). It
    /// says nothing of order or replay: those who use it keep order themselves.
    event Attested() anonymous;
    /// @notice Consecutive outcomes have settled. Data: kind u8 | epoch u32 | from u64 | t u64 | root of the contexts 32 |
    /// entries (raw).
    event BatchSettled(bytes32 indexed agreement);
    /// @notice Comes right before `Settled` when reveals settle an outcome with disputed executions before it.
    event HolesAgreed(bytes32 indexed agreement, uint64[] holes);
    /// @notice All users have agreed that executions from `end` on never settle.
    event AgreementClosed(bytes32 indexed agreement, uint64 end);
    /// @notice Evidence was checked and recorded. `accused` is the node or sensor to blame, zero for unequal reveals;
    /// `agreement` is zero for a sensor. `point` is the execution t, or the q of a sensor.
    /// `evidence` is the whole calldata of the call that brought it.
    event DisputeRecorded(
        bytes32 indexed dispute,
        bytes32 indexed agreement,
        address indexed accused,
        DisputeKind kind,
        uint32 epoch,
        uint64 point,
        bytes evidence
    );
    /// @notice The users have agreed what counts at a disputed execution.
    event DisputeResolved(bytes32 indexed dispute, bytes32 indexed agreement, uint256 word, bytes32 context, bytes result);

    // ----------------------------------------------------------------------------------------------- errors

    error BadSignature(address expected);
    error NameEmptyOrTooLong();
    error DeclarationEmpty();
    error AlreadyRegistered(address user);
    error NotRegistered(address user);
    error RevisionNotNewer(uint32 given, uint32 stored);
    error TooFewUsers();
    error UsersNotAscending(uint256 index);
    error NodesNotAscending(uint256 index);
    error TrustOutOfRange(uint256 node);
    error TermsCut(uint256 needed, uint256 given);
    error UserSignaturesDiffer(uint256 given, uint256 users);
    error AcceptanceOfUserMissing(uint256 user);
    error AcceptanceIndexOutOfRange(uint256 index);
    error AlreadyCreated(bytes32 agreement);
    error TermsDoNotOpen(bytes32 agreement);
    error UsersDoNotOpen();
    error NodesDoNotOpen();
    error NotAnAgreement(bytes32 agreement);
    error AlreadyClosed(bytes32 agreement);
    error BeyondEnd(uint64 t, uint64 end);
    error EndBeforeSettled(uint64 end, uint64 nextT);
    error NotUnanimous();
    error KindNotSettled(uint256 kind);
    error EpochNotInForce(uint32 given, uint32 inForce);
    error FromIsNotNext(uint64 from, uint64 nextT);
    error RangeBackwards(uint64 from, uint64 t);
    error TrapWithResult();
    error NullWithResult();
    error EntriesMalformed(uint256 offset);
    error EntriesDoNotCover(uint256 entries, uint256 range);
    error HolesNotAscendingInRange(uint256 index);
    error NodeIndexOutOfRange(uint256 index);
    error SameCommit();
    error OpeningHashDiffers();
    error RevealOpensCommit();
    error RevealsEqual();
    error RevealsNotAscending(uint256 index);
    error TooFewReveals();
    error FrameMalformed(uint256 offset);
    error FramesOfDifferentEpochs();
    error FramesOfDifferentSensors();
    error MessageNotInFrame(uint64 q);
    error MessagesEqual(uint64 q);
    error AlreadyRecorded(bytes32 dispute);
    error NotADispute(bytes32 dispute);
    error AlreadyResolved(bytes32 dispute);
    error DisputeNotResolvable(bytes32 dispute);

    // ----------------------------------------------------------------------------------------- registration

    /// @notice Registers a user. Anyone may bring the user's signature.
    /// @dev Tail: user 20 | name, UTF-8, 1..=64 bytes. Signed: EIP-712 `User(address user,string name)`.
    function registerUser(Signature calldata signature) external;

    /// @notice Registers a sensor of a registered user, with the consent of the sensor's own key.
    /// @dev Tail: the encoded declaration. Signed by the owner: EIP-712
    /// `Sensor(address sensor,address owner,bytes32 declaration)`; by the sensor: the sensor registration digest.
    function registerSensor(address sensor, address owner, Signature calldata ownerSignature, Signature calldata consent)
        external;

    /// @notice Registers many sensors of one owner under one signature of the owner.
    /// @dev Signed by the owner: EIP-712 `Sensors(Sensor[] sensors)`; by each sensor as in `registerSensor`.
    function registerSensors(address owner, Signature calldata ownerSignature, SensorEntry[] calldata entries) external;

    /// @notice Registers an intermediate node of a registered user, or a new revision of its declaration (keys and
    /// network addresses). The protocol key's signature binds account, peer key and addresses.
    /// @dev Tail: the encoded declaration; its last four bytes are the revision. Revision 0 is accepted until a
    /// higher one is stored; after that only higher ones, so an old signed declaration cannot come back. Signed by the
    /// owner: EIP-712 `Node(address node,address owner,bytes32 declaration)`; by the node: the node registration digest.
    function registerNode(address node, address owner, Signature calldata ownerSignature, Signature calldata binding)
        external;

    // -------------------------------------------------------------------------------------------- agreements

    /// @notice Creates an agreement: signed by every user, accepted by at least one node of each, and the id opens to
    /// exactly these terms, so nobody can occupy the id with other ones.
    /// @dev Tail:
    ///     terms       n u8 | user 20, n times | m u8 | node 20 and trust u8, m times |
    ///                 sensorsRoot 32 | offChainCode 32 | conditions 32
    ///     signatures  r 32 and vs 32, n times: EIP-712 `Agreement(bytes32 agreement,Terms terms)`, in the order of users
    ///     acceptances node index u8, r 32 and vs 32, n times: for each user in order, the acceptance digest signed by a
    ///                 node that this user trusts
    ///     extra       whatever the parties publish with it, such as the sensors and the conditions in full
    /// Users (two or more, registered) and nodes are strictly ascending; trust is the index of the user that named the
    /// node; a node's place is its index in a round.
    /// @param agreement `a`. @param key `K.x` and `a.y`, as in `Opening`.
    function createAgreement(bytes32 agreement, bytes32[2] calldata key) external;

    /// @notice Ends an agreement: executions from `end` on never settle, those before it still do.
    /// @param userSignatures EIP-712 `Close(bytes32 agreement,uint64 end)` by every user, in order.
    function closeAgreement(
        bytes32 agreement,
        uint64 end,
        Opening calldata opening,
        address[] calldata users,
        Signature[] calldata userSignatures
    ) external;

    // -------------------------------------------------------------------------------------------- settlement

    /// @notice Settles one outcome under one aggregated signature of all nodes (BIP-340).
    /// @dev Calldata: selector 4 | rx 32 | ry 32 | s 32 | agreement 32 and then, not ABI encoded (the tail),
    /// kind u8 | epoch u32 | from u64 | t u64 | context 32 | result. The signature is `rx || s`; `ry` is the even y
    /// coordinate that belongs to `rx`. The verification key is the agreement id. What is signed:
    /// keccak(D || agreement || word || context || result) (wire-format §7), the word being the first 21 bytes of the tail
    /// after 11 zero bytes. Settles if the epoch is the one in force, `from` the next t of the agreement, `from <= t`,
    /// and the kind value, or trap without result.
    /// The types of the arguments are such that the dispatcher, which goes by the size of selectors, comes early to the
    /// cheap functions.
    function settle(Certificate calldata certificate) external;

    /// @notice Verifies one outcome as `settle` does, of whatever kind, emits it, and reads and writes no storage: no
    /// order, no replay protection, and not even a look whether the agreement exists.
    /// @dev Same calldata as `settle`.
    function attestCertificate(CertificateNumbers calldata certificate) external;

    /// @notice Settles consecutive outcomes under one aggregated signature.
    /// @dev Calldata as `settle`, with the root of the contexts in the place of the context, and the entries (wire-format
    /// §7) in the place of the result. The kind is 4. There is one entry for each t in `from..=t`.
    function settleBatch(Certificate calldata certificate) external;

    /// @notice Settles one outcome under the signed reveals of all nodes, which is a certificate of its own: whoever
    /// refuses to sign the aggregate only makes settlement dearer.
    /// @param holes Disputed t in `from..t`, strictly ascending.
    /// @param signatures Of the reveal digest, by every node in index order. The signers are recovered, and must be
    /// the nodes that the agreement id opens to.
    function settleByReveals(
        bytes32 agreement,
        uint256 word,
        bytes32 context,
        Opening calldata opening,
        uint64[] calldata holes,
        Signature[] calldata signatures,
        bytes calldata result
    ) external;

    // ---------------------------------------------------------------------------------------------- disputes

    /// @notice Two different signed commits of one node for one (a, t, epoch).
    function reportEquivocation(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata opening,
        address[] calldata nodes,
        uint256 node,
        Commit calldata first,
        Commit calldata second
    ) external;

    /// @notice A signed reveal that does not open the same node's signed commit. Secret and salt are tied to the
    /// commit by its opening hash, so nobody can pin a false secret on a node.
    function reportFalseReveal(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata opening,
        address[] calldata nodes,
        Commit calldata commit,
        bytes32 seal,
        bytes32 secret,
        bytes32 salt,
        Reveal calldata reveal
    ) external;

    /// @notice Two frames that one sensor signed, of one epoch, with different messages at `q`. No node is to blame.
    /// @param first An encoded frame with its signature (wire-format §3). @param second Another.
    /// @param parities Bit 0: parity of R.y in the first frame's signature, bit 1: in the second's.
    function reportSensorContradiction(uint64 q, bytes calldata first, bytes calldata second, uint8 parities) external;

    /// @notice Signed reveals (two or more, strictly ascending by node) of one (a, t, epoch) under one seal, which
    /// differ: t is a hole. Nobody is to blame, and later executions go on.
    function reportUnequalReveals(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        Opening calldata opening,
        address[] calldata nodes,
        bytes32 seal,
        Reveal[] calldata reveals
    ) external;

    /// @notice The users say together what counts at a disputed execution.
    /// @param word Kind, epoch, from and t of the outcome that counts; kind 0 (null), 1 or 2. If its epoch is the one
    /// in force, the resolution is a record: history goes on as it does. If it is the next one, the resolution also
    /// settles t (so `from` must be the next t) and the new epoch is in force from t + 1 on.
    /// @param userSignatures EIP-712 `Resolution(bytes32 dispute,bytes32 agreement,uint256 word,bytes32 context,bytes result)`
    /// by every user, in order.
    function resolve(
        bytes32 dispute,
        bytes32 agreement,
        uint256 word,
        bytes32 context,
        bytes calldata result,
        Opening calldata opening,
        address[] calldata users,
        Signature[] calldata userSignatures
    ) external;

    // ----------------------------------------------------------------------------------------------- getters

    /// @notice A user's registry: `count` entities (itself included) and the head over them, which an observer
    /// recomputes from events. It starts as the first 23 bytes of the user's EIP-712 struct hash, and
    /// head' = first 23 bytes of keccak(head 32 || struct hash of the entity 32). Zero if unknown.
    function users(address user) external view returns (bytes32 head, uint64 count);
    /// @notice Highest revision of a node's declaration above 0 that was registered; 0 if there was none.
    function nodeRevision(address node) external view returns (uint32 revision);
    /// @notice What the contract knows of an agreement. `head` is over its settled outcomes: it starts as the first 19
    /// bytes of the terms digest, and head' = first 19 bytes of keccak(slot 32 || digest of the outcome, batch, reveal
    /// with holes, or resolution), where slot = head 19 | status u8 | epoch u32 | nextT u64 before it. `end` is the t at which it is closed (2^64 - 1 while open).
    function agreements(bytes32 agreement)
        external
        view
        returns (Status status, uint64 nextT, uint32 epoch, bytes32 head, uint64 end);
    /// @notice A recorded dispute; the kind is `None` if there is no such record. `agreement` is the first 18 bytes of
    /// the id. Who is accused, and the evidence, are in the event.
    function disputes(bytes32 dispute)
        external
        view
        returns (DisputeKind kind, bool resolved, uint32 epoch, uint64 point, bytes18 agreement);
    /// @notice The id under which a dispute is recorded. For unequal reveals `accused` is zero; for a sensor the
    /// agreement is zero and `point` is q.
    function disputeId(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused)
        external
        pure
        returns (bytes32 dispute);
    /// @notice Whether unequal reveals of `t` are on record in this epoch.
    function isHole(bytes32 agreement, uint32 epoch, uint64 t) external view returns (bool);
    /// @notice The q from which on a sensor is void.
    function sensorVoid(address sensor) external view returns (bool void_, uint32 epoch, uint64 q);
    /// @notice `chain id u64 || this contract 20`: part of everything that is signed.
    function deployment() external view returns (bytes28);
    /// @notice EIP-712 domain separator.
    function domainSeparator() external view returns (bytes32);
}
