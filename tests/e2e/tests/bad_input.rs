//! Bad input at the doors of real processes: each gets a clear error and changes nothing.

use diversity_client::api::{Acknowledgement, REQUEST_BYTES_MAX, codes};
use diversity_client::terms_json::WindowJson;
use diversity_client::{Api, ApiError};
use diversity_e2e::agreement;
use diversity_e2e::locks::{self, Lock, deployment};
use diversity_e2e::net::{Net, Plan, run};
use diversity_proto::frame::Frame;
use diversity_proto::{Signature, wire};

const MARCH: u64 = 1_709_251_200;
/// Order of secp256k1.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let frames: Vec<_> = frames.iter().map(Frame::encode).collect();
    wire::encode_frames(frames.iter().map(Vec::as_slice))
}

/// A refusal: its status and code; it must say what is wrong and what to do.
fn refused(result: Result<Acknowledgement, ApiError>) -> (u16, String) {
    let error = result.expect_err("it was taken");
    let problem = error
        .problem()
        .unwrap_or_else(|| panic!("no problem document: {error}"));
    assert!(
        problem.kind.starts_with("urn:diversity:problem:"),
        "{problem:?}"
    );
    assert!(
        !problem.detail.is_empty() && !problem.what_to_do.is_empty(),
        "{problem:?}"
    );
    (problem.status, problem.code.clone())
}

/// `n - s`: as valid for the curve, and not for us.
fn high_s(signature: Signature) -> Signature {
    let mut out = signature.0;
    let mut borrow = 0i16;
    for i in (0..32).rev() {
        let d = i16::from(ORDER[i]) - i16::from(signature.0[32 + i]) - borrow;
        borrow = i16::from(d < 0);
        out[32 + i] = d.rem_euclid(256) as u8;
    }
    Signature(out)
}

