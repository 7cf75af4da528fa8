use super::*;
use crate::rooms::testkit::{BAD_MODULE, DEPLOYMENT, Kit, MODULE, key, sensor};
use diversity_client::sign::Signer;
use diversity_client::terms_json::TermsJson;
use diversity_proto::domain::sha256_raw;
use diversity_proto::terms::acceptance_digest;
use diversity_proto::terms::{Field, TrustedNode};
use diversity_proto::{AgreementId, Deployment};

fn request(a: AgreementId, terms: &Terms) -> AcceptRequest {
    AcceptRequest {
        agreement: a,
        terms: TermsJson::from(terms),
        grants: Vec::new(),
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
    let kept = kit.shared.consent.terms(&a, &kit.terms.digest());
    assert_eq!(
        kept.as_deref(),
        Some(&kit.terms),
        "and outside of the store"
    );
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
    assert!(!kit.shared.consent.is_given(&a, &kit.terms.digest()));
}

/// Users of an agreement grant their sensors by signing it; whoever else owns one is asked.
#[tokio::test]
async fn the_owner_of_each_sensor_agrees_or_nothing_is_accepted() {
    let kit = Kit::new();
    kit.shared.code.modules.put(MODULE).expect("kept");
    let owner = Signer::new(key(3), DEPLOYMENT);
    {
        let mut registry = kit.shared.registered.write();
        let record = registry.sensors.get_mut(&sensor(21)).expect("registered");
        record.owner = owner.id();
    }
    let (a, digest) = (kit.id(&kit.terms), kit.terms.digest());
    let room = Acceptance::new(&kit.shared, kit.book());
    let elsewhere = Deployment {
        chain_id: 6,
        ..DEPLOYMENT
    };
    let user = Signer::new(key(1), DEPLOYMENT);
    let mut anothers = user.grant(&digest);
    anothers.user = owner.id();
    for grants in [
        vec![],
        // Of a user, who does not own it; in the name of its owner.
        vec![user.grant(&digest)],
        vec![anothers],
        // Of other terms, and for another chain.
        vec![owner.grant(&Digest([1; 32]))],
        vec![Signer::new(key(3), elsewhere).grant(&digest)],
        // What the owner has signed for something else.
        vec![owner.agreement(&a, &digest)],
    ] {
        let asked = AcceptRequest {
            grants,
            ..request(a, &kit.terms)
        };
        let refused = room.accept(&asked).await.expect_err("not granted");
        assert!(matches!(refused, RoomError::NotGranted(_)), "{refused}");
        assert!(refused.to_string().contains(&owner.id().hex()), "{refused}");
    }
    assert!(!kit.shared.consent.is_given(&a, &digest));
    let granted = AcceptRequest {
        grants: vec![user.grant(&digest), anothers, owner.grant(&digest)],
        ..request(a, &kit.terms)
    };
    room.accept(&granted).await.expect("accepted");
    assert!(kit.shared.consent.is_given(&a, &digest));
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
