//! A shop that emits orders for later into a log in a folder. Each one that it knows to be stored comes once and never too
//! early, whatever happens to the process, its disk and its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{AetherBuilder, Durability, Emitter, Wave};
use aether_log::{Log, LogItem, Schedule};
use aether_service::CancellationToken;
use aether_testing::sim::{RandomFaults, Sim, explore};
use futures_util::future::join_all;
use tokio::time::sleep;
use tower::BoxError;

use crate::reopening::reopened;
use crate::traffic::{Disk, SECOND, burst, pause};

const FAULTS_WITHIN: Duration = Duration::from_secs(30);
/// The number of a wave that is due every second.
const TICK: u64 = 0;

#[derive(Default)]
struct Books {
    log: Option<Log>,
    emitted: u64,
    is_over: bool,
    /// The orders whose emitters know that they are stored.
    stored: BTreeSet<u64>,
}

type Shelf = Disk<Books>;

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
            let after = Duration::from_millis(fastrand::u64(..4000));
            // Large at times, so that the file of the timers is cleared.
            let filling = "x".repeat(if fastrand::u8(..20) == 0 { 100_000 } else { 0 });
            let wave = Wave::builder("orders.created").json((order, filling));
            let receipt = emitter.emit(wave.after(after)).await;
            if let Ok(receipt) = receipt {
                assert_eq!(receipt.stored.unwrap().durability, Durability::Synced);
                books.lock().stored.insert(order);
            }
        }))
        .await;
        sleep(pause(SECOND / 5)).await;
    }
}

/// One opening of the log. It ends when the log takes nothing more.
async fn work(folder: &Path, books: &Shelf) -> Result<(), BoxError> {
    close(books);
    let log = Log::builder(folder.join("log")).channels("orders.>", Durability::Synced)?.open()?;
    books.lock().log = Some(log.clone());
    let bus = log.connect(AetherBuilder::new().url("local:")).await?;
    let tick = Wave::builder("orders.created").json((TICK, "")).build()?;
    // Put again at each start, as a service does.
    log.schedules().put("tick", Schedule::every(SECOND), tick).await?;
    let emitter = bus.emitter("shop")?;
    tokio::select! {
        biased;
        () = async { sell(&emitter, books).await; std::future::pending().await } => {}
        () = async {
            while !matches!(log.ready(), Err(aether_log::store::AppendError::Failed { .. })) {
                sleep(SECOND).await;
            }
        } => {}
    }
    Ok(())
}

async fn run(shutdown: CancellationToken, folder: PathBuf, books: Shelf) -> Result<(), BoxError> {
    let ended = reopened(&shutdown, || {
        let (folder, books) = (folder.clone(), Arc::clone(&books));
        async move { work(&folder, &books).await }
    });
    let ended = ended.await;
    close(&books);
    ended
}

/// Drops the log of the last opening.
fn close(books: &Shelf) {
    let held = books.lock().log.take();
    drop(held);
}

fn system(sim: &mut Sim) -> Shelf {
    let (books, folder) = (Shelf::default(), sim.disk("shop"));
    let of_shop = Arc::clone(&books);
    sim.process("shop", move |_, shutdown| run(shutdown, folder.clone(), Arc::clone(&of_shop)));
    books
}

fn order(wave: &Wave) -> u64 {
    wave.json::<(u64, String)>().unwrap().0
}

/// How often each order is in the log.
fn fired(log: &Log) -> BTreeMap<u64, u64> {
    let (mut reader, mut times) = (log.read_from(0), BTreeMap::new());
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { continue };
        let order = order(&stored.wave);
        assert!(stored.at >= stored.wave.due().unwrap(), "order {order} came too early");
        *times.entry(order).or_default() += 1;
    }
    times
}

/// Ends the faults, and waits for everything that is stored.
fn settle(sim: &mut Sim, books: &Shelf) {
    sim.heal();
    sim.wake("shop");
    sim.restart("shop");
    sim.run_for(5 * SECOND);
    books.lock().is_over = true;
    let (done, mut next, mut missing) = (Arc::clone(books), 0, None);
    // Waves that were emitted while the clock was ahead are due when it has come there again.
    sim.eventually(7200 * SECOND, "all orders that are stored have come", move |_| {
        let books = done.lock();
        let Some(log) = &books.log else { return false };
        // Only what is new, because it is asked again after each step.
        let missing = missing.get_or_insert_with(|| books.stored.clone());
        let mut reader = log.read_from(next);
        while next <= log.extent().last
            && let Some(item) = reader.next_item().unwrap()
        {
            if let LogItem::Wave(stored) = item {
                missing.remove(&order(&stored.wave));
                next = stored.position + 1;
            }
        }
        missing.is_empty()
    });
    let log = books.lock().log.clone().unwrap();
    let mut fired = fired(&log);
    drop(log);
    sim.finish();
    let ticks = fired.remove(&TICK).unwrap_or_default();
    let books = books.lock();
    assert!(ticks > 5 && books.stored.len() > 50, "{ticks} ticks, {} orders", books.stored.len());
    for (order, times) in fired {
        assert_eq!(times, 1, "order {order}");
    }
}

fn with_kills(sim: &mut Sim) {
    let books = system(sim);
    let faults = RandomFaults::new(12).power_cuts(0).kills(3);
    sim.random_faults(FAULTS_WITHIN, &faults.clock_jumps(1));
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &books);
}

fn with_power_cuts(sim: &mut Sim) {
    let books = system(sim);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(12).power_cuts(6));
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &books);
}

/// The disk is full at times, and does not sync for a while.
fn with_a_bad_disk(sim: &mut Sim) {
    let books = system(sim);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(8).power_cuts(2).full_disks(4));
    let mut random = fastrand::Rng::with_seed(sim.seed());
    let begin = Duration::from_millis(random.u64(2000..20_000));
    sim.at(begin, |sim| sim.fail_syncs("shop", true));
    sim.at(begin + Duration::from_millis(random.u64(500..5000)), |sim| sim.fail_syncs("shop", false));
    sim.run_for(FAULTS_WITHIN);
    sim.free_disk("shop");
    settle(sim, &books);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 3] = [with_kills, with_power_cuts, with_a_bad_disk];

#[test]
fn kills_lose_no_wave_for_later_and_none_comes_twice() {
    explore(0..4, with_kills);
}

#[test]
fn power_cuts_lose_no_wave_for_later_and_none_comes_twice() {
    explore(0..4, with_power_cuts);
}

#[test]
fn a_disk_that_is_full_or_does_not_sync_loses_no_wave_for_later() {
    explore(0..4, with_a_bad_disk);
}
