//! Disputes that the chain holds, in words, and the evidence with which anybody can re-run what is disputed.

use diversity_chain::evidence::{self, Evidence};
use diversity_client::api::{DisputeView, EvidenceBundle, PAGE_MAX};
use diversity_client::hexed::Bytes;
use diversity_client::terms_json::TermsJson;
use diversity_proto::{AgreementId, Digest};

use super::{Archive, commit_json, reveal_json};
use crate::node::explain;
use crate::node::registry::DisputeRecord;
use crate::rooms::agreements::Agreement;
use crate::rooms::error::{RoomError, RoomResult};

/// Version of the form of a bundle.
const BUNDLE: u8 = 1;

impl Archive {
    /// Every dispute, newest last. The newest are kept where there are more than a page holds, as in [`Self::disputes_of`].
    ///
    /// # Errors
    /// [`RoomError::Internal`].
    pub fn disputes(&self) -> RoomResult<Vec<DisputeView>> {
        self.newest(|_| true, |d| (d.block, d.at))
    }

    /// Those of one agreement, ascending by t.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] for an agreement that is not known.
    pub fn disputes_of(&self, a: &AgreementId) -> RoomResult<Vec<DisputeView>> {
        self.agreement(a)?;
        self.newest(|d| d.agreement == Some(*a), |d| (d.at, d.block))
    }

    /// One dispute.
    ///
    /// # Errors
    /// [`RoomError::NotFound`].
    pub fn dispute(&self, dispute: &Digest) -> RoomResult<DisputeView> {
        self.view(&self.recorded(dispute)?)
    }

    /// What the chain says of a dispute.
    ///
    /// # Errors
    /// [`RoomError::NotFound`].
    pub fn recorded(&self, dispute: &Digest) -> RoomResult<DisputeRecord> {
        let found = self.registered.read().disputes.get(dispute).cloned();
        found.ok_or_else(|| {
            RoomError::not_found(
                format!("the chain holds no dispute {dispute}"),
                "See GET /v1/disputes.",
            )
        })
    }

    /// The agreement and t that a dispute is about.
    ///
    /// # Errors
    /// [`RoomError::NotFound`]; [`RoomError::Conflict`] for a sensor's contradiction, which is about none.
    pub fn disputed(&self, dispute: &Digest) -> RoomResult<(AgreementId, u64)> {
        let record = self.recorded(dispute)?;
        record
            .agreement
            .map(|a| (a, record.at))
            .ok_or_else(|| RoomError::Conflict {
                detail: "this dispute records a sensor's contradiction, and no execution".into(),
                what_to_do: "Only holes are read again.",
            })
    }

    /// With the module, enough to re-run the disputed execution anywhere, as far as this node has it.
    ///
    /// # Errors
    /// [`RoomError::NotFound`]; [`RoomError::Internal`] if what is stored cannot be read.
    pub async fn evidence(&self, dispute: &Digest) -> RoomResult<EvidenceBundle> {
        let record = self.recorded(dispute)?;
        let calldata = self.calldata(&record)?;
        let decoded = evidence::decode(&calldata).map_err(RoomError::internal)?;
        let mut bundle = self.bare(&record, calldata)?;
        match (record.agreement, &decoded) {
            (Some(a), _) => {
                let agreement = self.agreement(&a)?;
                self.round(&agreement, record.at, &decoded, &mut bundle)?;
                self.input_and_frames(&agreement, record.at, &mut bundle)
                    .await?;
            }
            (None, Evidence::SensorContradiction { first, second, .. }) => {
                bundle.frames = [first, second].map(|f| Bytes(f.encode())).to_vec();
            }
            (None, _) => {}
        }
        Ok(bundle)
    }

