use super::*;
use diversity_chain::events::Outputs;
use diversity_chain::events::{ChainEvent as Event, DisputeKind};
use diversity_proto::entity::{NodeDeclaration, Period, SensorDeclaration};
use diversity_proto::frame::{Frame, Variable, VariableType};
use diversity_proto::round::{Entry, OutputKind};
use diversity_proto::{Address, NodeId, PublicKey, SensorId, UserId};

fn located(block: u64, event: Event) -> Located {
    // In the order in which they are made.
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let at = Position {
        block,
        block_hash: Digest([block as u8; 32]),
        log_index: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        tx: Digest([(block as u8).wrapping_add(100); 32]),
    };
    Located { at, event }
}

fn sensor(label: &str) -> SensorDeclaration {
    SensorDeclaration {
        public_key: PublicKey([2; 33]),
        sensor_type: "lock".into(),
        label: label.into(),
        variables: vec![Variable {
            name: "open".into(),
            ty: VariableType::Bool,
        }],
        period: Period::Month,
    }
}

fn node(revision: u32) -> NodeDeclaration {
    NodeDeclaration {
        public_key: PublicKey([3; 33]),
        account: Address([4; 20]),
        peer_key: [5; 32],
        peer_proof: [6; 64],
        name: format!("revision {revision}"),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        revision,
    }
}

const A: AgreementId = AgreementId([9; 32]);
const USER: UserId = UserId([1; 20]);
const SENSOR: SensorId = SensorId([2; 20]);
const NODE: NodeId = NodeId([3; 20]);

fn place(epoch: u32, from: u64, t: u64) -> Place {
    Place {
        agreement: A,
        epoch,
        from,
        t,
    }
}

/// The call that reports two messages of the sensor at q.
fn contradiction(q: u64) -> Vec<u8> {
    let key = diversity_keys::SecretKey::from_bytes(&[2; 32]).expect("a key");
    let d = diversity_proto::Deployment {
        chain_id: 1,
        contract: Address([1; 20]),
    };
    let frame = |time: u8| {
        let mut frame = Frame {
            sensor: SENSOR.address().into(),
            epoch: 0,
            first_q: q,
            count: 1,
            lost: 0,
            width: 0,
            opening: None,
            body: vec![time],
            signature: diversity_proto::Signature([0; 64]),
        };
        frame.sensor = SensorId(key.address());
        frame.signature = diversity_proto::Signature(key.sign(&frame.digest(&d).0));
        frame
    };
    diversity_chain::calls::report_sensor_contradiction(&d, q, &frame(2), &frame(4))
        .expect("signed")
}

fn history() -> Vec<Located> {
    let header = TermsHeader {
        users: Digest([1; 32]),
        nodes: Digest([2; 32]),
        trust: Digest([3; 32]),
        sensors_root: Digest([4; 32]),
        off_chain_code: Digest([5; 32]),
        conditions: Digest([6; 32]),
    };
    let settled = |from, t, entries| Event::Settled {
        place: place(0, from, t),
        entries,
        holes: Vec::new(),
        context: Digest([7; 32]),
        batch: false,
        gas_used: 30_000,
        outcomes: 1,
    };
    let dispute = |id, kind, agreement, accused, at| Event::DisputeRecorded {
        dispute: Digest([id; 32]),
        kind,
        agreement,
        accused,
        epoch: 0,
        at,
        evidence: match agreement {
            None => contradiction(at),
            Some(_) => vec![1, 2, 3],
        },
    };
    let outputs = Outputs {
        kind: OutputKind::Value,
        result: vec![1, 2],
        state: Digest([8; 32]),
        carry: b"carry".to_vec(),
        q_next: vec![4, 5],
    };
    vec![
        located(
            1,
            Event::UserRegistered {
                user: USER,
                name: "user".into(),
            },
        ),
        located(
            2,
            Event::SensorRegistered {
                sensor: SENSOR,
                owner: USER,
                declaration: sensor("first"),
            },
        ),
        located(
            3,
            Event::SensorRegistered {
                sensor: SENSOR,
                owner: USER,
                declaration: sensor("second"),
            },
        ),
        located(
            4,
            Event::NodeRegistered {
                node: NODE,
                owner: USER,
                declaration: node(1),
            },
        ),
        located(
            5,
            Event::NodeRegistered {
                node: NODE,
                owner: USER,
                declaration: node(0),
            },
        ),
        located(
            6,
            Event::AgreementCreated {
                agreement: A,
                users: vec![USER],
                nodes: vec![(NODE, 0)],
                header,
                terms: PublishedTerms::HeaderOnly {
                    reason: "test".into(),
                },
            },
        ),
        located(7, settled(0, 0, vec![(0, Entry::Value(vec![1]))])),
        located(8, dispute(1, DisputeKind::UnequalReveals, Some(A), None, 1)),
        located(
            8,
            Event::HoleSettled {
                place: place(1, 1, 1),
                abstained: false,
                seal: Digest([1; 32]),
                state: Digest::ZERO,
                holes: Vec::new(),
                dispute: Digest([1; 32]),
                gas_used: 90_000,
            },
        ),
        located(
            9,
            Event::CellWritten {
                place: place(0, 1, 1),
                writer: 2,
                context: Digest::ZERO,
                outputs: outputs.clone(),
                gas_used: 80_000,
            },
        ),
        located(9, settled(2, 3, vec![(2, Entry::Hole), (3, Entry::Trap)])),
        located(
            9,
            Event::Resolved {
                place: place(3, 4, 4),
                outputs,
                gas_used: 70_000,
            },
        ),
        located(
            10,
            dispute(
                2,
                DisputeKind::SensorContradiction,
                None,
                Some(SENSOR.address()),
                77,
            ),
        ),
        located(
            11,
            Event::AgreementClosed {
                agreement: A,
                end: 6,
            },
        ),
    ]
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(&dir.path().join("store"), b"test").expect("store");
    (dir, store)
}

