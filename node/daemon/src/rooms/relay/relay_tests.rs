use super::agreements::{resolution, user_signatures};
use super::*;
use crate::node::activation::aggregate;
use crate::node::chain::Mined;
use crate::rooms::directory::Directory;
use crate::rooms::testkit::{DEPLOYMENT, Kit, Loop, key};
use diversity_chain::events::{ChainEvent, Outputs, Place};
use diversity_client::api::{AgreementCreation, NodeAcceptance, ResolveRequest, UserSignature};
use diversity_client::hexed::Bytes;
use diversity_client::terms_json::TermsJson;
use diversity_proto::round::OutputKind;
use diversity_proto::terms::{
    TrustedNode, acceptance_digest, agreement_digest, resolution_digest, resolution_struct,
};
use diversity_proto::{AgreementId, NodeId, PublicKey, UserId};
use futures::FutureExt;
use futures::future::BoxFuture;

struct Said(Result<Mined, RelayError>);

impl Chain for Said {
    fn relay(&self, _: Relayed) -> BoxFuture<'static, Result<Mined, RelayError>> {
        futures::future::ready(self.0.clone()).boxed()
    }
    fn registered(&self, _: UserId) -> BoxFuture<'static, Result<u64, RelayError>> {
        futures::future::ready(Ok(7)).boxed()
    }
}

fn call() -> Relayed {
    Relayed {
        label: "call".into(),
        data: Vec::new(),
        to_cells: false,
        goal: None,
    }
}

fn line(said: Result<Mined, RelayError>) -> (Line, watch::Sender<ChainView>) {
    let (taken, view) = watch::channel(ChainView::default());
    let line = Line {
        chain: Arc::new(Said(said)),
        view,
    };
    (line, taken)
}

#[tokio::test]
async fn a_call_is_answered_when_its_block_is_taken_in() {
    let mined = Mined {
        tx: Digest([3; 32]),
        block: 7,
    };
    let (line, taken) = line(Ok(mined));
    let processed = |block| {
        taken.send_modify(|v| v.processed = Some(block));
    };
    let relayed = tokio::spawn({
        let line = line.clone();
        async move { line.mined(call()).await }
    });
    processed(6);
    tokio::task::yield_now().await;
    assert!(!relayed.is_finished());
    processed(7);
    assert_eq!(relayed.await.expect("no panic"), Ok(mined.tx));
    processed(0);
    drop(taken);
    let stopped = line.mined(call()).await;
    assert_eq!(stopped, Err(RoomError::stopping()));
}

#[tokio::test]
async fn what_the_contract_says_is_said() {
    let refused = RelayError::Reverted {
        name: "TooFewUsers".into(),
        words: "name two".into(),
    };
    // No contract speaks here: no pool takes it.
    let too_large = RelayError::Reverted {
        name: String::new(),
        words: "oversized data: limit 131072".into(),
    };
    let pointless = RelayError::Pointless("it is so already".into());
    let down = RelayError::Unavailable("no endpoint".into());
    for (said, expected) in [
        (refused, RoomError::Reverted("TooFewUsers: name two".into())),
        (
            too_large,
            RoomError::Reverted("oversized data: limit 131072".into()),
        ),
        (pointless, RoomError::Reverted("it is so already".into())),
        (down, RoomError::Unavailable("no endpoint".into())),
    ] {
        let (line, _taken) = line(Err(said));
        assert_eq!(line.mined(call()).await, Err(expected));
    }
}

#[test]
fn every_user_signs_and_nobody_else_counts() {
    let kit = Kit::new();
    let digest = Digest([4; 32]);
    let by = |seed: u8, signer: u8| UserSignature {
        user: UserId(key(seed).address()),
        signature: WalletSignature(key(signer).sign_recoverable(&digest.0)),
    };
    let both = [by(2, 2), by(1, 1), by(77, 77)];
    let signed = user_signatures(&kit.terms, &both, &digest).expect("both");
    assert_eq!(signed.len(), 2);
    let refused = |given: &[UserSignature]| match user_signatures(&kit.terms, given, &digest) {
        Err(RoomError::Signature(words)) => words,
        other => panic!("{other:?}"),
    };
    assert!(refused(&[by(1, 1)]).contains("is missing"));
    assert!(refused(&[by(1, 1), by(2, 1)]).contains("should have signed"));
}

#[test]
fn a_resolution_is_one_that_the_users_can_give() {
    let kit = Kit::new();
    let request = |kind: &str, t, result: usize, q_next: Vec<u64>| ResolveRequest {
        t,
        kind: kind.into(),
        result: Bytes(vec![1; result]),
        carry: Bytes(b"carry".to_vec()),
        q_next,
        signatures: Vec::new(),
    };
    for (kind, result) in [("value", 2), ("null", 0), ("trap", 0)] {
        for t in [4, 5] {
            let r = request(kind, t, result, vec![9]);
            let good = resolution(&kit.terms, 5, &r).expect("good");
            assert_eq!(
                (good.t, good.carry, good.q_next),
                (t, &b"carry"[..], &[9][..])
            );
            assert_eq!(good.state, diversity_proto::window::state(b"carry", &[9]));
        }
    }
    for bad in [
        request("abstain", 5, 0, vec![9]),
        request("value", 5, 3, vec![9]),
        request("null", 5, 2, vec![9]),
        request("value", 6, 2, vec![9]),
        request("value", 5, 2, vec![]),
        request("value", 5, 2, vec![9, 9]),
        request("value", 5, 2, vec![1 << 62]),
    ] {
        let refused = resolution(&kit.terms, 5, &bad);
        assert!(matches!(refused, Err(RoomError::Malformed(_))), "{bad:?}");
    }
}

