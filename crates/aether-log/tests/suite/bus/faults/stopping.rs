//! A service that is stopped in the middle of a write and goes on later, and a reader in another process meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use aether_log::store::{OpenError, View};
use aether_log::{Log, LogItem, LogReader};
use nix::sys::signal::{Signal, kill};

/// Receipts between two stops.
const RECEIPTS: usize = 200;

fn signal(service: &Child, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(service.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_stopped_service_keeps_its_log_and_a_reader_meanwhile_sees_whole_waves_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "bus::faults::killing::emits_and_handles_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("AETHER_LOG_FOLDER", folder.path())
        .env("AETHER_LOG_ROUND", "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "open"));
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    let mut view: Option<(View, LogReader)> = None;
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = 0;
    for round in 0..super::rounds(10) {
        let mut receipts = 0;
        while receipts < RECEIPTS {
            let line = lines.next().expect("the service runs");
            if let ["stored", position, name] = line.split(' ').collect::<Vec<_>>()[..] {
                said.insert(name.to_owned(), position.parse().unwrap());
                receipts += 1;
            }
        }
        signal(&service, Signal::SIGSTOP);
        // Its lock is held, whether it runs or not.
        let refused = Log::builder(folder.path()).open().unwrap_err();
        let is_its = |process: &Option<u32>| process.is_some();
        assert!(matches!(&refused, OpenError::InUse { process, .. } if is_its(process)), "{refused}");
        let (view, reader) = view.get_or_insert_with(|| {
            let view = View::open(folder.path()).unwrap();
            let reader = LogReader::new(view.cursor(0));
            (view, reader)
        });
        view.refresh().unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            let LogItem::Wave(stored) = item else { panic!("round {round}: {item:?}") };
            assert_eq!(stored.position, last + 1, "round {round}: nothing is passed over or read twice");
            last = stored.position;
            kept.insert(stored.wave.text().unwrap().to_owned(), last);
        }
        for (name, position) in &said {
            assert_eq!(kept.get(name), Some(position), "round {round}: {name} was said to be stored");
        }
        signal(&service, Signal::SIGCONT);
    }
    service.kill().unwrap();
    service.wait().unwrap();
    println!("{} receipts, {last} waves read", said.len());
    // The waves read while they were written are the waves that are there.
    let log = Log::builder(folder.path()).open().unwrap();
    let mut reader = log.read_from(0);
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{item:?}") };
        if stored.position <= last {
            assert_eq!(kept.get(stored.wave.text().unwrap()), Some(&stored.position));
        }
    }
}
