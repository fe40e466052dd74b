//! The known answers of `docs/protocol/field-owned.md`: this code makes them, and a program written from the
//! description checks them.

use std::path::PathBuf;
use std::process::Command;

use aether_field::core::{Change, Digest, Identity, Limits, Presence, Stamp, State, WriterId};
use aether_field::{Certificate, Trust};
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000_000_000;

fn protocol() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(case: &str, by: &Identity, change: &Change, answer: Option<&str>) -> Value {
    let Stamp { micros, logical, writer } = change.entry.stamp;
    let name = if case == "floor" { "" } else { change.key.name() };
    json!({
        "case": case, "what": "entry", "field": "home", "owner": by.name(), "name": name,
        "stamp": { "micros": micros.to_string(), "logical": logical, "writer": writer.0.to_string() },
        "key": by.public_key().to_string(),
        "bytes": hex(change.entry.value.as_ref().unwrap()),
        "answer": answer,
    })
}

fn certificate(case: &str, anchor: &Identity, change: &Change, key: &Identity) -> Value {
    json!({
        "case": case, "what": "certificate", "field": "home", "owner": key.name(),
        "anchor": anchor.public_key().to_string(),
        "bytes": hex(change.entry.value.as_ref().unwrap()),
        "answer": key.public_key().to_string(),
    })
}

fn beat(case: &str, by: &Identity, presence: Presence<'_>) -> Value {
    json!({
        "case": case, "what": "beat", "field": "home", "owner": by.name(), "replica": presence.replica,
        "writer": presence.writer.0.to_string(), "number": presence.number,
        "digest": hex(&presence.digest.to_bytes()), "asks": presence.asks, "leaves": presence.leaves,
        "key": by.public_key().to_string(),
        "bytes": hex(&presence.sign(by, "home")),
        "answer": null,
    })
}

fn answers() -> Vec<Value> {
    let root = Identity::from_secret("root", &[1; 32]);
    let keys = [2, 3, 4].map(|byte| Identity::from_secret("pi-2", &[byte; 32]));
    let state =
        |trust| State::new(WriterId(0x0123_4567_89ab_cdef), Limits::default()).with_trust("home", trust);
    let mut pinned = state(Trust::none().with_self(&keys[0]));
    let mut answers = Vec::new();
    for (name, value) in
        [("temp", "21"), ("temp", "\"\u{1f321} warm\""), ("a/very/long/name", "{\"x\":[1,2,3]}")]
    {
        let (change, _) = pinned.set_owned(&keys[0], name, value.into(), NOW).unwrap();
        answers.push(entry("value", &keys[0], &change, Some(value)));
    }
    let (change, _) = pinned.remove_owned(&keys[0], "temp", NOW + 1).unwrap().unwrap();
    answers.push(entry("removal", &keys[0], &change, None));
    for (at, wall) in [(0, NOW + 2), (1, NOW + 3)] {
        let rotated = pinned.rotate(&keys[at], &keys[at + 1], wall).unwrap();
        let (first, last) = (&rotated.first().unwrap().0, &rotated.last().unwrap().0);
        answers.push(certificate("rotated", &keys[0], first, &keys[at + 1]));
        answers.push(entry("floor", &keys[at + 1], last, None));
    }
    let mut certified = state(Trust::root(root.public_key()));
    for (serial, previous) in [(1, None), (7, Some(keys[0].public_key()))] {
        let issued = Certificate::issue(&root, "home", "pi-2", keys[1].public_key(), serial, previous, NOW);
        let (change, _) = certified.publish(&issued, NOW).unwrap();
        answers.push(certificate("by the root", &root, &change, &keys[1]));
    }
    let (change, _) = certified.rotate(&keys[1], &keys[2], NOW + 1).unwrap().remove(0);
    answers.push(certificate("by the root, rotated", &root, &change, &keys[2]));
    for (replica, digest, asks, leaves) in [
        ("hall", Digest::default(), true, false),
        ("", certified.digest(), false, true),
        ("hall", pinned.digest(), false, false),
    ] {
        let presence = Presence { writer: WriterId(u64::MAX), replica, number: 3, digest, asks, leaves };
        answers.push(beat("beat", &keys[0], presence));
    }
    answers
}

#[test]
fn signatures_equal_the_known_answers() {
    let file = protocol().join("vectors/field/owned.json");
    let written = serde_json::to_string_pretty(&answers()).unwrap() + "\n";
    if std::env::var_os("AETHER_WRITE_VECTORS").is_some() {
        std::fs::write(&file, &written).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap();
    assert!(known == written, "{} differs: set AETHER_WRITE_VECTORS=1 to rewrite it", file.display());
}

#[test]
fn a_program_written_from_the_description_agrees() {
    let said = Command::new("python3")
        .arg(protocol().join("field_owned.py"))
        .arg(protocol().join("vectors/field/owned.json"))
        .output()
        .expect("python3 must be installed");
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}");
    assert!(text.contains(&format!("{} answers agree", answers().len())), "{text}");
}
