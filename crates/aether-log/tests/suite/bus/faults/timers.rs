//! A service that emits waves for later, and is killed with `kill -9` while they become due.
//!
//! It prints a line after each receipt. Every printed wave must be in the log in the end, and none twice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aether_core::Wave;

use crate::bus::stage::{connect, open, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_for_later_until_it_is_killed() {
    let folder = std::env::var_os("AETHER_LOG_FOLDER").unwrap();
    let round = std::env::var("AETHER_LOG_ROUND").unwrap();
    let log = open(folder.as_ref());
    let aether = connect(&log).await;
    let tasks = (0..4).map(|task| {
        let (shop, round) = (aether.emitter("shop").unwrap(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}.{task}.{number}");
                let after = Duration::from_millis(fastrand::u64(1..60));
                let wave = Wave::builder("orders.created").text(&*name).after(after);
                shop.emit(wave).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "\nstored {name} .").unwrap();
                out.flush().unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Runs the service, kills it after a number of receipts, and returns the names of the waves.
fn run_and_kill(folder: &Path, round: u64) -> Vec<String> {
    let name = "bus::faults::timers::emits_for_later_until_it_is_killed";
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("AETHER_LOG_FOLDER", folder)
        .env("AETHER_LOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let (mut stored, most) = (Vec::new(), 1 + fastrand::usize(..300));
    for line in lines {
        // The end of a line that was cut off is missing.
        if let Some(name) = line.unwrap().strip_prefix("stored ").and_then(|name| name.strip_suffix(" .")) {
            stored.push(name.to_owned());
        }
        if stored.len() == most {
            std::thread::sleep(Duration::from_micros(fastrand::u64(..5000)));
            service.kill().unwrap();
        }
    }
    service.wait().unwrap();
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wave_for_later_is_lost_or_comes_twice_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stored, rounds) = (Vec::new(), super::rounds(10));
    for round in 0..rounds {
        stored.extend(run_and_kill(folder.path(), round));
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
