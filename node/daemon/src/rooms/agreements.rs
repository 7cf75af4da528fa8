//! An agreement with all that it takes to check anything of it: its terms, its nodes' keys, and the key that they make, `a`.

use std::sync::Arc;

use diversity_chain::calls;
use diversity_chain::look_back::Entity;
use diversity_client::abi::usable_name;
use diversity_client::terms_json::{TermsError, TermsJson};
use diversity_keys::musig::AgreementKey;
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, Deployment, PublicKey, SensorId};

use super::archive::records::Records;
use super::error::{RoomError, RoomResult};
use crate::node::activation::{aggregate, node_keys};
use crate::node::registry::{self, AgreementRecord};
use crate::node::shared::Registered;
use crate::node::sought::Sought;

/// An agreement with its terms and the key that terms and nodes make.
#[derive(Clone)]
pub struct Agreement {
    /// `a` as it was asked for. The contract cannot compute it, so one that stands on chain may differ from [`Self::key`]; then
    /// nothing of it ever settles.
    pub id: AgreementId,
    /// The terms.
    pub terms: Terms,
    /// Protocol keys, node-index order.
    pub keys: Vec<PublicKey>,
    /// Its key.
    pub key: AgreementKey,
}

impl Agreement {
    /// The key as the contract's calls want it.
    pub fn chain_key(&self) -> calls::AgreementKey {
        calls::AgreementKey {
            agreement: AgreementId(self.key.id),
            aggregate: self.key.aggregate_x,
            y: self.key.y,
        }
    }

    /// Its sensors, agreement order.
    pub fn sensors(&self) -> Vec<SensorId> {
        self.terms.sensors.iter().map(|s| s.sensor).collect()
    }
}

/// Where agreements are looked up and drafts are checked.
#[derive(Clone)]
pub struct Book {
    /// Chain and contract.
    pub deployment: Deployment,
    /// Who is registered.
    pub registered: Registered,
    /// Terms that were accepted or published.
    pub records: Records,
    /// Who is looked for on the chain again.
    pub sought: Arc<Sought>,
}

impl Book {
    /// A draft whose parties are all registered and whose id is the one given.
    ///
    /// # Errors
    /// [`RoomError::Terms`], [`RoomError::NotRegistered`] or [`RoomError::AgreementId`].
    pub fn draft(&self, a: &AgreementId, json: &TermsJson) -> RoomResult<Agreement> {
        let terms =
            Terms::try_from(json).map_err(|e: TermsError| RoomError::Terms(e.to_string()))?;
        if let Some(field) = terms
            .result
            .iter()
            .chain(&terms.detail)
            .find(|f| !usable_name(&f.name))
        {
            return Err(RoomError::Terms(format!(
                "a field may not be called {:?}: results use that name themselves",
                field.name
            )));
        }
        let keys = self.registered_keys(&terms)?;
        let key = aggregate(&self.deployment, &terms, &keys)
            .map_err(|e| RoomError::AgreementId(e.to_string()))?;
        if key.id != a.0 {
            return Err(RoomError::AgreementId(format!(
                "the nodes' keys and these terms make {}, not {a}",
                AgreementId(key.id)
            )));
        }
        Ok(Agreement {
            id: *a,
            terms,
            keys,
            key,
        })
    }

    /// The same. Parties whose registrations were dropped while they were strangers are looked for on the chain first.
    ///
    /// # Errors
    /// Those of [`Self::draft`]; [`RoomError::Late`] if that takes longer than a caller waits.
    pub async fn draft_of_known(&self, a: &AgreementId, json: &TermsJson) -> RoomResult<Agreement> {
        let drafted = self.draft(a, json);
        let (Err(RoomError::NotRegistered(_)), Ok(terms)) = (&drafted, Terms::try_from(json))
        else {
            return drafted;
        };
        self.find(registry::parties(&terms).collect()).await?;
        self.draft(a, json)
    }

    /// Looks for what was dropped of these while they were strangers.
    ///
    /// # Errors
    /// [`RoomError::Late`] if that takes longer than a caller waits.
    pub async fn find(&self, entities: Vec<Entity>) -> RoomResult<()> {
        if self.sought.find(&self.registered, entities).await {
            return Ok(());
        }
        Err(RoomError::Late(
            "others have registered so much that this node dropped what it held of strangers; it is looking on the chain for those who are named here".into(),
        ))
    }

    /// What the chain says of an agreement, with terms that are its own.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if it does not stand on chain, or if its terms are not here.
    pub fn load(&self, a: &AgreementId) -> RoomResult<(AgreementRecord, Agreement)> {
        let record = self.registered.read().agreements.get(a).cloned();
        let record = record.ok_or_else(|| {
            RoomError::not_found(
                format!("no agreement {a} stands on chain"),
                "Create it with POST /v1/agreements.",
            )
        })?;
        let terms = self
            .records
            .terms(a)?
            .filter(|t| t.digest() == record.terms_digest)
            .ok_or_else(|| {
                RoomError::not_found(
                    format!("the terms of {a} are not known to this node"),
                    "Ask one of the agreement's nodes.",
                )
            })?;
        let keys = node_keys(&self.registered.read(), &terms).map_err(|node| {
            RoomError::internal(format!("node {node} of agreement {a} is not registered"))
        })?;
        let key = aggregate(&self.deployment, &terms, &keys).map_err(RoomError::internal)?;
        let agreement = Agreement {
            id: *a,
            terms,
            keys,
            key,
        };
        Ok((record, agreement))
    }

    /// The keys of the terms' nodes, if everybody in them is registered.
    fn registered_keys(&self, terms: &Terms) -> RoomResult<Vec<PublicKey>> {
        let registry = self.registered.read();
        let missing =
            |who: String| RoomError::NotRegistered(format!("{who} of the terms is not registered"));
        if let Some(user) = terms.users.iter().find(|u| !registry.users.contains_key(u)) {
            return Err(missing(format!("user {user}")));
        }
        if let Some(s) = terms
            .sensors
            .iter()
            .find(|s| !registry.sensors.contains_key(&s.sensor))
        {
            return Err(missing(format!("sensor {}", s.sensor)));
        }
        node_keys(&registry, terms).map_err(|node| missing(format!("node {node}")))
    }
}