/// All that is known, whatever order it came in.
fn shown(r: &Registry) -> String {
    format!(
        "{:?}",
        (
            &r.users,
            &r.sensors,
            &r.nodes,
            &r.agreements,
            &r.disputes,
            &r.skipped
        )
    )
}

#[test]
fn what_is_read_back_is_what_was_applied_and_repeats_change_nothing() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    let mut inputs = 0;
    let history = history();
    for event in &history {
        let mut out = Applied::default();
        registry.apply(event, &mut out);
        inputs += out.inputs.len();
        store.write(out.ops).expect("written");
    }
    // two settlements, hole, cell, resolution, void, closed
    assert_eq!(inputs, 7);
    let told = registry.introduce(&SENSOR);
    assert!(
        matches!(
            &told[..],
            [
                Input::Sensor { .. },
                Input::Chain(diversity_engine::api::ChainEvent::SensorVoid { .. })
            ]
        ),
        "{told:?}"
    );
    let a = &registry.agreements[&A];
    assert_eq!((a.next_t, a.epoch, a.end), (5, 3, Some(6)));
    assert!(registry.disputes[&Digest([1; 32])].resolved);
    assert_eq!(
        registry.sensors[&SENSOR].declaration.label, "first",
        "the first registration counts"
    );
    assert_eq!(
        registry.nodes[&NODE].declaration.revision, 1,
        "an old revision does not come back"
    );
    assert_eq!(registry.sensors[&SENSOR].void, Some((77, Digest([2; 32]))));
    let skipped: Vec<_> = registry.skipped.iter().map(|s| s.skipped.refusal).collect();
    assert_eq!(skipped, [Refusal::RevisionNotNewer]);
    let loaded = Registry::load(&store, NODE, Consent::default()).expect("read");
    assert_eq!(shown(&loaded), shown(&registry));
    let mut again = Applied::default();
    for event in &history {
        registry.apply(event, &mut again);
    }
    assert_eq!(shown(&loaded), shown(&registry));
    assert!(again.created.is_empty() && again.disputes.is_empty());
}

#[test]
fn an_agreement_that_starts_late_hears_everything_in_an_order_that_works() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    let mut out = Applied::default();
    for event in &history() {
        registry.apply(event, &mut out);
    }
    store.write(out.ops).expect("written");
    let logged = ChainLog::of(&store, &A).expect("read");
    let kinds: Vec<_> = logged
        .iter()
        .map(|entry| match entry {
            ChainLog::Hole { t, .. } => ("hole", *t),
            ChainLog::Cell { t, .. } => ("cell", *t),
            ChainLog::Resolved { t, .. } => ("resolved", *t),
            ChainLog::Settled(s) => ("settled", s.t),
            ChainLog::Closed { end } => ("closed", *end),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("settled", 0),
            ("hole", 1),
            ("cell", 1),
            ("settled", 3),
            ("resolved", 4),
            ("closed", 6)
        ]
    );
    let settled = ChainLog::settled(&store, &A, 3)
        .expect("read")
        .expect("there");
    assert_eq!(
        (settled.from, settled.entries),
        (2, vec![(2, Entry::Hole), (3, Entry::Trap)])
    );
    assert_eq!(ChainLog::settled(&store, &A, 2).expect("read"), None);
    let closed_at_once = ChainLog::Closed { end: 0 };
    assert!(closed_at_once.input(A).is_none());
}

