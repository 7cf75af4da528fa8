//! Step tables of the round machine: what it is told, and what it must answer, in a small language of their own.
//!
//! Node 0 of three looks on. `commit 1` is what node 1 computed, `commit 1'` another commit of it, `commit 1*` one whose reveal
//! cannot open it; `reveal 1'` differs in its result, `reveal 1^` also in its state, `reveal 1?` abstains, `reveal 1#` names other
//! secrets, `reveal 1*` does not open the commit, `reveal 1~` is correct but for another seal. A seal or certificate names its items.

use diversity_proto::round::{Blinding, Body, Commit, Computed, OutputKind, Reveal, Subject};
use diversity_proto::{Address, AgreementId, Deployment, Digest, NodeId, PublicKey, Signature};
use diversity_round::{Committee, Decision, Fault, Input, Output, Place, Round};
use std::sync::Arc;

struct Case {
    description: &'static str,
    leader: usize,
    /// `(input, expected outputs separated by commas)`.
    steps: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        description: "a follower goes through a round without faults",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("own-reveal 0", "send-reveal 1"),
            ("certificate 0 1 2 / 0 1 2", "outcome"),
        ],
    },
    Case {
        description: "a leader collects, seals, collects and certifies",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1", ""),
            ("commit 2", "make-reveal 0 1 2, send-seal all"),
            ("own-reveal 0", ""),
            ("reveal 2", ""),
            ("reveal 1", "send-certificate, outcome"),
        ],
    },
    Case {
        description: "whoever holds all commits seals, whoever leads",
        leader: 1,
        steps: &[
            ("commit 1", ""),
            ("commit 2", ""),
            (
                "own-commit 0",
                "send-commit 1, make-reveal 0 1 2, send-seal all",
            ),
        ],
    },
    Case {
        description: "a seal that comes before the own commit (its node was down) waits for it, and is passed on",
        leader: 1,
        steps: &[
            ("seal 0 1 2", ""),
            (
                "own-commit 0",
                "send-commit 1, make-reveal 0 1 2, send-seal all",
            ),
        ],
    },
    Case {
        description: "a repeated commit is answered with the seal, once there is one",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1", ""),
            ("commit 1", ""),
            ("commit 2", "make-reveal 0 1 2, send-seal all"),
            ("commit 1", "send-seal 1"),
        ],
    },
    Case {
        description: "a second, different commit is evidence and changes nothing",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1", ""),
            ("commit 1'", "equivocation 1"),
            ("commit 2", "make-reveal 0 1 2, send-seal all"),
        ],
    },
    Case {
        description: "no node goes by a seal that holds another commit than it was shown",
        leader: 2,
        steps: &[
            ("own-commit 0", "send-commit 2"),
            ("commit 1", ""),
            ("seal 0 1' 2", "equivocation 1"),
            ("own-reveal 0", ""),
        ],
    },
    Case {
        description: "one seal per (a, t), ever: a second seal makes no second reveal",
        leader: 2,
        steps: &[
            ("own-commit 0", "send-commit 2"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("seal 0 1 2'", "equivocation 2"),
            ("own-reveal 0", "send-reveal 2"),
            ("seal 0 1 2", ""),
        ],
    },
    Case {
        description: "a seal of too few commits is nothing",
        leader: 2,
        steps: &[("own-commit 0", "send-commit 2"), ("seal 0 1", "")],
    },
    Case {
        description: "an own commit in a seal that this store does not know stops the node (R2)",
        leader: 2,
        steps: &[
            ("own-commit 0", "send-commit 2"),
            ("seal 0' 1 2", "stale-store"),
        ],
    },
    Case {
        description: "unequal results with one state are a hole, and t+1 goes on",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1'", ""),
            ("commit 2", "make-reveal 0 1' 2, send-seal all"),
            ("own-reveal 0", ""),
            ("reveal 1'", ""),
            ("reveal 2", "send-certificate, hole state-agreed"),
        ],
    },
    Case {
        description: "unequal states are a hole that blocks t+1",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1^", ""),
            ("commit 2", "make-reveal 0 1^ 2, send-seal all"),
            ("own-reveal 0", ""),
            ("reveal 1^", ""),
            ("reveal 2", "send-certificate, hole"),
        ],
    },
    Case {
        description: "one node that abstains makes a hole (R8)",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1?", ""),
            ("commit 2", "make-reveal 0 1? 2, send-seal all"),
            ("own-reveal 0", ""),
            ("reveal 1?", ""),
            ("reveal 2", "send-certificate, hole"),
        ],
    },
    Case {
        description: "when all abstain nobody vouches for anything: a hole that says so",
        leader: 0,
        steps: &[
            ("own-commit 0?", ""),
            ("commit 1?", ""),
            ("commit 2?", "make-reveal 0? 1? 2?, send-seal all"),
            ("own-reveal 0?", ""),
            ("reveal 1?", ""),
            ("reveal 2?", "send-certificate, hole all-abstained"),
        ],
    },
    Case {
        description: "a reveal that does not open its commit is evidence and does not count",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1", ""),
            ("commit 2", "make-reveal 0 1 2, send-seal all"),
            ("own-reveal 0", ""),
            ("reveal 2", ""),
            ("reveal 1*", "false-opening 1"),
            ("reveal 1", "send-certificate, outcome"),
        ],
    },
    Case {
        description: "other secrets than the committed ones blame nobody and do not count",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("commit 1", ""),
            ("commit 2", "make-reveal 0 1 2, send-seal all"),
            ("own-reveal 0", ""),
            ("reveal 2", ""),
            ("reveal 1#", "altered 1"),
            ("reveal 1", "send-certificate, outcome"),
        ],
    },
    Case {
        description: "reveals under another seal, before the seal, or of the node itself do not count",
        leader: 0,
        steps: &[
            ("own-commit 0", ""),
            ("reveal 1", ""),
            ("commit 1", ""),
            ("commit 2", "make-reveal 0 1 2, send-seal all"),
            ("reveal 1~", ""),
            ("reveal 0", ""),
            ("own-reveal 0", ""),
            ("reveal 2", ""),
            ("reveal 1", "send-certificate, outcome"),
        ],
    },
    Case {
        description: "a new leader is sent all that it may lack",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("lead 2", "send-commit 2"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("own-reveal 0", "send-reveal 2"),
            ("lead 1", "send-commit 1, send-seal 1, send-reveal 1"),
        ],
    },
    Case {
        description: "who comes to lead after the seal shows it to all",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("lead 0", "send-seal all"),
            ("own-reveal 0", ""),
        ],
    },
    Case {
        description: "a decided round asks for nothing more",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("own-reveal 0", "send-reveal 1"),
            ("certificate 0 1 2 / 0 1 2", "outcome"),
            ("certificate 0 1 2 / 0 1 2", ""),
            ("reveal 1", ""),
            ("commit 2", ""),
            ("lead 2", ""),
            ("lead 0", ""),
        ],
    },
    Case {
        description: "a certificate brings a node that missed the seal up to date",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("certificate 0 1 2 / 0 1 2", "make-reveal 0 1 2, outcome"),
        ],
    },
    Case {
        description: "a certificate with a false opening decides nothing",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            (
                "certificate 0 1 2 / 0 1 2*",
                "make-reveal 0 1 2, false-opening 2",
            ),
        ],
    },
    Case {
        description: "a certificate over another seal than this node's decides nothing, and shows who signed twice",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("certificate 0 1 2' / 0 1 2'", "equivocation 2"),
        ],
    },
    Case {
        description: "an altered secret in a certificate names its sender, whoever's reveal it is (R12)",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("own-reveal 0", "send-reveal 1"),
            ("certificate 0 1 2 / 0# 1 2", "outcome"),
        ],
    },
    Case {
        description: "of an altered secret of another node only the sender is named, and nothing is decided",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("own-reveal 0", "send-reveal 1"),
            ("certificate 0 1 2 / 0 1 2#", "altered 1"),
            ("certificate 0 1 2 / 0 1 2", "outcome"),
        ],
    },
    Case {
        description: "a restarted node goes by the seal of its reveal, also where a second commit came before those under it",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("restore 0 1 2", ""),
            ("commit 2'", ""),
            ("seal 0 1 2", "equivocation 2"),
            ("certificate 0 1 2 / 0 1 2", "outcome"),
        ],
    },
    Case {
        description: "a certificate with another own reveal than the store's stops the node (R2)",
        leader: 1,
        steps: &[
            ("own-commit 0", "send-commit 1"),
            ("seal 0 1 2", "make-reveal 0 1 2"),
            ("own-reveal 0", "send-reveal 1"),
            ("certificate 0 1 2 / 0' 1 2", "stale-store"),
        ],
    },
];

