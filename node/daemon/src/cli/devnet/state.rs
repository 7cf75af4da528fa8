//! The folder of a devnet, and what is remembered in it.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use diversity_chain::anvil::Anvil;
use diversity_client::devnet::{
    Devnet, DevnetChain, DevnetContracts, DevnetNode, DevnetUser, write_private,
};
use diversity_proto::Address;
use serde::{Deserialize, Serialize};

use super::super::output::{Context, FAILED, Failure, Outcome};
use super::process::Process;

/// The chain's name among the processes.
pub const CHAIN: &str = "chain";
/// Version of the state file. Version 1 was of a MainContract without cells.
const VERSION: u8 = 2;
/// Ports are chosen from here to [`PORT_MAX`], below those that systems give to outgoing connections, so that a port is
/// still free when its process starts again.
const PORT_MIN: u16 = 20_000;
/// See [`PORT_MIN`].
const PORT_MAX: u16 = 30_000;

/// What a devnet remembers: `DIR/state.json`. `DIR/devnet.json` is made from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    version: u8,
    /// The folder that it was written in, to notice one that was moved or copied.
    #[serde(default)]
    folder: PathBuf,
    /// The chain.
    pub chain: Chain,
    /// What is deployed already of the contracts, in the order of deployment.
    #[serde(with = "diversity_client::hexed::list", default)]
    pub placed: Vec<Address>,
    /// Block of the first deployment.
    #[serde(default)]
    pub from_block: Option<u64>,
    /// Once all is deployed.
    pub contract: Option<Contract>,
    /// In order.
    pub nodes: Vec<Node>,
    /// In order; user k owns node k.
    pub users: Vec<DevnetUser>,
}

/// The chain of a devnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Chain {
    /// A local one.
    Anvil {
        /// Its program.
        program: PathBuf,
        /// Its port.
        port: u16,
        /// Its process, if it was started.
        process: Option<Process>,
    },
    /// Somebody else's.
    Url {
        /// Endpoint.
        url: String,
        /// Further endpoints.
        #[serde(default)]
        more: Vec<String>,
        /// PEM certificates that https endpoints may be signed by.
        #[serde(default)]
        ca_file: Option<PathBuf>,
        /// A bearer token for them.
        #[serde(default)]
        token_file: Option<PathBuf>,
        /// EIP-155 chain id, once it is known.
        chain_id: u64,
    },
}

/// Where the contracts are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Contract {
    /// Address of `MainContract`.
    #[serde(with = "diversity_client::hexed")]
    pub address: Address,
    /// Address of `Cells`.
    #[serde(with = "diversity_client::hexed")]
    pub cells: Address,
    /// Block from which on they may be used.
    pub block: u64,
}

/// A node of a devnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Program, if it is not `diversity` itself.
    pub program: Option<PathBuf>,
    /// Port of its API.
    pub api_port: u16,
    /// Port for other nodes.
    pub p2p_port: u16,
    /// Its peer id, once its keys are made.
    pub peer_id: String,
    /// Its process, if it was started.
    pub process: Option<Process>,
}

impl Node {
    /// Base URL of its API.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }
    /// Address for other nodes.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.p2p_port)
    }
}

