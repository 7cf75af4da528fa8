//! The nodes that a replay talks to, and its agreement: found, or registered and created.

use crate::folder::{Folder, FolderError, State};
use crate::locks::{Keyring, LockKey};
use crate::schedule::Schedule;
use diversity_client::api::{AgreementView, Info, NodeView};
use diversity_client::devnet::{Devnet, DevnetError};
use diversity_client::draft::{Draft, DraftError};
use diversity_client::sign::{SignError, Signer};
use diversity_client::terms_json::{
    FieldJson, LeaderJson, ProtocolJson, QosJson, SensorStartJson, TermsJson, TrustedNodeJson,
    WindowJson,
};
use diversity_client::{Api, ApiError};
use diversity_keys::VerifyingKey;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, SensorId, UserId};
use futures::future::{join_all, try_join_all};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// `f` of the agreement: the module of `contracts/offchain/bike-lock`.
pub const BIKE_LOCK_MODULE: &[u8] =
    include_bytes!("../../../contracts/offchain/modules/bike-lock.wasm");

/// How long a node may take to see on chain what another has registered.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is asked.
const VISIBLE_POLL: Duration = Duration::from_millis(100);

/// What can go wrong before the first frame leaves.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A node's answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The devnet file.
    #[error(transparent)]
    Devnet(#[from] DevnetError),
    /// A user's key.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The draft.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The replay's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No node answers.
    #[error("none of the nodes answers ({0}): start at least one")]
    NobodyAnswers(String),
    /// A node that must take part in the creation is down.
    #[error(
        "node {name} does not answer, and every node must accept the agreement ({reason}): start it with `diversity devnet start {name}`"
    )]
    Down {
        /// Which node.
        name: String,
        /// What happened.
        reason: String,
    },
    /// Nodes of different deployments.
    #[error(
        "node {name} serves another chain or contract than the others: give nodes of one network"
    )]
    Deployment {
        /// Which node.
        name: String,
    },
    /// The agreement is not for these locks.
    #[error(
        "agreement {agreement} is not for the locks of this trips file ({reason}): give the folder and file that it was made with"
    )]
    OtherLocks {
        /// Which agreement.
        agreement: AgreementId,
        /// What differs.
        reason: String,
    },
    /// No agreement of this id.
    #[error("no node knows agreement {0}: check the id, or let --devnet create one")]
    NoSuchAgreement(AgreementId),
    /// A user has no node to send to.
    #[error(
        "no node of user {0} was given: frames must be acknowledged by a node of every user, so give one more URL"
    )]
    UserWithoutNode(UserId),
    /// An agreement needs two users.
    #[error(
        "the devnet file lists {0} users, and an agreement needs two or more with a node each: make another devnet"
    )]
    Users(usize),
    /// A node did not see a registration in time.
    #[error("node {name} does not see the agreement on chain after {} s: look at its log", VISIBLE_TIMEOUT.as_secs())]
    NotVisible {
        /// Which node.
        name: String,
    },
    /// A node's public key is none.
    #[error("node {name} is registered with a key that is no key")]
    NodeKey {
        /// Which node.
        name: String,
    },
}

/// Result of the steps before the first frame.
pub type Result<T> = std::result::Result<T, NetworkError>;

/// A node as it was named by the caller.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, or its URL.
    pub name: String,
    /// Its API.
    pub api: Api,
}

/// A node of the agreement.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, or its URL.
    pub name: String,
    /// Its API.
    pub api: Api,
    /// Its id; `None` until it answers for the first time.
    pub id: Option<NodeId>,
}

/// A user, and the nodes that it trusts.
#[derive(Clone, Debug)]
pub struct Party {
    /// The user.
    pub user: UserId,
    /// Its nodes: id and key to check acknowledgements with.
    pub nodes: Vec<(NodeId, VerifyingKey)>,
}

/// Everything that delivery needs.
#[derive(Clone, Debug)]
pub struct Network {
    /// Chain and contract.
    pub deployment: Deployment,
    /// The agreement.
    pub agreement: AgreementId,
    /// The nodes that were given.
    pub nodes: Vec<Node>,
    /// The users of the agreement.
    pub parties: Vec<Party>,
}