/// A second resolution is the same again, which is a success, or is refused in words; nothing is sent either way.
#[tokio::test]
async fn a_second_resolution_with_other_content_is_refused_in_words() {
    let kit = Kit::new();
    let a = kit.agreed().id;
    let state = diversity_proto::window::state(b"carry", &[9]);
    kit.said(
        20,
        ChainEvent::Resolved {
            place: Place {
                agreement: a,
                epoch: 2,
                from: 0,
                t: 0,
            },
            outputs: Outputs {
                kind: OutputKind::Value,
                result: vec![1, 1],
                state,
                carry: b"carry".to_vec(),
                q_next: vec![9],
            },
            gas_used: 1,
        },
    );
    // Whatever were sent would not be mined.
    let (line, _taken) = line(Err(RelayError::Unavailable("it was sent".into())));
    let directory = Directory::new(&kit.shared, Loop::default().run());
    let relay = Relay::new(&kit.shared, line, kit.book(), directory);
    let request = |result: u8| {
        let result = vec![result, 1];
        let signed = resolution_struct(&a, 0, OutputKind::Value, &result, &state);
        let digest = resolution_digest(&relay.deployment, &signed);
        let by = |seed| UserSignature {
            user: UserId(key(seed).address()),
            signature: WalletSignature(key(seed).sign_recoverable(&digest.0)),
        };
        ResolveRequest {
            t: 0,
            kind: "value".into(),
            result: Bytes(result),
            carry: Bytes(b"carry".to_vec()),
            q_next: vec![9],
            signatures: vec![by(1), by(2)],
        }
    };
    let same = relay.resolve(&a, &request(1)).await.expect("it is so");
    assert_eq!((same.tx, same.in_band), (Digest([120; 32]), true));
    match relay.resolve(&a, &request(2)).await {
        Err(RoomError::Conflict { detail, .. }) => {
            assert!(detail.contains("with other content"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

/// The contract is content with a node of each user; every node has to have accepted all the same.
#[tokio::test]
async fn no_agreement_is_created_before_every_node_has_accepted() {
    let kit = Kit::new();
    let third = NodeId(key(13).address());
    {
        let mut registry = kit.shared.registered.write();
        let first = &registry.nodes[&NodeId(key(11).address())];
        let mut record = first.clone();
        record.declaration.public_key = PublicKey(key(13).public_key());
        registry.nodes.insert(third, record);
    }
    let mut terms = kit.terms.clone();
    terms.nodes.push(TrustedNode {
        node: third,
        trust: 0,
    });
    terms.nodes.sort_unstable_by_key(|n| n.node);
    let seeds = terms.nodes.iter().map(|n| {
        let of = |seed: &u8| NodeId(key(*seed).address()) == n.node;
        (11..=13).find(of).expect("one of them")
    });
    let seeds: Vec<u8> = seeds.collect();
    let keys: Vec<_> = seeds
        .iter()
        .map(|s| PublicKey(key(*s).public_key()))
        .collect();
    let made = aggregate(&DEPLOYMENT, &terms, &keys).expect("a key");
    let (a, digest) = (AgreementId(made.id), terms.digest());
    let agreed = agreement_digest(&DEPLOYMENT, &a, &digest);
    let signed = |seed: u8| UserSignature {
        user: UserId(key(seed).address()),
        signature: WalletSignature(key(seed).sign_recoverable(&agreed.0)),
    };
    let accepted = |seed: u8| {
        let node = NodeId(key(seed).address());
        let digest = acceptance_digest(&DEPLOYMENT, &a, &digest, &node);
        NodeAcceptance {
            node,
            signature: WalletSignature(key(seed).sign_recoverable(&digest.0)),
        }
    };
    let (line, _taken) = line(Err(RelayError::Unavailable("it was sent".into())));
    let directory = Directory::new(&kit.shared, Loop::default().run());
    let relay = Relay::new(&kit.shared, line, kit.book(), directory);
    let create = async |acceptances: Vec<NodeAcceptance>| {
        let asked = AgreementCreation {
            agreement: a,
            terms: TermsJson::from(&terms),
            signatures: vec![signed(1), signed(2)],
            acceptances,
        };
        relay.create(&asked).await.expect_err("it cannot be sent")
    };
    for absent in 11..=13 {
        let others = (11..=13).filter(|s| *s != absent).map(accepted).collect();
        let refused = create(others).await;
        let words = refused.to_string();
        assert!(matches!(refused, RoomError::NotAccepted(_)), "{words}");
        assert!(
            words.contains(&NodeId(key(absent).address()).hex()),
            "{words}"
        );
    }
    let mut forged = accepted(13);
    forged.signature = accepted(11).signature;
    let refused = create(vec![accepted(11), accepted(12), forged]).await;
    assert!(matches!(refused, RoomError::Signature(_)), "{refused}");
    let all = create((11..=13).map(accepted).collect()).await;
    assert_eq!(all, RoomError::Unavailable("it was sent".into()));
}
