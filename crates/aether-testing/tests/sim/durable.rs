//! A shop whose orders are durable: a folder log with a consumer that retries and gives up, an outbox file that remembers
//! what was handled, and a warehouse over the network. Nothing acknowledged is lost, whatever happens to shop and disk.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, AetherBuilder, Durability, Emitter, Wave};
use aether_log::store::StoreOptions;
use aether_log::{Consumer, ConsumerLedger, ConsumerOptions, Log, LogItem, verify};
use aether_outbox::{Store, StoreError};
use aether_service::{CancellationToken, Json, Service};
use aether_testing::sim::{RandomFaults, Sim, explore};
use futures_util::future::join_all;
use tokio::time::sleep;
use tower::BoxError;

use crate::reopening::reopened;
use crate::traffic::{Disk, SECOND, burst, pause};

const FAULTS_WITHIN: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;

#[derive(Default)]
struct Books {
    log: Option<Log>,
    consumer: Option<Consumer>,
    emitted: u64,
    is_over: bool,
    /// The orders whose emitters know that they are synced.
    synced: BTreeSet<u64>,
    /// The positions whose acknowledgement was synced.
    acknowledged: BTreeSet<u64>,
    /// For each position, how often it was delivered, and the last attempt.
    delivered: BTreeMap<u64, (u32, u32)>,
    /// The positions that are being handled.
    handling: BTreeSet<u64>,
    /// Orders that the handler has committed.
    committed: BTreeSet<u64>,
    /// An attempt may be forgotten.
    loses_power: bool,
    problems: Vec<String>,
}

type Shelf = Disk<Books>;

/// The effects by number, each with how often it happened.
const EFFECTS: &str = "effects";

fn is_poison(order: u64) -> bool {
    order % 17 == 3
}

fn open(folder: &Path) -> Result<(Log, Store), BoxError> {
    let options = StoreOptions::default().segment_bytes(16 << 10)?;
    let log = Log::builder(folder.join("log")).channels("orders.>", Durability::Synced)?;
    let log = log.options(options).open()?;
    Ok((log, Store::builder("shop").open(folder.join("shop.redb"))?))
}

/// Emits bursts of orders at once, so that some share a sync.
async fn sell(emitter: &Emitter, books: &Shelf) {
    while !books.lock().is_over {
        let orders: Vec<u64> = (0..burst(20))
            .map(|_| {
                let mut books = books.lock();
                books.emitted += 1;
                books.emitted
            })
            .collect();
        join_all(orders.into_iter().map(|order| async move {
            let wave = Wave::builder("orders.created").json(order);
            if let Ok(receipt) = emitter.emit(wave).await {
                assert_eq!(receipt.stored.unwrap().durability, Durability::Synced);
                books.lock().synced.insert(order);
            }
        }))
        .await;
        sleep(pause(SECOND / 5)).await;
    }
}

/// Handles orders until the log or its journal takes nothing more.
async fn handle(consumer: Consumer, store: Store, shop: Emitter, books: Shelf) {
    loop {
        let Ok(delivery) = consumer.receive().await else { return };
        let (position, order) = (delivery.position(), delivery.wave().json::<u64>().unwrap());
        {
            let mut guard = books.lock();
            let books = &mut *guard;
            if books.acknowledged.contains(&position) {
                books.problems.push(format!("{position} was acknowledged and comes again"));
            }
            let (times, last) = books.delivered.entry(position).or_default();
            *times += 1;
            let attempt = delivery.attempt();
            // A failure that was not noted in time is not known after a kill. An attempt that ended with the process is.
            let least = *last + u32::from(!books.handling.insert(position));
            if attempt > *last + 1 || (attempt < least && !books.loses_power) {
                books.problems.push(format!("{position}: attempt {attempt} follows attempt {last}"));
            }
            *last = attempt;
        }
        let ends = || books.lock().handling.remove(&position);
        if is_poison(order) || fastrand::u8(..10) == 0 {
            ends();
            delivery.nack("it does not fit");
            continue;
        }
        let id = delivery.wave().id();
        let written = store.write(move |change| {
            if change.once(&id)? {
                let effects = change.table::<u64>(EFFECTS);
                let times = effects.get(&order.to_string())?.unwrap_or(0);
                effects.insert(&order.to_string(), &(times + 1))?;
            }
            Ok::<_, StoreError>(())
        });
        if let Err(error) = written.await {
            ends();
            delivery.nack(&error.to_string());
            sleep(SECOND / 2).await;
            continue;
        }
        books.lock().committed.insert(order);
        let question = Wave::new("stock.take", order).unwrap();
        if let Err(error) = shop.ask_within(question, 2 * SECOND).await {
            ends();
            delivery.nack(&error.to_string());
            continue;
        }
        ends();
        match delivery.ack().await {
            Ok(()) => drop(books.lock().acknowledged.insert(position)),
            Err(_) => return,
        }
    }
}

