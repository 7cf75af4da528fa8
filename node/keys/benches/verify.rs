//! Signatures per second of one core and of all, in one run: the bare limit that ingest is compared with.
//! `cargo bench -p diversity-keys`

use std::hint::black_box;
use std::time::{Duration, Instant};

use diversity_keys::musig::{SecretNonce, Session, agreement_key, verify_bip340};
use diversity_keys::{SecretKey, keccak256, recover, verify};
use zeroize::Zeroizing;

const RUNS: usize = 5;
const RUN: Duration = Duration::from_millis(400);

/// The median of some short runs, in calls per second.
fn rate(mut call: impl FnMut(usize)) -> f64 {
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let mut calls = 0;
            while start.elapsed() < RUN {
                for _ in 0..16 {
                    call(calls);
                    calls += 1;
                }
            }
            calls as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[RUNS / 2]
}

fn print(name: &str, rate: f64) {
    println!("{name:<44} {rate:>10.0} /s {:>9.1} us", 1e6 / rate);
}

fn main() {
    let keys: Vec<SecretKey> = (1..=64u64)
        .map(|i| SecretKey::from_bytes(&keccak256(&i.to_be_bytes())).expect("in range"))
        .collect();
    let digests: Vec<[u8; 32]> = (0..64u64).map(|i| keccak256(&i.to_le_bytes())).collect();
    let verifying: Vec<_> = keys.iter().map(SecretKey::verifying_key).collect();
    let public: Vec<_> = keys.iter().map(SecretKey::public_key).collect();
    let signatures: Vec<_> = keys.iter().zip(&digests).map(|(k, d)| k.sign(d)).collect();
    let long: Vec<_> = keys
        .iter()
        .zip(&digests)
        .map(|(k, d)| k.sign_recoverable(d))
        .collect();

    print(
        "ECDSA verify, parsed key, 1 core",
        rate(|i| {
            let i = i % 64;
            assert!(black_box(&verifying[i]).verify(&digests[i], &signatures[i]));
        }),
    );
    print(
        "ECDSA verify, compressed key, 1 core",
        rate(|i| {
            let i = i % 64;
            assert!(verify(black_box(&public[i]), &digests[i], &signatures[i]));
        }),
    );
    print(
        "ECDSA recover, 1 core",
        rate(|i| {
            let i = i % 64;
            assert!(recover(&digests[i], black_box(&long[i])).is_ok());
        }),
    );
    print(
        "ECDSA sign, 1 core",
        rate(|i| {
            black_box(keys[i % 64].sign(&digests[i % 64]));
        }),
    );

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let together: f64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    rate(|i| {
                        let i = i % 64;
                        assert!(black_box(&verifying[i]).verify(&digests[i], &signatures[i]));
                    })
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("ran")).sum()
    });
    print(
        &format!("ECDSA verify, parsed key, {cores} cores"),
        together,
    );

    for n in [2, 4, 16] {
        musig(&keys[..n]);
    }
}

fn musig(keys: &[SecretKey]) {
    let n = keys.len();
    let public: Vec<_> = keys.iter().map(SecretKey::public_key).collect();
    let key = agreement_key(&public, &[0; 28], &[1; 32]).expect("aggregates");
    let nonce = |secret: &SecretKey, seed: u64| {
        let randomness = Zeroizing::new(keccak256(&seed.to_be_bytes()));
        SecretNonce::generate(secret, &key, b"", &randomness).expect("member")
    };
    let all = |seed| {
        keys.iter()
            .map(|secret| nonce(secret, seed))
            .collect::<Vec<_>>()
    };
    let set: Vec<_> = all(0).iter().map(SecretNonce::public).collect();
    let session = Session::new(&key, &set, [2; 32]).expect("session");
    let partials: Vec<_> = all(0)
        .into_iter()
        .zip(keys)
        .map(|(nonce, key)| session.partial_sign(nonce, key).expect("signs"))
        .collect();
    let signature = session.aggregate(&partials).expect("adds up");

    print(
        &format!("MuSig2 n = {n}: nonce and partial, 1 core"),
        rate(|_| {
            let session = Session::new(&key, &set, [2; 32]).expect("session");
            black_box(
                session
                    .partial_sign(nonce(&keys[0], 0), &keys[0])
                    .expect("signs"),
            );
        }),
    );
    print(
        &format!("MuSig2 n = {n}: verify one partial, 1 core"),
        rate(|_| {
            session
                .verify_partial(0, black_box(&partials[0]))
                .expect("good")
        }),
    );
    print(
        &format!("MuSig2 n = {n}: aggregate, 1 core"),
        rate(|_| {
            black_box(session.aggregate(&partials).expect("adds up"));
        }),
    );
    print(
        "BIP-340 verify, 1 core",
        rate(|_| assert!(verify_bip340(&key.id, &[2; 32], black_box(&signature)))),
    );
}
