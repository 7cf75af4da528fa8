use super::*;
use crate::rooms::testkit::{BAD_MODULE, DEPLOYMENT, Kit, MODULE, key, sensor};
use diversity_client::terms_json::TermsJson;
use diversity_proto::AgreementId;
use diversity_proto::domain::sha256_raw;
use diversity_proto::terms::{Field, TrustedNode};

fn request(a: AgreementId, terms: &Terms) -> AcceptRequest {
    AcceptRequest {
        agreement: a,
        terms: TermsJson::from(terms),
    }
}

async fn refused(kit: &Kit, terms: &Terms) -> RoomError {
    let room = Acceptance::new(&kit.shared, kit.book());
    let refused = room.accept(&request(kit.id(terms), terms)).await;
    refused.expect_err("refused")
}

#[tokio::test]
async fn who_accepts_keeps_the_terms_before_it_signs() {
    let kit = Kit::new();
    let a = kit.id(&kit.terms);
    kit.shared.code.modules.put(MODULE).expect("kept");
    let room = Acceptance::new(&kit.shared, kit.book());
    let accepted = room
        .accept(&request(a, &kit.terms))
        .await
        .expect("accepted");
    let node = kit.shared.identity.node;
    let digest = acceptance_digest(&DEPLOYMENT, &a, &kit.terms.digest(), &node);
    assert_eq!(accepted.node, node);
    assert_eq!(accepted.signature.signer(&digest), Ok(node.address()));
    assert_eq!(kit.book().records.terms(&a), Ok(Some(kit.terms.clone())));
    assert_eq!(
        room.accept(&request(a, &kit.terms)).await.expect("again"),
        accepted
    );
}

#[tokio::test]
async fn what_cannot_be_run_is_not_accepted() {
    let kit = Kit::new();
    let missing = kit.terms.off_chain_code;
    assert_eq!(
        refused(&kit, &kit.terms).await,
        RoomError::ModuleMissing(missing)
    );
    kit.shared.code.modules.put(BAD_MODULE).expect("kept");
    let bad = Terms {
        off_chain_code: Digest(sha256_raw(BAD_MODULE)),
        ..kit.terms.clone()
    };
    assert_eq!(
        refused(&kit, &bad).await,
        RoomError::Module("it is bad".into())
    );
    let a = kit.id(&kit.terms);
    assert_eq!(kit.book().records.terms(&a), Ok(None), "nothing was kept");
}

#[tokio::test]
async fn terms_are_checked_before_the_module_is() {
    let kit = Kit::new();
    let terms = &kit.terms;
    let reserved = Terms {
        result: vec![Field {
            name: "tx".into(),
            ty: "uint8".into(),
        }],
        ..terms.clone()
    };
    assert!(matches!(
        refused(&kit, &reserved).await,
        RoomError::Terms(_)
    ));
    let dropping = Terms {
        qos: Qos::None,
        ..terms.clone()
    };
    assert!(matches!(
        refused(&kit, &dropping).await,
        RoomError::Terms(_)
    ));
    let mut foreign = terms.clone();
    foreign.sensors[0].sensor = sensor(99);
    let unknown = format!("sensor {} of the terms is not registered", sensor(99));
    assert_eq!(
        refused(&kit, &foreign).await,
        RoomError::NotRegistered(unknown)
    );
    let room = Acceptance::new(&kit.shared, kit.book());
    let other = room.accept(&request(AgreementId([3; 32]), terms)).await;
    assert!(matches!(other, Err(RoomError::AgreementId(_))), "{other:?}");
}

#[test]
fn only_its_own_agreements_are_a_nodes_business() {
    let kit = Kit::new();
    let own = kit.shared.identity.node;
    assert_eq!(willing(&own, &kit.terms), Ok(()));
    let stranger = NodeId(key(77).address());
    let elsewhere = Terms {
        nodes: vec![TrustedNode {
            node: stranger,
            trust: 0,
        }],
        ..kit.terms.clone()
    };
    assert!(matches!(
        willing(&own, &elsewhere),
        Err(RoomError::NotAMember(_))
    ));
}
