//! Which nodes have which sensors in common (R11): the messages of a sensor are passed on, served and taken only among the nodes of
//! the agreements that it is in.

use crate::agreement::Agreement;
use crate::alloc_prelude::*;
use diversity_proto::{AgreementId, NodeId, SensorId};
use diversity_round::sabotage::{Defect, on};

/// Which agreements of this node a sensor is part of, and as which.
pub(crate) type Parts = BTreeMap<SensorId, Vec<(AgreementId, usize)>>;
/// The agreements of this node.
pub(crate) type Agreements = BTreeMap<AgreementId, Agreement>;

/// The agreements of this node, by their sensors and nodes.
#[derive(Clone, Copy)]
pub(crate) struct Common<'a> {
    parts: &'a Parts,
    agreements: &'a Agreements,
}

impl<'a> Common<'a> {
    pub fn new(parts: &'a Parts, agreements: &'a Agreements) -> Self {
        Self { parts, agreements }
    }

    /// The agreements that a sensor is in.
    pub fn agreements(&self, sensor: &SensorId) -> impl Iterator<Item = AgreementId> + use<'a> {
        self.parts.get(sensor).into_iter().flatten().map(|p| p.0)
    }

    /// Whether a sensor is in some agreement.
    pub fn is_agreed(&self, sensor: &SensorId) -> bool {
        self.parts.contains_key(sensor)
    }

    /// Whether a sensor is in an agreement that another node is in too.
    pub fn with(&self, node: &NodeId, sensor: &SensorId) -> bool {
        let member = |a: AgreementId| self.agreements[&a].index_of(node).is_some();
        self.agreements(sensor).any(member) || on(Defect::AnybodyIsServed)
    }
}
