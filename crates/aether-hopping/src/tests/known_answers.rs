//! The known answers in `docs/protocol/vectors/hopping`. Checks that this code gives them, and that a program written from
//! the protocol description gives them as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use aether_core::Channel;

use crate::lanes::LaneSet;
use crate::sequence::{Sequence, Traffic};

const SAID: &str = r#"{"said":"beacon"}"#;
const LEFT_OUT: u8 = 3;

fn protocol() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol")
}

fn answer(key: &[u8], channel: &str, slot: u64, lanes: u8) -> Value {
    let (sequence, channel) = (Sequence::new(key), Channel::new(channel).unwrap());
    let waves = sequence.place(Traffic::Waves, &channel, slot).unwrap();
    let reports = sequence.place(Traffic::Control, &channel, slot).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let used = LaneSet::all(lanes).without(LEFT_OUT);
    json!({
        "key": hex(key),
        "channel": channel.as_str(),
        "slot": slot.to_string(),
        "lanes": lanes,
        "waves": waves.on(waves.draw.lane(lanes)).unwrap().as_str(),
        "waves_without_lane_3": waves.on(waves.draw.lane_in(lanes, used)).unwrap().as_str(),
        "reports": reports.on(reports.draw.lane(lanes)).unwrap().as_str(),
        "said": SAID,
        "seal": hex(&sequence.seal(&channel, slot, SAID.as_bytes()).unwrap()),
        "clock": hex(&sequence.of_clock(b"name", &[]).unwrap()),
    })
}

fn answers() -> Vec<Value> {
    let long: Vec<u8> = (0..100).collect();
    let mut answers = Vec::new();
    // The first slot, both sides of the end of an epoch, present slots of 1 s and of 10 ms, and the last slot.
    for slot in [0, 1023, 1024, 1_700_000_000, 170_000_000_017, (1 << 50) - 1] {
        answers.push(answer(b"0123456789abcdef0123456789abcdef", "orders.created", slot, 16));
        answers.push(answer(&long, "a", slot, 64));
    }
    // Slots in which lane 3 is drawn.
    answers.extend(
        (0..64)
            .map(|slot| answer(b"sixteen bytes ok", "orders", slot, 4))
            .filter(|answer| answer["waves"].as_str().is_some_and(|name| name.starts_with("hop.3."))),
    );
    answers
}

#[test]
fn answers_equal_the_known_answers() {
    let file = protocol().join("vectors/hopping/known_answers.json");
    let written = serde_json::to_string_pretty(&answers()).unwrap() + "\n";
    if std::env::var_os("AETHER_WRITE_VECTORS").is_some() {
        std::fs::write(&file, &written).unwrap();
    }
    assert!(answers().len() > 20);
    let known = std::fs::read_to_string(&file).unwrap();
    assert!(known == written, "{} differs: set AETHER_WRITE_VECTORS=1 to rewrite it", file.display());
}

#[test]
fn a_program_written_from_the_description_gives_the_same_answers() {
    let said = Command::new("python3")
        .arg(protocol().join("hopping.py"))
        .arg(protocol().join("vectors/hopping/known_answers.json"))
        .output()
        .expect("python3 must be installed");
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}");
    assert!(text.contains(&format!("{} answers agree", answers().len())), "{text}");
}
