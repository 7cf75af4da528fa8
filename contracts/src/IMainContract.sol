// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Registration, verified settlement and evidence of DIVERSITY agreements
/// @notice One contract for all users, sensors, intermediate nodes and agreements of a deployment. Every byte that is
/// hashed or signed is in `docs/wire-format.md`; names follow the DIVERSITY paper (§3).
/// @dev Tails. Where one payload of free length ends a call, it is not ABI encoded: it is the bytes that follow the
/// static arguments in calldata (length = calldata size - 4 - 32 * number of arguments). In the same way the event of
/// such a call may have that payload, raw, as (the end of) its data. Each function says which. This saves two words and
/// the padding. Every tail is covered by a signature, so nothing can be appended unseen, but for the extra bytes of
/// `createAgreement`, which prove themselves. Calls that bring evidence are emitted whole, so they are refused if they are
/// anything but the plain encoding of their arguments (`CallNotExact`, `CallNotCanonical`).
///
/// One switch. An agreement has a position: the next t and the epoch in force. Every form of settlement (`settle`,
/// `settleBatch`, `settleByReveals`, `settleHole`) demands `from <= nextT <= t`, t before the end of the agreement, and the
/// epoch in force or the next one; it sets nextT to t + 1 and puts that epoch in force. What is folded into the head is
/// the whole signed digest, of which nextT..t counts. So forms that overlap never strand one another. Every t is below
/// 2^40 - 1, and an epoch that settles here below 2^16. A *marked* epoch, `reading u16 << 16 | epoch u16` with a reading of
/// 1 or more, names a second reading of t: it settles in `ICells` alone, and is taken here as evidence only.
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

    /// @notice A node's signed reveal, with the secret and the salt that open its commit.
    struct OpenedReveal {
        Computed computed;
        bytes32 secret;
        bytes32 salt;
        Signature signature;
    }

    /// @notice What the users say together of one execution; signed as the EIP-712 struct of the same name. The same
    /// signatures serve `resolve` here and in `ICells`: the position of the agreement decides which.
    /// @param kind 0 null, 1 value, 2 trap. @param state `state'`, from which t + 1 starts.
    struct Resolution {
        bytes32 agreement;
        uint64 t;
        uint8 kind;
        bytes result;
        bytes32 state;
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
        /// Two frames of one sensor with different bodies at one q, in one boot epoch or in two, or a message and a gap
        /// there: the sensor is void from that q on.
        SensorContradiction,
        /// A hole certificate has settled t: without blame.
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
    /// @notice An outcome has settled. What was signed, and folded, is keccak(D || agreement || word || context || result)
    /// (wire-format §7), unless `HolesAgreed` of the same t comes right before it. `word` is kind (1 value, 2 trap), epoch,
    /// from and t; of from..t, what lies at the next t or behind it counts.
    event Settled(bytes32 indexed agreement, uint64 indexed t, uint256 word, bytes32 context, bytes result);
    /// @notice An outcome was verified and nothing stored. Anonymous and without a topic, because a topic costs more than
    /// the word it carries. Data: the last 20 bytes of the agreement id | kind u8, with bit 7 set | epoch u32 | from u64 |
    /// t u64 | result (raw). These 20 bytes name an agreement as an address names a key; the whole id is in its
    /// `AgreementCreated`. No other log is without topics. It says nothing of order or replay: those who use it keep order
    /// themselves.
    event Attested() anonymous;
    /// @notice Consecutive outcomes have settled; folded: keccak(B || agreement || word || contexts || entries). `contexts`
    /// is the root of their contexts; `entries` as in wire-format §7, one for each t in from..=t.
    event BatchSettled(
        bytes32 indexed agreement, uint64 indexed t, uint256 word, bytes32 contexts, bytes entries
    );
    /// @notice Comes right before `Settled` when reveals settle an outcome with disputed executions before it. What was
    /// signed, and folded, is then the reveal digest over the outcome's digest and this list.
    event HolesAgreed(bytes32 indexed agreement, uint64 indexed t, uint64[] holes);
    /// @notice A hole certificate has settled t: no outcome stands there. Folded is the hole digest over exactly these
    /// values. The kind in the word is 5, or 3 if all n nodes abstained. `state` is the state' that all reveals carry,
    /// zero if they differ in it or one of them abstained. The evidence is in the `DisputeRecorded` right before it.
    event HoleSettled(
        bytes32 indexed agreement, uint64 indexed t, uint256 word, bytes32 seal, bytes32 state, uint64[] holes
    );
    /// @notice The users have settled t themselves. `word` has the epoch that this puts in force, and from = t. Folded:
    /// keccak(tag(RESOLUTION) || deployment || agreement || word || struct hash of the resolution).
    event Resolved(
        bytes32 indexed agreement,
        uint64 indexed t,
        uint256 word,
        bytes32 state,
        bytes result,
        bytes carry,
        uint64[] qNext
    );
    /// @notice All users have agreed that executions from `end` on never settle.
    event AgreementClosed(bytes32 indexed agreement, uint64 end);
    /// @notice Evidence was checked and recorded. `accused` is the node or sensor to blame, zero for unequal reveals;
    /// `agreement` is zero for a sensor. `point` is the execution t, or the q of a sensor; `epoch` the epoch of the
    /// agreement, which may be marked, or the lower boot epoch of the two frames.
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

    // ----------------------------------------------------------------------------------------------- errors

    error BadSignature(address expected);
    error NameEmptyOrTooLong();
    error DeclarationEmpty();
    error DeclarationTooLong(uint256 given);
    error AlreadyRegistered(address user);
    error NotRegistered(address user);
    error RevisionNotNewer(uint32 given, uint32 stored);
    error TooFewUsers();
    error TooManyUsers(uint256 given);
    error TooManyNodes(uint256 given);
    error UsersNotAscending(uint256 index);
    error NodesNotAscending(uint256 index);
    error TrustOutOfRange(uint256 node);
    error TermsCut(uint256 needed, uint256 given);
    /// More is published with an agreement than terms can be.
    error TermsTooLong(uint256 given);
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
    /// The epoch is neither the one in force nor the next, or it is marked.
    error EpochNotInForce(uint32 given, uint32 inForce);
    /// There is no further epoch for a resolution to put in force.
    error EpochsSpent(uint32 inForce);
    /// `t` is settled already.
    error AlreadySettled(uint64 t, uint64 nextT);
    /// Nothing may settle that leaves the next t behind, undecided.
    error FromBeyondNext(uint64 from, uint64 nextT);
    /// In band, the users settle the next t and no other.
    error NotTheNext(uint64 t, uint64 nextT);
    error TOutOfRange(uint64 t);
    error TrapWithResult();
    error NullWithResult();
    error EntriesMalformed(uint256 offset);
    error EntriesDoNotCover(uint256 entries, uint256 range);
    error HolesNotAscendingInRange(uint256 index);
    error TooManyHoles(uint256 given);
    /// A batch covers more executions than readers take.
    error RangeTooLong(uint256 given);
    error NodeIndexOutOfRange(uint256 index);
    error SameCommit();
    error OpeningHashDiffers();
    error RevealOpensCommit();
    /// A hole takes a commit and a reveal of every node.
    error NotOfEveryNode(uint256 given, uint256 nodes);
    error RevealDoesNotOpenCommit(uint256 node);
    error RevealsEqual();
    error ResultTooLong(uint256 given);
    error CarryTooLong(uint256 given);
    error StateDoesNotOpen(bytes32 recomputed);
    /// `sensorsRoot` is not that of so many sensors with this root.
    error SensorsDoNotOpen(uint256 count);
    error QOutOfRange(uint256 index);
    /// A call that brings evidence is exactly as long as its arguments.
    error CallNotExact(uint256 needed, uint256 given);
    /// Evidence longer than readers take.
    error CallTooLong(uint256 given);
    /// A call that brings evidence has the one plain encoding of its arguments: no gaps, nothing shared, clean padding.
    error CallNotCanonical();
    error FrameMalformed(uint256 offset);
    /// Two gaps say nothing against one another.
    error GapsAgree();
    error FramesOfDifferentSensors();
    error MessageNotInFrame(uint64 q);
    error MessagesEqual(uint64 q);
    error AlreadyRecorded(bytes32 dispute);

    // ----------------------------------------------------------------------------------------- registration

    /// @notice Registers a user. Anyone may bring the user's signature.
    /// @dev Tail: user 20 | name, UTF-8, 1..=64 bytes. Signed: EIP-712 `User(address user,string name)`.
    function registerUser(Signature calldata signature) external;

    /// @notice Registers a sensor of a registered user, with the consent of the sensor's own key.
    /// @dev Tail: the encoded declaration. Signed by the owner: EIP-712
    /// `Sensor(address sensor,address owner,bytes32 declaration,uint64 count)`, where `count` is that of `users(owner)` before
    /// this registration, so that it registers once; by the sensor: the sensor registration digest.
    function registerSensor(address sensor, address owner, Signature calldata ownerSignature, Signature calldata consent)
        external;

    /// @notice Registers many sensors of one owner under one signature of the owner.
    /// @dev Signed by the owner: EIP-712 `Sensors(Sensor[] sensors)`, in which `count` grows by one with each; by each sensor as in `registerSensor`.
    function registerSensors(address owner, Signature calldata ownerSignature, SensorEntry[] calldata entries) external;

    /// @notice Registers an intermediate node of a registered user, or a new revision of its declaration (keys and
    /// network addresses). The protocol key's signature binds account, peer key and addresses.
    /// @dev Tail: the encoded declaration; its last four bytes are the revision. Revision 0 is accepted until a
    /// higher one is stored; after that only higher ones, so an old signed declaration cannot come back. Signed by the
    /// owner: EIP-712 `Node(address node,address owner,bytes32 declaration,uint64 count)`, with `count` as for a sensor; by the node: the node registration digest.
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
    /// Users (2 to 32, registered) and nodes (100 at most) are strictly ascending; trust is the index of the user that named the
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
    /// after 11 zero bytes. Settles by the one switch, if the kind is value, or trap without result.
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

    /// @notice Settles t as a hole, under the commits and the opened reveals of all nodes.
    /// @dev All n commits, in index order, are signed; the seal is recomputed from them; all n reveals, in the same order,
    /// open their commits and are signed under that seal with this `from` and these `holes`; and what they computed is
    /// not all the same, or every one abstained. Records the dispute `UnequalReveals` too, so that `DisputeRecorded` shows
    /// the evidence.
    /// @param epoch In force or next. @param from The first t of which the reveals speak. @param holes Disputed t in
    /// `from..t`, strictly ascending.
    function settleHole(
        bytes32 agreement,
        uint32 epoch,
        uint64 t,
        uint64 from,
        uint64[] calldata holes,
        Opening calldata opening,
        address[] calldata nodes,
        Commit[] calldata commits,
        OpenedReveal[] calldata reveals
    ) external;

    /// @notice All users settle the next t themselves, whatever became of it: `resolution.t` must be the next t. Puts the
    /// epoch in force + 2 in force (nodes may be one ahead of the chain), and sets nextT to t + 1. For a t that is behind,
    /// see `ICells`.
    /// @param carry What `f` is given at t + 1, at most 1 MiB. @param qNext Where the window t + 1 of each sensor starts, in
    /// agreement order, each below 2^62. Both must hash to `resolution.state`.
    /// @param sensors Merkle root of the sensor leaves; with the number of `qNext` it opens `sensorsRoot`.
    /// @param userSignatures EIP-712 `Resolution(bytes32 agreement,uint64 t,uint8 kind,bytes result,bytes32 state)` by every
    /// user, in order.
    function resolve(
        Resolution calldata resolution,
        bytes calldata carry,
        uint64[] calldata qNext,
        bytes32 sensors,
        Opening calldata opening,
        address[] calldata users,
        Signature[] calldata userSignatures
    ) external;

    // ---------------------------------------------------------------------------------------------- disputes

    /// @notice Two different signed commits of one node for one (a, t, epoch). A record: it settles nothing.
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

    /// @notice A signed reveal that does not open the same node's signed commit. A record: it settles nothing. Secret and
    /// salt are tied to the commit by its opening hash, so nobody can pin a false secret on a node: all that is judged is
    /// under the node's own two signatures.
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

    /// @notice Two frames that one sensor signed, of one boot epoch or of two, which contradict one another at `q`: two
    /// different messages, or a message and a gap. No node is to blame. A contradiction at a lower q than the one on
    /// record is recorded too.
    /// @param first An encoded frame with its signature (wire-format §3). @param second Another.
    /// @param parities Bit 0: parity of R.y in the first frame's signature, bit 1: in the second's.
    function reportSensorContradiction(uint64 q, bytes calldata first, bytes calldata second, uint8 parities) external;

    // ----------------------------------------------------------------------------------------------- getters

    /// @notice A user's registry: `count` entities (itself included) and the head over them, which an observer
    /// recomputes from events. It starts as the first 23 bytes of the user's EIP-712 struct hash, and
    /// head' = first 23 bytes of keccak(head 32 || struct hash of the entity 32). Zero if unknown.
    function users(address user) external view returns (bytes32 head, uint64 count);
    /// @notice Highest revision of a node's declaration that was registered; 0 also if there was none.
    function nodeRevision(address node) external view returns (uint32 revision);
    /// @notice What the contract knows of an agreement. `head` is over all that settled: it starts as the first 24 bytes
    /// of the terms digest, and head' = first 24 bytes of keccak(head 24 || 0^8 || digest 32) for the digest of each outcome,
    /// batch, reveal with holes, hole and resolution. `epoch` is the one in force. `end` is the t at which it is closed
    /// (2^64 - 1 while open).
    function agreements(bytes32 agreement)
        external
        view
        returns (Status status, uint64 nextT, uint32 epoch, bytes24 head, uint64 end);
    /// @notice A recorded dispute; the kind is `None` if there is no such record. `agreement` is the first 18 bytes of
    /// the id. Who is accused, and the evidence, are in the event.
    function disputes(bytes32 dispute)
        external
        view
        returns (DisputeKind kind, uint32 epoch, uint64 point, bytes18 agreement);
    /// @notice The id under which a dispute is recorded. For unequal reveals `accused` is zero; for a sensor the
    /// agreement is zero and `point` is q.
    function disputeId(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused)
        external
        pure
        returns (bytes32 dispute);
    /// @notice Whether a hole certificate has settled `t` in this epoch.
    function isHole(bytes32 agreement, uint32 epoch, uint64 t) external view returns (bool);
    /// @notice The lowest q from which on a sensor is void, and the lower boot epoch of the two frames that show it.
    function sensorVoid(address sensor) external view returns (bool void_, uint32 epoch, uint64 q);
    /// @notice `chain id u64 || this contract 20`: part of everything that is signed.
    function deployment() external view returns (bytes28);
    /// @notice EIP-712 domain separator.
    function domainSeparator() external view returns (bytes32);
}
