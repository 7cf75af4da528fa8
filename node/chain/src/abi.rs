//! The interfaces of `MainContract` and `Cells`, and the bytecode of all that is deployed. A test compares both with each
//! other.

use diversity_proto::{Address, Digest};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The compiled contracts, embedded so that a binary needs no other file, in the order in which they are deployed: libraries
/// first, whose addresses are written into what links them, and `Cells` last, which is given the address of `MainContract`.
const ARTIFACTS: [(&str, &str); 5] = [
    (
        "Evidence",
        include_str!("../../../contracts/artifacts/Evidence.json"),
    ),
    (
        "Holes",
        include_str!("../../../contracts/artifacts/Holes.json"),
    ),
    (
        "Resolutions",
        include_str!("../../../contracts/artifacts/Resolutions.json"),
    ),
    (
        MAIN,
        include_str!("../../../contracts/artifacts/MainContract.json"),
    ),
    (
        CELLS,
        include_str!("../../../contracts/artifacts/Cells.json"),
    ),
];
const MAIN: &str = "MainContract";
const CELLS: &str = "Cells";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    bytecode: alloy::primitives::Bytes,
    link_references: BTreeMap<String, Vec<usize>>,
}

fn artifacts() -> &'static [(&'static str, Artifact)] {
    static ALL: OnceLock<Vec<(&str, Artifact)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let read = |text| serde_json::from_str(text).expect("artifacts are committed and tested");
        ARTIFACTS
            .iter()
            .map(|(name, text)| (*name, read(*text)))
            .collect()
    })
}

/// The contracts of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contracts {
    /// `MainContract`.
    pub main: Address,
    /// `Cells`.
    pub cells: Address,
}

/// A deployment, one transaction after another: [`Deploying::next`] says what, [`Deploying::placed`] is told where it was put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deploying {
    placed: Vec<Address>,
}

impl Deploying {
    /// A deployment that has come so far.
    pub fn after(placed: Vec<Address>) -> Self {
        Self { placed }
    }
    /// Name and creation bytecode of what is deployed next; none when all stands.
    pub fn next(&self) -> Option<(&'static str, Vec<u8>)> {
        let (name, artifact) = artifacts().get(self.placed.len())?;
        let mut code = artifact.bytecode.to_vec();
        for (library, places) in &artifact.link_references {
            let at = self.at(library).expect("libraries come first");
            for start in places {
                code[*start..*start + 20].copy_from_slice(&at.0);
            }
        }
        if *name == CELLS {
            code.extend_from_slice(&[0; 12]);
            code.extend_from_slice(&self.at(MAIN).expect("it comes first").0);
        }
        Some((*name, code))
    }
    /// Where that was put.
    pub fn placed(&mut self, at: Address) {
        self.placed.push(at);
    }
    /// The contracts, once all stands.
    pub fn contracts(&self) -> Option<Contracts> {
        Some(Contracts {
            main: self.at(MAIN)?,
            cells: self.at(CELLS)?,
        })
    }
    fn at(&self, name: &str) -> Option<Address> {
        let i = ARTIFACTS.iter().position(|(n, _)| *n == name)?;
        self.placed.get(i).copied()
    }
}

pub(crate) fn b256(d: &Digest) -> alloy::primitives::B256 {
    d.0.into()
}

pub(crate) use interface::{ICells, IMainContract};

