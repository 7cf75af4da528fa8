//! Calldata of every function of `MainContract` and `Cells`.
//!
//! Some calls end in a *tail*: raw bytes behind the static arguments (see `IMainContract.sol`). Signatures of nodes and
//! sensors are 64 bytes in the protocol; the parity that the EVM wants is recovered here, which checks them as well, so
//! that bad evidence never costs gas.

mod registration;

pub use registration::{
    SensorEntry, register_node, register_sensor, register_sensors, register_user,
};

use crate::abi::{ICells, IMainContract as C, b256};
use crate::packed;
use crate::signature::{EvmSignature, SignatureError};
use alloy::primitives::{Address as EvmAddress, U256};
use alloy::sol_types::SolCall;
use diversity_proto::frame::Frame;
use diversity_proto::round::{
    Batch, Commit, Computed, KIND_BATCH, Outcome, OutputKind, Reveal, Subject, seal_of, word,
};
use diversity_proto::terms::{Terms, TermsHeader, config};
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, Signature};

fn sig(s: &EvmSignature) -> C::Signature {
    C::Signature {
        r: s.r(),
        vs: s.vs(),
    }
}

fn with_tail(call: impl SolCall, tail: &[u8]) -> Vec<u8> {
    let mut out = call.abi_encode();
    out.extend_from_slice(tail);
    out
}

/// The aggregate key of an agreement, as the contract opens it (wire-format §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreementKey {
    /// `a`.
    pub agreement: AgreementId,
    /// `K.x`.
    pub aggregate: [u8; 32],
    /// `a.y`.
    pub y: [u8; 32],
}

/// An acceptance by a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Its index in the terms.
    pub node: usize,
    /// Of [`diversity_proto::terms::acceptance_digest`].
    pub signature: Signature,
}

/// Creates an agreement. `user_signatures` in the order of the terms; one acceptance for each user, in their order. The
/// event carries the encoded terms, so that everybody can read them from the chain alone.
///
/// # Errors
/// [`SignatureError`] if an acceptance is not by the node that it names, or if there is not one signature and one
/// acceptance for each user.
pub fn create_agreement(
    d: &Deployment,
    key: &AgreementKey,
    terms: &Terms,
    user_signatures: &[EvmSignature],
    acceptances: &[Acceptance],
) -> Result<Vec<u8>, SignatureError> {
    let users = terms.users.len();
    for (what, given) in [
        ("signatures of users", user_signatures.len()),
        ("acceptances", acceptances.len()),
    ] {
        if given != users {
            return Err(SignatureError::Count {
                what,
                given,
                of: "users",
                needed: users,
            });
        }
    }
    let digest = terms.digest();
    let mut tail = packed::terms(terms)?;
    for signature in user_signatures {
        tail.extend_from_slice(&signature.0);
    }
    for a in acceptances {
        let node = terms
            .nodes
            .get(a.node)
            .map(|n| n.node)
            .unwrap_or(NodeId([0; 20]));
        let signed = diversity_proto::terms::acceptance_digest(d, &key.agreement, &digest, &node);
        let signature = EvmSignature::by(&a.signature, &signed, &node.address())?;
        tail.push(u8::try_from(a.node).expect("the index of one of at most 255 nodes"));
        tail.extend_from_slice(&signature.0);
    }
    tail.extend_from_slice(&terms.encode());
    let call = C::createAgreementCall {
        agreement: key.agreement.0.into(),
        key: [key.aggregate.into(), key.y.into()],
    };
    Ok(with_tail(call, &tail))
}

fn opening(key: &AgreementKey, h: &TermsHeader) -> C::Opening {
    C::Opening {
        aggregate: key.aggregate.into(),
        y: key.y.into(),
        users: b256(&h.users),
        nodes: b256(&h.nodes),
        trust: b256(&h.trust),
        sensorsRoot: b256(&h.sensors_root),
        offChainCode: b256(&h.off_chain_code),
        conditions: b256(&h.conditions),
    }
}

/// An aggregated signature as the contract takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateSignature {
    /// BIP-340 `R.x || s`.
    pub rx_s: [u8; 64],
    /// The even R.y.
    pub ry: [u8; 32],
}

