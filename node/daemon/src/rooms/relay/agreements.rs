//! What the users of an agreement sign together: creating it, closing it, and resolving a dispute.

use diversity_chain::{EvmSignature, calls};
use diversity_client::api::{
    AgreementCreation, CloseRequest, NodeAcceptance, ResolveRequest, UserSignature,
};
use diversity_proto::round::{Outcome, word};
use diversity_proto::terms::{
    Terms, acceptance_digest, agreement_digest, close_digest, resolution_digest,
};
use diversity_proto::{AgreementId, Digest};

use super::{Relay, signed};
use crate::rooms::error::{RoomError, RoomResult};

impl Relay {
    /// Creates an agreement, with every user's signature and the acceptance of a node of each. A repeat is fine.
    ///
    /// # Errors
    /// Those of [`crate::rooms::agreements::Book::draft`], [`RoomError::Signature`], and those of [`super::Line::mined`].
    pub async fn create(&self, r: &AgreementCreation) -> RoomResult<()> {
        let d = &self.deployment;
        let agreement = self.book.draft(&r.agreement, &r.terms)?;
        let terms = &agreement.terms;
        let digest = agreement_digest(d, &r.agreement, &terms.digest());
        let users = user_signatures(terms, &r.signatures, &digest)?;
        let accepted = self.acceptances(&r.agreement, terms, &r.acceptances)?;
        if self.registered.read().agreements.contains_key(&r.agreement) {
            return Ok(());
        }
        let data = calls::create_agreement(d, &agreement.chain_key(), terms, &users, &accepted)
            .map_err(|e| RoomError::Signature(e.to_string()))?;
        self.line
            .mined(format!("create agreement {}", r.agreement), data)
            .await?;
        Ok(())
    }

    /// Closes an agreement: executions from `end` on never settle. A repeat is fine.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Conflict`] with another end, [`RoomError::Signature`], and those of
    /// [`super::Line::mined`].
    pub async fn close(&self, a: &AgreementId, r: &CloseRequest) -> RoomResult<()> {
        let (record, agreement) = self.book.load(a)?;
        match record.end {
            Some(end) if end == r.end => return Ok(()),
            Some(end) => {
                return Err(RoomError::conflict(
                    format!("the agreement ends at t {end} already"),
                    "An end stays; make a new agreement for what comes after it.",
                ));
            }
            None => {}
        }
        let users = user_signatures(
            &agreement.terms,
            &r.signatures,
            &close_digest(&self.deployment, a, r.end),
        )?;
        let data = calls::close_agreement(&agreement.chain_key(), &agreement.terms, r.end, &users);
        self.line
            .mined(format!("close agreement {a} at t {}", r.end), data)
            .await?;
        Ok(())
    }

    /// Resolves a dispute as all users say. A repeat is fine.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Malformed`] for what is not about this dispute, [`RoomError::Signature`], and those
    /// of [`super::Line::mined`].
    pub async fn resolve(&self, dispute: &Digest, r: &ResolveRequest) -> RoomResult<()> {
        let found = self.archive.recorded(dispute)?;
        if found.resolved {
            return Ok(());
        }
        let a = found.agreement.ok_or_else(|| {
            RoomError::Malformed(
                "a sensor's contradiction is final by itself: there is nothing to resolve".into(),
            )
        })?;
        let (_, agreement) = self.book.load(&a)?;
        let outcome = outcome(a, found.at, r)?;
        let word = word(outcome.kind, outcome.epoch, outcome.from, outcome.t);
        let digest = resolution_digest(
            &self.deployment,
            dispute,
            &a,
            &word,
            &r.context,
            &r.result.0,
        );
        let users = user_signatures(&agreement.terms, &r.signatures, &digest)?;
        let key = agreement.chain_key();
        let data = calls::resolve(&key, &agreement.terms, dispute, &outcome, &users);
        self.line
            .mined(format!("resolve dispute {dispute}"), data)
            .await?;
        Ok(())
    }

    /// One acceptance of each user's nodes, in the order of the users, each checked.
    fn acceptances(
        &self,
        a: &AgreementId,
        terms: &Terms,
        given: &[NodeAcceptance],
    ) -> RoomResult<Vec<calls::Acceptance>> {
        let digest = terms.digest();
        let of = |user: usize| {
            let found = given.iter().find_map(|n| {
                let index = terms.node_index(&n.node)?;
                (usize::from(terms.nodes[index].trust) == user).then_some((index, n))
            });
            let (node, found) = found.ok_or_else(|| {
                RoomError::Signature(format!(
                    "no node that user {} trusts has accepted",
                    terms.users[user]
                ))
            })?;
            signed(
                &found.signature,
                &acceptance_digest(&self.deployment, a, &digest, &found.node),
                found.node.address(),
                &format!("the acceptance of node {}", found.node),
            )?;
            Ok(calls::Acceptance {
                node,
                signature: found.signature.compact(),
            })
        };
        (0..terms.users.len()).map(of).collect()
    }
}

/// Signatures of all users in the order of the terms, each checked.
pub(super) fn user_signatures(
    terms: &Terms,
    given: &[UserSignature],
    digest: &Digest,
) -> RoomResult<Vec<EvmSignature>> {
    let of = |user: &diversity_proto::UserId| {
        let found = given.iter().find(|s| s.user == *user).ok_or_else(|| {
            RoomError::Signature(format!("the signature of user {user} is missing"))
        })?;
        signed(
            &found.signature,
            digest,
            user.address(),
            &format!("the signature of user {user}"),
        )
    };
    terms.users.iter().map(of).collect()
}

/// What the users say counts at the disputed t.
pub(super) fn outcome(a: AgreementId, disputed: u64, r: &ResolveRequest) -> RoomResult<Outcome> {
    let kind = r
        .kind
        .output()
        .ok_or_else(|| RoomError::Malformed("kind is null, value or trap".into()))?;
    if r.from > r.t || r.t != disputed {
        return Err(RoomError::Malformed(format!(
            "the dispute is about t {disputed}, and from lies at or before it"
        )));
    }
    Ok(Outcome {
        agreement: a,
        epoch: r.epoch,
        from: r.from,
        t: r.t,
        kind: kind as u8,
        result: r.result.0.clone(),
        context: r.context,
    })
}