#[test]
fn bad_messages_are_refused_and_change_nothing() {
    let net = Net::up(Plan {
        nodes: Some(2),
        ..Plan::default()
    })
    .expect("a devnet");
    let devnet = net.devnet().expect("devnet.json");
    let api = net.api("node1").expect("api");
    let at = deployment(&devnet);
    let all: Vec<Lock> = (0..2).map(|_| Lock::new(at).expect("a key")).collect();
    net.block_on(async {
        let owner = locks::user(&devnet, "operator").expect("a user");
        locks::register(&api, &owner, &all)
            .await
            .expect("registered");
    });
    let lock = &all[0];
    let send = |bytes: Vec<u8>| net.block_on(api.send_frames(bytes));
    let held = || {
        let answer = net
            .block_on(api.acknowledged(&[lock.id()]))
            .expect("acknowledged");
        answer.acknowledged[0].next_q
    };
    let good = lock.frame(0, &[(MARCH + 10, true), (MARCH + 70, false)]);
    let taken = send(encoded(std::slice::from_ref(&good))).expect("a good frame");
    assert_eq!((taken.acknowledged[0].next_q, taken.refused.len()), (2, 0));

    let stranger = Lock::new(at).expect("a key");
    let mut elsewhere = Lock::new(at).expect("a key");
    elsewhere.deployment.chain_id += 1;
    elsewhere.key = diversity_keys::SecretKey::from_bytes(&lock.key.to_bytes()).expect("a key");
    let next = || lock.frame(2, &[(MARCH + 100, true)]);
    let with = |change: &dyn Fn(&mut Frame)| {
        let mut frame = next();
        change(&mut frame);
        frame
    };
    let cases: Vec<(&str, Frame, u16, &str)> = vec![
        (
            "unsigned",
            with(&|f| f.signature = Signature([0; 64])),
            400,
            codes::BAD_SIGNATURE,
        ),
        (
            "signed by another",
            with(&|f| stranger.sign(f)),
            400,
            codes::BAD_SIGNATURE,
        ),
        (
            "signed for another chain",
            with(&|f| elsewhere.sign(f)),
            400,
            codes::BAD_SIGNATURE,
        ),
        (
            "high s",
            with(&|f| f.signature = high_s(f.signature)),
            400,
            codes::BAD_SIGNATURE,
        ),
        (
            "changed after signing",
            with(&|f| f.first_q = 3),
            400,
            codes::BAD_SIGNATURE,
        ),
        (
            "unknown sensor",
            stranger.frame(0, &[(MARCH, true)]),
            404,
            codes::UNKNOWN_SENSOR,
        ),
        (
            "two bytes of values",
            lock.frame_of(2, vec![(MARCH + 100, vec![0, 1])]),
            400,
            codes::WRONG_WIDTH,
        ),
        (
            "a bool of 7",
            lock.frame_of(2, vec![(MARCH + 100, vec![7])]),
            400,
            codes::WRONG_VALUES,
        ),
        (
            "two months in one frame",
            lock.frame(2, &[(MARCH + 100, true), (MARCH + 31 * 86_400, false)]),
            400,
            codes::CROSSES_PERIOD,
        ),
        (
            "far ahead",
            lock.frame(1 << 40, &[(MARCH + 100, true)]),
            429,
            codes::TOO_FAR_AHEAD,
        ),
        (
            "framed anew",
            lock.frame(0, &[(MARCH + 10, true)]),
            409,
            codes::OTHER_FRAME,
        ),
        (
            "another boot epoch without its opening",
            with(&|f| {
                f.epoch = 4;
                lock.sign(f)
            }),
            400,
            "",
        ),
    ];
    for (what, frame, status, code) in cases {
        let (found, named) = refused(send(encoded(&[frame])));
        assert_eq!(found, status, "{what}: {named}");
        assert!(code.is_empty() || named == code, "{what}: {named}");
        assert_eq!(held(), 2, "{what} has changed something");
    }

    // Bodies that are no frames at all.
    for (what, body) in [
        ("noise", vec![0x5a; 300]),
        ("nothing", Vec::new()),
        ("no frames", encoded(&[])),
        ("cut short", {
            let mut b = encoded(&[next()]);
            b.truncate(b.len() - 9);
            b
        }),
        ("bytes behind", {
            let mut b = encoded(&[next()]);
            b.push(0);
            b
        }),
    ] {
        let (status, code) = refused(send(body));
        assert_eq!((status, code.as_str()), (400, codes::MALFORMED), "{what}");
    }
    let (status, _) = refused(send(vec![0; REQUEST_BYTES_MAX + 1]));
    assert_eq!(status, 413);
    let nobody = Api::new(&devnet.nodes[0].api_url, None).expect("api");
    let (status, code) = refused(net.block_on(nobody.send_frames(encoded(&[next()]))));
    assert_eq!((status, code.as_str()), (401, codes::UNAUTHORIZED));
    assert_eq!(held(), 2);

    // A good frame beside a bad one is taken, and the bad one is named.
    let mut bad = lock.frame(3, &[(MARCH + 200, false)]);
    stranger.sign(&mut bad);
    let mixed = send(encoded(&[next(), bad])).expect("one of them is good");
    assert_eq!(
        mixed
            .refused
            .iter()
            .map(|r| (r.index, r.code.as_str()))
            .collect::<Vec<_>>(),
        [(1, codes::BAD_SIGNATURE)]
    );
    assert_eq!(held(), 3);

    // A time that cannot be is kept, since nobody signs a q anew, and remarked on.
    for (q, time) in [(3, 0), (4, MARCH * 1_000), (5, 2_082_758_400)] {
        let taken = send(encoded(&[lock.frame(q, &[(time, true)])])).expect("kept");
        assert!(taken.refused.is_empty(), "{taken:?}");
        let remarks: Vec<_> = taken
            .remarks
            .iter()
            .map(|r| (r.first_q, r.code.as_str()))
            .collect();
        assert_eq!(remarks, [(q, codes::IMPLAUSIBLE_TIME)]);
        assert_eq!(held(), q + 1);
    }

    // What is no error: the same again, out of order, and from the future.
    let again = send(encoded(std::slice::from_ref(&good))).expect("a repeated frame");
    assert_eq!((again.acknowledged[0].next_q, again.refused.len()), (6, 0));
    let later =
        send(encoded(&[lock.frame(7, &[(MARCH + 400, true)])])).expect("a frame before its turn");
    assert_eq!(
        later.acknowledged[0].next_q, 6,
        "what is behind a gap is not acknowledged"
    );
    let filled = send(encoded(&[lock.frame(6, &[(MARCH + 300, false)])])).expect("the gap");
    assert_eq!(filled.acknowledged[0].next_q, 8);
    let future = lock.frame(8, &[(MARCH + 100 * 365 * 86_400, false)]);
    assert_eq!(
        send(encoded(&[future]))
            .expect("a message from the future")
            .acknowledged[0]
            .next_q,
        9
    );

    // A contradiction: refused, the stored message stays, and from here on the sensor is void once the chain holds it.
    let (status, code) = refused(send(encoded(&[
        lock.frame(0, &[(MARCH + 10, false), (MARCH + 70, true)])
    ])));
    assert_eq!((status, code.as_str()), (409, codes::CONTRADICTION));
    assert_eq!(held(), 9);

    // The other sensor is none the worse.
    let other = send(encoded(&[all[1].frame(0, &[(MARCH, true)])])).expect("another sensor");
    assert_eq!(other.acknowledged[0].next_q, 1);
}