impl Chain {
    /// Its endpoint.
    pub fn rpc_url(&self) -> String {
        match self {
            Self::Anvil { port, .. } => format!("http://127.0.0.1:{port}"),
            Self::Url { url, .. } => url.clone(),
        }
    }
    /// All its endpoints.
    pub fn rpc_urls(&self) -> Vec<String> {
        let more = match self {
            Self::Anvil { .. } => &[][..],
            Self::Url { more, .. } => more,
        };
        let more = more.iter().cloned();
        std::iter::once(self.rpc_url()).chain(more).collect()
    }
    /// Files for its endpoints: certificates, and a bearer token.
    pub fn rpc_files(&self) -> (Option<&Path>, Option<&Path>) {
        match self {
            Self::Anvil { .. } => (None, None),
            Self::Url {
                ca_file,
                token_file,
                ..
            } => (ca_file.as_deref(), token_file.as_deref()),
        }
    }
    /// Its endpoints for people: without what may be secret in a URL.
    pub fn shown(&self) -> String {
        let urls = self.rpc_urls();
        let shown: Vec<_> = urls
            .iter()
            .map(|url| diversity_chain::rpc::shown(url))
            .collect();
        shown.join(", ")
    }
    /// Its chain id.
    pub fn chain_id(&self) -> u64 {
        match self {
            Self::Anvil { .. } => diversity_chain::ANVIL_CHAIN_ID,
            Self::Url { chain_id, .. } => *chain_id,
        }
    }
    /// Whether the devnet started it.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Anvil { .. })
    }
    /// Its process.
    pub fn process(&self) -> Option<Process> {
        match self {
            Self::Anvil { process, .. } => process.clone(),
            Self::Url { .. } => None,
        }
    }
    /// Remembers its process.
    pub fn set_process(&mut self, new: Option<Process>) {
        if let Self::Anvil { process, .. } = self {
            *process = new;
        }
    }
}

impl State {
    /// A new devnet on this chain.
    pub fn new(chain: Chain) -> Self {
        Self {
            version: VERSION,
            folder: PathBuf::new(),
            chain,
            placed: Vec::new(),
            from_block: None,
            contract: None,
            nodes: Vec::new(),
            users: Vec::new(),
        }
    }
    /// The node with this name.
    pub fn node(&self, name: &str) -> Outcome<&Node> {
        self.nodes
            .iter()
            .find(|n| n.name == name)
            .ok_or_else(|| self.unknown(name))
    }
    /// The node with this name.
    pub fn node_mut(&mut self, name: &str) -> Outcome<&mut Node> {
        let unknown = self.unknown(name);
        self.nodes
            .iter_mut()
            .find(|n| n.name == name)
            .ok_or(unknown)
    }
    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<_> = self
            .nodes
            .iter()
            .map(|n| n.name.as_str())
            .chain([CHAIN])
            .collect();
        Failure::usage(format_args!(
            "the devnet has no {name}; there are: {}",
            known.join(", ")
        ))
    }
}

