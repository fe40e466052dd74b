//! The golden frames in `docs/protocol/vectors`: this code encodes and decodes them, and a decoder written from
//! `docs/protocol/README.md` alone agrees.
//!
//! The frames are put together here without the code under test, and compared with the files. To regenerate them:
//! `AETHER_WRITE_VECTORS=1 cargo test -p aether-bus --test suite protocol the_files`.

mod layout;
mod readable;
mod refused;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aether_core::{Amplitude, Channel, Floor, Wave, wave::Expiry};
use aether_link::wire::{self, Frame, FrameError};
use bytes::Bytes;
use serde_json::{Value, json};

use vectors::{FLOOR_LOSS, Outcome, Vector};

fn protocol() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol")
}

/// A moment in the future: before it, waves have exactly the age in their frame.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn decode(vector: &Vector, now: Instant) -> Result<Frame, FrameError> {
    let address = vector.address.map(|name| Channel::new(name).expect("an address is a channel"));
    let bytes =
        fs::read(protocol().join(format!("vectors/{}.bin", vector.name))).expect("a file of each vector");
    wire::decode(&Bytes::from(bytes), address.as_ref(), now, |_| Duration::ZERO)
}

/// A frame in the format of the JSON files.
fn described(frame: &Frame) -> Value {
    let mut described = json!({
        "node": format!("{:x}", frame.sender.node),
        "sent_micros": frame.sender.sent_micros.to_string(),
        "channel": frame.channel.as_str(),
        "waves": frame.waves.iter().map(described_wave).collect::<Vec<_>>(),
    });
    if let Some(position) = frame.position {
        described["position"] = json!({
            "stream": position.stream.to_string(),
            "first": position.first.to_string(),
            "age_micros": position.age_micros.to_string(),
        });
    }
    described
}

fn described_wave(wave: &Wave) -> Value {
    let floor = Floor::at(Amplitude::from_loss(FLOOR_LOSS));
    let audible_until = match wave.signal().expires_at(floor) {
        Expiry::Inaudible => "inaudible".to_owned(),
        Expiry::Never => "never".to_owned(),
        Expiry::At(age) => age.as_micros().to_string(),
    };
    let trace = wave.trace_context();
    let metadata: Vec<_> = wave.metadata().iter().map(|(name, value)| json!([name, value])).collect();
    // The loss at an age is not public, so it is computed as in the README; the amplitude must match it.
    let decay = wave
        .half_life()
        .duration()
        .map_or(0, |half_life| wave.age().as_micros() * 2048 / 1000 / half_life.as_millis());
    let path_loss = u128::from(wave.amplitude().loss()) + 152 * u128::from(wave.hops());
    let loss_at_age = (path_loss + decay.min((1 << 30) - 1)) as u64;
    assert_eq!(wave.signal().amplitude_at(wave.age()), (loss_at_age as f64 / -2048.0).exp2() as f32);
    json!({
        "id": wave.id().to_string(),
        "source": wave.source().name(),
        "instance": format!("{:x}", wave.source().instance()),
        "sequence": wave.sequence().to_string(),
        "kind": wave.kind().as_str(),
        "loss": wave.amplitude().loss(),
        "half_life_class": wave.half_life().class(),
        "hops": wave.hops(),
        "age_micros": wave.age().as_micros().to_string(),
        "phase": f64::from(wave.phase().radians()),
        "key": wave.key(),
        "cause": wave.cause().map(ToString::to_string),
        "root": wave.root().to_string(),
        "baggage": wave.baggage().iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
        "traceparent": trace.as_ref().map(ToString::to_string),
        "tracestate": trace.as_ref().and_then(|trace| trace.state()),
        "metadata": metadata,
        "content_type": wave.content_type().as_str(),
        "payload_hex": layout::hex(wave.payload()),
        "loss_at_age": loss_at_age,
        "level": wave.signal().level(),
        "audible_until_micros": audible_until,
    })
}

