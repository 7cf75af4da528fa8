//! What strangers register: bounded, dropped first, and found again.

use super::*;
use diversity_chain::look_back::Entity;

/// However much strangers register, what is kept of them is bounded, in memory and on disk, and nothing goes that belongs to an
/// agreement of this node.
#[test]
fn strangers_are_dropped_first() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    registry.strangers = Strangers::new(200_000);
    let mut terms = (*crate::rooms::testkit::known().terms).clone();
    terms.users = vec![USER, UserId([2; 20])];
    (terms.nodes[0].node, terms.nodes[1].node) = (NODE, NodeId([4; 20]));
    terms.sensors[0].sensor = SENSOR;
    let header = terms.header();
    registry.consent = Consent::given([(A, terms.clone())]);
    let events = history();
    for event in &events[..2] {
        let mut out = Applied::default();
        registry.apply(event, &mut out);
        store.write(out.ops).expect("written");
    }
    let created = Event::AgreementCreated {
        agreement: A,
        users: terms.users.clone(),
        nodes: terms.nodes.iter().map(|n| (n.node, n.trust)).collect(),
        header,
        terms: PublishedTerms::Whole(Box::new(terms)),
    };
    apply(&mut registry, &store, 3, created);
    assert!(registry.agreements[&A].kept, "it was accepted before");
    let stranger = UserId([7; 20]);
    for n in 0..2_000u32 {
        let id = |kind: u8| {
            let mut id = [kind; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            id
        };
        let sensor = Event::SensorRegistered {
            sensor: SensorId(id(9)),
            owner: stranger,
            declaration: sensor("a stranger's"),
        };
        apply(&mut registry, &store, 10 + u64::from(n), sensor);
        let mut other = [8; 32];
        other[..4].copy_from_slice(&n.to_be_bytes());
        let created = Event::AgreementCreated {
            agreement: AgreementId(other),
            users: vec![stranger],
            nodes: vec![(NodeId(id(5)), 0), (NODE, 0)],
            header,
            terms: PublishedTerms::HeaderOnly {
                reason: "test".into(),
            },
        };
        apply(&mut registry, &store, 10 + u64::from(n), created);
        let resolved = Event::Resolved {
            place: Place {
                agreement: AgreementId(other),
                ..place(0, 0, 0)
            },
            outputs: Outputs {
                kind: OutputKind::Value,
                result: vec![1; 1_000],
                state: Digest::ZERO,
                carry: Vec::new(),
                q_next: Vec::new(),
            },
            gas_used: 1,
        };
        apply(&mut registry, &store, 10 + u64::from(n), resolved);
    }
    let dispute = Event::DisputeRecorded {
        dispute: Digest([6; 32]),
        kind: DisputeKind::Equivocation,
        agreement: Some(AgreementId([66; 32])),
        accused: Some(Address([1; 20])),
        epoch: 0,
        at: 1,
        evidence: vec![1; 190_000],
    };
    let mut out = Applied::default();
    registry.apply(&located(9_000, dispute), &mut out);
    let known = |registry: &Registry| registry.evidence(&Digest([6; 32])).expect("read").len();
    assert_eq!(known(&registry), 190_000, "before it is durable");
    store.write(out.ops).expect("written");
    registry.written();
    assert_eq!(known(&registry), 190_000, "it is in the store");
    let stored: usize = store
        .scan_prefix(b"d")
        .map(|item| item.map(|(k, v)| k.len() + v.len()).expect("read"))
        .sum();
    assert!(stored < 300_000, "{stored} bytes on disk");
    assert!(registry.strangers.bytes() <= 200_000);
    assert!(registry.sensors.len() + registry.agreements.len() < 400);
    assert!(registry.sensors.contains_key(&SENSOR) && registry.users.contains_key(&USER));
    assert!(registry.agreements.contains_key(&A));
    assert!(terms_of_store(&store).is_some());
    // A start finds the same.
    let mut loaded = Registry::load(&store, NODE, registry.consent.clone()).expect("read");
    assert_eq!(shown(&loaded), shown(&registry));
    loaded.strangers = Strangers::new(0);
    apply(
        &mut loaded,
        &store,
        9_001,
        Event::Skipped(Refusal::Malformed.because("room is made")),
    );
    assert!(loaded.sensors.contains_key(&SENSOR) && loaded.agreements.contains_key(&A));
}

fn terms_of_store(store: &Store) -> Option<Terms> {
    terms(store, &A).expect("read")
}

/// A node, a user and a void sensor are pushed out by others; what the chain says of them again counts as it did before.
#[test]
fn who_was_dropped_is_known_again_when_the_chain_is_asked() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    registry.keep_of_strangers(20_000);
    assert!(!registry.is_partial());
    let other = NodeId([33; 20]);
    let said = [
        Event::UserRegistered {
            user: USER,
            name: "user".into(),
        },
        Event::SensorRegistered {
            sensor: SENSOR,
            owner: USER,
            declaration: sensor("first"),
        },
        Event::NodeRegistered {
            node: other,
            owner: USER,
            declaration: node(3),
        },
        Event::DisputeRecorded {
            dispute: Digest([2; 32]),
            kind: DisputeKind::SensorContradiction,
            agreement: None,
            accused: Some(SENSOR.address()),
            epoch: 0,
            at: 77,
            evidence: contradiction(77),
        },
    ];
    let said = (1..).zip(said).map(|(block, event)| located(block, event));
    let said: Vec<_> = said.collect();
    let take = |registry: &mut Registry, events: &[Located]| {
        let mut out = Applied::default();
        for event in events {
            registry.apply(event, &mut out);
        }
        store.write(out.ops.clone()).expect("written");
        registry.written();
        out
    };
    take(&mut registry, &said);
    let everybody = [
        Entity::User(USER),
        Entity::Sensor(SENSOR),
        Entity::Node(other),
    ];
    assert_eq!(registry.missing(everybody), []);
    let flood = |n: u32| {
        let mut user = [9; 20];
        user[..4].copy_from_slice(&n.to_be_bytes());
        let name = "stranger".into();
        let user = UserId(user);
        located(10 + u64::from(n), Event::UserRegistered { user, name })
    };
    let flood: Vec<_> = (0..200).map(flood).collect();
    let out = take(&mut registry, &flood);
    assert!(everybody.iter().all(|e| out.dropped.contains(e)));
    assert_eq!(registry.missing(everybody), everybody);

    // A start knows that something is missing, and for the same reason.
    let mut registry = Registry::load(&store, NODE, registry.consent.clone()).expect("read");
    registry.keep_of_strangers(20_000);
    assert!(registry.is_partial());
    let out = take(&mut registry, &said);
    assert_eq!(registry.missing(everybody), []);
    assert_eq!(out.nodes.len(), 1, "the transport hears of it");
    assert_eq!(registry.sensors[&SENSOR].void, Some((77, Digest([2; 32]))));
    assert_eq!(registry.introduce(&SENSOR).len(), 2);
    assert!(registry.strangers.bytes() <= 20_000);
}
