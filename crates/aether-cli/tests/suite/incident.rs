//! Incidents of recordings as tests: what `aether physics --as-test` writes is in `aether-testing`, where it is compiled and
//! run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aether::physics::RecordingWriter;
use aether_core::medium::Sequencer;
use aether_core::{Kind, Source, Wave, WaveBuilder, WaveId, clock};

use crate::process::run;

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../aether-bench/recordings");
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../aether-testing/tests/incidents");

/// Asserts that the command writes the test of this name. With `AETHER_WRITE_INCIDENTS=1` it replaces the test.
fn check(folder: &Path, recording: &Path, number: &str, name: &str) {
    let (known, made) = (Path::new(TESTS).join(name), folder.join(name));
    let said = run(&[
        "physics",
        "--replay",
        recording.to_str().unwrap(),
        "--incident",
        number,
        "--as-test",
        made.to_str().unwrap(),
    ]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{name}: {said:?}");
    if std::env::var_os("AETHER_WRITE_INCIDENTS").is_some() {
        fs::copy(&made, &known).unwrap();
    }
    let (known, made) = (fs::read_to_string(known).unwrap_or_default(), fs::read_to_string(made).unwrap());
    assert!(known == made, "{name} is another one now: AETHER_WRITE_INCIDENTS=1 and this test replace it");
}

#[test]
fn each_fault_of_a_recording_becomes_the_test_that_aether_testing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(RECORDINGS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    for recording in paths {
        let name = recording.file_stem().unwrap().to_str().unwrap().replace('-', "_");
        if name.starts_with("healthy") {
            continue;
        }
        check(folder.path(), &recording, "1", &format!("{name}.rs"));
        if name == "broker_killed" {
            check(folder.path(), &recording, "2", "broker_killed_again.rs");
        }
    }
}

type Scenario = fn(&mut Made);

/// A recording of waves at made-up times.
struct Made {
    writer: RecordingWriter<Vec<u8>>,
    start: Instant,
    services: [Sequencer; 3],
}

const SHOP: usize = 0;
const STOCK: usize = 1;
const SECOND_STOCK: usize = 2;

impl Made {
    fn new() -> Self {
        let start = Instant::now();
        let writer = RecordingWriter::new(Vec::new(), start, SystemTime::UNIX_EPOCH).unwrap();
        let service = |name, instance| Sequencer::new(Source::with_instance(name, instance).unwrap());
        Self { writer, start, services: [service("shop", 1), service("stock", 2), service("stock", 3)] }
    }

    fn emit(&mut self, service: usize, millis: u64, wave: WaveBuilder) -> WaveId {
        let now = self.start + Duration::from_millis(millis);
        let mut wave = wave.build().unwrap();
        wave.stamp(&self.services[service], clock::moment_of(now));
        self.writer.wave(&wave, now).unwrap();
        wave.id()
    }

    /// The shop asks with a payload; the stock answers after 3 ms.
    fn ask(&mut self, millis: u64, order: u64, is_answered: bool) {
        let question = self.emit(SHOP, millis, Wave::builder("stock.take").kind(Kind::Query).json(order));
        if is_answered {
            self.emit(STOCK, millis + 3, Wave::builder("stock.take").kind(Kind::Response).cause(question));
        }
    }

    /// The same of one instance of the stock.
    fn ask_one(&mut self, millis: u64, order: u64, stock: usize) {
        let question = self.emit(SHOP, millis, Wave::builder("stock.take").kind(Kind::Query).json(order));
        self.emit(
            stock,
            millis + 30,
            Wave::builder("stock.take").kind(Kind::Response).cause(question.clone()),
        );
        self.emit(stock, millis + 30, Wave::builder("stock.taken").cause(question));
    }

    fn save(self, path: &Path) {
        fs::write(path, self.writer.finish().unwrap()).unwrap();
    }
}

/// From 40 s on, the stock answers nothing. It still tells its level.
fn not_answering(made: &mut Made) {
    for tick in 0..240 {
        let at = tick * 250;
        made.ask(at, tick, at < 40_000);
        if tick.is_multiple_of(4) {
            made.emit(STOCK, at + 100, Wave::builder("stock.level"));
        }
    }
}

/// From 40 s on, the stock does not tell its level. It still counts.
fn stream_stopped(made: &mut Made) {
    for tick in 0..120 {
        let at = tick * 500;
        made.emit(STOCK, at, Wave::builder("stock.counted").amplitude(0.2));
        if tick.is_multiple_of(2) && at < 40_000 {
            made.emit(STOCK, at + 100, Wave::builder("stock.level"));
        }
    }
}

/// From 40 s on, only the last one of four attempts is answered.
fn retry_storm(made: &mut Made) {
    for order in 0..180 {
        let at = order * 500;
        let attempts = if at < 40_000 { 1 } else { 4 };
        for attempt in 1..=attempts {
            made.ask(at + 100 * (attempt - 1), order, attempt == attempts);
        }
    }
}

/// Nothing comes from 40 s on, and one service that begins much later ends the recording.
fn all_silent(made: &mut Made) {
    for tick in 0..80 {
        let at = tick * 500;
        made.emit(SHOP, at, Wave::builder("shop.open").amplitude(1.0));
        made.emit(STOCK, at + 200, Wave::builder("stock.level").key("lamp"));
    }
    made.emit(STOCK, 60_000, Wave::builder("stock.level").key("lamp"));
}

/// Two instances of the stock share the questions. Both stop at 40 s.
fn instances_stopped(made: &mut Made) {
    for tick in 0..240 {
        let at = tick * 250;
        if at >= 40_000 {
            made.ask(at, tick, false);
            continue;
        }
        made.ask_one(at, tick, if tick.is_multiple_of(2) { STOCK } else { SECOND_STOCK });
        if tick.is_multiple_of(4) {
            made.emit(STOCK, at + 100, Wave::builder("stock.level"));
            made.emit(SECOND_STOCK, at + 101, Wave::builder("stock.level"));
        }
    }
}

#[test]
fn the_other_causes_become_tests_too() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios: [(&str, Scenario); 5] = [
        ("not_answering", not_answering),
        ("stream_stopped", stream_stopped),
        ("retry_storm", retry_storm),
        ("all_silent", all_silent),
        ("instances_stopped", instances_stopped),
    ];
    for (name, play) in scenarios {
        let recording = folder.path().join(format!("{name}.rec"));
        let mut made = Made::new();
        play(&mut made);
        made.save(&recording);
        let shown = run(&["physics", "--replay", recording.to_str().unwrap()]);
        assert!(shown.err.contains(" 1 incidents"), "{name}: {shown:?}");
        check(folder.path(), &recording, "1", &format!("{name}.rs"));
    }
}

