//! Agreements over the locks that a test holds, made through the nodes' API as parties make them.

use crate::locks::{self, Lock, deployment};
use crate::{E2eError, Result};
use diversity_client::api::AgreementView;
use diversity_client::devnet::Devnet;
use diversity_client::draft::Draft;
use diversity_client::sign::Signer;
use diversity_client::terms_json::{
    FieldJson, LeaderJson, ProtocolJson, QosJson, SensorStartJson, TermsJson, TrustedNodeJson,
    WindowJson,
};
use diversity_proto::{AgreementId, Digest};
use std::time::{Duration, Instant};

/// `f` of the agreements: the module of `contracts/offchain/bike-lock`.
pub const MODULE: &[u8] = include_bytes!("../../../contracts/offchain/modules/bike-lock.wasm");
/// How long a node may take to see what another has registered.
const VISIBLE_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A draft between all users and nodes of a devnet over registered locks, without signatures.
///
/// # Errors
/// [`E2eError`].
pub async fn draft(
    devnet: &Devnet,
    locks: &[Lock],
    window: WindowJson,
    batch: u16,
) -> Result<Draft> {
    let mut users: Vec<_> = devnet.users.iter().map(|u| u.address).collect();
    users.sort_unstable();
    let mut nodes = Vec::new();
    let first = devnet.api(None).await?;
    for node in &devnet.nodes {
        let id = node.api()?.info().await?.node.node;
        nodes.push(first.node(&id).await?);
    }
    nodes.sort_unstable_by_key(|n| n.node);
    let field = |name: &str, ty: &str| FieldJson {
        name: name.into(),
        ty: ty.into(),
    };
    let terms = TermsJson {
        title: "Bike hire".into(),
        users,
        nodes: nodes
            .iter()
            .map(|n| TrustedNodeJson {
                node: n.node,
                trusted_by: n.owner,
            })
            .collect(),
        sensors: locks
            .iter()
            .map(|l| SensorStartJson {
                sensor: l.id(),
                q0: 0,
            })
            .collect(),
        off_chain_code: Digest(diversity_proto::domain::sha256_raw(MODULE)),
        window,
        future_tolerance_s: 300,
        grace_s: 86_400,
        protocol: ProtocolJson::Fast,
        leader: LeaderJson::Rotating,
        flush_ms: 20,
        round_timeout_ms: 2_000,
        round_timeout_max_ms: 60_000,
        batch,
        qos: QosJson::OffChain,
        result: vec![field("total_seconds", "uint64"), field("trips", "uint32")],
        detail: vec![
            field("seconds", "uint64"),
            field("trips", "uint32"),
            field("unbilled", "uint32"),
        ],
        abstain_ms: 60_000,
    };
    let keys = nodes.iter().map(|n| n.public_key).collect();
    Draft::new(deployment(devnet), terms, keys)
        .map_err(|e| E2eError::NotSo(format!("the draft: {e}")))
}

/// Has every user sign and every node accept.
///
/// # Errors
/// [`E2eError`].
pub async fn complete(devnet: &Devnet, draft: &mut Draft) -> Result {
    let words = |e| E2eError::NotSo(format!("the draft: {e}"));
    for user in &devnet.users {
        let signer = locks::user(devnet, &user.name)?;
        draft.sign(&signer).map_err(words)?;
    }
    for node in &devnet.nodes {
        let api = node.api()?;
        api.put_code(MODULE).await?;
        let deadline = Instant::now() + VISIBLE_WITHIN;
        let accepted = loop {
            match api.accept(&draft.accept_request()).await {
                Ok(accepted) => break accepted,
                // It may see the registrations that another node has relayed a little later.
                Err(e)
                    if e.problem().is_some_and(|p| {
                        p.code == diversity_client::api::codes::NOT_REGISTERED
                    }) && Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(e) => return Err(e.into()),
            }
        };
        draft.accept(accepted).map_err(words)?;
    }
    Ok(())
}

/// Registers locks of the first user and creates an agreement over them; returns when every node runs it.
///
/// # Errors
/// [`E2eError`].
pub async fn create(
    devnet: &Devnet,
    locks: &[Lock],
    window: WindowJson,
    batch: u16,
) -> Result<AgreementId> {
    let first = devnet
        .users
        .first()
        .ok_or_else(|| E2eError::NotSo("the devnet has no users".into()))?;
    let owner: Signer = locks::user(devnet, &first.name)?;
    let api = devnet.api(None).await?;
    locks::register(&api, &owner, locks).await?;
    let mut draft = draft(devnet, locks, window, batch).await?;
    complete(devnet, &mut draft).await?;
    let creation = draft
        .complete()
        .map_err(|e| E2eError::NotSo(format!("the draft: {e}")))?;
    let view: AgreementView = api.create(&creation).await?;
    for node in &devnet.nodes {
        let api = node.api()?;
        let deadline = Instant::now() + VISIBLE_WITHIN;
        while let Err(error) = api.agreement(&view.agreement).await {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(view.agreement)
}
