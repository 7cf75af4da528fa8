//! Disputes that the chain holds, in words, and the evidence with which anybody can re-run what is disputed.

use std::cmp::Reverse;
use std::fmt;

use diversity_chain::evidence::{self, Evidence};
use diversity_client::api::{DisputeView, EvidenceBundle, PAGE_MAX, Page};
use diversity_client::hexed::Bytes;
use diversity_client::terms_json::TermsJson;
use diversity_proto::{AgreementId, Digest};

use super::{Archive, commit_json, reveal_json};
use crate::node::explain;
use crate::node::registry::DisputeRecord;
use crate::rooms::PAGE;
use crate::rooms::agreements::Agreement;
use crate::rooms::error::{RoomError, RoomResult};

/// Version of the form of a bundle.
const BUNDLE: u8 = 1;

/// Where a dispute stands in a list. It says so by itself, so that a page goes on behind one that was dropped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DisputePlace {
    strangers: bool,
    block: Reverse<u64>,
    id: Digest,
}

impl DisputePlace {
    fn of(d: &DisputeRecord, concerns_us: bool) -> Self {
        Self {
            strangers: !concerns_us,
            block: Reverse(d.block),
            id: d.dispute,
        }
    }

    /// Reads a cursor.
    pub fn parse(cursor: &str) -> Option<Self> {
        let (whose, rest) = cursor.split_once('-')?;
        let (block, id) = rest.split_once('-')?;
        let strangers = match whose {
            "ours" => false,
            "others" => true,
            _ => return None,
        };
        Some(Self {
            strangers,
            block: Reverse(block.parse().ok()?),
            id: Digest::from_hex(id)?,
        })
    }
}

impl fmt::Display for DisputePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.strangers { "others" } else { "ours" };
        write!(f, "{whose}-{}-{}", self.block.0, self.id)
    }
}

impl Archive {
    /// Disputes behind a place: first those that concern this node, then those of strangers, who can record any number; of each the
    /// newest first.
    ///
    /// # Errors
    /// [`RoomError::Internal`].
    pub fn disputes(
        &self,
        after: Option<DisputePlace>,
        limit: Option<usize>,
    ) -> RoomResult<Page<DisputeView>> {
        self.listed(|_| true, after, limit)
    }

    /// Those of one agreement, the newest first.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] for an agreement that is not known.
    pub fn disputes_of(
        &self,
        a: &AgreementId,
        after: Option<DisputePlace>,
        limit: Option<usize>,
    ) -> RoomResult<Page<DisputeView>> {
        self.agreement(a)?;
        self.listed(|d| d.agreement == Some(*a), after, limit)
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

    fn listed(
        &self,
        wanted: impl Fn(&DisputeRecord) -> bool,
        after: Option<DisputePlace>,
        limit: Option<usize>,
    ) -> RoomResult<Page<DisputeView>> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let registry = self.registered.read();
        let mut places: Vec<_> = registry
            .disputes
            .values()
            .filter(|d| wanted(d))
            .map(|d| DisputePlace::of(d, registry.concerns_us(&d.dispute)))
            .filter(|place| after.is_none_or(|after| *place > after))
            .collect();
        places.sort_unstable();
        let more = places.len() > limit;
        places.truncate(limit);
        let records = places.iter().filter_map(|p| registry.disputes.get(&p.id));
        let records: Vec<_> = records.cloned().collect();
        drop(registry);
        let views = records.iter().map(|d| self.view(d));
        Ok(Page {
            items: views.collect::<RoomResult<_>>()?,
            next: places.last().filter(|_| more).map(ToString::to_string),
        })
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