#[test]
fn without_such_an_incident_no_test_is_written_and_no_file_is_replaced_by_chance() {
    let folder = tempfile::tempdir().unwrap();
    let test = folder.path().join("incident.rs");
    let (path, missing) = (test.to_str().unwrap(), folder.path().join("no/such/incident.rs"));
    let recording = |name: &str| format!("{RECORDINGS}/{name}.rec");
    let (broker, healthy) = (recording("broker-killed"), recording("healthy-idle"));

    let unknown = run(&["physics", "--replay", &broker, "--incident", "3", "--as-test", path]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("no incident 3; its incidents are 1, 2"), "{}", unknown.err);
    let none = run(&["physics", "--replay", &healthy, "--as-test", path]);
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.err.contains("the recording has no incident"), "{}", none.err);
    let unwritten = run(&["physics", "--replay", &broker, "--as-test", missing.to_str().unwrap()]);
    assert_eq!(unwritten.code, Some(1), "{unwritten:?}");
    assert!(
        unwritten.err.contains("cannot write ") && unwritten.err.contains("no/such"),
        "{}",
        unwritten.err
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");

    fs::write(&test, "mine").unwrap();
    let exists = run(&["physics", "--replay", &broker, "--as-test", path]);
    assert_eq!(exists.code, Some(2), "{exists:?}");
    assert!(exists.err.contains("exists already") && exists.err.contains("--force"), "{}", exists.err);
    assert_eq!(fs::read_to_string(&test).unwrap(), "mine");
    let replaced = run(&["physics", "--replay", &broker, "--as-test", path, "--force"]);
    assert_eq!(replaced.code, Some(0), "{replaced:?}");
    assert!(fs::read_to_string(&test).unwrap().starts_with("//! Incident 1 of broker-killed.rec as a test."));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn the_options_of_a_test_need_a_recording() {
    for args in [&["physics", "--as-test", "a.rs"][..], &["physics", "--replay", "a.rec", "--force"]] {
        assert_eq!(run(args).code, Some(2), "{args:?}");
    }
}
