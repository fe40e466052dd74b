//! A shop with an outbox: each order starts a saga and emits a wave in one transaction. A relay emits the waves into a
//! log, a consumer takes them to the billing, and the sagas reserve and pay there over the network. Shop and billing keep
//! everything on disks.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, AetherBuilder, Durability, Emitter, Source, Wave, WaveId};
use aether_log::{Consumer, ConsumerOptions, Log};
use aether_outbox::{Redb, Relay, Run, SagaError, Sagas, Step, StepError, Store, StoreError, Transaction};
use aether_service::{CancellationToken, Json, Service};
use aether_testing::sim::{RandomFaults, Sim, explore};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tower::BoxError;

use crate::reopening::reopened;
use crate::traffic::{Disk, SECOND, burst, pause};

const FAULTS_WITHIN: Duration = Duration::from_secs(30);
/// The tables: how often something was done, by its name and the order.
const DONE: &str = "done";

#[derive(Default)]
struct Books {
    store: Option<Store>,
    sagas: Option<Sagas<u64>>,
    consumer: Option<Consumer>,
    started: u64,
    is_over: bool,
    /// The orders whose transaction was committed.
    committed: BTreeSet<u64>,
    /// The orders for which the shop knows that the billing has reserved, or was paid.
    reserved: BTreeSet<u64>,
    paid: BTreeSet<u64>,
}

type Shelf = Disk<Books>;

/// A wave of the outbox, on its way to the billing.
#[derive(Serialize, Deserialize)]
struct Arriving {
    instance: u64,
    sequence: u64,
    what: String,
}

fn is_refused(order: u64) -> bool {
    order % 7 == 3
}

/// Counts a deed.
fn count(change: &Transaction<'_, Redb>, what: &str) -> Result<(), StoreError> {
    let done = change.table::<u64>(DONE);
    done.insert(what, &(done.get(what)?.unwrap_or(0) + 1))
}

fn times(store: &Store, what: &str) -> u64 {
    let change = store.begin().unwrap();
    change.table::<u64>(DONE).get(what).unwrap().unwrap_or(0)
}

/// Asks the billing.
async fn ask(shop: &Emitter, channel: &str, order: u64) -> Result<(), StepError> {
    let answer = shop.ask_within(Wave::new(channel, order)?, 2 * SECOND).await?;
    if answer.json::<bool>()? { Ok(()) } else { Err(StepError::refused("the account is empty")) }
}

/// A step that the billing makes, counted in the transaction that ends it.
fn step(name: &'static str, undo: &'static str, shop: &Emitter, books: &Shelf) -> Step<u64> {
    let acting = |name: &'static str| {
        let (shop, books) = (shop.clone(), Arc::clone(books));
        move |mut run: Run<u64>| {
            let (shop, books) = (shop.clone(), Arc::clone(&books));
            async move {
                let order = run.state;
                ask(&shop, &format!("billing.{name}"), order).await?;
                match name {
                    "reserve" => drop(books.lock().reserved.insert(order)),
                    "pay" => drop(books.lock().paid.insert(order)),
                    _ => {}
                }
                run.change(move |change| count(change, &format!("{name} {order}")));
                if name != "reserve" {
                    run.emit(Wave::builder(format!("orders.{name}")).json(order).build()?);
                }
                Ok(run)
            }
        }
    };
    let attempts = |count| NonZeroU32::new(count).unwrap();
    Step::new(name, acting(name))
        .undo(acting(undo))
        .attempts(attempts(3), attempts(1000))
        .pauses(SECOND / 10, SECOND)
}

/// Commits orders, each with its saga and its wave.
async fn sell(store: &Store, sagas: &Sagas<u64>, books: &Shelf) {
    while !books.lock().is_over {
        for _ in 0..burst(8) {
            let order = {
                let mut books = books.lock();
                books.started += 1;
                books.started
            };
            let sagas = sagas.clone();
            let written = store.write(move |change| {
                change.emit(Wave::builder("orders.created").json(order))?;
                assert!(sagas.start(change, &order.to_string(), &order)?);
                Ok::<_, SagaError>(())
            });
            if written.await.is_ok() {
                books.lock().committed.insert(order);
            }
        }
        sleep(pause(SECOND / 3)).await;
    }
}

/// Takes what the relay has emitted to the billing.
async fn forward(consumer: &Consumer, shop: &Emitter) -> Result<(), BoxError> {
    loop {
        let delivery = consumer.receive().await?;
        let (id, order) = (delivery.wave().id(), delivery.wave().json::<u64>()?);
        let what = format!("{} {order}", delivery.wave().channel().as_str());
        let arriving = Arriving { instance: id.source.instance(), sequence: id.sequence, what };
        match shop.ask_within(Wave::builder("billing.note").json(&arriving).build()?, 2 * SECOND).await {
            Ok(_) => delivery.ack().await?,
            Err(error) => delivery.nack(&error.to_string()),
        }
    }
}

