//! A service that is killed with `kill -9` at random moments, at full rate.
//!
//! It emits with `Synced` from eight tasks, and handles its own waves. It prints a line after each receipt, and one
//! after each acknowledgement. The printed lines must be true after every restart.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aether::seal::SealKeys;
use aether_core::{Durability, Wave};
use aether_log::store::StoreOptions;
use aether_log::{Log, LogItem};

use crate::bus::stage::{billing, connect, position, receive, text};
use crate::killed::say;

const TASKS: u64 = 8;

/// What is run.
#[derive(Clone, Copy)]
struct Case {
    /// The size of what each wave has behind its name, and of the segments of the log, in bytes.
    bytes: usize,
    segment_bytes: u64,
    /// How many receipts there are before a kill, beside one for each task, at most.
    receipts: u64,
    is_sealed: bool,
}

const SMALL: Case = Case { bytes: 0, segment_bytes: 64 << 20, receipts: 300, is_sealed: false };
/// Waves of 1 MiB with their names, of which a segment takes two.
const LARGE: Case = Case { bytes: (1 << 20) - 100, segment_bytes: 2 << 20, receipts: 5, is_sealed: false };

fn open_of(folder: &Path, case: Case) -> Log {
    let options = StoreOptions::default().segment_bytes(case.segment_bytes).unwrap();
    let log = Log::builder(folder).options(options);
    let log = if case.is_sealed { log.keys(SealKeys::from_secret([7; 32])) } else { log };
    log.channels("orders.>", Durability::Synced).unwrap().open().unwrap()
}

/// The name is the first word of the text.
fn name_of(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_and_handles_until_it_is_killed() {
    let folder = std::env::var_os("AETHER_LOG_FOLDER").unwrap();
    let round = std::env::var("AETHER_LOG_ROUND").unwrap();
    // Other tests run it as well, with small waves.
    let told = |name, usual| std::env::var(name).map_or(usual, |number| number.parse::<u64>().unwrap());
    let segment_bytes = told("AETHER_LOG_SEGMENT_BYTES", SMALL.segment_bytes);
    let bytes = usize::try_from(told("AETHER_LOG_BYTES", 0)).unwrap();
    let is_sealed = told("AETHER_LOG_SEALED", 0) == 1;
    let case = Case { bytes, segment_bytes, is_sealed, ..SMALL };
    let log = open_of(folder.as_ref(), case);
    let rest = if bytes == 0 { String::new() } else { format!(" {}", "x".repeat(bytes)) };
    let aether = connect(&log).await;
    say(format_args!("open"));
    for task in 0..TASKS {
        let (shop, round, rest) = (aether.emitter("shop").unwrap(), round.clone(), rest.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}.{task}.{number}");
                let wave = Wave::builder("orders.created").text(format!("{name}{rest}")).build().unwrap();
                let receipt = shop.emit(wave).await.unwrap();
                say(format_args!("stored {} {name}", position(&receipt)));
            }
        });
    }
    let consumer = billing(&log);
    loop {
        let delivery = receive(&consumer).await;
        let name = name_of(&text(&delivery));
        say(format_args!("seen {name}"));
        delivery.ack().await.unwrap();
        say(format_args!("acknowledged {name}"));
    }
}

#[derive(Default)]
struct Said {
    /// Position by name.
    stored: BTreeMap<String, u64>,
    acknowledged: BTreeSet<String>,
}

/// Runs the service and kills it after a while.
fn run_and_kill(folder: &Path, round: u64, case: Case, said: &mut Said) {
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "bus::faults::killing::emits_and_handles_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("AETHER_LOG_FOLDER", folder)
        .env("AETHER_LOG_ROUND", round.to_string())
        .env("AETHER_LOG_BYTES", case.bytes.to_string())
        .env("AETHER_LOG_SEGMENT_BYTES", case.segment_bytes.to_string())
        .env("AETHER_LOG_SEALED", u8::from(case.is_sealed).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "round {round}: the log was not opened");
    // A moment at random, counted in receipts, so that a slow machine has as many of them.
    let mut receipts = TASKS + 1 + fastrand::u64(..case.receipts);
    for line in lines {
        let line = line.unwrap();
        // The last line may be cut off in the middle of a name; a round has two dots.
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["stored", position, name] if name.split('.').count() == 3 && !name.ends_with('.') => {
                let position = position.parse().unwrap();
                said.stored.insert(name.to_owned(), position);
                receipts = receipts.saturating_sub(1);
                if receipts == 0 {
                    // At a random moment soon after. The lines that it had printed by then are still read.
                    std::thread::sleep(Duration::from_micros(fastrand::u64(..5000)));
                    service.kill().unwrap();
                }
            }
            ["seen", name] => assert!(
                !said.acknowledged.contains(name),
                "round {round}: {name} came again after it was acknowledged"
            ),
            ["acknowledged", name] => {
                said.acknowledged.insert(name.to_owned());
            }
            _ => {}
        }
    }
    service.wait().unwrap();
}

async fn kill_in_a_loop(rounds: u64, case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..rounds {
        run_and_kill(folder.path(), round, case, &mut said);
    }
    let log = open_of(folder.path(), case);
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut reader = log.read_from(0);
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{item:?}") };
        let name = name_of(stored.wave.text().unwrap());
        let (task, number) = name.rsplit_once('.').unwrap();
        let expected = next.entry(task.to_owned()).or_default();
        assert_eq!(number.parse::<u64>().unwrap(), *expected, "the waves of {task} are in order, none twice");
        *expected += 1;
        assert!(kept.insert(name, stored.position).is_none());
    }
    for (name, position) in &said.stored {
        assert_eq!(kept.get(name), Some(position), "{name} was said to be stored");
    }
    println!("{rounds} rounds: {} receipts, {} waves in the log", said.stored.len(), kept.len());
    assert!(said.stored.len() as u64 > rounds * TASKS);
    // The waves that were not acknowledged come now, and nothing else.
    let consumer = billing(&log);
    let mut rest = BTreeSet::new();
    let mut handled = said.acknowledged.len();
    while rest.len() + said.acknowledged.len() < kept.len() {
        let ledger = consumer.ledger();
        // An acknowledgement may have been written and not be printed any more.
        if ledger.stored as usize == kept.len() && ledger.waiting + ledger.in_flight == 0 {
            break;
        }
        let delivery = receive(&consumer).await;
        let name = name_of(&text(&delivery));
        assert!(!said.acknowledged.contains(&name), "{name} came again after it was acknowledged");
        assert!(rest.insert(name), "came twice");
        delivery.ack().await.unwrap();
        handled += 1;
    }
    // At most one acknowledgement for each round was not printed.
    assert!(handled as u64 + rounds >= kept.len() as u64, "{handled} of {}", kept.len());
    assert!(consumer.ledger().adds_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_or_comes_twice_after_kill_9() {
    kill_in_a_loop(super::rounds(10), SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_comes_twice_after_kill_9_also_where_waves_are_large_and_segments_small() {
    kill_in_a_loop(super::rounds(4), LARGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_comes_twice_after_kill_9_in_a_sealed_log() {
    kill_in_a_loop(super::rounds(4), Case { is_sealed: true, ..SMALL }).await;
}