/// One opening of log and store. It ends when the log takes nothing more.
async fn work(aether: &Aether, folder: &Path, books: &Shelf) -> Result<(), BoxError> {
    close(books);
    let (log, store) = open(folder)?;
    let options = ConsumerOptions::default()
        .acknowledgements(Durability::Synced)
        .max_attempts(NonZeroU32::new(ATTEMPTS).unwrap())
        .pauses(SECOND / 10, SECOND);
    let consumer = log.consumer("warehouse", "orders.>", options)?;
    {
        let mut books = books.lock();
        (books.log, books.consumer) = (Some(log.clone()), Some(consumer.clone()));
    }
    let bus = log.connect(AetherBuilder::new().url("local:")).await?;
    let (emitter, shop) = (bus.emitter("shop")?, aether.emitter("shop")?);
    let handling =
        join_all((0..3).map(|_| handle(consumer.clone(), store.clone(), shop.clone(), Arc::clone(books))));
    tokio::select! {
        biased;
        _ = handling => {}
        () = async { sell(&emitter, books).await; std::future::pending().await } => {}
        () = async {
            while !matches!(log.ready(), Err(aether_log::store::AppendError::Failed { .. })) {
                sleep(SECOND).await;
            }
        } => {}
    }
    Ok(())
}

async fn run(
    (aether, shutdown): (Aether, CancellationToken),
    folder: PathBuf,
    books: Shelf,
) -> Result<(), BoxError> {
    let ended = reopened(&shutdown, || {
        let (aether, folder, books) = (aether.clone(), folder.clone(), Arc::clone(&books));
        async move { work(&aether, &folder, &books).await }
    });
    let ended = ended.await;
    close(&books);
    ended
}

/// Drops the log of the last opening.
fn close(books: &Shelf) {
    let held = {
        let mut books = books.lock();
        (books.log.take(), books.consumer.take())
    };
    drop(held);
}

async fn take(Json(order): Json<u64>) -> Json<u64> {
    Json(order)
}

fn system(sim: &mut Sim) -> (Shelf, PathBuf) {
    let (books, folder) = (Shelf::default(), sim.disk("shop"));
    let (of_shop, there) = (Arc::clone(&books), folder.clone());
    sim.process("shop", move |aether, shutdown| run((aether, shutdown), there.clone(), Arc::clone(&of_shop)));
    sim.serve("warehouse", || Service::builder("warehouse").on_query("stock.take", take));
    let checked = Arc::clone(&books);
    sim.always(move |_| checked.lock().problems.pop().map_or(Ok(()), Err));
    (books, folder)
}

fn ledger(books: &Shelf) -> Option<ConsumerLedger> {
    books.lock().consumer.as_ref().map(Consumer::ledger)
}

