//! The interface of `MainContract` and its bytecode. A test compares both with each other.

use diversity_proto::Digest;
use serde::Deserialize;
use std::sync::OnceLock;

/// The compiled contract, embedded so that a binary needs no other file.
const ARTIFACT: &str = include_str!("../../../contracts/artifacts/MainContract.json");

/// Creation bytecode of `MainContract`; its constructor takes nothing.
pub fn creation_code() -> &'static [u8] {
    #[derive(Deserialize)]
    struct Artifact {
        bytecode: alloy::primitives::Bytes,
    }
    static CODE: OnceLock<Vec<u8>> = OnceLock::new();
    CODE.get_or_init(|| {
        let artifact: Artifact =
            serde_json::from_str(ARTIFACT).expect("the artifact is committed and tested");
        artifact.bytecode.to_vec()
    })
}

pub(crate) fn b256(d: &Digest) -> alloy::primitives::B256 {
    d.0.into()
}

pub(crate) use interface::IMainContract;

#[allow(missing_docs, clippy::all)]
mod interface {
    alloy::sol! {
        #[sol(abi)]
        #[derive(Debug, PartialEq, Eq)]
        interface IMainContract {
            struct Signature { bytes32 r; bytes32 vs; }
            struct SensorEntry { address sensor; Signature consent; bytes declaration; }
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
            struct Certificate { bytes32 rx; bytes32 ry; bytes32 s; bytes32 agreement; }
            struct CertificateNumbers { uint256 rx; uint256 ry; uint256 s; bytes32 agreement; }
            struct Commit { bytes32 commitment; bytes32 openingHash; Signature signature; }
            struct Computed {
                uint8 kind;
                bytes result;
                bytes32 detailRoot;
                bytes32 state;
                bytes32 trace;
                bytes32 windowHash;
            }
            struct Reveal { uint256 node; Computed computed; uint64 from; uint64[] holes; Signature signature; }
            enum DisputeKind { None, Equivocation, FalseReveal, SensorContradiction, UnequalReveals }
            enum Status { None, Open, Closing }

            event UserRegistered();
            event SensorRegistered(address indexed sensor, address indexed owner);
            event NodeRegistered(address indexed node, address indexed owner);
            event AgreementCreated(bytes32 indexed agreement);
            event Settled() anonymous;
            event Attested() anonymous;
            event BatchSettled(bytes32 indexed agreement);
            event HolesAgreed(bytes32 indexed agreement, uint64[] holes);
            event AgreementClosed(bytes32 indexed agreement, uint64 end);
            event DisputeRecorded(
                bytes32 indexed dispute,
                bytes32 indexed agreement,
                address indexed accused,
                DisputeKind kind,
                uint32 epoch,
                uint64 point,
                bytes evidence
            );
            event DisputeResolved(bytes32 indexed dispute, bytes32 indexed agreement, uint256 word, bytes32 context, bytes result);

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

            function registerUser(Signature calldata signature) external;
            function registerSensor(address sensor, address owner, Signature calldata ownerSignature, Signature calldata consent) external;
            function registerSensors(address owner, Signature calldata ownerSignature, SensorEntry[] calldata entries) external;
            function registerNode(address node, address owner, Signature calldata ownerSignature, Signature calldata binding) external;
            function createAgreement(bytes32 agreement, bytes32[2] calldata key) external;
            function closeAgreement(
                bytes32 agreement,
                uint64 end,
                Opening calldata opening,
                address[] calldata users,
                Signature[] calldata userSignatures
            ) external;
            function settle(Certificate calldata certificate) external;
            function attestCertificate(CertificateNumbers calldata certificate) external;
            function settleBatch(Certificate calldata certificate) external;
            function settleByReveals(
                bytes32 agreement,
                uint256 word,
                bytes32 context,
                Opening calldata opening,
                uint64[] calldata holes,
                Signature[] calldata signatures,
                bytes calldata result
            ) external;
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
            function reportSensorContradiction(uint64 q, bytes calldata first, bytes calldata second, uint8 parities) external;
            function reportUnequalReveals(
                bytes32 agreement,
                uint32 epoch,
                uint64 t,
                Opening calldata opening,
                address[] calldata nodes,
                bytes32 seal,
                Reveal[] calldata reveals
            ) external;
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

            function users(address user) external view returns (bytes32 head, uint64 count);
            function nodeRevision(address node) external view returns (uint32 revision);
            function agreements(bytes32 agreement) external view returns (Status status, uint64 nextT, uint32 epoch, bytes32 head, uint64 end);
            function disputes(bytes32 dispute) external view returns (DisputeKind kind, bool resolved, uint32 epoch, uint64 point, bytes18 agreement);
            function disputeId(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused) external view returns (bytes32 dispute);
            function isHole(bytes32 agreement, uint32 epoch, uint64 t) external view returns (bool);
            function sensorVoid(address sensor) external view returns (bool void_, uint32 epoch, uint64 q);
            function deployment() external view returns (bytes28);
            function domainSeparator() external view returns (bytes32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::json_abi::{Event, JsonAbi};
    use std::collections::BTreeSet;

    /// Everything that encoding depends on: names, types of arguments and results, what is indexed.
    fn shape(abi: &JsonAbi) -> BTreeSet<String> {
        let event = |e: &Event| {
            let indexed: Vec<_> = e.inputs.iter().map(|i| i.indexed).collect();
            format!(
                "event {} {indexed:?} anonymous {}",
                e.signature(),
                e.anonymous
            )
        };
        let function = |f: &alloy::json_abi::Function| {
            let outputs: Vec<_> = f
                .outputs
                .iter()
                .map(|o| o.selector_type().into_owned())
                .collect();
            format!("function {} -> {outputs:?}", f.signature())
        };
        abi.functions()
            .map(function)
            .chain(abi.events().map(event))
            .chain(abi.errors().map(|e| format!("error {}", e.signature())))
            .collect()
    }

    #[test]
    fn the_interface_is_that_of_the_compiled_contract() {
        #[derive(Deserialize)]
        struct Artifact {
            abi: JsonAbi,
        }
        let artifact: Artifact = serde_json::from_str(ARTIFACT).unwrap();
        let compiled = shape(&artifact.abi);
        let declared = shape(&IMainContract::abi::contract());
        let missing: Vec<_> = compiled.difference(&declared).collect();
        let surplus: Vec<_> = declared.difference(&compiled).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "abi.rs lacks {missing:#?} and declares in vain {surplus:#?}: bring it in line with contracts/src/IMainContract.sol"
        );
        assert!(creation_code().len() > 10_000);
    }
}
