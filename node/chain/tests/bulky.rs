//! Blocks of more log bytes than the follower takes in one answer: a stranger fills them, and what others do there is seen all the same.

mod common;

use common::{Chain, Server};
use diversity_chain::Contracts;
use diversity_chain::events::{ChainEvent, Refusal};
use diversity_chain::follow::{FollowConfig, Follower, Progress};
use diversity_chain::rpc::{Rpc, RpcConfig};
use diversity_proto::domain::keccak_raw;
use diversity_proto::{Address, AgreementId, Digest};
use serde_json::{Value, json};

const ANSWER: usize = 64 * 1024;
const A: AgreementId = AgreementId([7; 32]);

fn contracts() -> Contracts {
    let mut main = [0; 20];
    main[19] = 0xcc;
    Contracts {
        main: Address(main),
        cells: Address([0xce; 20]),
    }
}

fn follower(server: &Server) -> Follower {
    let mut config = RpcConfig::new([server.url.clone()]);
    config.response_bytes_max = ANSWER;
    let rpc = Rpc::new(&config).unwrap();
    let mut follower = Follower::new(rpc, contracts(), FollowConfig::for_chain(1337), None);
    follower.want([A]);
    follower
}

async fn all(follower: &mut Follower) -> Vec<ChainEvent> {
    let mut events = Vec::new();
    loop {
        let Progress {
            events: more,
            caught_up,
            ..
        } = follower.look().await.expect("no block stops the follower");
        events.extend(more.into_iter().map(|l| l.event));
        if caught_up {
            return events;
        }
    }
}

fn topic(signature: &str) -> Value {
    json!(Digest(keccak_raw(signature.as_bytes())).hex())
}

/// A user, as the contract logs it: its account and its name.
fn user(n: u8) -> Vec<u8> {
    [&[n; 20][..], b"user"].concat()
}

fn names(events: &[ChainEvent]) -> Vec<u8> {
    let user = |e: &ChainEvent| match e {
        ChainEvent::UserRegistered { user, .. } => Some(user.0[0]),
        _ => None,
    };
    events.iter().filter_map(user).collect()
}

#[tokio::test]
async fn a_block_of_too_many_log_bytes_is_read_transaction_by_transaction() {
    let server = Server::start(Chain::new()).await;
    let registered = || json!([topic("UserRegistered()")]);
    server.with(|c| {
        c.log(2, 0, registered(), &user(1));
        // Each of the stranger's transactions fits into an answer, and all of them do not.
        for i in 0..8u8 {
            let index = u64::from(i) * 2;
            let tx = Digest([100 + i; 32]);
            c.log_in(tx, 5, index, json!([Digest([9; 32]).hex()]), &[i; 10_000]);
            if i == 4 {
                c.log_in(Digest([50; 32]), 5, index + 1, registered(), &user(2));
            }
        }
        c.log(7, 0, registered(), &user(3));
    });
    let events = all(&mut follower(&server)).await;
    assert_eq!(names(&events), [1, 2, 3]);
    let skipped = events
        .iter()
        .filter(|e| matches!(e, ChainEvent::Skipped(s) if s.refusal == Refusal::UnknownEvent));
    assert_eq!(skipped.count(), 8);
}

/// A settlement that a stranger brings inside a transaction of his own, beside more log bytes than an answer may hold.
#[tokio::test]
async fn what_is_ours_is_read_out_of_a_transaction_that_is_too_large() {
    let server = Server::start(Chain::new()).await;
    let closed =
        |a: AgreementId| json!([topic("AgreementClosed(bytes32,uint64)"), Digest(a.0).hex()]);
    let end = |n: u8| [&[0; 31][..], &[n]].concat();
    server.with(|c| {
        let tx = Digest([66; 32]);
        for i in 0..8u64 {
            c.log_in(tx, 5, i, json!([Digest([9; 32]).hex()]), &[1; 10_000]);
        }
        c.log_in(tx, 5, 8, closed(A), &end(4));
        c.log_in(tx, 5, 9, closed(AgreementId([8; 32])), &end(5));
        c.log_in(
            Digest([67; 32]),
            5,
            10,
            json!([topic("UserRegistered()")]),
            &user(2),
        );
        c.log(6, 0, closed(A), &end(6));
    });
    let events = all(&mut follower(&server)).await;
    let ends: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            ChainEvent::AgreementClosed { agreement, end } => Some((agreement.0[0], *end)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(7, 4), (7, 6)]);
    assert_eq!(
        names(&events),
        [2],
        "the other transactions of the block are read whole"
    );
    let large: Vec<_> = events
        .iter()
        .filter(|e| matches!(e, ChainEvent::Skipped(s) if s.refusal == Refusal::BlockTooLarge))
        .collect();
    assert_eq!(large.len(), 1, "what is not read is said");
}
