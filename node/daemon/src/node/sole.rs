//! One process for one node on this machine: a copied data directory has locks of its own, and two processes with one key would sign
//! different things.

use std::io;

use diversity_proto::{Deployment, NodeId};

/// Held while the node runs; the system lets go of it when the process ends, however it ends.
pub struct Sole {
    _held: Held,
}

impl Sole {
    /// Nothing if another process on this machine has it.
    ///
    /// # Errors
    /// What the system says.
    pub fn claim(deployment: &Deployment, node: &NodeId) -> io::Result<Option<Self>> {
        let whose = [&deployment.bytes()[..], &node.0].concat();
        let hash = diversity_keys::keccak256(&whose);
        let id: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
        Ok(hold(&format!("diversity-node-{id}"))?.map(|held| Self { _held: held }))
    }
}

/// A name that no file stands for, so that it does not depend on folders and leaves nothing behind.
#[cfg(target_os = "linux")]
type Held = std::os::unix::net::UnixListener;

#[cfg(target_os = "linux")]
fn hold(name: &str) -> io::Result<Option<Held>> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let address = SocketAddr::from_abstract_name(name)?;
    match UnixListener::bind_addr(&address) {
        Ok(held) => Ok(Some(held)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
type Held = std::fs::File;

#[cfg(not(target_os = "linux"))]
fn hold(name: &str) -> io::Result<Option<Held>> {
    let path = std::env::temp_dir().join(format!("{name}.lock"));
    let file = std::fs::File::create(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::Address;

    #[test]
    fn a_second_one_is_noticed_until_the_first_has_gone() {
        let deployment = |chain_id| Deployment {
            chain_id,
            contract: Address([9; 20]),
        };
        let mut node = [0; 20];
        node[..4].copy_from_slice(&std::process::id().to_be_bytes());
        let node = NodeId(node);
        let claim = |chain| Sole::claim(&deployment(chain), &node).expect("the system answers");
        let first = claim(1).expect("free");
        assert!(claim(1).is_none());
        assert!(claim(2).is_some(), "another deployment is another node");
        drop(first);
        assert!(claim(1).is_some());
    }
}