/// The nodes that answer, with what they say; and for the others, why they do not.
async fn ask_all(targets: &[Target]) -> (Vec<(Target, Info)>, Vec<(Target, ApiError)>) {
    let answers = join_all(targets.iter().map(|t| t.api.info())).await;
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for (target, answer) in targets.iter().cloned().zip(answers) {
        match answer {
            Ok(info) => live.push((target, info)),
            Err(error) => dead.push((target, error)),
        }
    }
    (live, dead)
}

fn one_deployment(live: &[(Target, Info)], dead: &[(Target, ApiError)]) -> Result<Deployment> {
    let Some((_, first)) = live.first() else {
        let reason = dead.first().map(|d| d.1.to_string()).unwrap_or_default();
        return Err(NetworkError::NobodyAnswers(reason));
    };
    for (target, info) in live {
        if info.deployment != first.deployment {
            let name = target.name.clone();
            return Err(NetworkError::Deployment { name });
        }
    }
    Ok(first.deployment.into())
}

/// Chain and contract that these nodes serve.
///
/// # Errors
/// [`NetworkError::NobodyAnswers`], [`NetworkError::Deployment`].
pub async fn deployment_of(targets: &[Target]) -> Result<Deployment> {
    let (live, dead) = ask_all(targets).await;
    one_deployment(&live, &dead)
}

/// The nodes of a devnet.
///
/// # Errors
/// [`NetworkError::Api`] for a token file that cannot be read.
pub fn targets_of(devnet: &Devnet) -> Result<Vec<Target>> {
    let target = |n: &diversity_client::devnet::DevnetNode| {
        Ok(Target {
            name: n.name.clone(),
            api: n.api()?,
        })
    };
    devnet.nodes.iter().map(target).collect()
}

