//! What is kept whatever happens, and what is dropped when strangers register more than there is room for.

use std::collections::BTreeSet;

use diversity_chain::look_back::Entity;
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, UserId};
use diversity_store::Op;

use super::records::{
    AgreementRecord, NodeRecord, SensorRecord, block_of, dropped_key, evidence_key, forget, key,
    put,
};
use super::strangers::RECORD_BYTES;
use super::{Applied, Registry};

/// Parties, nodes and sensors of the agreements that are kept.
#[derive(Debug, Default)]
pub(super) struct Parties {
    users: BTreeSet<UserId>,
    nodes: BTreeSet<NodeId>,
    sensors: BTreeSet<SensorId>,
}

impl Registry {
    /// Who is a party to what is kept, and who is a stranger; the oldest first.
    pub(super) fn sort_out(&mut self) {
        // What is kept is what is accepted, whatever an earlier run kept.
        let accepted = |(a, r): (&AgreementId, &mut AgreementRecord)| {
            let terms = self.consent.terms(a, &r.terms_digest);
            r.kept = terms.is_some();
            terms
        };
        let kept: Vec<_> = self.agreements.iter_mut().filter_map(accepted).collect();
        for terms in kept {
            self.join(&terms);
        }
        let mut found = Vec::new();
        found.extend(
            self.users
                .iter()
                .map(|(id, r)| (r.block, b'u', id.0.to_vec())),
        );
        found.extend(
            self.sensors
                .iter()
                .map(|(id, r)| (r.block, b's', id.0.to_vec())),
        );
        found.extend(
            self.nodes
                .iter()
                .map(|(id, r)| (r.block, b'n', id.0.to_vec())),
        );
        found.extend(
            self.agreements
                .iter()
                .map(|(id, r)| (r.block, b'a', id.0.to_vec())),
        );
        found.extend(
            self.disputes
                .iter()
                .map(|(id, r)| (r.block, b'd', id.0.to_vec())),
        );
        found.sort();
        for (_, kind, id) in found {
            self.weigh(kind, id);
        }
        self.index_contradictions();
        for (node, r) in &self.nodes {
            self.peer_keys.insert(r.declaration.peer_key, *node);
        }
    }

    pub(super) fn contradicts(&mut self, sensor: SensorId, q: u64, dispute: Digest) {
        let lowest = self.contradicted.entry(sensor).or_insert((q, dispute));
        if q < lowest.0 {
            *lowest = (q, dispute);
        }
    }

    /// Which sensors have contradicted themselves, by the disputes that stand.
    pub(super) fn index_contradictions(&mut self) {
        let found = self.disputes.values().filter_map(|d| {
            let sensor = d.accused.filter(|_| d.agreement.is_none())?;
            Some((SensorId::from(sensor), d.at, d.dispute))
        });
        for (sensor, q, dispute) in found.collect::<Vec<_>>() {
            self.contradicts(sensor, q, dispute);
        }
    }

    /// Whether a dispute is about an agreement that is kept, or a sensor of one.
    pub fn concerns_us(&self, dispute: &Digest) -> bool {
        self.is_ours(b'd', &dispute.0)
    }

    /// Whether an entry belongs to what this node keeps.
    pub(super) fn is_ours(&self, kind: u8, id: &[u8]) -> bool {
        let short = || <[u8; 20]>::try_from(id).ok();
        let long = || <[u8; 32]>::try_from(id).ok().map(Digest);
        let sensor = |s: &SensorId| {
            let owner = self.sensors.get(s).map(|r| r.owner);
            self.ours.sensors.contains(s) || owner.is_some_and(|o| self.ours.users.contains(&o))
        };
        let kept = |a: &AgreementId| self.agreements.get(a).is_some_and(|r| r.kept);
        match kind {
            b'u' => short().is_some_and(|u| self.ours.users.contains(&UserId(u))),
            b's' => short().is_some_and(|s| sensor(&SensorId(s))),
            b'n' => short().is_some_and(|n| {
                Some(NodeId(n)) == self.node || self.ours.nodes.contains(&NodeId(n))
            }),
            b'a' => long().is_some_and(|a| kept(&AgreementId(a.0))),
            _ => long().and_then(|d| self.disputes.get(&d)).is_some_and(|d| {
                match (d.agreement, d.accused) {
                    (Some(a), _) => kept(&a),
                    (None, Some(s)) => sensor(&s.into()),
                    (None, None) => false,
                }
            }),
        }
    }

    /// Counts an entry of a stranger.
    pub(super) fn weigh(&mut self, kind: u8, id: Vec<u8>) {
        if self.is_ours(kind, &id) {
            return;
        }
        let short = || <[u8; 20]>::try_from(&id[..]).unwrap_or_default();
        let long = || <[u8; 32]>::try_from(&id[..]).unwrap_or_default();
        let bytes = match kind {
            b's' => self
                .sensors
                .get(&SensorId(short()))
                .map(SensorRecord::bytes),
            b'n' => self.nodes.get(&NodeId(short())).map(NodeRecord::bytes),
            b'a' => self
                .agreements
                .get(&AgreementId(long()))
                .map(AgreementRecord::bytes),
            b'd' => self
                .disputes
                .get(&Digest(long()))
                .map(|d| d.evidence_bytes as usize),
            _ => None,
        };
        self.strangers
            .add((kind, id), RECORD_BYTES + bytes.unwrap_or(0));
    }

