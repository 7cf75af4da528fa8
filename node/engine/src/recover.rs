//! A core from what an earlier run made durable: it repeats the same bytes and never signs twice (R2).

use crate::Node;
use crate::api::{Config, FrameRef};
use crate::records::{
    self, AgreementRecord, CellRecord, ExecutionRecord, FinalRecord, HeldRecord, RevealRecord,
    SensorRecord, SpentRecord,
};
use crate::trace::{Size, Trace};
use diversity_proto::codec::{DecodeError, Result};
use diversity_proto::frame::Frame;
use diversity_proto::{AgreementId, SensorId};

/// What one record is given to.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

impl Node {
    /// A core that knows what an earlier run made durable. `scan` gives every record (key, value) of one family, named by the
    /// first byte of its keys, to what it is handed, in key order; it is called once for each of [`records::FAMILIES`], in that
    /// order, and nothing of what it gave is kept but what the core needs. The first effects come from the first step.
    ///
    /// # Errors
    /// A record of an unknown version or with a broken value, or what `scan` fails with.
    pub fn recover<E: From<DecodeError>>(
        config: Config,
        mut scan: impl FnMut(u8, &mut Each<'_>) -> core::result::Result<(), E>,
    ) -> core::result::Result<Self, E> {
        let mut node = Self::new(config);
        for family in records::FAMILIES {
            if family == records::AGGREGATE {
                node.restore_units();
            }
            scan(family, &mut |key, value| node.restore(family, key, value))?;
            if family == records::CERTIFICATE {
                for a in node.agreements.values_mut() {
                    a.restore_words();
                }
            }
        }
        // What recovery itself would have asked for is asked for by the first step.
        node.io.finish();
        Ok(node)
    }

    fn restore(&mut self, family: u8, key: &[u8], value: &[u8]) -> Result<()> {
        match family {
            records::SENSOR => return self.restore_sensor(key, value),
            records::AGREEMENT => {
                let id = AgreementId(key_of(key, "agreement key")?);
                self.add_agreement(id, AgreementRecord::decode(value)?);
                return Ok(());
            }
            records::SEGMENT => {
                let n = u64::from_be_bytes(key_of(key, "segment key")?);
                return self.restore_segment(n, value);
            }
            records::OWED => {
                self.io.restore_owed(records::decode_owed(value)?);
                return Ok(());
            }
            records::SPENT => {
                let id = AgreementId(key_of(key, "key of what was spent")?);
                self.io.restore_spent(id, SpentRecord::decode(value)?);
                return Ok(());
            }
            _ => {}
        }
        let (id, t) =
            records::split_t_key(key).ok_or(DecodeError::Invalid("key of a record of (a, t)"))?;
        let io = &mut self.io;
        let Some(a) = self.agreements.get_mut(&id) else {
            return Ok(());
        };
        match family {
            records::FINAL => a.restore_final(t, &FinalRecord::decode(value)?),
            records::CELL => a.restore_cell(t, CellRecord::decode(value)?),
            records::STATE => a.restore_state(records::stored_part(value)?),
            records::CERTIFICATE => a.restore_certificate(t, records::stored_part(value)?),
            records::EXECUTION => a.restore_execution(t, &ExecutionRecord::decode(value)?),
            records::READING => a.restore_reading(t, ExecutionRecord::decode(value)?, io),
            records::ABSTAINED => {
                a.restore_abstained(t, records::decode_abstained(value)?, io);
            }
            records::HELD => a.restore_held(t, HeldRecord::decode(value)?, io),
            records::REVEAL | records::READING_REVEAL => {
                a.restore_reveal(t, RevealRecord::decode(value)?, io);
            }
            records::ASKED => a.restore_asked(t, records::decode_asked(value)?),
            _ => a.restore_aggregate(&records::stored_part(value)?),
        }
        Ok(())
    }

    fn restore_units(&mut self) {
        for a in self.agreements.values_mut() {
            a.restore_units(&mut self.io);
        }
    }

    fn restore_sensor(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let id = SensorId(key_of(key, "sensor key")?);
        let r = SensorRecord::decode(value)?;
        let mut trace = Trace::new(r.declaration);
        if let Some(q) = r.void_from {
            trace.void(q);
        }
        if let Some(c) = r.contradiction {
            trace.contradicted(c);
        }
        self.traces.insert(id, trace);
        Ok(())
    }

    fn restore_segment(&mut self, segment: u64, value: &[u8]) -> Result<()> {
        self.ingest.restore_segment(segment);
        for (index, bytes) in (0u32..).zip(records::split_segment(value)?) {
            let f = Frame::decode(bytes)?;
            let digest = f.digest(&self.io.config.deployment);
            if let Some(trace) = self.traces.get_mut(&f.sensor) {
                trace.take(&f, FrameRef { segment, index }, digest);
                trace.grows(Size::of(bytes));
                if !self.parts.contains_key(&f.sensor) {
                    self.ingest.restore_unagreed(Size::of(bytes));
                }
            }
        }
        Ok(())
    }
}

fn key_of<const N: usize>(key: &[u8], what: &'static str) -> Result<[u8; N]> {
    let rest = key.get(1..).and_then(|k| k.try_into().ok());
    rest.ok_or(DecodeError::Invalid(what))
}
