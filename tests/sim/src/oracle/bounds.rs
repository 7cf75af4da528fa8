//! What a peer may make an honest node do: draw a nonce now and then, and send what it keeps now and then. Nobody's messages call
//! for more.

use diversity_proto::round::Session;
use std::collections::BTreeMap;

/// What honest nodes did at the wish of others.
#[derive(Default)]
pub struct Bounds {
    /// For a node and a range: since when, and how many nonces.
    nonces: BTreeMap<(usize, Session), (u64, u64)>,
    /// When a record was last sent to a peer.
    served: BTreeMap<(usize, usize, Vec<u8>), u64>,
}

impl Bounds {
    /// A node starts anew.
    pub fn restart(&mut self, node: usize) {
        self.nonces.retain(|(of, _), _| *of != node);
        self.served.retain(|(of, ..), _| *of != node);
    }

    /// A node draws a nonce; its own timer opens an attempt every `timeout_ms` at least, and the others may open one between.
    pub fn nonce(
        &mut self,
        now: u64,
        node: usize,
        s: &Session,
        timeout_ms: u64,
    ) -> Result<(), String> {
        let range = Session { attempt: 0, ..*s };
        let (since, drawn) = self.nonces.entry((node, range)).or_insert((now, 0));
        *drawn += 1;
        if *drawn > 6 + 3 * (now - *since) / timeout_ms {
            return Err(format!(
                "node {node} drew {drawn} nonces for {}..={} in {} ms",
                s.from,
                s.t,
                now - *since
            ));
        }
        Ok(())
    }

    /// A node sends a peer what it keeps; the same not before `every_ms` are over.
    pub fn served(
        &mut self,
        now: u64,
        node: usize,
        to: usize,
        key: &[u8],
        every_ms: u64,
    ) -> Result<(), String> {
        let before = self.served.insert((node, to, key.to_vec()), now);
        match before {
            Some(at) if now < at + every_ms => Err(format!(
                "node {node} sends node {to} the same record again {} ms later",
                now - at
            )),
            _ => Ok(()),
        }
    }
}
