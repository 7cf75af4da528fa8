//! What the users of an agreement sign together: creating it, closing it, and saying what counts at an execution.

use diversity_chain::goal::Goal;
use diversity_chain::{EvmSignature, calls};
use diversity_client::api::{
    AgreementCreation, CloseRequest, NodeAcceptance, ResolutionView, ResolveRequest, UserSignature,
};
use diversity_engine::records::CARRY_BYTES_MAX;
use diversity_proto::frame::Q_MAX;
use diversity_proto::round::OutputKind;
use diversity_proto::terms::{
    Terms, acceptance_digest, agreement_digest, close_digest, resolution_digest, resolution_struct,
};
use diversity_proto::{AgreementId, Digest};

use super::{Relay, signed, to_main};
use crate::node::chain::Relayed;
use crate::node::execute::packed_width;
use crate::node::registry::ChainLog;
use crate::rooms::error::{RoomError, RoomResult};

impl Relay {
    /// Creates an agreement, with every user's signature and the acceptance of every node (P-CONSENT-2); the contract sees one of
    /// each user. A repeat is fine.
    ///
    /// # Errors
    /// Those of [`crate::rooms::agreements::Book::draft_of_known`], [`RoomError::NotAccepted`], [`RoomError::Signature`], and those of
    /// [`super::Line::mined`].
    pub async fn create(&self, r: &AgreementCreation) -> RoomResult<()> {
        let d = &self.deployment;
        let agreement = self.book.draft_of_known(&r.agreement, &r.terms).await?;
        let terms = &agreement.terms;
        let digest = agreement_digest(d, &r.agreement, &terms.digest());
        let users = user_signatures(terms, &r.signatures, &digest)?;
        let accepted = self.acceptances(&r.agreement, terms, &r.acceptances)?;
        if self.registered.read().agreements.contains_key(&r.agreement) {
            return Ok(());
        }
        let data = calls::create_agreement(d, &agreement.chain_key(), terms, &users, &accepted)
            .map_err(|e| RoomError::Signature(e.to_string()))?;
        let label = format!("create agreement {}", r.agreement);
        let goal = Goal::Agreement(r.agreement);
        self.line.mined(to_main(label, data, goal)).await?;
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
        let label = format!("close agreement {a} at t {}", r.end);
        self.line
            .mined(to_main(label, data, Goal::Closed(*a)))
            .await?;
        Ok(())
    }

    /// Says with all users what counts at t: in band where t is the next one on chain, in the cell of t where it is behind. The
    /// same signatures serve both.
    ///
    /// # Errors
    /// [`RoomError::NotFound`]; [`RoomError::Malformed`] for what nobody can agree on, or before its turn;
    /// [`RoomError::Signature`], and those of [`super::Line::mined`].
    pub async fn resolve(&self, a: &AgreementId, r: &ResolveRequest) -> RoomResult<ResolutionView> {
        let (record, agreement) = self.book.load(a)?;
        let terms = &agreement.terms;
        let resolution = resolution(terms, record.next_t, r)?;
        let signed = resolution_struct(
            a,
            r.t,
            resolution.kind,
            resolution.result,
            &resolution.state,
        );
        let digest = resolution_digest(&self.deployment, &signed);
        let users = user_signatures(terms, &r.signatures, &digest)?;
        let said = self.book.records.counted(a, r.t)?;
        if let Some(view) = said.map(|said| again(a, &said, &resolution)).transpose()? {
            return Ok(view);
        }
        let in_band = r.t == record.next_t;
        let goal = if in_band {
            Goal::Settled {
                agreement: *a,
                epoch: None,
                t: r.t,
            }
        } else {
            Goal::Cell {
                agreement: *a,
                t: r.t,
            }
        };
        let call = Relayed {
            label: format!("resolve t {} of {a}", r.t),
            data: calls::resolve(&agreement.chain_key(), terms, &resolution, &users),
            to_cells: !in_band,
            goal: Some(goal),
        };
        let tx = self.line.mined(call).await?;
        Ok(ResolutionView {
            agreement: *a,
            t: r.t,
            in_band,
            tx,
        })
    }

