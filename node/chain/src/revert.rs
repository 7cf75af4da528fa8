//! What a revert of `MainContract` means: in words for people, and as a class for the outbox.

use crate::abi::IMainContract::IMainContractErrors as E;
use alloy::primitives::hex;
use alloy::sol_types::{Panic, Revert, SolError, SolInterface};

/// What to do about a revert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevertClass {
    /// What the call wanted is so already, or can never be wanted again: drop it.
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
    /// The error's name, such as `FromIsNotNext`; empty if it has none.
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

fn contract_error(error: &E) -> (RevertClass, &'static str, String) {
    use RevertClass::{NotYet, Pointless, Wrong};
    macro_rules! is {
        ($class:expr, $name:literal, $($words:tt)*) => {
            ($class, $name, format!($($words)*))
        };
    }
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
            "epoch {} is not in force yet, epoch {} is",
            e.given,
            e.inForce
        ),
        E::FromIsNotNext(e) if e.from < e.nextT => is!(
            Pointless,
            "FromIsNotNext",
            "it starts at t = {}, which has settled already: the next one is t = {}",
            e.from,
            e.nextT
        ),
        E::FromIsNotNext(e) => is!(
            NotYet,
            "FromIsNotNext",
            "it starts at t = {}, and t = {} has to settle first",
            e.from,
            e.nextT
        ),
        E::RangeBackwards(e) => is!(
            Wrong,
            "RangeBackwards",
            "the range from {} to {} runs backwards",
            e.from,
            e.t
        ),
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
        E::RevealsNotAscending(e) => is!(
            Wrong,
            "RevealsNotAscending",
            "the reveals are not in ascending order of their nodes at position {}",
            e.index
        ),
        E::TooFewReveals(_) => is!(Wrong, "TooFewReveals", "two reveals or more are needed"),
        E::FrameMalformed(e) => is!(
            Wrong,
            "FrameMalformed",
            "the frame is malformed at byte {}",
            e.offset
        ),
        E::FramesOfDifferentEpochs(_) => is!(
            Wrong,
            "FramesOfDifferentEpochs",
            "the frames are of different boot epochs"
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
        E::NotADispute(e) => is!(
            NotYet,
            "NotADispute",
            "there is no dispute {} (yet)",
            e.dispute
        ),
        E::AlreadyResolved(e) => is!(
            Pointless,
            "AlreadyResolved",
            "dispute {} is resolved already",
            e.dispute
        ),
        E::DisputeNotResolvable(e) => is!(
            Wrong,
            "DisputeNotResolvable",
            "dispute {} is not one that the users can resolve",
            e.dispute
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::IMainContract;

    #[test]
    fn the_same_error_is_pointless_or_too_early_by_its_numbers() {
        let early = explain(&IMainContract::FromIsNotNext { from: 7, nextT: 3 }.abi_encode());
        let late = explain(&IMainContract::FromIsNotNext { from: 2, nextT: 3 }.abi_encode());
        assert_eq!(
            (early.class, early.name),
            (RevertClass::NotYet, "FromIsNotNext")
        );
        assert!(
            early.words.contains("t = 3 has to settle first"),
            "{}",
            early.words
        );
        assert_eq!(late.class, RevertClass::Pointless);
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