    /// Drops the oldest of what strangers have registered, as far as there is too much of it.
    pub(super) fn make_room(&mut self, out: &mut Applied) {
        let before = self.dropped;
        while let Some((kind, id)) = self.strangers.surplus() {
            // It has become ours in the meantime.
            if self.is_ours(kind, &id) {
                continue;
            }
            self.dropped += 1;
            forget(&mut out.ops, kind, &id);
            let short = || <[u8; 20]>::try_from(&id[..]).unwrap_or_default();
            let long = || <[u8; 32]>::try_from(&id[..]).unwrap_or_default();
            match kind {
                b'u' => {
                    self.users.remove(&UserId(short()));
                    out.dropped.push(Entity::User(UserId(short())));
                }
                b's' => {
                    self.sensors.remove(&SensorId(short()));
                    out.dropped.push(Entity::Sensor(SensorId(short())));
                }
                b'n' => {
                    out.dropped.push(Entity::Node(NodeId(short())));
                    if let Some(r) = self.nodes.remove(&NodeId(short())) {
                        self.peer_keys.remove(&r.declaration.peer_key);
                    }
                }
                b'a' => {
                    self.agreements.remove(&AgreementId(long()));
                    self.drop_logs(&AgreementId(long()), out);
                }
                _ => {
                    if let Some(d) = self.disputes.remove(&Digest(long()))
                        && let Some(sensor) = d.accused.filter(|_| d.agreement.is_none())
                    {
                        let sensor = SensorId::from(sensor);
                        self.contradicted.remove(&sensor);
                        out.dropped.push(Entity::Sensor(sensor));
                    }
                    self.fresh.remove(&Digest(long()));
                    out.ops.push(Op::Delete(evidence_key(&Digest(long()))));
                }
            }
        }
        if self.dropped == before {
            return;
        }
        if before == 0 {
            tracing::warn!(
                "others have registered more than this node keeps of strangers: their oldest entries are dropped, and looked for on the chain should they be needed"
            );
        }
        out.ops.push(put(dropped_key(), |w| {
            w.u64(self.dropped);
        }));
    }

    /// What the chain said of an agreement, and its terms.
    fn drop_logs(&self, a: &AgreementId, out: &mut Applied) {
        let prefixes = [b'k', b'l', b'm', b't'].map(|kind| key(kind, &a.0));
        let of_it = |k: &[u8]| prefixes.iter().any(|p| k.starts_with(p));
        out.ops.retain(|op| match op {
            Op::Put(k, _) => !of_it(k),
            Op::Delete(_) => true,
        });
        let stored = self
            .store
            .iter()
            .flat_map(|s| prefixes.iter().map(|p| s.scan_prefix(p)));
        // What cannot be read is not there to be dropped.
        let keys = stored.flatten().filter_map(|item| item.ok().map(|i| i.0));
        out.ops.extend(keys.map(Op::Delete));
    }

    /// What the chain said of agreements above a block.
    pub(super) fn drop_logs_above(&self, above: u64, out: &mut Applied) {
        let Some(store) = &self.store else {
            return;
        };
        let agreements = self.agreements.keys();
        let prefixes = agreements.flat_map(|a| [b'k', b'l', b'm'].map(|kind| key(kind, &a.0)));
        let items = prefixes.flat_map(|p| store.scan_prefix(&p)).flatten();
        let gone = items.filter(|(k, v)| {
            // An event is known by its place, and everything else of it leads to that place.
            let place = if k[1] == b'k' { k } else { v };
            block_of(place).is_some_and(|block| block > above)
        });
        out.ops.extend(gone.map(|(k, _)| Op::Delete(k)));
    }

    /// The parties to an agreement that is kept are no strangers.
    fn join(&mut self, terms: &Terms) {
        self.ours.users.extend(&terms.users);
        self.ours.nodes.extend(terms.nodes.iter().map(|n| n.node));
        self.ours
            .sensors
            .extend(terms.sensors.iter().map(|s| s.sensor));
        let users = terms.users.iter().map(|u| (b'u', u.0.to_vec()));
        let nodes = terms.nodes.iter().map(|n| (b'n', n.node.0.to_vec()));
        let sensors = terms.sensors.iter().map(|s| (b's', s.sensor.0.to_vec()));
        for id in users.chain(nodes).chain(sensors) {
            self.strangers.forget(&id);
        }
    }

    /// Agreements that are kept.
    pub fn kept(&self) -> Vec<AgreementId> {
        let kept = self.agreements.iter().filter(|(_, r)| r.kept);
        kept.map(|(a, _)| *a).collect()
    }

    /// This node has accepted an agreement, or runs it: nothing of it is dropped any more.
    pub fn keep(&mut self, a: &AgreementId, terms: &Terms, ops: &mut Vec<Op>) {
        self.join(terms);
        let Some(record) = self.agreements.get_mut(a) else {
            return;
        };
        if !record.kept {
            record.kept = true;
            ops.push(record.put(a));
        }
        self.strangers.forget(&(b'a', a.0.to_vec()));
        for (id, _) in self
            .disputes
            .iter()
            .filter(|(_, d)| d.agreement == Some(*a))
        {
            self.strangers.forget(&(b'd', id.0.to_vec()));
        }
    }
}
