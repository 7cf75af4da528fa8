//! Stores that are older than what was signed, lost, rebuilt or copied: the node goes on where nothing contradicts it, abstains where
//! something does, and says so.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{MONTHS, TestNode, World, batch, executor, until};
use diversity_daemon::node::RunningNode;
use diversity_daemon::{NodeError, RunFailure, RunOutput, Runner};
use diversity_proto::{AgreementId, Digest};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// Heartbeats that close the k-th month.
async fn close_month(world: &World, k: usize) {
    let at = |s: u64| MONTHS[k + 1] + s;
    let q = 1 + k as u64;
    let frames = [
        world.locks[0].frame(q, &[(at(1), false)]),
        world.locks[1].frame(q, &[(at(2), false)]),
    ];
    let answer = world.nodes[0].api.send_frames(batch(&frames)).await;
    assert!(answer.expect("taken").refused.is_empty());
}

async fn settled(world: &World, a: &AgreementId, t: u64) {
    for node in &world.nodes {
        until("the month is settled", async || {
            let page = node.api.results(a, t, 10).await.expect("results");
            page.results.first().is_some_and(|r| r.t == t)
        })
        .await;
    }
}

/// Two nodes with the first month settled.
async fn one_month() -> Option<(World, AgreementId)> {
    let world = World::start(vec![executor(), executor()], 2).await?;
    let a = world.agree().await;
    let first = [
        world.locks[0].frame(0, &[(MONTHS[0] + 5, true)]),
        world.locks[1].frame(0, &[(MONTHS[0] + 5, false)]),
    ];
    let answer = world.nodes[0].api.send_frames(batch(&first)).await;
    assert!(answer.expect("taken").refused.is_empty());
    close_month(&world, 0).await;
    settled(&world, &a, 0).await;
    Some((world, a))
}

/// Runs `f`, and alters the trace: what a store that lacks something may lead to.
struct Other(Arc<dyn Runner>);

