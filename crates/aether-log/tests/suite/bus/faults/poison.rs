//! A wave whose handler ends the process, again and again.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, ExitStatus};

use aether::seal::SealKeys;
use aether_core::{Durability, Wave};
use aether_log::{Consumer, ConsumerOptions, Log, is_sealed};

use crate::bus::stage::{connect, open, receive, text, wave};

const ATTEMPTS: u32 = 3;
const OTHERS: u64 = 40;

fn open_of(folder: &Path, is_sealed: bool) -> Log {
    if !is_sealed {
        return open(folder);
    }
    let log = Log::builder(folder).channels("orders.>", Durability::Synced).unwrap();
    log.keys(SealKeys::from_secret([7; 32])).open().unwrap()
}

fn billing(log: &Log) -> Consumer {
    let options = ConsumerOptions::default().max_attempts(NonZeroU32::new(ATTEMPTS).unwrap());
    log.consumer("billing", "orders.>", options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that a wave ends"]
async fn handles_until_all_is_settled() {
    let folder = std::env::var_os("AETHER_LOG_FOLDER").unwrap();
    let is_sealed = is_sealed(folder.as_ref()).unwrap() == Some(true);
    let log = open_of(folder.as_ref(), is_sealed);
    let consumer = billing(&log);
    let workers = (0..4)
        .map(|_| {
            let consumer = consumer.clone();
            tokio::spawn(async move {
                loop {
                    let delivery = receive(&consumer).await;
                    if text(&delivery) == "poison" {
                        std::process::abort();
                    }
                    // Others are in flight when the process ends.
                    tokio::task::yield_now().await;
                    delivery.ack().await.unwrap();
                    if consumer.ledger().acknowledged == OTHERS {
                        std::process::exit(0);
                    }
                }
            })
        })
        .collect::<Vec<_>>();
    // None returns: they end the process.
    futures_util::future::join_all(workers).await;
}

fn run(folder: &Path) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bus::faults::poison::handles_until_all_is_settled", "--ignored", "--nocapture"])
        .env("AETHER_LOG_FOLDER", folder)
        .output()
        .unwrap()
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_ends_its_process_becomes_a_dead_letter_after_its_budget_and_no_other_wave_does() {
    poisoned(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_sealed_log_a_wave_that_ends_its_process_is_known_as_well() {
    poisoned(true).await;
}

async fn poisoned(is_sealed: bool) {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open_of(folder.path(), is_sealed);
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        for number in 0..OTHERS {
            shop.emit(wave(number, 0.5)).await.unwrap();
            if number == OTHERS / 2 {
                let poison = Wave::builder("orders.created").amplitude(0.5).text("poison");
                shop.emit(poison.build().unwrap()).await.unwrap();
            }
        }
    }
    for attempt in 1..=ATTEMPTS {
        assert!(!run(folder.path()).success(), "attempt {attempt} ends the process");
    }
    assert!(run(folder.path()).success(), "the budget is spent");
    let log = open_of(folder.path(), is_sealed);
    let numbers = log.dead().numbers();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    let letter = log.dead().show(numbers[0]).unwrap();
    assert_eq!((letter.stored.wave.text().unwrap(), letter.attempts), ("poison", ATTEMPTS));
    assert!(letter.failed.iter().all(|attempt| attempt.error.contains("the process ended")), "{letter:?}");
    let ledger = billing(&log).ledger();
    assert!(ledger.adds_up() && ledger.acknowledged == OTHERS && ledger.dead == 1, "{ledger:?}");
}