#[test]
fn what_the_chain_takes_back_is_forgotten_and_comes_again() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    let mut out = Applied::default();
    let history = history();
    for event in &history {
        registry.apply(event, &mut out);
    }
    registry.rewind(5, &mut out);
    assert!(registry.agreements.is_empty() && registry.disputes.is_empty());
    assert_eq!(
        (
            registry.users.len(),
            registry.sensors.len(),
            registry.nodes.len()
        ),
        (1, 1, 1)
    );
    for event in &history[5..] {
        registry.apply(event, &mut out);
    }
    store.write(out.ops).expect("written");
    let loaded = Registry::load(&store, NODE, Consent::default()).expect("read");
    assert_eq!(shown(&loaded), shown(&registry));
    assert!(!registry.nodes[&NODE].taken_back);
    assert_eq!(registry.disputes.len(), 2);
}

fn apply(registry: &mut Registry, store: &Store, block: u64, event: Event) -> Applied {
    let mut out = Applied::default();
    registry.apply(&located(block, event), &mut out);
    store.write(out.ops.clone()).expect("written");
    out
}

fn node_event(id: u8, change: impl FnOnce(&mut NodeDeclaration)) -> Event {
    let mut declaration = node(1);
    declaration.peer_key = [id; 32];
    change(&mut declaration);
    Event::NodeRegistered {
        node: NodeId([id; 20]),
        owner: USER,
        declaration,
    }
}

/// A later registration with another node's peer key changes nothing, and neither does an older revision, nor another one of the
/// same number.
#[test]
fn the_first_claim_of_a_peer_key_and_the_newest_revision_stay() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    apply(&mut registry, &store, 1, node_event(1, |_| {}));
    let taken = apply(
        &mut registry,
        &store,
        2,
        node_event(2, |d| d.peer_key = [1; 32]),
    );
    assert_eq!(taken.skipped[0].skipped.refusal, Refusal::PeerKeyTaken);
    assert!(taken.nodes.is_empty() && registry.nodes.len() == 1);
    let same = apply(
        &mut registry,
        &store,
        3,
        node_event(1, |d| d.name = "other".into()),
    );
    assert_eq!(same.skipped[0].skipped.refusal, Refusal::RevisionNotNewer);
    let repeat = apply(&mut registry, &store, 4, node_event(1, |_| {}));
    assert!(repeat.skipped.is_empty(), "the same again is no fault");
    // Its own new key frees the old one.
    apply(
        &mut registry,
        &store,
        5,
        node_event(1, |d| (d.revision, d.peer_key) = (2, [9; 32])),
    );
    let free = apply(
        &mut registry,
        &store,
        6,
        node_event(2, |d| d.peer_key = [1; 32]),
    );
    assert_eq!((free.nodes.len(), free.skipped.len()), (1, 0));
    // Also after a restart.
    let mut loaded = Registry::load(&store, NODE, Consent::default()).expect("read");
    let taken = apply(
        &mut loaded,
        &store,
        7,
        node_event(3, |d| d.peer_key = [9; 32]),
    );
    assert_eq!(taken.skipped[0].skipped.refusal, Refusal::PeerKeyTaken);
    assert_eq!(
        shown(&loaded),
        shown(&Registry::load(&store, NODE, Consent::default()).expect("read"))
    );
}

/// What the chain has taken back does not stand in the way of what it says next.
#[test]
fn a_revision_that_was_taken_back_may_come_again_otherwise() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    apply(&mut registry, &store, 5, node_event(1, |d| d.revision = 7));
    let mut out = Applied::default();
    registry.rewind(4, &mut out);
    store.write(out.ops).expect("written");
    let again = apply(
        &mut registry,
        &store,
        5,
        node_event(1, |d| d.name = "other".into()),
    );
    assert_eq!((again.nodes.len(), again.skipped.len()), (1, 0));
    assert_eq!(registry.nodes[&NodeId([1; 20])].declaration.revision, 1);
}

#[test]
fn skipped_entries_are_counted_once_and_the_newest_are_listed() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    let skipped = || Event::Skipped(Refusal::ForeignKey.because("a stranger's"));
    let first = located(1, skipped());
    for counted in [1, 0] {
        let mut out = Applied::default();
        registry.apply(&first, &mut out);
        assert_eq!(out.skipped.len(), counted);
        store.write(out.ops).expect("written");
    }
    for block in 2..=SKIPPED_MAX as u64 + 3 {
        apply(&mut registry, &store, block, skipped());
    }
    assert_eq!(registry.skipped.len(), SKIPPED_MAX);
    assert_eq!(registry.skipped[0].block, 4);
    assert_eq!(
        shown(&Registry::load(&store, NODE, Consent::default()).expect("read")),
        shown(&registry)
    );
    let mut out = Applied::default();
    registry.rewind(100, &mut out);
    assert_eq!(registry.skipped.back().map(|s| s.block), Some(100));
}

