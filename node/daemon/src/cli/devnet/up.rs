//! `diversity devnet up`.

use std::path::PathBuf;

use diversity_chain::Account;
use diversity_client::devnet::Devnet;
use diversity_keys::SecretKey;

use super::super::output::{Context, FAILED, Failure, Outcome, Output};
use super::state::{Chain, Folder, Node, State, free_ports};
use super::{chain, members};

/// Nodes of a new devnet, unless said otherwise.
const NODES: usize = 3;
/// Most nodes of a devnet.
const NODES_MAX: usize = 32;

/// What to start.
#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// The folder of the devnet; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Number of nodes. [default: 3, or those that the folder has]
    #[arg(long, value_name = "N")]
    pub nodes: Option<usize>,
    /// `anvil` for a chain of the devnet's own, or the URLs of one that runs already, comma separated. [default: anvil, or that of the folder]
    #[arg(long, value_name = "anvil|URL,...")]
    pub chain: Option<String>,
    /// File with PEM certificates that the https endpoints may be signed by, beside those of the system. [default: that of the folder]
    #[arg(long, value_name = "FILE")]
    pub rpc_ca_file: Option<PathBuf>,
    /// File with a bearer token for the endpoints; it may be replaced while the nodes run. [default: that of the folder]
    #[arg(long, value_name = "FILE")]
    pub rpc_token_file: Option<PathBuf>,
    /// The program anvil. [default: DIVERSITY_ANVIL, PATH, contracts/node_modules]
    #[arg(long, value_name = "PATH")]
    pub anvil: Option<PathBuf>,
    /// Keystore of an account that deploys and pays the nodes' gas, where the chain wants gas.
    #[arg(long, value_name = "KEYSTORE", requires = "password_file")]
    pub funder: Option<PathBuf>,
    /// File with the funder's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Wei that each node's account is brought up to, where the chain wants gas.
    #[arg(long, value_name = "WEI", default_value_t = 1_000_000_000_000_000_000)]
    pub fund: u128,
    /// Another program for one node.
    #[arg(long = "node-bin", value_name = "NAME=PATH", value_parser = node_bin)]
    pub node_bins: Vec<(String, PathBuf)>,
}

fn node_bin(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text
        .split_once('=')
        .ok_or("a program for a node is NAME=PATH, such as node3=target/release/diversity-liar")?;
    let whole = std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?;
    Ok((name.into(), whole))
}

/// Starts what does not run, and returns when everything is ready.
pub async fn up(args: UpArgs, output: Output) -> Outcome {
    let folder = Folder::create(&args.dir)?;
    let _lock = folder.lock()?;
    let mut state = if folder.holds_one() {
        resumed(&folder, &args)?
    } else {
        fresh(&args).await?
    };
    plan_nodes(&mut state, &args)?;
    folder.save(&state)?;

    output.say(format_args!("chain: {}", state.chain.shown()));
    chain::start(&folder, &mut state).await?;
    let payer = payer(&folder, &args)?;
    let gas = chain::wants_gas(&state).await?;
    chain::deploy(&folder, &mut state, &payer).await?;
    for (k, node) in state.nodes.clone().iter().enumerate() {
        let (account, peer_id) = members::node_keys(&folder, &node.name)?;
        state.nodes[k].peer_id = peer_id;
        if gas {
            let funder = args.funder.is_some().then_some(&payer);
            chain::fund(&state, funder, &account, args.fund).await?;
        }
        if state.users.len() <= k {
            state.users.push(members::user(&folder, k)?);
        }
    }
    folder.save(&state)?;
    output.say(format_args!(
        "contract: {}",
        state.contract.map(|c| c.address.hex()).unwrap_or_default()
    ));

    let names: Vec<String> = state.nodes.iter().map(|n| n.name.clone()).collect();
    members::start(&folder, &mut state, &names).await?;
    members::register(&folder, &state).await?;
    chain::saved(&folder, &state).await?;
    folder.save(&state)?;
    let devnet = Devnet::read(&folder.devnet_file())?;
    output.item(&devnet, |d| {
        let mut out = format!("ready: {}", folder.devnet_file().display());
        for node in &d.nodes {
            out.push_str(&format!(
                "\n  {} at {} (token: {})",
                node.name,
                node.api_url,
                node.token_file.display()
            ));
        }
        out
    })
}

