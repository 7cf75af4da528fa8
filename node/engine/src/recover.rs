//! A core from what an earlier run made durable: it repeats the same bytes and never signs twice (R2).

use crate::Node;
use crate::api::{Config, FrameRef};
use crate::ingest::Ingest;
use crate::io::Io;
use crate::records::{
    self, AgreementRecord, ExecutionRecord, FinalRecord, RevealRecord, SensorRecord,
};
use crate::repair::Repair;
use crate::trace::{Stored, Trace};
use diversity_proto::codec::{DecodeError, Result};
use diversity_proto::frame::Frame;
use std::collections::BTreeMap;

impl Node {
    /// A core that knows what `records` (key, value; in key order) of an earlier run say. Its first effects come from the first step.
    ///
    /// # Errors
    /// A record of an unknown version or with a broken value.
    pub fn recover<'a>(
        config: Config,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self> {
        let mut node = Self {
            io: Io::new(config),
            traces: BTreeMap::new(),
            agreements: BTreeMap::new(),
            parts: BTreeMap::new(),
            ingest: Ingest::default(),
            repair: Repair::default(),
            resumed: false,
        };
        // Key order is A C F G H S V X: what depends on sensors and agreements is kept until all are in.
        let mut later: Vec<(&[u8], &[u8])> = Vec::new();
        let mut agreements = Vec::new();
        for (key, value) in records {
            match key.first() {
                Some(&records::SENSOR) => node.recover_sensor(key, value)?,
                Some(&records::AGREEMENT) => agreements.push((key, value)),
                // Records of other families are the driver's own.
                _ => later.push((key, value)),
            }
        }
        for (key, value) in agreements {
            let id = key
                .get(1..)
                .and_then(|k| k.try_into().ok())
                .ok_or(DecodeError::Invalid("agreement key"))?;
            node.add_agreement(
                diversity_proto::AgreementId(id),
                AgreementRecord::decode(value)?,
            );
        }
        // Executions before reveals before certificates before finality before aggregates.
        for prefix in [
            records::SEGMENT,
            records::EXECUTION,
            records::REVEAL,
            records::CERTIFICATE,
            records::FINAL,
        ] {
            node.recover_family(prefix, &later)?;
        }
        node.recover_units();
        node.recover_family(records::AGGREGATE, &later)?;
        // What recovery itself would have asked for (certificates are durable already) is not asked for again.
        node.io.finish();
        Ok(node)
    }

    fn recover_family(&mut self, prefix: u8, records: &[(&[u8], &[u8])]) -> Result<()> {
        for (key, value) in records.iter().filter(|(k, _)| k.first() == Some(&prefix)) {
            if prefix == records::SEGMENT {
                let n = key
                    .get(1..)
                    .and_then(|k| k.try_into().ok())
                    .ok_or(DecodeError::Invalid("segment key"))?;
                self.recover_segment(u64::from_be_bytes(n), value)?;
                continue;
            }
            let (id, t) = records::split_t_key(key)
                .ok_or(DecodeError::Invalid("key of a record of (a, t)"))?;
            let io = &mut self.io;
            let Some(a) = self.agreements.get_mut(&id) else {
                continue;
            };
            match prefix {
                records::EXECUTION => a.recover_execution(t, ExecutionRecord::decode(value)?),
                records::REVEAL => a.recover_reveal(t, RevealRecord::decode(value)?),
                records::CERTIFICATE => a.recover_certificate(t, records::stored_part(value)?, io),
                records::AGGREGATE => a
                    .settle
                    .recover_aggregate(&records::stored_part(value)?, io.now),
                _ => match FinalRecord::decode(value)? {
                    FinalRecord::Settled { last, .. } => a.settle.recover_settled(last),
                    FinalRecord::Hole { .. } => a.settle.recover_hole(t),
                },
            }
        }
        Ok(())
    }

    fn recover_units(&mut self) {
        for a in self.agreements.values_mut() {
            a.settle.recover_units(&mut self.io);
        }
    }

    fn recover_sensor(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let r = SensorRecord::decode(value)?;
        let id = key
            .get(1..)
            .and_then(|k| k.try_into().ok())
            .ok_or(DecodeError::Invalid("sensor key"))?;
        let id = diversity_proto::SensorId(id);
        let mut trace = Trace::new(r.declaration);
        trace.void_from = r.void_from;
        self.traces.insert(id, trace);
        Ok(())
    }

    fn recover_segment(&mut self, segment: u64, value: &[u8]) -> Result<()> {
        self.ingest.next_segment = self.ingest.next_segment.max(segment + 1);
        for (index, bytes) in (0u32..).zip(records::split_segment(value)?) {
            let f = Frame::decode(bytes)?;
            let digest = f.digest(&self.io.config.deployment);
            let times = f.messages().map(|m| m.time).collect();
            let at = FrameRef { segment, index };
            if let Some(trace) = self.traces.get_mut(&f.sensor) {
                trace.insert(
                    f.first_q,
                    Stored {
                        count: f.count,
                        epoch: f.epoch,
                        at,
                        digest,
                        times,
                    },
                );
            }
        }
        Ok(())
    }
}