impl AggregateSignature {
    fn halves(&self) -> ([u8; 32], [u8; 32]) {
        let (rx, s) = self.rx_s.split_at(32);
        (
            rx.try_into().expect("32 bytes"),
            s.try_into().expect("32 bytes"),
        )
    }
    fn certificate(&self, agreement: &AgreementId) -> C::Certificate {
        let (rx, s) = self.halves();
        C::Certificate {
            rx: rx.into(),
            ry: self.ry.into(),
            s: s.into(),
            agreement: agreement.0.into(),
        }
    }
}

fn outcome_word(o: &Outcome) -> [u8; 32] {
    word(o.kind, o.epoch, o.from, o.t)
}

/// Behind the certificate: `kind | epoch | from | t` in 21 bytes, context (or root of the contexts), result (or entries).
fn settled_tail(word: &[u8; 32], context: &Digest, rest: &[u8]) -> Vec<u8> {
    let mut tail = word[11..].to_vec();
    tail.extend_from_slice(&context.0);
    tail.extend_from_slice(rest);
    tail
}

/// Settles one outcome without holes.
pub fn settle(outcome: &Outcome, signature: &AggregateSignature) -> Vec<u8> {
    let call = C::settleCall {
        certificate: signature.certificate(&outcome.agreement),
    };
    with_tail(
        call,
        &settled_tail(&outcome_word(outcome), &outcome.context, &outcome.result),
    )
}

/// Has one outcome verified and logged, without order or replay protection.
pub fn attest(outcome: &Outcome, signature: &AggregateSignature) -> Vec<u8> {
    let (rx, s) = signature.halves();
    let call = C::attestCertificateCall {
        certificate: C::CertificateNumbers {
            rx: U256::from_be_bytes(rx),
            ry: U256::from_be_bytes(signature.ry),
            s: U256::from_be_bytes(s),
            agreement: outcome.agreement.0.into(),
        },
    };
    with_tail(
        call,
        &settled_tail(&outcome_word(outcome), &outcome.context, &outcome.result),
    )
}

/// Settles consecutive outcomes.
pub fn settle_batch(batch: &Batch, signature: &AggregateSignature) -> Vec<u8> {
    let call = C::settleBatchCall {
        certificate: signature.certificate(&batch.agreement),
    };
    let word = word(KIND_BATCH, batch.epoch, batch.from, batch.last());
    with_tail(
        call,
        &settled_tail(&word, &batch.contexts_root(), &batch.entries_bytes()),
    )
}

/// Settles one outcome under the signatures of all reveals, in node-index order; `holes` are the disputed t in its range.
///
/// # Errors
/// [`SignatureError`] that names the first node whose reveal is not signed by it.
pub fn settle_by_reveals(
    d: &Deployment,
    key: &AgreementKey,
    terms: &Terms,
    outcome: &Outcome,
    holes: &[u64],
    signatures: &[Signature],
) -> Result<Vec<u8>, SignatureError> {
    let signed = outcome.reveal_digest(d, holes);
    let signatures = terms
        .nodes
        .iter()
        .zip(signatures)
        .map(|(n, s)| EvmSignature::by(s, &signed, &n.node.address()).map(|s| sig(&s)))
        .collect::<Result<_, _>>()?;
    Ok(C::settleByRevealsCall {
        agreement: outcome.agreement.0.into(),
        word: U256::from_be_bytes(outcome_word(outcome)),
        context: b256(&outcome.context),
        opening: opening(key, &terms.header()),
        holes: holes.to_vec(),
        signatures,
        result: outcome.result.clone().into(),
    }
    .abi_encode())
}

/// Fills a cell by a second reading (a call to `Cells`): the outcome's epoch is marked and its `from` is t.
pub fn settle_reading(outcome: &Outcome, signature: &AggregateSignature) -> Vec<u8> {
    let (rx, s) = signature.halves();
    ICells::settleReadingCall {
        certificate: C::Certificate {
            rx: rx.into(),
            ry: signature.ry.into(),
            s: s.into(),
            agreement: outcome.agreement.0.into(),
        },
        word: U256::from_be_bytes(outcome_word(outcome)),
        context: b256(&outcome.context),
        result: outcome.result.clone().into(),
    }
    .abi_encode()
}

/// Ends an agreement at `end`; [`diversity_proto::terms::close_digest`] signed by every user, in order.
pub fn close_agreement(
    key: &AgreementKey,
    terms: &Terms,
    end: u64,
    user_signatures: &[EvmSignature],
) -> Vec<u8> {
    C::closeAgreementCall {
        agreement: key.agreement.0.into(),
        end,
        opening: opening(key, &terms.header()),
        users: terms.users.iter().map(|u| u.0.into()).collect(),
        userSignatures: user_signatures.iter().map(sig).collect(),
    }
    .abi_encode()
}