#[test]
fn the_files_match_the_generator() {
    let folder = protocol().join("vectors");
    let mut expected = BTreeMap::new();
    for vector in vectors::all() {
        let json = serde_json::to_string_pretty(&vector).unwrap() + "\n";
        let twice = expected.insert(format!("{}.bin", vector.name), vector.bytes.clone());
        assert!(twice.is_none(), "two vectors named {}", vector.name);
        expected.insert(format!("{}.json", vector.name), json.into_bytes());
    }
    if std::env::var_os("AETHER_WRITE_VECTORS").is_some() {
        for (name, content) in &expected {
            fs::write(folder.join(name), content).unwrap();
        }
    }
    let found: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap())
        // The vectors of hopping channels are in a folder of their own.
        .filter(|file| file.file_type().unwrap().is_file())
        .map(|file| file.file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected.keys().cloned().collect(), "docs/protocol/vectors holds other files");
    for (name, content) in expected {
        let file = fs::read(folder.join(&name)).unwrap();
        assert!(file == content, "{name} differs: AETHER_WRITE_VECTORS=1 regenerates it");
    }
}

#[test]
fn each_vector_is_decoded_as_described() {
    for vector in vectors::all() {
        if let Outcome::Read { frame, .. } = &vector.outcome {
            let read = decode(&vector, soon()).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
            assert_eq!(described(&read), serde_json::to_value(frame).unwrap(), "{}", vector.name);
        }
    }
}

#[test]
fn decoded_vectors_are_encoded_byte_for_byte() {
    for vector in vectors::all() {
        let Outcome::Read { canonical, .. } = vector.outcome else { continue };
        let now = soon();
        let read = decode(&vector, now).unwrap();
        let written = [None, Some(&read.channel)]
            .map(|channel| wire::encode_at(read.sender, read.position, channel, &read.waves, now).unwrap());
        let same = written.iter().any(|bytes| *bytes == vector.bytes);
        assert_eq!(same, canonical, "{}: {:02x?}", vector.name, written[1]);
        for bytes in written {
            let again = wire::decode(&bytes, Some(&read.channel), now, |_| Duration::ZERO).unwrap();
            assert_eq!(described(&again), described(&read), "{}", vector.name);
        }
    }
}

#[test]
fn each_malformed_vector_is_rejected_with_its_error() {
    let mut seen = BTreeSet::new();
    for vector in vectors::all() {
        if let Outcome::Refused { error } = vector.outcome {
            let refusal = decode(&vector, soon()).map(|frame| described(&frame)).unwrap_err();
            let name = format!("{refusal:?}");
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            assert_eq!(name, error, "{}: {refusal}", vector.name);
            seen.insert(error);
        }
    }
    let all = "Address Baggage BaggageOrder Channel ContentType Empty LeftOver Magic Metadata Phase Source TagOrder TooLong Trace \
               Truncated Utf8 Value Varint Version";
    assert_eq!(seen, all.split_whitespace().collect(), "an error has no vector");
}

/// The output of `docs/protocol/decoder.py`, which gets the bytes of the frames and their address, and nothing of this code.
fn python_decodes(address: Option<&str>, frames: &[Vec<u8>]) -> Vec<Value> {
    let mut python = Command::new("python3");
    python.arg(protocol().join("decoder.py")).arg("-");
    python.args(address.iter().flat_map(|name| ["--address", name]));
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python =
        python.spawn().expect("python3 must be installed: it checks the description of the frame");
    let mut input = python.stdin.take().expect("standard input is piped");
    let lines: String = frames.iter().map(|frame| layout::hex(frame) + "\n").collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().expect("python3 ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "decoder.py failed: {errors}");
    writer.join().expect("the writer does not panic").expect("decoder.py reads all of its input");
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let said: Vec<Value> = lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect();
    assert_eq!(said.len(), frames.len(), "decoder.py writes one line for each frame");
    let refused = said.iter().any(|said| said.get("refused").is_some());
    assert_eq!(output.status.code(), Some(i32::from(refused)), "the exit status reports rejections");
    said
}

#[test]
fn a_decoder_written_from_the_description_agrees_on_each_vector() {
    let mut by_address: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for vector in vectors::all() {
        by_address.entry(vector.address).or_default().push(vector);
    }
    for (address, vectors) in by_address {
        let frames: Vec<_> = vectors.iter().map(|vector| vector.bytes.clone()).collect();
        for (vector, said) in vectors.iter().zip(python_decodes(address, &frames)) {
            match &vector.outcome {
                Outcome::Read { frame, .. } => {
                    assert_eq!(said, serde_json::to_value(frame).unwrap(), "{}", vector.name);
                }
                Outcome::Refused { .. } => {
                    assert!(said["refused"].is_string(), "{} was not refused: {said}", vector.name);
                }
            }
        }
    }
}

/// Each byte of a frame changed, removed and duplicated, and each truncation.
fn corrupted(frame: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..frame.len()).flat_map(move |at| {
        let (before, after) = (&frame[..at], &frame[at + 1..]);
        let byte = frame[at];
        let changed = [byte ^ 1, byte ^ 0x80, byte.wrapping_add(3), 0, 0xFF]
            .map(|byte| [before, &[byte], after].concat());
        changed.into_iter().chain([
            [before, after].concat(),
            [before, &[byte], &frame[at..]].concat(),
            before.to_vec(),
        ])
    })
}