/// A network that stands already, with an agreement that stands already.
///
/// # Errors
/// [`NetworkError`].
pub async fn attach(targets: &[Target], agreement: AgreementId, keys: &Keyring) -> Result<Network> {
    let (live, dead) = ask_all(targets).await;
    let deployment = one_deployment(&live, &dead)?;
    for (target, _) in &live {
        match target.api.agreement(&agreement).await {
            Ok(view) => {
                check_locks(&view, keys)?;
                let ids = (live.iter())
                    .map(|(t, info)| (t.name.clone(), info.node.node))
                    .collect::<Vec<_>>();
                return assemble(deployment, targets, &ids, &view);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(NetworkError::NoSuchAgreement(agreement))
}

/// The agreement of a replay in a devnet: the one of an earlier run, or a new one, for which users, nodes, locks and module are
/// registered as far as they are not.
///
/// # Errors
/// [`NetworkError`].
pub async fn in_devnet(
    devnet: &Devnet,
    folder: &Folder,
    trips: &Digest,
    frame_messages: u16,
    schedule: &Schedule,
    keys: &Keyring,
    say: &dyn Fn(String),
) -> Result<Network> {
    let targets = targets_of(devnet)?;
    if let Some(state) = folder.state(trips)? {
        match attach(&targets, state.agreement, keys).await {
            // The devnet was made anew in the same folder.
            Err(NetworkError::NoSuchAgreement(_)) => {}
            other => return other,
        }
    }
    let (live, dead) = ask_all(&targets).await;
    let deployment = one_deployment(&live, &dead)?;
    if let Some((target, error)) = dead.into_iter().next() {
        return Err(NetworkError::Down {
            name: target.name,
            reason: error.to_string(),
        });
    }
    let signers = users(devnet, deployment)?;
    let first = &targets[0].api;
    register_users(devnet, &signers, first, say).await?;
    let nodes = register_nodes(&live, &signers, say).await?;
    register_locks(&signers[0], first, keys, say).await?;
    try_join_all(targets.iter().map(|t| t.api.put_code(BIKE_LOCK_MODULE))).await?;

    let terms = terms(schedule, &signers, &nodes, keys);
    let public_keys = terms.nodes.iter().map(|n| {
        let node = nodes.iter().find(|view| view.node == n.node);
        node.expect("the terms were made of them").public_key
    });
    let mut draft = Draft::new(deployment, terms.clone(), public_keys.collect())?;
    for signer in &signers {
        draft.sign(signer)?;
    }
    let request = draft.accept_request();
    for target in &targets {
        // A node may see the registrations that another has relayed a little later.
        let accepted = wait_for(
            || target.api.accept(&request),
            |e| {
                let code = e.problem().map(|p| p.code.as_str());
                code == Some(diversity_client::api::codes::NOT_REGISTERED)
            },
        );
        draft.accept(accepted.await?)?;
    }
    say(format!("creating agreement {}", draft.agreement));
    let view = first.create(&draft.complete()?).await?;
    folder.set_state(&State {
        version: 1,
        trips: *trips,
        frame_messages,
        agreement: draft.agreement,
    })?;
    for target in &targets {
        let seen = wait_for(
            || target.api.agreement(&draft.agreement),
            ApiError::is_not_found,
        );
        if let Err(error) = seen.await {
            let name = target.name.clone();
            return Err(if error.is_not_found() {
                NetworkError::NotVisible { name }
            } else {
                error.into()
            });
        }
    }
    let ids = (live.iter())
        .map(|(t, info)| (t.name.clone(), info.node.node))
        .collect::<Vec<_>>();
    assemble(deployment, &targets, &ids, &view)
}

/// Asks until the answer is there, or is another error than `not_yet`.
async fn wait_for<T, F>(
    ask: impl Fn() -> F,
    not_yet: impl Fn(&ApiError) -> bool,
) -> std::result::Result<T, ApiError>
where
    F: Future<Output = std::result::Result<T, ApiError>>,
{
    let started = Instant::now();
    loop {
        match ask().await {
            Err(error) if not_yet(&error) && started.elapsed() < VISIBLE_TIMEOUT => {
                tokio::time::sleep(VISIBLE_POLL).await;
            }
            other => return other,
        }
    }
}

fn users(devnet: &Devnet, deployment: Deployment) -> Result<Vec<Signer>> {
    if devnet.users.len() < 2 {
        return Err(NetworkError::Users(devnet.users.len()));
    }
    let signer = |u: &diversity_client::devnet::DevnetUser| -> Result<Signer> {
        Ok(Signer::from_keystore(
            &u.keystore,
            &u.password_file,
            deployment,
        )?)
    };
    devnet.users.iter().map(signer).collect()
}

async fn register_users(
    devnet: &Devnet,
    signers: &[Signer],
    api: &Api,
    say: &dyn Fn(String),
) -> Result<()> {
    let known: BTreeSet<_> = api.users().await?.into_iter().map(|u| u.user).collect();
    for (user, signer) in devnet.users.iter().zip(signers) {
        if !known.contains(&signer.id()) {
            say(format!("registering user {}", user.name));
            api.register_user(&signer.user(&user.name)).await?;
        }
    }
    Ok(())
}

/// Registers the nodes that nobody has registered, with the users as owners in turn, and gives all of them in the order of `live`.
async fn register_nodes(
    live: &[(Target, Info)],
    signers: &[Signer],
    say: &dyn Fn(String),
) -> Result<Vec<NodeView>> {
    let registered = live[0].0.api.nodes().await?;
    let mut out = Vec::with_capacity(live.len());
    for (i, (target, info)) in live.iter().enumerate() {
        let known = registered.iter().find(|n| n.node == info.node.node);
        out.push(match known {
            Some(view) => view.clone(),
            None => {
                say(format!("registering node {}", target.name));
                let owner = &signers[i % signers.len()];
                let binding = target.api.node_binding(&owner.id()).await?;
                let count = target.api.registered(&owner.id()).await?;
                target
                    .api
                    .register_node(&owner.node(binding, count)?)
                    .await?
            }
        });
    }
    Ok(out)
}

async fn register_locks(
    owner: &Signer,
    api: &Api,
    keys: &Keyring,
    say: &dyn Fn(String),
) -> Result<()> {
    let known: BTreeSet<SensorId> = api.sensors().await?.into_iter().map(|s| s.sensor).collect();
    let new: Vec<&LockKey> = (keys.0.iter())
        .filter(|k| !known.contains(&k.sensor))
        .collect();
    if !new.is_empty() {
        say(format!("registering {} locks", new.len()));
    }
    for chunk in new.chunks(diversity_client::api::SENSORS_AT_ONCE_MAX) {
        let declarations: Vec<_> = chunk.iter().map(|k| k.declaration()).collect();
        let pairs: Vec<_> = (declarations.iter())
            .zip(chunk.iter().map(|k| &k.secret))
            .collect();
        let count = api.registered(&owner.id()).await?;
        api.register_sensors(&owner.sensors(&pairs, count)?).await?;
    }
    Ok(())
}

/// The monthly agreement. Everything in it follows from trips, keys, users and nodes, so that a second run finds the same `a`.
fn terms(schedule: &Schedule, signers: &[Signer], nodes: &[NodeView], keys: &Keyring) -> TermsJson {
    let field = |name: &str, ty: &str| FieldJson {
        name: name.into(),
        ty: ty.into(),
    };
    let mut users: Vec<UserId> = signers.iter().map(Signer::id).collect();
    users.sort_unstable();
    let mut trusted: Vec<_> = nodes
        .iter()
        .map(|n| TrustedNodeJson {
            node: n.node,
            trusted_by: n.owner,
        })
        .collect();
    trusted.sort_unstable_by_key(|n| n.node);
    TermsJson {
        title: "Bike hire, monthly".into(),
        users,
        nodes: trusted,
        sensors: keys
            .0
            .iter()
            .map(|k| SensorStartJson {
                sensor: k.sensor,
                q0: 0,
            })
            .collect(),
        off_chain_code: Digest(diversity_proto::domain::sha256_raw(BIKE_LOCK_MODULE)),
        window: WindowJson::Month {
            start: schedule.start,
        },
        future_tolerance_s: 300,
        grace_s: 86_400,
        protocol: ProtocolJson::Fast,
        leader: LeaderJson::Rotating,
        flush_ms: 20,
        round_timeout_ms: 2_000,
        round_timeout_max_ms: 60_000,
        batch: 1,
        qos: QosJson::OffChain,
        result: vec![field("total_seconds", "uint64"), field("trips", "uint32")],
        detail: vec![
            field("seconds", "uint64"),
            field("trips", "uint32"),
            field("unbilled", "uint32"),
        ],
        abstain_ms: 60_000,
    }
}

fn check_locks(view: &AgreementView, keys: &Keyring) -> Result<()> {
    let theirs: Vec<_> = view.terms.sensors.iter().map(|s| s.sensor).collect();
    let other = |reason: String| NetworkError::OtherLocks {
        agreement: view.agreement,
        reason,
    };
    if theirs.len() != keys.0.len() {
        let (n, m) = (theirs.len(), keys.0.len());
        return Err(other(format!("it has {n} sensors, the file {m} bikes")));
    }
    match keys.0.iter().find(|k| !theirs.contains(&k.sensor)) {
        Some(key) => Err(other(format!(
            "it has no sensor with the key of bike {}",
            key.label
        ))),
        None => Ok(()),
    }
}

fn assemble(
    deployment: Deployment,
    targets: &[Target],
    ids: &[(String, NodeId)],
    view: &AgreementView,
) -> Result<Network> {
    let mut parties: Vec<Party> = Vec::new();
    for user in &view.terms.users {
        let mut nodes = Vec::new();
        for (member, key) in view.terms.nodes.iter().zip(&view.keys) {
            if member.trusted_by != *user {
                continue;
            }
            let key = VerifyingKey::from_bytes(&key.0).ok();
            let key = key.filter(|k| k.address() == member.node.0);
            let name = member.node.to_string();
            nodes.push((member.node, key.ok_or(NetworkError::NodeKey { name })?));
        }
        // A node that is down now may be one of this user's.
        let given = |id: &NodeId| ids.iter().any(|(_, known)| known == id);
        if ids.len() == targets.len() && !nodes.iter().any(|(id, _)| given(id)) {
            return Err(NetworkError::UserWithoutNode(*user));
        }
        parties.push(Party { user: *user, nodes });
    }
    let node = |t: &Target| Node {
        name: t.name.clone(),
        api: t.api.clone(),
        id: (ids.iter().find(|(name, _)| *name == t.name)).map(|(_, id)| *id),
    };
    Ok(Network {
        deployment,
        agreement: view.agreement,
        nodes: targets.iter().map(node).collect(),
        parties,
    })
}