fn close(books: &Shelf) {
    let held = {
        let mut books = books.lock();
        (books.store.take(), books.sagas.take(), books.consumer.take())
    };
    drop(held);
}

async fn shop(aether: Aether, folder: PathBuf, books: Shelf) -> Result<(), BoxError> {
    close(&books);
    let log = Log::builder(folder.join("log")).channels("orders.>", Durability::Synced)?.open()?;
    let store = Store::builder("shop").open(folder.join("shop.redb"))?;
    // No order is given up.
    let options = ConsumerOptions::default().max_attempts(NonZeroU32::MAX).pauses(SECOND / 10, SECOND);
    let consumer = log.consumer("billing", "orders.>", options)?;
    let bus = log.connect(AetherBuilder::new().url("local:")).await?;
    let asking = aether.emitter("shop")?;
    let sagas = Sagas::builder("orders")
        .step(step("reserve", "release", &asking, &books))
        .step(step("pay", "refund", &asking, &books))
        .open(&store, &log)?;
    {
        let mut books = books.lock();
        books.store = Some(store.clone());
        (books.sagas, books.consumer) = (Some(sagas.clone()), Some(consumer.clone()));
    }
    let (_relay, _runner) = (Relay::spawn(&store, &bus)?, sagas.spawn()?);
    tokio::select! {
        biased;
        ended = forward(&consumer, &asking) => ended,
        () = async { sell(&store, &sagas, &books).await; std::future::pending().await } => Ok(()),
        () = async { while is_usable(&log) { sleep(SECOND).await } } => Ok(()),
    }
}

fn is_usable(log: &Log) -> bool {
    !matches!(log.ready(), Err(aether_log::store::AppendError::Failed { .. }))
}

/// Does something at the billing once, whatever is asked how often.
async fn once(store: Store, what: String) -> Result<Json<bool>, StoreError> {
    let done = store.write(move |change| {
        if change.table::<u64>(DONE).get(&what)?.is_none() {
            count(change, &what)?;
        }
        Ok::<_, StoreError>(())
    });
    done.await.map(|()| Json(true))
}

async fn billing(aether: Aether, folder: PathBuf) -> Result<(), BoxError> {
    let store = Store::builder("billing").open(folder.join("billing.redb"))?;
    let [reserve, pay, release, refund, note] = [(); 5].map(|()| store.clone());
    let service = Service::builder("billing")
        .on_query("billing.reserve", move |Json(order): Json<u64>| {
            once(reserve.clone(), format!("reserve {order}"))
        })
        .on_query("billing.pay", move |Json(order): Json<u64>| {
            let store = pay.clone();
            async move {
                if is_refused(order) { Ok(Json(false)) } else { once(store, format!("pay {order}")).await }
            }
        })
        .on_query("billing.release", move |Json(order): Json<u64>| {
            once(release.clone(), format!("release {order}"))
        })
        .on_query("billing.refund", move |Json(order): Json<u64>| {
            once(refund.clone(), format!("refund {order}"))
        })
        .on_query("billing.note", move |Json(arriving): Json<Arriving>| {
            let store = note.clone();
            async move {
                let source = Source::with_instance("shop", arriving.instance).unwrap();
                let id = WaveId { source, sequence: arriving.sequence };
                let noted = store.write(move |change| {
                    if change.once(&id)? { count(change, &arriving.what) } else { Ok::<_, StoreError>(()) }
                });
                noted.await.map(|()| Json(true))
            }
        });
    service.build(&aether).await?.run_until(CancellationToken::new()).await?;
    Ok(())
}

fn system(sim: &mut Sim) -> (Shelf, [PathBuf; 2]) {
    let books = Shelf::default();
    let folders = ["shop", "billing"].map(|name| sim.disk(name));
    let (of_shop, [shop_folder, billing_folder]) = (Arc::clone(&books), folders.clone());
    sim.process("shop", move |aether, shutdown: CancellationToken| {
        let (folder, books) = (shop_folder.clone(), Arc::clone(&of_shop));
        async move {
            let ended = reopened(&shutdown, || shop(aether.clone(), folder.clone(), Arc::clone(&books)));
            let ended = ended.await;
            close(&books);
            ended
        }
    });
    sim.process("billing", move |aether, shutdown: CancellationToken| {
        let folder = billing_folder.clone();
        async move { reopened(&shutdown, || billing(aether.clone(), folder.clone())).await }
    });
    (books, folders)
}