/// The folder of a devnet.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An existing one.
    pub fn open(dir: &Path) -> Outcome<Self> {
        let whole = fs::canonicalize(dir)
            .context(format_args!("there is no devnet in {}", dir.display()))?;
        Ok(Self(whole))
    }
    /// An existing one, or a new one that only its owner reads.
    pub fn create(dir: &Path) -> Outcome<Self> {
        let make = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .context(format_args!("cannot make {}", path.display()))
        };
        make(dir)?;
        let folder = Self::open(dir)?;
        for inner in ["logs", "nodes", "users", "chain"] {
            make(&folder.0.join(inner))?;
        }
        Ok(folder)
    }
    /// One command at a time changes a devnet. The lock goes with the returned file.
    pub fn lock(&self) -> Outcome<File> {
        let path = self.0.join("lock");
        let file = File::create(&path).context(path.display())?;
        file.try_lock().map_err(|_| {
            Failure::new(
                FAILED,
                format_args!(
                    "another command is changing the devnet in {}: wait for it",
                    self.0.display()
                ),
            )
        })?;
        Ok(file)
    }
    /// The file for scripts.
    pub fn devnet_file(&self) -> PathBuf {
        self.0.join("devnet.json")
    }
    /// The log of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(format!("{name}.log"))
    }
    /// Keys, store and modules of a node.
    pub fn data_dir(&self, node: &str) -> PathBuf {
        self.0.join("nodes").join(node)
    }
    /// A user's keystore and password.
    pub fn user_files(&self, user: &str) -> (PathBuf, PathBuf) {
        let dir = self.0.join("users");
        (
            dir.join(format!("{user}.json")),
            dir.join(format!("{user}.password")),
        )
    }
    /// The local chain.
    pub fn anvil(&self, chain: &Chain) -> Option<Anvil> {
        match chain {
            Chain::Anvil { program, port, .. } => Some(Anvil::new(
                program.clone(),
                *port,
                self.0.join("chain").join("state.json"),
            )),
            Chain::Url { .. } => None,
        }
    }
    /// Key of the account that deploys.
    pub fn deployer(&self) -> (PathBuf, PathBuf) {
        let dir = self.0.join("chain");
        (dir.join("deployer.json"), dir.join("deployer.password"))
    }
    fn state_file(&self) -> PathBuf {
        self.0.join("state.json")
    }
    /// Whether there is a devnet.
    pub fn holds_one(&self) -> bool {
        self.state_file().exists()
    }
    /// What is remembered.
    pub fn load(&self) -> Outcome<State> {
        let path = self.state_file();
        let text = fs::read_to_string(&path)
            .context(format_args!("there is no devnet in {}", self.0.display()))?;
        let mut state: State = serde_json::from_str(&text).context(format_args!(
            "{} is damaged: remove the folder",
            path.display()
        ))?;
        if state.version != VERSION {
            return Err(Failure::new(
                FAILED,
                format_args!(
                    "{} has version {}, this program knows {VERSION}: use the program that made it",
                    path.display(),
                    state.version
                ),
            ));
        }
        self.take_home(&mut state);
        Ok(state)
    }
    /// The folder may have been moved or copied since: its own files lie here, and the processes of one that was copied belong to the
    /// other.
    fn take_home(&self, state: &mut State) {
        for user in &mut state.users {
            (user.keystore, user.password_file) = self.user_files(&user.name);
        }
        let known = !state.folder.as_os_str().is_empty() && state.folder != self.0;
        if known && state.folder.join("state.json").exists() {
            state.chain.set_process(None);
            for node in &mut state.nodes {
                node.process = None;
            }
        }
    }
    /// Remembers it, and rewrites `devnet.json` once there is a contract.
    pub fn save(&self, state: &State) -> Outcome {
        let path = self.state_file();
        let state = &State {
            folder: self.0.clone(),
            ..state.clone()
        };
        let text = serde_json::to_string_pretty(state).context("cannot write JSON")?;
        // It holds the endpoints' URLs as they were given, with whatever is secret in them.
        write_private(&path, text.as_bytes()).context(path.display())?;
        let Some(contract) = state.contract else {
            return Ok(());
        };
        let pid = |p: Option<&Process>| p.filter(|p| p.runs()).map(|p| p.pid);
        let devnet = Devnet {
            chain: DevnetChain {
                // This file is shown around.
                rpc_url: diversity_chain::rpc::shown(&state.chain.rpc_url()),
                chain_id: state.chain.chain_id(),
                pid: pid(state.chain.process().as_ref()),
            },
            contracts: DevnetContracts {
                main: contract.address,
                cells: contract.cells,
            },
            nodes: state
                .nodes
                .iter()
                .map(|n| DevnetNode {
                    name: n.name.clone(),
                    api_url: n.api_url(),
                    token_file: self.data_dir(&n.name).join("api-token-admin"),
                    data_dir: self.data_dir(&n.name),
                    pid: pid(n.process.as_ref()),
                })
                .collect(),
            users: state.users.clone(),
        };
        Ok(devnet.write(&self.devnet_file())?)
    }
}

