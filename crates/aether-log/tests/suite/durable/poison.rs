//! A wave whose handler ends the process, again and again, over JetStream.

use std::num::NonZeroU32;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::Durability;
use aether_log::{Consumer, JetStreamLog};
use futures_util::StreamExt as _;

use crate::durable::stage::{options, order, quick, receive, text};

const ATTEMPTS: u32 = 2;
/// The first attempt is not noted, and the second one is beside others, so none of them counts.
const ENDS: u32 = ATTEMPTS + 2;
const OTHERS: u64 = 20;

async fn open(url: &str) -> JetStreamLog {
    let log = JetStreamLog::builder(url, "shop").options(options().ack_wait(Duration::from_secs(1)));
    log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap()
}

fn billing(log: &JetStreamLog) -> Consumer {
    let options = quick().max_attempts(NonZeroU32::new(ATTEMPTS).unwrap());
    log.consumer("billing", "orders.>", options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that a wave ends"]
async fn handles_until_all_is_settled() {
    let log = open(&std::env::var("AETHER_LOG_SERVER").unwrap()).await;
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
                    let is_last = text(&delivery) == "last";
                    delivery.ack().await.unwrap();
                    if is_last {
                        std::process::exit(0);
                    }
                }
            })
        })
        .collect::<Vec<_>>();
    // None returns: they end the process.
    futures_util::future::join_all(workers).await;
}

fn run(url: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durable::poison::handles_until_all_is_settled", "--ignored", "--nocapture"])
        .env("AETHER_LOG_SERVER", url)
        .output()
        .unwrap()
        .status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_that_ends_its_process_becomes_a_dead_letter_and_no_other_wave_does() {
    let streams = tempfile::tempdir().unwrap();
    let server = ServerOptions::default().jetstream(streams.path());
    let server = NatsServer::start_with(server).await.unwrap();
    let log = open(&server.url()).await;
    let shop = log.connect(aether::builder().url("local:")).await.unwrap().emitter("shop").unwrap();
    for number in 0..OTHERS {
        shop.emit(order(number.to_string(), 0.9)).await.unwrap();
        if number == OTHERS / 2 {
            shop.emit(order("poison", 0.9)).await.unwrap();
        }
    }
    for end in 1..=ENDS {
        assert!(!run(&server.url()).success(), "the process ends, {end}");
    }
    // Told when the letter is written.
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut letters = client.subscribe("aether-log-dead.shop.billing.*").await.unwrap();
    client.flush().await.unwrap();
    let waiting = tokio::task::spawn_blocking({
        let url = server.url();
        move || run(&url)
    });
    tokio::time::timeout(Duration::from_secs(180), letters.next()).await.expect("a letter").unwrap();
    shop.emit(order("last", 0.1)).await.unwrap();
    assert!(waiting.await.unwrap().success(), "the budget is spent");
    let numbers = log.dead().numbers().await.unwrap();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    let letter = log.dead().show(numbers[0]).await.unwrap();
    assert_eq!((letter.stored.wave.text().unwrap(), letter.attempts), ("poison", ATTEMPTS));
    assert!(letter.failed.iter().all(|attempt| attempt.error.contains("the process ended")), "{letter:?}");
    let account = billing(&log).account().await.unwrap();
    // The other waves in flight when the process ended are delivered again.
    assert_eq!((account.dead, account.acknowledged + account.waiting), (1, OTHERS + 1), "{account:?}");
}