/// The users settle a t in band, and then write its cell with other content: the chain takes both, and the first word stays.
#[test]
fn what_counts_is_said_once() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    for event in &history() {
        let mut out = Applied::default();
        registry.apply(event, &mut out);
        store.write(out.ops).expect("written");
    }
    let cell = |result: u8| Event::CellWritten {
        place: place(0, 4, 4),
        writer: 2,
        context: Digest::ZERO,
        outputs: Outputs {
            kind: OutputKind::Value,
            result: vec![result],
            state: Digest([8; 32]),
            carry: Vec::new(),
            q_next: Vec::new(),
        },
        gas_used: 1,
    };
    let second = apply(&mut registry, &store, 20, cell(7));
    assert_eq!(second.skipped[0].skipped.refusal, Refusal::SaidAlready);
    assert!(second.inputs.is_empty(), "the core does not hear of it");
    let said = ChainLog::counts(&store, &A, 4)
        .expect("read")
        .expect("there");
    assert_eq!(said.counted().map(|c| c.0.result.clone()), Some(vec![1, 2]));
    // What the chain takes back is said no more, and may be said otherwise.
    let mut out = Applied::default();
    registry.rewind(8, &mut out);
    store.write(out.ops).expect("written");
    assert_eq!(ChainLog::counts(&store, &A, 4).expect("read"), None);
    let again = apply(&mut registry, &store, 9, cell(7));
    assert!(again.skipped.is_empty() && again.inputs.len() == 1);
}

/// A sensor contradicts itself before it is registered: whoever registers it later is not rid of that.
#[test]
fn evidence_that_comes_before_the_registration_counts() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    let dispute = Event::DisputeRecorded {
        dispute: Digest([2; 32]),
        kind: DisputeKind::SensorContradiction,
        agreement: None,
        accused: Some(SENSOR.address()),
        epoch: 0,
        at: 77,
        evidence: contradiction(77),
    };
    apply(&mut registry, &store, 1, dispute);
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("read");
    let registered = Event::SensorRegistered {
        sensor: SENSOR,
        owner: USER,
        declaration: sensor("late"),
    };
    apply(&mut registry, &store, 2, registered);
    assert_eq!(registry.sensors[&SENSOR].void, Some((77, Digest([2; 32]))));
    assert_eq!(
        registry.introduce(&SENSOR).len(),
        2,
        "the core hears of both"
    );
}

/// Whatever stands on chain, and whatever is known of it here: what this node has not accepted is not its.
#[test]
fn an_agreement_that_only_names_this_node_is_nothing_to_it() {
    let (_dir, store) = open();
    let mut registry = Registry::load(&store, NODE, Consent::default()).expect("empty");
    let mut terms = (*crate::rooms::testkit::known().terms).clone();
    (terms.nodes[0].node, terms.nodes[1].node) = (NODE, NodeId([4; 20]));
    let created = || Event::AgreementCreated {
        agreement: A,
        users: terms.users.clone(),
        nodes: terms.nodes.iter().map(|n| (n.node, n.trust)).collect(),
        header: terms.header(),
        terms: PublishedTerms::Whole(Box::new(terms.clone())),
    };
    apply(&mut registry, &store, 3, created());
    assert!(!registry.agreements[&A].kept && !registry.is_accepted(&A));
    assert_eq!(
        super::terms(&store, &A).expect("read"),
        Some(terms.clone()),
        "what the chain published is here, to be shown"
    );
    // The chain takes it back and says it again: that its terms are known by now is no acceptance.
    let mut out = Applied::default();
    registry.rewind(2, &mut out);
    store.write(out.ops).expect("written");
    apply(&mut registry, &store, 3, created());
    assert!(!registry.agreements[&A].kept);
    assert_eq!(registry.kept(), []);

    // Terms other than those on chain are another agreement; the ones that stand there are this one, also after a restart.
    let other = Terms {
        grace_s: terms.grace_s + 1,
        ..terms.clone()
    };
    let reload = |consent| Registry::load(&store, NODE, consent).expect("read");
    assert!(!reload(Consent::given([(A, other)])).is_accepted(&A));
    let accepted = reload(Consent::given([(A, terms.clone())]));
    assert!(accepted.is_accepted(&A));
    assert_eq!(accepted.kept(), [A]);
    assert_eq!(reload(Consent::default()).kept(), []);
}

#[path = "registry_strangers_tests.rs"]
mod strangers;
