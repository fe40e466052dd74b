//! A service that is killed with `kill -9` at random moments, at full rate.
//!
//! It makes orders, each with a wave in the same transaction, relays them to a log, and bills what it consumes from the log,
//! once. After all kills every order must be in the log once and in order, and billed once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aether_outbox::{Backend, Relay, Store};

use crate::stage::{bill, billed, billing, connect, logged, make_order_of, open, open_log_of, within};

/// What is run.
#[derive(Clone, Copy)]
struct Case {
    kind: &'static str,
    /// The size of each wave, and of the segments of the log, in bytes.
    bytes: usize,
    segment_bytes: u64,
    /// How many orders are made before the first kill, at most.
    orders: u64,
}

impl Case {
    const fn small(kind: &'static str) -> Self {
        Self { kind, bytes: 1, segment_bytes: 64 << 20, orders: 100 }
    }
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

async fn make_and_bill<B: Backend>(folder: &Path, store: Store<B>) {
    let told = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let bytes = usize::try_from(told("AETHER_OUTBOX_BYTES")).unwrap();
    let log = open_log_of(folder, told("AETHER_OUTBOX_SEGMENT_BYTES"));
    let aether = connect(&log).await;
    let relay = Relay::spawn(&store, &aether).unwrap();
    say(format_args!("open"));
    let making = store.clone();
    std::thread::spawn(move || {
        loop {
            let made = make_order_of(&making, bytes);
            say(format_args!("made {made}"));
        }
    });
    let consumer = billing(&log);
    loop {
        let delivery = consumer.receive().await.unwrap();
        let number = crate::stage::number(delivery.wave());
        let is_new = bill(&store, delivery.wave()).await;
        say(format_args!("billed {number} {is_new}"));
        delivery.ack().await.unwrap();
        assert_eq!(relay.account().last_error, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn makes_and_bills_until_it_is_killed() {
    let folder = std::env::var_os("AETHER_OUTBOX_FOLDER").unwrap();
    match &*std::env::var("AETHER_OUTBOX_KIND").unwrap() {
        #[cfg(feature = "sqlite")]
        "sqlite" => make_and_bill(folder.as_ref(), crate::stage::open_sqlite(folder.as_ref())).await,
        _ => make_and_bill(folder.as_ref(), open(folder.as_ref())).await,
    }
}

/// The output of the service.
#[derive(Debug, Default)]
struct Said {
    made: u64,
    billed: u64,
    repeated: u64,
}

/// Runs the service and kills it after a while.
fn run_and_kill(folder: &Path, case: Case, said: &mut Said) {
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing::makes_and_bills_until_it_is_killed", "--ignored", "--nocapture"])
        .env("AETHER_OUTBOX_FOLDER", folder)
        .env("AETHER_OUTBOX_KIND", case.kind)
        .env("AETHER_OUTBOX_BYTES", case.bytes.to_string())
        .env("AETHER_OUTBOX_SEGMENT_BYTES", case.segment_bytes.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "the store was not opened");
    // A moment at random, counted in orders, so that a slow machine has as many of them.
    let mut orders = 1 + fastrand::u64(..case.orders);
    for line in lines {
        let line = line.unwrap();
        match line.split(' ').collect::<Vec<_>>()[..] {
            // The last line may be cut off in the middle of a number, which is then smaller.
            ["made", number] => {
                said.made = said.made.max(number.parse().unwrap_or_default());
                orders = orders.saturating_sub(1);
                if orders == 0 {
                    // At a random moment soon after. The lines that it had printed by then are still read.
                    std::thread::sleep(Duration::from_micros(fastrand::u64(..5000)));
                    service.kill().unwrap();
                }
            }
            ["billed", _, "true"] => said.billed += 1,
            ["billed", _, "false"] => said.repeated += 1,
            _ => {}
        }
    }
    let ended = service.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&ended),
        Some(9),
        "the service failed by itself"
    );
}

async fn kill_in_a_loop<B: Backend>(rounds: u64, case: Case, open: impl Fn(&Path) -> Store<B>) {
    let folder = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    (0..rounds).for_each(|_| run_and_kill(folder.path(), case, &mut said));

    let (store, log) = (open(folder.path()), open_log_of(folder.path(), case.segment_bytes));
    let kind = case.kind;
    let aether = connect(&log).await;
    let waited = store.ledger().waiting;
    let relay = Relay::spawn(&store, &aether).unwrap();
    let account = relay.close(Duration::from_secs(180)).await;
    let made = account.ledger.committed;
    assert_eq!((account.ledger.relayed, account.ledger.waiting, account.last_error), (made, 0, None));
    assert!(made >= said.made && said.made > 0, "{made} of {said:?}");
    assert_eq!(store.begin().unwrap().table::<u64>("made").get("last").unwrap(), Some(made));
    assert_eq!(logged(&log), (1..=made).collect::<Vec<_>>(), "each in the log once, in order");
    let consumer = billing(&log);
    let before = billed(&store);
    while consumer.ledger().acknowledged < made {
        assert_eq!(consumer.ledger().dead, 0, "{:?}", consumer.ledger());
        let delivery = within(consumer.receive()).await.unwrap();
        bill(&store, delivery.wave()).await;
        delivery.ack().await.unwrap();
    }
    let sum = made * (made + 1) / 2;
    assert_eq!(billed(&store), (made, sum), "each billed once");
    println!("{rounds} kills, {kind}: {made} orders, {waited} waited, {before:?} billed before, {said:?}");
}

/// Ten, or the number in the environment.
fn rounds() -> u64 {
    std::env::var("AETHER_OUTBOX_KILLS").map_or(10, |rounds| rounds.parse().expect("a number of kills"))
}

#[tokio::test(flavor = "multi_thread")]
async fn in_redb_every_order_is_relayed_and_billed_exactly_once_after_kill_9() {
    kill_in_a_loop(rounds(), Case::small("redb"), open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_is_in_the_log_once_and_in_order_also_where_segments_are_small() {
    let case = Case { segment_bytes: 64 << 10, bytes: 1000, ..Case::small("redb") };
    kill_in_a_loop(rounds(), case, open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_is_in_the_log_once_and_in_order_also_where_waves_are_large() {
    let case = Case { segment_bytes: 4 << 20, bytes: 1_000_000, orders: 20, ..Case::small("redb") };
    kill_in_a_loop(rounds().div_ceil(2), case, open).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite_every_order_is_relayed_and_billed_exactly_once_after_kill_9() {
    kill_in_a_loop(rounds(), Case::small("sqlite"), crate::stage::open_sqlite).await;
}
