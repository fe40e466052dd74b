//! Unit tests of recordings.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::PhysicsEngine;
use aether_core::clock::Instant;
use aether_core::medium::Sequencer;
use aether_core::wave::FAILURE;
use aether_core::{Amplitude, HalfLife, Kind, Pattern, Phase, Source, Wave, WaveBuilder, WaveId};

const SECOND: Duration = Duration::from_secs(1);

fn stamped(builder: WaveBuilder, sequencer: &Sequencer, now: Instant) -> Wave {
    let mut wave = builder.build().unwrap();
    wave.stamp(sequencer, aether_core::clock::moment_of(now));
    wave
}

fn read(file: &[u8]) -> Vec<(Duration, RecordedEntry)> {
    RecordingReader::new(file).unwrap().map(Result::unwrap).collect()
}

fn waves(file: &[u8]) -> Vec<Wave> {
    let wave = |(_, entry)| if let RecordedEntry::Wave(wave) = entry { Some(wave) } else { None };
    read(file).into_iter().filter_map(wave).collect()
}

/// A recording of heartbeats, one a second.
fn heartbeats(beats: u32) -> Vec<u8> {
    let start = aether_core::clock::test_now();
    let heart = Sequencer::new(Source::new("heart").unwrap());
    let mut writer = RecordingWriter::new(Vec::new(), start, aether_core::clock::wall_time()).unwrap();
    for beat in 0..beats {
        let now = start + SECOND * beat;
        writer.wave(&stamped(Wave::builder("heart.beat"), &heart, now), now).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_wave_is_read_with_all_that_the_detectors_use_and_without_its_payload() {
    aether_core::clock::follow_tokio();
    let start = aether_core::clock::test_now();
    let shop = Sequencer::new(Source::new("shop").unwrap());
    let cause = WaveId { source: Source::with_instance("stock", 7).unwrap(), sequence: 1 << 40 };
    let builder = Wave::builder("orders.created")
        .kind(Kind::Command)
        .amplitude(0.9)
        .half_life(SECOND)
        .phase(Phase::RETRACT)
        .key("17")
        .cause(cause.clone())
        .metadata("secret", "header")
        .text("secret payload");
    let wave = stamped(builder, &shop, start).resent().unwrap();
    let mut writer = RecordingWriter::new(Vec::new(), start, SystemTime::UNIX_EPOCH + SECOND).unwrap();
    writer.wave(&wave, start + 3 * SECOND).unwrap();
    assert_eq!(writer.waves(), 1);
    let file = writer.finish().unwrap();

    assert_eq!(RecordingReader::new(&file[..]).unwrap().started_at(), SystemTime::UNIX_EPOCH + SECOND);
    let [(at, RecordedEntry::Wave(again))] = &read(&file)[..] else { panic!("one wave") };
    assert_eq!((*at, again.age()), (3 * SECOND, 3 * SECOND));
    assert_eq!((again.id(), again.channel(), again.kind()), (wave.id(), wave.channel(), Kind::Command));
    assert_eq!((again.signal(), again.phase()), (wave.signal(), Phase::RETRACT));
    assert_eq!(again.half_life(), HalfLife::nearest(SECOND).unwrap());
    assert_eq!((again.key(), again.cause(), again.attempt()), (Some("17"), Some(&cause), 1));
    assert!(again.metadata().is_empty() && again.payload().len() == 4, "{:?}", again.metadata());
}

#[test]
fn equal_contents_are_equal_in_one_recording_and_unguessable_from_another() {
    let (start, shop) = (aether_core::clock::test_now(), Sequencer::new(Source::new("shop").unwrap()));
    let record = || {
        let mut writer = RecordingWriter::new(Vec::new(), start, aether_core::clock::wall_time()).unwrap();
        for content in ["yes", "no", "yes"] {
            let answer = Wave::builder("a").kind(Kind::Response).text(content).metadata(FAILURE, "rejected");
            writer.wave(&stamped(answer, &shop, start), start).unwrap();
        }
        waves(&writer.finish().unwrap())
    };
    let (one, other) = (record(), record());
    assert_eq!(one[0].payload(), one[2].payload());
    assert_ne!(one[0].payload(), one[1].payload());
    assert_ne!(one[0].payload(), other[0].payload());
    assert_eq!(one[0].failure().unwrap().reason, aether_core::FailureReason::Rejected);
}

#[test]
fn events_are_read_in_their_places_and_a_copy_is_equal() {
    let start = aether_core::clock::test_now();
    let fault = Fault { kind: "stopped".into(), service: "beta".into() };
    let mut writer = RecordingWriter::new(Vec::new(), start, aether_core::clock::wall_time()).unwrap();
    writer.tuned("stock", &[Pattern::new("orders.*").unwrap()], start).unwrap();
    writer.lost(3, SECOND, start + SECOND).unwrap();
    writer.paused(SECOND, start + 2 * SECOND).unwrap();
    writer.link(false, start + 3 * SECOND).unwrap();
    writer.fault(&fault, true, start + 4 * SECOND).unwrap();
    writer.wave(&Wave::builder("a").text("b").build().unwrap(), start + 5 * SECOND).unwrap();
    let file = writer.finish().unwrap();
    let text = |entries: &[(Duration, RecordedEntry)]| format!("{entries:?}");
    let entries = read(&file);
    let expected = "[(0ns, Tuned { vibrator: \"stock\", patterns: [orders.*] }), \
                    (1s, Lost { waves: 3, within: 1s }), (2s, Paused { lasted: 1s }), \
                    (3s, Link { connected: false }), \
                    (4s, Fault { fault: Fault { kind: \"stopped\", service: \"beta\" }, begins: true })";
    assert!(
        text(&entries[..5]).replace("Pattern(\"orders.*\")", "orders.*").starts_with(expected),
        "{entries:?}"
    );

    let mut copy = RecordingWriter::new(Vec::new(), start, aether_core::clock::wall_time()).unwrap();
    for (at, entry) in &entries {
        copy.copy(entry, start + *at).unwrap();
    }
    let copy = copy.finish().unwrap();
    assert_eq!(text(&read(&copy)), text(&entries));
    assert_eq!(waves(&copy)[0].payload(), waves(&file)[0].payload());
}

#[test]
fn of_a_torn_file_everything_up_to_the_last_flush_is_read() {
    let file = heartbeats(50);
    let mut most = 0;
    for length in 0..file.len() {
        let Ok(reader) = RecordingReader::new(&file[..length]) else {
            assert!(length < 40, "the header is in the first bytes");
            continue;
        };
        let read: Vec<_> = reader.collect();
        let (last, before) = read.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok), "{length}");
        assert!(matches!(last, Err(RecordingError::Torn { offset: 17.. })), "{length}: {last:?}");
        assert!(before.len() >= most, "a longer file has more");
        most = before.len();
    }
    assert_eq!(most, 50, "only the checksum was missing");
}

