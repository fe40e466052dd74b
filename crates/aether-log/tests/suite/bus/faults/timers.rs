//! A service that emits waves for later, and is killed with `kill -9` while they become due.
//!
//! It prints a line after each receipt. Every printed wave must be in the log in the end, and none twice.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bus::stage::{connect, open, texts};
use crate::killed::{emit_for_later, run_and_kill};

const EMITS: &str = "bus::faults::timers::emits_for_later_until_it_is_killed";
const FOLDER: &str = "AETHER_LOG_FOLDER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_for_later_until_it_is_killed() {
    let log = open(std::env::var_os(FOLDER).unwrap().as_ref());
    emit_for_later(&connect(&log).await, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wave_for_later_is_lost_or_comes_twice_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stored, rounds) = (Vec::new(), super::rounds(10));
    for round in 0..rounds {
        stored.extend(run_and_kill(EMITS, (FOLDER, folder.path().as_ref()), round, 300));
    }
    let log = open(folder.path());
    let mut last = log.last_position();
    loop {
        last.borrow_and_update();
        let mut counts = BTreeMap::<_, u32>::new();
        texts(&log).into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
        if let Some((name, count)) = counts.iter().find(|(_, count)| **count > 1) {
            panic!("{name} came {count} times");
        }
        if stored.iter().all(|name| counts.contains_key(name)) {
            break println!("{rounds} rounds: {} receipts, {} waves", stored.len(), counts.len());
        }
        let grown = tokio::time::timeout(Duration::from_secs(60), last.changed());
        grown.await.expect("all of them come").unwrap();
    }
}
