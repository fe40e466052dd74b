//! A service over JetStream that is killed with `kill -9` at random moments, at full rate.
//!
//! It emits from eight tasks, and handles its own waves. It prints a line after each receipt, and one after each
//! acknowledgement. The printed lines must be true in every later process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::Durability;
use aether_log::JetStreamLog;

use crate::durable::stage::{options, order, position, quick, receive, text};
use crate::killed::say;

const TASKS: u64 = 8;
const ROUNDS: u64 = 5;

pub(crate) async fn open(url: &str) -> JetStreamLog {
    let log = JetStreamLog::builder(url, "shop").options(options().ack_wait(Duration::from_secs(1)));
    log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_and_handles_until_it_is_killed() {
    let url = std::env::var("AETHER_LOG_SERVER").unwrap();
    let round = std::env::var("AETHER_LOG_ROUND").unwrap();
    let log = open(&url).await;
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    consumer.ready().await.unwrap();
    say(format_args!("open"));
    for task in 0..TASKS {
        let (shop, round) = (aether.emitter("shop").unwrap(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}.{task}.{number}.");
                let receipt = shop.emit(order(name.clone(), 0.5)).await.unwrap();
                say(format_args!("stored {} {name}", position(&receipt)));
            }
        });
    }
    loop {
        let delivery = receive(&consumer).await;
        let name = text(&delivery);
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
fn run_and_kill(url: &str, round: u64, said: &mut Said) {
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "durable::killing::emits_and_handles_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("AETHER_LOG_SERVER", url)
        .env("AETHER_LOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "round {round}: the log was not opened");
    // A moment at random, counted in receipts, so that a slow machine has as many of them.
    let mut receipts = TASKS + 1 + fastrand::u64(..300);
    for line in lines {
        let line = line.unwrap();
        // The last line may be cut off; a whole name ends with a dot.
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let is_whole = line.split('.').count() == 4 && line.ends_with('.');
        match words[..] {
            ["stored", position, name] if is_whole => {
                said.stored.insert(name.to_owned(), position.parse().unwrap());
                receipts = receipts.saturating_sub(1);
                if receipts == 0 {
                    // At a random moment soon after. The lines that it had printed by then are still read.
                    std::thread::sleep(Duration::from_micros(fastrand::u64(..5000)));
                    service.kill().unwrap();
                }
            }
            ["seen", name] if is_whole => assert!(
                !said.acknowledged.contains(name),
                "round {round}: {name} came again after it was acknowledged"
            ),
            ["acknowledged", name] if is_whole => {
                said.acknowledged.insert(name.to_owned());
            }
            _ => {}
        }
    }
    service.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_or_comes_twice_after_kill_9() {
    let streams = tempfile::tempdir().unwrap();
    let server = ServerOptions::default().jetstream(streams.path());
    let server = NatsServer::start_with(server).await.unwrap();
    let mut said = Said::default();
    for round in 0..ROUNDS {
        run_and_kill(&server.url(), round, &mut said);
    }
    let log = open(&server.url()).await;
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let end = position(&aether.emitter("shop").unwrap().emit(order("end.0.", 0.5)).await.unwrap());
    let audit = log.consumer("audit", "orders.>", quick()).unwrap();
    let (mut kept, mut next) = (BTreeMap::new(), BTreeMap::<String, u64>::new());
    loop {
        let delivery = receive(&audit).await;
        let (name, position) = (text(&delivery), delivery.position());
        delivery.ack().await.unwrap();
        let (task, number) = name.trim_end_matches('.').rsplit_once('.').unwrap();
        let expected = next.entry(task.to_owned()).or_default();
        assert_eq!(number.parse::<u64>().unwrap(), *expected, "the waves of {task} are in order, none twice");
        *expected += 1;
        assert!(kept.insert(name, position).is_none());
        if position == end {
            break;
        }
    }
    for (name, position) in &said.stored {
        assert_eq!(kept.get(name), Some(position), "{name} was said to be stored");
    }
    println!("{ROUNDS} rounds: {} receipts, {} waves in the stream", said.stored.len(), kept.len());
    assert!(said.stored.len() as u64 > ROUNDS * TASKS);
    // The waves that were not acknowledged come now, and nothing else.
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let mut rest = BTreeSet::new();
    loop {
        let account = consumer.account().await.unwrap();
        let left = account.waiting + account.in_flight;
        if left == 0 {
            assert_eq!(account.acknowledged, kept.len() as u64, "{account:?}");
            break;
        }
        // Half of them: the server may still hear of acknowledgements of the last process.
        for _ in 0..left.div_ceil(2) {
            let delivery = receive(&consumer).await;
            let name = text(&delivery);
            assert!(!said.acknowledged.contains(&name), "{name} came again after it was acknowledged");
            assert!(rest.insert(name), "came twice");
            delivery.ack().await.unwrap();
        }
    }
    // At most one acknowledgement for each round was not printed.
    let handled = rest.len() + said.acknowledged.len();
    assert!(handled as u64 + ROUNDS >= kept.len() as u64, "{handled} of {}", kept.len());
}