#[test]
fn other_files_and_later_versions_are_refused() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        file.write_all(bytes).unwrap();
        file.finish().unwrap()
    };
    let later = [&MAGIC[..], &[VERSION + 1], &[0; 8]].concat();
    let refused = |file: &[u8]| RecordingReader::new(file).unwrap_err();
    assert!(matches!(refused(b""), RecordingError::NotARecording));
    assert!(matches!(refused(b"{\"sku\":\"lamp\"}\n, some other file"), RecordingError::NotARecording));
    assert!(matches!(refused(&gzip(b"some other compressed file")), RecordingError::NotARecording));
    assert!(matches!(refused(&gzip(&later)), RecordingError::Version { found: 2 }));
    // An entry of an unknown kind is skipped; one that refers to nothing is damage.
    let with = |entry: &[u8]| {
        let header = [&MAGIC[..], &[VERSION], &[0; 8]].concat();
        RecordingReader::new(&gzip(&[&header, entry].concat())[..]).unwrap().next()
    };
    assert!(with(&[2, 99, 1]).is_none());
    let damaged = with(&[9, tag::WAVE, 0, 7, 0, 0, 0, 0, 0, 0]).unwrap().unwrap_err();
    assert!(matches!(damaged, RecordingError::Damaged { offset: 18, .. }), "{damaged:?}");
    let long = with(&[0xff, 0xff, 0xff, 0x7f]).unwrap().unwrap_err();
    assert!(matches!(long, RecordingError::Damaged { .. }), "{long:?}");
}