#[test]
fn forged_agreements_and_modules_are_refused_and_nothing_is_created() {
    let net = Net::up(Plan {
        nodes: Some(2),
        ..Plan::default()
    })
    .expect("a devnet");
    let devnet = net.devnet().expect("devnet.json");
    let api = net.api("node1").expect("api");
    net.block_on(async {
        let all: Vec<Lock> = (0..2)
            .map(|_| Lock::new(deployment(&devnet)).expect("a key"))
            .collect();
        let owner = locks::user(&devnet, "operator").expect("a user");
        locks::register(&api, &owner, &all)
            .await
            .expect("registered");
        let window = WindowJson::Month { start: MARCH };
        let mut draft = agreement::draft(&devnet, &all, window, 1)
            .await
            .expect("a draft");

        let missing = api
            .accept(&draft.accept_request())
            .await
            .expect_err("without the module");
        assert_eq!(
            missing.problem().expect("a problem").code,
            codes::MODULE_MISSING
        );
        for (what, module) in [
            (
                "imports",
                r#"(module (import "env" "f" (func)) (memory (export "memory") 1 2))"#,
            ),
            ("no exports", "(module)"),
            (
                "memory without a bound",
                r#"(module (memory (export "memory") 1))"#,
            ),
        ] {
            let wasm = wat::parse_str(module).expect("text");
            let error = api.put_code(&wasm).await.expect_err(what);
            let problem = error.problem().unwrap_or_else(|| panic!("{what}: {error}"));
            assert_eq!(problem.code, codes::BAD_MODULE, "{what}: {problem}");
            let sha256 = diversity_proto::Digest(diversity_proto::domain::sha256_raw(&wasm));
            assert!(api.code(&sha256).await.expect_err(what).is_not_found());
        }
        agreement::complete(&devnet, &mut draft)
            .await
            .expect("signed");
        let honest = draft.complete().expect("complete");

        // The aggregate key of other nodes.
        let mut request = draft.accept_request();
        request.agreement.0[31] ^= 1;
        let error = api.accept(&request).await.expect_err("a forged key");
        assert_eq!(
            error.problem().expect("a problem").code,
            codes::BAD_AGREEMENT_ID,
            "{error}"
        );
        let mut forged = honest.clone();
        forged.agreement.0[31] ^= 1;
        let mut other_terms = honest.clone();
        other_terms.terms.title.push('!');
        let mut unsigned = honest.clone();
        unsigned.signatures.pop();
        let mut swapped = honest.clone();
        let first = swapped.signatures[0].signature;
        swapped.signatures[1].signature = first;
        let mut unaccepted = honest.clone();
        unaccepted.acceptances.pop();
        for (what, creation) in [
            ("a forged key", forged),
            ("other terms than were signed", other_terms),
            ("a user who has not signed", unsigned),
            ("a user for another", swapped),
            ("a user without a node that accepts", unaccepted),
        ] {
            let error = api.create(&creation).await.expect_err(what);
            let problem = error.problem().unwrap_or_else(|| panic!("{what}: {error}"));
            assert!((400..500).contains(&problem.status), "{what}: {problem}");
            assert!(
                !problem.detail.is_empty() && !problem.what_to_do.is_empty(),
                "{what}: {problem:?}"
            );
        }
        for node in &devnet.nodes {
            assert!(
                node.api()
                    .expect("api")
                    .agreements()
                    .await
                    .expect("a list")
                    .is_empty()
            );
        }
        // And the honest one goes through.
        api.create(&honest).await.expect("created");
    });
}

#[test]
fn a_trips_file_with_an_overlap_is_refused_before_anything_is_sent() {
    let net = Net::up(Plan {
        nodes: Some(2),
        ..Plan::default()
    })
    .expect("a devnet");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trips.csv");
    for (rows, words) in [
        (
            "a,1709251200,1709251800\nb,1709251200,1709251300\na,1709251500,1709252000\n",
            "line 4",
        ),
        ("a,1709251800,1709251200\n", "line 2"),
        ("a,1709251200\n", "line 2"),
        ("", "no trips"),
    ] {
        std::fs::write(&path, format!("bike_id,start_unix_s,end_unix_s\n{rows}")).expect("written");
        let arguments = [
            "replay".into(),
            "--trips".into(),
            path.clone().into(),
            "--devnet".into(),
            net.file().into(),
        ];
        let error = run("sensor-sim", &arguments).expect_err(rows).to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(net.agreements("node1").expect("a list").is_empty());
    assert!(
        net.block_on(net.api("node1").expect("api").sensors())
            .expect("a list")
            .is_empty()
    );
}