/// Where a piece of evidence belongs.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Chain and contract.
    pub deployment: &'a Deployment,
    /// The agreement's key.
    pub key: &'a AgreementKey,
    /// Its terms.
    pub terms: &'a Terms,
    /// Resolution epoch.
    pub epoch: u32,
    /// Execution.
    pub t: u64,
}

impl Case<'_> {
    fn subject(&self) -> Subject {
        Subject {
            deployment: *self.deployment,
            config: config(self.deployment, &self.key.agreement, self.epoch),
            t: self.t,
        }
    }
    fn node(&self, index: usize) -> NodeId {
        self.terms
            .nodes
            .get(index)
            .map(|n| n.node)
            .unwrap_or(NodeId([0; 20]))
    }
    fn nodes(&self) -> Vec<EvmAddress> {
        self.terms.nodes.iter().map(|n| n.node.0.into()).collect()
    }
    fn commit(&self, node: usize, commit: &Commit) -> Result<C::Commit, SignatureError> {
        let id = self.node(node);
        let digest = commit.digest(&self.subject(), &id);
        Ok(C::Commit {
            commitment: b256(&commit.commitment),
            openingHash: b256(&commit.opening),
            signature: sig(&EvmSignature::by(
                &commit.signature,
                &digest,
                &id.address(),
            )?),
        })
    }
    fn reveal_signature(
        &self,
        node: usize,
        seal: &Digest,
        reveal: &Reveal,
    ) -> Result<C::Signature, SignatureError> {
        let outcome = reveal.outcome(self.key.agreement, self.epoch, self.t, seal);
        let digest = reveal.digest(self.deployment, &outcome);
        let by = self.node(node).address();
        Ok(sig(&EvmSignature::by(&reveal.signature, &digest, &by)?))
    }
}

fn computed(c: &Computed) -> C::Computed {
    C::Computed {
        kind: c.kind as u8,
        result: c.result.clone().into(),
        detailRoot: b256(&c.detail_root),
        state: b256(&c.state),
        trace: b256(&c.trace),
        windowHash: b256(&c.window_hash),
    }
}

/// A hole certificate: all n commits, and all n reveals that open them, both in node-index order.
///
/// # Errors
/// [`SignatureError`] that names the first node whose commit or reveal is not signed by it, or if there is not one of each of
/// every node.
pub fn settle_hole(
    case: &Case<'_>,
    commits: &[Commit],
    reveals: &[Reveal],
) -> Result<Vec<u8>, SignatureError> {
    let nodes: Vec<_> = case.terms.nodes.iter().map(|n| n.node).collect();
    for (what, given) in [("commits", commits.len()), ("reveals", reveals.len())] {
        if given != nodes.len() {
            return Err(SignatureError::Count {
                what,
                given,
                of: "nodes",
                needed: nodes.len(),
            });
        }
    }
    let seal = seal_of(&case.subject(), &nodes, commits);
    let opened = |(i, r): (usize, &Reveal)| {
        Ok(C::OpenedReveal {
            computed: computed(&r.computed),
            secret: r.blinding.secret.into(),
            salt: r.blinding.salt.into(),
            signature: case.reveal_signature(i, &seal, r)?,
        })
    };
    Ok(C::settleHoleCall {
        agreement: case.key.agreement.0.into(),
        epoch: case.epoch,
        t: case.t,
        from: reveals.first().map_or(case.t, |r| r.from),
        holes: reveals.first().map(|r| r.holes.clone()).unwrap_or_default(),
        opening: opening(case.key, &case.terms.header()),
        nodes: case.nodes(),
        commits: (0..)
            .zip(commits)
            .map(|(i, c)| case.commit(i, c))
            .collect::<Result<_, _>>()?,
        reveals: reveals
            .iter()
            .enumerate()
            .map(opened)
            .collect::<Result<_, _>>()?,
    }
    .abi_encode())
}

