//! What a revert of `MainContract` or `Cells` means: in words for people, and as a class for the outbox.

use crate::abi::ICells::ICellsErrors;
use crate::abi::IMainContract::IMainContractErrors as E;
use alloy::primitives::hex;
use alloy::sol_types::{Panic, Revert, SolError, SolInterface};

/// What to do about a revert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevertClass {
    /// What the call wanted is so already, or can never be wanted again, it says: look whether the state says so too
    /// ([`crate::goal::Goal`]) before it is dropped.
    Pointless,
    /// Something else has to come first: try again after the next block.
    NotYet,
    /// The call is wrong as it is.
    Wrong,
}

/// A decoded revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRevert {
    /// What to do.
    pub class: RevertClass,
    /// The error's name, such as `FromBeyondNext`; empty if it has none.
    pub name: &'static str,
    /// One sentence.
    pub words: String,
}

/// Decodes revert bytes.
pub fn explain(data: &[u8]) -> ExplainedRevert {
    let wrong = |name, words: String| ExplainedRevert {
        class: RevertClass::Wrong,
        name,
        words,
    };
    if data.is_empty() {
        return wrong(
            "",
            "the contract reverted without a reason: is this the address of MainContract, and does the chain know its opcodes?".into(),
        );
    }
    if let Ok(error) = E::abi_decode(data) {
        let (class, name, words) = contract_error(&error);
        return ExplainedRevert { class, name, words };
    }
    if let Ok(error) = ICellsErrors::abi_decode(data) {
        let (class, name, words) = cells_error(&error);
        return ExplainedRevert { class, name, words };
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return wrong("Error", format!("the contract says: {}", revert.reason));
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return wrong(
            "Panic",
            format!("the contract panicked (code {:#x})", panic.code),
        );
    }
    let shown = &data[..data.len().min(36)];
    wrong(
        "",
        format!(
            "the contract reverted with an unknown error {}",
            hex::encode_prefixed(shown)
        ),
    )
}

macro_rules! is {
    ($class:expr, $name:literal, $($words:tt)*) => {
        ($class, $name, format!($($words)*))
    };
}

fn cells_error(error: &ICellsErrors) -> (RevertClass, &'static str, String) {
    use RevertClass::{NotYet, Pointless, Wrong};
    match error {
        ICellsErrors::NotBehindTheDoor(e) => is!(
            NotYet,
            "NotBehindTheDoor",
            "the first reading of t = {} has not ended on chain yet: t = {} is the next one",
            e.t,
            e.nextT
        ),
        ICellsErrors::CellTaken(e) => is!(
            Pointless,
            "CellTaken",
            "the cell of t = {} is written already",
            e.t
        ),
        ICellsErrors::EpochNotMarked(e) => is!(
            Wrong,
            "EpochNotMarked",
            "epoch {} is not that of a second reading",
            e.epoch
        ),
        ICellsErrors::FromIsNotT(e) => is!(
            Wrong,
            "FromIsNotT",
            "a second reading of t = {} cannot start at t = {}",
            e.t,
            e.from
        ),
    }
}