    /// One acceptance of each user's nodes, in the order of the users; those of all nodes are checked.
    fn acceptances(
        &self,
        a: &AgreementId,
        terms: &Terms,
        given: &[NodeAcceptance],
    ) -> RoomResult<Vec<calls::Acceptance>> {
        let digest = terms.digest();
        let mut accepted = Vec::with_capacity(terms.nodes.len());
        for (node, named) in terms.nodes.iter().enumerate() {
            let id = named.node;
            let found = given.iter().find(|n| n.node == id).ok_or_else(|| {
                let user = terms.users[usize::from(named.trust)];
                RoomError::NotAccepted(format!("node {id}, which user {user} trusts, has not"))
            })?;
            signed(
                &found.signature,
                &acceptance_digest(&self.deployment, a, &digest, &id),
                id.address(),
                &format!("the acceptance of node {id}"),
            )?;
            accepted.push(calls::Acceptance {
                node,
                signature: found.signature.compact(),
            });
        }
        // Terms name a node for each user.
        let of = |user: usize| {
            let one = accepted.iter();
            one.copied()
                .find(|n| usize::from(terms.nodes[n.node].trust) == user)
        };
        Ok((0..terms.users.len()).filter_map(of).collect())
    }
}

/// What counts at a t is said once: the same again is a success, and other words are refused before anything is sent.
fn again(
    a: &AgreementId,
    said: &ChainLog,
    resolution: &calls::Resolution<'_>,
) -> RoomResult<ResolutionView> {
    let refused = |how: &str| {
        RoomError::conflict(
            format!(
                "what counts at t = {} stands on chain already, {how}",
                resolution.t
            ),
            "It is said once: see `diversity dispute show`, or the results of t.",
        )
    };
    let Some((outputs, tx, in_band)) = said.counted() else {
        return Err(refused("by a settlement"));
    };
    let same = (outputs.kind, &outputs.result[..], outputs.state)
        == (resolution.kind, resolution.result, resolution.state);
    if !same {
        return Err(refused(&format!("with other content, in transaction {tx}")));
    }
    Ok(ResolutionView {
        agreement: *a,
        t: resolution.t,
        in_band,
        tx,
    })
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

/// What the users say counts, if it is something that they can say of this agreement at this t.
pub(super) fn resolution<'a>(
    terms: &Terms,
    next_t: u64,
    r: &'a ResolveRequest,
) -> RoomResult<calls::Resolution<'a>> {
    let malformed = |words: String| Err(RoomError::Malformed(words));
    let Some(kind) = r.kind.output() else {
        return malformed("kind is null, value or trap".into());
    };
    let width = packed_width(&terms.result);
    let (given, wanted) = match kind {
        OutputKind::Value => (r.result.0.len(), width),
        _ => (r.result.0.len(), 0),
    };
    if given != wanted {
        return malformed(format!(
            "result has {given} bytes, and a {} of these terms has {wanted}",
            r.kind.as_str()
        ));
    }
    if r.q_next.len() != terms.sensors.len() || r.q_next.iter().any(|q| *q >= Q_MAX) {
        return malformed(format!(
            "q_next takes one number below 2^62 for each of the {} sensors, in their order",
            terms.sensors.len()
        ));
    }
    if r.carry.0.len() > CARRY_BYTES_MAX {
        return malformed(format!("carry takes at most {CARRY_BYTES_MAX} bytes"));
    }
    if r.t > next_t {
        return malformed(format!(
            "t {} cannot be resolved before t {next_t} has settled",
            r.t
        ));
    }
    Ok(calls::Resolution {
        t: r.t,
        kind,
        result: &r.result.0,
        state: r.state(),
        carry: &r.carry.0,
        q_next: &r.q_next,
    })
}