impl Runner for Other {
    fn check(&self, module: &[u8]) -> Result<(), String> {
        self.0.check(module)
    }
    fn add(&self, module: &[u8]) -> Result<(), String> {
        self.0.add(module)
    }
    fn run(&self, module: &Digest, input: &[u8]) -> Result<RunOutput, RunFailure> {
        let mut output = self.0.run(module, input)?;
        output.trace.0[0] ^= 1;
        Ok(output)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_contradicts_nothing_and_says_that_it_abstains() {
    let Some((mut world, a)) = one_month().await else {
        return;
    };
    let stopped = world.nodes.pop().expect("two");
    let (config, dir) = stopped.stop().await;
    let backup = dir.path().join("backup");
    copy(&config.data_dir, &backup);
    world
        .nodes
        .push(TestNode::start(config, dir, executor()).await);
    close_month(&world, 1).await;
    settled(&world, &a, 1).await;

    // The backup knows nothing of the second month, and would now commit to something else.
    let stopped = world.nodes.pop().expect("two");
    let (config, dir) = stopped.stop().await;
    std::fs::remove_dir_all(&config.data_dir).expect("removed");
    copy(&backup, &config.data_dir);
    let other = Arc::new(Other(executor()));
    world.nodes.push(TestNode::start(config, dir, other).await);
    let restored = &world.nodes[1];
    until("the node says that it abstains", async || {
        let shown = restored.api.agreement(&a).await.expect("known");
        let waits = shown.progress.waiting_for;
        waits.iter().any(|why| why.contains("abstains from t 1"))
    })
    .await;
    for node in &world.nodes {
        let disputes = node.api.disputes(None).await.expect("disputes");
        assert!(
            disputes.is_empty(),
            "nothing was signed twice: {disputes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_lost_or_rebuilt_goes_on_with_the_others() {
    let Some((mut world, a)) = one_month().await else {
        return;
    };
    for (month, lost) in [(1, true), (2, false)] {
        let stopped = world.nodes.pop().expect("two");
        let (config, dir) = stopped.stop().await;
        let store = config.data_dir.join("store");
        if lost {
            std::fs::remove_dir_all(&store).expect("removed");
        } else {
            // What the disk gave back is nothing of what was written.
            let db = store.join("sled/db");
            let length = std::fs::metadata(&db).expect("there").len();
            std::fs::write(&db, vec![0x5a; length as usize]).expect("writes");
            let refused = RunningNode::start(config.clone(), executor()).await;
            let words = match refused {
                Err(error @ NodeError::Store(_)) => error.to_string(),
                Err(error) => panic!("{error}"),
                Ok(_) => panic!("a damaged store was opened"),
            };
            assert!(words.contains("--rebuild-store"), "{words}");
            let keys = config.data_dir.join("keys/protocol.json");
            let before = std::fs::read(&keys).expect("reads");
            diversity_daemon::rebuild_store(&config)
                .await
                .expect("rebuilt");
            assert_eq!(std::fs::read(&keys).expect("reads"), before);
            assert!(config.data_dir.join("store.damaged-1").is_dir());
        }
        world
            .nodes
            .push(TestNode::start(config, dir, executor()).await);
        settled(&world, &a, month - 1).await;
        close_month(&world, month as usize).await;
        settled(&world, &a, month).await;
    }
    for node in &world.nodes {
        let disputes = node.api.disputes(None).await.expect("disputes");
        assert!(disputes.is_empty(), "{disputes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_directory_does_not_start_beside_the_original() {
    let Some(world) = World::start(vec![executor(), executor()], 2).await else {
        return;
    };
    let node = &world.nodes[0];
    let mut config = node.config.clone();
    let twin = tempfile::tempdir().expect("a directory");
    config.data_dir = twin.path().join("data");
    copy(&node.config.data_dir, &config.data_dir);
    config.api_listen.set_port(0);
    config.p2p_listen = "/ip4/127.0.0.1/tcp/0".parse().expect("list");
    match RunningNode::start(config, executor()).await {
        Err(error @ NodeError::Twin { .. }) => {
            let words = error.to_string();
            assert!(words.contains("another process"), "{words}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two nodes with one key"),
    }
}

/// A former version kept no acceptance of its own: what it ran goes on. What this node has no acceptance of does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_of_a_former_version_goes_on_and_one_without_acceptance_does_not() {
    let Some((mut world, a)) = one_month().await else {
        return;
    };
    let stopped = world.nodes.pop().expect("two");
    let stopped_node = stopped.api.info().await.expect("runs").node.node;
    let (config, dir) = stopped.stop().await;
    let accepted = config.data_dir.join("accepted");
    assert!(accepted.join(&a.hex()[2..]).is_file());
    // As a former version left it: without the folder, and without the word that it was made.
    std::fs::remove_dir_all(&accepted).expect("removed");
    let identity = [&world.chain.deployment.bytes()[..], &stopped_node.0].concat();
    let store = diversity_store::Store::open(&config.data_dir.join("store"), &identity);
    let adopted = diversity_daemon::node::registry::adopted_key();
    store
        .expect("stopped")
        .write(vec![diversity_store::Op::Delete(adopted)])
        .expect("written");
    world
        .nodes
        .push(TestNode::start(config, dir, executor()).await);
    assert!(accepted.join(&a.hex()[2..]).is_file(), "adopted");
    close_month(&world, 1).await;
    settled(&world, &a, 1).await;

    let stopped = world.nodes.pop().expect("two");
    let (config, dir) = stopped.stop().await;
    std::fs::remove_file(accepted.join(&a.hex()[2..])).expect("removed");
    let node = TestNode::start(config, dir, executor()).await;
    let view = node.api.agreement(&a).await.expect("it stands on chain");
    assert!(!view.accepted);
    let waits = &view.progress.waiting_for[0];
    assert!(waits.contains("not accepted by this node"), "{waits}");

    // Nor does it come back when all of the folder is gone, or when what was withdrawn is only put aside.
    let (config, dir) = node.stop().await;
    std::fs::remove_dir_all(&accepted).expect("removed");
    let node = TestNode::start(config, dir, executor()).await;
    assert!(!node.api.agreement(&a).await.expect("on chain").accepted);
    let (config, dir) = node.stop().await;
    let other = world.nodes[0].config.data_dir.join("accepted");
    std::fs::create_dir(accepted.join("old")).expect("a folder of somebody's");
    std::os::unix::fs::symlink("nowhere", accepted.join("link")).expect("a link to nothing");
    copy(&other, &accepted.join("old"));
    let node = TestNode::start(config, dir, executor()).await;
    assert!(!node.api.agreement(&a).await.expect("on chain").accepted);
    node.stop().await;
}