    fn newest<K: Ord>(
        &self,
        wanted: impl Fn(&DisputeRecord) -> bool,
        order: impl Fn(&DisputeRecord) -> K,
    ) -> RoomResult<Vec<DisputeView>> {
        let mut found: Vec<_> = {
            let registry = self.registered.read();
            let found = registry.disputes.values().filter(|d| wanted(d));
            // Strangers can record any number: theirs are left out first.
            found
                .map(|d| (registry.concerns_us(&d.dispute), d.clone()))
                .collect()
        };
        found.sort_by_key(|(ours, d)| (*ours, order(d)));
        let skip = found.len().saturating_sub(PAGE_MAX);
        found.drain(..skip);
        found.sort_by_key(|(_, d)| order(d));
        found.iter().map(|(_, d)| self.view(d)).collect()
    }

    fn view(&self, record: &DisputeRecord) -> RoomResult<DisputeView> {
        let terms = match &record.agreement {
            Some(a) => self.records.terms(a)?,
            None => None,
        };
        let said = match &record.agreement {
            Some(a) if record.resolved => self.records.counts(a, record.at)?,
            _ => None,
        };
        let calldata = self.calldata(record)?;
        Ok(explain::view(
            &self.registered.read(),
            terms.as_ref(),
            record,
            &calldata,
            said.map(|counts| counts.said_by),
        ))
    }

    fn calldata(&self, record: &DisputeRecord) -> RoomResult<Vec<u8>> {
        let registry = self.registered.read();
        registry
            .evidence(&record.dispute)
            .map_err(RoomError::internal)
    }

    /// What the chain alone gives.
    fn bare(&self, record: &DisputeRecord, calldata: Vec<u8>) -> RoomResult<EvidenceBundle> {
        Ok(EvidenceBundle {
            version: BUNDLE,
            dispute: self.view(record)?,
            deployment: self.book.deployment.into(),
            calldata: Bytes(calldata),
            terms: None,
            keys: Vec::new(),
            input: None,
            q_next: Vec::new(),
            seal: None,
            commits: Vec::new(),
            reveals: Vec::new(),
            frames: Vec::new(),
        })
    }

    /// Terms, keys, and the commits and reveals of the round: those that the evidence itself carries, or else the certificate's.
    fn round(
        &self,
        agreement: &Agreement,
        t: u64,
        decoded: &Evidence,
        bundle: &mut EvidenceBundle,
    ) -> RoomResult<()> {
        bundle.terms = Some(TermsJson::from(&agreement.terms));
        bundle.keys.clone_from(&agreement.keys);
        bundle.seal = match decoded {
            Evidence::FalseReveal { seal, .. } => Some(*seal),
            _ => decoded.seal(&self.book.deployment),
        };
        // A hole certificate brings all of it.
        if let Evidence::UnequalReveals { said, .. } = decoded {
            bundle.commits = said.iter().map(|(n, c, _)| commit_json(*n, c)).collect();
            bundle.reveals = said.iter().map(|(n, _, r)| reveal_json(*n, r)).collect();
        } else if let Some(c) = self.records.certificate(&agreement.id, t)? {
            let nodes = || agreement.terms.nodes.iter().map(|n| n.node);
            bundle.commits = nodes()
                .zip(&c.commits)
                .map(|(n, c)| commit_json(n, c))
                .collect();
            bundle.reveals = nodes()
                .zip(&c.reveals)
                .map(|(n, r)| reveal_json(n, r))
                .collect();
        }
        Ok(())
    }

    async fn input_and_frames(
        &self,
        agreement: &Agreement,
        t: u64,
        bundle: &mut EvidenceBundle,
    ) -> RoomResult<()> {
        let Some(x) = self.records.execution(&agreement.id, t)? else {
            return Ok(());
        };
        bundle.q_next = x.stretches.iter().map(|s| s.next).collect();
        if let Some(held) = self.held(agreement, t, &x).await? {
            bundle.input = Some(Bytes(self.input_of(&held, &agreement.id, t)?));
            bundle.frames = held.frames.into_iter().map(Bytes).collect();
        }
        Ok(())
    }
}
