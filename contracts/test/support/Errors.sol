// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title The errors of IMainContract as functions, so that `abi.encodeCall` checks their arguments
interface Errors {
    function BadSignature(address expected) external;
    function NameEmptyOrTooLong() external;
    function DeclarationEmpty() external;
    function DeclarationTooLong(uint256 given) external;
    function AlreadyRegistered(address user) external;
    function NotRegistered(address user) external;
    function RevisionNotNewer(uint32 given, uint32 stored) external;
    function TooFewUsers() external;
    function UsersNotAscending(uint256 index) external;
    function NodesNotAscending(uint256 index) external;
    function TrustOutOfRange(uint256 node) external;
    function TermsCut(uint256 needed, uint256 given) external;
    function UserSignaturesDiffer(uint256 given, uint256 users) external;
    function AcceptanceOfUserMissing(uint256 user) external;
    function AcceptanceIndexOutOfRange(uint256 index) external;
    function AlreadyCreated(bytes32 agreement) external;
    function TermsDoNotOpen(bytes32 agreement) external;
    function UsersDoNotOpen() external;
    function NodesDoNotOpen() external;
    function NotAnAgreement(bytes32 agreement) external;
    function AlreadyClosed(bytes32 agreement) external;
    function BeyondEnd(uint64 t, uint64 end) external;
    function EndBeforeSettled(uint64 end, uint64 nextT) external;
    function NotUnanimous() external;
    function KindNotSettled(uint256 kind) external;
    function TrapWithResult() external;
    function NullWithResult() external;
    function EntriesMalformed(uint256 offset) external;
    function EntriesDoNotCover(uint256 entries, uint256 range) external;
    function HolesNotAscendingInRange(uint256 index) external;
    function NodeIndexOutOfRange(uint256 index) external;
    function SameCommit() external;
    function OpeningHashDiffers() external;
    function RevealOpensCommit() external;
    function RevealsEqual() external;
    function FrameMalformed(uint256 offset) external;
    function FramesOfDifferentSensors() external;
    function MessageNotInFrame(uint64 q) external;
    function MessagesEqual(uint64 q) external;
    function AlreadyRecorded(bytes32 dispute) external;
    function TooManyNodes(uint256 given) external;
    function TooManyUsers(uint256 given) external;
    function TermsTooLong(uint256 given) external;
    function TooManyHoles(uint256 given) external;
    function RangeTooLong(uint256 given) external;
    function CallTooLong(uint256 given) external;
    function EpochNotInForce(uint32 given, uint32 inForce) external;
    function EpochsSpent(uint32 inForce) external;
    function AlreadySettled(uint64 t, uint64 nextT) external;
    function FromBeyondNext(uint64 from, uint64 nextT) external;
    function NotTheNext(uint64 t, uint64 nextT) external;
    function TOutOfRange(uint64 t) external;
    function NotOfEveryNode(uint256 given, uint256 nodes) external;
    function RevealDoesNotOpenCommit(uint256 node) external;
    function ResultTooLong(uint256 given) external;
    function CarryTooLong(uint256 given) external;
    function StateDoesNotOpen(bytes32 recomputed) external;
    function SensorsDoNotOpen(uint256 count) external;
    function QOutOfRange(uint256 index) external;
    function CallNotExact(uint256 needed, uint256 given) external;
    function CallNotCanonical() external;
    function GapsAgree() external;
}

/// @title The same of ICells
interface CellErrors {
    function NotBehindTheDoor(uint64 t, uint64 nextT) external;
    function CellTaken(bytes32 agreement, uint64 t, uint8 writer) external;
    function EpochNotMarked(uint32 epoch) external;
    function FromIsNotT(uint64 from, uint64 t) external;
}
