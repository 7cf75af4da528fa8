use super::agreements::{outcome, user_signatures};
use super::*;
use crate::node::chain::Mined;
use crate::rooms::testkit::{Kit, key};
use diversity_client::api::{ResolveRequest, UserSignature};
use diversity_client::hexed::Bytes;
use diversity_proto::round::OutputKind;
use diversity_proto::{AgreementId, UserId};
use futures::FutureExt;
use futures::future::BoxFuture;

struct Said(Result<Mined, RelayError>);

impl Chain for Said {
    fn relay(&self, _: String, _: Vec<u8>) -> BoxFuture<'static, Result<Mined, RelayError>> {
        futures::future::ready(self.0.clone()).boxed()
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
    let call = tokio::spawn({
        let line = line.clone();
        async move { line.mined("call".into(), Vec::new()).await }
    });
    processed(6);
    tokio::task::yield_now().await;
    assert!(!call.is_finished());
    processed(7);
    assert_eq!(call.await.expect("no panic"), Ok(mined.tx));
    processed(0);
    drop(taken);
    let stopped = line.mined("call".into(), Vec::new()).await;
    assert_eq!(stopped, Err(RoomError::stopping()));
}

#[tokio::test]
async fn what_the_contract_says_is_said() {
    let refused = RelayError::Reverted {
        name: "TooFewUsers".into(),
        words: "name two".into(),
    };
    let pointless = RelayError::Pointless("it is so already".into());
    let down = RelayError::Unavailable("no endpoint".into());
    for (said, expected) in [
        (refused, RoomError::Reverted("TooFewUsers: name two".into())),
        (pointless, RoomError::Reverted("it is so already".into())),
        (down, RoomError::Unavailable("no endpoint".into())),
    ] {
        let (line, _taken) = line(Err(said));
        assert_eq!(line.mined("call".into(), Vec::new()).await, Err(expected));
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
fn a_resolution_is_about_its_dispute() {
    let a = AgreementId([2; 32]);
    let request = |kind: &str, from, t| ResolveRequest {
        kind: kind.into(),
        epoch: 1,
        from,
        t,
        context: Digest::ZERO,
        result: Bytes(vec![1]),
        signatures: Vec::new(),
    };
    let good = outcome(a, 5, &request("value", 3, 5)).expect("good");
    assert_eq!(
        (good.kind, good.from, good.t),
        (OutputKind::Value as u8, 3, 5)
    );
    for bad in [
        request("abstain", 3, 5),
        request("value", 6, 5),
        request("value", 3, 4),
    ] {
        assert!(matches!(outcome(a, 5, &bad), Err(RoomError::Malformed(_))));
    }
}