/// Two commits of the node with this index (R5).
///
/// # Errors
/// [`SignatureError`] if one is not by the node.
pub fn report_equivocation(
    case: &Case<'_>,
    node: usize,
    first: &Commit,
    second: &Commit,
) -> Result<Vec<u8>, SignatureError> {
    Ok(C::reportEquivocationCall {
        agreement: case.key.agreement.0.into(),
        epoch: case.epoch,
        t: case.t,
        opening: opening(case.key, &case.terms.header()),
        nodes: case.nodes(),
        node: U256::from(node),
        first: case.commit(node, first)?,
        second: case.commit(node, second)?,
    }
    .abi_encode())
}

/// A reveal that does not open the same node's commit (R5).
///
/// # Errors
/// [`SignatureError`] if one of the two is not by the node.
pub fn report_false_reveal(
    case: &Case<'_>,
    node: usize,
    commit: &Commit,
    seal: &Digest,
    reveal: &Reveal,
) -> Result<Vec<u8>, SignatureError> {
    Ok(C::reportFalseRevealCall {
        agreement: case.key.agreement.0.into(),
        epoch: case.epoch,
        t: case.t,
        opening: opening(case.key, &case.terms.header()),
        nodes: case.nodes(),
        commit: case.commit(node, commit)?,
        seal: b256(seal),
        secret: reveal.blinding.secret.into(),
        salt: reveal.blinding.salt.into(),
        reveal: C::Reveal {
            node: U256::from(node),
            computed: computed(&reveal.computed),
            from: reveal.from,
            holes: reveal.holes.clone(),
            signature: case.reveal_signature(node, seal, reveal)?,
        },
    }
    .abi_encode())
}

/// Two frames of one sensor that contradict one another at `q` (R5, R7).
///
/// # Errors
/// [`SignatureError`] if one is not signed by the sensor.
pub fn report_sensor_contradiction(
    d: &Deployment,
    q: u64,
    first: &Frame,
    second: &Frame,
) -> Result<Vec<u8>, SignatureError> {
    let parity = |f: &Frame| {
        EvmSignature::by(&f.signature, &f.digest(d), &f.sensor.address())
            .map(|s| u8::from(s.y_odd()))
    };
    Ok(C::reportSensorContradictionCall {
        q,
        parities: parity(first)? | parity(second)? << 1,
        first: first.encode().into(),
        second: second.encode().into(),
    }
    .abi_encode())
}

/// What all users say together of one execution, and what the call brings beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// Execution.
    pub t: u64,
    /// Null, value or trap.
    pub kind: OutputKind,
    /// Packed ABI result.
    pub result: &'a [u8],
    /// `state'`, from which t + 1 starts.
    pub state: Digest,
    /// Opens `state`.
    pub carry: &'a [u8],
    /// Opens `state`: where the window t + 1 of each sensor starts, agreement order.
    pub q_next: &'a [u64],
}

/// A resolution of all users; [`diversity_proto::terms::resolution_digest`] signed by every user, in order. The same call
/// goes to `MainContract`, where t is the next one, or to `Cells`, where it is behind.
pub fn resolve(
    key: &AgreementKey,
    terms: &Terms,
    resolution: &Resolution<'_>,
    user_signatures: &[EvmSignature],
) -> Vec<u8> {
    C::resolveCall {
        resolution: C::Resolution {
            agreement: key.agreement.0.into(),
            t: resolution.t,
            kind: resolution.kind as u8,
            result: resolution.result.to_vec().into(),
            state: b256(&resolution.state),
        },
        carry: resolution.carry.to_vec().into(),
        qNext: resolution.q_next.to_vec(),
        sensors: b256(&terms.sensors_tree()),
        opening: opening(key, &terms.header()),
        users: terms.users.iter().map(|u| u.0.into()).collect(),
        userSignatures: user_signatures.iter().map(sig).collect(),
    }
    .abi_encode()
}

/// Gas that a settlement takes at most, by its calldata: what verification and storage take, and for each byte more than
/// calldata (40 under EIP-7623), its hash, its place in the log and, in a batch, the reading of an entry cost together.
/// A settlement in a row is signed with it, because an estimate would have to know what is not mined yet. Measured in
/// `tests/anvil.rs`.
pub fn settlement_gas(calldata: &[u8]) -> u64 {
    150_000 + 250 * calldata.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that one call serves, wherever the position of the agreement sends it.
    #[test]
    fn a_resolution_is_the_same_call_in_band_and_as_a_cell() {
        assert_eq!(C::resolveCall::SELECTOR, ICells::resolveCall::SELECTOR);
    }
}
