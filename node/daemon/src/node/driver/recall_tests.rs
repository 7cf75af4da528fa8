use super::*;
use diversity_keys::SecretKey;
use diversity_proto::round::{Blinding, OutputKind};
use diversity_proto::{Address, Digest, Signature};

const A: AgreementId = AgreementId([7; 32]);
const DEPLOYMENT: Deployment = Deployment {
    chain_id: 5,
    contract: Address([3; 20]),
};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).expect("key")
}

fn node(seed: u8) -> NodeId {
    NodeId(key(seed).address())
}

/// Terms of nodes 1, 2 and 3; this one is 1.
fn terms() -> Terms {
    let mut terms = crate::rooms::testkit::Kit::new().terms;
    let trusted = terms.nodes[0];
    terms.nodes = [1, 2, 3]
        .map(|seed| diversity_proto::terms::TrustedNode {
            node: node(seed),
            ..trusted
        })
        .to_vec();
    terms
}

fn recall(lost: bool, known: &[AgreementId]) -> Recall {
    let doubt = Doubt {
        known: known.iter().copied().collect(),
        lost,
    };
    Recall::new(DEPLOYMENT, node(1), PublicKey(key(1).public_key()), doubt)
}

/// Node 1's commit to t, of something that depends on `what`.
fn commit(t: u64, what: u8) -> Commit {
    let subject = Subject {
        deployment: DEPLOYMENT,
        config: config(&DEPLOYMENT, &A, 0),
        t,
    };
    let computed = Computed {
        kind: OutputKind::Value,
        result: vec![what],
        detail_root: Digest::ZERO,
        state: Digest::ZERO,
        trace: Digest::ZERO,
        window_hash: Digest::ZERO,
    };
    let blinding = Blinding {
        secret: [8; 32],
        salt: [9; 32],
    };
    let sign = |d: &Digest| Signature(key(1).sign(&d.0));
    Commit::make(&subject, &node(1), &computed, &blinding, sign)
}

fn shown(t: u64, commit: Commit) -> Part {
    Part::Round {
        agreement: A,
        epoch: 0,
        t,
        body: Body::Commit { commit },
    }
}

fn status(next_t: u64) -> Part {
    Part::Status {
        agreement: A,
        next_t,
        next_q: Vec::new(),
    }
}

const ALL_SAID: Part = Part::Want {
    agreement: A,
    from_t: ALL,
};

#[test]
fn who_has_nothing_to_doubt_signs_at_once() {
    let terms = terms();
    let mut one = recall(false, &[]);
    assert_eq!(one.judge(&A, 0, 4, &commit(4, 1), &terms), Verdict::Sign);
    // And takes nobody's word for its own.
    assert!(!one.heard(node(2), &terms, &shown(4, commit(4, 2))));
    assert_eq!(one.judge(&A, 0, 4, &commit(4, 1), &terms), Verdict::Sign);
}

#[test]
fn all_others_are_asked_before_anything_is_signed_anew() {
    let terms = terms();
    for mut one in [recall(true, &[]), recall(false, &[A])] {
        let judge = |one: &mut Recall| one.judge(&A, 0, 4, &commit(4, 1), &terms);
        assert_eq!(judge(&mut one), Verdict::Wait);
        assert_eq!(one.unanswered(&A, &terms), [node(2), node(3)]);
        one.heard(node(2), &terms, &status(4));
        assert!(one.heard(node(2), &terms, &ALL_SAID));
        assert_eq!(judge(&mut one), Verdict::Wait, "the other one is silent");
        one.heard(node(3), &terms, &ALL_SAID);
        assert_eq!(judge(&mut one), Verdict::Wait, "what has it decided?");
        one.heard(node(3), &terms, &status(3));
        assert_eq!(judge(&mut one), Verdict::Sign);
        assert!(!one.doubts(&A), "asked once");
        let later = one.judge(&A, 0, 5, &commit(5, 1), &terms);
        assert_eq!(later, Verdict::Sign);
    }
}

#[test]
fn who_was_away_is_asked_again() {
    let terms = terms();
    let mut one = recall(true, &[]);
    for other in [2, 3] {
        one.heard(node(other), &terms, &status(0));
        one.heard(node(other), &terms, &ALL_SAID);
    }
    one.gone(&node(2));
    let judged = one.judge(&A, 0, 4, &commit(4, 1), &terms);
    assert_eq!(judged, Verdict::Wait);
    assert_eq!(one.unanswered(&A, &terms), [node(2)]);
}

#[test]
fn another_commit_of_its_own_is_never_contradicted() {
    let terms = terms();
    let mut one = recall(true, &[]);
    assert!(
        one.heard(node(3), &terms, &shown(4, commit(4, 1))),
        "for nobody else"
    );
    assert_eq!(
        one.judge(&A, 0, 4, &commit(4, 1), &terms),
        Verdict::Sign,
        "the same"
    );
    assert_eq!(one.judge(&A, 0, 4, &commit(4, 2), &terms), Verdict::Abstain);
    // What nobody but this node can have signed counts, and nothing else.
    let mut forged = commit(5, 3);
    forged.signature = commit(4, 3).signature;
    assert!(!one.heard(node(2), &terms, &shown(5, forged)));
    for other in [2, 3] {
        one.heard(node(other), &terms, &status(5));
        one.heard(node(other), &terms, &ALL_SAID);
    }
    assert_eq!(one.judge(&A, 0, 5, &commit(5, 1), &terms), Verdict::Sign);
}