async fn fresh(args: &UpArgs) -> Outcome<State> {
    let chain = match args.chain.as_deref().unwrap_or("anvil") {
        "anvil" => Chain::Anvil {
            program: diversity_chain::anvil::locate(args.anvil.as_deref()).context("no chain")?,
            port: free_ports(1)?[0],
            process: None,
        },
        urls => {
            let mut urls = diversity_chain::rpc::split(urls).into_iter();
            let mut chain = Chain::Url {
                url: urls.next().unwrap_or_default(),
                more: urls.collect(),
                ca_file: None,
                token_file: None,
                chain_id: 0,
            };
            set_files(&mut chain, args)?;
            let rpc = chain::client(&State::new(chain.clone()))?;
            let identity = rpc
                .identity()
                .await
                .context(format_args!("the chain at {}", chain.shown()))?;
            if let Chain::Url { chain_id, .. } = &mut chain {
                *chain_id = identity.chain_id;
            }
            chain
        }
    };
    Ok(State::new(chain))
}

fn resumed(folder: &Folder, args: &UpArgs) -> Outcome<State> {
    let mut state = folder.load()?;
    if let Some(wanted) = &args.chain {
        let urls = diversity_chain::rpc::split(wanted);
        let same = match &mut state.chain {
            Chain::Anvil { .. } => wanted == "anvil",
            // The same chain by other endpoints: each node checks chain id and genesis anyway.
            Chain::Url { url, more, .. } if wanted != "anvil" => {
                let mut urls = urls.into_iter();
                *url = urls.next().unwrap_or_default();
                *more = urls.collect();
                true
            }
            Chain::Url { .. } => false,
        };
        if !same {
            return Err(Failure::new(
                FAILED,
                format_args!(
                    "the devnet in this folder uses the chain {}: choose another folder",
                    state.chain.shown()
                ),
            ));
        }
    }
    set_files(&mut state.chain, args)?;
    if let Chain::Anvil { program, .. } = &mut state.chain
        && (args.anvil.is_some() || !program.is_file())
    {
        *program = diversity_chain::anvil::locate(args.anvil.as_deref()).context("no chain")?;
    }
    Ok(state)
}

/// Remembers the files for the endpoints that were named, by their whole paths.
fn set_files(chain: &mut Chain, args: &UpArgs) -> Outcome {
    let whole = |path: &Option<PathBuf>| {
        let whole = |path: &PathBuf| std::fs::canonicalize(path).context(path.display());
        path.as_ref().map(whole).transpose()
    };
    let (ca, token) = (whole(&args.rpc_ca_file)?, whole(&args.rpc_token_file)?);
    match chain {
        Chain::Url {
            ca_file,
            token_file,
            ..
        } => {
            *ca_file = ca.or(ca_file.take());
            *token_file = token.or(token_file.take());
            Ok(())
        }
        Chain::Anvil { .. } if ca.is_none() && token.is_none() => Ok(()),
        Chain::Anvil { .. } => Err(Failure::usage(
            "--rpc-ca-file and --rpc-token-file are for a chain given by --chain URL",
        )),
    }
}

/// Adds nodes up to the number that is wanted, and sets the programs that were named.
fn plan_nodes(state: &mut State, args: &UpArgs) -> Outcome {
    let has = state.nodes.len();
    let wanted = args.nodes.unwrap_or(if has == 0 { NODES } else { has });
    if !(2..=NODES_MAX).contains(&wanted) {
        return Err(Failure::usage(format_args!(
            "--nodes must be 2 to {NODES_MAX}: an agreement has two parties or more"
        )));
    }
    if wanted < has {
        return Err(Failure::usage(format_args!(
            "the devnet has {has} nodes already, and nodes are not taken away"
        )));
    }
    let ports = free_ports(2 * (wanted - has))?;
    for (k, ports) in (has..wanted).zip(ports.chunks_exact(2)) {
        state.nodes.push(Node {
            name: format!("node{}", k + 1),
            program: None,
            api_port: ports[0],
            p2p_port: ports[1],
            peer_id: String::new(),
            process: None,
        });
    }
    for (name, path) in &args.node_bins {
        state.node_mut(name)?.program = Some(path.clone());
    }
    Ok(())
}

/// The account that deploys: the funder, or one of the devnet's own where gas costs nothing.
fn payer(folder: &Folder, args: &UpArgs) -> Outcome<Account> {
    let key: SecretKey = match (&args.funder, &args.password_file) {
        (Some(keystore), Some(password)) => {
            let password = super::super::keys::password(password)?;
            let secret = diversity_keys::keystore::read(keystore, password.as_bytes())
                .context("the funder")?;
            SecretKey::from_bytes(&secret).context("the funder")?
        }
        _ => {
            let (keystore, password) = folder.deployer();
            members::key(&keystore, &password)?
        }
    };
    Account::from_secret(&key.to_bytes()).context("the funder")
}
