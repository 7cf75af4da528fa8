//! Users, sensors and nodes as they are registered, and what contradictions make of sensors.

use diversity_chain::events::{ChainEvent as Event, Located, Position, Refusal, Skipped};
use diversity_chain::evidence::{self, Evidence};
use diversity_engine::api::{ChainEvent, Input};
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::frame::Contradiction;
use diversity_proto::{Digest, NodeId, SensorId, UserId};
use diversity_store::Op;

use super::records::{DisputeRecord, NodeRecord, SensorRecord, UserRecord, evidence_key, key, put};
use super::{Applied, Registry};

impl Registry {
    pub(super) fn user(&mut self, user: UserId, name: &str, at: Position, out: &mut Applied) {
        let record = UserRecord {
            name: name.into(),
            tx: at.tx,
            block: at.block,
        };
        out.ops.push(put(key(b'u', &user.0), |w| {
            w.text(&record.name).raw(&record.tx.0).u64(record.block);
        }));
        if self.users.insert(user, record).is_none() {
            self.weigh(b'u', user.0.to_vec());
        }
    }

    /// A declaration of a node, if it is newer than the one that stands and its peer key is nobody else's.
    pub(super) fn node(
        &mut self,
        node: NodeId,
        owner: UserId,
        declaration: &NodeDeclaration,
        at: Position,
        out: &mut Applied,
    ) -> Result<(), Skipped> {
        let known = self.nodes.get(&node);
        if let Some(known) = known.filter(|k| !k.taken_back) {
            if known.declaration == *declaration && known.owner == owner {
                return Ok(());
            }
            let (stands, given) = (known.declaration.revision, declaration.revision);
            if given <= stands {
                return Err(Refusal::RevisionNotNewer.because(format!(
                    "revision {given} of node {node}, whose revision {stands} stands"
                )));
            }
        }
        let holder = self.peer_keys.get(&declaration.peer_key);
        if let Some(holder) = holder.filter(|h| **h != node) {
            return Err(Refusal::PeerKeyTaken
                .because(format!("node {node} claims the peer key of node {holder}")));
        }
        if let Some(known) = known {
            self.peer_keys.remove(&known.declaration.peer_key);
        }
        self.peer_keys.insert(declaration.peer_key, node);
        let record = NodeRecord {
            owner,
            declaration: declaration.clone(),
            tx: at.tx,
            block: at.block,
            taken_back: false,
        };
        out.ops.push(record.put(&node));
        out.nodes.push(record.known(node));
        if self.nodes.insert(node, record).is_none() {
            self.weigh(b'n', node.0.to_vec());
        }
        Ok(())
    }

    pub(super) fn sensor(
        &mut self,
        sensor: SensorId,
        owner: UserId,
        declaration: &SensorDeclaration,
        at: Position,
        out: &mut Applied,
    ) {
        // The first registration counts; the contract lets nobody replace it without the sensor's own key, and what was
        // signed and stored under the first declaration must keep its meaning.
        if self.sensors.contains_key(&sensor) {
            return;
        }
        let record = SensorRecord {
            owner,
            declaration: declaration.clone(),
            tx: at.tx,
            block: at.block,
            void: self.contradicted.get(&sensor).copied(),
        };
        out.ops.push(record.put(&sensor));
        self.sensors.insert(sensor, record);
        self.weigh(b's', sensor.0.to_vec());
    }

    /// What the core has to hear of a sensor before it hears of its frames, or of an agreement over it: nobody tells it of the
    /// sensors of strangers, which may be any number.
    pub fn introduce(&self, sensor: &SensorId) -> Vec<Input> {
        let Some(record) = self.sensors.get(sensor) else {
            return Vec::new();
        };
        let mut out = vec![Input::Sensor {
            id: *sensor,
            declaration: record.declaration.clone(),
        }];
        let evidence = record.void.map(|(_, dispute)| self.evidence(&dispute));
        if let Some(Ok(evidence)) = evidence {
            out.extend(void(*sensor, &evidence));
        }
        out
    }

    pub(super) fn dispute(&mut self, located: &Located, out: &mut Applied) {
        let Event::DisputeRecorded {
            dispute,
            kind,
            agreement,
            accused,
            epoch,
            at,
            evidence,
        } = &located.event
        else {
            return;
        };
        if self.disputes.contains_key(dispute) {
            return;
        }
        let record = DisputeRecord {
            dispute: *dispute,
            kind: *kind,
            agreement: *agreement,
            accused: *accused,
            epoch: *epoch,
            at: *at,
            evidence_bytes: u32::try_from(evidence.len()).unwrap_or(u32::MAX),
            tx: located.at.tx,
            block: located.at.block,
            resolved: false,
        };
        out.ops.push(record.put());
        out.ops
            .push(Op::Put(evidence_key(dispute), evidence.clone()));
        self.fresh.insert(*dispute, evidence.clone());
        self.disputes.insert(*dispute, record);
        self.weigh(b'd', dispute.0.to_vec());
        if self.is_ours(b'd', &dispute.0) {
            out.disputes.push(*dispute);
        }
        if agreement.is_none()
            && let Some(accused) = accused
        {
            self.void(SensorId::from(*accused), *at, *dispute, evidence, out);
        }
    }

    /// A sensor has contradicted itself.
    fn void(
        &mut self,
        sensor: SensorId,
        q: u64,
        dispute: Digest,
        evidence: &[u8],
        out: &mut Applied,
    ) {
        self.contradicts(sensor, q, dispute);
        if let Some(s) = self.sensors.get_mut(&sensor)
            && s.void.is_none_or(|(from, _)| q < from)
        {
            s.void = Some((q, dispute));
            out.ops.push(s.put(&sensor));
            out.void.push((sensor, q));
        }
        out.inputs.extend(void(sensor, evidence));
    }
}

/// What the core is told of a contradiction: what the two frames prove.
fn void(sensor: SensorId, evidence: &[u8]) -> Option<Input> {
    let Ok(Evidence::SensorContradiction { first, second, .. }) = evidence::decode(evidence) else {
        return None;
    };
    let contradiction = Contradiction::of(&first.encode(), &second.encode())?;
    Some(Input::Chain(ChainEvent::SensorVoid {
        sensor,
        contradiction,
    }))
}