/// Ends the faults, lets the consumer reach the end, and compares what everybody knows.
fn settle(sim: &mut Sim, books: &Shelf, folder: &Path) {
    sim.heal();
    for name in ["shop", "warehouse"] {
        sim.wake(name);
        sim.restart(name);
    }
    sim.run_for(5 * SECOND);
    books.lock().is_over = true;
    let done = Arc::clone(books);
    sim.eventually(300 * SECOND, "all orders are handled or given up", move |_| {
        let last = done.lock().log.as_ref().map(|log| log.extent().last);
        ledger(&done)
            .is_some_and(|ledger| ledger.waiting == 0 && ledger.in_flight == 0 && Some(ledger.stored) == last)
    });
    let log = books.lock().log.clone().unwrap();
    let (mut reader, mut stored) = (log.read_from(0), BTreeMap::new());
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(wave) = item else { panic!("{item:?}") };
        stored.insert(wave.position, wave.wave.json::<u64>().unwrap());
    }
    let mut dead = BTreeSet::new();
    for number in log.dead().numbers() {
        let letter = log.dead().show(number).unwrap();
        let position = letter.stored.position;
        let (times, _) = books.lock().delivered.get(&position).copied().unwrap_or_default();
        assert!(
            letter.attempts >= ATTEMPTS && times >= ATTEMPTS,
            "{position} was given up after {times} attempts"
        );
        dead.insert(letter.stored.wave.json::<u64>().unwrap());
    }
    drop((reader, log));
    sim.finish();
    let verified = verify(&folder.join("log"), drop).unwrap();
    // A power cut may leave holes in what was not synced, with whole records behind them.
    assert!(verified.damaged.is_empty() || books.lock().loses_power, "{:?}", verified.damaged);
    let effects: BTreeMap<u64, u64> = {
        let store = Store::builder("shop").open(folder.join("shop.redb")).unwrap();
        let change = store.begin().unwrap();
        let rows = change.table::<u64>(EFFECTS).from("", usize::MAX).unwrap();
        rows.into_iter().map(|(order, times)| (order.parse().unwrap(), times)).collect()
    };
    let books = books.lock();
    assert!(books.synced.len() > 50 && !dead.is_empty(), "{} orders", books.synced.len());
    let numbers: BTreeSet<u64> = stored.values().copied().collect();
    assert_eq!(numbers.len(), stored.len(), "an order is there twice");
    for order in &books.synced {
        assert!(numbers.contains(order), "order {order} was synced and is lost");
        let is_handled = effects.contains_key(order) || dead.contains(order);
        assert!(is_handled, "order {order} is neither handled nor given up");
    }
    for order in &books.committed {
        assert_eq!(effects.get(order), Some(&1), "the effect of order {order}");
    }
    for (order, times) in &effects {
        assert_eq!(*times, 1, "the effect of order {order}");
        assert!(!is_poison(*order) && numbers.contains(order), "order {order}");
    }
}

fn with_kills(sim: &mut Sim) {
    let (books, folder) = system(sim);
    let faults = RandomFaults::new(12).power_cuts(0).kills(3);
    sim.random_faults(FAULTS_WITHIN, &faults.clock_jumps(1));
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &books, &folder);
}

fn with_power_cuts(sim: &mut Sim) {
    let (books, folder) = system(sim);
    books.lock().loses_power = true;
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(12).power_cuts(6));
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &books, &folder);
}

/// The disk is full at times, and does not sync for a while.
fn with_a_bad_disk(sim: &mut Sim) {
    let (books, folder) = system(sim);
    books.lock().loses_power = true;
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(8).power_cuts(2).full_disks(4));
    let mut random = fastrand::Rng::with_seed(sim.seed());
    let begin = Duration::from_millis(random.u64(2000..20_000));
    sim.at(begin, |sim| sim.fail_syncs("shop", true));
    sim.at(begin + Duration::from_millis(random.u64(500..5000)), |sim| sim.fail_syncs("shop", false));
    sim.run_for(FAULTS_WITHIN);
    sim.free_disk("shop");
    settle(sim, &books, &folder);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 3] = [with_kills, with_power_cuts, with_a_bad_disk];

#[test]
fn kills_of_the_shop_lose_no_order_and_each_effect_happens_once() {
    explore(0..4, with_kills);
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    explore(0..4, with_power_cuts);
}

#[test]
fn a_disk_that_is_full_or_does_not_sync_loses_nothing_that_was_acknowledged() {
    explore(0..4, with_a_bad_disk);
}
