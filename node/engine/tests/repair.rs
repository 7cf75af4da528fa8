//! Repair believes no claim that no frames follow, and rotates among those who hold something (docs/protocol.md, P-REPAIR).

mod stage;

use diversity_proto::wire::Part;
use stage::*;

#[test]
fn a_peer_that_claims_everything_and_serves_nothing_starves_nobody() {
    for lie in [false, true] {
        let mut s = Stage::new(3, counts());
        let a = agreement(1);
        s.gossip_on = false;
        s.register(a, &terms(3, &[(0, 0)], EACH, 1));
        s.tamper = Box::new(move |from, _, mut p| {
            if let Part::Status { next_q, .. } = &mut p
                && from == 0
                && lie
            {
                *next_q = vec![1 << 40];
            }
            vec![p]
        });
        s.serves = Box::new(|_, to| to != 0);
        for q in 0..5 {
            s.frames(2, &[frame(0, q, &[(1_000 + q, 1)])]);
        }
        s.run(30_000);
        let held = s.nodes[1].sensor(&sensor(0)).expect("known").1;
        assert_eq!(held, 5, "lie {lie}");
        let asked = |of: usize| s.requests.iter().filter(|r| (r.0, r.1) == (1, of)).count();
        assert!(
            asked(0) < 12,
            "it is asked more and more rarely: {} times",
            asked(0)
        );
    }
}

#[test]
fn requests_rotate_when_peers_lose_answers() {
    let mut s = Stage::new(4, counts());
    let a = agreement(1);
    s.gossip_on = false;
    s.register(a, &terms(4, &[(0, 0)], EACH, 1));
    for q in 0..3 {
        for i in 1..4 {
            s.frames(i, &[frame(0, q, &[(1_000 + q, 1)])]);
        }
    }
    s.serves = Box::new(|_, to| to == 3);
    s.run(30_000);
    assert_eq!(s.nodes[0].sensor(&sensor(0)).expect("known").1, 3);
}