#[allow(missing_docs, clippy::all)]
mod interface {
    alloy::sol! {
        #[sol(abi)]
        #[derive(Debug, PartialEq, Eq)]
        interface IMainContract {
            struct Signature {
                bytes32 r;
                bytes32 vs;
            }
            struct SensorEntry {
                address sensor;
                Signature consent;
                bytes declaration;
            }
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
            struct Certificate {
                bytes32 rx;
                bytes32 ry;
                bytes32 s;
                bytes32 agreement;
            }
            struct CertificateNumbers {
                uint256 rx;
                uint256 ry;
                uint256 s;
                bytes32 agreement;
            }
            struct Commit {
                bytes32 commitment;
                bytes32 openingHash;
                Signature signature;
            }
            struct Computed {
                uint8 kind;
                bytes result;
                bytes32 detailRoot;
                bytes32 state;
                bytes32 trace;
                bytes32 windowHash;
            }
            struct OpenedReveal {
                Computed computed;
                bytes32 secret;
                bytes32 salt;
                Signature signature;
            }
            struct Resolution {
                bytes32 agreement;
                uint64 t;
                uint8 kind;
                bytes result;
                bytes32 state;
            }
            struct Reveal {
                uint256 node;
                Computed computed;
                uint64 from;
                uint64[] holes;
                Signature signature;
            }
            enum DisputeKind {
                None,
                Equivocation,
                FalseReveal,
                SensorContradiction,
                UnequalReveals
            }
            enum Status {
                None,
                Open,
                Closing
            }
            event UserRegistered();
            event SensorRegistered(address indexed sensor, address indexed owner);
            event NodeRegistered(address indexed node, address indexed owner);
            event AgreementCreated(bytes32 indexed agreement);
            event Settled(bytes32 indexed agreement, uint64 indexed t, uint256 word, bytes32 context, bytes result);
            event Attested() anonymous;
            event BatchSettled(
                bytes32 indexed agreement, uint64 indexed t, uint256 word, bytes32 contexts, bytes entries
            );
            event HolesAgreed(bytes32 indexed agreement, uint64 indexed t, uint64[] holes);
            event HoleSettled(
                bytes32 indexed agreement, uint64 indexed t, uint256 word, bytes32 seal, bytes32 state, uint64[] holes
            );
            event Resolved(
                bytes32 indexed agreement,
                uint64 indexed t,
                uint256 word,
                bytes32 state,
                bytes result,
                bytes carry,
                uint64[] qNext
            );
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
            error EpochNotInForce(uint32 given, uint32 inForce);
            error EpochsSpent(uint32 inForce);
            error AlreadySettled(uint64 t, uint64 nextT);
            error FromBeyondNext(uint64 from, uint64 nextT);
            error NotTheNext(uint64 t, uint64 nextT);
            error TOutOfRange(uint64 t);
            error TrapWithResult();
            error NullWithResult();
            error EntriesMalformed(uint256 offset);
            error EntriesDoNotCover(uint256 entries, uint256 range);
            error HolesNotAscendingInRange(uint256 index);
            error TooManyHoles(uint256 given);
            error RangeTooLong(uint256 given);
            error NodeIndexOutOfRange(uint256 index);
            error SameCommit();
            error OpeningHashDiffers();
            error RevealOpensCommit();
            error NotOfEveryNode(uint256 given, uint256 nodes);
            error RevealDoesNotOpenCommit(uint256 node);
            error RevealsEqual();
            error ResultTooLong(uint256 given);
            error CarryTooLong(uint256 given);
            error StateDoesNotOpen(bytes32 recomputed);
            error SensorsDoNotOpen(uint256 count);
            error QOutOfRange(uint256 index);
            error CallNotExact(uint256 needed, uint256 given);
            error CallTooLong(uint256 given);
            error CallNotCanonical();
            error FrameMalformed(uint256 offset);
            error GapsAgree();
            error FramesOfDifferentSensors();
            error MessageNotInFrame(uint64 q);
            error MessagesEqual(uint64 q);
            error AlreadyRecorded(bytes32 dispute);
            function registerUser(Signature calldata signature) external;
            function registerSensor(address sensor, address owner, Signature calldata ownerSignature, Signature calldata consent)
                external;
            function registerSensors(address owner, Signature calldata ownerSignature, SensorEntry[] calldata entries) external;
            function registerNode(address node, address owner, Signature calldata ownerSignature, Signature calldata binding)
                external;
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
            function resolve(
                Resolution calldata resolution,
                bytes calldata carry,
                uint64[] calldata qNext,
                bytes32 sensors,
                Opening calldata opening,
                address[] calldata users,
                Signature[] calldata userSignatures
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
            function users(address user) external view returns (bytes32 head, uint64 count);
            function nodeRevision(address node) external view returns (uint32 revision);
            function agreements(bytes32 agreement)
                external
                view
                returns (Status status, uint64 nextT, uint32 epoch, bytes24 head, uint64 end);
            function disputes(bytes32 dispute)
                external
                view
                returns (DisputeKind kind, uint32 epoch, uint64 point, bytes18 agreement);
            function disputeId(DisputeKind kind, bytes32 agreement, uint32 epoch, uint64 point, address accused)
                external
                pure
                returns (bytes32 dispute);
            function isHole(bytes32 agreement, uint32 epoch, uint64 t) external view returns (bool);
            function sensorVoid(address sensor) external view returns (bool void_, uint32 epoch, uint64 q);
            function deployment() external view returns (bytes28);
            function domainSeparator() external view returns (bytes32);
        }
        #[sol(abi)]
        #[derive(Debug, PartialEq, Eq)]
        interface ICells {
            enum Writer {
                None,
                SecondReading,
                Users,
                Referee,
                Arbiter
            }
            event CellWritten(
                bytes32 indexed agreement,
                uint64 indexed t,
                uint8 writer,
                uint256 word,
                bytes32 context,
                bytes32 state,
                bytes result,
                bytes carry,
                uint64[] qNext
            );
            error NotBehindTheDoor(uint64 t, uint64 nextT);
            error CellTaken(bytes32 agreement, uint64 t, Writer writer);
            error EpochNotMarked(uint32 epoch);
            error FromIsNotT(uint64 from, uint64 t);
            function resolve(
                IMainContract.Resolution calldata resolution,
                bytes calldata carry,
                uint64[] calldata qNext,
                bytes32 sensors,
                IMainContract.Opening calldata opening,
                address[] calldata users,
                IMainContract.Signature[] calldata userSignatures
            ) external;
            function settleReading(
                IMainContract.Certificate calldata certificate,
                uint256 word,
                bytes32 context,
                bytes calldata result
            ) external;
            function cell(bytes32 agreement, uint64 t) external view returns (Writer writer, uint256 word, bytes32 digest);
            function main() external view returns (address);
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

    fn compiled(name: &str) -> BTreeSet<String> {
        #[derive(Deserialize)]
        struct Compiled {
            abi: JsonAbi,
        }
        let (_, text) = ARTIFACTS.iter().find(|(n, _)| *n == name).unwrap();
        shape(&serde_json::from_str::<Compiled>(text).unwrap().abi)
    }

    fn same(compiled: &BTreeSet<String>, declared: &BTreeSet<String>) {
        let missing: Vec<_> = compiled.difference(declared).collect();
        let surplus: Vec<_> = declared.difference(compiled).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "abi.rs lacks {missing:#?} and declares in vain {surplus:#?}: bring it in line with contracts/src/I*.sol"
        );
    }

    #[test]
    fn the_interfaces_are_those_of_the_compiled_contracts() {
        let main = shape(&IMainContract::abi::contract());
        same(&compiled(MAIN), &main);
        // Cells answers its libraries as MainContract does, and reverts in the words of both.
        let without_main = |all: BTreeSet<String>| all.difference(&main).cloned().collect();
        let cells = shape(&ICells::abi::contract());
        same(&without_main(compiled(CELLS)), &without_main(cells));
    }

    #[test]
    fn a_deployment_links_what_stands_before_it() {
        let mut deploying = Deploying::default();
        let mut names = Vec::new();
        let mut all = Vec::new();
        while let Some((name, code)) = deploying.next() {
            assert!(code.len() > 1_000, "{name}");
            names.push(name);
            all.push(code);
            assert_eq!(deploying.contracts(), None);
            deploying.placed(Address([names.len() as u8; 20]));
        }
        assert_eq!(
            names,
            ["Evidence", "Holes", "Resolutions", "MainContract", "Cells"]
        );
        let holds = |code: &[u8], at: u8| code.windows(20).any(|w| w == [at; 20]);
        assert!((1..=3).all(|at| holds(&all[3], at)));
        assert!(holds(&all[4], 3) && all[4].ends_with(&[4; 20]));
        let found = deploying.contracts().unwrap();
        assert_eq!((found.main.0[0], found.cells.0[0]), (4, 5));
    }
}
