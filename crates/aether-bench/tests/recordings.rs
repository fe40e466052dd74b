//! The incidents found in the recordings of real traffic are the faults that were made, and no others.
//!
//! The clocks follow tokio's, which makes the moments of the recorded waves exact.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aether::physics::{RecordedEntry, RecordingReader, RecordingWriter};
use aether_bench::Recorded;
use aether_core::clock;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings");

/// A fault must be found in this time.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// The incident must end in this time after the fault.
const ENDED_WITHIN: Duration = Duration::from_secs(15);

/// The recordings of the repository, or of a folder that `cargo xtask recordings --into` made.
fn folder() -> PathBuf {
    std::env::var_os("AETHER_RECORDINGS").map_or_else(|| FOLDER.into(), PathBuf::from)
}

fn recordings() -> Vec<Recorded> {
    let paths = Recorded::list(&folder()).unwrap();
    paths.iter().map(|path| Recorded::play(path).unwrap()).collect()
}

/// Asserts that the incidents are the faults.
fn check(recorded: &Recorded) {
    let Recorded { name, faults, incidents, .. } = recorded;
    let said: Vec<String> = incidents.iter().map(|(at, incident)| format!("{at:.1?} {incident}")).collect();
    assert_eq!(recorded.false_incidents, 0, "{name}: {said:#?}");
    assert_eq!(faults.is_empty(), name.starts_with("healthy-"), "{name}: {faults:?}");
    for fault in faults {
        let found = fault.found_after.unwrap_or_else(|| panic!("{name}: {fault:?} in {said:#?}"));
        assert!(found <= FOUND_WITHIN, "{name}: {fault:?} in {said:#?}");
    }
    let unended: Vec<_> = recorded.unended(ENDED_WITHIN).collect();
    assert!(unended.is_empty(), "{name}: {unended:?} in {said:#?}");
}

#[test]
fn in_healthy_recordings_there_is_no_incident_and_in_others_one_for_each_fault_which_names_it() {
    clock::follow_tokio();
    let recordings = recordings();
    let healthy = recordings.iter().filter(|recorded| recorded.faults.is_empty()).count();
    assert!(healthy >= 6 && recordings.len() - healthy >= 8, "{healthy} of {}", recordings.len());
    recordings.iter().for_each(check);
}

/// The recording without some of its waves, lost silently.
fn with_losses(path: &Path, one_in: u32, seed: u64) -> Recorded {
    let mut random = fastrand::Rng::with_seed(seed);
    let reader = RecordingReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let start = Instant::now();
    let mut writer = RecordingWriter::new(Vec::new(), start, reader.started_at()).unwrap();
    for entry in reader {
        let (at, entry) = entry.unwrap();
        if !matches!(entry, RecordedEntry::Wave(_)) || random.u32(0..one_in) > 0 {
            writer.copy(&entry, start + at).unwrap();
        }
    }
    let file = writer.finish().unwrap();
    let name = format!("{}", path.file_stem().unwrap().display());
    Recorded::play_from(name, &file[..], file.len() as u64).unwrap()
}

#[test]
fn one_lost_wave_in_twenty_makes_no_incident_and_hides_none() {
    clock::follow_tokio();
    for (seed, path) in (1..).zip(Recorded::list(&folder()).unwrap()) {
        check(&with_losses(&path, 20, seed));
    }
}

#[test]
fn the_sentence_about_a_stopped_service_says_who_who_waits_and_what_to_do() {
    clock::follow_tokio();
    let recorded = Recorded::play(&Path::new(FOLDER).join("beta-killed.rec")).unwrap();
    let [(_, incident)] = &recorded.incidents[..] else { panic!("{:?}", recorded.incidents) };
    let text = incident.to_string();
    assert!(text.starts_with("beta stopped: its ") && text.ends_with("; check the process"), "{text}");
    assert!(text.contains("channels that follow") && text.contains("alpha waits for answers"), "{text}");
}

#[test]
fn a_replay_is_the_same_each_time() {
    clock::follow_tokio();
    let path = Path::new(FOLDER).join("beta-frozen.rec");
    let play = || {
        let Recorded { incidents, findings, waves, length, .. } = Recorded::play(&path).unwrap();
        let texts: Vec<_> = incidents.iter().map(|(at, incident)| (*at, incident.to_string())).collect();
        (texts, findings, waves, length)
    };
    assert_eq!(play(), play());
}