fn is_done(books: &Shelf) -> bool {
    let books = books.lock();
    let (Some(store), Some(sagas), Some(consumer)) = (&books.store, &books.sagas, &books.consumer) else {
        return false;
    };
    let (outbox, sagas, consumed) = (store.ledger(), sagas.ledger(), consumer.ledger());
    assert!(outbox.adds_up() && sagas.adds_up(), "{outbox}, {sagas}");
    assert_eq!(sagas.stuck, 0);
    outbox.waiting == 0 && sagas.running == 0 && consumed.waiting + consumed.in_flight == 0
}

/// Ends the faults, lets everything end, and compares the books with both stores.
fn settle(sim: &mut Sim, books: &Shelf, [shop, billing]: &[PathBuf; 2]) {
    sim.heal();
    for name in ["shop", "billing"] {
        sim.free_disk(name);
        sim.wake(name);
        sim.restart(name);
    }
    sim.run_for(5 * SECOND);
    books.lock().is_over = true;
    sim.run_for(SECOND);
    let done = Arc::clone(books);
    sim.eventually(600 * SECOND, "all waves have arrived, and all sagas ended", move |_| is_done(&done));
    let sagas = books.lock().sagas.as_ref().unwrap().ledger();
    sim.finish();
    let open =
        |name: &str, folder: &Path| Store::builder(name).open(folder.join(format!("{name}.redb"))).unwrap();
    let (shop, billing) = (open("shop", shop), open("billing", billing));
    let (mut completed, mut undone) = (0, 0);
    let books = books.lock();
    assert!(books.committed.len() > 20, "{} orders", books.committed.len());
    for order in 1..=books.started {
        let is_there = times(&billing, &format!("orders.created {order}"));
        if is_there == 0 {
            assert!(!books.committed.contains(&order), "order {order} was committed and has not arrived");
            continue;
        }
        assert_eq!(is_there, 1, "order {order} has arrived more than once");
        let [at_shop, at_billing] = [&shop, &billing].map(|store| {
            ["reserve", "pay", "release", "refund"].map(|step| times(store, &format!("{step} {order}")))
        });
        let ends = ["pay", "refund", "release"].map(|end| times(&billing, &format!("orders.{end} {order}")));
        let [reserved, paid, released, refunded] = at_shop;
        assert!(at_shop.iter().all(|times| *times <= 1), "order {order}: {at_shop:?}");
        // An undone step may have been made by the billing without an answer.
        assert!(
            at_billing.iter().zip(at_shop).all(|(there, here)| *there >= here),
            "{at_billing:?}, {at_shop:?}"
        );
        assert_eq!(ends, [paid, refunded, released], "order {order} has other waves than steps");
        match released {
            0 => {
                completed += 1;
                assert_eq!([reserved, paid, refunded], [1, 1, 0], "order {order}");
                assert!(!is_refused(order), "order {order} was refused and is complete");
            }
            _ => {
                undone += 1;
                assert_eq!(paid, 0, "order {order} is paid and undone");
                assert!(at_billing[1] <= at_billing[3], "order {order} has no refund");
            }
        }
    }
    assert_eq!([sagas.completed, sagas.undone], [completed, undone], "{sagas}");
}

fn with_crashes(sim: &mut Sim) {
    let (books, folders) = system(sim);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(12).kills(2).power_cuts(4));
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &books, &folders);
}

/// The disks are full at times, and do not sync for a while.
fn with_bad_disks(sim: &mut Sim) {
    let (books, folders) = system(sim);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(8).power_cuts(3).full_disks(3));
    let mut random = fastrand::Rng::with_seed(sim.seed());
    for name in ["shop", "billing"] {
        let begin = Duration::from_millis(random.u64(2000..20_000));
        sim.at(begin, move |sim| sim.fail_syncs(name, true));
        let end = begin + Duration::from_millis(random.u64(500..5000));
        sim.at(end, move |sim| sim.fail_syncs(name, false));
    }
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &books, &folders);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 2] = [with_crashes, with_bad_disks];

#[test]
fn each_committed_wave_arrives_once_and_each_saga_ends_through_crashes() {
    explore(0..4, with_crashes);
}

#[test]
fn outboxes_and_sagas_survive_disks_that_are_full_or_do_not_sync() {
    explore(0..4, with_bad_disks);
}

/// The start of a saga could not be synced, and was there all the same.
#[test]
fn a_saga_whose_start_has_failed_and_is_found_after_all_runs() {
    explore(7..8, with_bad_disks);
}