const T: u64 = 7;

fn subject() -> Subject {
    Subject {
        deployment: Deployment {
            chain_id: 1,
            contract: Address([9; 20]),
        },
        config: Digest([3; 32]),
        t: T,
    }
}

fn nodes() -> Vec<NodeId> {
    (1..=3).map(|i| NodeId([i; 20])).collect()
}

/// Splits `1'` into node and mark.
fn item(word: &str) -> (usize, char) {
    let node = word[..1].parse().expect("an item starts with a node");
    (node, word[1..].chars().next().unwrap_or(' '))
}

fn computed(mark: char) -> Computed {
    let mut c = Computed {
        kind: OutputKind::Value,
        result: vec![1],
        detail_root: Digest::ZERO,
        state: Digest([5; 32]),
        trace: Digest([6; 32]),
        window_hash: Digest([8; 32]),
    };
    match mark {
        '\'' => c.result[0] = 2,
        '^' => (c.result[0], c.state) = (2, Digest([7; 32])),
        '?' => c.kind = OutputKind::Abstain,
        _ => {}
    }
    c
}

fn blinding(node: usize) -> Blinding {
    Blinding {
        secret: [node as u8; 32],
        salt: [node as u8 + 100; 32],
    }
}

fn place() -> Place {
    Place {
        subject: subject(),
        agreement: AgreementId([4; 32]),
        epoch: 0,
        committee: Arc::new(Committee {
            nodes: nodes(),
            keys: (1..=3).map(|i| PublicKey([i; 33])).collect(),
            me: 0,
        }),
    }
}