fn contract_error(error: &E) -> (RevertClass, &'static str, String) {
    use RevertClass::{NotYet, Pointless, Wrong};
    match error {
        E::BadSignature(e) => is!(
            Wrong,
            "BadSignature",
            "a signature is not by {}: sign again with its key",
            e.expected
        ),
        E::NameEmptyOrTooLong(_) => is!(
            Wrong,
            "NameEmptyOrTooLong",
            "the name must have 1 to 64 bytes"
        ),
        E::DeclarationEmpty(_) => is!(Wrong, "DeclarationEmpty", "the declaration is empty"),
        E::DeclarationTooLong(e) => is!(
            Wrong,
            "DeclarationTooLong",
            "a declaration of {} bytes: {} at most",
            e.given,
            diversity_proto::entity::DECLARATION_BYTES_MAX
        ),
        E::AlreadyRegistered(e) => is!(
            Pointless,
            "AlreadyRegistered",
            "user {} is registered already",
            e.user
        ),
        E::NotRegistered(e) => is!(
            NotYet,
            "NotRegistered",
            "user {} is not registered yet: register it first",
            e.user
        ),
        E::RevisionNotNewer(e) => is!(
            Pointless,
            "RevisionNotNewer",
            "the node has revision {} of its declaration already, this is revision {}",
            e.stored,
            e.given
        ),
        E::TooManyUsers(e) => is!(
            Wrong,
            "TooManyUsers",
            "{} users are more than an agreement may have ({})",
            e.given,
            diversity_proto::terms::USERS_MAX
        ),
        E::TermsTooLong(e) => is!(
            Wrong,
            "TermsTooLong",
            "{} bytes are published with the agreement: {} at most",
            e.given,
            diversity_proto::terms::TERMS_BYTES_MAX
        ),
        E::TooManyNodes(e) => is!(
            Wrong,
            "TooManyNodes",
            "{} nodes are more than an agreement may have (100)",
            e.given
        ),
        E::TooFewUsers(_) => is!(Wrong, "TooFewUsers", "an agreement needs two users or more"),
        E::UsersNotAscending(e) => is!(
            Wrong,
            "UsersNotAscending",
            "the users are not strictly ascending at position {}",
            e.index
        ),
        E::NodesNotAscending(e) => is!(
            Wrong,
            "NodesNotAscending",
            "the nodes are not strictly ascending at position {}",
            e.index
        ),
        E::TrustOutOfRange(e) => is!(
            Wrong,
            "TrustOutOfRange",
            "node {} is trusted by a user that does not exist",
            e.node
        ),
        E::TermsCut(e) => is!(
            Wrong,
            "TermsCut",
            "the call has {} bytes, but its terms and their signatures take {}",
            e.given,
            e.needed
        ),
        E::UserSignaturesDiffer(e) => is!(
            Wrong,
            "UserSignaturesDiffer",
            "{} signatures were given for {} users",
            e.given,
            e.users
        ),
        E::AcceptanceOfUserMissing(e) => is!(
            Wrong,
            "AcceptanceOfUserMissing",
            "no node that user {} trusts has accepted",
            e.user
        ),
        E::AcceptanceIndexOutOfRange(e) => is!(
            Wrong,
            "AcceptanceIndexOutOfRange",
            "acceptance {} names a node that does not exist",
            e.index
        ),
        E::AlreadyCreated(e) => is!(
            Pointless,
            "AlreadyCreated",
            "agreement {} exists already",
            e.agreement
        ),
        E::TermsDoNotOpen(e) => is!(
            Wrong,
            "TermsDoNotOpen",
            "agreement id {} does not belong to these terms and this aggregate key",
            e.agreement
        ),
        E::UsersDoNotOpen(_) => is!(
            Wrong,
            "UsersDoNotOpen",
            "these are not the users of the agreement"
        ),
        E::NodesDoNotOpen(_) => is!(
            Wrong,
            "NodesDoNotOpen",
            "these are not the nodes of the agreement, or one of the signatures is not theirs"
        ),
        E::NotAnAgreement(e) => is!(
            NotYet,
            "NotAnAgreement",
            "agreement {} does not exist on this chain (yet)",
            e.agreement
        ),
        E::AlreadyClosed(e) => is!(
            Pointless,
            "AlreadyClosed",
            "agreement {} is closed already",
            e.agreement
        ),
        E::BeyondEnd(e) => is!(
            Pointless,
            "BeyondEnd",
            "the agreement ends at t = {}, so t = {} never settles",
            e.end,
            e.t
        ),
        E::EndBeforeSettled(e) => is!(
            Wrong,
            "EndBeforeSettled",
            "the end {} lies before t = {}, up to which everything has settled",
            e.end,
            e.nextT
        ),
        E::NotUnanimous(_) => is!(
            Wrong,
            "NotUnanimous",
            "the aggregated signature is not by all nodes of the agreement over this outcome"
        ),
        E::KindNotSettled(e) => is!(
            Wrong,
            "KindNotSettled",
            "an output of kind {} does not settle",
            e.kind
        ),
        E::EpochNotInForce(e) if e.given >> 16 != 0 => is!(
            Wrong,
            "EpochNotInForce",
            "epoch {} is that of a second reading, which settles in Cells alone",
            e.given
        ),
        E::EpochNotInForce(e) if e.given < e.inForce => is!(
            Pointless,
            "EpochNotInForce",
            "epoch {} is over, epoch {} is in force",
            e.given,
            e.inForce
        ),
        E::EpochNotInForce(e) => is!(
            NotYet,
            "EpochNotInForce",
            "epoch {} cannot be put in force yet, epoch {} is",
            e.given,
            e.inForce
        ),
        E::EpochsSpent(e) => is!(
            Wrong,
            "EpochsSpent",
            "epoch {} is in force, and there is none behind it: make another agreement",
            e.inForce
        ),
        E::AlreadySettled(e) => is!(
            Pointless,
            "AlreadySettled",
            "t = {} has settled already: the next one is t = {}",
            e.t,
            e.nextT
        ),
        E::FromBeyondNext(e) => is!(
            NotYet,
            "FromBeyondNext",
            "it starts at t = {}, and t = {} has to settle first",
            e.from,
            e.nextT
        ),
        E::NotTheNext(e) if e.t < e.nextT => is!(
            Pointless,
            "NotTheNext",
            "t = {} is behind, the next one is t = {}: what the users say of it belongs in its cell",
            e.t,
            e.nextT
        ),
        E::NotTheNext(e) => is!(
            NotYet,
            "NotTheNext",
            "t = {} cannot be resolved before t = {} has settled",
            e.t,
            e.nextT
        ),
        E::TOutOfRange(e) => is!(Wrong, "TOutOfRange", "t = {} is too large", e.t),
        E::TrapWithResult(_) => is!(Wrong, "TrapWithResult", "a trap has no result"),
        E::NullWithResult(_) => is!(Wrong, "NullWithResult", "a null outcome has no result"),
        E::EntriesMalformed(e) => is!(
            Wrong,
            "EntriesMalformed",
            "the entries of the batch are malformed at byte {}",
            e.offset
        ),
        E::EntriesDoNotCover(e) => is!(
            Wrong,
            "EntriesDoNotCover",
            "the batch has {} entries for a range of {}",
            e.entries,
            e.range
        ),
        E::HolesNotAscendingInRange(e) => is!(
            Wrong,
            "HolesNotAscendingInRange",
            "hole {} is not in the range, or not in ascending order",
            e.index
        ),
        E::TooManyHoles(e) => is!(
            Wrong,
            "TooManyHoles",
            "{} holes: {} at most are listed",
            e.given,
            diversity_proto::round::HOLES_MAX
        ),
        E::RangeTooLong(e) => is!(
            Wrong,
            "RangeTooLong",
            "a batch of {} executions: {} at most",
            e.given,
            diversity_proto::terms::BATCH_RANGE_MAX
        ),
        E::NodeIndexOutOfRange(e) => is!(
            Wrong,
            "NodeIndexOutOfRange",
            "there is no node with index {}",
            e.index
        ),
        E::SameCommit(_) => is!(Wrong, "SameCommit", "the two commits are the same"),
        E::OpeningHashDiffers(_) => is!(
            Wrong,
            "OpeningHashDiffers",
            "secret and salt are not those of the signed commit"
        ),
        E::RevealOpensCommit(_) => is!(
            Wrong,
            "RevealOpensCommit",
            "the reveal opens the commit: there is nothing to report"
        ),
        E::RevealsEqual(_) => is!(
            Wrong,
            "RevealsEqual",
            "the reveals are equal: there is nothing to report"
        ),
        E::NotOfEveryNode(e) => is!(
            Wrong,
            "NotOfEveryNode",
            "{} commits or reveals of {} nodes: a hole takes one of each of every node",
            e.given,
            e.nodes
        ),
        E::RevealDoesNotOpenCommit(e) => is!(
            Wrong,
            "RevealDoesNotOpenCommit",
            "the reveal of node {} does not open its commit",
            e.node
        ),
        E::ResultTooLong(e) => is!(
            Wrong,
            "ResultTooLong",
            "a result of {} bytes: 4096 at most",
            e.given
        ),
        E::CarryTooLong(e) => is!(
            Wrong,
            "CarryTooLong",
            "a carry of {} bytes: 1 MiB at most",
            e.given
        ),
        E::StateDoesNotOpen(e) => is!(
            Wrong,
            "StateDoesNotOpen",
            "the state that was signed is not that of this carry and these starts of the next windows ({})",
            e.recomputed
        ),
        E::SensorsDoNotOpen(e) => is!(
            Wrong,
            "SensorsDoNotOpen",
            "the agreement does not have these {} sensors: give one start of the next window for each of its sensors",
            e.count
        ),
        E::QOutOfRange(e) => is!(
            Wrong,
            "QOutOfRange",
            "the start of the next window of sensor {} is too large",
            e.index
        ),
        E::CallTooLong(e) => is!(
            Wrong,
            "CallTooLong",
            "evidence of {} bytes: {} at most",
            e.given,
            diversity_proto::round::EVIDENCE_BYTES_MAX
        ),
        E::CallNotExact(e) => is!(
            Wrong,
            "CallNotExact",
            "the call has {} bytes, but its arguments take {}",
            e.given,
            e.needed
        ),
        E::CallNotCanonical(_) => is!(
            Wrong,
            "CallNotCanonical",
            "the call is not the plain encoding of its arguments"
        ),
        E::GapsAgree(_) => is!(
            Wrong,
            "GapsAgree",
            "two gap records say nothing against one another"
        ),
        E::FrameMalformed(e) => is!(
            Wrong,
            "FrameMalformed",
            "the frame is malformed at byte {}",
            e.offset
        ),
        E::FramesOfDifferentSensors(_) => is!(
            Wrong,
            "FramesOfDifferentSensors",
            "the frames are of different sensors"
        ),
        E::MessageNotInFrame(e) => is!(
            Wrong,
            "MessageNotInFrame",
            "message q = {} is not in the frame",
            e.q
        ),
        E::MessagesEqual(e) => is!(
            Wrong,
            "MessagesEqual",
            "both frames say the same at q = {}: there is nothing to report",
            e.q
        ),
        E::AlreadyRecorded(e) => is!(
            Pointless,
            "AlreadyRecorded",
            "dispute {} is on record already",
            e.dispute
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::IMainContract;

    #[test]
    fn the_same_error_is_over_too_early_or_wrong_by_its_numbers() {
        let class = |given, in_force| {
            let error = IMainContract::EpochNotInForce {
                given,
                inForce: in_force,
            };
            explain(&error.abi_encode()).class
        };
        assert_eq!(class(1, 3), RevertClass::Pointless);
        assert_eq!(class(5, 3), RevertClass::NotYet);
        assert_eq!(class(1 << 16 | 3, 3), RevertClass::Wrong);
        let early = explain(&IMainContract::FromBeyondNext { from: 7, nextT: 3 }.abi_encode());
        assert_eq!(
            (early.class, early.name),
            (RevertClass::NotYet, "FromBeyondNext")
        );
        assert!(
            early.words.contains("t = 3 has to settle first"),
            "{}",
            early.words
        );
        let late = explain(&IMainContract::AlreadySettled { t: 2, nextT: 3 }.abi_encode());
        assert_eq!(late.class, RevertClass::Pointless);
        let behind = explain(&IMainContract::NotTheNext { t: 2, nextT: 3 }.abi_encode());
        assert!(behind.words.contains("cell"), "{}", behind.words);
    }

    #[test]
    fn cells_are_understood_too() {
        let taken = crate::abi::ICells::CellTaken {
            agreement: [1; 32].into(),
            t: 4,
            writer: crate::abi::ICells::Writer::Users,
        };
        assert_eq!(explain(&taken.abi_encode()).class, RevertClass::Pointless);
        let early = crate::abi::ICells::NotBehindTheDoor { t: 4, nextT: 4 };
        assert_eq!(explain(&early.abi_encode()).class, RevertClass::NotYet);
    }

    #[test]
    fn every_form_of_revert_has_words() {
        assert!(explain(&[]).words.contains("without a reason"));
        assert!(
            explain(&Revert::from("nope").abi_encode())
                .words
                .contains("nope")
        );
        assert!(explain(&[1, 2, 3, 4, 5]).words.contains("0x0102030405"));
        let panic = Panic {
            code: alloy::primitives::U256::from(0x11),
        };
        assert!(explain(&panic.abi_encode()).words.contains("0x11"));
    }
}