#[test]
fn a_recording_of_each_version_is_read() {
    const FILE: &str = "shop.recording";
    let write = |folder: &std::path::Path| {
        let start = aether_core::clock::test_now();
        let source = Source::with_instance("shop", 7).unwrap();
        let shop = Sequencer::new(source);
        let mut writer = RecordingWriter::new(Vec::new(), start, SystemTime::UNIX_EPOCH + SECOND).unwrap();
        writer.tuned("stock", &[Pattern::new("orders.*").unwrap()], start).unwrap();
        for at in 1..=2 {
            let now = start + at * SECOND;
            let order = Wave::builder("orders.created").kind(Kind::Command).amplitude(0.9).key("17");
            writer.wave(&stamped(order.half_life(SECOND).text("lamp"), &shop, now), now).unwrap();
        }
        writer.lost(3, SECOND, start + 3 * SECOND).unwrap();
        writer.paused(SECOND, start + 4 * SECOND).unwrap();
        writer.link(false, start + 5 * SECOND).unwrap();
        let fault = Fault { kind: "stopped".into(), service: "beta".into() };
        writer.fault(&fault, true, start + 6 * SECOND).unwrap();
        std::fs::write(folder.join(FILE), writer.finish().unwrap()).unwrap();
    };
    for (version, folder) in aether_files::corpus::copies(env!("CARGO_MANIFEST_DIR"), write).unwrap() {
        let file = std::fs::read(folder.path().join(FILE)).unwrap();
        let reader = RecordingReader::new(&file[..]).unwrap();
        assert_eq!(reader.started_at(), SystemTime::UNIX_EPOCH + SECOND, "{version}");
        let entries: Vec<_> = reader.map(Result::unwrap).collect();
        let times: Vec<_> = entries.iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(times, [0, 1, 2, 3, 4, 5, 6], "{version}");
        for (sequence, wave) in (1..).zip(waves(&file)) {
            assert_eq!((wave.source().to_string(), wave.sequence()), ("shop@7".to_owned(), sequence));
            assert_eq!(
                (wave.channel().as_str(), wave.kind(), wave.key()),
                ("orders.created", Kind::Command, Some("17"))
            );
            let (loud, half_life) = (Amplitude::new(0.9).unwrap(), HalfLife::nearest(SECOND).unwrap());
            assert_eq!((wave.amplitude(), wave.half_life()), (loud, half_life), "{version}");
        }
        let others: Vec<_> =
            entries.iter().filter(|(_, entry)| !matches!(entry, RecordedEntry::Wave(_))).collect();
        let expected = "[(0ns, Tuned { vibrator: \"stock\", patterns: [Pattern(\"orders.*\")] }), \
                        (3s, Lost { waves: 3, within: 1s }), (4s, Paused { lasted: 1s }), \
                        (5s, Link { connected: false }), \
                        (6s, Fault { fault: Fault { kind: \"stopped\", service: \"beta\" }, begins: true })]";
        assert_eq!(format!("{others:?}"), expected, "{version}");
    }
}

#[test]
fn a_flood_of_names_is_bounded_and_read_back() {
    let start = aether_core::clock::test_now();
    let shop = Sequencer::new(Source::new("shop").unwrap());
    let mut writer = RecordingWriter::new(Vec::new(), start, aether_core::clock::wall_time()).unwrap();
    let count = 2 * MAX_NAMES;
    for number in 0..count {
        let wave = Wave::builder("orders.created").key(&number.to_string());
        writer.wave(&stamped(wave, &shop, start), start).unwrap();
    }
    let file = writer.finish().unwrap();
    let read = waves(&file);
    assert_eq!(read.len(), count);
    for (number, wave) in read.iter().enumerate() {
        assert_eq!((wave.key().unwrap(), wave.sequence()), (number.to_string().as_str(), number as u64 + 1));
    }
}

#[test]
fn a_played_heartbeat_is_found_when_its_detector_finds_it() {
    let file = heartbeats(30);
    let mut player = RecordingPlayer::new(RecordingReader::new(&file[..]).unwrap(), PhysicsEngine::default());
    let (at, Played::Finding(finding)) = player.next().unwrap().unwrap() else { panic!("a finding") };
    assert_eq!((at, finding.as_str()), (11 * SECOND, "standing_wave"));
    assert!(player.next().is_none());
    assert_eq!((player.waves(), player.length()), (30, 29 * SECOND));
}

proptest! {
    #[test]
    fn a_damaged_file_is_an_error_and_never_a_panic(at in 0usize..400, bit in 0u8..8) {
        let mut file = heartbeats(40);
        let at = at % file.len();
        file[at] ^= 1 << bit;
        if let Ok(reader) = RecordingReader::new(&file[..]) {
            prop_assert!(reader.count() < 10_000);
        }
    }
}
