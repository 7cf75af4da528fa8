//! N4: no blame record names an honest node, and no honest node tells people that another one misbehaved.

use diversity_engine::api::Evidence;
use diversity_proto::{NodeId, SensorId};

/// Whom a record may not name.
pub struct Blame {
    honest: Vec<NodeId>,
    /// Sensors that say one thing only.
    sensors: Vec<SensorId>,
}

impl Blame {
    /// These nodes and sensors never lie.
    pub fn new(honest: Vec<NodeId>, sensors: Vec<SensorId>) -> Self {
        Self { honest, sensors }
    }
    /// An honest node finds a contradiction of a sensor.
    pub fn sensor(&self, sensor: &SensorId) -> Result<(), String> {
        if self.sensors.contains(sensor) {
            Err(format!(
                "a contradiction is found of the honest sensor {sensor}"
            ))
        } else {
            Ok(())
        }
    }
    fn spare(&self, node: &NodeId, how: &str) -> Result<(), String> {
        if self.honest.contains(node) {
            Err(format!("{how} names the honest node {node}"))
        } else {
            Ok(())
        }
    }
    /// The contract recorded a misbehaviour.
    pub fn recorded(&self, blamed: &NodeId) -> Result<(), String> {
        self.spare(blamed, "a record on the chain")
    }
    /// This node was honest, but its operator put back an old copy of its disk: it may sign twice (R2).
    pub fn excuse(&mut self, node: &NodeId) {
        self.honest.retain(|n| n != node);
    }
    /// An honest node tells people of a fault.
    pub fn noticed(&self, node: &NodeId, what: &str) -> Result<(), String> {
        self.spare(node, &format!("a notice ({what})"))
    }
    /// An honest node hands evidence to its outbox.
    pub fn accused(&self, evidence: &Evidence) -> Result<(), String> {
        match evidence {
            Evidence::Equivocation { node, .. } => self.spare(node, "evidence of two commits"),
            Evidence::FalseOpening { node, .. } => self.spare(node, "evidence of a false opening"),
        }
    }
}