#[test]
fn what_others_have_decided_is_judged_by_its_certificate() {
    let terms = terms();
    let mut one = recall(true, &[]);
    for other in [2, 3] {
        one.heard(node(other), &terms, &status(9));
        one.heard(node(other), &terms, &ALL_SAID);
    }
    assert_eq!(one.judge(&A, 0, 4, &commit(4, 1), &terms), Verdict::Wait);
    let place = terms
        .nodes
        .iter()
        .position(|n| n.node == node(1))
        .expect("a member");
    let mut commits = vec![commit(4, 7); 3];
    commits[place] = commit(4, 1);
    let certificate = Part::Round {
        agreement: A,
        epoch: 0,
        t: 4,
        body: Body::Certificate {
            commits,
            reveals: Vec::new(),
        },
    };
    assert!(
        !one.heard(node(2), &terms, &certificate),
        "the core wants it too"
    );
    assert_eq!(one.judge(&A, 0, 4, &commit(4, 1), &terms), Verdict::Sign);
    assert_eq!(one.judge(&A, 0, 4, &commit(4, 2), &terms), Verdict::Abstain);
    // A marked epoch is another reading of a decided t.
    let epoch = 1 << 16;
    assert_eq!(
        one.judge(&A, epoch, 4, &commit(4, 2), &terms),
        Verdict::Sign
    );
}

#[test]
fn a_node_that_asks_is_shown_its_own_commits_to_what_is_open() {
    let terms = terms();
    let mut other = recall(false, &[]);
    for t in 0..REMEMBERED_MAX as u64 + 9 {
        other.heard(node(2), &terms, &shown(t, commit(t, 1)));
    }
    let open = REMEMBERED_MAX as u64;
    let answer = other.answer(A, node(2), open);
    assert_eq!(answer.len(), 9 + 1);
    assert_eq!(answer[0], shown(open, commit(open, 1)));
    assert_eq!(answer[9], ALL_SAID);
    assert_eq!(other.answer(A, node(3), 0), [ALL_SAID]);
    assert_eq!(
        other.answer(A, node(2), 0).len(),
        REMEMBERED_MAX + 1,
        "bounded"
    );
}

/// Node `by`'s list for t: the sensors from `open` on are open to it.
fn list(by: u8, t: u64, open: u32) -> Part {
    let sensor = diversity_proto::held::OpenSensor {
        index: open,
        lacks: 7,
        contradiction: None,
    };
    let mut held = Held {
        open: vec![sensor],
        signature: Signature([0; 64]),
    };
    let subject = Subject {
        deployment: DEPLOYMENT,
        config: config(&DEPLOYMENT, &A, 0),
        t,
    };
    let digest = held.digest(&subject, &node(by));
    held.signature = Signature(key(by).sign(&digest.0));
    Part::Held {
        agreement: A,
        epoch: 0,
        t,
        held,
    }
}

#[test]
fn own_lists_come_back_and_no_other_leaves_before() {
    let terms = terms();
    let mut one = recall(false, &[A]);
    assert!(one.withholds_lists(&A, &terms));
    // Others' lists are theirs, and the core's.
    assert!(!one.heard(node(2), &terms, &list(2, 4, 0)));
    assert!(
        one.heard(node(2), &terms, &list(1, 4, 0)),
        "this node's own"
    );
    one.heard(node(2), &terms, &ALL_SAID);
    assert!(one.withholds_lists(&A, &terms), "node 3 has not answered");
    one.heard(node(3), &terms, &ALL_SAID);
    assert!(!one.withholds_lists(&A, &terms));
    assert_eq!(one.take_own_lists(), [list(1, 4, 0)]);
    assert_eq!(one.take_own_lists(), []);
    // Who has nothing to doubt has said nothing else.
    let mut sure = recall(false, &[]);
    assert!(!sure.withholds_lists(&A, &terms));
    assert!(sure.heard(node(2), &terms, &list(1, 4, 0)));
    assert_eq!(sure.take_own_lists(), []);
}

#[test]
fn lists_of_others_are_shown_to_them_while_their_window_is_open() {
    let terms = terms();
    let mut one = recall(false, &[]);
    for t in 2..6 {
        one.heard(node(2), &terms, &list(2, t, 0));
        // The first one counts: it is what this node went by.
        one.heard(node(2), &terms, &list(2, t, 1));
        one.heard(node(3), &terms, &list(3, t, 0));
    }
    let answer = one.answer(A, node(2), 5);
    assert_eq!(answer, [list(2, 5, 0), ALL_SAID]);
    let answer = one.answer(A, node(2), 0);
    assert_eq!(
        answer,
        [list(2, 4, 0), list(2, 5, 0), ALL_SAID],
        "the newest"
    );
}
