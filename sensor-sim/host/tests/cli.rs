//! The binary: exit codes, one sentence for each error, and the offline file.

use diversity_proto::frame::Frame;
use diversity_proto::wire::{FRAME_BATCH_BYTES_MAX, split_frames};
use diversity_proto::{Address, Deployment};
use std::path::Path;
use std::process::{Command, Output};

fn sensor_sim(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sensor-sim"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("DIVERSITY_DEVNET")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const OFFLINE: &[&str] = &[
    "--offline",
    "--keys",
    "keys",
    "--contract",
    "0xd1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1",
    "--json",
];

#[test]
fn a_bad_file_is_refused_in_one_sentence_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let header = "bike_id,start_unix_s,end_unix_s";
    for (text, expected) in [
        (
            format!("{header}\nA,5,9\nA,8,10\n"),
            "line 3: the trip of bike A starts at 8",
        ),
        (
            format!("{header}\nA,5,4\n"),
            "line 2: the trip of bike A ends at 4",
        ),
        (format!("{header}\nA,5,x\n"), "line 2: end_unix_s"),
        ("bike,start,end\nA,1,2\n".into(), "line 1: the header"),
    ] {
        std::fs::write(folder.path().join("trips.csv"), text).unwrap();
        let arguments = [&["replay", "--trips", "trips.csv"], OFFLINE].concat();
        let output = sensor_sim(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(
            text.starts_with(&format!("sensor-sim: {expected}")),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_month_that_is_not_over_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let text = format!(
        "bike_id,start_unix_s,end_unix_s\nA,{},{}\nA,{now},{now}\n",
        now - 9,
        now - 5
    );
    std::fs::write(folder.path().join("trips.csv"), text).unwrap();
    let devnet = r#"{"chain":{"rpc_url":"http://127.0.0.1:1","chain_id":1,"pid":null},
        "contracts":{"main":"0x0000000000000000000000000000000000000001",
        "cells":"0x0000000000000000000000000000000000000002"},"nodes":[],"users":[]}"#;
    std::fs::write(folder.path().join("devnet.json"), devnet).unwrap();
    let arguments = ["replay", "--trips", "trips.csv", "--devnet", "devnet.json"];
    let output = sensor_sim(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("line 3: the trip ends in"),
        "{}",
        stderr(&output)
    );
    // Milliseconds: refused before keys are made, whatever the destination.
    let text = format!("bike_id,start_unix_s,end_unix_s\nA,5{now},5{now}\n");
    std::fs::write(folder.path().join("trips.csv"), text).unwrap();
    let contract = "0x0000000000000000000000000000000000000001";
    let offline = ["--offline", "--keys", "keys", "--contract", contract];
    for to in [&["--devnet", "devnet.json"][..], &offline] {
        let output = sensor_sim(
            folder.path(),
            &[&["replay", "--trips", "trips.csv"], to].concat(),
        );
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.contains("line 2: start_unix_s is 5"), "{text}");
        assert!(text.contains("nothing was signed"), "{text}");
    }
    assert!(!folder.path().join("keys").exists());
}

#[test]
fn a_command_line_that_makes_no_sense_has_a_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["replay"][..],
        &["replay", "--trips", "x", "--frame-messages", "0"],
        &["fleet", "--first", "2024-13"],
        &["replay", "--trips", "x", "--speed", "-1"],
        &["replay", "--trips", "x", "--fault", "nonsense"],
        &["replay", "--trips", "x", "--offline"],
    ] {
        let output = sensor_sim(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    assert_eq!(
        sensor_sim(folder.path(), &["--help"]).status.code(),
        Some(0)
    );
    let arguments = ["fleet", "--months", "1"];
    let nowhere = sensor_sim(folder.path(), &arguments);
    assert_eq!(nowhere.status.code(), Some(64));
    assert!(stderr(&nowhere).contains("--devnet FILE"));
}

#[test]
fn offline_frames_are_signed_for_the_deployment_and_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let city = [
        "fleet",
        "--bikes",
        "3",
        "--months",
        "2",
        "--write",
        "trips.csv",
        "--frame-messages",
        "20",
    ];
    let output = sensor_sim(folder.path(), &[&city[..], OFFLINE].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["heartbeats"], 6);
    let bytes = std::fs::read(folder.path().join("frames.bin")).unwrap();

    let replay = [
        "replay",
        "--trips",
        "trips.csv",
        "--frame-messages",
        "20",
        "--out",
        "again.bin",
    ];
    let output = sensor_sim(folder.path(), &[&replay[..], OFFLINE].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        bytes,
        std::fs::read(folder.path().join("again.bin")).unwrap()
    );

    let deployment = Deployment {
        chain_id: 31_337,
        contract: Address([0xd1; 20]),
    };
    let (mut rest, mut messages) = (&bytes[..], 0);
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (batch, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        rest = tail;
        for encoded in split_frames(batch, FRAME_BATCH_BYTES_MAX).unwrap() {
            let frame = Frame::decode(encoded).unwrap();
            // Only the address is known here, so the key is recovered.
            let digest = frame.digest(&deployment).0;
            let parity =
                diversity_keys::recovery_parity(&digest, &frame.signature.0, &frame.sensor.0);
            assert!(parity.is_ok());
            messages += u64::from(frame.count);
        }
    }
    let trips = std::fs::read_to_string(folder.path().join("trips.csv")).unwrap();
    assert_eq!(messages, 2 * (trips.lines().count() as u64 - 1) + 6);
}
