//! N4: no blame record names an honest node.

use diversity_engine::api::Evidence;
use diversity_proto::NodeId;

/// Whom a record may not name.
pub struct Blame {
    honest: Vec<NodeId>,
}

impl Blame {
    /// These nodes never lie.
    pub fn new(honest: Vec<NodeId>) -> Self {
        Self { honest }
    }
    fn spare(&self, node: &NodeId, how: &str) -> Result<(), String> {
        if self.honest.contains(node) {
            Err(format!("{how} names the honest node {node}"))
        } else {
            Ok(())
        }
    }
    /// The contract recorded a dispute.
    pub fn recorded(&self, blamed: Option<&NodeId>) -> Result<(), String> {
        blamed.map_or(Ok(()), |n| self.spare(n, "a dispute on the chain"))
    }
    /// An honest node hands evidence to its outbox.
    pub fn accused(&self, evidence: &Evidence) -> Result<(), String> {
        match evidence {
            Evidence::Equivocation { node, .. } => self.spare(node, "evidence of two commits"),
            Evidence::FalseOpening { node, .. } => self.spare(node, "evidence of a false opening"),
            Evidence::SensorContradiction { sensor, .. } => Err(format!(
                "evidence of a contradiction names the honest sensor {sensor}"
            )),
            Evidence::UnequalReveals { .. } => Ok(()),
        }
    }
}