/// Free ports, all different. They are held until all are found, so that two devnets that start at once rarely meet.
pub fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let random = diversity_keys::os_random::<2>().context("no randomness")?;
    let span = PORT_MAX - PORT_MIN;
    let first = u16::from_be_bytes(random) % span;
    let mut held = Vec::new();
    for i in 0..span {
        if held.len() == count {
            break;
        }
        let port = PORT_MIN + (first + i) % span;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(Failure::new(
            FAILED,
            "there are no free ports on 127.0.0.1 between 20000 and 30000",
        ));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devnet_remembers_and_tells() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = Folder::create(&dir.path().join("net")).expect("made");
        assert!(!folder.holds_one());
        let ports = free_ports(3).expect("free");
        let mut state = State::new(Chain::Anvil {
            program: "anvil".into(),
            port: ports[0],
            process: None,
        });
        folder.save(&state).expect("saved");
        assert!(
            folder.holds_one() && !folder.devnet_file().exists(),
            "no contract yet"
        );
        state.contract = Some(Contract {
            address: Address([7; 20]),
            cells: Address([8; 20]),
            block: 1,
        });
        state.nodes.push(Node {
            name: "node1".into(),
            program: None,
            api_port: ports[1],
            p2p_port: ports[2],
            peer_id: String::new(),
            process: None,
        });
        folder.save(&state).expect("saved");
        let devnet = Devnet::read(&folder.devnet_file()).expect("read");
        assert_eq!(devnet.nodes[0].pid, None);
        assert_eq!(devnet.contracts.cells, Address([8; 20]));
        assert_eq!(
            devnet.nodes[0].api_url,
            format!("http://127.0.0.1:{}", ports[1])
        );
        assert_eq!(folder.load().expect("read").nodes.len(), 1);
        assert!(
            state
                .node("node2")
                .unwrap_err()
                .to_string()
                .contains("node1, chain")
        );
    }

    #[test]
    fn what_is_secret_in_a_url_stays_in_a_file_that_only_its_owner_reads() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let folder = Folder::create(dir.path()).expect("made");
        let mut state = State::new(Chain::Url {
            url: "https://us3r:pa,ss@besu.example:8545/v3/k3yk3y?apikey=f00dbabe".into(),
            more: vec!["https://other.example/s3cret".into()],
            ca_file: Some("/ca.pem".into()),
            token_file: None,
            chain_id: 1_337,
        });
        state.contract = Some(Contract {
            address: Address([7; 20]),
            cells: Address([8; 20]),
            block: 1,
        });
        folder.save(&state).expect("saved");
        let shown = fs::read_to_string(folder.devnet_file()).expect("read");
        for secret in ["us3r", "pa,ss", "k3yk3y", "f00dbabe", "s3cret"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("https://besu.example:8545"), "{shown}");
        let mode = fs::metadata(folder.state_file()).expect("there");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let kept = folder.load().expect("read").chain;
        assert_eq!(kept.rpc_urls(), state.chain.rpc_urls());
        assert_eq!(kept.rpc_files(), (Some(Path::new("/ca.pem")), None));
    }

    #[test]
    fn a_moved_folder_keeps_its_processes_and_a_copy_has_none() {
        let dir = tempfile::tempdir().expect("dir");
        let old = Folder::create(&dir.path().join("old")).expect("made");
        let mut state = State::new(Chain::Anvil {
            program: "anvil".into(),
            port: 1,
            process: Some(Process::now(std::process::id()).expect("we run")),
        });
        let (keystore, password_file) = old.user_files("operator");
        state.users.push(DevnetUser {
            name: "operator".into(),
            address: diversity_proto::UserId([1; 20]),
            keystore,
            password_file,
        });
        old.save(&state).expect("saved");
        let copy = Folder::create(&dir.path().join("copy")).expect("made");
        fs::copy(old.state_file(), copy.state_file()).expect("copied");
        let copied = copy.load().expect("read");
        assert_eq!(copied.chain.process(), None, "it is the other folder's");
        assert!(copied.users[0].keystore.starts_with(&copy.0));
        let new = dir.path().join("new");
        fs::rename(&old.0, &new).expect("moved");
        let moved = Folder::open(&new).expect("there").load().expect("read");
        assert_eq!(moved.chain.process(), state.chain.process());
        assert!(moved.users[0].password_file.starts_with(&new));
    }

    #[test]
    fn one_command_at_a_time() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = Folder::create(dir.path()).expect("made");
        let held = folder.lock().expect("free");
        assert!(
            folder
                .lock()
                .unwrap_err()
                .to_string()
                .contains("another command")
        );
        drop(held);
        folder.lock().expect("free again");
    }
}
