// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title The errors of IMainContract as functions, so that `abi.encodeCall` checks their arguments
interface Errors {
    function BadSignature(address expected) external;
    function NameEmptyOrTooLong() external;
    function DeclarationEmpty() external;
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
    function EpochNotInForce(uint32 given, uint32 inForce) external;
    function FromIsNotNext(uint64 from, uint64 nextT) external;
    function RangeBackwards(uint64 from, uint64 t) external;
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
    function RevealsNotAscending(uint256 index) external;
    function TooFewReveals() external;
    function FrameMalformed(uint256 offset) external;
    function FramesOfDifferentEpochs() external;
    function FramesOfDifferentSensors() external;
    function MessageNotInFrame(uint64 q) external;
    function MessagesEqual(uint64 q) external;
    function AlreadyRecorded(bytes32 dispute) external;
    function NotADispute(bytes32 dispute) external;
    function AlreadyResolved(bytes32 dispute) external;
    function DisputeNotResolvable(bytes32 dispute) external;
}