fn commit(word: &str) -> Commit {
    let (node, mark) = item(word);
    Commit::make(
        &subject(),
        &nodes()[node],
        &computed(mark),
        &blinding(node),
        |_| Signature([node as u8; 64]),
    )
}

fn reveal(word: &str) -> Reveal {
    let (node, mark) = item(word);
    let mut blinding = blinding(node);
    if mark == '#' {
        blinding.secret[0] ^= 1;
    }
    let mut computed = computed(mark);
    if mark == '*' {
        computed.result = vec![77];
    }
    Reveal {
        computed,
        blinding,
        from: T,
        holes: Vec::new(),
        signature: Signature([node as u8; 64]),
    }
}

fn seal(words: &str) -> Digest {
    let commits: Vec<_> = words.split_whitespace().map(commit).collect();
    place().seal(&commits)
}

/// What a round is told by a line; what is of no use to it is told to nobody.
fn input(line: &str, round: &Round) -> Option<Input> {
    let (what, rest) = line.split_once(' ').expect("every input names something");
    let body = |from: usize, body: Body| {
        let unverified = round.unverified(from, body)?;
        let good = vec![true; unverified.checks().len()];
        unverified.verified(&good).map(Input::Body)
    };
    match what {
        "own-commit" => Some(Input::OwnCommit(commit(rest))),
        "own-reveal" => Some(Input::OwnReveal(reveal(rest))),
        "commit" => {
            let commit = commit(rest);
            body(item(rest).0, Body::Commit { commit })
        }
        "reveal" => {
            let other = item(rest).1 == '~';
            let seal = round.sealed().filter(|_| !other).unwrap_or(Digest([1; 32]));
            let reveal = reveal(rest);
            body(item(rest).0, Body::Reveal { seal, reveal })
        }
        "seal" => {
            let commits = rest.split_whitespace().map(commit).collect();
            body(1, Body::Seal { commits })
        }
        "certificate" => {
            let (commits, reveals) = rest.split_once('/').expect("commits / reveals");
            let commits = commits.split_whitespace().map(commit).collect();
            let reveals = reveals.split_whitespace().map(reveal).collect();
            body(1, Body::Certificate { commits, reveals })
        }
        "lead" => Some(Input::Lead(item(rest).0)),
        _ => panic!("no such input: {line}"),
    }
}

fn output(o: &Output, seals: &[(Digest, &str)]) -> String {
    let to = |t: &Option<usize>| t.map_or("all".into(), |t| t.to_string());
    match o {
        Output::Send { to: t, body } => match body {
            Body::Commit { .. } => format!("send-commit {}", to(t)),
            Body::Seal { .. } => format!("send-seal {}", to(t)),
            Body::Reveal { .. } => format!("send-reveal {}", to(t)),
            Body::Certificate { .. } => "send-certificate".into(),
        },
        Output::MakeReveal { seal } => {
            let name = seals
                .iter()
                .find(|s| s.0 == *seal)
                .map_or("an unknown seal", |s| s.1);
            format!("make-reveal {name}")
        }
        Output::Decided(Decision::Outcome) => "outcome".into(),
        Output::Decided(Decision::Hole {
            state_agreed,
            all_abstained,
            ..
        }) => {
            let mark = |on: &bool, word| if *on { word } else { "" };
            format!(
                "hole{}{}",
                mark(state_agreed, " state-agreed"),
                mark(all_abstained, " all-abstained")
            )
        }
        Output::Fault(Fault::Equivocation {
            node,
            first,
            second,
        }) => {
            assert_ne!(first.commitment, second.commitment);
            format!("equivocation {node}")
        }
        Output::Fault(Fault::FalseOpening { node, .. }) => format!("false-opening {node}"),
        Output::Fault(Fault::Altered { by }) => format!("altered {by}"),
        Output::Fault(Fault::StaleStore) => "stale-store".into(),
        #[allow(unreachable_patterns)]
        other => format!("{other:?}"),
    }
}

#[test]
fn every_step_of_every_table_gives_what_it_says() {
    let mut wrong = Vec::new();
    for case in CASES {
        let mut round = Round::new(place(), case.leader);
        for (i, (told, expected)) in case.steps.iter().enumerate() {
            let names: Vec<_> = case
                .steps
                .iter()
                .filter_map(|s| s.1.split(", ").find_map(|o| o.strip_prefix("make-reveal ")))
                .map(|words| (seal(words), words))
                .collect();
            let outputs = if let Some(words) = told.strip_prefix("restore ") {
                round.restore_reveal(seal(words), reveal("0"));
                Vec::new()
            } else {
                let told = input(told, &round);
                told.map(|i| round.step(i)).unwrap_or_default()
            };
            let got: Vec<_> = outputs.iter().map(|o| output(o, &names)).collect();
            let got = got.join(", ");
            if got != *expected {
                wrong.push(format!(
                    "{}: step {i}, {told}: expected [{expected}], got [{got}]",
                    case.description
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
