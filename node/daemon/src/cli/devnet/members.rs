//! The nodes and users of a devnet: keys, processes, registration.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use diversity_client::Api;
use diversity_client::devnet::DevnetUser;
use diversity_client::sign::Signer;
use diversity_daemon::keyring::Keyring;
use diversity_keys::SecretKey;
use diversity_keys::keystore::{self, Cost};
use diversity_proto::{Address, Deployment, UserId};

use super::super::locate::open;
use super::super::output::{Context, FAILED, Failure, Outcome};
use super::super::register::register_node;
use super::state::{Folder, Node, State};
use super::{await_ready, process};

/// Names of the first users; the others are called by their number.
const USERS: [&str; 6] = ["operator", "insurer", "city", "auditor", "bank", "repairer"];

/// Name of the k-th user.
pub fn user_name(k: usize) -> String {
    USERS
        .get(k)
        .map_or_else(|| format!("user{}", k + 1), ToString::to_string)
}

/// A key in a light keystore with its password beside it, made if it is not there.
pub fn key(keystore_file: &Path, password_file: &Path) -> Outcome<SecretKey> {
    if !keystore_file.exists() {
        let password = diversity_client::hexed::encode(
            &diversity_keys::os_random::<16>().context("no randomness")?,
        );
        private(password_file, &password)?;
        let key = SecretKey::generate().context("no randomness")?;
        keystore::write(
            keystore_file,
            &key.to_bytes(),
            Some(&key.address()),
            password.as_bytes(),
            Cost::Light,
        )
        .context("cannot write a keystore")?;
        return Ok(key);
    }
    let password = super::super::keys::password(password_file)?;
    let secret =
        keystore::read(keystore_file, password.as_bytes()).context(keystore_file.display())?;
    SecretKey::from_bytes(&secret).context(keystore_file.display())
}

fn private(path: &Path, line: &str) -> Outcome {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{line}"))
        .context(format_args!("cannot write {}", path.display()))
}

/// The k-th user.
pub fn user(folder: &Folder, k: usize) -> Outcome<DevnetUser> {
    let name = user_name(k);
    let (keystore, password_file) = folder.user_files(&name);
    let key = key(&keystore, &password_file)?;
    Ok(DevnetUser {
        name,
        address: UserId(key.address()),
        keystore,
        password_file,
    })
}

/// The keys of a node, made before its first start: the account is funded and its peers know it before it runs.
pub fn node_keys(folder: &Folder, name: &str) -> Outcome<(Address, String)> {
    let keys = Keyring::open(&folder.data_dir(name), Path::new(""), true).context(name)?;
    let peer = diversity_net::public_key(&keys.peer)
        .and_then(|p| diversity_net::peer_to_text(&p))
        .context(name)?;
    Ok((Address(keys.account.address()), peer))
}

fn arguments(folder: &Folder, state: &State, node: &Node) -> Outcome<Vec<OsString>> {
    let contract = state
        .contract
        .ok_or_else(|| Failure::new(FAILED, "the contract is not deployed: diversity devnet up"))?;
    let peers: Vec<_> = state
        .nodes
        .iter()
        .filter(|n| n.name != node.name)
        .map(|n| format!("{}/p2p/{}", n.multiaddr(), n.peer_id))
        .collect();
    let mut out: Vec<OsString> = vec!["node".into()];
    let mut add = |flag: &str, value: OsString| {
        out.push(flag.into());
        out.push(value);
    };
    add("--data-dir", folder.data_dir(&node.name).into());
    add("--name", node.name.clone().into());
    add("--chain-id", state.chain.chain_id().to_string().into());
    add("--contract", contract.address.hex().into());
    add("--cells", contract.cells.hex().into());
    add("--from-block", contract.block.to_string().into());
    let (ca_file, token_file) = state.chain.rpc_files();
    if let Some(path) = ca_file {
        add("--rpc-ca-file", path.into());
    }
    if let Some(path) = token_file {
        add("--rpc-token-file", path.into());
    }
    if state.chain.is_ours() {
        add("--chain-poll-ms", "100".into());
    }
    add(
        "--api-listen",
        format!("127.0.0.1:{}", node.api_port).into(),
    );
    add("--p2p-listen", node.multiaddr().into());
    add("--p2p-peers", peers.join(",").into());
    add("--light-keys", "true".into());
    Ok(out)
}

/// Whether a node says that it is ready; if not, why.
pub async fn ready(node: &Node) -> Result<(), String> {
    let api = Api::new(&node.api_url(), None).map_err(|e| e.to_string())?;
    match api.not_ready().await {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

/// Starts those of the nodes that do not run, side by side, and waits until all are ready.
pub async fn start(folder: &Folder, state: &mut State, names: &[String]) -> Outcome {
    let ours = std::env::current_exe().context("cannot find this program")?;
    let mut logs = Vec::new();
    for name in names {
        let node = state.node(name)?;
        let log = process::Log::from_here(folder.log(name));
        if !node.process.as_ref().is_some_and(process::Process::runs) {
            let program = node.program.clone().unwrap_or_else(|| ours.clone());
            // Arguments are shown to everybody on the machine, the environment is not: a URL may hold a password.
            let urls = state.chain.rpc_urls().join(",");
            let variables = [("DIVERSITY_RPC_URLS", urls)];
            let (process, _child) =
                process::start(&program, &arguments(folder, state, node)?, &variables, &log)
                    .context(format_args!("cannot start {name}"))?;
            state.node_mut(name)?.process = Some(process);
            folder.save(state)?;
        }
        logs.push(log);
    }
    let waits = names.iter().zip(&logs).map(|(name, log)| async {
        let node = state.node(name)?;
        let Some(process) = &node.process else {
            return Ok(());
        };
        await_ready(name, process, log, async || ready(node).await).await
    });
    futures::future::try_join_all(waits).await.map(drop)
}

/// Registers every user and its node, through that node's own API. What stands registered stays as it is.
pub async fn register(folder: &Folder, state: &State) -> Outcome {
    let contract = state
        .contract
        .ok_or_else(|| Failure::new(FAILED, "the contract is not deployed"))?;
    let deployment = Deployment {
        chain_id: state.chain.chain_id(),
        contract: contract.address,
    };
    let each = state
        .nodes
        .iter()
        .zip(&state.users)
        .map(|(node, user)| async move {
            let token = folder.data_dir(&node.name).join("api-token-admin");
            let api = Api::with_token_file(&node.api_url(), &token)?;
            let signer: Signer = open(&user.keystore, &user.password_file, deployment)?;
            api.register_user(&signer.user(&user.name))
                .await
                .map_err(|e| {
                    Failure::from(e).during(format_args!("cannot register user {}", user.name))
                })?;
            register_node(&api, &signer)
                .await
                .map_err(|e| e.during(format_args!("cannot register {}", node.name)))?;
            Ok::<_, Failure>(())
        });
    futures::future::try_join_all(each).await.map(drop)
}
