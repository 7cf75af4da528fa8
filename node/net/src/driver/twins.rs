//! Two processes with one peer key. Each process names itself once, at random, in what it says of itself when it connects; when two
//! names stand behind one peer id and both connections are alive, somebody has copied a data directory.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

/// A connection to a peer.
#[derive(Debug, Default)]
struct Line {
    /// The name of the process behind it, once it said it.
    process: Option<String>,
    /// Whether it has answered since another name was heard: one that is dead does not.
    answered: bool,
}

/// Who stands behind the connections.
#[derive(Debug, Default)]
pub(super) struct Twins(HashMap<PeerId, HashMap<ConnectionId, Line>>);

impl Twins {
    /// What a process says of itself: `diversity/VERSION/NAME`.
    pub fn named(&mut self, peer: PeerId, connection: ConnectionId, agent: &str) {
        let name = agent.rsplit_once('/').map(|(_, name)| name.to_owned());
        let lines = self.0.entry(peer).or_default();
        let others = lines
            .values()
            .any(|l| l.process.is_some() && l.process != name);
        if others {
            lines.values_mut().for_each(|line| line.answered = false);
        }
        lines.insert(
            connection,
            Line {
                process: name,
                answered: false,
            },
        );
    }

    /// A connection is alive. Gives whether two processes are behind the peer, each time that it is seen anew.
    pub fn answered(&mut self, peer: &PeerId, connection: ConnectionId) -> bool {
        let Some(lines) = self.0.get_mut(peer) else {
            return false;
        };
        let Some(line) = lines.get_mut(&connection) else {
            return false;
        };
        line.answered = true;
        let alive = || lines.values().filter(|l| l.answered);
        let mut names: Vec<_> = alive().filter_map(|l| l.process.as_ref()).collect();
        names.sort();
        names.dedup();
        if names.len() < 2 {
            return false;
        }
        lines.values_mut().for_each(|line| line.answered = false);
        true
    }

    /// A connection is gone.
    pub fn closed(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(lines) = self.0.get_mut(peer) {
            lines.remove(&connection);
            if lines.is_empty() {
                self.0.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_that_both_answer_are_two_processes() {
        let peer = PeerId::random();
        let line = ConnectionId::new_unchecked;
        let mut twins = Twins::default();
        twins.named(peer, line(1), "diversity/0.1.0/aa");
        twins.named(peer, line(2), "diversity/0.1.0/aa");
        assert!(!twins.answered(&peer, line(1)));
        assert!(
            !twins.answered(&peer, line(2)),
            "one process, two connections"
        );
        // A process that was started again, while its old connection is not given up yet.
        twins.named(peer, line(3), "diversity/0.1.0/bb");
        assert!(!twins.answered(&peer, line(3)));
        twins.closed(&peer, line(1));
        twins.closed(&peer, line(2));
        assert!(!twins.answered(&peer, line(3)));
        twins.named(peer, line(4), "diversity/0.1.0/cc");
        assert!(!twins.answered(&peer, line(4)));
        assert!(twins.answered(&peer, line(3)));
        assert!(
            !twins.answered(&peer, line(3)),
            "told once, until both answer again"
        );
        assert!(twins.answered(&peer, line(4)));
        assert!(!twins.answered(&PeerId::random(), line(4)));
    }
}