#[test]
fn a_decoder_written_from_the_description_agrees_on_corrupted_frames() {
    let vectors = vectors::all();
    let chosen = ["every-field", "several", "utf-8", "position", "announcement"];
    let whole = chosen.map(|name| vectors.iter().find(|vector| vector.name == name).unwrap());
    let frames: Vec<_> = whole.iter().flat_map(|vector| corrupted(&vector.bytes)).collect();
    let mut read = 0;
    for (frame, mut said) in frames.iter().zip(python_decodes(None, &frames)) {
        match wire::decode(&Bytes::from(frame.clone()), None, soon(), |_| Duration::ZERO) {
            Ok(frame) => {
                read += 1;
                let mut ours = described(&frame);
                // Decimal texts of floats may differ in the last bit, so they are compared as numbers.
                let phase = |value: &mut Value| value["phase"].take().as_f64().map(|phase| phase as f32);
                for waves in [&mut said, &mut ours].map(|frame| frame["waves"].as_array_mut()) {
                    for wave in waves.into_iter().flatten() {
                        wave["phase"] = json!(phase(wave).map(f32::to_bits));
                    }
                }
                assert_eq!(said, ours);
            }
            Err(error) => {
                assert!(said["refused"].is_string(), "{error} ({}) is read as {said}", layout::hex(frame))
            }
        }
    }
    // Neither all nor none, or the comparison would prove little.
    assert!(read > frames.len() / 10 && read < frames.len() / 2, "{read} of {} were read", frames.len());
}

#[test]
fn the_example_and_the_limits_in_the_description_are_true() {
    let readme = fs::read_to_string(protocol().join("README.md")).unwrap();
    let single = vectors::all().into_iter().find(|vector| vector.name == "single").unwrap();
    let columns = |line: &String| {
        let (hex, meaning) = line.split_once(' ').unwrap();
        let pairs: Vec<_> = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        format!("{:<43} {meaning}\n", pairs.join(" "))
    };
    let example: String = single.layout.iter().map(columns).collect();
    assert!(readme.contains(&example), "the example should read\n{example}");
    let limits = [
        (
            "channel",
            format!("{} bytes, {} tokens", aether_core::wave::MAX_NAME_BYTES, aether_core::wave::MAX_TOKENS),
        ),
        ("name of a source", format!("1 to {} bytes", aether_core::wave::MAX_SOURCE_BYTES)),
        ("coherence key", format!("1 to {} bytes", aether_core::wave::MAX_KEY_BYTES)),
        (
            "metadata",
            format!(
                "{} entries, {} bytes of names and values together",
                aether_core::wave::MAX_METADATA_ENTRIES,
                aether_core::wave::MAX_METADATA_BYTES
            ),
        ),
        ("hops", format!("0 to {}", aether_core::wave::MAX_HOPS)),
    ];
    for (what, limit) in limits {
        assert!(readme.contains(&format!("| {what} | {limit} |")), "the limit of {what} is {limit}");
    }
}
